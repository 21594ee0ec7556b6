"""Comparisons as text for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from weitiao.language import t
from weitiao.progress import human_bytes, human_seconds
from weitiao.report.numbers import decimal, p_value, signed
from weitiao.report.words import localised, metric_title
from weitiao.summary import printed, score_cell

WIDTH = 170


def comparison_text(table: Mapping[str, Any]) -> str:
    """The whole comparison in one table, the recommendation, and where the report is."""
    metrics = [name for name in ("accuracy", "macro_f1", "bits_per_character") if name in table["rows"][0]["metrics"]]
    languages = next((list(row["forgetting"]) for row in table["rows"] if row.get("forgetting")), [])
    shown = Table(
        title=t(
            f"同样的 {table['n']} 条测试数据；方括号为 95% 区间；遗忘：通用文本的比特/字符变化",
            f"the same {table['n']} test rows; 95 % intervals in brackets; forgetting: change in bits per character of general texts",
        ),
        title_justify="left",
    )
    shown.add_column(t("方法", "method"))
    columns = [metric_title(name) for name in metrics]
    columns += [t("最好的减它", "best − it"), "Holm p", t("训练", "training"), t("内存峰值", "peak memory"), t("训练参数", "trained")]
    columns += [t("磁盘", "disk"), t("毫秒/行", "ms/row"), *(t(f"遗忘 {one}", f"forgetting {one}") for one in languages)]
    if has_energy := any(row.get("energy_joules") is not None for row in table["rows"]):
        columns.append(t("焦耳", "joules"))
    for name in columns:
        shown.add_column(name, justify="right")
    for row in table["rows"]:
        pair = row["against_best"]
        cells = [_cell(row["metrics"].get(name)) for name in metrics]
        cells += [_cell(pair["difference"], sign=True) if pair else t("最好", "best"), _p(pair)]
        cells += [human_seconds(row["train_seconds"]), *(_known(row.get(key), human_bytes) for key in ("peak_memory_bytes",))]
        cells += [_known(row.get("trained_parameters"), lambda n: f"{n:,}"), _known(row.get("size_bytes"), human_bytes)]
        cells.append(decimal(row["ms_per_row"], 2))
        forgotten = row.get("forgetting") or {}
        cells += [_cell(forgotten.get(one, {}).get("difference"), sign=True) for one in languages]
        if has_energy:
            cells.append(_known(row.get("energy_joules"), lambda joules: f"{joules:,.0f}"))
        shown.add_row(localised(row["title"]), *cells)
    failed = [t("没有成功：", "failed: ") + f"{localised(one['title'])}: {one['reason']}" for one in table["failed"]]
    advice = t("建议：", "recommendation: ") + localised(table["recommendation"]["text"])
    return "\n".join([printed(shown, WIDTH), *failed, advice, t("报告：", "report: ") + table["report"]])


def search_text(result: Mapping[str, Any]) -> str:
    """The search in a few lines: what was tried, the best, its test score, what to try next, where the files are."""
    title = metric_title(result["metric"])
    trials = {trial["number"]: trial for trial in result["trials"]}
    best = trials[result["best"]]
    lines = [
        t(
            f"试了 {len(trials)} 组；验证集上最好的是第 {best['number']} 组，{title} {decimal(best['value'], 4)}",
            f"{len(trials)} settings tried; best on the validation rows: trial {best['number']}, {title} {decimal(best['value'], 4)}",
        )
    ]
    lines += [f"  {name}: {value}" for name, value in best["params"].items()]
    for row in (result["test"] or {"rows": []})["rows"]:
        score = row["metrics"][result["test"]["metric"]]
        lines.append(
            t(f"测试集，{localised(row['title'])}：", f"test rows, {localised(row['title'])}: ")
            + f"{metric_title(result['test']['metric'])} {score_cell(score)}, n={score['n']}"
        )
    if result["others_at_work"]:
        number = result["others_at_work"]
        lines.append(
            t(
                f"还有 {number} 个进程在搜：测试集留给最后结束的那个",
                f"still searching: {number} more; the last one measures the test rows",
            )
        )
    lines += [t("下一步：", "next: ") + localised(one) for one in result["next"]]
    lines += [t("最好的配置：", "best configuration: ") + result["best_config"], t("报告：", "report: ") + result["report"]]
    return "\n".join(lines)


def curve_text(result: Mapping[str, Any]) -> str:
    """The learning curve as a table, and what more labels would bring."""
    shown = Table(
        title=t(
            f"准确率，同样的 {result['n']} 条测试数据，{result['seeds']} 个种子",
            f"accuracy, the same {result['n']} test rows, {result['seeds']} seeds",
        ),
        title_justify="left",
    )
    shown.add_column(t("方法", "method"))
    for point in result["curves"][0]["points"]:
        shown.add_column(t(f"{point['rows']} 条", f"{point['rows']} rows"), justify="right")
    for one in result["curves"]:
        shown.add_row(localised(one["title"]), *(_cell(point) for point in one["points"]))
    sentences = [localised(one) for one in result["sentences"]]
    return "\n".join([printed(shown, WIDTH), *sentences, t("报告：", "report: ") + result["report"]])


def auto_text(result: Mapping[str, Any]) -> str:
    """What came out: the scores, the advice, and where the model, its settings and the reasons are."""
    lines = []
    if "table" in result:
        metric = result["table"]["metric"]
        for row in result["table"]["rows"]:
            lines.append(f"{localised(row['title'])}: {metric_title(metric)} {score_cell(row['metrics'][metric])}")
        lines.append(t("建议：", "recommendation: ") + localised(result["table"]["recommendation"]["text"]))
    lines.append(t("模型：", "model: ") + result["best"]["run"])
    lines.append(t("同样的选择（含理由）：", "the same choices, with their reasons: ") + result["best_config"])
    return "\n".join([*lines, t("报告：", "report: ") + result["report"]])


def _cell(value: Mapping[str, Any] | None, sign: bool = False) -> str:
    """A value, its interval below it."""
    if value is None:
        return "–"
    show = signed if sign else decimal
    return f"{show(value['value'])}\n[{show(value['low'])}, {show(value['high'])}]"


def _p(pair: Mapping[str, Any] | None) -> str:
    p = None if pair is None else pair.get("p_holm")
    return "–" if p is None else p_value(p).replace("\u00a0", " ").removeprefix("p ").removeprefix("= ")


def _known(value: Any, show: Any) -> str:
    return "–" if value is None else str(show(value))
