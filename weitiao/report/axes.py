"""Axes: round tick values, their labels, and the map from data to the coordinates of an SVG drawing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from weitiao.report.numbers import superscript


def tag(name: str, content: str = "", /, **attributes: str | float | None) -> Markup:
    """One SVG element. ``content`` is escaped unless it is Markup. An attribute ``class_`` is written ``class``, ``_`` as ``-``;
    one that is None is left out."""
    written = "".join(f' {_attribute(key)}="{_value(value)}"' for key, value in attributes.items() if value is not None)
    inner = escape(content)
    return Markup(f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>")


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: str | float) -> str:
    return coordinate(value) if isinstance(value, int | float) else str(escape(value))


def coordinate(value: float) -> str:
    """A coordinate with one decimal, as short as possible."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def nice_ticks(low: float, high: float, target: int = 5) -> list[float]:
    """About ``target`` ticks at multiples of 1, 2, 2.5 or 5 times a power of ten that enclose [low, high]."""
    if high - low <= 1e-6 * max(abs(low), abs(high)):  # no wider than rounding: ticks that far apart could not be told from each other
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, low + margin
    raw = (high - low) / max(1, target - 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks at powers of ten that enclose [low, high] (both positive); at 1, 2 and 5 times them over less than two decades."""
    factors = (1, 2, 5) if math.log10(high / low) < 2 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [factor * 10.0**exponent for exponent in range(first, last + 1) for factor in factors]
    start = max((index for index, tick in enumerate(ticks) if tick <= low * 1.000001), default=0)
    end = min((index for index, tick in enumerate(ticks) if tick >= high * 0.999999), default=len(ticks) - 1)
    enclosing = ticks[start : end + 1]
    stride = math.ceil(len(enclosing) / 7)
    return enclosing[::stride] if (len(enclosing) - 1) % stride == 0 else [*enclosing[::stride], enclosing[-1]]


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps [ticks[0], ticks[-1]] to the coordinates [start, end]. ``exponent`` is the power of ten taken out of the labels."""

    ticks: tuple[float, ...]
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        part = math.log(value / low) / math.log(high / low) if self.is_log else (value - low) / (high - low)
        return self.start + part * (self.end - self.start)

    @property
    def exponent(self) -> int:
        largest = max(abs(tick) for tick in self.ticks)
        if self.is_log or largest == 0 or 1e-2 <= largest < 1e6:
            return 0
        return math.floor(math.log10(largest) + 1e-9)

    @property
    def unit(self) -> str:
        """What to add to the axis title: the power of ten taken out of the labels."""
        return f" (×10{superscript(self.exponent)})" if self.exponent else ""

    @property
    def labels(self) -> tuple[str, ...]:
        if self.is_log:
            return tuple(f"{tick:,.6g}" if 1e-3 <= tick < 1e6 else _power(tick) for tick in self.ticks)
        scaled = [tick / 10.0**self.exponent for tick in self.ticks]
        step = min((after - before for before, after in pairwise(scaled)), default=1.0)
        digits = next((digits for digits in range(8) if abs(step - round(step, digits)) < step * 1e-6), 8)
        return tuple(f"{0.0 if abs(value) < step * 1e-6 else value:,.{digits}f}".replace("-", "−") for value in scaled)


def _power(value: float) -> str:
    mantissa, exponent = f"{value:.0e}".split("e")
    power = f"10{superscript(int(exponent))}"
    return power if mantissa == "1" else f"{mantissa}×{power}"


def linear_axis(values: Sequence[float], start: float, end: float, *, zero: bool = False, target: int = 5) -> Axis:
    """An axis with round ends that encloses ``values`` (and zero, if asked)."""
    points = [*values, 0.0] if zero else list(values)
    return Axis(tuple(nice_ticks(min(points), max(points), target)), start, end)


def log_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """A logarithmic axis that encloses the positive ``values``."""
    low, high = min(values), max(values)
    return Axis(tuple(log_ticks(low, high if high > low else low * 2)), start, end, is_log=True)


def frame(x: Axis, y: Axis, x_title: str, y_title: str) -> Markup:
    """Grid lines, tick labels and axis titles; the y title stands above the axis, so that it is read without turning the head."""
    left, right, bottom, top = x.start, x.end, y.start, y.end
    parts = [tag("text", y_title + y.unit, x=left, y=top - 12, class_="axis")]
    for tick, label in zip(y.ticks, y.labels, strict=True):
        parts.append(tag("line", x1=left, x2=right, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(tag("text", label, x=left - 7, y=y(tick) + 4, text_anchor="end", class_="tick"))
    for tick, label in zip(x.ticks, x.labels, strict=True):
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=bottom, y2=bottom + 4, class_="mark"))
        parts.append(tag("text", label, x=x(tick), y=bottom + 17, text_anchor="middle", class_="tick"))
    parts.append(tag("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="base"))
    parts.append(tag("text", x_title + x.unit, x=(left + right) / 2, y=bottom + 35, text_anchor="middle", class_="axis"))
    return Markup("").join(parts)


def drawing(title: str, width: float, height: float, parts: Sequence[Markup]) -> Markup:
    """One SVG drawing that scales with its column and has ``title`` for screen readers."""
    content = Markup("\n").join(parts)
    return tag("svg", content, viewBox=f"0 0 {coordinate(width)} {coordinate(height)}", role="img", aria_label=title, class_="chart")
