"""Parquet and Excel: values, places, damage; folders with a file for each split."""

import datetime
import decimal
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from weitiao.data.folder import split_files
from weitiao.data.read import BadRow, file_sha256, read_rows
from weitiao.errors import DataError
from weitiao.language import use
from weitiao.records import Row


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    use("en")
    yield
    use(None)


def parquet(path: Path, columns: dict[str, list[Any]], **options: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, **options)
    return path


def workbook(path: Path, **sheets: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def values(path: Path) -> list[Any]:
    return [row.values if isinstance(row, Row) else row.reason for row in read_rows(path)]


def lines(path: Path) -> list[int]:
    return [row.line for row in read_rows(path)]


def test_parquet_values_are_what_json_would_hold(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a.parquet",
        {
            "text": ["甲", None, "nul\0"],
            "day": [datetime.datetime(2024, 1, 2, 3, 4, 5), None, None],
            "price": [decimal.Decimal("1.50"), None, None],
            "score": [float("nan"), float("inf"), 0.5],
            "turns": [[{"from": "human", "value": "a"}], [], None],
        },
    )
    assert values(path) == [
        {"text": "甲", "day": "2024-01-02T03:04:05", "price": "1.50", "score": None, "turns": [{"from": "human", "value": "a"}]},
        {"text": None, "day": None, "price": None, "score": None, "turns": []},
        "holds a NUL character",
    ]
    assert lines(path) == [1, 2, 3]


def test_parquet_of_many_row_groups_is_read_in_order(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"n": list(range(1000))}, row_group_size=64)
    assert [row["n"] for row in values(path)] == list(range(1000))
    packed = tmp_path / "b.parquet.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert values(packed) == values(path)


def test_parquet_text_that_is_not_utf8_costs_its_row_only(tmp_path: Path) -> None:
    raw = pyarrow.array([b"good", b"\xff\xfe", b"fine"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": raw}), tmp_path / "a.parquet")
    good, bad, fine = values(tmp_path / "a.parquet")
    assert (good, fine) == ({"text": "good"}, {"text": "fine"})
    assert "utf-8" in bad


@pytest.mark.parametrize("damage", [b"PAR1", b"x" * 50, None])
def test_a_damaged_parquet_file(tmp_path: Path, damage: bytes | None) -> None:
    path = parquet(tmp_path / "a.parquet", {"text": ["a" * 999] * 99})
    content = path.read_bytes()
    path.write_bytes(damage or content[: len(content) // 2] + b"PAR1")
    with pytest.raises(DataError, match="not sound Parquet"):
        list(read_rows(path))


def test_excel_values_and_places(tmp_path: Path) -> None:
    day = datetime.datetime(2024, 5, 6)
    head, beyond = ["text", "label", None, "n"], ["丙", "no", None, None, "beyond"]
    rows = [[], head, ["甲", "010", None, 1], [], ["乙", True, "x", 2.5], beyond, ["丁", day]]
    path = workbook(tmp_path / "a.xlsx", 数据=rows)
    assert values(path) == [
        {"text": "甲", "label": "010", "column_3": None, "n": 1},
        {"text": "乙", "label": True, "column_3": "x", "n": 2.5},
        "5 cells, but the header has 4",
        {"text": "丁", "label": "2024-05-06T00:00:00", "column_3": None, "n": None},
    ]
    assert lines(path) == [3, 5, 6, 7]


def test_excel_errors_in_cells_are_bad_rows(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", s=[["text"], ["#N/A"], ["good"]])
    assert values(path) == ["a cell holds the error #N/A", {"text": "good"}]


def test_which_sheet(tmp_path: Path) -> None:
    one = workbook(tmp_path / "one.xlsx", 空=[], data=[["text"], ["a"]], Sheet3=[])
    assert values(one) == [{"text": "a"}]
    two = workbook(tmp_path / "two.xlsx", train=[["text"], ["a"]], test=[["text"], ["b"]])
    with pytest.raises(DataError) as caught:
        list(read_rows(two))
    assert "2 sheets hold data: train, test" in caught.value.cause
    assert f"data.train: '{two}#train'" in caught.value.remedy
    named = Path(f"{two}#test")
    assert values(named) == [{"text": "b"}]
    assert file_sha256(named) == file_sha256(two)
    with pytest.raises(DataError, match=r"no sheet 'x'; there are: 'train', 'test'"):
        list(read_rows(Path(f"{two}#x")))


def test_a_hidden_sheet_is_only_read_by_name(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", list=[["choice"], ["x"]], data=[["text"], ["a"]])
    book = openpyxl.load_workbook(path)
    book["list"].sheet_state = "hidden"
    book.save(path)
    assert values(path) == [{"text": "a"}]
    assert values(Path(f"{path}#list")) == [{"choice": "x"}]


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"text", b""])
def test_a_damaged_workbook(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.xlsx").write_bytes(content)
    with pytest.raises(DataError, match=r"not a sound Excel workbook|the file is empty"):
        list(read_rows(tmp_path / "a.xlsx"))


def test_without_openpyxl_the_line_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workbook(tmp_path / "a.xlsx", s=[["text"], ["a"]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"pip install 'weitiao\[excel\]'"):
        list(read_rows(path))


def test_a_number_stays_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"label": 1e-4}\n{"label": 1.50}\n', encoding="utf-8")
    rows = [row for row in read_rows(tmp_path / "a.jsonl") if not isinstance(row, BadRow)]
    assert [str(row.values["label"]) for row in rows] == ["1e-4", "1.50"]
    assert json.dumps(rows[0].values) == '{"label": 0.0001}'


def names(folder: Path, *files: str) -> dict[str, list[str]]:
    for file in files:
        (folder / file).write_bytes(b"x")
    return {split: [path.name for path in paths] for split, paths in split_files(folder).items()}


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (
            ["train.jsonl", "dev.csv", "test.tsv.gz", "README.md"],
            {"train": ["train.jsonl"], "validation": ["dev.csv"], "test": ["test.tsv.gz"]},
        ),
        (["Train.JSON", "valid.json", "other.json"], {"train": ["Train.JSON"], "validation": ["valid.json"]}),
        (["训练集.xlsx", "测试集.xlsx"], {"train": ["训练集.xlsx"], "test": ["测试集.xlsx"]}),
        (
            ["train-00001-of-00002.parquet", "train-00000-of-00002.parquet", "test-00000-of-00001.parquet"],
            {"train": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"], "test": ["test-00000-of-00001.parquet"]},
        ),
    ],
)
def test_a_folder(tmp_path: Path, files: list[str], found: dict[str, list[str]]) -> None:
    assert names(tmp_path, *files) == found


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train.csv", "train.jsonl"], r"several files look like train: train\.csv, train\.jsonl"),
        (["train.csv", "val.csv", "dev.csv"], r"several files look like validation: dev\.csv, val\.csv"),
        (["a.csv", "test.csv"], r"no train file in this folder; its data files: test\.csv, a\.csv"),
        (["train-00000-of-00002.parquet"], "train has 1 of 2 shards"),
        ([], r"no train file in this folder; its data files: \(none\)"),
    ],
)
def test_a_folder_that_leaves_it_open(tmp_path: Path, files: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        names(tmp_path, *files)
