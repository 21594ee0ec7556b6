"""A file of JSON lines that grows while it is read."""

import json
from pathlib import Path
from typing import Any


class Tail:
    """Reads from where the last reading ended. A file that was cut, as when a run goes on from a checkpoint, is read from its beginning
    again; ``restarts`` counts how often."""

    def __init__(self, path: Path, largest_reading_bytes: int = 1 << 30) -> None:
        self.path, self.restarts, self._largest = path, 0, largest_reading_bytes
        self._offset, self._last = 0, b""

    def read(self) -> list[dict[str, Any]]:
        """The objects whose lines are new and complete. Lines that are no object are passed over; a missing file has none."""
        try:
            with self.path.open("rb") as file:
                if not self._stands(file.seek(0, 2), file):
                    self.restarts += 1
                    self._offset, self._last = 0, b""
                file.seek(self._offset)
                data = file.read(self._largest)
        except FileNotFoundError:
            return []
        end = data.rfind(b"\n") + 1
        if not end:
            return []
        lines = data[:end].splitlines(keepends=True)
        self._offset, self._last = self._offset + end, lines[-1]
        return [value for value in map(_parsed, lines) if isinstance(value, dict)]

    def _stands(self, size: int, file: Any) -> bool:
        """Whether the last line that was read still stands where it stood."""
        if size < self._offset:
            return False
        file.seek(self._offset - len(self._last))
        return bool(file.read(len(self._last)) == self._last)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
