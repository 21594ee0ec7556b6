"""Charts as inline SVG, written by hand from plain numbers.

Colours come from the page's style sheet by class, so the charts follow light and dark.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from weitiao.language import t
from weitiao.report.axes import Axis, coordinate, drawing, frame, linear_axis, log_axis, tag
from weitiao.report.folder import Reading
from weitiao.report.numbers import decimal, estimate

WIDTH = 440.0
"""Width of a chart in its own units; text of 12 units stays legible when a phone scales this to 350 pixels."""

MAX_POINTS = 2000
"""A line with more points is drawn by the smallest and largest value of each bucket."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line: ``style`` is its class in the style sheet; a y that is not finite breaks the line. ``dots`` marks each point."""

    name: str
    style: str
    points: Sequence[Point]
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Whisker:
    """One estimate to draw; ``style`` is ``before``, ``after`` or ``baseline``."""

    name: str
    style: str
    estimate: Reading


def downsample(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """At most ``limit`` points: of each bucket the smallest and the largest y, in their order. No peak is lost."""
    if len(points) <= limit:
        return list(points)
    buckets = limit // 2
    kept: list[Point] = []
    for index in range(buckets):
        bucket = range(index * len(points) // buckets, (index + 1) * len(points) // buckets)
        finite = [at for at in bucket if math.isfinite(points[at][1])]
        chosen = {min(finite, key=lambda at: points[at][1]), max(finite, key=lambda at: points[at][1])} if finite else {bucket[0]}
        kept.extend(points[at] for at in sorted(chosen))
    return kept


def smooth(points: Sequence[Point], span: int) -> list[Point]:
    """Exponential moving average with weight 2/(span+1) and bias correction; values that are not finite are passed over."""
    decay, average, weight = 1 - 2 / (span + 1), 0.0, 0.0
    smoothed: list[Point] = []
    for x, y in points:
        if math.isfinite(y):
            average, weight = decay * average + (1 - decay) * y, decay * weight + (1 - decay)
            smoothed.append((x, average / weight))
    return smoothed


def wants_log(values: Sequence[float]) -> bool:
    """Whether positive values spread over so many sizes that a linear axis would hide most of them."""
    ordered = sorted(values)
    return bool(ordered) and ordered[0] > 0 and ordered[int(0.95 * (len(ordered) - 1))] / ordered[int(0.05 * len(ordered))] > 50


def line_chart(
    title: str, series: Sequence[Series], y_title: str, *, best_x: float | None = None, zero: bool = False, log: bool | None = None
) -> Markup | None:
    """Lines over optimiser steps, with the best step marked. None where there is nothing to draw. ``log`` None: as the values want it."""
    drawn = [Series(one.name, one.style, downsample(one.points), one.dots) for one in series]
    xs = [x for one in drawn for x, _ in one.points]
    ys = [y for one in drawn for _, y in one.points if math.isfinite(y)]
    if not ys:
        return None
    is_log = wants_log(ys) if log is None else log
    y_axis = log_axis(ys, 210, 34) if is_log else linear_axis(ys, 210, 34, zero=zero)
    margin = 14 + 6.6 * max(len(label) for label in y_axis.labels)
    x_axis = linear_axis([*xs, 0.0] if max(xs) > 0 else [0.0, 1.0], margin, WIDTH - 16)
    parts = [frame(x_axis, y_axis, t("训练步", "training step"), y_title + (t("（对数轴）", " (log scale)") if is_log else ""))]
    if best_x is not None and x_axis.ticks[0] <= best_x <= x_axis.ticks[-1]:
        parts.append(_vertical(x_axis(best_x), 34, 210, t(f"最好：第 {best_x:,.0f} 步", f"best: step {best_x:,.0f}"), "best"))
    parts.extend(_line(one, x_axis, y_axis) for one in drawn)
    return drawing(title, WIDTH, 250, parts)


def _line(series: Series, x: Axis, y: Axis) -> Markup:
    commands, pen = [], "M"
    for at, value in series.points:
        if not math.isfinite(value):
            pen = "M"
            continue
        commands.append(f"{pen}{coordinate(x(at))} {coordinate(y(value))}")
        pen = "L"
    parts = [tag("path", d="".join(commands), class_=f"line {series.style}")]
    if series.dots:
        shown = [point for point in series.points if math.isfinite(point[1])]
        parts.extend(_dot(x(at), y(value), f"{series.name} {at:,.0f}: {decimal(value, 4)}", series.style) for at, value in shown)
    return Markup("").join(parts)


def _dot(x: float, y: float, label: str, style: str, radius: float = 3) -> Markup:
    return tag("circle", tag("title", label), cx=x, cy=y, r=radius, class_=f"dot {style}")


def _vertical(x: float, top: float, bottom: float, label: str, style: str, width: float = WIDTH) -> Markup:
    """A vertical line with its label on the side where there is room."""
    is_left = x > width * 0.6
    words = tag("text", label, x=x - 5 if is_left else x + 5, y=top + 10, text_anchor="end" if is_left else None, class_=f"note {style}")
    return tag("line", x1=x, x2=x, y1=top, y2=bottom, class_=f"limit {style}") + words


def whisker_chart(title: str, whiskers: Sequence[Whisker], x_title: str) -> Markup | None:
    """One row per estimate: a mark at its value, a line over its 95 % interval, both in figures above. None without estimates."""
    if not whiskers:
        return None
    row, top = 46.0, 14.0
    bottom = top + row * len(whiskers)
    bounds = [bound for one in whiskers for bound in (one.estimate.value, one.estimate.low, one.estimate.high) if bound is not None]
    x = linear_axis(bounds, 12, WIDTH - 16)
    parts = []
    for tick, label in zip(x.ticks, x.labels, strict=True):
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=top - 6, y2=bottom, class_="grid"))
        parts.append(tag("text", label, x=x(tick), y=bottom + 17, text_anchor="middle", class_="tick"))
    parts.append(tag("line", x1=x.start, x2=x.end, y1=bottom, y2=bottom, class_="base"))
    parts.append(tag("text", x_title, x=(x.start + x.end) / 2, y=bottom + 35, text_anchor="middle", class_="axis"))
    for index, one in enumerate(whiskers):
        parts.append(_whisker(one, x, top + row * index))
    return drawing(title, WIDTH, bottom + 42, parts)


def _whisker(whisker: Whisker, x: Axis, top: float) -> Markup:
    value, y = whisker.estimate, top + 25
    parts = [
        tag("text", whisker.name, x=x.start, y=top + 9, class_="name"),
        tag("text", estimate(value), x=x.end, y=top + 9, text_anchor="end", class_="value"),
    ]
    if value.low is not None and value.high is not None:
        low, high = x(value.low), x(value.high)
        parts.append(tag("line", x1=low, x2=high, y1=y, y2=y, class_=f"whisker {whisker.style}"))
        parts.extend(tag("line", x1=end, x2=end, y1=y - 4, y2=y + 4, class_=f"whisker {whisker.style}") for end in (low, high))
    parts.append(shape(x(value.value), y, whisker.style))
    return Markup("").join(parts)


def shape(x: float, y: float, style: str) -> Markup:
    """The mark also differs by shape, so that it is told apart without colour."""
    if style == "baseline":
        return tag("path", d=f"M{coordinate(x)} {coordinate(y - 6)}l6 6l-6 6l-6 -6z", class_=f"shape {style}")
    return tag("circle", cx=x, cy=y, r=5.5, class_=f"shape {style}")


def histogram(
    title: str, edges: Sequence[float], counts: Sequence[float], x_title: str, limit: float | None = None, width: float = WIDTH
) -> Markup | None:
    """Row counts per bin, with the limit drawn where it lies near the data. None unless there is one edge more than counts."""
    if not counts or len(edges) != len(counts) + 1 or not edges[-1] > edges[0]:
        return None
    is_near = limit is not None and limit <= edges[-1] + 0.5 * (edges[-1] - edges[0])
    y = linear_axis(list(counts), 210, 34, zero=True)
    margin = 14 + 6.6 * max(len(label) for label in y.labels)
    ends = [edges[0], edges[-1], limit] if limit is not None and is_near else [edges[0], edges[-1]]
    x = linear_axis(ends, margin, width - 16, target=5 if width > 400 else 4)
    parts = [frame(x, y, x_title, t("行数", "rows"))]
    for low, high, number in zip(edges, edges[1:], counts, strict=False):
        label = tag("title", f"{low:,.0f}–{high:,.0f}: {number:,.0f}")
        across = max(0.5, x(high) - x(low) - 1)
        parts.append(tag("rect", label, x=x(low) + 0.5, y=y(number), width=across, height=y.start - y(number), class_="bar after"))
    if limit is not None:
        words = t(f"上限 {limit:,.0f}", f"limit {limit:,.0f}")
        away = t(f"{words}，在图右侧之外 →", f"{words}, off to the right →")
        note = tag("text", away, x=width - 16, y=22, text_anchor="end", class_="note limit")
        parts.append(_vertical(x(limit), 34, 210, words, "limit", width) if is_near else note)
    return drawing(title, width, 250, parts)


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Rows whose probability fell into one bin: their mean probability, the share that was right, and how many they are."""

    confidence: float
    accuracy: float
    n: int


def calibration_chart(title: str, bins: Sequence[CalibrationBin]) -> Markup | None:
    """Stated probability against the share that was right; the area of a dot is its number of rows. None without rows."""
    filled = [one for one in bins if one.n > 0]
    if not filled:
        return None
    unit = Axis((0.0, 0.2, 0.4, 0.6, 0.8, 1.0), 42, WIDTH - 16)
    y = Axis(unit.ticks, 300, 34)
    parts = [
        frame(
            unit,
            y,
            t("模型给出的概率（每组平均）", "stated probability (mean of the bin)"),
            t("实际正确的比例", "share that was right"),
        )
    ]
    parts.append(tag("line", x1=unit(0), y1=y(0), x2=unit(1), y2=y(1), class_="ideal"))
    largest = max(one.n for one in filled)
    for one in filled:
        at, height = unit(one.confidence), y(one.accuracy)
        parts.append(tag("line", x1=at, x2=at, y1=y(one.confidence), y2=height, class_="gap"))
        label = f"{decimal(one.confidence)} → {decimal(one.accuracy)} (n = {one.n:,})"
        parts.append(_dot(at, height, label, "after bubble", 3 + 9 * math.sqrt(one.n / largest)))
    return drawing(title, WIDTH, 340, parts)


def bar(part: float, mark: float | None = None, style: str = "after") -> Markup:
    """A small bar for a table cell: ``part`` of its full length (0 to 1), with a second value as a tick."""
    parts = [tag("rect", x=0, y=3, width=100, height=8, class_="track")]
    parts.append(tag("rect", x=0, y=3, width=100 * min(1.0, max(0.0, part)), height=8, class_=f"bar {style}"))
    if mark is not None:
        at = 100 * min(1.0, max(0.0, mark))
        parts.append(tag("line", x1=at, x2=at, y1=0, y2=14, class_="before-tick"))
    content = Markup("").join(parts)
    return tag("svg", content, viewBox="0 0 100 14", preserveAspectRatio="none", class_="minibar", aria_hidden="true")
