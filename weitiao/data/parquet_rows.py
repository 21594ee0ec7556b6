"""Parquet to (row number, values), or (row number, what is wrong) for a row that must not be used.

pyarrow reads; this file walks the row groups in small batches, so that a file larger than memory passes through, and turns what JSON has no
word for into text (dates, decimals) or nothing (NaN, which is how pandas writes an empty cell).
"""

import datetime
import decimal
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from weitiao.data.json_rows import forbidden
from weitiao.errors import DataError
from weitiao.language import t

BATCH_ROWS = 256
BUFFER_BYTES = 1 << 20
"""A column chunk is read in pieces of this size rather than whole: a row group may be as large as the file."""


def parquet_rows(file: str, stream: BinaryIO) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The rows in file order, counted from 1. Raises ``DataError`` for a file that is no Parquet, or is damaged."""
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        table = pyarrow.parquet.ParquetFile(stream, buffer_size=BUFFER_BYTES)
        twice = [name for name, count in Counter(table.schema_arrow.names).items() if count > 1]
        if twice:
            cause = t(f"列名 {twice[0]!r} 出现了两次", f"the column {twice[0]!r} occurs twice")
            raise DataError(file, cause, t("给每列不同的名字", "give each column its own name"))
        for batch in table.iter_batches(BATCH_ROWS):
            for row in _rows(batch):
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError, OverflowError) as error:
        cause = str(error).split("\n")[0]
        where = f"{file}:{number + 1}" if number else file
        raise DataError(
            where, t("不是完好的 Parquet", f"not sound Parquet: {cause}"), t("重新导出这个文件", "export the file again")
        ) from error


def _rows(batch: Any) -> Iterator[dict[str, Any] | str]:
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):  # text that is not UTF-8, a date out of range: only its row is lost
        rows = [_row(batch.slice(i, 1)) for i in range(batch.num_rows)]
    for row in rows:
        if isinstance(row, str):
            yield row
            continue
        values = {name: plain(value) for name, value in row.items()}
        yield forbidden(values) or values


def _row(one: Any) -> dict[str, Any] | str:
    try:
        return dict(one.to_pylist()[0])
    except (ValueError, OverflowError) as error:
        return t("有一个值读不出来", f"a value cannot be read: {error}")


def plain(value: Any) -> Any:
    """A value as JSON would have it: dates and decimals as text, NaN and infinity as nothing, the rest as it is."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, datetime.timedelta)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    return value
