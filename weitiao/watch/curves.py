"""Curves out of metrics.jsonl: read from a byte offset on, thinned to what a screen can show.

A cursor is the offset up to which a client has read, with a checksum of the line before it: the server keeps nothing per client, and sees
when the file was cut (a run that went on from a checkpoint), whereupon it starts from the beginning.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.json

from weitiao.watch.files import open_inside

Points = list[tuple[float, float]]
EXACT_BYTES = 25_000_000
"""A first reading of more, over all files asked for, takes lines spread evenly over each file instead of all."""
LONGEST_LINE_BYTES = 65_536
_GROUPS = {"step": "train", "validation": "validation"}
_TIMES = ("step", "epoch", "n")


@dataclass(frozen=True)
class Reading:
    """What a file holds behind a cursor. ``restart``: forget what was read before. ``thinned``: only some of the steps were looked at."""

    cursor: str
    restart: bool
    thinned: bool
    series: dict[str, Points]
    last: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return {
            "cursor": self.cursor, "restart": self.restart, "thinned": self.thinned, "series": self.series, "last": self.last,
        }  # fmt: skip


def read_curves(run: Path, cursor: str, most_points: int, exact: bool) -> Reading:
    """The curves of a run behind a cursor ("" for all), each of at most ``most_points`` points."""
    try:
        file = open_inside(run, "metrics.jsonl")
    except OSError:
        return Reading("", bool(cursor), False, {}, {})
    with file:
        size = file.seek(0, 2)
        offset = _offset(file, cursor, size)
        restart = bool(cursor) and offset == 0
        thinned = not exact and size - offset > EXACT_BYTES // 100
        file.seek(offset)
        data = _spread(file, offset, size, most_points) if thinned else file.read(size - offset)
        end = offset + (data.rfind(b"\n") + 1 if not thinned else size - offset)
        if end > offset and thinned:
            end = _last_line_end(file, size)
        new = _cursor(file, end) if end > offset else cursor
    data = data[: data.rfind(b"\n") + 1]
    series, last = _series(data, most_points) if data else ({}, {})
    return Reading(new, restart, thinned, series, last)


def _cursor(file: BinaryIO, end: int) -> str:
    """The cursor at the end of a line: its offset, and the checksum of the bytes before it."""
    start = max(0, end - 256)
    file.seek(start)
    return f"{end}-{zlib.crc32(file.read(end - start)):08x}"


def _offset(file: BinaryIO, cursor: str, size: int) -> int:
    """Where to go on; 0 where the file is not the one that the cursor was made in."""
    number, _, _ = cursor.partition("-")
    offset = int(number) if number.isdecimal() and len(number) < 16 else 0
    return offset if 0 < offset <= size and _cursor(file, offset) == cursor else 0


def _last_line_end(file: BinaryIO, size: int) -> int:
    start = max(0, size - LONGEST_LINE_BYTES)
    file.seek(start)
    return start + file.read(size - start).rfind(b"\n") + 1


def _spread(file: BinaryIO, start: int, size: int, lines: int) -> bytes:
    """Lines spread evenly over a file, the last one among them, and all validations."""
    file.seek(start)
    data = file.read(size - start)
    chosen = set()
    for place in np.linspace(0, max(0, len(data) - 2), lines).astype(int).tolist():
        begin = data.rfind(b"\n", 0, place) + 1
        chosen.add(begin)
    place = data.find(b'"validation"')
    while place >= 0:
        chosen.add(data.rfind(b"\n", 0, place) + 1)
        place = data.find(b'"validation"', place + 1)
    parts = []
    for begin in sorted(chosen):
        end = data.find(b"\n", begin)
        if end > begin:
            parts.append(data[begin : end + 1])
    return b"".join(parts)


def _series(data: bytes, most_points: int) -> tuple[dict[str, Points], dict[str, Any]]:
    """Each numeric column by group, over steps; and the newest value of each."""
    table = _table(data)
    series: dict[str, Points] = {}
    last: dict[str, Any] = {}
    if "type" not in table.column_names or "step" not in table.column_names:
        return series, last
    kinds = np.array(table["type"].to_pylist(), dtype=object)
    columns = {name: _numbers(table[name]) for name in table.column_names}
    steps = columns["step"]
    if steps is None:
        return series, last
    for kind, group in _GROUPS.items():
        chosen = kinds == kind
        for name, values in columns.items():
            if values is None or name in _TIMES:
                continue
            good = chosen & np.isfinite(values) & np.isfinite(steps)
            if good.any():
                x, y = steps[good], values[good]
                kept = thin(y, most_points)
                series[f"{group}/{name}"] = list(zip(x[kept].tolist(), y[kept].tolist(), strict=True))
                last[f"{group}/{name}"] = y[-1].item()
        if chosen.any() and np.isfinite(steps[chosen]).any():
            last[f"{group}/step"] = float(np.nanmax(steps[chosen]))
    return series, last


def _table(data: bytes) -> pa.Table:
    """Lines of JSON as columns; slower, line by line, where they do not agree with each other or one is no JSON."""
    try:
        options = pyarrow.json.ReadOptions(use_threads=False, block_size=max(1 << 20, min(len(data), 1 << 26)))
        return pyarrow.json.read_json(pa.BufferReader(data), read_options=options)
    except pa.ArrowException:
        rows = []
        for line in data.splitlines():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                numbers = {k: float(v) for k, v in value.items() if isinstance(v, (int, float)) and abs(v) < 1e300}
                rows.append(numbers | {"type": str(value.get("type"))})
        return pa.Table.from_pylist(rows)


def _numbers(column: pa.ChunkedArray) -> np.ndarray | None:
    """A column as floats, NaN where it is empty; None: it holds no numbers."""
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return None
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=float)


def thin(values: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most ``most`` values: the smallest and the largest of each of most/2 equal portions, so that no peak is lost."""
    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), most // 2 + 1).astype(int)
    kept = [edges[i] + int(pick(values[edges[i] : edges[i + 1]])) for i in range(most // 2) for pick in (np.argmin, np.argmax)]
    return np.unique(kept)
