"""`weitiao compare`: methods side by side on the same test rows, each at its price."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weitiao import storage
from weitiao.config import RunConfig, build_config
from weitiao.decide import members
from weitiao.decide.advice import recommend
from weitiao.decide.members import Member, Outcome, fingerprint
from weitiao.decide.table import Entry, Titles, build_table, opponent_entries, run_entry
from weitiao.demo import METHODS, demo_config
from weitiao.errors import RunError, UsageError, UserError
from weitiao.language import Language, t
from weitiao.progress import Reporter
from weitiao.report.compare_page import build_compare_page
from weitiao.run import Run

RESULT = "compare.json"
LADDER = ("head", "lora", "full")


@dataclass(frozen=True)
class Options:
    """How to compare. ``methods`` and ``ranks`` apply where one configuration is given; ``gpus``: how many runs go side by side."""

    methods: tuple[str, ...] = LADDER
    ranks: tuple[int, ...] = ()
    out: Path | None = None
    quiet: bool = False
    gpus: int = 1
    language: Language | None = None


def ladder(config: RunConfig, methods: Sequence[str], ranks: Sequence[int]) -> list[RunConfig]:
    """The configuration with each method. The learning rate and the settings of a method hold for that method only: the others take their
    defaults. LoRA comes in each of ``ranks`` (none: the configuration's own, or 8), its alpha in the same proportion."""
    found = []
    for kind in methods:
        if kind == "head" and not config.takes_head:
            continue
        own = config.method.kind == kind
        tree = config.model_dump(mode="json")
        tree["method"] = config.method.model_dump(mode="json") if own else {"kind": kind}
        tree["optim"]["learning_rate"] = config.optim.learning_rate if own else None
        found += _ranks(build_config(tree, kind), ranks if kind == "lora" else ())
    return found


def _ranks(config: RunConfig, ranks: Sequence[int]) -> list[RunConfig]:
    if config.method.kind != "lora" or not ranks:
        return [config]
    share = config.method.alpha / config.method.rank
    return [config.model_copy(update={"method": config.method.model_copy(update={"rank": r, "alpha": share * r})}) for r in ranks]


def title_of(config: RunConfig) -> Titles:
    """What a run is called in the table."""
    if config.method.kind == "lora":
        rank = config.method.rank
        return {"zh": f"LoRA，秩 {rank}", "en": f"LoRA, rank {rank}"}
    return {"full": {"zh": "全参数", "en": "full"}, "head": {"zh": "只训练头", "en": "head"}}[config.method.kind]


def configs_of(given: Sequence[RunConfig], options: Options) -> list[RunConfig]:
    """What to run: one configuration with every method, several as they are; none: the demo's."""
    unknown = set(options.methods) - set(LADDER)
    if unknown or not options.methods:
        cause = t(f"不认识 {', '.join(sorted(unknown))!r}", f"unknown: {', '.join(sorted(unknown))!r}")
        raise UsageError("--methods", cause, "head,lora,full")
    if len(given) == 1:
        return ladder(given[0], options.methods, options.ranks)
    return [one for config in given for one in _ranks(config, options.ranks)]


def demo_configs(overrides: Sequence[str]) -> list[RunConfig]:
    """The demo's configurations, one for each method."""
    return [demo_config(method, overrides) for method in reversed(METHODS)]


def compare_configs(given: Sequence[RunConfig], options: Options) -> dict[str, Any]:
    """Judge the opponents, make every run, measure what each forgot, and write ``compare.json`` and ``report.html``; returns the former.

    What is there already is used again. A run that fails stays in the table with its reason. Raises UserError where the input is wrong,
    RunError where no run came about.
    """
    reporter = Reporter(options.quiet)
    configs = configs_of(given, options)
    first = given[0].with_absolute_paths()
    folder = options.out or Path(first.runs) / f"compare-{fingerprint(first)}"
    runs = [_member(config, folder) for config in configs]
    opponents = _opponents(configs[0], folder, options)
    for i, one in enumerate(runs, start=1):
        done = t("（已有，不重跑）", " (there already)") if one.run is not None else ""
        reporter.say(f"[{i}/{len(runs)}] {one.title}{done}")
    outcomes = members.train_all(runs, options.quiet, options.gpus)
    failed = _failures(runs, outcomes)
    finished = [one for one in runs if one.run is not None]
    for one in finished:
        if not (one.path / "evaluation" / "probe.json").is_file():
            members.call("probe", str(one.path), *_quiet(options))
    entries = [*opponent_entries(*opponents), *(run_entry(Run.open(one.path), one.role["titles"]) for one in finished)]
    return _write(folder, entries, first.seed, options, failed)


def _member(config: RunConfig, folder: Path) -> Member:
    judged_elsewhere = config.evaluate.model_copy(update={"before": False, "baselines": False})
    titles = title_of(config)
    label = f"{config.method.kind}-r{config.method.rank}" if config.method.kind == "lora" else config.method.kind
    return members.member(
        config.model_copy(update={"evaluate": judged_elsewhere}), folder, label, t(titles["zh"], titles["en"]), titles=titles
    )


def _quiet(options: Options) -> list[str]:
    return ["-q"] if options.quiet else []


def _opponents(config: RunConfig, folder: Path, options: Options) -> tuple[Path, dict[str, Any]]:
    """The opponents' scores, made once for the same settings of data, task and model."""
    plain = config.model_copy(update={"method": RunConfig().method, "optim": RunConfig().optim, "train": RunConfig().train})
    out = folder / f"opponents-{fingerprint(plain)}"
    if not (out / "opponents.json").is_file():
        path = folder / "configs" / f"{out.name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write_text(path, plain.with_absolute_paths().as_yaml())
        members.call("baselines", str(path), "--out", str(out), *_quiet(options))
    result: dict[str, Any] = json.loads((out / "opponents.json").read_text(encoding="utf-8"))
    return out, result


def _failures(runs: Sequence[Member], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    failed = [{"title": one.role["titles"], "reason": outcome.message} for one, outcome in zip(runs, outcomes, strict=True) if outcome.code]
    if len(failed) == len(runs):
        wrong_input = any(outcome.code == UserError.exit_code for outcome in outcomes)
        if wrong_input:
            error = outcomes[0].value.get("error", {})
            raise UserError(str(error.get("where", "compare")), str(error.get("cause", outcomes[0].message)), str(error.get("remedy", "")))
        raise RunError(t("没有一次运行成功：", "no run came about: ") + "; ".join(one["reason"] for one in failed))
    return failed


def compare_runs(paths: Sequence[Path], options: Options) -> dict[str, Any]:
    """Existing runs side by side, with what each was judged beside. Raises DataError where their test rows differ."""
    runs = [Run.open(path) for path in paths]
    name = hashlib.sha256("\n".join(sorted(str(run.record["id"]) for run in runs)).encode()).hexdigest()[:8]
    folder = options.out or runs[0].path.absolute().parent / f"compare-{name}"
    entries = [run_entry(run) for run in runs]
    table = build_table(entries, int(runs[0].record["seed"]))  # refuses before anything is made
    assert table["rows"]
    folder.mkdir(parents=True, exist_ok=True)
    return _write(folder, entries, int(runs[0].record["seed"]), options, [])


def _write(folder: Path, entries: Sequence[Entry], seed: int, options: Options, failed: list[dict[str, Any]]) -> dict[str, Any]:
    table = build_table(entries, seed)
    table |= {"folder": str(folder), "report": str(folder / "report.html"), "failed": failed, "recommendation": recommend(table)}
    storage.write_json(folder / RESULT, table)
    build_compare_page(folder, options.language)
    return table


def read_table(folder: Path) -> Mapping[str, Any]:
    """The table of a former comparison."""
    table: Mapping[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return table
