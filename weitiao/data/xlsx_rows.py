"""Excel sheets (.xlsx) to (row number in the sheet, values), or (row number, what is wrong) for a row that must not be used.

openpyxl reads, a row at a time; formulas give the value that Excel stored. Which sheet: the one named, else the only visible one with
content.
"""

import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from weitiao.data.csv_rows import header_names
from weitiao.data.json_rows import forbidden
from weitiao.data.parquet_rows import plain
from weitiao.errors import DataError
from weitiao.language import t

LARGEST_PART_BYTES = 1 << 29
"""What is not a sheet (the texts that sheets share, styles) is held in memory: a part that claims more is refused."""


def xlsx_rows(file: str, stream: BinaryIO, sheet: str | None) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The rows below the first row with content, which names the columns. Empty rows are no rows.

    Raises ``DataError``: openpyxl is not installed, no workbook, no such sheet, several sheets to choose from, an unusable header.
    """
    try:
        import openpyxl
    except ImportError:
        cause = t("读 Excel 文件需要 openpyxl", "reading Excel files needs openpyxl")
        remedy = t("pip install 'weitiao[excel]'，或另存为“CSV UTF-8”", "pip install 'weitiao[excel]', or save the sheet as “CSV UTF-8”")
        raise DataError(file, cause, remedy) from None
    try:
        _check_sizes(file, stream)
        book = openpyxl.load_workbook(stream, read_only=True, data_only=True, keep_links=False)
        yield from _sheet_rows(file, _chosen(file, book, sheet))
    except DataError:
        raise
    except Exception as error:  # a damaged workbook makes zipfile, the XML parser and openpyxl raise whatever they meet
        cause = str(error).split("\n")[0] or type(error).__name__
        raise DataError(
            file,
            t("不是完好的 Excel 工作簿", f"not a sound Excel workbook: {cause}"),
            t("用 Excel 打开后重新保存为 .xlsx", "open it in Excel and save it as .xlsx again"),
        ) from error


def _check_sizes(file: str, stream: BinaryIO) -> None:
    for part in zipfile.ZipFile(stream).infolist():
        if part.file_size > LARGEST_PART_BYTES and not part.filename.startswith("xl/worksheets/"):
            cause = t(f"{part.filename} 解开后有 {part.file_size:,} 字节", f"{part.filename} unpacks to {part.file_size:,} bytes")
            raise DataError(file, cause, t("另存为“CSV UTF-8”", "save the sheet as “CSV UTF-8”"))
    stream.seek(0)


def _chosen(file: str, book: Any, name: str | None) -> Any:
    """The sheet to read."""
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    for sheet in sheets.values():
        sheet.reset_dimensions()  # programs other than Excel write wrong ones, and rows beyond them would be lost
    listed = ", ".join(map(repr, sheets))
    path = file.rpartition("#")[0] if name is not None else file
    if name is not None:
        if name in sheets:
            return sheets[name]
        cause = t(f"没有名为 {name!r} 的工作表；有：{listed}", f"there is no sheet {name!r}; there are: {listed}")
        raise DataError(path, cause, t("改正 # 后面的名字", "correct the name behind the #"))
    filled = [title for title, sheet in sheets.items() if sheet.sheet_state == "visible" and any(map(_values, sheet.iter_rows()))]
    if len(filled) == 1:
        return sheets[filled[0]]
    if not filled:
        raise DataError(path, t("工作簿里没有数据", "the workbook holds no data"), t("请给出有数据的文件", "give a file that holds data"))
    cause = t(f"有 {len(filled)} 张工作表有数据：{', '.join(filled)}", f"{len(filled)} sheets hold data: {', '.join(filled)}")
    remedy = t(
        f"在配置里写明一张，例如 data.train: '{path}#{filled[0]}'", f"name one in the config, for example data.train: '{path}#{filled[0]}'"
    )
    raise DataError(path, cause, remedy)


def _values(row: Any) -> list[Any]:
    """The values of a row without the empty cells behind its last one."""
    values = [cell.value for cell in row]
    while values and (values[-1] is None or values[-1] == ""):
        values.pop()
    return values


def _sheet_rows(file: str, sheet: Any) -> Iterator[tuple[int, dict[str, Any] | str]]:
    names: list[str] | None = None
    for number, row in enumerate(sheet.iter_rows(), 1):
        values = _values(row)
        if not values:
            continue
        if names is None:
            names = header_names(f"{file}:{number}", ["" if value is None else str(value) for value in values])
            continue
        errors = [cell.value for cell in row if cell.data_type == "e"]
        if errors:
            yield number, t(f"单元格里是错误值 {errors[0]}", f"a cell holds the error {errors[0]}")
        elif len(values) > len(names):
            yield number, t(f"有 {len(values)} 个单元格，表头有 {len(names)} 个", f"{len(values)} cells, but the header has {len(names)}")
        else:
            filled = {name: plain(value) for name, value in zip(names, values + [None] * (len(names) - len(values)), strict=True)}
            yield number, forbidden(filled) or filled
