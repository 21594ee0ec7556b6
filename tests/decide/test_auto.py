"""The automatic run, with trainings answered by a formula and a clock of its own: its choices, its budget, what is usable when."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import refused

from weitiao import load_config
from weitiao.decide import auto as automatic
from weitiao.decide import members
from weitiao.decide.auto import Auto, auto
from weitiao.decide.members import Member, Outcome
from weitiao.progress import Reporter

ROWS = {"train": 240, "validation": 30, "test": 30}


class World:
    """Answers for processes; each training takes so many seconds of a clock that only it moves."""

    def __init__(self, seconds: float, patch: pytest.MonkeyPatch, free: int = 4000, lead: float = 0.2) -> None:
        self.now, self.seconds, self.free, self.lead, self.made, self.judged = 0.0, seconds, free, lead, [], []
        self.at_training: Callable[[int], None] = lambda _number: None
        patch.setattr(time, "monotonic", lambda: self.now)
        patch.setattr(members, "train", self.train)
        patch.setattr(members, "call", self.call)
        patch.setattr(automatic, "opponent_entries", lambda *_: [])

    def train(self, one: Member, _quiet: bool, watch: Any = None) -> Outcome:
        self.made.append(one)
        self.at_training(len(self.made))
        for _ in range(10):
            self.now += self.seconds / 10
            if watch is not None and watch():
                return Outcome(130, {})
        config = one.config
        value = 0.9 - 0.1 * abs(math.log10(config.learning_rate / 1e-3)) - (self.lead if config.method.kind == "lora" else 0)
        one.path.mkdir(parents=True)
        (one.path / "config.yaml").write_text(config.as_yaml())
        training = {"best_metric": {"name": "macro_f1", "value": value}, "tokens": 3200, "best_step": 1, "seconds": self.seconds / 2,
                    "flops": 3200.0, "peak_memory_bytes": 1}  # fmt: skip
        record = {"state": "finished", "training": training, "name": config.name, "seed": 0, "trainable": {"parameters": 1},
                  "seconds": {"train": self.seconds / 2}}  # fmt: skip
        (one.path / "run.json").write_text(json.dumps(record))
        return Outcome(0, {})

    def call(self, *words: str) -> dict[str, Any]:
        self.now += 1.0
        if words[0] == "check":
            lengths = {"train": {"n": 240, "p99": 40.0, "max": 500}}
            labels = {"train": {"甲": 220, "乙": 20}}
            estimate = {"methods": {"lora": 1000, "full": 3000}, "operations": {"lora": 12800.0, "full": 19200.0}, "free_bytes": self.free}
            return {"stops": [], "lengths": lengths, "labels": labels, "findings": [], "rows": ROWS, "estimate": estimate}
        if words[0] == "evaluate":
            self.judged.append(words[1])
            folder = Path(words[1]) / "evaluation"
            folder.mkdir()
            (Path(words[1]) / "data").mkdir()
            (Path(words[1]) / "data" / "ledger.json").write_text(json.dumps({"files": [{"path": "t", "sha256": "1" * 64}]}))
            score = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 30}
            (folder / "after.json").write_text(json.dumps({"metrics": {"accuracy": score}, "rows_per_second": 10.0}))
            rows = [{"id": f"test:{i}", "file": "t", "label": "甲", "correct": i < 27} for i in range(30)]
            (folder / "predictions-after.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {}


def work(folder: Path, seconds: float) -> Auto:
    data = folder / "rows.csv"
    data.write_text("text,label\n" + "".join(f"第{i}行{i * i}的文本,{'甲' if i % 12 else '乙'}\n" for i in range(300)), encoding="utf-8")
    return Auto(str(data), "builtin", folder / "auto", seconds, Reporter(quiet=True), "en")


def test_the_whole_way_inside_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(20.0, monkeypatch)
    result = auto(work(tmp_path, 600.0))
    assert world.now <= 660
    assert world.now >= 300  # the budget is used
    assert len(world.judged) == 1  # one test score
    assert not any(one.config.evaluate.after for one in world.made)
    assert result["state"] == "finished"
    settings = [one["setting"] for one in result["choices"]]
    assert "task.kind: classification" in settings
    assert "data.max_tokens: 64" in settings
    assert "train.class_weights: balanced" in settings
    assert "method.kind: full" in settings
    best = load_config(tmp_path / "auto" / "best.yaml")
    assert (
        f"optim.learning_rate: {best.learning_rate}, train.epochs: {best.train.epochs}, train.batch_rows: {best.train.batch_rows}"
        in settings
    )
    assert (best.method.kind, best.data.max_tokens, best.train.class_weights) == ("full", 64, "balanced")
    assert best.evaluate.after
    assert best.data.limit is None
    assert "# method: full: validation macro_f1" in (tmp_path / "auto" / "best.yaml").read_text(encoding="utf-8") or "# 方法" in (
        tmp_path / "auto" / "best.yaml"
    ).read_text(encoding="utf-8")
    assert json.loads((tmp_path / "auto" / "auto.json").read_text(encoding="utf-8"))["best"] == result["best"]
    assert "Choices and their reasons" in (tmp_path / "auto" / "report.html").read_text(encoding="utf-8")


def test_a_long_training_is_cut_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 400 s, 358 are left after the check, the baselines and the 40 s of measuring, 329 of them for training (1.2 · 20 s to begin the
    judging, and 5). A quarter less 20 s to begin is 62.25 s. All 23 steps are 12800 operations at 160 a second, 80 s: 17 steps fit."""
    world = World(40.0, monkeypatch)
    result = auto(work(tmp_path, 400.0))
    assert world.now <= 440
    assert result["state"] == "finished"
    assert "train.max_steps: 17" in [one["setting"] for one in result["choices"]]


def test_where_beginning_takes_longer_than_learning_one_run_gets_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 150 s, 79 are for training: a quarter is less than twice the 20 s to begin. 80 % less those are 43.2 s of 80: 12 of 23 steps."""
    world = World(40.0, monkeypatch)
    result = auto(work(tmp_path, 150.0))
    assert world.now <= 165
    assert "train.max_steps: 12" in [one["setting"] for one in result["choices"]]


def test_where_processes_begin_more_slowly_more_is_kept_for_the_test_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, state = World(20.0, monkeypatch), work(tmp_path, 600.0)

    def wait(number: int) -> None:
        world.now += 25.0 if number > 1 else 0.0

    world.at_training = wait
    auto(state)
    assert state.speed.start == 35.0  # the 10 s of the measuring, and 25


@pytest.mark.parametrize(("free", "tried"), [(3300, "lora"), (3400, "lora, full")])
def test_full_tuning_is_tried_where_its_estimate_fits(free: int, tried: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate's 3000 bytes with the tenth of room that every suggestion leaves: 3334 must be free."""
    World(20.0, monkeypatch, free=free)
    result = auto(work(tmp_path, 600.0))
    assert [one["what"]["en"] for one in result["choices"] if "methods" in one["what"]["en"]] == [f"methods to try: {tried}"]
    assert "full tuning is estimated at 3 kB" in next(one["why"]["en"] for one in result["choices"] if "methods" in one["what"]["en"])


def test_where_methods_tie_the_files_name_the_one_that_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full tuning leads by 0.05, less than the standard error of 30 rows: LoRA it is, in best.yaml too, though no trial follows."""
    world = World(20.0, monkeypatch, lead=0.05)
    monkeypatch.setattr(automatic, "tune_on", lambda *_: None)
    result = auto(work(tmp_path, 600.0))
    assert [one.config.method.kind for one in world.made][1:] == ["lora", "full"]
    assert "method.kind: lora" in [one["setting"] for one in result["choices"]]
    assert load_config(tmp_path / "auto" / "best.yaml").method.kind == "lora"
    assert "/lora/" in result["best"]["run"]


def test_a_budget_too_small_for_a_training_still_leaves_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(60.0, monkeypatch)
    result = auto(work(tmp_path, 120.0))
    assert world.now <= 132
    assert result["state"] == "finished"
    assert Path(result["best"]["run"]).name.startswith("speed")
    assert any("give a larger --budget" in one["why"]["en"] for one in result["choices"])
    assert len(world.judged) == 1


def test_stopped_in_the_middle_the_best_so_far_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(20.0, monkeypatch)

    def interrupt(number: int) -> None:
        if number == 4:
            raise KeyboardInterrupt

    world.at_training = interrupt
    with pytest.raises(KeyboardInterrupt):
        auto(work(tmp_path, 600.0))
    left = json.loads((tmp_path / "auto" / "auto.json").read_text(encoding="utf-8"))
    assert left["state"] == "interrupted"
    assert Path(left["best"]["run"]).is_dir()
    assert load_config(tmp_path / "auto" / "best.yaml").method.kind == "full"
    assert world.judged == []


def test_a_budget_that_cannot_be_read() -> None:
    assert "cannot read 'soon'" in refused("auto", "x.csv", "--budget", "soon")
    assert "--budget" in refused("auto", "x.csv", "--budget", "0m")
