"""`weitiao tune`: search for settings on the validation rows; the test rows judge the winner once.

Trials are runs in processes of their own. Optuna's TPE (Bergstra et al. 2011) proposes, the study lives in a journal file that several
processes may write to. A trial first sees a fraction of the training rows and goes on to more while it is among the better ones; a run that
lags behind the median of the others at the same validation is stopped (the median rule: Golovin et al. 2017).
"""

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import psutil
from filelock import FileLock

from weitiao.config import RunConfig
from weitiao.config_tune import Range, Space, TunePlan
from weitiao.data.examples import load_dataset
from weitiao.decide import members
from weitiao.decide.members import Member
from weitiao.decide.space import applied, default_space, settle, value_of
from weitiao.errors import ConfigError, UsageError
from weitiao.hub.resolve import localise_data
from weitiao.language import t
from weitiao.progress import Reporter
from weitiao.run import METRICS, Run

if TYPE_CHECKING:
    from optuna import Study, Trial

Direction = Literal["minimize", "maximize"]
FEWEST_ROWS = 64
"""A fraction of fewer training rows says nothing."""
RUNG_STEPS = 1000
"""Trial steps of one fraction: validation v of fraction r is step r · 1000 + v."""
ENOUGH_OTHERS, FIRST_JUDGED = 4, 2
SECONDS_BETWEEN_LOOKS = 1.0
"""At a trial of another process that tries the same settings."""
INTERRUPTED, WRONG_INPUT = 130, 2


class TimeOverError(Exception):
    """The minutes are spent in the middle of a trial."""


@dataclass
class Search:
    """One process's part in a search."""

    config: RunConfig
    plan: TunePlan
    folder: Path
    reporter: Reporter
    began: float = field(default_factory=lambda: time.monotonic())
    space: Space = field(init=False)
    rows: int = field(init=False)
    study: "Study" = field(init=False)

    def __post_init__(self) -> None:
        dataset = load_dataset(localise_data(self.config, self.reporter).config)
        if not dataset.splits["validation"]:
            cause = t("没有验证集，没有东西可以据以挑选", "there are no validation rows to choose by")
            raise ConfigError("data.validation", cause, t("给 data.validation 或 data.validation_share", "give data.validation or _share"))
        self.rows = len(dataset.splits["train"])
        if self.config.data.limit is not None:
            self.rows = min(self.rows, self.config.data.limit)
        self.space = settle(self.config, self.plan.space or default_space(self.config))
        self.study = open_study(self.folder, self.direction, self.plan.seed)

    @cached_property
    def alone(self) -> FileLock:
        """While a process holds it no other one of the search takes a trial or concludes."""
        return FileLock(self.folder / ".lock")

    @property
    def direction(self) -> Direction:
        return "minimize" if self.config.best_by == "loss" else "maximize"

    @property
    def fractions(self) -> tuple[float, ...]:
        """The plan's fractions that leave enough rows."""
        return tuple(f for f in self.plan.fractions if f == 1 or f * self.rows >= FEWEST_ROWS)

    @property
    def defaults(self) -> dict[str, Any]:
        """The configuration's own values: what trial 0 tries."""
        return {name: value_of(self.config, name) for name in self.space}

    @property
    def seconds_left(self) -> float:
        return math.inf if self.plan.minutes is None else 60 * self.plan.minutes - (time.monotonic() - self.began)

    @property
    def is_over(self) -> bool:
        """Whether a budget is spent, with the trials that other processes are at."""
        trials = self.study.trials
        again = sum("again" in trial.user_attrs for trial in trials)
        tokens = sum(trial.user_attrs.get("tokens", 0) for trial in trials)
        return (
            sum(trial.state.name != "WAITING" for trial in trials) - again >= self.plan.trials
            or self.seconds_left <= 0
            or (self.plan.tokens is not None and tokens >= self.plan.tokens)
        )

    def member(self, values: dict[str, Any], fraction: float) -> Member:
        """The run of a trial on a fraction of the rows; its test rows are not touched."""
        config = applied(self.config, values)
        kept = {"before": False, "baselines": False, "after": False}
        limit = config.data.limit if fraction == 1 else math.ceil(fraction * self.rows)
        config = config.model_copy(
            update={"evaluate": config.evaluate.model_copy(update=kept), "data": config.data.model_copy(update={"limit": limit})}
        )
        return members.member(config, self.folder, "trial", "")


def open_study(folder: Path, direction: Direction, seed: int) -> "Study":
    """The study of a folder, new or gone on with. Raises UsageError where optuna is not installed."""
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        cause = t("需要 optuna，没有安装", "needs optuna, which is not installed")
        raise UsageError("weitiao tune", cause, "pip install 'weitiao[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    with FileLock(folder / ".lock"):
        study = optuna.create_study(storage=storage, study_name="tune", direction=direction, load_if_exists=True)
        joined = study.user_attrs.get("joined", 0)
        study.set_user_attr("joined", joined + 1)
    seed += len(study.trials) + 1000 * joined  # each process draws settings of its own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both options are called experimental
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=5, multivariate=True, constant_liar=True, seed=seed)
    return study


def search(work: Search) -> Iterator[int]:
    """Try settings until a budget is spent; yields each trial's number when it has ended. Raises KeyboardInterrupt; what was in hand is
    taken up by the next process."""
    from optuna.trial import TrialState

    while (trial := next_trial(work)) is not None:
        values = {name: trial.params[name] for name in work.space}
        await_twin(work.study, trial)
        try:
            state, value = try_values(work, trial, values)
        except TimeOverError:
            return  # the trial stays open: the next process that joins goes on with it
        work.study.tell(trial, value, state=state)
        shown = "  ".join(f"{name.split('.')[-1]} {_short(setting)}" for name, setting in values.items())
        outcome = {TrialState.COMPLETE: f"{work.config.best_by} {value:.4f}" if value is not None else ""}
        words = outcome.get(state) or (t("停下", "stopped") if state == TrialState.PRUNED else t("失败", "failed"))
        work.reporter.say(f"#{trial.number}  {shown}  → {words}")
        yield trial.number


def next_trial(work: Search) -> "Trial | None":
    """A trial with its settings, which is then this process's; None: a budget is spent."""
    with work.alone:
        take_over(work.study)
        if not work.study.trials:
            work.study.enqueue_trial(work.defaults)
        if work.is_over:
            return None
        trial = work.study.ask()
        trial.set_user_attr("pid", os.getpid())
        for name, entry in work.space.items():
            suggest(trial, name, entry)
        return trial


def await_twin(study: "Study", trial: "Trial") -> None:
    """Wait while another process is at an earlier trial of the same settings: they share a run, whose result is then there."""
    while any(
        other.number < trial.number and other.state.name == "RUNNING" and other.params == trial.params and _is_held(other)
        for other in study.trials
    ):
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _is_held(trial: Any) -> bool:
    """Whether the process that took a trial is alive and another one."""
    pid = trial.user_attrs.get("pid", -1)
    return pid != os.getpid() and psutil.pid_exists(pid)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def take_over(study: "Study") -> None:
    """Trials that a process left unfinished when it died are tried again with the same settings; their runs go on where they were."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if not _is_held(trial):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs={"again": trial.number})


def suggest(trial: "Trial", name: str, entry: Any) -> Any:
    """A value for a setting."""
    if not isinstance(entry, Range):
        return trial.suggest_categorical(name, entry)
    if entry.whole:
        return trial.suggest_int(name, int(entry.low), int(entry.high), log=entry.log)
    return trial.suggest_float(name, entry.low, entry.high, log=entry.log)


def try_values(work: Search, trial: "Trial", values: dict[str, Any]) -> tuple[Any, float | None]:
    """Run a trial through the fractions of the data. How it ended, and its value on all rows where it got so far."""
    from optuna.trial import TrialState

    is_default = values == work.defaults
    value = None
    for rung, fraction in enumerate(work.fractions):
        one = work.member(values, fraction)
        watch = watcher(work, trial, one, rung, is_default)
        outcome = members.train(one, True, watch)
        run = one.run
        if run is None:
            if outcome.code == WRONG_INPUT:
                raise ConfigError("tune", outcome.message, t("改配置或搜索空间", "change the configuration or the space"))
            if work.seconds_left <= 0:
                raise TimeOverError
            trial.set_user_attr("message", outcome.message)
            return (TrialState.PRUNED if outcome.code == INTERRUPTED else TrialState.FAIL), None
        value = float(run.record["training"]["best_metric"]["value"])
        trial.report(value, RUNG_STEPS * (rung + 1) - 1)
        trial.set_user_attr(f"rung{rung}", value)
        trial.set_user_attr("run", str(one.path))
        trial.set_user_attr("tokens", trial.user_attrs.get("tokens", 0) + run.record["training"]["tokens"])
        if fraction < 1 and not is_default and not goes_on(work, trial.number, rung, value):
            return TrialState.PRUNED, None
    return TrialState.COMPLETE, value


def goes_on(work: Search, number: int, rung: int, value: float) -> bool:
    """Whether a trial is among the share that goes on to more data, of all that got as far as this fraction."""
    others = [t.user_attrs[f"rung{rung}"] for t in work.study.trials if f"rung{rung}" in t.user_attrs and t.number != number]
    ahead = sum(other > value if work.direction == "maximize" else other < value for other in others)
    return bool(ahead < max(1, round(work.plan.keep * (len(others) + 1))))


def watcher(work: Search, trial: "Trial", one: Member, rung: int, is_default: bool) -> Callable[[], bool]:
    """Asks while a run goes on whether it should stop: the time is over, or it lags behind the median of the others at the same validation.
    The defaults are never stopped for lagging: they are what the rest is compared with."""
    seen = 0

    def stops() -> bool:
        nonlocal seen
        if work.seconds_left <= 0:
            return True
        values = validations(one.path, work.config.best_by)
        while seen < len(values):
            seen += 1
            step = RUNG_STEPS * rung + seen
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a run that was gone on with reports a step again
                trial.report(values[seen - 1], step)
            if not is_default and lags(work, trial.number, step, values[seen - 1]) and seen >= FIRST_JUDGED:
                return True
        return False

    return stops


def validations(path: Path, metric: str) -> list[float]:
    """The metric of each validation of a run so far; a line still being written is left for the next look."""
    file = path / METRICS
    whole, _, _ = file.read_text(encoding="utf-8").rpartition("\n") if file.is_file() else ("", "", "")
    return [json.loads(line)[metric] for line in whole.splitlines() if '"type": "validation"' in line]


def lags(work: Search, number: int, step: int, value: float) -> bool:
    """Whether a value is worse than the median of the other trials' at the same step; with few others nothing is said."""
    others = [t.intermediate_values[step] for t in work.study.trials if step in t.intermediate_values and t.number != number]
    if len(others) < ENOUGH_OTHERS:
        return False
    middle = float(median(others))
    return value < middle if work.direction == "maximize" else value > middle


def best_run(work: Search) -> tuple[int, Run] | None:
    """The best trial on all rows and its run; None: no trial got so far."""
    from optuna.trial import TrialState

    done = work.study.get_trials(states=(TrialState.COMPLETE,))
    if not done:
        return None
    key: Callable[[Any], float] = lambda trial: trial.value
    best = max(done, key=key) if work.direction == "maximize" else min(done, key=key)
    return best.number, Run.open(best.user_attrs["run"])


def best_so_far(hunts: list[Search]) -> tuple[Path, float] | None:
    """The best run with a result: those on all rows go before those on a fraction."""
    found: list[tuple[bool, float, Path, float]] = []
    for hunt in hunts:
        sign = 1 if hunt.direction == "maximize" else -1
        for trial in hunt.study.trials:
            if "run" in trial.user_attrs:
                rungs = sorted(name for name in trial.user_attrs if name.startswith("rung"))
                value = float(trial.user_attrs[rungs[-1]])
                found.append((trial.state.name == "COMPLETE", sign * value, Path(trial.user_attrs["run"]), value))
    if not found:
        return None
    _, _, path, value = max(found, key=lambda one: one[:2])
    return path, value
