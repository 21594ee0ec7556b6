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
import pyarrow.compute
import pyarrow.json

from weitiao.watch.files import open_inside

Points = list[tuple[float, float]]
Columns = dict[str, tuple[np.ndarray, np.ndarray]]
"""`group/name` → steps and values."""
FEW_BYTES = 8_192
"""Up to so much, lines are read one by one."""
EXACT_BYTES = 25_000_000
"""A first reading of more, over all files asked for, takes lines spread evenly over each file instead of all."""
LONGEST_LINE_BYTES = 65_536
_GROUPS = {"step": "train", "validation": "validation"}
_CLOCKS = ("step", "epoch", "n", "tokens", "seconds")
"""What only grows: its newest value is told, its curve would be a straight line."""


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
    table = _table(data) if len(data) > FEW_BYTES else None
    columns = _of_rows(data) if table is None else _of_table(table)
    series: dict[str, Points] = {}
    last: dict[str, Any] = {}
    for name, (x, y) in columns.items():
        group, _, column = name.partition("/")
        last[f"{group}/step"] = max(last.get(f"{group}/step", 0.0), float(x[-1]))
        if column != "step":
            last[name] = float(y[-1])
        if column not in _CLOCKS:
            kept = thin(y, most_points)
            series[name] = list(zip(x[kept].tolist(), y[kept].tolist(), strict=True))
    return series, last


def _table(data: bytes) -> pa.Table | None:
    """Lines of JSON as columns; None where they do not agree with each other, or one is no JSON."""
    try:
        options = pyarrow.json.ReadOptions(use_threads=False, block_size=max(1 << 20, min(len(data), 1 << 26)))
        table = pyarrow.json.read_json(pa.BufferReader(data), read_options=options)
    except pa.ArrowException:
        return None
    if not {"type", "step"} <= set(table.column_names) or not pa.types.is_string(table["type"].type):
        return None
    return None if _numbers(table["step"]) is None else table


def _of_table(table: pa.Table) -> Columns:
    columns = {name: _numbers(table[name]) for name in table.column_names}
    steps, found = columns["step"], {}
    assert steps is not None  # _table says so
    for kind, group in _GROUPS.items():
        chosen = pyarrow.compute.equal(table["type"], kind).fill_null(False).to_numpy() & np.isfinite(steps)
        for name, values in columns.items():
            if values is not None and (good := chosen & np.isfinite(values)).any():
                found[f"{group}/{name}"] = (steps[good], values[good])
    return found


def _of_rows(data: bytes) -> Columns:
    """The same line by line: quicker for a few, and for lines that disagree."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for text in data.splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        group = _GROUPS.get(str(line.get("type"))) if isinstance(line, dict) else None
        if group is None or (step := _finite(line.get("step"))) is None:
            continue
        for name, value in line.items():
            if (number := _finite(value)) is not None:
                x, y = found.setdefault(f"{group}/{name}", ([], []))
                x.append(step)
                y.append(number)
    return {name: (np.asarray(x), np.asarray(y)) for name, (x, y) in found.items()}


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e300 < value < 1e300:
        return None
    return float(value)


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
    portions = np.repeat(np.arange(most // 2), np.diff(edges))
    kept = []
    for extreme in (np.minimum, np.maximum):
        places = np.flatnonzero(values == extreme.reduceat(values, edges[:-1])[portions])
        kept.append(places[np.unique(portions[places], return_index=True)[1]])  # the first of equals
    return np.unique(np.concatenate(kept))
