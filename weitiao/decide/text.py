"""Comparisons as text for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from weitiao.language import t
from weitiao.progress import human_bytes, human_seconds
from weitiao.report.numbers import decimal, p_value, signed
from weitiao.report.words import localised, metric_title
from weitiao.summary import printed

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
