"""`weitiao auto`: from a data file to a ready model inside a time budget. Every choice is written down with its reason, and whenever it is
stopped the best so far can be used.

look at the file → audit → simple methods → measure this machine's speed → each method once → search around the better one → one test score
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from weitiao import storage
from weitiao.config import RunConfig, build_config
from weitiao.config_io import parse_yaml
from weitiao.config_tune import TunePlan
from weitiao.data.starter import starter_config
from weitiao.decide import members
from weitiao.decide.advice import both, recommend
from weitiao.decide.compare import title_of
from weitiao.decide.table import Entry, build_table, opponent_entries, run_entry
from weitiao.decide.tune import Search, best_so_far, search
from weitiao.demo import demo_config
from weitiao.errors import DataError
from weitiao.language import Language, current, t
from weitiao.progress import Reporter, human_bytes, human_seconds
from weitiao.report.compare_page import build_compare_page
from weitiao.report.diagnosis import diagnose
from weitiao.report.folder import read_folder
from weitiao.run import Run

RESULT, BEST = "auto.json", "best.yaml"
BYTES_PER_PARAMETER = {"full": 18, "lora": 6}
"""Weights, gradients and moments while training: a rough upper bound, in float32."""
MEMORY_SHARE = 0.7
SMALL_MODEL = 200_000_000
FIRST_SHARE = 0.15
"""Of the time for training, what one run on all rows may take at most."""
MOST_TRIALS = 40
MANY_ROWS = 2000
"""With so many rows the search begins on a quarter of them; with fewer, starting a process costs more than that saves."""
RARE = 0.2


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

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.began)

    def choose(self, setting: str, what: dict[str, str], why: dict[str, str]) -> None:
        """Write a choice down with its reason, and say it."""
        self.choices.append({"setting": setting, "what": what, "why": why})
        self.reporter.say(f"• {what[current()]}  ({why[current()]})" if current() == "en" else f"• {what['zh']}（{why['zh']}）")
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
    config = look(work)
    config, checked = audit(work, config)
    opponents = simple_methods(work, config)
    speed = measure(work, config)
    with usable_when_stopped(work):
        best = settle_method(work, first_runs(work, config, methods(work, checked), speed))
        if best is not None:
            tune_on(work, best, speed)
    conclude(work, opponents)
    return work.value


def look(work: Auto) -> RunConfig:
    """The task, the columns and the splits, from the file itself."""
    if work.data == "builtin":
        config = demo_config("lora")
    else:
        text = starter_config(Path(work.data), current())
        config = build_config(parse_yaml(text, work.data), work.data)
    config = build_config(config.model_dump(mode="json") | {"runs": str(work.folder), "model": {"path": work.model}}, work.data)
    task = config.task.kind
    work.choose(
        f"task.kind: {task}",
        both(lambda: t(f"任务：{task}", f"task: {task}")),
        both(lambda: t("由列的名字和内容", "by the columns' names and content")),
    )
    return config


def audit(work: Auto, config: RunConfig) -> tuple[RunConfig, dict[str, Any]]:
    """Check the data and settle what they decide: the length of rows, the weights of labels. Raises UserError where the audit stops."""
    path = work.folder / "look.yaml"
    storage.write_text(path, config.as_yaml())
    checked = members.call("check", str(path))
    if checked["stops"]:
        names = ", ".join(checked["stops"])
        cause = t(f"数据检查不通过：{names}", f"the audit stops this: {names}")
        raise DataError(work.data, cause, t(f"看详情：weitiao check {path}", f"see the details: weitiao check {path}"))
    changes: dict[str, Any] = {}
    lengths = checked["lengths"]["train"]
    if lengths["n"] and lengths["max"] > 1.5 * lengths["p99"]:
        longest = -(-int(lengths["p99"]) // 32) * 32
        changes["data"] = config.data.model_copy(update={"max_tokens": longest})
        why = both(
            lambda: t(
                f"99% 的行不超过 {lengths['p99']:.0f} 词元，最长 {lengths['max']}",
                f"99 % of rows have at most {lengths['p99']:.0f} tokens, the longest {lengths['max']}",
            )
        )
        work.choose(f"data.max_tokens: {longest}", both(lambda: t("截短很长的行", "shorten the longest rows")), why)
    counts = checked["labels"].get("train", {})
    if counts and min(counts.values()) < RARE * max(counts.values()):
        changes["train"] = config.train.model_copy(update={"class_weights": "balanced"})
        rare = min(counts, key=lambda label: counts[label])
        why = both(
            lambda: t(
                f"{rare} 只有 {counts[rare]} 行，最多的有 {max(counts.values())} 行",
                f"{rare} has {counts[rare]} rows, the most frequent {max(counts.values())}",
            )
        )
        work.choose("train.class_weights: balanced", both(lambda: t("让少的类别一样重", "let rare labels weigh the same")), why)
    work.save(findings=checked["findings"], rows=checked["rows"])
    return config.model_copy(update=changes), checked


def simple_methods(work: Auto, config: RunConfig) -> list[Entry]:
    """The simple methods on the test rows: what the result has to beat. They choose nothing."""
    if config.task.kind != "classification":
        return []
    path, out = work.folder / "look.yaml", work.folder / "baselines"
    storage.write_text(path, config.as_yaml())
    result = members.call("baselines", str(path), "--simple", "--out", str(out), "-q")
    return opponent_entries(out, result)


@dataclass(frozen=True)
class Speed:
    """What a short run took: seconds to begin, for a validation, and per training token."""

    start: float
    validation: float
    token: float
    tokens_per_row: float


def measure(work: Auto, config: RunConfig) -> Speed:
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
    record = one.run.record
    write_best(work, one.run.config)
    score = record["training"]["best_metric"]
    work.save(best={"run": str(one.path), "metric": score["name"], "validation": score["value"]})  # usable, if nothing else comes about
    training = record["training"]
    steps_seconds = training["seconds"]
    speed = Speed(
        start=max(1.0, wall - record["seconds"]["train"]),
        validation=max(0.0, record["seconds"]["train"] - steps_seconds),
        token=steps_seconds / max(1, training["tokens"]),
        tokens_per_row=training["tokens"] / 32,
    )
    what = both(
        lambda: t(
            f"这台机器：{1 / speed.token:,.0f} 词元/秒，一次验证 {human_seconds(speed.validation)}",
            f"this machine: {1 / speed.token:,.0f} tokens/s, a validation takes {human_seconds(speed.validation)}",
        )
    )
    work.choose("", what, both(lambda: t("跑了 4 步测得", "measured over 4 steps")))
    return speed


def methods(work: Auto, checked: dict[str, Any]) -> list[str]:
    """Which methods to try: LoRA, and full tuning where the model is small and fits the memory."""
    parameters, memory = checked["model"]["parameters"], psutil.virtual_memory().available
    need = BYTES_PER_PARAMETER["full"] * parameters
    fits = need < MEMORY_SHARE * memory and parameters <= SMALL_MODEL
    why = both(
        lambda: t(
            f"全参数约需 {human_bytes(need)}，可用 {human_bytes(memory)}",
            f"full tuning takes about {human_bytes(need)}, {human_bytes(memory)} are free",
        )
    )
    names = ["lora", "full"] if fits else ["lora"]
    work.choose("", both(lambda: t(f"要试的方法：{'、'.join(names)}", f"methods to try: {', '.join(names)}")), why)
    return names


def fitted(work: Auto, config: RunConfig, kind: str, speed: Speed, rows: int) -> RunConfig:
    """The configuration with a method, short enough that a run on all rows takes its share of the time: validations first, then steps."""
    tree = config.model_dump(mode="json")
    if config.method.kind != kind:
        tree["method"], tree["optim"]["learning_rate"] = {"kind": kind}, None
    config = build_config(tree, kind)
    per_step = speed.token * speed.tokens_per_row * config.train.batch_rows * (1.5 if kind == "full" else 1.0)
    steps = math.ceil(config.train.epochs * rows / config.train.batch_rows)
    allowed = max(0.0, FIRST_SHARE * work.left - speed.start)
    most = max(10, int((allowed - 3 * speed.validation) / per_step))
    if most < steps:
        epochs = most * config.train.batch_rows / rows
        train = config.train.model_copy(update={"max_steps": most, "validate_every": max(0.01, epochs / 3)})
        why = both(
            lambda: t(
                f"全部 {config.train.epochs:g} 轮约需 {human_seconds(steps * per_step)}，预算里一次运行约 {human_seconds(allowed)}",
                f"all {config.train.epochs:g} epochs take {human_seconds(steps * per_step)}, one run may take {human_seconds(allowed)}",
            )
        )
        work.choose(
            f"train.max_steps: {most}",
            both(lambda: t(f"{kind}：只训练 {most} 步（{epochs:.2g} 轮）", f"{kind}: {most} steps only ({epochs:.2g} epochs)")),
            why,
        )
        return config.model_copy(update={"train": train})
    return config


def first_runs(work: Auto, config: RunConfig, kinds: list[str], speed: Speed) -> list[Search]:
    """Each method once with its defaults, on all rows; no further one where the time for it would be half of what is left."""
    hunts: list[Search] = []
    took = 0.0
    for kind in kinds:
        if hunts and time_for_training(work, speed) < 2 * took:
            why = both(lambda: t("剩下的时间不够再跑一次", "there is too little time left for another run"))
            work.choose("", _same(f"– {kind}"), why)
            break
        began = time.monotonic()
        one = fitted(work, config, kind, speed, work.result["rows"]["train"])
        plan = TunePlan(trials=1, minutes=max(0.1, time_for_training(work, speed) / 60), fractions=(1.0,))
        hunts.append(Search(one, plan, work.folder / kind, work.reporter))
        for _ in search(hunts[-1]):
            remember(work, hunts)
        took = time.monotonic() - began
    return hunts


def time_for_training(work: Auto, speed: Speed) -> float:
    """Seconds that are left for training: the test score, the report and starting the processes for them take the rest."""
    rows: dict[str, int] = work.result["rows"]
    test = speed.validation * rows["test"] / max(1, rows["validation"])
    return max(0.0, work.left - 1.3 * test - 1.2 * speed.start - 5)


def settle_method(work: Auto, hunts: list[Search]) -> Search | None:
    """The method with the better validation score; where they differ by less than its standard error, the first (cheaper) one. None: the
    budget was too small for a training; what the measuring of the speed trained is then all there is."""
    scored = [(hunt, value) for hunt in hunts if (value := best_value(hunt)) is not None]
    if not scored:
        what = both(lambda: t("预算太小，只有几步的那次训练可用", "the budget is too small: there is only the training of a few steps"))
        work.choose(
            "", what, both(lambda: t("没有一次训练在预算内完成；加大 --budget", "no training ended inside it; give a larger --budget"))
        )
        return None
    best, value = scored[0]
    error = math.sqrt(0.25 / max(1, work.result["rows"]["validation"])) if best.direction == "maximize" else 0.0
    for hunt, other in scored[1:]:
        if (other - value if hunt.direction == "maximize" else value - other) > error:
            best, value = hunt, other
    shown = {hunt.config.method.kind: round(score, 4) for hunt, score in scored}
    what = both(lambda: t(f"方法：{best.config.method.kind}", f"method: {best.config.method.kind}"))
    why = both(
        lambda: t(
            f"验证集 {best.config.best_by}：{shown}；差别小于标准误 {error:.3f} 时取便宜的",
            f"validation {best.config.best_by}: {shown}; the cheaper one where they differ by less than the standard error, {error:.3f}",
        )
    )
    work.choose(f"method.kind: {best.config.method.kind}", what, why)
    return best


def best_value(hunt: Search) -> float | None:
    """The best value so far, on all rows where there is one."""
    found = best_so_far([hunt])
    return None if found is None else found[1]


def remember(work: Auto, hunts: list[Search]) -> None:
    """Keep the best so far where it can be used: its folder in ``auto.json``, its settings in ``best.yaml``."""
    found = best_so_far(hunts)
    if found is None:
        return
    path, value = found
    write_best(work, Run.open(path).config)
    work.save(best={"run": str(path), "metric": hunts[0].config.best_by, "validation": value})


def write_best(work: Auto, config: RunConfig) -> None:
    """``best.yaml``: the choices with their reasons as comments over the configuration that repeats them."""
    reasons = [f"# {one['what'][current()]}: {one['why'][current()]}" for one in work.choices]
    again = config.evaluate.model_copy(update={"before": True, "baselines": True, "after": True})
    limit = config.data.model_copy(update={"limit": None})
    settled = config.with_absolute_paths().model_copy(update={"name": None, "evaluate": again, "data": limit, "runs": "runs"})
    storage.write_text(work.folder / BEST, "\n".join(reasons) + "\n" + settled.as_yaml())


def tune_on(work: Auto, hunt: Search, speed: Speed) -> None:
    """Search around the chosen method in the time that is left."""
    for one in diagnose(read_folder(best_path(hunt))):
        work.choose(one.setting, _same(one.message), _same(one.remedy))
    seconds = time_for_training(work, speed)
    fractions = (0.25, 1.0) if work.result["rows"]["train"] >= MANY_ROWS else (1.0,)
    hunt.plan = TunePlan(trials=MOST_TRIALS, minutes=max(1e-6, seconds / 60), fractions=fractions)
    hunt.began = time.monotonic()
    what = both(
        lambda: t(
            f"在 {human_seconds(seconds)} 里搜索 {', '.join(hunt.space)}", f"search {', '.join(hunt.space)} for {human_seconds(seconds)}"
        )
    )
    work.choose("", what, both(lambda: t("剩下的预算，减去最后评测要用的", "what is left of the budget less the final test")))
    for _ in search(hunt):
        remember(work, [hunt])
    tried = len(hunt.study.trials)
    work.choose(
        "",
        both(lambda: t(f"搜索结束：{tried} 组", f"the search ended: {tried} settings")),
        both(lambda: t("时间或次数用完", "time or trials are spent")),
    )


def _same(text: str) -> dict[str, str]:
    """A text that is there in one language only."""
    return {"zh": text, "en": text}


def best_path(hunt: Search) -> Path:
    """The folder of the best run so far."""
    found = best_so_far([hunt])
    assert found is not None  # settle_method has seen to it
    return found[0]


@contextmanager
def usable_when_stopped(work: Auto) -> Iterator[None]:
    """Interrupted, it is said where the best so far is."""
    try:
        yield
    except KeyboardInterrupt:
        if "best" in work.result:
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
