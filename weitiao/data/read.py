"""A user's file, row by row: JSON Lines, JSON, CSV, TSV, plain text, Parquet and Excel, each also as .gz.

A text file passes through twice: once to decide its encoding by decoding all of it strictly, once for its rows; only ``.json`` is held
in memory. What is wrong with one row is a :class:`BadRow` that the ledger counts; what is wrong with the file is a ``DataError``.
Nothing is guessed within a cell: CSV values stay the strings that they are ("010", "yes"), and no byte is ever replaced. Left out
on purpose: encodings beyond Unicode and GB18030 (text in a Western single-byte encoding can happen to be valid GB18030, so ``init`` shows
what was detected). One sheet of a workbook is named as ``book.xlsx#sheet``.
"""

import codecs
import difflib
import gzip
import hashlib
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from weitiao.data.csv_rows import csv_rows
from weitiao.data.json_rows import json_lines, json_list
from weitiao.data.parquet_rows import parquet_rows
from weitiao.data.xlsx_rows import xlsx_rows
from weitiao.errors import DataError
from weitiao.language import system_cause, t
from weitiao.records import Row

TEXT_FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")
FORMATS = (*TEXT_FORMATS, ".parquet", ".xlsx")
CHUNK_BYTES = 1 << 20
BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row that could not be read (in the ledger: "bad_row"). ``line`` counts like ``Row.line``; ``reason`` is for people."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file's bytes become text; ``bom_bytes`` is the length of its byte order mark (0: none)."""

    codec: str
    bom_bytes: int

    def __str__(self) -> str:
        return f"{self.codec.upper()}{t('（带 BOM）', ' with BOM') if self.bom_bytes else ''}"


# ---------------------------------------------------------------------------------------------------------------- public


def read_rows(path: Path, encoding: Encoding | None = None) -> Iterator[Row | BadRow]:
    """The rows of a file in file order. The file itself is checked at the call, its rows as they are drawn. ``encoding`` saves the pass
    that would detect it again.

    Raises ``DataError``: no such file, a folder, unreadable, empty, unknown suffix, no known encoding; while drawing: a syntax
    fault that leaves no way to go on, or, at the end, not one readable row.
    """
    check_file(path)
    return _rows(path, encoding or encoding_of(path))


def encoding_of(path: Path) -> Encoding | None:
    """The encoding of a text file; None for a format that is no text. Raises ``DataError`` as :func:`detect_encoding`."""
    return detect_encoding(path) if data_format(path) in TEXT_FORMATS else None


def file_and_sheet(path: Path) -> tuple[Path, str | None]:
    """``book.xlsx#sheet`` taken apart; a path without a sheet's name, or of a file whose name holds a #, as it is."""
    file, mark, sheet = str(path).rpartition("#")
    if mark and file.lower().endswith((".xlsx", ".xlsx.gz")) and not os.path.exists(path):
        return Path(file), sheet
    return path, None


def data_format(path: Path) -> str:
    """The suffix in :data:`FORMATS` that decides how a file is read (without ``.gz``). Raises ``DataError`` for any other."""
    path = file_and_sheet(path)[0]
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    if plain.suffix.lower() in FORMATS:
        return plain.suffix.lower()
    raise DataError(
        str(path),
        t(f"不认识的文件后缀 {plain.suffix!r}", f"unknown file suffix {plain.suffix!r}"),
        t(
            f"请用 {'、'.join(FORMATS)}（可再加 .gz）；.xls 请另存为 .xlsx",
            f"use one of {', '.join(FORMATS)} (each also as .gz); save an .xls as .xlsx",
        ),
    )


def check_file(path: Path) -> None:
    """Raise ``DataError`` unless ``path`` is a regular file; the remedy names the nearest file that exists."""
    path = file_and_sheet(path)[0]
    with _file_faults(path):
        if path.is_file():
            return
        is_folder, exists = path.is_dir(), path.exists()
        folder = path if is_folder else next((parent for parent in path.parents if parent.is_dir()), Path("."))
        names = sorted(child.name for child in folder.iterdir())
    if is_folder:
        known = [name for name in names if name.lower().removesuffix(".gz").endswith(FORMATS)]
        listed = ", ".join(known[:5]) or t("（没有可读的数据文件）", "(no data file in it)")
        cause = t("这是文件夹，不是文件", "this is a folder, not a file")
        raise DataError(str(path), cause, t(f"请指定其中的文件：{listed}", f"name a file in it: {listed}"))
    if exists:
        cause = t("这不是普通文件", "this is not a regular file")
        raise DataError(str(path), cause, t("请先存成文件", "save the data to a file first"))
    wanted = path.relative_to(folder).parts[0] if path.is_relative_to(folder) else path.name
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    if near:
        remedy = t(f"是不是 {folder / near[0]}？", f"did you mean {folder / near[0]}?")
    else:
        remedy = t(f"检查路径；文件夹 {folder.absolute()} 存在", f"check the path; the folder {folder.absolute()} does exist")
    raise DataError(str(path), t("文件不存在", "no such file"), remedy)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes as they lie on disk (a ``.gz`` is not unpacked), in hex."""
    check_file(path)
    path = file_and_sheet(path)[0]
    digest = hashlib.sha256()
    with _file_faults(path), path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def detect_encoding(path: Path) -> Encoding:
    """The encoding in which the whole file decodes strictly: that of its byte order mark, else UTF-8, else GB18030.

    Raises ``DataError`` for an empty file, and where none fits: with the line and byte offset at which the best of them gave up.
    """
    faults = []
    with _file_faults(path):
        with _bytes(path) as stream:
            head = stream.read(4)
        if not head:
            raise DataError(str(path), t("文件是空的", "the file is empty"), _give_data())
        mark = next(((bom, codec) for bom, codec in BOMS if head.startswith(bom)), None)
        candidates = [Encoding(mark[1], len(mark[0]))] if mark else [Encoding("utf-8", 0), Encoding("gb18030", 0)]
        for encoding in candidates:
            fault = _first_fault(path, encoding)
            if fault is None:
                return encoding
            faults.append((fault, encoding.codec.upper()))
    (offset, line), codec = max(faults, key=lambda fault: fault[0])
    tried = ", ".join(name for _, name in faults)
    raise DataError(
        f"{path}:{line}",
        t(
            f"字节偏移 {offset} 处的内容不是合法的 {codec}（试过 {tried}）",
            f"the bytes at offset {offset} are not valid {codec} (tried {tried})",
        ),
        t("把文件另存为 UTF-8，或修好这一行", "save the file as UTF-8, or repair that line"),
    )


def _give_data() -> str:
    return t("请给出有数据的文件", "give a file that holds data")


# ----------------------------------------------------------------------------------------------------------- bytes, text


@contextmanager
def _file_faults(path: Path) -> Iterator[None]:
    """What the operating system, gzip or a file that changed under our hands can raise, as a ``DataError``."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        cause = system_cause(error) if isinstance(error, OSError) else t("压缩文件不完整", str(error))
        remedy = t("请检查文件权限，以及文件是否完整", "check the file's permissions and that it is complete")
        raise DataError(str(path), t(f"文件读不出来：{cause}", f"cannot read the file: {cause}"), remedy) from error
    except UnicodeDecodeError as error:
        cause = t("文件在读取时被改动", "the file changed while it was read")
        raise DataError(str(path), cause, t("等它写完再试", "try again when it is no longer written")) from error


def _bytes(path: Path) -> io.BufferedIOBase:
    return gzip.GzipFile(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def _first_fault(path: Path, encoding: Encoding) -> tuple[int, int] | None:
    """(byte offset, line) of the first place that ``encoding`` cannot decode; None if there is none."""
    decoder = codecs.getincrementaldecoder(encoding.codec)("strict")
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    line, offset = 1, encoding.bom_bytes
    with _bytes(path) as stream:
        stream.read(encoding.bom_bytes)
        while True:
            chunk = stream.read(CHUNK_BYTES)
            pending_bytes = len(decoder.getstate()[0])
            try:
                line += newlines.decode(decoder.decode(chunk, final=not chunk)).count("\n")
            except UnicodeDecodeError as error:
                before = error.object[: error.start].decode(encoding.codec, "strict")
                return offset - pending_bytes + error.start, line + newlines.decode(before).count("\n")
            if not chunk:
                return None
            offset += len(chunk)


def _rows(path: Path, encoding: Encoding | None) -> Iterator[Row | BadRow]:
    file, good, first_bad = str(path), False, None
    with _file_faults(path):
        for line, values in _tables(path) if encoding is None else _texts(path, encoding):
            if isinstance(values, str):
                bad = BadRow(file, line, values)
                first_bad = first_bad or bad
                yield bad
            else:
                good = True
                yield Row(file, line, values)
    if good:
        return
    if first_bad is None:
        raise DataError(file, t("文件里没有一行数据", "the file holds no rows"), _give_data())
    raise DataError(
        f"{file}:{first_bad.line}",
        t(f"没有一行能读出来；第一处问题：{first_bad.reason}", f"not one row could be read; the first fault: {first_bad.reason}"),
        _check_form(path),
    )


def _check_form(path: Path) -> str:
    """What to do where no row of a file can be read."""
    if data_format(path) in (".csv", ".tsv", ".xlsx"):
        return t(
            "第一行要写出每一列的名字；再检查后缀、分隔符和编码",
            "the first line must name every column; check the suffix, the delimiter and the encoding too",
        )
    return t(
        "检查后缀是否与内容相符（整个文件是一个 JSON 列表时用 .json），编码是否为 UTF-8",
        "check that the suffix fits the content (.json for one JSON list) and that the encoding is UTF-8",
    )


def _texts(path: Path, encoding: Encoding) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """The records of a text file."""
    kind = data_format(path)
    newline = "" if kind in (".csv", ".tsv") else None  # within a quoted cell, line ends are content
    with _bytes(path) as raw:
        raw.read(encoding.bom_bytes)
        with io.TextIOWrapper(raw, encoding.codec, "strict", newline) as stream:  # type: ignore[type-var]  # read() is all it needs
            yield from _parsed(str(path), stream, kind)


def _tables(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """The records of a Parquet or Excel file; both are read from places all over the file, so a ``.gz`` is unpacked first."""
    file, sheet = file_and_sheet(path)
    with _bytes(file) as raw, tempfile.TemporaryFile() as unpacked:
        stream: BinaryIO = raw  # type: ignore[assignment]  # an open file is one
        if file.suffix.lower() == ".gz":
            shutil.copyfileobj(raw, unpacked, CHUNK_BYTES)
            unpacked.seek(0)
            stream = unpacked
        if not stream.read(1):
            raise DataError(str(file), t("文件是空的", "the file is empty"), _give_data())
        stream.seek(0)
        yield from xlsx_rows(str(path), stream, sheet) if data_format(file) == ".xlsx" else parquet_rows(str(path), stream)


def _parsed(file: str, stream: TextIO, kind: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """(line, the row's values or what is wrong with it) in file order."""
    if kind in (".csv", ".tsv"):
        return csv_rows(file, stream, "\t,;|" if kind == ".tsv" else ",\t;|")
    if kind == ".json":
        return json_list(file, stream.read())
    return _text_lines(stream) if kind == ".txt" else json_lines(stream)


def _text_lines(stream: TextIO) -> Iterator[tuple[int, dict[str, str] | str]]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield number, t("含有 NUL 字符", "holds a NUL character") if "\0" in line else {"text": line.removesuffix("\n")}
