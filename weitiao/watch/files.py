"""The only way in which the page reads files: fixed names within a run folder, no links, bounded sizes."""

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

LARGEST_BYTES = 64_000_000


def open_inside(run: Path, name: str) -> BinaryIO:
    """Open ``run/name`` for reading. Raises OSError where it is missing, or where it or a folder on the way from ``run`` is a link."""
    place = run
    for part in name.split("/")[:-1]:
        place = place / part
        if place.is_symlink():
            raise OSError(f"{place} is a link")
    path = run / name
    if path.is_symlink():
        raise OSError(f"{path} is a link")
    handle = os.open(path, os.O_RDONLY | (0 if os.name == "nt" else os.O_NOFOLLOW | os.O_NONBLOCK))  # no waiting at a pipe
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path} is no file")
    return os.fdopen(handle, "rb")


def read_text(run: Path, name: str, most_bytes: int = LARGEST_BYTES, from_end: bool = False) -> str | None:
    """The text of a file (of a large one its beginning, or its end); None: it is missing or not to be read."""
    try:
        with open_inside(run, name) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - most_bytes) if from_end else 0)
            return file.read(most_bytes).decode("utf-8", errors="replace")
    except OSError:
        return None


def read_json(run: Path, name: str) -> dict[str, Any]:
    """A JSON object; empty where there is none. NaN and infinities, which are no JSON, are read as null."""
    text = read_text(run, name)
    try:
        value = json.loads(text or "{}", parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_json_lines(run: Path, name: str) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; what is none is passed over."""
    found = []
    for line in (read_text(run, name) or "").splitlines():
        try:
            value = json.loads(line, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
