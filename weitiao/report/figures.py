"""The charts of the report, each with its title, legend and a note on what it shows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from weitiao.language import t
from weitiao.report.folder import Json, RunFolder, dig, finite, metric, objects, whole
from weitiao.report.numbers import count, general
from weitiao.report.plots import (
    MAX_POINTS,
    CalibrationBin,
    Point,
    Series,
    Whisker,
    calibration_chart,
    histogram,
    line_chart,
    smooth,
    whisker_chart,
)
from weitiao.report.words import metric_title, split_title, title_of

STEP_FIELDS = frozenset(
    ("type", "step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second", "memory_bytes", "seconds")
)
"""What every step logs; anything else is the objective's own."""
NARROW = 320.0
"""Width of a chart of which three stand side by side."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart on the page. ``legend`` pairs a class of the style sheet with its name."""

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class System:
    """One of the things compared; ``style`` is ``before``, ``after`` or ``baseline``."""

    name: str
    title: str
    style: str
    evaluation: Json


def systems(folder: RunFolder) -> list[System]:
    """The model after training, before it, and the baselines, as far as they were evaluated."""
    found = [
        System("after", t("训练后", "After training"), "after", folder.after),
        System("before", t("训练前", "Before training"), "before", folder.before),
    ]
    for one in objects(folder.baselines.get("baselines")):
        found.append(System(str(one.get("name", "")), title_of(one), "baseline", {"n": folder.baselines.get("n"), **one}))
    return [system for system in found if system.evaluation.get("metrics")]


def comparison_figures(folder: RunFolder) -> list[Figure]:
    """Dots and whiskers of accuracy and macro-F1, one row per system."""
    figures = []
    for name in ("accuracy", "macro_f1"):
        readings = [(system, metric(system.evaluation, name)) for system in systems(folder)]
        whiskers = [Whisker(system.title, system.style, value) for system, value in readings if value is not None]
        title = metric_title(name)
        svg = whisker_chart(title, whiskers, title)
        if svg is not None:
            totals = sorted({value.n for _, value in readings if value is not None and value.n is not None})
            rows = ", ".join(count(n) for n in totals) or "?"
            note = t(f"线段是 95% 区间；n = {rows}。", f"Lines are 95 % intervals; n = {rows}.")
            figures.append(Figure(title[:1].upper() + title[1:], svg, note=note))
    return figures


def _points(lines: Sequence[Json], name: str) -> list[Point]:
    """(step, value) of every line that has the field; a value that is no finite number is NaN."""
    found = []
    for line in lines:
        step, value = finite(line.get("step")), finite(line.get(name))
        if step is not None and name in line:
            found.append((step, math.nan if value is None else value))
    return found


def curve_figures(folder: RunFolder) -> list[Figure]:
    """Loss, validation metrics, what the objective says of each step, learning rate and gradient norm over the steps."""
    best = finite(dig(folder.run, "training", "best_step"))
    figures = [_loss_figure(folder, best), *_validation_figures(folder, best), *_step_figures(folder)]
    figures += [_rate_figure(folder), _gradient_figure(folder)]
    return [figure for figure in figures if figure is not None]


def _loss_figure(folder: RunFolder, best: float | None) -> Figure | None:
    raw, validation = _points(folder.steps, "loss"), _points(folder.validations, "loss")
    span = _span(raw)
    series = [
        Series(t("训练，每步", "training, each step"), "raw", raw),
        Series(t("训练，平滑", "training, smoothed"), "train", smooth(raw, span)),
        Series(t("验证", "validation"), "validation", validation, dots=len(validation) <= 60),
    ]
    series = [one for one in series if one.points]
    unit = t("损失（奈特/训练词元）", "loss (nats per trained token)")
    if folder.task == "preference":
        unit = t("损失（每对）", "loss (per pair)")
    elif folder.run.get("objective") == "grpo":
        unit = t("损失（优势的加权和，看奖励才知好坏）", "loss (weighted advantages; the reward tells how good it is)")
    svg = line_chart(t("损失", "Loss"), series, unit, best_x=best, zero=True)
    if svg is None:
        return None
    notes = [_smoothing_note(span)] if raw else []
    notes.extend(_sampling_notes(raw))
    return Figure(t("损失", "Loss"), svg, tuple((one.style, one.name) for one in series), " ".join(notes))


def _span(points: Sequence[Point]) -> int:
    return max(5, len(points) // 30)


def _smoothing_note(span: int) -> str:
    return t(f"平滑：指数滑动平均，跨度 {span} 步。", f"Smoothed: exponential moving average, span {span} steps.")


def _sampling_notes(points: Sequence[Point]) -> list[str]:
    notes = []
    broken = sum(not math.isfinite(value) for _, value in points)
    if broken:
        notes.append(
            t(
                f"有 {broken} 步的值不是有限数，曲线在那里断开。",
                f"Without a finite value: {broken} of {len(points)}; the line breaks there.",
            )
        )
    if len(points) > MAX_POINTS:
        notes.append(
            t(
                f"共 {count(len(points))} 步，每段只画最小值和最大值，峰值不丢失。",
                f"{count(len(points))} steps: drawn by the smallest and largest value of each bucket, so no peak is lost.",
            )
        )
    return notes


def _validation_figures(folder: RunFolder, best: float | None) -> list[Figure]:
    groups: tuple[tuple[str, ...], ...] = (("bits_per_character",), ("perplexity",))
    if folder.is_scored:
        groups = (("accuracy", "macro_f1"), ("margin",))
    figures = []
    for names in groups:
        styles = ("validation", "second")
        lines = [(metric_title(name), style, _points(folder.validations, name)) for name, style in zip(names, styles, strict=False)]
        series = [Series(title, style, points, dots=len(points) <= 60) for title, style, points in lines if points]
        title = t("验证集：", "Validation: ") + t("与", " and ").join(one.name for one in series)
        svg = line_chart(title, series, ", ".join(one.name for one in series), best_x=best)
        if svg is not None:
            sizes = {whole(line.get("n")) for line in folder.validations} - {None}
            rows = ", ".join(count(n) for n in sorted(n for n in sizes if n is not None)) or "?"
            note = t(f"每次 n = {rows}，没有区间。", f"n = {rows} each time, without interval.")
            figures.append(Figure(title, svg, tuple((one.style, one.name) for one in series), note))
    return figures


def _step_figures(folder: RunFolder) -> list[Figure]:
    """What the objective says of each step beside its loss."""
    figures = []
    for name in dict.fromkeys(name for line in folder.steps for name in line if name not in STEP_FIELDS):
        points = _points(folder.steps, name)
        span, title = _span(points), metric_title(name)
        series = [Series(t("每步", "each step"), "raw", points), Series(t("平滑", "smoothed"), "train", smooth(points, span))]
        svg = line_chart(title, series, title, log=False)
        if svg is not None:
            figures.append(
                Figure(title[:1].upper() + title[1:], svg, tuple((one.style, one.name) for one in series), _smoothing_note(span))
            )
    return figures


def _rate_figure(folder: RunFolder) -> Figure | None:
    points = _points(folder.steps, "learning_rate")
    title = t("学习率", "Learning rate")
    svg = line_chart(title, [Series(title, "train", points)], t("学习率", "learning rate"), zero=True, log=False)
    return None if svg is None else Figure(title, svg, note=" ".join(_sampling_notes(points)))


def _gradient_figure(folder: RunFolder) -> Figure | None:
    points = _points(folder.steps, "grad_norm")
    span, title = _span(points), t("梯度范数", "Gradient norm")
    series = [Series(t("每步", "each step"), "raw", points), Series(t("平滑", "smoothed"), "train", smooth(points, span))]
    svg = line_chart(title, series, t("梯度范数（裁剪前）", "gradient norm (before clipping)"), zero=True)
    if svg is None:
        return None
    legend = tuple((one.style, one.name) for one in series)
    return Figure(title, svg, legend, " ".join([_smoothing_note(span), *_sampling_notes(points)]))


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration chart and the bins that it draws, as figures for a table."""

    figure: Figure
    bins: tuple[CalibrationBin, ...]


def calibration(folder: RunFolder) -> Calibration | None:
    """How far the stated probabilities after training can be believed; None where they were not binned."""
    found = []
    for one in objects(dig(folder.after, "calibration", "bins")):
        confidence, accuracy, n = finite(one.get("confidence")), finite(one.get("accuracy")), whole(one.get("n"))
        if confidence is not None and accuracy is not None and n:
            found.append(CalibrationBin(confidence, accuracy, n))
    title = t("概率可信吗（校准）", "Can the probabilities be believed (calibration)")
    svg = calibration_chart(title, found)
    if svg is None:
        return None
    note = t(
        "点在虚线上：概率与实际相符；在线下：过于自信。点的面积是行数。",
        "On the dashed line: the probability is right; below it: too confident. The area of a dot is its number of rows.",
    )
    return Calibration(Figure(title, svg, note=note), tuple(found))


def length_figures(folder: RunFolder) -> list[Figure]:
    """One histogram of token lengths per split."""
    limit = finite(folder.audit.get("max_tokens"))
    figures = []
    lengths = folder.audit.get("lengths")
    for split, one in lengths.items() if isinstance(lengths, dict) else ():
        edges, counts = _numbers(dig(one, "histogram", "edges")), _numbers(dig(one, "histogram", "counts"))
        title = t(f"{split_title(split)}的长度", f"Lengths, {split_title(split)} split")
        svg = histogram(title, edges, counts, t("每行词元数", "tokens per row"), limit, NARROW)
        if svg is not None:
            named = [(t("中位数", "median"), "p50"), ("p99", "p99"), (t("最长", "longest"), "max")]
            facts = t("，", ", ").join(f"{name} {general(one.get(key))}" for name, key in named)
            note = f"n = {count(one.get('n'))}; {facts}"
            figures.append(Figure(title, svg, note=note))
    return figures


def _numbers(value: object) -> list[float]:
    found = [finite(item) for item in value] if isinstance(value, list) else []
    return [number for number in found if number is not None]
