"""`weitiao runs`: what runs there are in a folder, how far they are and what they scored."""

from pathlib import Path
from typing import Any

from rich.table import Table

from weitiao.errors import DataError
from weitiao.language import t
from weitiao.progress import human_seconds
from weitiao.report.words import metric_title, state_title
from weitiao.run import Run
from weitiao.summary import printed, score_cell

RANKED_BY = ("accuracy", "macro_f1", "bits_per_character", "loss")


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """Every run in a folder and in the folders within it (comparisons and searches keep theirs so), the newest first. Raises DataError."""
    if not folder.is_dir():
        cause = t("没有这个文件夹", "there is no such folder")
        raise DataError(str(folder), cause, t("给出放着运行的文件夹，默认是 runs", "give the folder that holds runs; the default is runs"))
    found = [_described(path.parent) for pattern in ("*/run.json", "*/runs/*/run.json") for path in folder.glob(pattern)]
    return sorted(found, key=lambda one: (str(one["created"]), one["run"]), reverse=True)


def _described(path: Path) -> dict[str, Any]:
    try:
        run = Run.open(path)
    except DataError:
        return {"run": str(path), "state": "unreadable", "created": ""}
    state, metrics = run.record["state"], run.read("evaluation/after.json").get("metrics", {})
    training = run.record.get("training", {})
    name = next((name for name in RANKED_BY if name in metrics), None)
    return {
        "run": str(path),
        "state": "died" if state == "running" and not run.is_held else state,
        "created": run.record.get("created", ""),
        "task": run.record.get("task"),
        "method": run.record.get("method"),
        "metric": name,
        "score": metrics[name] if name else None,
        "validation": training.get("best_metric"),
        "seconds": run.record.get("seconds", {}).get("total"),
    }


def listing_text(runs: list[dict[str, Any]]) -> str:
    """The runs as a table."""
    if not runs:
        return t("这里没有运行。", "There are no runs here.")
    table = Table(
        t("运行", "run"), t("状态", "state"), t("任务", "task"), t("方法", "method"),
        t("测试集得分", "test score"), t("验证集最好", "best validation"),
        t("用时", "time"), t("开始", "started"),
    )  # fmt: skip
    states = {"died": t("已中断（进程不在）", "died"), "unreadable": t("读不出", "unreadable")}
    for one in runs:
        score = f"{metric_title(one['metric'])} {score_cell(one['score'])}" if one.get("metric") else "–"
        best = one.get("validation") or {}
        validation = "–" if best.get("value") is None else f"{metric_title(best['name'])} {best['value']:.3f}"
        seconds = "–" if one.get("seconds") is None else human_seconds(one["seconds"])
        state = states.get(one["state"]) or state_title(one["state"])
        cells = (one.get("task") or "–", one.get("method") or "–", score, validation, seconds, str(one["created"])[:16].replace("T", " "))
        table.add_row(one["run"], state, *cells)
    return printed(table, 170)
