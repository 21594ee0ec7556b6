"""Every byte string is rows, bad rows or a DataError; samples are what Excel, WPS, pandas and tired people write."""

import csv
import gzip
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weitiao.data.read import FORMATS, BadRow, detect_encoding, file_sha256, read_rows
from weitiao.errors import DataError
from weitiao.language import use
from weitiao.records import Row


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    use("en")
    yield
    use(None)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path) -> list[tuple[int, object]]:
    """(line, values) or (line, reason)."""
    return [(row.line, dict(row.values) if isinstance(row, Row) else row.reason) for row in read_rows(path)]


REVIEWS = '评论,标签\n"房间大，\n但是吵",010\n早餐不错,yes\n'
REVIEW_ROWS = [(2, {"评论": "房间大，\n但是吵", "标签": "010"}), (4, {"评论": "早餐不错", "标签": "yes"})]


@pytest.mark.parametrize(
    ("codec", "mark", "shown"),
    [
        ("utf-8", b"", "UTF-8"),
        ("utf-8", b"\xef\xbb\xbf", "UTF-8 with BOM"),
        ("utf-16-le", b"\xff\xfe", "UTF-16-LE with BOM"),
        ("utf-16-be", b"\xfe\xff", "UTF-16-BE with BOM"),
        ("gbk", b"", "GB18030"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_same_csv_in_every_encoding(tmp_path: Path, codec: str, mark: bytes, shown: str, packed: bool) -> None:
    content = mark + REVIEWS.encode(codec)
    path = write(tmp_path, "a.CSV.gz" if packed else "a.CSV", gzip.compress(content) if packed else content)
    assert read(path) == REVIEW_ROWS
    assert str(detect_encoding(path)) == shown


def test_a_rare_gb18030_character_needs_four_bytes_across_a_chunk(tmp_path: Path) -> None:
    text = "x" * ((1 << 20) - 2) + "㐂䶮"  # the chunk ends within 㐂
    assert len("㐂".encode("gb18030")) == 4
    assert read(write(tmp_path, "a.txt", text.encode("gb18030"))) == [(1, {"text": text})]


def test_undecodable_bytes_are_named_by_offset_and_line(tmp_path: Path) -> None:
    content = "评论,标签\n".encode() + "好,1\n".encode() * 300_000 + b"caf\xe9\xff\n"
    with pytest.raises(DataError) as caught:
        read_rows(write(tmp_path, "a.csv", content))
    # "caf" begins after 14 bytes of header and 300,000 lines of 6 bytes; é (0xE9) is 3 bytes further, in the second chunk.
    assert caught.value.where.endswith("a.csv:300002")
    assert "offset 1800017 are not valid UTF-8 (tried UTF-8, GB18030)" in caught.value.cause


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_delimiters_are_sniffed_from_the_records_not_the_suffix(tmp_path: Path, delimiter: str, suffix: str) -> None:
    # a cell may hold any of the others
    other = {",": ";", ";": ",", "\t": ",", "|": ";"}[delimiter]
    path = write(tmp_path, f"a{suffix}", f"text{delimiter}label\r\n一{other}二{delimiter}1e-4\r\n三{delimiter}no\r\n")
    assert read(path) == [(2, {"text": f"一{other}二", "label": "1e-4"}), (3, {"text": "三", "label": "no"})]


def test_ragged_records_are_bad_rows_with_their_true_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'text,label\n"两\r\n行",1\n多,2,3\n\n少\n好,4')
    assert read(path) == [
        (2, {"text": "两\r\n行", "label": "1"}),
        (4, "3 fields, but the header has 2"),
        (6, "1 fields, but the header has 2"),
        (7, {"text": "好", "label": "4"}),
    ]


def test_a_quote_that_is_never_closed_costs_one_line(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.csv", 'text,label\n"没有关,1\n一,2\n二,3\n'))
    assert rows[0] == (2, "a quote that does not close as it must: unexpected end of data")
    assert rows[1:] == [(3, {"text": "一", "label": "2"}), (4, {"text": "二", "label": "3"})]


def test_a_tsv_without_quoting_keeps_its_quotes(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.tsv", 'text\tlabel\n"好吃" 他说\t1\n"开头\t0\n'))
    assert rows == [(2, {"text": '"好吃" 他说', "label": "1"}), (3, {"text": '"开头', "label": "0"})]


def test_a_cell_longer_than_the_csv_default_limit(tmp_path: Path) -> None:
    text = "长" * 200_000
    assert read(write(tmp_path, "a.csv", f"text,label\n{text},1\n")) == [(2, {"text": text, "label": "1"})]


def test_header_names(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", ", text \n0,好\n")) == [(2, {"column_1": "0", "text": "好"})]
    with pytest.raises(DataError, match="names the column 'text' twice"):
        read(write(tmp_path, "b.csv", "text,text\n1,2\n"))


@pytest.mark.parametrize(("value", "kind"), [("1.5", "number"), ("2", "number"), ('"a"', "string"), ("true", "boolean"), ("null", "null")])
def test_what_stands_in_the_place_of_an_object_goes_by_json_s_names(tmp_path: Path, value: str, kind: str) -> None:
    (row,) = read(write(tmp_path, "a.json", f'[{value}, {{"a": 1}}]'))[:1]
    assert row == (1, f"not a JSON object (but a {kind})")


def test_rows_of_another_width_than_the_first_line_are_a_matter_of_the_header(tmp_path: Path) -> None:
    """R writes tables with row names and no name for their column."""
    with pytest.raises(DataError, match="2 fields, but the header has 1") as caught:
        read(write(tmp_path, "a.csv", '"weight"\n"1",26.5\n"2",27.6\n'))
    assert caught.value.remedy.startswith("the first line must name every column")


def test_json_lines_go_on_after_a_bad_line(tmp_path: Path) -> None:
    deep = '{"a":' + "[" * 50_000 + "]" * 50_000 + "}"
    deepish = '{"a":' + "[" * 150 + "]" * 150 + "}"
    bad = ["[1]", "{oops", '{"a":NaN}', '{"a":1e999}', '{"a":"\\ud800"}', '{"\\u0000":1}', '{"a":1,"a":2}', deep, deepish]
    good = '{"text":"好\\ud83d\\ude00","label":1}'
    rows = read(write(tmp_path, "a.jsonl", "\r\n".join([good, "", *bad, good])))
    assert rows[0] == (1, {"text": "好😀", "label": 1})
    assert rows[-1] == (12, {"text": "好😀", "label": 1})
    assert [line for line, _ in rows[1:-1]] == list(range(3, 12))
    expected = ["a list", "column 2", "NaN", "1e999", "surrogate", "NUL", "'a' occurs twice", "deeper", "deeper"]
    for (_, reason), part in zip(rows[1:-1], expected, strict=True):
        assert isinstance(reason, str)
        assert part in reason


def test_an_integer_longer_than_python_converts_is_a_bad_row(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.jsonl", '{"a":' + "1" * 5000 + '}\n{"a":1}\n'))
    assert isinstance(rows[0][1], str)
    assert rows[1] == (2, {"a": 1})


def test_json_list_lines(tmp_path: Path) -> None:
    deep = "[" * 50_000 + "]" * 50_000
    text = '[\n {"a": "x\\n"},\n\n {\n  "a": 2}, {"a": Infinity, "b": ["]", {}]}, 7,\n {"a": ' + deep + '},\n{"a": 3}]\n'
    rows = read(write(tmp_path, "a.json", text))
    assert [(line, values) for line, values in rows if isinstance(values, dict)] == [
        (2, {"a": "x\n"}),
        (4, {"a": 2}),
        (7, {"a": 3}),
    ]
    assert [line for line, values in rows if isinstance(values, str)] == [5, 5, 6]


@pytest.mark.parametrize(
    "text",
    [
        '{"version": 1, "data": [{"a": 1}]}',
        '{"labels": ["x"], "data": [{"a": 1}], "n": {"m": [1]}}',
        '[{"a": 1}]',
        '{"a": 1}\n{"b": 2}',
    ],
)
def test_json_shapes(tmp_path: Path, text: str) -> None:
    assert read(write(tmp_path, "a.json", text))[0] == (1, {"a": 1})


@pytest.mark.parametrize(
    ("text", "where", "cause"),
    [
        ('{"a": [{}], "b": [{}]}', "a.json", 'holds 2 lists instead of one ("a", "b")'),
        ('{"text": "x"}', "a.json", "holds no list"),
        ('[{"a": 1},\n {"a": }]', "a.json:2", "column 8"),
        ('[{"a": 1}\n', "a.json:2", "Expecting ','"),
        ('[{"a": 1}] x', "a.json:1", "Extra data"),
        ('{"a": [{"b": "]', "a.json:1", "Unterminated"),
        ("[]", "a.json", "no rows"),
    ],
)
def test_a_broken_json_file_names_the_place(tmp_path: Path, text: str, where: str, cause: str) -> None:
    with pytest.raises(DataError) as caught:
        read(write(tmp_path, "a.json", text))
    assert caught.value.where.endswith(where)
    assert cause in caught.value.cause


def test_text_lines(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.txt", " 一\u2028二 \r\n \n三\rb\0\n")) == [
        (1, {"text": " 一\u2028二 "}),
        (3, {"text": "三"}),
        (4, "holds a NUL character"),
    ]


def test_utf16_without_a_mark_is_refused_not_misread(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not one row could be read"):
        read(write(tmp_path, "a.txt", "text\nmore\n".encode("utf-16-le")))


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n \n", b"a,b\n"])
def test_no_rows(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"no rows|is empty"):
        read(write(tmp_path, "a.csv", content))


def test_a_file_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "reviews.csv", "a\n1\n")
    with pytest.raises(DataError, match=r"did you mean .*reviews\.csv\?"):
        read_rows(tmp_path / "review.csv")
    with pytest.raises(DataError, match=f"the folder {tmp_path} does exist"):
        read_rows(tmp_path / "zzz" / "q.csv")


def test_folder_suffix_and_damage(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "a\n1\n")
    with pytest.raises(DataError, match=r"(?s)this is a folder.*train\.csv"):
        read_rows(tmp_path)
    with pytest.raises(DataError, match=r"unknown file suffix '\.xls'"):
        read_rows(write(tmp_path, "a.xls", "x"))
    packed = gzip.compress(b"a,b\n" * 1000)
    for damaged in (b"no gzip", packed[:-9], packed[:12] + b"\xff\xff" + packed[14:]):
        with pytest.raises(DataError, match="cannot read the file"):
            read_rows(write(tmp_path, "a.csv.gz", damaged))


def test_sha256(tmp_path: Path) -> None:
    content = b"x" * 3_000_000
    assert file_sha256(write(tmp_path, "a", content)) == hashlib.sha256(content).hexdigest()
    with pytest.raises(DataError):
        file_sha256(tmp_path / "none")


PIECES = [
    b"NaN",
    b"\xff",
    b"\xfe",
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\t",
    b";",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b'"a"',
    b"1",
    b"\0",
    b"\\",
    b"\\ud800",
]
PIECES += ["好".encode(), "好".encode("gbk"), b"\xef\xbb\xbf", b"\xff\xfe", b'{"a":1}', b" "]


BYTES = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join))


@given(content=BYTES, packed=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_rows_or_bad_rows_or_a_data_error(tmp_path: Path, content: bytes, packed: bool) -> None:
    for suffix in FORMATS:
        path = write(tmp_path, f"a{suffix}.gz", gzip.compress(content)) if packed else write(tmp_path, f"a{suffix}", content)
        found: list[Row | BadRow] = []
        with suppress(DataError):
            found.extend(read_rows(path))
        assert [row.line for row in found] == sorted(row.line for row in found)
        for row in found:
            assert row.line >= 1
            assert isinstance(row, BadRow) or "json" in suffix or all(isinstance(value, str) for value in row.values.values())


CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(cells=st.lists(st.tuples(CELLS, st.sampled_from("01"))))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_the_csv_module_writes_is_read_back(tmp_path: Path, cells: list[tuple[str, str]]) -> None:
    path = tmp_path / "round.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "label"), *cells, ("end", "1")])
    found = [row.values for row in read_rows(path) if isinstance(row, Row)]
    assert found == [{"text": text, "label": label} for text, label in [*cells, ("end", "1")]]
