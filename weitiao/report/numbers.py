"""How numbers are shown: true minus signs, thousands separators, units, and never an estimate without its interval or n."""

from typing import Any

from weitiao.language import t
from weitiao.report.folder import Reading, finite

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def absent() -> str:
    """What stands where the folder holds no number."""
    return t("未记录", "not recorded")


def decimal(value: float, digits: int = 3) -> str:
    """A decimal number with a true minus sign; zero has no sign."""
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """A difference: its sign is always shown, except for zero."""
    text = decimal(value, digits)
    return text if text.startswith("−") or not text.strip("0.,") else f"+{text}"


def superscript(exponent: int) -> str:
    """An exponent in raised figures."""
    return str(exponent).translate(_SUPERSCRIPTS)


def power(value: float, digits: int = 1) -> str:
    """A number as mantissa × power of ten."""
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa}\u00a0×\u00a010{superscript(int(exponent))}".replace("-", "−")


def interval(reading: Reading, *, sign: bool = False) -> str:
    """``[low, high]``, or what is missing."""
    if reading.low is None or reading.high is None:
        return t("无区间", "no interval")
    show = signed if sign else decimal
    return f"[{show(reading.low)},\u00a0{show(reading.high)}]"


def estimate(reading: Reading | None, *, sign: bool = False) -> str:
    """``0.874 [0.847, 0.897]``; a number without interval says so."""
    if reading is None:
        return absent()
    value = signed(reading.value) if sign else decimal(reading.value)
    return f"{value}\u00a0{interval(reading, sign=sign)}"


def p_value(value: Any) -> str:
    """``p = 0.031``, or with a power of ten below 0.001."""
    number = finite(value)
    if number is None:
        return t("p 未记录", "p not recorded")
    if number < 1e-300:
        return "p\u00a0<\u00a010⁻³⁰⁰"
    return f"p\u00a0=\u00a0{power(number) if number < 0.001 else decimal(number)}"


def count(value: Any) -> str:
    """A whole number with thousands separators."""
    number = finite(value)
    return absent() if number is None else f"{round(number):,}".replace("-", "−")


def general(value: Any) -> str:
    """A number of unknown size with four significant digits."""
    number = finite(value)
    if number is None:
        return absent()
    if number != 0 and not 1e-3 <= abs(number) < 1e6:
        return power(number, 2)
    return f"{number:,.4g}".replace("-", "−") if abs(number) < 1e4 else count(number)


def share(value: Any) -> str:
    """A share of a whole in per cent. For row counts and parameters, which have no interval."""
    number = finite(value)
    if number is None:
        return absent()
    percent = 100 * number
    if percent in (0, 100):
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 1 else f"{percent:.2g} %"


def size(value: Any) -> str:
    """Bytes in binary units."""
    number = finite(value)
    if number is None:
        return absent()
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"


def duration(value: Any) -> str:
    """Seconds as hours, minutes and seconds."""
    number = finite(value)
    if number is None:
        return absent()
    if number < 60:
        return t(f"{number:.1f} 秒", f"{number:.1f} s")
    minutes, seconds = divmod(round(number), 60)
    if minutes < 60:
        return t(f"{minutes} 分 {seconds} 秒", f"{minutes} min {seconds} s")
    return t(f"{minutes // 60} 小时 {minutes % 60} 分", f"{minutes // 60} h {minutes % 60} min")


def flops(value: Any) -> str:
    """Floating-point operations."""
    number = finite(value)
    return absent() if number is None else t(f"{power(number, 2)} 次浮点运算", f"{power(number, 2)} FLOPs")


def text(value: Any) -> str:
    """Anything else as it stands; what nobody filled in is said to be so."""
    if value is None or value == "":
        return absent()
    if isinstance(value, bool):
        return t("是", "yes") if value else t("否", "no")
    if isinstance(value, dict):
        return ", ".join(f"{key}: {text(item)}" for key, item in value.items())
    return ", ".join(text(item) for item in value) if isinstance(value, list) else str(value)
