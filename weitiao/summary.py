"""The short table at the end of a command, and the same as JSON."""

from typing import Any

from rich.console import Console
from rich.table import Table

from weitiao.language import current, t
from weitiao.progress import human_bytes, human_seconds
from weitiao.report.diagnosis import diagnose
from weitiao.report.folder import read_folder
from weitiao.report.words import metric_title
from weitiao.run import Run

_COLUMNS = ("accuracy", "macro_f1", "loss", "perplexity", "bits_per_character")
"""The metrics of the table with a column for each; written answers have too many, rewards their own: they get a row for each."""


def run_summary(run: Run) -> dict[str, Any]:
    """What a program wants to know of a run: its folder, state, scores, comparisons and cost."""
    parts = {name: run.read(f"evaluation/{name}.json") for name in ("before", "after", "baselines", "comparison")}
    return {
        "run": str(run.path),
        "state": run.record["state"],
        "report": str(run.path / "report.html"),
        "before": parts["before"].get("metrics"),
        "after": parts["after"].get("metrics"),
        "baselines": {b["name"]: b["metrics"] for b in parts["baselines"].get("baselines", [])},
        "comparison": parts["comparison"].get("pairs"),
        "training": run.record.get("training"),
        "trainable": run.record.get("trainable"),
        "diagnosis": [one.as_dict() for one in diagnose(read_folder(run.path))],
    }


def score_cell(metric: dict[str, Any] | None) -> str:
    """A value with its interval."""
    return "–" if metric is None else f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]"


def printed(table: Table, width: int = 130) -> str:
    """A table as plain text."""
    console = Console(width=width, color_system=None, force_terminal=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()


def run_table(run: Run) -> str:
    """Before, after and baselines side by side with their 95 % intervals, the paired differences, the cost, and where the report is."""
    summary = run_summary(run)
    return "\n".join(
        part
        for part in (
            _scores(run, summary),
            _differences(run, summary),
            _cost(summary),
            diagnosis_text(summary["diagnosis"]),
            t("报告：", "report: ") + summary["report"],
        )
        if part
    )


def _scores(run: Run, summary: dict[str, Any]) -> str:
    after = summary["after"]
    if after is None:
        return t("没有在测试集上评测。", "Nothing was evaluated on test rows.")
    names = [name for name in _COLUMNS if name in after]
    if not names or "rouge_l" in after:
        return _single_scores(run, summary)
    table = Table(
        title=t(f"测试集 n={after[names[0]]['n']}，方括号为 95% 区间", f"test split, n={after[names[0]]['n']}, 95 % intervals in brackets"),
        title_justify="left",
    )
    table.add_column(t("方法", "method"))
    for name in names:
        table.add_column(metric_title(name), justify="right")
    baselines = run.read("evaluation/baselines.json").get("baselines", [])
    rows = [(b["title"][current()], b["metrics"]) for b in baselines]
    if summary["before"]:
        rows.append((t("训练前", "before training"), summary["before"]))
    rows.append((t(f"训练后（{run.record['method']}）", f"after training ({run.record['method']})"), after))
    for title, metrics in rows:
        table.add_row(title, *(score_cell(metrics.get(name)) for name in names))
    return printed(table)


def _single_scores(run: Run, summary: dict[str, Any]) -> str:
    """A row for each metric: before, after, and the number of test rows that it rests on."""
    before, after = summary["before"] or {}, summary["after"]
    table = Table(title=t("测试集，方括号为 95% 区间", "test split, 95 % intervals in brackets"), title_justify="left")
    table.add_column("")
    for title in (t("训练前", "before training"), t(f"训练后（{run.record['method']}）", f"after training ({run.record['method']})"), "n"):
        table.add_column(title, justify="right")
    for name, metric in after.items():
        table.add_row(metric_title(name), score_cell(before.get(name)), score_cell(metric), str(metric["n"]))
    return printed(table)


def _differences(run: Run, summary: dict[str, Any]) -> str:
    titles = {b["name"]: b["title"][current()] for b in run.read("evaluation/baselines.json").get("baselines", [])}
    titles["before"] = t("训练前", "before training")
    names = {"mcnemar": "McNemar", "sign_flip": t("置换检验", "permutation test")}
    lines = []
    for pair in summary["comparison"] or []:
        d, title = pair["difference"], metric_title(pair.get("metric") or run.read("evaluation/comparison.json")["metric"])
        test = "".join(f", {name} p={pair[key]['p_value']:.2g}" for key, name in names.items() if key in pair)
        shown = d["low"] > 0 or d["high"] < 0
        verdict = "" if shown else t("（看不出差别）", " (no difference shown)")
        lines.append(
            t(f"{title}差，训练后 − {titles[pair['b']]}：", f"{title}, after − {titles[pair['b']]}: ")
            + f"{d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}], n={d['n']}{test}{verdict}"
        )
    return "\n".join(lines)


def _cost(summary: dict[str, Any]) -> str:
    training, trainable = summary["training"], summary["trainable"]
    if not training:
        return ""
    return t(
        f"训练 {human_seconds(training['seconds'])}，{training['steps']} 步，{training['tokens_per_second']:,.0f} 词元/秒，内存峰值 "
        f"{human_bytes(training['peak_memory_bytes'])}，"
        f"训练参数 {trainable['parameters']:,}（{100 * trainable['share']:.3g}%）",
        f"trained {human_seconds(training['seconds'])}, {training['steps']} steps, {training['tokens_per_second']:,.0f} tokens/s, peak "
        "memory "
        f"{human_bytes(training['peak_memory_bytes'])}, {trainable['parameters']:,} parameters trained ({100 * trainable['share']:.3g} %)",
    )


def diagnosis_text(found: list[dict[str, str]]) -> str:
    """Each diagnosis in a line, with what to do."""
    return "\n".join(f"! {one['message']} → {one['remedy']}" + (f"  [{one['setting']}]" if one["setting"] else "") for one in found)


def metrics_table(evaluation: dict[str, Any]) -> str:
    """One evaluation as a table: each metric with its interval and n, then the classes."""
    table = Table("", t("值", "value"), t("95% 区间", "95 % interval"), "n", title_justify="left")
    for name, metric in evaluation["metrics"].items():
        table.add_row(metric_title(name), f"{metric['value']:.4f}", f"[{metric['low']:.4f}, {metric['high']:.4f}]", str(metric["n"]))
    parts = [printed(table)]
    if "per_class" in evaluation:
        classes = Table(t("类别", "label"), t("精确率", "precision"), t("召回率", "recall"), "F1", t("行数", "rows"))
        for label, row in evaluation["per_class"].items():
            classes.add_row(label, f"{row['precision']:.3f}", f"{row['recall']:.3f}", f"{row['f1']:.3f}", str(row["support"]))
        parts.append(printed(classes))
    return "\n".join(parts)
