"""What `weitiao probe` measured: bits per character of general texts before and after a training, and how much was forgotten."""

from weitiao.language import t
from weitiao.report.folder import Json, Reading, RunFolder, dig, reading
from weitiao.report.numbers import count, decimal, estimate, interval, signed
from weitiao.report.sections import Cell, MetricRow, MetricTable

KEYS = ("before", "after", "difference")


def language_title(language: str) -> str:
    """The name of a language of the texts."""
    return {"zh": t("中文", "Chinese"), "en": t("英文", "English")}.get(language, language)


def change_cells(found: Json) -> tuple[Cell, ...]:
    """Before, after and their difference of one language, each with its interval."""
    return tuple(_cell(reading(found.get(key)), sign=key == "difference") for key in KEYS)


def _cell(value: Reading | None, sign: bool) -> Cell:
    return Cell("—") if value is None else Cell((signed if sign else decimal)(value.value), interval(value, sign=sign))


def _languages(folder: RunFolder) -> list[tuple[str, Json]]:
    found = folder.probe.get("languages")
    return [(language_title(name), one) for name, one in found.items() if isinstance(one, dict)] if isinstance(found, dict) else []


def forgetting_table(folder: RunFolder) -> MetricTable | None:
    """Languages down; before, after, their difference and n across. None where nothing was measured."""
    rows = [MetricRow(title, "", (*change_cells(one), Cell(count(dig(one, "difference", "n"))))) for title, one in _languages(folder)]
    columns = (t("训练前", "Before"), t("训练后", "After"), t("变化", "Change"), t("文本数 n", "Texts, n"))
    return MetricTable(columns, tuple(rows)) if rows else None


def forgetting_lines(folder: RunFolder) -> list[str]:
    """The same in sentences, for the model card."""
    lines = []
    for title, one in _languages(folder):
        before, after, change = (estimate(reading(one.get(key)), sign=key == "difference") for key in KEYS)
        n = count(dig(one, "difference", "n"))
        lines.append(
            t(
                f"{title}通用文本的比特/字符：训练前 {before}，训练后 {after}，变化 {change}（n = {n}）",
                f"{title} general texts, bits per character: before {before}, after {after}, change {change} (n = {n})",
            )
        )
    return lines
