"""How many records a data file has, by readers that share nothing with `weitiao.data`: csv, json, pyarrow, XML, lines."""

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
RELATIONS = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"


def sheets(path: Path) -> dict[str, int]:
    """Each visible sheet of a workbook with content → its records below the first row with content; read from the XML itself."""
    filled = {}
    with zipfile.ZipFile(path) as book:
        texts = [_said(item) for item in _xml(book, "xl/sharedStrings.xml") if item.tag == f"{MAIN}si"]
        targets = {one.get("Id"): str(one.get("Target")) for one in _xml(book, "xl/_rels/workbook.xml.rels")}
        for sheet in _xml(book, "xl/workbook.xml").iter(f"{MAIN}sheet"):
            part = targets[sheet.get(f"{RELATIONS}id")].removeprefix("/")
            rows = _xml(book, part if part.startswith("xl/") else f"xl/{part}").iter(f"{MAIN}row")
            count = sum(any(_value(cell, texts) for cell in row) for row in rows)
            if count and sheet.get("state", "visible") == "visible":
                filled[str(sheet.get("name"))] = count - 1
    return filled


def _xml(book: zipfile.ZipFile, part: str) -> ElementTree.Element:
    return ElementTree.fromstring(book.read(part)) if part in book.namelist() else ElementTree.Element("none")


def _said(item: ElementTree.Element) -> str:
    return "".join(text.text or "" for text in item.iter(f"{MAIN}t"))


def _value(cell: ElementTree.Element, texts: list[str]) -> str:
    """What stands in a cell, as text; empty where nothing does."""
    value = cell.findtext(f"{MAIN}v") or ""
    return texts[int(value)] if cell.get("t") == "s" and value else value or _said(cell)


def records(path: Path) -> int | None:
    """The number of records where it is well defined, else None: broken quotes, no list of objects, several sheets, no known encoding."""
    name, data = path.name.lower(), path.read_bytes()
    if name.endswith(".gz"):
        name, data = name.removesuffix(".gz"), gzip.decompress(data)
    kind = name.rpartition(".")[2]
    if kind == "parquet":
        return int(pyarrow.parquet.ParquetFile(io.BytesIO(data)).metadata.num_rows)
    if kind == "xlsx":
        found = list(sheets(path).values())
        return found[0] if len(found) == 1 else None
    text = _text(data)
    if text is None:
        return None
    if kind in ("csv", "tsv"):
        return _table(text, "\t,;|" if kind == "tsv" else ",\t;|")
    return _json(text) if kind == "json" else _lines(text)


def _text(data: bytes) -> str | None:
    marks = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
    for codec in [codec for mark, codec in marks if data.startswith(mark)] or ["utf-8", "gb18030"]:
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            continue
    return None


def _lines(text: str) -> int:
    return sum(bool(line.strip()) for line in io.StringIO(text, newline=None))


def _table(text: str, delimiters: str) -> int | None:
    """Records below the header, if every delimiter that splits the header counts the same."""
    counts = set()
    for delimiter in delimiters:
        try:
            rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
        except csv.Error:
            return None
        if rows and (len(rows[0]) > 1 or delimiter == delimiters[0]):
            counts.add(len(rows) - 1)
    return counts.pop() if len(counts) == 1 else None


def _json(text: str) -> int | None:
    try:
        tree = json.loads(text)
    except ValueError:
        try:
            return len([json.loads(line) for line in text.split("\n") if line.strip()])
        except ValueError:
            return None
    lists = [one for one in tree.values() if isinstance(one, list)] if isinstance(tree, dict) else [tree]
    lists = [one for one in lists if one and isinstance(one[0], dict)] or lists
    return len(lists[0]) if len(lists) == 1 and isinstance(lists[0], list) else None
