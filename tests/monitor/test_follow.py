"""What a board is shown, and that it is shown once."""

import json

import pytest

from weitiao.config_monitor import MonitorConfig
from weitiao.monitor import board
from weitiao.monitor.follow import Follower, flat, is_over

STEP = {"type": "step", "step": 3, "epoch": 0.5, "loss": 1.5, "learning_rate": 1e-4, "memory_bytes": 10}
VALIDATION = {"type": "validation", "step": 3, "epoch": 0.5, "n": 40, "loss": 1.25, "accuracy": 0.5, "best": True}
BEFORE = {"type": "evaluation", "when": "before", "n": 10, "accuracy": 0.25}
AFTER = {"type": "evaluation", "when": "after", "n": 10, "accuracy": 0.75}


class Recorder:
    """A board that keeps what it is shown."""

    def __init__(self, mode: str = "cloud") -> None:
        self.facts, self.logged, self.tables, self.ended = {"mode": mode}, [], [], None

    def log(self, values, step):
        self.logged.append((step, values))

    def show(self, step, matrix, samples):
        self.tables.append((step, matrix, samples))

    def close(self, state, error):
        self.ended = (state, error)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "monitor").mkdir()
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "run.json").write_text('{"state": "running"}')
    return tmp_path


def add(run, *lines):
    with (run / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def follower(run, seen, **settings):
    return Follower("swanlab", run, MonitorConfig(swanlab="cloud", **settings), lambda *_: seen)


def test_each_kind_of_line_has_its_group_and_step(run):
    seen = Recorder()
    add(run, BEFORE, STEP, VALIDATION, AFTER, {"type": "other"}, {"type": "step", "step": "x"})
    follower(run, seen).advance()
    assert seen.logged == [
        (0, {"test/accuracy": 0.25}),
        (3, {"train/epoch": 0.5, "train/loss": 1.5, "train/learning_rate": 1e-4, "train/memory_bytes": 10.0}),
        (3, {"validation/epoch": 0.5, "validation/loss": 1.25, "validation/accuracy": 0.5}),
        (3, {"test/accuracy": 0.75}),
    ]


def test_a_run_that_goes_on_is_shown_once(run):
    first, second = Recorder(), Recorder()
    add(run, BEFORE, STEP, VALIDATION)
    one = follower(run, first)
    one.advance()
    one.write_note("following")  # then the process was killed, and the run goes on from step 2
    (run / "metrics.jsonl").unlink()
    add(run, BEFORE, STEP | {"step": 2}, STEP, STEP | {"step": 4}, VALIDATION | {"step": 4})
    two = follower(run, second)
    two.advance()
    assert [(step, next(iter(values))) for step, values in second.logged] == [(4, "train/epoch"), (4, "validation/epoch")]


def test_the_local_dashboard_gets_the_whole_run_again(run):
    add(run, STEP)
    follower(run, Recorder("local")).finish()
    again = Recorder("local")
    follower(run, again).advance()
    assert [step for step, _ in again.logged] == [3]


def test_matrix_and_samples_come_with_the_evaluation(run):
    rows = [{"id": f"test:{i}", "text": f"t{i}", "label": "a", "prediction": p, "probability": 0.9, "correct": p == "a"} for i, p in
            enumerate("aabab")]  # fmt: skip
    matrix = {"labels": ["a", "b"], "rows": [[3, 2], [0, 0]]}
    (run / "evaluation" / "after.json").write_text(json.dumps({"confusion_matrix": matrix}))
    (run / "evaluation" / "predictions-after.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = Recorder()
    add(run, STEP, AFTER)
    follower(run, seen, samples=3).advance()
    ((step, shown, samples),) = seen.tables
    assert (step, shown) == (3, matrix)
    assert [row["id"] for row in samples] == ["test:2", "test:4", "test:0"]  # wrong ones first
    none = Recorder()
    (run / "monitor" / "swanlab.json").unlink()
    follower(run, none, samples=0).advance()
    assert none.tables[0][2] == []  # no text leaves the folder


def test_a_matrix_that_nobody_could_read_is_left_out():
    labels = [str(i) for i in range(101)]
    assert board.confusion({"confusion_matrix": {"labels": labels, "rows": []}}) is None
    assert board.confusion({}) is None


def test_the_end_of_the_run_closes_the_board(run):
    seen = Recorder()
    watching = follower(run, seen)
    assert not is_over(run, parent=1)
    assert is_over(run, parent=2**22 + 1)  # no such process
    (run / "run.json").write_text('{"state": "failed", "error": {"type": "NonFiniteError"}}')
    assert is_over(run, parent=1)
    add(run, STEP)
    watching.finish()
    assert seen.ended == ("failed", "NonFiniteError")
    assert [step for step, _ in seen.logged] == [3]
    assert json.loads((run / "monitor" / "swanlab.json").read_text())["state"] == "done"


def test_settings_by_dotted_name():
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}


def test_a_table_in_markdown_cannot_be_broken_by_its_cells():
    assert board.markdown_table(["a"], [["x|y\nz"]]) == "| a |\n| --- |\n| x\\|y z |"
