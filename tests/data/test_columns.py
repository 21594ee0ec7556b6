"""Column recognition, and the two kinds of cells that need reading."""

from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from weitiao.data.columns import Columns, find_columns, parse_candidates, parse_label, yaml_scalar
from weitiao.errors import DataError
from weitiao.language import use
from weitiao.records import Row


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    use("en")
    yield
    use(None)


def rows(*values: dict[str, str]) -> list[Row]:
    return [Row("a.csv", line, value) for line, value in enumerate(values, 2)]


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["label", "text"], Columns("text", "label")),
        (["id", "Review ", "SENTIMENT"], Columns("Review ", "SENTIMENT")),
        (["评论", "标签"], Columns("评论", "标签")),
        (["ｔｅｘｔ", "类别"], Columns("ｔｅｘｔ", "类别")),
        (["output", "text", "category"], Columns("text", "output", "category")),
        (["content", "category"], Columns("content", "category")),
    ],
)
def test_classification_columns_by_name(names: list[str], columns: Columns) -> None:
    assert find_columns(names, [], None, {}) == ("classification", columns)
    assert find_columns(names, [], "classification", {"label": None}) == ("classification", columns)
    assert find_columns(names, [], "text", {}) == ("text", Columns(columns.text))


def test_no_label_column_means_a_text_task() -> None:
    assert find_columns(["id", "正文"], [], None, {}) == ("text", Columns("正文"))


def test_wanted_wins_over_recognition() -> None:
    found = find_columns(["text", "content", "label", "极性"], [], None, {"text": "content", "label": "极性"})
    assert found == ("classification", Columns("content", "极性"))
    # a wanted column is no longer a candidate for another use
    assert find_columns(["text", "label", "class"], [], None, {"candidates": "class"})[1] == Columns("text", "label", "class")
    # what agrees with the known set leaves the rest of it in force; what disagrees does not
    fudan = ["text", "category", "output"]
    assert find_columns(fudan, [], None, {"label": "output"})[1] == Columns("text", "output", "category")
    assert find_columns(fudan, [], None, {"label": "category"})[1] == Columns("text", "category")


def test_a_wanted_column_that_does_not_exist() -> None:
    with pytest.raises(DataError) as caught:
        find_columns(["review", "sentiment"], [], None, {"text": "Reviews"})
    assert caught.value.where == "data.columns.text"
    assert "no column 'Reviews'" in caught.value.cause
    assert caught.value.remedy == "the columns are 'review', 'sentiment'; did you mean 'review'?"


def test_a_column_cannot_be_two_things() -> None:
    with pytest.raises(DataError, match="'x' is used twice"):
        find_columns(["x", "y"], [], None, {"text": "x", "label": "x"})


def test_an_ambiguous_file_shows_rows_and_the_line_that_settles_it() -> None:
    long = "这家酒店的早餐非常不错，房间也很干净，前台的服务态度更是没得说，下次还会再来的"
    sample = rows(*[{"content": "短", "review": long, "label": "1"}] * 5)
    with pytest.raises(DataError) as caught:
        find_columns(["content", "review", "label"], sample, None, {})
    assert caught.value.where == "a.csv"
    assert "2 columns could be the text: 'content', 'review'" in caught.value.cause
    shown = caught.value.cause.split("\n")[1:]
    assert shown == [f"  {line}: content=短, review={long[:29]}…, label=1" for line in (2, 3, 4)]
    assert caught.value.remedy.endswith("data.columns.text: review")


def test_the_suggested_label_is_the_column_with_the_fewest_values() -> None:
    sample = rows(*[{"text": f"t{i}", "other": str(i), "no": str(i % 2)} for i in range(6)])
    with pytest.raises(DataError, match=r"data\.columns\.label: label"):
        find_columns(["text", "label", "class"], [Row("a", 1, {"label": "1", "class": str(i)}) for i in range(3)], None, {})
    with pytest.raises(DataError, match=r"data\.columns\.label: 'no'"):
        find_columns(["text", "no", "other"], sample, "classification", {})


def test_no_text_column() -> None:
    with pytest.raises(DataError, match=r"no column is recognised as the text; there are: 'a', 'b'"):
        find_columns(["a", "b"], [], None, {})
    with pytest.raises(DataError, match=r"\(none\)"):
        find_columns([], [], "text", {})


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        (["体育", " 财经 ", "体育", 3, True, None, ""], ("体育", "财经", "3", "true")),
        ('["体育, 球类", "财经"]', ("体育, 球类", "财经")),
        ("['体育', '财经']", ("体育", "财经")),
        ("[体育，财经]", ("体育", "财经")),
        ("['体育', '财", ("['体育", "财")),
        ("体育,财经，科技、艺术;教育；健康|环境\n能源,体育, ", ("体育", "财经", "科技", "艺术", "教育", "健康", "环境", "能源")),
        ("Sports and Games", ("Sports and Games",)),
        ("", ()),
        (None, ()),
        ("[" * 100_000, ("[" * 100_000,)),
        ("[" + "1," * 60_000 + "2]", ("1", "2")),
        ("[__import__('os').getcwd()]", ("__import__('os').getcwd()",)),
    ],
)
def test_candidates(value: object, labels: tuple[str, ...]) -> None:
    assert parse_candidates(value) == labels


@pytest.mark.parametrize(
    ("value", "label"),
    [(" 好　", "好"), ("010", "010"), ("no", "no"), (1, "1"), (1.0, "1.0"), (True, "true"), (False, "false"), (0, "0")]
    + [(value, None) for value in (None, "", " \n", ["好"], {"a": 1})],
)
def test_label(value: object, label: str | None) -> None:
    assert parse_label(value) == label


TRICKY = st.from_regex(r"\A[-+0-9.eExXyYnNoO_:~,#&*!|>'\"%@` ]{1,6}\Z")


@given(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), TRICKY))
def test_a_yaml_scalar_reads_back_on_one_line(text: str) -> None:
    written = yaml_scalar(text)
    assert len(written.splitlines()) == 1
    assert yaml.safe_load(f"[{{a: {written}}}, {{{written}: b}}] # {written}") == [{"a": text}, {text: "b"}]
    assert yaml.safe_load(f"a: {written}") == {"a": text}


CHANGED = ("yes", "no", "y", "N", "on", "010", "1e-4", "0o17", "0x1F", "null", "~", "1_000", "12:30", "-1", ".inf", "")


@pytest.mark.parametrize("text", CHANGED)
def test_what_any_yaml_would_change_is_quoted(text: str) -> None:
    assert yaml_scalar(text) == f"'{text}'"
