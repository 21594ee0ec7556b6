"""Files that no one here wrote: the data, licences and settings inside installed packages. Each is read as an independent reader reads it,
or refused with a reason."""

import csv
import importlib.util
import json
from pathlib import Path

import pyarrow.parquet
import pytest

from weitiao.data.read import BadRow, read_rows
from weitiao.errors import DataError
from weitiao.records import Row

LARGEST_BYTES, MOST_FILES = 300_000, 60


def inside(package: str, pattern: str) -> list[Path]:
    """Small files of an installed package, by size, so that the same ones are taken everywhere."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    found = sorted(Path(spec.origin).parent.glob(pattern), key=lambda path: (path.stat().st_size, path.name))
    return [path for path in found if 0 < path.stat().st_size <= LARGEST_BYTES][:MOST_FILES]


def read(path: Path) -> list[Row | BadRow] | DataError:
    """Its rows, or why there are none."""
    try:
        return list(read_rows(path))
    except DataError as error:
        return error


TABLES = [*inside("numpy", "**/tests/data/*.csv"), *inside("sklearn", "datasets/data/*.csv")]
PARQUET = inside("pyarrow", "tests/data/parquet/*.parquet")
TEXTS = [*inside("sklearn", "datasets/descr/*.rst"), *inside("numpy", "**/*.txt")]
SETTINGS = [*inside("sklearn", "datasets/tests/**/*.json.gz"), *inside("jsonschema", "**/*.json"), *inside("transformers", "**/*.json")]


def test_there_is_something_to_read() -> None:
    assert len(TABLES) >= 20
    assert len(SETTINGS) >= 20


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name)
def test_tables(path: Path) -> None:
    """Against Python's own reader: a row for each record below the header, with its fields unless their number is another one."""
    found = read(path)
    with path.open(encoding="utf-8", newline="") as file:
        header, *records = [record for record in csv.reader(file, skipinitialspace=False) if record]
    if isinstance(found, DataError):
        assert len(set(header)) < len(header) or not any(len(record) == len(header) for record in records), found
        assert all((found.where, found.cause, found.remedy))
        return
    assert len(found) == len(records)
    for row, record in zip(found, records, strict=True):
        assert isinstance(row, Row) == (len(record) == len(header)), (row, record)
        if isinstance(row, Row):
            assert [cell.strip() for cell in row.values.values()] == [cell.strip() for cell in record]


@pytest.mark.parametrize("path", PARQUET, ids=lambda path: path.name)
def test_parquet(path: Path) -> None:
    """Written by versions of 2017; against pyarrow reading the file whole."""
    found, table = read(path), pyarrow.parquet.read_table(path)
    assert not isinstance(found, DataError)
    assert len(found) == table.num_rows
    assert all(isinstance(row, Row) and list(row.values) == table.column_names for row in found)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_texts(path: Path, tmp_path: Path) -> None:
    """Licences and descriptions: a row for each line that says something."""
    copy = tmp_path / "text.txt"
    copy.write_bytes(path.read_bytes())
    found = read(copy)
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    assert not isinstance(found, DataError)
    assert [row.values["text"].strip() for row in found if isinstance(row, Row)] == [line.strip() for line in lines]


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_json_that_is_no_data(path: Path) -> None:
    """Schemas, answers of a server: rows where there is a list of objects in it, else one error; never a traceback."""
    found = read(path)
    if not isinstance(found, DataError):
        assert found
        assert all(isinstance(row, (Row, BadRow)) for row in found)
        json.dumps([dict(row.values) for row in found if isinstance(row, Row)])
