"""The page of a search, from its ``tune.json`` alone."""

import json
import math
from collections.abc import Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Any

from markupsafe import Markup

from weitiao import storage
from weitiao.language import Language, current, t, use
from weitiao.report.axes import coordinate, drawing, frame, linear_axis, tag
from weitiao.report.choice_plots import WIDE
from weitiao.report.figures import Figure
from weitiao.report.folder import Json, finite, metric, reading, safe_object
from weitiao.report.numbers import count, decimal, estimate, general, share
from weitiao.report.pages import render
from weitiao.report.plots import WIDTH
from weitiao.report.words import localised, metric_title

STATES = {
    "complete": {"zh": "跑完", "en": "complete"},
    "pruned": {"zh": "提前停下", "en": "stopped early"},
    "fail": {"zh": "失败", "en": "failed"},
    "running": {"zh": "进行中", "en": "running"},
}


def build_tune_page(folder: Path, language: Language | None = None) -> Path:
    """Write ``folder/report.html`` atomically and return its path."""

    def make() -> str:
        use(language or current())
        result = safe_object(json.loads((folder / "tune.json").read_text(encoding="utf-8")))
        return render("tune.html.j2", {"title": folder.resolve().name, **tune_context(result)})

    path = folder / "report.html"
    storage.write_text(path, copy_context().run(make))
    return path


def tune_context(result: Json) -> dict[str, Any]:
    """Everything that the template prints of a search."""
    trials = {trial["number"]: trial for trial in result["trials"]}
    best = trials[result["best"]]
    default = next((trial for trial in result["trials"] if trial["is_default"] and trial["value"] is not None), None)
    return {
        "metric": metric_title(result["metric"]),
        "best": [(name, general(value) if finite(value) is not None else str(value)) for name, value in best["params"].items()],
        "sentences": _sentences(result, best, default),
        "next": [localised(one) for one in result["next"]],
        "figures": [one for one in (_history(result), _parallel(result), _importance(result)) if one is not None],
        "names": list(result["space"]),
        "trials": [_row(result, trial) for trial in result["trials"]],
        "best_config": result["best_config"],
    }


def _sentences(result: Json, best: Json, default: Json | None) -> list[str]:
    title = metric_title(result["metric"])
    words = [
        t(
            f"试了 {len(result['trials'])} 组设置；验证集上最好的是第 {best['number']} 组：{title} {decimal(best['value'])}。",
            f"{len(result['trials'])} settings were tried; the best on the validation rows is trial {best['number']}: {title} "
            f"{decimal(best['value'])}.",
        )
    ]
    if default is not None and default is not best:
        words.append(t(f"原来的设置是 {decimal(default['value'])}。", f"The original settings reach {decimal(default['value'])}."))
    words.append(
        t(
            "验证集上的最好值是许多组里挑出来的，偏高；下面的测试得分没有参与挑选。",
            "The best value on validation rows was picked out of many and is too high; the test score below took no part in the choice.",
        )
    )
    for row in (result["test"] or {"rows": []})["rows"]:
        score = metric(row, result["test"]["metric"])
        words.append(
            t(f"测试集，{localised(row['title'])}：", f"Test rows, {localised(row['title'])}: ")
            + f"{metric_title(result['test']['metric'])} {estimate(score)}, n = {count(result['test']['n'])}"
            + t("。", ".")
        )
    words += [_difference(result["test"])] if result["test"] and len(result["test"]["rows"]) == 2 else []
    return words


def _difference(test: Json) -> str:
    """The search's winner against the defaults, in words."""
    pair = next(row["against_best"] for row in test["rows"] if row["against_best"])
    ahead = t("搜索到的", "the one found") if test["found_is_best"] else t("默认设置", "the defaults")
    shown = estimate(reading(pair["difference"]), sign=True)
    if any(row["verdict"] == "undecided" for row in test["rows"]):
        return t(f"看不出差别（{ahead}高 {shown}）。", f"No difference is shown ({ahead} ahead by {shown}).")
    return t(f"更好的是{ahead}（差 {shown}）。", f"Better: {ahead} ({shown}).")


def _row(result: Json, trial: Json) -> dict[str, Any]:
    """One trial of the table."""
    values = [trial["params"].get(name) for name in result["space"]]
    reached = trial["value"] if trial["value"] is not None else (trial["rungs"][-1] if trial["rungs"] else None)
    return {
        "number": str(trial["number"]) + (t("（原设置）", " (original)") if trial["is_default"] else ""),
        "state": localised(STATES.get(trial["state"]) or trial["state"]),
        "values": [general(value) if finite(value) is not None else "—" if value is None else str(value) for value in values],
        "value": "—" if reached is None else decimal(reached),
        "is_best": trial["number"] == result["best"],
        "message": trial["message"] or "",
    }


def _values(result: Json) -> list[tuple[Json, float]]:
    """Trials with the value that they reached: on all rows, else on the last fraction."""
    found = []
    for trial in result["trials"]:
        value = finite(trial["value"]) if trial["value"] is not None else finite(trial["rungs"][-1]) if trial["rungs"] else None
        if value is not None:
            found.append((trial, value))
    return found


def _history(result: Json) -> Figure | None:
    """The value of each trial in their order, and the best on all rows so far."""
    reached = _values(result)
    if len(reached) < 2:
        return None
    y = linear_axis([value for _, value in reached], 250, 34)
    x = linear_axis([0, max(4, *(trial["number"] for trial, _ in reached))], 16 + 6.6 * max(len(label) for label in y.labels), WIDTH - 16)
    parts = [frame(x, y, t("试验", "trial"), metric_title(result["metric"]))]
    best: float | None = None
    line: list[str] = []
    better = max if result["direction"] == "maximize" else min
    for trial, value in reached:
        whole = trial["state"] == "complete"
        if whole:
            best = value if best is None else better(best, value)
        if best is not None:
            line.append(f"{'L' if line else 'M'}{coordinate(x(trial['number']))} {coordinate(y(best))}")
        label = tag("title", f"#{trial['number']}: {decimal(value)}")
        parts.append(tag("circle", label, cx=x(trial["number"]), cy=y(value), r=4, class_=f"shape {'after' if whole else 'before'}"))
    parts.append(tag("path", d="".join(line), class_="line"))
    title = t("搜索的过程", "The course of the search")
    note = t(
        "实心：跑完全部数据；空心：提前停下，值是它到达的那份数据上的。线：到那时为止最好的。",
        "Filled: ran on all rows; hollow: stopped early, its value is that on the fraction it reached. Line: the best so far.",
    )
    return Figure(title, drawing(title, WIDTH, 292, parts), note=note)


def _place(entry: Any, value: Any) -> float:
    """Where a value stands on its axis, 0 to 1."""
    if isinstance(entry, list):
        return entry.index(value) / max(1, len(entry) - 1) if value in entry else 0.5
    scale = math.log if entry["log"] else float
    return (scale(value) - scale(entry["low"])) / (scale(entry["high"]) - scale(entry["low"]))


def _ends(entry: Any) -> tuple[str, str]:
    low, high = (entry[0], entry[-1]) if isinstance(entry, list) else (entry["low"], entry["high"])
    return str(low) if isinstance(low, str) else general(low), str(high) if isinstance(high, str) else general(high)


def _parallel(result: Json) -> Figure | None:
    """Each trial as a line through its settings to its value; the best stands out."""
    reached = _values(result)
    if len(reached) < 2:
        return None
    values = [value for _, value in reached]
    low, high = min(values), max(values)
    axes: Sequence[str] = (*result["space"], metric_title(result["metric"]))
    top, bottom, left, right = 52.0, 290.0, 60.0, WIDE - 60.0
    at = [left + (right - left) * i / (len(axes) - 1) for i in range(len(axes))]
    parts: list[Markup] = []
    for x, name, entry in zip(at, axes, [*result["space"].values(), {"low": low, "high": high, "log": False}], strict=True):
        parts.append(tag("line", x1=x, x2=x, y1=top, y2=bottom, class_="base"))
        parts.append(tag("text", name.split(".")[-1], x=x, y=top - 26, text_anchor="middle", class_="name"))
        for label, y in zip(_ends(entry), (bottom + 16, top - 8), strict=True):
            parts.append(tag("text", label, x=x, y=y, text_anchor="middle", class_="tick"))
    order = sorted(reached, key=lambda one: one[0]["number"] == result["best"])  # the best on top
    for trial, value in order:
        places = [_place(entry, trial["params"].get(name)) for name, entry in result["space"].items()]
        places.append((value - low) / (high - low) if high > low else 0.5)
        path = "".join(
            f"{'L' if i else 'M'}{coordinate(x)} {coordinate(bottom - place * (bottom - top))}"
            for i, (x, place) in enumerate(zip(at, places, strict=True))
        )
        style = "validation" if trial["number"] == result["best"] else "raw"
        parts.append(tag("path", tag("title", f"#{trial['number']}: {decimal(value)}"), d=path, class_=f"line {style}"))
    title = t("设置与得分（平行坐标）", "Settings and scores (parallel coordinates)")
    legend = (("validation", t("最好的一组", "the best")), ("raw", t("其他", "others")))
    return Figure(title, drawing(title, WIDE, 316, parts), legend)


def _importance(result: Json) -> Figure | None:
    """How much of the spread each setting explains."""
    if not result["importance"]:
        return None
    row = 34.0
    parts = []
    for i, (name, part) in enumerate(result["importance"].items()):
        y = 20 + row * i
        parts.append(tag("text", name, x=0, y=y, class_="name"))
        parts.append(tag("text", share(part), x=WIDTH - 4, y=y, text_anchor="end", class_="value"))
        parts.append(tag("rect", x=0, y=y + 6, width=WIDTH - 4, height=7, class_="track"))
        parts.append(tag("rect", x=0, y=y + 6, width=(WIDTH - 4) * min(1.0, part), height=7, class_="bar after"))
    title = t("哪个设置要紧", "Which settings matter")
    tried = sum(bool(trial["rungs"]) for trial in result["trials"])
    note = t(
        f"各设置解释的得分差异（fANOVA，{tried} 次试验在第一份数据上的得分）；次数少时只是线索。",
        f"How much of the spread of scores each explains (fANOVA over {tried} trials on the first fraction); with few trials a hint only.",
    )
    return Figure(title, drawing(title, WIDTH, 20 + row * len(result["importance"]), parts), note=note)
