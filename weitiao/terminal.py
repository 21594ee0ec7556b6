"""Where the program meets its surroundings: standard streams that may be closed or unable to show Chinese."""

import io
import json
import os
import sys
from typing import Any


def prepare_streams() -> None:
    """Make standard output and error fit to be written to: closed ones (`>&-`) lead nowhere, what an encoding lacks becomes an escape."""
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115 - `>&-` closes them
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show Chinese gets escapes, not a traceback


def print_out(text: str) -> None:
    """Write to standard output. A reader that has seen enough (`| head -1`) is no error."""
    try:
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit finds a place


def json_line(value: dict[str, Any]) -> str:
    """One line of JSON that survives any encoding of standard output."""
    return json.dumps(value, ensure_ascii=(sys.stdout.encoding or "").lower().replace("-", "") != "utf8")
