"""`weitiao auto`: from a data file to a ready model inside a time budget. Every choice is written down with its reason, and whenever it is
stopped the best so far can be used.

look at the file → audit → simple methods → measure this machine's speed → each method once → search around the better one → one test score

What fits the memory and how much there is to compute is asked of `weitiao check` (forecast.py); only the speed is measured here.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from weitiao import storage
from weitiao.config import RunConfig, build_config
from weitiao.config_io import parse_yaml
from weitiao.config_tune import TunePlan
from weitiao.data.starter import starter_config
from weitiao.decide import members
from weitiao.decide.advice import both, recommend
from weitiao.decide.compare import title_of
from weitiao.decide.space import value_of
from weitiao.decide.table import Entry, build_table, opponent_entries, run_entry
from weitiao.decide.tune import Search, best_so_far, search
from weitiao.demo import demo_config
from weitiao.errors import DataError
from weitiao.forecast import ROOM
from weitiao.language import Language, current, t
from weitiao.progress import Reporter, human_bytes, human_seconds
from weitiao.report.compare_page import build_compare_page
from weitiao.report.diagnosis import diagnose
from weitiao.report.folder import read_folder
from weitiao.run import Run

RESULT, BEST = "auto.json", "best.yaml"
FIRST_SHARE, ONLY_SHARE = 0.25, 0.8
"""Of the time for training, what the first run of a method may take at most; and where beginning a run would take longer than it may then
learn for, so that one long run is worth more than several."""
MOST_TRIALS = 40
MANY_ROWS = 2000
"""With so many rows the search begins on a quarter of them; with fewer, starting a process costs more than that saves."""
RARE = 0.2
Words = Callable[[], str]
"""Says something in the language that is asked for."""


@dataclass(frozen=True)
class Speed:
    """What a short run took: seconds to begin and for a validation, and the operations of training in a second."""

    start: float
    validation: float
    rate: float


@dataclass
class Auto:
    """The state of one automatic run."""

    data: str
    model: str
    folder: Path
    seconds: float
    reporter: Reporter
    language: Language | None
    began: float = field(default_factory=lambda: time.monotonic())
    choices: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    estimate: dict[str, Any] = field(init=False)
    """What `weitiao check` says a run takes."""
    speed: Speed = field(init=False)

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.began)

    @property
    def left_for_training(self) -> float:
        """Seconds less those for the test score, the report and starting the processes for them."""
        rows: dict[str, int] = self.result["rows"]
        test = self.speed.validation * rows["test"] / max(1, rows["validation"])
        return max(0.0, self.left - 1.3 * test - 1.2 * self.speed.start - 5)

    def choose(self, setting: str, what: Words, why: Words) -> None:
        """Write a choice down with its reason, and say it."""
        one = {"setting": setting, "what": both(what), "why": both(why)}
        self.choices.append(one)
        self.reporter.say(t(f"• {what()}（{why()}）", f"• {what()}  ({why()})"))
        self.save()

    def save(self, **values: Any) -> None:
        """Write ``auto.json``: what is known so far."""
        self.result |= values
        storage.write_json(self.folder / RESULT, self.value)

    @property
    def value(self) -> dict[str, Any]:
        """``auto.json``."""
        spent = {"budget_seconds": self.seconds, "spent_seconds": self.seconds - self.left}
        return {"schema": 1, "folder": str(self.folder), **spent, "choices": self.choices, **self.result}


def auto(work: Auto) -> dict[str, Any]:
    """Run the whole loop; returns ``auto.json``. Raises UserError where the data are of no use, KeyboardInterrupt after leaving the best so
    far usable."""
    work.folder.mkdir(parents=True, exist_ok=True)
    config = audit(work, look(work))
    opponents = simple_methods(work, config)
    measure(work, config)
    with usable_when_stopped(work):
        best = settle_method(work, first_runs(work, config, methods(work)))
        if best is not None:
            tune_on(work, best)
    conclude(work, opponents)
    return work.value


def look(work: Auto) -> RunConfig:
    """The task, the columns and the splits, from the file itself."""
    if work.data == "builtin":
        config = demo_config("lora")
    else:
        config = build_config(parse_yaml(starter_config(Path(work.data), current()), work.data), work.data)
    config = build_config(config.model_dump(mode="json") | {"runs": str(work.folder), "model": {"path": work.model}}, work.data)
    task = config.task.kind
    why = lambda: t("由列的名字和内容", "by the columns' names and content")
    work.choose(f"task.kind: {task}", lambda: t(f"任务：{task}", f"task: {task}"), why)
    return config


def audit(work: Auto, config: RunConfig) -> RunConfig:
    """Check the data and settle what they decide: the length of rows, the weights of labels. Raises UserError where the audit stops."""
    path = work.folder / "look.yaml"
    storage.write_text(path, config.as_yaml())
    checked = members.call("check", str(path))
    if checked["stops"]:
        names = ", ".join(checked["stops"])
        cause = t(f"数据检查不通过：{names}", f"the audit stops this: {names}")
        raise DataError(work.data, cause, t(f"看详情：weitiao check {path}", f"see the details: weitiao check {path}"))
    work.estimate = checked["estimate"]
    changes: dict[str, Any] = {}
    lengths = checked["lengths"]["train"]
    if lengths["n"] and lengths["max"] > 1.5 * lengths["p99"]:
        longest = -(-int(lengths["p99"]) // 32) * 32
        changes["data"] = config.data.model_copy(update={"max_tokens": longest})
        work.choose(
            f"data.max_tokens: {longest}",
            lambda: t("截短很长的行", "shorten the longest rows"),
            lambda: t(
                f"99% 的行不超过 {lengths['p99']:.0f} 词元，最长 {lengths['max']}",
                f"99 % of rows have at most {lengths['p99']:.0f} tokens, the longest {lengths['max']}",
            ),
        )
    counts = checked["labels"].get("train", {})
    if counts and min(counts.values()) < RARE * max(counts.values()):
        changes["train"] = config.train.model_copy(update={"class_weights": "balanced"})
        rare = min(counts, key=lambda label: counts[label])
        work.choose(
            "train.class_weights: balanced",
            lambda: t("让少的类别一样重", "let rare labels weigh the same"),
            lambda: t(
                f"{rare} 只有 {counts[rare]} 行，最多的有 {max(counts.values())} 行",
                f"{rare} has {counts[rare]} rows, the most frequent {max(counts.values())}",
            ),
        )
    work.save(findings=checked["findings"], rows=checked["rows"])
    return config.model_copy(update=changes)


def simple_methods(work: Auto, config: RunConfig) -> list[Entry]:
    """The simple methods on the test rows: what the result has to beat. They choose nothing."""
    if config.task.kind != "classification":
        return []
    path, out = work.folder / "look.yaml", work.folder / "baselines"
    storage.write_text(path, config.as_yaml())
    result = members.call("baselines", str(path), "--simple", "--out", str(out), "-q")
    return opponent_entries(out, result)


def measure(work: Auto, config: RunConfig) -> None:
    """A run of a few steps, to know how fast this machine is with this model and these rows."""
    train = config.train.model_copy(update={"max_steps": 4, "batch_rows": 8, "validate_every": 1000.0})
    kept = {"before": False, "baselines": False, "after": False}
    short = config.model_copy(update={"train": train, "evaluate": config.evaluate.model_copy(update=kept)})
    one = members.member(short, work.folder / "speed", f"speed-{int(time.time())}", "")
    began = time.monotonic()
    outcome = members.train(one, True)
    wall = time.monotonic() - began
    if one.run is None:
        raise DataError(work.data, outcome.message, t("按上面说的改", "do as said above"))
    write_best(work, one.run.config)
    training, seconds = one.run.record["training"], one.run.record["seconds"]["train"]
    score = training["best_metric"]
    work.save(best={"run": str(one.path), "metric": score["name"], "validation": score["value"]})  # usable, if nothing else comes about
    rate = training["flops"] / max(1e-9, training["seconds"])
    work.speed = speed = Speed(max(1.0, wall - seconds), max(0.0, seconds - training["seconds"]), rate)
    work.choose(
        "",
        lambda: t(
            f"这台机器：{training['tokens'] / training['seconds']:,.0f} 词元/秒，一次验证 {human_seconds(speed.validation)}",
            f"this machine: {training['tokens'] / training['seconds']:,.0f} tokens/s, a validation takes {human_seconds(speed.validation)}",
        ),
        lambda: t("跑了 4 步测得", "measured over 4 steps"),
    )


def methods(work: Auto) -> list[str]:
    """Which methods to try: LoRA, and full tuning where its memory fits."""
    need, free = work.estimate["methods"]["full"], work.estimate["free_bytes"]
    names = ["lora", "full"] if need <= ROOM * free else ["lora"]
    work.choose(
        "",
        lambda: t(f"要试的方法：{'、'.join(names)}", f"methods to try: {', '.join(names)}"),
        lambda: t(
            f"估计全参数要 {human_bytes(need)} 内存，可用 {human_bytes(free)}",
            f"full tuning is estimated at {human_bytes(need)} of memory, {human_bytes(free)} are free",
        ),
    )
    return names


def fitted(work: Auto, config: RunConfig, kind: str) -> RunConfig:
    """The configuration with a method, short enough that a run on all rows takes its share of the time: validations first, then steps."""
    tree = config.model_dump(mode="json")
    if config.method.kind != kind:
        tree["method"], tree["optim"]["learning_rate"] = {"kind": kind}, None
    config, rows = build_config(tree, kind), work.result["rows"]["train"]
    steps, seconds = math.ceil(config.train.epochs * rows / config.train.batch_rows), work.estimate["operations"][kind] / work.speed.rate
    allowed = FIRST_SHARE * work.left_for_training - work.speed.start
    if allowed < work.speed.start:
        allowed = max(0.0, ONLY_SHARE * work.left_for_training - work.speed.start)
    most = max(10, int(steps * (allowed - 3 * work.speed.validation) / seconds))
    if most >= steps:
        return config
    epochs = most * config.train.batch_rows / rows
    work.choose(
        f"train.max_steps: {most}",
        lambda: t(f"{kind}：只训练 {most} 步（{epochs:.2g} 轮）", f"{kind}: {most} steps only ({epochs:.2g} epochs)"),
        lambda: t(
            f"全部 {config.train.epochs:g} 轮约需 {human_seconds(seconds)}，预算里一次运行约 {human_seconds(allowed)}",
            f"all {config.train.epochs:g} epochs take {human_seconds(seconds)}, one run may take {human_seconds(allowed)}",
        ),
    )
    train = config.train.model_copy(update={"max_steps": most, "validate_every": max(0.01, epochs / 3)})
    return config.model_copy(update={"train": train})


def first_runs(work: Auto, config: RunConfig, kinds: list[str]) -> list[Search]:
    """Each method once with its defaults, on all rows; no further one where the time for it would be half of what is left."""
    hunts: list[Search] = []
    took = 0.0
    for kind in kinds:
        if hunts and work.left_for_training < 2 * took:
            why = lambda: t("剩下的时间不够再跑一次", "there is too little time left for another run")
            work.choose("", partial("– {}".format, kind), why)
            break
        began = time.monotonic()
        plan = TunePlan(trials=1, minutes=max(0.1, work.left_for_training / 60), fractions=(1.0,))
        hunts.append(Search(fitted(work, config, kind), plan, work.folder / kind, work.reporter))
        for _ in search(hunts[-1]):
            remember(work, hunts)
        took = time.monotonic() - began
        if (found := best_so_far([hunts[-1]])) is not None:  # a machine that others use may have become slower
            begin = took - Run.open(found[0]).record["seconds"]["train"]
            work.speed = replace(work.speed, start=max(work.speed.start, begin))
    return hunts


def settle_method(work: Auto, hunts: list[Search]) -> Search | None:
    """The method with the better validation score; where they differ by less than its standard error, the first (cheaper) one. None: the
    budget was too small for a training; what the measuring of the speed trained is then all there is."""
    scored = [(hunt, found[1]) for hunt in hunts if (found := best_so_far([hunt])) is not None]
    if not scored:
        work.choose(
            "",
            lambda: t("预算太小，只有几步的那次训练可用", "the budget is too small: there is only the training of a few steps"),
            lambda: t("没有一次训练在预算内完成；加大 --budget", "no training ended inside it; give a larger --budget"),
        )
        return None
    best, value = scored[0]
    error = math.sqrt(0.25 / max(1, work.result["rows"]["validation"])) if best.direction == "maximize" else 0.0
    for hunt, other in scored[1:]:
        if (other - value if hunt.direction == "maximize" else value - other) > error:
            best, value = hunt, other
    shown, kind, metric = {hunt.config.method.kind: round(score, 4) for hunt, score in scored}, best.config.method.kind, best.config.best_by
    work.choose(
        f"method.kind: {kind}",
        lambda: t(f"方法：{kind}", f"method: {kind}"),
        lambda: t(
            f"验证集 {metric}：{shown}；差别小于标准误 {error:.3f} 时取便宜的",
            f"validation {metric}: {shown}; the cheaper one where they differ by less than the standard error, {error:.3f}",
        ),
    )
    remember(work, [best])
    return best


def remember(work: Auto, hunts: list[Search]) -> None:
    """Keep the best so far where it can be used: its folder in ``auto.json``, its settings in ``best.yaml``."""
    if (found := best_so_far(hunts)) is not None:
        write_best(work, Run.open(found[0]).config)
        work.save(best={"run": str(found[0]), "metric": hunts[0].config.best_by, "validation": found[1]})


def write_best(work: Auto, config: RunConfig) -> None:
    """``best.yaml``: the choices with their reasons as comments over the configuration that repeats them."""
    reasons = [f"# {one['what'][current()]}: {one['why'][current()]}" for one in work.choices]
    again = config.evaluate.model_copy(update={"before": True, "baselines": True, "after": True})
    limit = config.data.model_copy(update={"limit": None})
    settled = config.with_absolute_paths().model_copy(update={"name": None, "evaluate": again, "data": limit, "runs": "runs"})
    storage.write_text(work.folder / BEST, "\n".join(reasons) + "\n" + settled.as_yaml())


def tune_on(work: Auto, hunt: Search) -> None:
    """Search around the chosen method in the time that is left."""
    for one in diagnose(read_folder(Path(work.result["best"]["run"]))):
        work.choose(one.setting, partial(str, one.message), partial(str, one.remedy))
    seconds, default = work.left_for_training, work.result["best"]["validation"]
    fractions = (0.25, 1.0) if work.result["rows"]["train"] >= MANY_ROWS else (1.0,)
    hunt.plan = TunePlan(trials=MOST_TRIALS, minutes=max(1e-6, seconds / 60), fractions=fractions)
    hunt.began = time.monotonic()
    searched = ", ".join(hunt.space)
    work.choose(
        "",
        lambda: t(f"在 {human_seconds(seconds)} 里搜索 {searched}", f"search {searched} for {human_seconds(seconds)}"),
        lambda: t("剩下的预算，减去最后评测要用的", "what is left of the budget less the final test"),
    )
    for _ in search(hunt):
        remember(work, [hunt])
    config, best = Run.open(work.result["best"]["run"]).config, work.result["best"]
    work.choose(
        ", ".join(f"{name}: {value_of(config, name)}" for name in hunt.space),
        lambda: t(f"搜索到的设置，试了 {len(hunt.study.trials)} 组", f"the settings found, {len(hunt.study.trials)} were tried"),
        lambda: t(
            f"验证集 {best['metric']} {best['validation']:.4f}，默认设置 {default:.4f}",
            f"validation {best['metric']} {best['validation']:.4f}, the defaults have {default:.4f}",
        ),
    )


@contextmanager
def usable_when_stopped(work: Auto) -> Iterator[None]:
    """Interrupted, it is said where the best so far is."""
    try:
        yield
    except KeyboardInterrupt:
        work.save(state="interrupted")
        run = work.result["best"]["run"]
        work.reporter.say(t(f"已停下；到目前最好的可以用：{run}", f"stopped; the best so far can be used: {run}"))
        raise


def conclude(work: Auto, opponents: list[Entry]) -> None:
    """One test score for the best run, beside the simple methods; the report; what is advised."""
    run = Run.open(work.result["best"]["run"])
    write_best(work, run.config)
    if work.result["rows"]["test"] and not (run.path / "evaluation" / "after.json").is_file():
        members.call("evaluate", str(run.path), "--save", "-q")
    if work.result["rows"]["test"]:
        table = build_table([*opponents, run_entry(Run.open(run.path), title_of(run.config))], run.config.seed)
        table |= {"folder": str(work.folder), "report": str(work.folder / "report.html"), "failed": []}
        table |= {"recommendation": recommend(table), "choices": work.choices}
        storage.write_json(work.folder / "compare.json", table)
        build_compare_page(work.folder, work.language)
        work.save(table=table)
    work.save(state="finished", report=str(work.folder / "report.html"), best_config=str(work.folder / BEST))
