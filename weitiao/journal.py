"""The log of a run: ``log.jsonl`` in its folder, what was said and what went wrong, a line each with time and level."""

from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from weitiao.masking import masked
from weitiao.storage import append_json_line

LOG = "log.jsonl"
Level = Literal["info", "warning", "error"]


class Journal:
    """Adds lines to a run's log. One that cannot be written (a full disk) does not end the run."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG

    def write(self, level: Level, text: str) -> None:
        """One line; tokens and keys in it become stars."""
        with suppress(OSError):
            at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
            append_json_line(self._path, {"at": at, "level": level, "text": masked(text)})
