"""The page of a learning curve, from its ``curve.json`` alone."""

import json
from contextvars import copy_context
from pathlib import Path
from typing import Any

from weitiao import storage
from weitiao.language import Language, current, t, use
from weitiao.report.choice_plots import Curve, rows_chart
from weitiao.report.figures import Figure
from weitiao.report.folder import Json, Reading, reading, safe_object
from weitiao.report.numbers import count, decimal, interval
from weitiao.report.pages import render
from weitiao.report.sections import Cell, MetricRow, MetricTable
from weitiao.report.words import localised, metric_title

STYLES = ("train", "second", "raw", "train")


def build_curve_page(folder: Path, language: Language | None = None) -> Path:
    """Write ``folder/report.html`` atomically and return its path."""

    def make() -> str:
        use(language or current())
        result = safe_object(json.loads((folder / "curve.json").read_text(encoding="utf-8")))
        return render("curve.html.j2", {"title": folder.resolve().name, **curve_context(result)})

    path = folder / "report.html"
    storage.write_text(path, copy_context().run(make))
    return path


def curve_context(result: Json) -> dict[str, Any]:
    """Everything that the template prints of a curve."""
    title = metric_title(result["metric"])
    curves, rows = [], []
    styles = iter(STYLES * len(result["curves"]))
    for one in result["curves"]:
        style = "validation" if one["is_baseline"] else next(styles)
        points = [(point["rows"], reading(point) or Reading(point["value"])) for point in one["points"]]
        curves.append(Curve(localised(one["title"]), style, points))
        cells = tuple(Cell(decimal(value.value), interval(value)) for _, value in points)
        rows.append(MetricRow(localised(one["title"]), "baseline" if one["is_baseline"] else "after", cells))
    sizes = tuple(t(f"{count(point['rows'])} 条", f"{count(point['rows'])} rows") for point in result["curves"][0]["points"])
    chart = rows_chart(title, curves, t("带标签的训练行数（对数轴）", "labelled training rows (log scale)"), title)
    legend = tuple((curve.style, curve.name) for curve in curves)
    seeds, n = result["seeds"], count(result["n"])
    note = t(
        f"竖线是 95% 区间（{seeds} 个种子 × {n} 条测试数据的自助法）。",
        f"Vertical lines are 95 % intervals (bootstrap over {seeds} seeds × {n} test rows).",
    )
    return {
        "sentences": [localised(one) for one in result["sentences"]],
        "figures": [] if chart is None else [Figure(t("标注多少才够", "How many labels are enough"), chart, legend, note)],
        "table": MetricTable(sizes, tuple(rows)),
        "n": n,
    }
