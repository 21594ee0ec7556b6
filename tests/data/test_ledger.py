"""The account of rows adds up, or says so."""

import hashlib
from pathlib import Path

import pytest

from weitiao.data.ledger import Ledger
from weitiao.errors import RunError


def ledger() -> Ledger:
    return Ledger(sha256=lambda path: f"hash of {path}")


def test_the_whole_account() -> None:
    book = ledger()
    book.enter("a.csv", 5)
    for _ in range(2):
        book.use("train", "a.csv")
    book.use("test", "a.csv")
    book.reject("train", "a.csv", 9, "bad_row: 3 fields: not 2")
    book.reject("train", "a.csv", 4, "no_label")
    book.shorten("test", "a.csv", 7, 900, 512)
    assert book.as_dict() == {
        "files": [
            {
                "path": "a.csv",
                "split": "train",
                "sha256": "hash of a.csv",
                "rows_in": 4,
                "used": 2,
                "rejected": 2,
                "shortened": 0,
                "rejected_rows": [
                    {"line": 4, "reason": "no_label"},
                    {"line": 9, "reason": "bad_row", "detail": "3 fields: not 2"},
                ],
                "shortened_rows": [],
            },
            {
                "path": "a.csv",
                "split": "test",
                "sha256": "hash of a.csv",
                "rows_in": 1,
                "used": 1,
                "rejected": 0,
                "shortened": 1,
                "rejected_rows": [],
                "shortened_rows": [{"line": 7, "tokens_before": 900, "tokens_after": 512}],
            },
        ],
        "totals": {"rows_in": 5, "used": 3, "rejected": 2, "shortened": 1},
    }


def test_a_row_that_is_neither_used_nor_rejected() -> None:
    book = ledger()
    book.enter("a.csv", 2)
    book.use("train", "a.csv")
    with pytest.raises(RunError, match=r"a\.csv.*2.*1"):
        book.as_dict()


def test_a_row_that_is_booked_twice() -> None:
    book = ledger()
    book.enter("a.csv")
    book.use("train", "a.csv")
    book.reject("train", "a.csv", 2, "no_text")
    with pytest.raises(RunError, match=r"a\.csv"):
        book.check()


def test_a_file_that_never_came_in() -> None:
    book = ledger()
    book.enter("a.csv")
    book.use("train", "a.csv")
    book.use("test", "b.csv")
    with pytest.raises(RunError, match=r"b\.csv"):
        book.check()


def test_shortened_rows_are_used_rows() -> None:
    book = ledger()
    book.shorten("train", "a.csv", 2, 10, 5)
    with pytest.raises(RunError):
        book.check()
    book.use("train", "a.csv")
    book.check()


@pytest.mark.parametrize(("before", "after"), [(5, 5), (5, 6)])
def test_a_row_that_got_no_shorter(before: int, after: int) -> None:
    with pytest.raises(RunError, match=r"a\.csv:2"):
        ledger().shorten("train", "a.csv", 2, before, after)


def test_two_rows_of_one_line_may_be_shortened() -> None:
    """A JSON list may stand on a single line."""
    book = ledger()
    for after in (5, 4):
        book.use("train", "a.json")
        book.shorten("train", "a.json", 1, 10, after)
    rows = book.as_dict()["files"][0]["shortened_rows"]
    assert [(row["line"], row["tokens_after"]) for row in rows] == [(1, 4), (1, 5)]


def test_the_hash_is_that_of_the_file_when_it_came_in(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"one")
    book = Ledger()
    book.use("train", str(path))
    path.write_bytes(b"two")
    book.use("train", str(path))
    assert book.as_dict()["files"][0]["sha256"] == hashlib.sha256(b"one").hexdigest()
