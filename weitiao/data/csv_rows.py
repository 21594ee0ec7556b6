"""CSV and TSV text to (line, values), or (line, what is wrong) for a record that must not be used.

The standard library's ``csv`` splits records, in strict mode; this file adds the delimiter, true line numbers, recovery: a stray
quote costs one line instead of swallowing the rows after it.
"""

import csv
from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice

from weitiao.errors import DataError
from weitiao.language import t

MAX_CELL_CHARACTERS = 1 << 27
SNIFFED_LINES = 200


def csv_rows(file: str, lines: Iterator[str], delimiters: str) -> Iterator[tuple[int, dict[str, str] | str]]:
    """The records below the header; every value stays the string that it is.

    ``lines`` keep their ends; ``delimiters``: the candidates, the likeliest first. Raises ``DataError`` for an unusable header.
    """
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    source = _Lines(lines)
    delimiter = _delimiter(source.peek(SNIFFED_LINES), delimiters)
    names: list[str] | None = None
    for line, cells in _records(source, delimiter):
        if names is None:
            names = header_names(f"{file}:{line}", cells)
        elif isinstance(cells, str):
            yield line, cells
        elif len(cells) != len(names):
            found, wanted = len(cells), len(names)
            yield line, t(f"有 {found} 个字段，表头有 {wanted} 个", f"{found} fields, but the header has {wanted}")
        elif any("\0" in cell for cell in cells):
            yield line, t("含有 NUL 字符", "holds a NUL character")
        else:
            yield line, dict(zip(names, cells, strict=True))


class _Lines:
    """Physical lines for ``csv.reader``; of a broken record, all but the first can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self._record: list[str] = []
        self.start = 1
        """The line where the record in hand starts."""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._record.append(line)
        return line

    def peek(self, num_lines: int) -> list[str]:
        self._again.extend(islice(self._lines, num_lines))
        return list(self._again)

    def next_record(self) -> None:
        self.start += len(self._record)
        self._record = []

    def keep_first_line(self) -> str:
        self._again.extendleft(reversed(self._record[1:]))
        del self._record[1:]
        return self._record[0]


def _records(lines: _Lines, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """(line, cells) of each record that is not blank; (line, fault) where quotes do not close as they must."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.next_record()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            first = lines.keep_first_line().rstrip("\r\n")
            # Most TSV is written without quoting: there a quote at the start of a cell is a character like any other.
            fault = t("引号不成对或位置不对", f"a quote that does not close as it must: {error}")
            yield lines.start, first.split("\t") if delimiter == "\t" else fault
            continue
        if cells:
            yield lines.start, cells


def _delimiter(sample: list[str], candidates: str) -> str:
    """The candidate under which most records have as many cells as the header (two or more); the first where none has."""
    scores = dict.fromkeys(candidates, 0.0)
    for delimiter in candidates:
        widths = [0 if isinstance(cells, str) else len(cells) for _, cells in _records(_Lines(iter(sample)), delimiter)]
        if widths and widths[0] >= 2:
            scores[delimiter] = widths.count(widths[0]) / len(widths)
    return max(candidates, key=lambda delimiter: scores[delimiter])


def header_names(where: str, cells: list[str] | str) -> list[str]:
    """The column names, stripped; one without a name is called ``column_N``. Raises ``DataError`` for a name that occurs twice."""
    if isinstance(cells, str) or any("\0" in cell for cell in cells):
        cause = cells if isinstance(cells, str) else t("含有 NUL 字符", "holds a NUL character")
        cause = t(f"表头读不出来：{cause}", f"cannot read the header: {cause}")
        raise DataError(where, cause, t("修好这一行", "repair this line"))
    names = [cell.strip() or f"column_{number}" for number, cell in enumerate(cells, 1)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        cause = t(f"表头里列名 {twice[0]!r} 出现了两次", f"the header names the column {twice[0]!r} twice")
        remedy = t("第一行是表头，每列名字不同", "the first line is the header: give each column its own name")
        raise DataError(where, cause, remedy)
    return names
