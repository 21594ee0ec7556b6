"""The curves of many runs as bytes of JSON; what a page asks for first is read once for all pages, as long as the file stays as it is."""

import json
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from weitiao.watch.curves import EXACT_BYTES, read_curves

MOST_BYTES = 32_000_000
"""Of answers kept: three times what 100 runs of 600 points take. Those asked for longest ago go first."""
Stamp = tuple[int, int, int]


def encoded(content: Any) -> bytes:
    """JSON in ASCII: also a lone surrogate out of a file arrives."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Readings:
    """Reads curves. ``kept_bytes``: how much of what was read is kept at the moment."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes, self.kept_bytes, self._lock = most_bytes, 0, threading.Lock()
        self._kept: OrderedDict[tuple[Path, int, bool], tuple[Stamp, bytes]] = OrderedDict()

    def of(self, wanted: dict[str, tuple[Path, str]], most_points: int) -> bytes:
        """A JSON object: the curves by id, out of run folders by id, each with a cursor ("" for all that there is)."""
        stamps = {run: _stamp(path) for run, (path, cursor) in wanted.items() if not cursor}
        exact = sum(size for _, size, _ in stamps.values()) <= EXACT_BYTES
        parts = []
        for run, (path, cursor) in wanted.items():
            part = encoded(read_curves(path, cursor, most_points, exact).as_dict()) if cursor else None
            parts.append(encoded(run) + b":" + (part or self._first(path, most_points, exact, stamps[run])))
        return b"{" + b",".join(parts) + b"}"

    def _first(self, path: Path, most_points: int, exact: bool, stamp: Stamp) -> bytes:
        key = path, most_points, exact
        with self._lock:  # who asks for the same at the same time waits for it
            known, part = self._kept.pop(key, (None, b""))
            self.kept_bytes -= len(part)
            if known != stamp:
                part = encoded(read_curves(path, "", most_points, exact).as_dict())  # what is written meanwhile changes the file's stamp
            self._kept[key] = stamp, part
            self.kept_bytes += len(part)
            while self.kept_bytes > self._most_bytes:
                _, (_, oldest) = self._kept.popitem(last=False)
                self.kept_bytes -= len(oldest)
        return part


def _stamp(run: Path) -> Stamp:
    """What changes with the file of the curves: its number, size and time; zeros where there is none."""
    try:
        status = (run / "metrics.jsonl").lstat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns
