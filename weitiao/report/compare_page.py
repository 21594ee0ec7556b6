"""The page of a comparison, from its ``compare.json`` alone."""

import json
from collections.abc import Mapping
from contextvars import copy_context
from pathlib import Path
from typing import Any

from weitiao import storage
from weitiao.language import Language, current, t, use
from weitiao.report.choice_plots import Priced, price_chart
from weitiao.report.figures import Figure
from weitiao.report.folder import Json, metric, reading, safe_object
from weitiao.report.forgetting import change_cells, language_title
from weitiao.report.numbers import count, decimal, duration, interval, p_value, size
from weitiao.report.pages import render
from weitiao.report.plots import Whisker, whisker_chart
from weitiao.report.sections import Cell, MetricRow, MetricTable
from weitiao.report.words import localised, metric_title

STYLES = {"baseline": "baseline", "base": "before", "tuned": "after"}
SHORTEST_SECONDS = 0.1
"""Less training time than this is drawn as this."""


def build_compare_page(folder: Path, language: Language | None = None) -> Path:
    """Write ``folder/report.html`` atomically and return its path."""

    def make() -> str:
        use(language or current())
        table = safe_object(json.loads((folder / "compare.json").read_text(encoding="utf-8")))
        return render("compare.html.j2", {"title": folder.resolve().name, **compare_context(table)})

    path = folder / "report.html"
    storage.write_text(path, copy_context().run(make))
    return path


def compare_context(table: Json) -> dict[str, Any]:
    """Everything that the template prints of a comparison."""
    rows = {row["name"]: row for row in table["rows"]}
    return {
        "recommendation": localised(table["recommendation"]["text"]),
        "choice": localised(rows[table["recommendation"]["choice"]]["title"]),
        "n": count(table["n"]),
        "quality": _quality(table),
        "is_tested": any((row["against_best"] or {}).get("p_holm") is not None for row in table["rows"]),
        "price": _price(table),
        "forgetting": _forgetting(table),
        "figures": _figures(table),
        "failed": [(localised(one["title"]), one["reason"]) for one in table["failed"]],
        "runs": [(localised(row["title"]), row["run"]) for row in table["rows"] if row["run"]],
        "choices": [(localised(one["what"]), localised(one["why"])) for one in table.get("choices", [])],
        "has_energy": any(row.get("energy_joules") is not None for row in table["rows"]),
    }


def _table(table: Json, columns: tuple[str, ...], cells: Mapping[str, tuple[Cell, ...]]) -> MetricTable:
    kept = tuple(
        MetricRow(localised(row["title"]), STYLES[row["kind"]], cells[row["name"]]) for row in table["rows"] if row["name"] in cells
    )
    return MetricTable(columns, kept)


def _quality(table: Json) -> MetricTable:
    """The metrics, and each row against the best."""
    names = [name for name in ("accuracy", "macro_f1", "bits_per_character", "perplexity") if name in table["rows"][0]["metrics"]]
    conclusions = {"best": t("最好", "best"), "worse": t("更差", "worse"), "undecided": t("没有看出差别", "no difference shown")}
    cells = {}
    for row in table["rows"]:
        is_best = row["name"] == table["best"]
        shown = [_estimated(row, name, is_best) for name in names]
        pair = row["against_best"]
        difference = reading(pair["difference"]) if pair else None
        shown.append(Cell("—") if difference is None else Cell(decimal(difference.value), interval(difference, sign=True)))
        p = None if pair is None else pair.get("p_holm")
        shown.append(Cell("—" if p is None else p_value(p).removeprefix("p\u00a0").removeprefix("=\u00a0")))
        shown.append(Cell(conclusions[row["verdict"]], is_best=is_best))
        cells[row["name"]] = tuple(shown)
    title = metric_title(table["metric"])
    behind, conclusion = t(f"最好的减它（{title}）", f"best − it ({title})"), t("结论", "Conclusion")
    return _table(table, (*(metric_title(name) for name in names), behind, "Holm p", conclusion), cells)


def _estimated(row: Json, name: str, is_best: bool) -> Cell:
    value = metric(row, name)
    return Cell("—") if value is None else Cell(decimal(value.value), interval(value), is_best)


def _price(table: Json) -> MetricTable:
    """What each row costs."""
    columns = (
        t("训练用时", "training time"), t("内存峰值", "peak memory"), t("训练的参数", "trained parameters"), t("磁盘", "on disk"),
        t("推理，毫秒/行", "inference, ms/row"), t("能量，焦耳", "energy, joules"),
    )  # fmt: skip
    cells = {
        row["name"]: (
            Cell(duration(row["train_seconds"])),
            _known(row.get("peak_memory_bytes"), size),
            _known(row.get("trained_parameters"), count),
            _known(row.get("size_bytes"), size),
            Cell(decimal(row["ms_per_row"], 2)),
            _known(row.get("energy_joules"), count),
        )
        for row in table["rows"]
    }
    return _table(table, columns, cells)


def _known(value: Any, show: Any) -> Cell:
    return Cell("—") if value is None else Cell(show(value))


def _forgetting(table: Json) -> MetricTable | None:
    """General texts before and after each training; None where that was not measured."""
    measured = {row["name"]: row["forgetting"] for row in table["rows"] if row.get("forgetting")}
    if not measured:
        return None
    languages = list(next(iter(measured.values())))
    columns: list[str] = []
    for language in languages:
        columns += [t(f"{language_title(language)}，之前", f"{language_title(language)}, before"), t("之后", "after"), t("变化", "change")]
    cells = {name: tuple(cell for language in languages for cell in change_cells(found[language])) for name, found in measured.items()}
    return _table(table, tuple(columns), cells)


def _figures(table: Json) -> list[Figure]:
    """Quality over training time, and the estimates below one another."""
    name, n = table["metric"], count(table["n"])
    read = [(row, metric(row, name)) for row in table["rows"]]
    measured = [(row, value) for row, value in read if value is not None]
    points = [
        Priced(
            localised(row["title"]), STYLES[row["kind"]], max(SHORTEST_SECONDS, row["train_seconds"]), value, row["name"] in table["pareto"]
        )
        for row, value in measured
    ]
    title = t("质量与价格", "Quality against price")
    seconds = t("训练用时（秒，对数轴）", "training time (seconds, log scale)")
    found = []
    if (svg := price_chart(title, points, seconds, metric_title(name))) is not None:
        note = t(
            f"竖线是 95% 区间，n = {n}。虚线连着没有被别的既更好又更便宜的那些。不到 0.1 秒的画在 0.1 秒处。",
            f"Vertical lines are 95 % intervals, n = {n}. The dashed line joins those that nothing else beats in both. "
            "Less than 0.1 s is drawn at 0.1 s.",
        )
        found.append(Figure(title, svg, note=note))
    whiskers = [Whisker(localised(row["title"]), STYLES[row["kind"]], value) for row, value in measured]
    title = metric_title(name)
    if (svg := whisker_chart(title, whiskers, title)) is not None:
        found.append(
            Figure(title[:1].upper() + title[1:], svg, note=t(f"线段是 95% 区间；n = {n}。", f"Lines are 95 % intervals; n = {n}."))
        )
    return found
