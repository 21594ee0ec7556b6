"""`weitiao compare --curve`: the score against the number of labelled rows, per method and for the simple baseline, and what more labels
would bring.

The splits stay the same; the training rows of each size are drawn anew with each seed. Intervals are a bootstrap over seeds and test rows
together. Runs on few rows are given more epochs, so that each takes at least MIN_STEPS optimiser steps. The best step by the validation
rows is kept, as always: they are labelled rows that every size has besides.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weitiao import storage
from weitiao.config import RunConfig
from weitiao.data.examples import load_dataset
from weitiao.decide import members
from weitiao.decide.advice import in_both
from weitiao.decide.compare import Options, configs_of, title_of
from weitiao.decide.members import fingerprint
from weitiao.decide.table import outcomes
from weitiao.errors import ConfigError
from weitiao.hub.resolve import localise_data
from weitiao.language import t
from weitiao.progress import Reporter
from weitiao.records import SPLITS
from weitiao.report.curve_page import build_curve_page
from weitiao.report.numbers import decimal, signed
from weitiao.run import Run

RESULT = "curve.json"
MIN_STEPS = 60
BASELINE = "tfidf_logistic_regression"
RESAMPLES = 2000
WORTH = 0.01
"""More labels are called worth collecting where doubling them is shown to bring more than this."""


@dataclass(frozen=True)
class Scores:
    """One method at one size: whether each test row was right, [seeds, rows], rows in the same order everywhere."""

    rows: int
    right: np.ndarray


def learning_curve(config: RunConfig, options: Options, sizes: Sequence[int], seeds: int) -> dict[str, Any]:
    """Make every run of the curve, write ``curve.json`` and ``report.html`` and return the former. What is there already is used again.
    Raises ConfigError for a task without labels."""
    if config.task.kind != "classification":
        cause = t(f"task.kind 是 {config.task.kind}", f"task.kind is {config.task.kind}")
        raise ConfigError("--curve", cause, t("学习曲线用于 classification 任务", "the curve is for the classification task"))
    reporter = Reporter(options.quiet)
    folder = options.out or Path(config.with_absolute_paths().runs) / f"curve-{fingerprint(config)}"
    fixed, available = fix_splits(config, folder, reporter)
    steps = [*sorted({size for size in sizes if size < available}), available]
    reporter.say(t(f"训练行数：{steps}，每种 {seeds} 个种子", f"training rows: {steps}, {seeds} seeds each"))
    curves: list[dict[str, Any]] = []
    scores: dict[str, list[Scores]] = {}
    for one in [None, *configs_of([fixed], options)]:
        title = {"zh": "TF-IDF + 逻辑回归", "en": "TF-IDF + logistic regression"} if one is None else title_of(one)
        name = title["en"]
        for size in steps:
            runs = [_right(one or fixed, folder, size, available, seed, one is None, options.quiet) for seed in range(seeds)]
            scores.setdefault(name, []).append(Scores(size, np.stack(runs)))
            reporter.say(f"{t(title['zh'], title['en'])}  {size}: {np.mean([run.mean() for run in runs]):.3f}")
        points = [{"rows": s.rows, **interval(s.right[None], lambda x: float(x[0].mean()))} for s in scores[name]]
        curves.append({"name": name, "title": title, "is_baseline": one is None, "points": points, "doubling": doubling(scores[name])})
    result = {
        "schema": 1,
        "folder": str(folder),
        "report": str(folder / "report.html"),
        "seeds": seeds,
        "metric": "accuracy",
        "curves": curves,
    }
    result["n"] = int(next(iter(scores.values()))[0].right.shape[1])
    zh, en = in_both(lambda: [*(more_labels(one) for one in curves), crossing(curves)])
    result["sentences"] = [{"zh": a, "en": b} for a, b in zip(zh, en, strict=True)]
    storage.write_json(folder / RESULT, result)
    build_curve_page(folder, options.language)
    return result


def fix_splits(config: RunConfig, folder: Path, reporter: Reporter) -> tuple[RunConfig, int]:
    """The configuration with its splits as files of their own, so that another seed draws other training rows and never other test rows."""
    dataset = load_dataset(localise_data(config, reporter).config)
    available = len(dataset.splits["train"])
    if config.data.train == "builtin":
        return config, available
    files: dict[str, Any] = {}
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        path = folder / "data" / f"{split}.jsonl"
        rows = [{"text": one.document, "label": one.targets[0], "candidates": list(one.candidates)} for one in dataset.splits[split]]
        kept = [row if row["candidates"] else {key: row[key] for key in ("text", "label")} for row in rows]
        storage.write_json_lines(path, iter(kept))
        files[split] = str(path.absolute()) if kept else None
    assert dataset.task is not None  # classification
    shares = {"validation_share": 0.0 if files["validation"] else config.data.validation_share, "test_share": 0.0}
    columns = {"columns": type(config.data.columns)(), "limit": None}
    data = config.data.model_copy(update={**files, **shares, **columns})
    task = config.task.model_copy(update={"labels": dataset.task.labels})
    return config.model_copy(update={"data": data, "task": task}), available


def _right(config: RunConfig, folder: Path, size: int, available: int, seed: int, simple: bool, quiet: bool) -> np.ndarray:
    """Whether each test row is right after training on ``size`` rows drawn by ``seed``."""
    kept = config.evaluate.model_copy(update={"before": False, "baselines": False})
    epochs = max(config.train.epochs, MIN_STEPS * config.train.batch_rows / size)
    train = config.train.model_copy(update={"epochs": epochs, "validate_every": epochs / 6})
    data = config.data.model_copy(update={"limit": size if size < available else None})
    one = members.member(
        config.model_copy(update={"evaluate": kept, "train": train, "data": data, "seed": seed}), folder, f"rows{size}-seed{seed}", ""
    )
    if simple:
        return _simple(one.config, folder, quiet)
    if one.run is None:
        outcome = members.train(one, True)
        if outcome.code:
            raise ConfigError("--curve", outcome.message, t("按上面说的改", "do as said above"))
    run = Run.open(one.path)
    files = {entry["path"]: entry["sha256"] for entry in run.read("data/ledger.json")["files"]}
    return _ordered(outcomes(run.read_lines("evaluation/predictions-after.jsonl"), files))


def _simple(config: RunConfig, folder: Path, quiet: bool) -> np.ndarray:
    out = folder / "baselines" / str(config.name)
    if not (out / "opponents.json").is_file():
        path = folder / "configs" / f"{config.name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write_text(path, config.as_yaml())
        members.call("baselines", str(path), "--simple", "--out", str(out), *(["-q"] if quiet else []))
    files = json.loads((out / "opponents.json").read_text(encoding="utf-8"))["files"]
    lines = (out / f"predictions-{BASELINE}.jsonl").read_text(encoding="utf-8").splitlines()
    return _ordered(outcomes([json.loads(line) for line in lines], files))


def _ordered(judged: Mapping[str, Any]) -> np.ndarray:
    return np.array([judged[key] for key in sorted(judged)], dtype=bool)


def interval(right: np.ndarray, statistic: Any) -> dict[str, Any]:
    """A statistic of ``right`` [sizes, seeds, rows] with its 95 % interval: seeds and test rows are drawn again, the same for all sizes."""
    draw = np.random.default_rng(0)
    _, seeds, rows = right.shape
    values = []
    for _ in range(RESAMPLES):
        chosen = right[:, draw.integers(seeds, size=seeds)][:, :, draw.integers(rows, size=rows)]
        values.append(statistic(chosen))
    low, high = np.percentile(values, [2.5, 97.5])
    value = statistic(right)
    return {"value": value, "low": float(min(low, value)), "high": float(max(high, value)), "n": rows}


def doubling(scores: Sequence[Scores]) -> dict[str, Any] | None:
    """What doubling the labelled rows brought between the last two sizes; None with one size only."""
    if len(scores) < 2:
        return None
    before, last = scores[-2], scores[-1]
    doublings = math.log2(last.rows / before.rows)
    pair = np.stack([before.right, last.right])
    return interval(pair, lambda x: float((x[1].mean() - x[0].mean()) / doublings)) | {"from": before.rows, "to": last.rows}


def more_labels(curve: Mapping[str, Any]) -> str:
    """Whether more labels are worth collecting for one method, in words."""
    title, gain = t(curve["title"]["zh"], curve["title"]["en"]), curve["doubling"]
    if gain is None:
        return t(f"{title}：只有一种行数，看不出趋势。", f"{title}: one size only, no trend can be seen.")
    shown = f"{signed(gain['value'])} [{signed(gain['low'])}, {signed(gain['high'])}]"
    if gain["low"] > WORTH:
        verdict = t(
            f"再收集 {gain['to']} 条（翻一倍）大致值得，收益会逐渐变小",
            f"another {gain['to']} labels (twice as many) look worth collecting, though each doubling brings less",
        )
    elif gain["high"] < WORTH:
        verdict = t("再收集不值得：翻一倍带来的不到一个百分点", "more are not worth it: doubling brings less than one point")
    else:
        verdict = t("看不出再收集值不值得", "whether more are worth it cannot be told")
    return t(
        f"{title}：从 {gain['from']} 到 {gain['to']} 条，行数每翻一倍准确率 {shown}；{verdict}。",
        f"{title}: from {gain['from']} to {gain['to']} rows each doubling brought {shown} accuracy; {verdict}.",
    )


def crossing(curves: Sequence[Mapping[str, Any]]) -> str:
    """Whether fine-tuning needs fewer labels than the simple method on these data."""
    simple = next(one for one in curves if one["is_baseline"])
    top = simple["points"][-1]
    words = []
    for curve in curves:
        if curve["is_baseline"]:
            continue
        title = t(curve["title"]["zh"], curve["title"]["en"])
        reached = next((point["rows"] for point in curve["points"] if point["value"] >= top["value"]), None)
        if reached is None:
            words.append(
                t(
                    f"{title}在这些行数上没有达到 TF-IDF 用全部 {top['rows']} 条的 {decimal(top['value'])}",
                    f"{title} does not reach what TF-IDF does with all {top['rows']} rows, {decimal(top['value'])}",
                )
            )
        else:
            words.append(
                t(
                    f"{title}用 {reached} 条达到 TF-IDF 用 {top['rows']} 条的水平（点估计）",
                    f"{title} reaches with {reached} rows what TF-IDF does with {top['rows']} (by point estimates)",
                )
            )
    return t("；", "; ").join(words) + t("。", ".")
