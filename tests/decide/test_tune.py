"""The search, with trainings that a formula answers instead of a process: what it finds, what it stops, how it goes on."""

import json
import math
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from commands import refused

from weitiao import load_config
from weitiao.config import RunConfig
from weitiao.config_tune import Range, TunePlan, load_plan
from weitiao.decide import members, tune, tune_result
from weitiao.decide.members import Member, Outcome
from weitiao.decide.space import applied, default_space, near_edge, settle
from weitiao.decide.tune import Search, best_run, goes_on
from weitiao.decide.tune import search as searching
from weitiao.errors import ConfigError
from weitiao.progress import Reporter

BEST_RATE = 1e-3
PLANS = Path(__file__).parent.parent.parent / "recipes" / "plans"


def score(config: RunConfig) -> float:
    """What a training would reach: 0.9 at the best rate, 0.2 less for each factor of ten beside it, more with all rows."""
    return 0.9 - 0.2 * abs(math.log10(config.learning_rate / BEST_RATE)) - (0.05 if config.data.limit else 0)


class Trainer:
    """Answers in place of a process and writes what a run's folder needs."""

    def __init__(self) -> None:
        self.made: list[Member] = []
        self.stopped = 0

    def __call__(self, one: Member, _quiet: bool, watch: Any = None) -> Outcome:
        self.made.append(one)
        one.path.mkdir(parents=True, exist_ok=True)
        value = score(one.config)
        for number in (1, 2, 3):
            with (one.path / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"type": "validation", "step": number, "macro_f1": value * number / 3}) + "\n")
            if watch is not None and watch():
                self.stopped += 1
                return Outcome(130, {})
        training = {"best_metric": {"name": "macro_f1", "value": value}, "tokens": 1000, "best_step": 3}
        record = {"state": "finished", "training": training, "name": one.config.name, "seed": 0}
        (one.path / "run.json").write_text(json.dumps(record))
        (one.path / "config.yaml").write_text(one.config.as_yaml())
        return Outcome(0, {})


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    found = Trainer()
    monkeypatch.setattr(members, "train", found)
    monkeypatch.setattr(tune_result, "_test", lambda *_: None)
    return found


def search(hunt: Search) -> list[int]:
    return list(searching(hunt))


def work(folder: Path, *overrides: str, **plan: Any) -> Search:
    rows = folder / "rows.csv"
    if not rows.is_file():
        rows.parent.mkdir(parents=True, exist_ok=True)
        rows.write_text("text,label\n" + "".join(f"第{i}行{i * i}的文本,{'甲' if i % 2 else '乙'}\n" for i in range(500)), encoding="utf-8")
    config = load_config(None, [f"runs={folder}", f"data.train={rows}", *overrides])
    return Search(config, TunePlan(**plan), folder / "tune", Reporter(quiet=True))


@pytest.mark.usefixtures("trainer")
def test_a_rate_that_is_wrong_on_purpose_is_recovered(tmp_path: Path) -> None:
    hunt = work(tmp_path, "optim.learning_rate=2e-6", trials=20)
    search(hunt)
    number, run = best_run(hunt)
    first = hunt.study.trials[0]
    assert first.params["optim.learning_rate"] == 2e-6
    assert first.value == pytest.approx(0.9 - 0.2 * math.log10(500))
    assert run.record["training"]["best_metric"]["value"] > 0.8
    assert len(hunt.study.trials) == 20
    result = tune_result.conclude(hunt, "en")
    best = load_config(tmp_path / "tune" / "best.yaml")
    assert 3e-4 < best.learning_rate < 4e-3
    assert best.evaluate.after
    assert best.name is None
    assert result["best"] == number != 0
    assert max(result["importance"], key=result["importance"].get) == "optim.learning_rate"
    page = (tmp_path / "tune" / "report.html").read_text(encoding="utf-8")
    assert "Settings and scores (parallel coordinates)" in page
    assert "Which settings matter" in page
    assert "<script" not in page


def test_the_test_rows_are_left_alone_and_early_trials_see_a_fraction(tmp_path: Path, trainer: Trainer) -> None:
    hunt = work(tmp_path, trials=8)
    search(hunt)
    assert not any(one.config.evaluate.after for one in trainer.made)
    limits = [one.config.data.limit for one in trainer.made]
    early = math.ceil(0.25 * hunt.rows)
    assert limits[:2] == [early, None]  # the defaults always go on to all rows
    assert limits.count(None) < limits.count(early) == 8
    states = [trial.state.name for trial in hunt.study.trials]
    assert states[0] == "COMPLETE"
    assert "PRUNED" in states


def test_a_search_goes_on_where_it_was(tmp_path: Path, trainer: Trainer) -> None:
    search(work(tmp_path, trials=3))
    again = work(tmp_path, trials=5)
    assert len(again.study.trials) == 3
    search(again)
    assert [trial.number for trial in again.study.trials] == [0, 1, 2, 3, 4]
    before = len(trainer.made)
    search(work(tmp_path, trials=5))
    assert len(trainer.made) == before


@pytest.mark.usefixtures("trainer")
def test_a_trial_of_a_process_that_died_is_tried_again(tmp_path: Path) -> None:
    first = work(tmp_path, trials=2)
    first.study.enqueue_trial(first.defaults)
    dead = first.study.ask()
    for name, entry in first.space.items():
        tune.suggest(dead, name, entry)
    dead.set_user_attr("pid", 2**22 + 1)
    second = work(tmp_path, trials=2)
    search(second)
    trials = second.study.trials
    assert trials[0].state.name == "FAIL"
    assert trials[1].params == second.defaults
    assert trials[1].value is not None
    assert len(trials) == 3  # two of them count


def test_processes_that_join_share_the_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three begin at the same moment: the defaults are tried once, no settings twice at a time, and no more trials than were asked for.
    The last one to end measures the test rows."""
    tested = tmp_path / "tested"

    class Slow(Trainer):
        def __call__(self, one: Member, quiet: bool, watch: Any = None) -> Outcome:
            held = one.path.with_suffix(".held")
            one.path.parent.mkdir(parents=True, exist_ok=True)
            with held.open("x"):  # as a run's lock: another process at the same run fails
                time.sleep(0.05)
                outcome = super().__call__(one, quiet, watch)
            held.unlink()
            return outcome

    def measured(*_: object) -> None:
        with tested.open("a") as file:
            file.write("x")

    monkeypatch.setattr(members, "train", Slow())
    monkeypatch.setattr(tune_result, "_test", measured)
    work(tmp_path, trials=1)  # writes the rows
    shutil.rmtree(tmp_path / "tune")

    def one() -> None:
        hunt = work(tmp_path, trials=9)
        search(hunt)
        tune_result.conclude(hunt, "en")

    processes = [multiprocessing.get_context("fork").Process(target=one) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    trials = work(tmp_path, trials=9).study.trials
    assert len(trials) == 9
    assert len({json.dumps(trial.params) for trial in trials}) == 9
    assert len({trial.user_attrs["pid"] for trial in trials}) == 3
    assert 1 <= len(tested.read_text()) <= 3


def test_settings_that_another_process_is_at_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hunt = work(tmp_path, trials=2)
    for pid in (os.getppid(), os.getpid()):
        hunt.study.enqueue_trial(hunt.defaults)
        trial = tune.next_trial(hunt)
        assert trial is not None
        trial.set_user_attr("pid", pid)
    looks: list[float] = []

    def look(seconds: float) -> None:
        looks.append(seconds)
        hunt.study.tell(0, 0.5)

    monkeypatch.setattr(tune.time, "sleep", look)
    tune.await_twin(hunt.study, trial)
    assert looks == [tune.SECONDS_BETWEEN_LOOKS]


def test_budgets_end_a_search(tmp_path: Path, trainer: Trainer) -> None:
    hunt = work(tmp_path, trials=50, tokens=3000)
    search(hunt)
    assert 3000 <= sum(trial.user_attrs["tokens"] for trial in hunt.study.trials) <= 5000
    before = len(trainer.made)
    search(work(tmp_path / "b", trials=50, minutes=1e-6))
    assert len(trainer.made) == before > 0


def test_a_run_that_lags_behind_the_others_is_stopped_but_never_the_defaults(tmp_path: Path, trainer: Trainer) -> None:
    hunt = work(tmp_path, trials=30, fractions=(1.0,))
    search(hunt)
    assert trainer.stopped > 0
    assert hunt.study.trials[0].state.name == "COMPLETE"
    done = [trial.value for trial in hunt.study.trials if trial.value is not None]
    assert max(done) > 0.85


@pytest.mark.usefixtures("trainer")
def test_a_third_of_the_trials_goes_on(tmp_path: Path) -> None:
    hunt = work(tmp_path, trials=1)
    for value in (0.1, 0.2, 0.3, 0.4, 0.5):
        trial = hunt.study.ask()
        trial.set_user_attr("rung0", value)
    assert [goes_on(hunt, 99, 0, value) for value in (0.6, 0.45, 0.35, 0.05)] == [True, True, False, False]


def test_the_space_holds_what_the_configuration_says() -> None:
    config = load_config(None, ["optim.learning_rate=1e-7", "method.rank=6", "train.epochs=1"])
    space = settle(config, default_space(config))
    assert space["optim.learning_rate"] == Range(low=1e-7, high=1e-2, log=True)
    assert space["method.rank"] == [6, 4, 8, 16, 32]
    assert space["train.epochs"] == [1.0, 2.0]


def test_the_space_of_a_preference_run_stands_around_its_own_usual_rate() -> None:
    config = load_config(None, ["task=preference", "objective=dpo"])
    assert settle(config, default_space(config))["optim.learning_rate"] == Range(low=5e-6, high=1e-3, log=True)


def test_alpha_goes_along_with_the_rank() -> None:
    config = load_config(None, ["method.rank=8", "method.alpha=16"])
    assert applied(config, {"method.rank": 32}).method.alpha == 64
    assert applied(config, {"method.rank": 32, "method.alpha": 8.0}).method.alpha == 8


@pytest.mark.parametrize(("value", "edge"), [(1e-5, "low"), (1.5e-5, "low"), (1e-4, None), (8e-4, "high"), (1e-3, "high")])
def test_values_at_the_edge_are_told(value: float, edge: str | None) -> None:
    assert near_edge(Range(low=1e-5, high=1e-3, log=True), value) == edge
    assert near_edge([1, 2], 1) is None


def test_plans_are_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("space:\n  optim.learning_rate: {low: 1e-5, high: 1e-2, log: true}\n  method.rank: [4, 8]\ntrials: 7\n")
    plan = load_plan(path, minutes=2.0, trials=None)
    assert plan.trials == 7
    assert plan.minutes == 2.0
    assert plan.space == {"optim.learning_rate": Range(low=1e-5, high=1e-2, log=True), "method.rank": [4, 8]}
    for wrong in ("fractions: [0.5]", "fractions: [1, 0.5]", "space: {a: {low: 2, high: 1}}", "tirals: 3"):
        path.write_text(wrong)
        with pytest.raises(ConfigError):
            load_plan(path)


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_plans_fit_the_method_that_they_are_named_after(path: Path) -> None:
    plan = load_plan(path)
    config = load_config(None, [f"method={path.stem}"])
    space = settle(config, plan.space)
    for name, entry in space.items():
        applied(config, {name: entry.high if isinstance(entry, Range) else entry[-1]})
    assert set(space) == set(plan.space)


def test_a_setting_that_does_not_exist_is_the_users_mistake(tmp_path: Path) -> None:
    config = load_config(None)
    with pytest.raises(ConfigError, match=r"no such setting|没有这个设置"):
        settle(config, {"optim.rate": [1, 2]})
    with pytest.raises(ConfigError, match=r"schedule"):
        settle(config, {"optim.schedule": Range(low=1, high=2)})
    path = tmp_path / "c.yaml"
    path.write_text("data: {train: builtin}\n")
    plan = tmp_path / "p.yaml"
    plan.write_text("space: {optim.rate: [1]}\n")
    assert "no such setting" in refused("tune", path, "--plan", plan, "--out", tmp_path / "t")
