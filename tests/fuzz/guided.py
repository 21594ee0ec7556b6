"""Bytes that a coverage-guided fuzzer (atheris) makes, as a data file of any format: reading raises nothing but an error for the user.

    make fuzz-guided MINUTES=10

Beside `formats.py`, which makes files that are nearly right and follows them to the token ids: this one starts from nothing and learns
from the readers' own branches.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["weitiao.data"]):
    from weitiao.data.read import FORMATS, read_rows
    from weitiao.errors import UserError
    from weitiao.language import use

FOLDER = Path(tempfile.mkdtemp())


def complete(error: UserError) -> None:
    """A refusal says where, what and what to do."""
    assert all((error.where, error.cause, error.remedy)), error


def read(data: bytes) -> None:
    """One file: the first byte chooses its format."""
    path = FOLDER / f"data{FORMATS[data[0] % len(FORMATS)]}" if data else FOLDER / "data.csv"
    path.write_bytes(data[1:])
    try:
        for row in read_rows(path):
            assert row.line >= 1
    except UserError as error:
        complete(error)


if __name__ == "__main__":
    use("en")
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
