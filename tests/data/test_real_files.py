"""Files inside packages that the tests need anyway, with what their authors say of them: rows, columns, values. Each goes through the
whole path, as in `tests/real_files.py`, which fetches many more.
"""

import csv
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from independent import records
from real_files import Outcome, Reader
from sklearn.datasets import load_diabetes, load_digits, load_iris, load_linnerud

from weitiao.data.read import encoding_of, read_rows
from weitiao.errors import DataError
from weitiao.language import use
from weitiao.records import Row


def inside(package: str, name: str) -> Path:
    """A file of an installed package."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / name


def rows_of(path: Path) -> list[Row]:
    found = list(read_rows(path))
    assert all(isinstance(row, Row) for row in found)
    return [row for row in found if isinstance(row, Row)]


def data(name: str) -> Path:
    """A data set of scikit-learn."""
    return inside("sklearn", f"datasets/data/{name}")


CJK = Path(os.__file__).parent / "test" / "cjkencodings"
"""CPython's own samples of encodings, each beside the same text in UTF-8."""
UMATH = "_core/tests/data/umath-validation-set-{}.csv"
"""numpy's tables of expected values: one header, comments among the rows."""


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    use("en")
    yield
    use(None)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(tmp_path_factory.mktemp("tokenizer"))


def through(reader: Reader, path: Path, kind: str = "") -> Outcome:
    """What becomes of a file between `weitiao init` and the audit."""
    one = Outcome("installed", path.name, kind or path.suffix, expected=None if path.is_dir() else records(path))
    reader.one(one, path)
    assert not one.fault
    return one


def test_iris(reader: Reader) -> None:
    """Its first line holds the numbers of rows and columns and the names of the classes; the values are those of load_iris."""
    rows, known = rows_of(data("iris.csv")), load_iris()
    assert len(rows) == known.data.shape[0] == 150
    assert list(rows[0].values) == ["150", "4", *known.target_names]
    assert [float(row.values["150"]) for row in rows] == known.data[:, 0].tolist()
    assert [int(row.values["virginica"]) for row in rows] == known.target.tolist()
    one = through(reader, data("iris.csv"))
    assert (one.rows, one.used, one.bad_rows) == (150, 150, 0)


def test_iris_of_scipy(reader: Reader) -> None:
    """The flowers as numbers in lines of text. Two of them are not as in scikit-learn, which follows Fisher's paper (see its load_iris)."""
    path = inside("scipy", "spatial/tests/data/iris.txt")
    numbers = [[float(word) for word in row.values["text"].split()] for row in rows_of(path)]
    assert [i for i, known in enumerate(load_iris().data.tolist()) if numbers[i] != known] == [34, 37]
    assert through(reader, path).used == 150


def test_linnerud(reader: Reader) -> None:
    """Columns with spaces between them are one column: a space is no delimiter."""
    rows, known = rows_of(data("linnerud_exercise.csv")), load_linnerud()
    (name,) = rows[0].values
    assert name == " ".join(known.feature_names)
    assert [[float(word) for word in row.values[name].split()] for row in rows] == known.data.tolist()
    assert through(reader, data("linnerud_exercise.csv")).used == 20


def test_diabetes(reader: Reader) -> None:
    """A .gz without a header: the first row is taken for one, which leaves a row less than load_diabetes has."""
    num_rows = load_diabetes().data.shape[0]
    assert len(rows_of(data("diabetes_data_raw.csv.gz"))) == num_rows - 1 == 441
    assert through(reader, data("diabetes_target.csv.gz")).rows == num_rows - 1


@pytest.mark.parametrize(
    ("name", "cause"),
    [("digits.csv.gz", "the header names the column '0' twice"), ("wine_data.csv", "14 fields, but the header has 5"),
     ("breast_cancer.csv", "31 fields, but the header has 4")],
)  # fmt: skip
def test_without_a_header_of_its_own(reader: Reader, name: str, cause: str) -> None:
    """Refused where the first row cannot be a header; scikit-learn knows the columns by heart."""
    assert load_digits().data.shape[1] == 64  # of 65 columns, many are zero
    one = through(reader, data(name))
    assert cause in one.refused
    assert one.rows is None


@pytest.mark.parametrize("name", ["gb2312", "gbk", "gb18030"])
def test_chinese_encodings(reader: Reader, name: str) -> None:
    """CPython's samples: the same rows as those of the copy in UTF-8."""
    if not CJK.exists():
        pytest.skip("this Python came without its tests")
    path, copy = CJK / f"{name}.txt", CJK / f"{name}-utf8.txt"
    assert str(encoding_of(path)) == "GB18030"
    assert [row.values for row in rows_of(path)] == [row.values for row in rows_of(copy)]
    assert through(reader, path).rows == records(copy)


def test_a_folder(reader: Reader, tmp_path: Path) -> None:
    """Three tables of numpy as training, validation and test; comments are no rows of four fields."""
    for split, function in {"train": "tan", "dev": "log", "test": "exp"}.items():
        shutil.copy(inside("numpy", UMATH.format(function)), tmp_path / f"{split}.csv")
    one = through(reader, tmp_path, "folder")
    counts, comments = [], 0
    for path in tmp_path.iterdir():
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))[1:]
        counts.append(len(lines))
        comments += sum(len(line) != 4 for line in lines)
    assert one.rows == sum(counts)
    assert one.used <= sum(counts) - comments
    assert one.recognised.startswith("prompt_completion (guessed")


def test_parquet_of_2017(reader: Reader) -> None:
    """Written by pyarrow 0.7.1 from a table of diamonds: 10 rows, by the number in its own footer."""
    path = inside("pyarrow", "tests/data/parquet/v0.7.1.parquet")
    rows = rows_of(path)
    assert len(rows) == records(path) == 10
    assert list(rows[0].values)[:4] == ["carat", "cut", "color", "clarity"]
    assert through(reader, path).used == 10


def test_json(reader: Reader) -> None:
    """A list of objects is read; an answer of OpenML, whose list lies two levels deep, is refused with what to do."""
    assert through(reader, inside("jsonschema", "benchmarks/issue232/issue.json")).rows == 1
    path = inside("sklearn", "datasets/tests/data/openml/id_61/api-v1-jdf-61.json.gz")
    assert through(reader, path).refused == "the JSON object holds no list"
    with pytest.raises(DataError, match="save one list of rows, or JSON Lines"):
        rows_of(path)
