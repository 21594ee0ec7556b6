"""Charts for choosing: quality against price, and quality against the number of labelled rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from weitiao.report.axes import Axis, coordinate, drawing, frame, linear_axis, log_axis, tag
from weitiao.report.folder import Reading
from weitiao.report.numbers import estimate
from weitiao.report.plots import WIDTH, shape

WIDE = 640.0
"""Width of a chart that has a column to itself on a wide page."""
_LINE = 15.0


@dataclass(frozen=True, slots=True)
class Priced:
    """One thing to choose: its price (positive), its quality, and whether nothing is both better and cheaper."""

    name: str
    style: str
    price: float
    quality: Reading
    on_front: bool


def price_chart(title: str, points: Sequence[Priced], x_title: str, y_title: str) -> Markup | None:
    """Quality with its interval over price on a logarithmic axis; the front of what nothing else beats is a line. None without points."""
    if not points:
        return None
    ends = [end for one in points for end in (one.quality.low, one.quality.value, one.quality.high) if end is not None]
    y = linear_axis(ends, 330, 34)
    x = log_axis([one.price for one in points], 16 + 6.6 * max(len(label) for label in y.labels), WIDTH - 24)
    parts = [frame(x, y, x_title, y_title)]
    front = sorted((one for one in points if one.on_front), key=lambda one: one.price)
    if len(front) > 1:
        path = "".join(f"{'L' if i else 'M'}{coordinate(x(one.price))} {coordinate(y(one.quality.value))}" for i, one in enumerate(front))
        parts.append(tag("path", d=path, class_="line validation"))
    for one in points:
        at = x(one.price)
        if one.quality.low is not None and one.quality.high is not None:
            parts.append(tag("line", x1=at, x2=at, y1=y(one.quality.low), y2=y(one.quality.high), class_=f"whisker {one.style}"))
        parts.append(tag("g", tag("title", f"{one.name}: {estimate(one.quality)}") + shape(at, y(one.quality.value), one.style)))
    parts.extend(_names(points, x, y))
    return drawing(title, WIDTH, 372, parts)


def _names(points: Sequence[Priced], x: Axis, y: Axis) -> list[Markup]:
    """The points' names beside them, moved down where they would lie on one another."""
    taken: list[tuple[float, float, float]] = []
    parts = []
    for one in sorted(points, key=lambda one: y(one.quality.value)):
        at, height = x(one.price), y(one.quality.value) - 6
        length = sum(12.5 if ord(letter) > 0x2E80 else 6.8 for letter in one.name)
        is_left = at + 10 + length > WIDTH
        start = at - 10 - length if is_left else at + 10
        while any(abs(height - other) < _LINE and start < right and left < start + length for left, right, other in taken):
            height += _LINE
        taken.append((start, start + length, height))
        parts.append(
            tag("text", one.name, x=at - 10 if is_left else at + 10, y=height, text_anchor="end" if is_left else None, class_="name")
        )
    return parts


@dataclass(frozen=True, slots=True)
class Curve:
    """Quality at each of some numbers of rows; ``style`` is its class in the style sheet."""

    name: str
    style: str
    points: Sequence[tuple[int, Reading]]


def rows_chart(title: str, curves: Sequence[Curve], x_title: str, y_title: str) -> Markup | None:
    """Quality with its interval over the number of labelled rows on a logarithmic axis. None without points."""
    values = [value for curve in curves for _, value in curve.points]
    if not values:
        return None
    y = linear_axis([end for one in values for end in (one.low, one.value, one.high) if end is not None], 300, 34)
    margin = 16 + 6.6 * max(len(label) for label in y.labels)
    x = log_axis([rows for curve in curves for rows, _ in curve.points], margin, WIDTH - 24)
    parts = [frame(x, y, x_title, y_title)]
    for number, curve in enumerate(curves):
        aside = 3.0 * (number - (len(curves) - 1) / 2)  # so that intervals at one number of rows do not hide each other
        places = [(x(rows) + aside, one) for rows, one in curve.points]
        path = "".join(f"{'L' if i else 'M'}{coordinate(at)} {coordinate(y(one.value))}" for i, (at, one) in enumerate(places))
        parts.append(tag("path", d=path, class_=f"line {curve.style}"))
        for at, one in places:
            if one.low is not None and one.high is not None:
                parts.append(tag("line", x1=at, x2=at, y1=y(one.low), y2=y(one.high), class_=f"line {curve.style}"))
            parts.append(
                tag("circle", tag("title", f"{curve.name}: {estimate(one)}"), cx=at, cy=y(one.value), r=3.5, class_=f"dot {curve.style}")
            )
    return drawing(title, WIDTH, 342, parts)
