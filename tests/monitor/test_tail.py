"""A growing file is read once, whole lines only; a file that was cut is read again."""

import json

import pytest

from weitiao.monitor.tail import Tail


def test_only_new_and_complete_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.read() == []  # no file yet
    path.write_text('{"step": 1}\n{"st')
    assert tail.read() == [{"step": 1}]
    assert tail.read() == []
    with path.open("a") as file:
        file.write('ep": 2}\n[1]\nnonsense\n{"step": 3}\n')
    assert tail.read() == [{"step": 2}, {"step": 3}]  # a list and nonsense are no lines of a run
    assert tail.restarts == 0


@pytest.mark.parametrize("again", ['{"step": 1}\n', '{"step": 1}\n{"step": 2, "loss": 7.5}\n{"step": 3}\n'], ids=["shorter", "longer"])
def test_a_file_that_was_cut_is_read_again(tmp_path, again):
    """Also one that has grown past its old end since."""
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    path.write_text('{"step": 1}\n{"step": 2, "loss": 5.5}\n')
    tail.read()
    path.write_text(again)
    assert tail.read() == [json.loads(line) for line in again.splitlines()]
    assert tail.restarts == 1


def test_a_reading_is_bounded_and_the_next_goes_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {i}}}\n' for i in range(9)))  # 12 bytes a line
    tail = Tail(path, largest_reading_bytes=40)
    assert [line["step"] for _ in range(3) for line in tail.read()] == list(range(9))
