"""`weitiao check`: the configuration, the data, its audit and the base model's files, without torch and without training."""

from typing import Any

from weitiao.audit.checks import findings_text, require_known, stopping
from weitiao.audit.findings import noun
from weitiao.config import RunConfig
from weitiao.data.ledger import describe_reason
from weitiao.data.render import ChatEncoder
from weitiao.evaluate.written import Marker
from weitiao.forecast import Forecast, answer_nodes, forecast_text, with_budget
from weitiao.hub.resolve import localise
from weitiao.language import t
from weitiao.machine import this_machine
from weitiao.model.load import find_model
from weitiao.model.plain_tokenizer import PlainTokenizer
from weitiao.model.structure import read_structure
from weitiao.prepare import audit, prepare
from weitiao.progress import Reporter
from weitiao.records import SPLITS

MOST_ROWS, MOST_CHARACTERS = 3, 2000


def check_run(config: RunConfig, reporter: Reporter | None = None) -> dict[str, Any]:
    """What a run would start from: rows per split, labels, rejected rows, lengths, the audit's findings, a training row, the model.

    ``stops`` names the findings that would stop the run. Raises UserError where the run would for any other reason.
    """
    require_known(config.check.fail_on)
    config = localise(config, reporter).config
    folder = find_model(config.model)
    encoder = ChatEncoder(PlainTokenizer.of(folder), str(folder.path))
    structure, machine = read_structure(folder), this_machine(config.model)
    config = with_budget(config, structure, folder.config, machine)
    prepared = prepare(config, encoder, folder.config, reporter)
    Marker.of(config).try_own([passage.example for passage in prepared.passages.get("test", [])[:2]])
    found = audit(prepared, encoder, reporter)
    forecast = Forecast(config, prepared, structure, machine, answer_nodes(prepared, encoder))
    dataset, ledger = prepared.dataset, prepared.dataset.ledger.as_dict()
    example = prepared.first_example
    return {
        "model": {"path": str(folder.path), "architecture": folder.architecture, "parameters": folder.parameters},
        "rows": {split: len(dataset.splits[split]) for split in SPLITS},
        "labels": found["labels"],
        "repeated": found["repeated"],
        "lengths": {split: {k: v for k, v in lengths.items() if k != "histogram"} for split, lengths in found["lengths"].items()},
        "totals": ledger["totals"],
        "rejected": [{"file": f["path"], **row} for f in ledger["files"] for row in f["rejected_rows"]],
        "example": {
            "id": example.id,
            "prompt": [m.content for m in example.prompt] or [example.document],
            "answer": example.targets[0] if config.task.kind != "text" else None,
            "marked": found["example"]["marked"],
        },
        "estimate": forecast.as_dict()
        | {
            "methods": {method.kind: forecast.memory(method).peak for method in forecast.methods},
            "operations": {method.kind: forecast.operations(method)[0] for method in forecast.methods},
            "fits": forecast.fits,
            "suggestion": [] if forecast.fits else forecast.suggestion(),
            "text": forecast_text(forecast),
        },
        "topics": found["topics"],
        "findings": found["findings"],
        "stops": [finding["check"] for finding in stopping(found["findings"], config.check.fail_on)],
    }


def check_text(result: dict[str, Any]) -> str:
    """The result for people."""
    totals, model = result["totals"], result["model"]
    lines = [
        t(
            f"模型：{model['architecture']}，{model['parameters']:,} 个参数",
            f"model: {model['architecture']}, {model['parameters']:,} parameters",
        ),
        t(
            f"数据：读入 {totals['rows_in']} 行，可用 {totals['used']}，拒绝 {totals['rejected']}",
            f"data: {totals['rows_in']} {noun(totals['rows_in'], 'row')} in, {totals['used']} usable, {totals['rejected']} rejected",
        ),
        "  ".join(f"{split} {n}" for split, n in result["rows"].items()),
    ]
    if result["labels"]:
        counts = "  ".join(f"{label} {n}" for label, n in result["labels"]["train"].items())
        lines.append(t("训练集类别：", "labels in train: ") + counts)
    lines += [f"  {row['file']}:{row['line']}  {describe_reason(row['reason'], row.get('detail', ''))}" for row in result["rejected"][:20]]
    if len(result["rejected"]) > 20:
        lines.append(
            t(f"  …共 {len(result['rejected'])} 行；完整清单用 --json", f"  … {len(result['rejected'])} rows in all; the full list: --json")
        )
    for split, n in result["lengths"].items():
        if n["n"]:
            numbers = f"p50 {n['p50']:.0f}  p90 {n['p90']:.0f}  p99 {n['p99']:.0f}  max {n['max']}"
            lines.append(t(f"{split} 的长度（词元）：{numbers}", f"lengths in {split} (tokens): {numbers}"))
    lines += _topics(result["topics"])
    lines += result["estimate"]["text"]
    example = result["example"]
    name = example["id"]
    lines.append(t(f"一个训练样本（{name}），训练的部分在【】里：", f"a training row ({name}), the trained part in bold brackets:"))
    lines += [f"  {part}" for part in _shown(example["marked"]).split("\n")]
    return "\n".join([*lines, *_findings(result)])


def _topics(found: dict[str, Any]) -> list[str]:
    """A line of the largest topics, each with its share of the training texts."""
    if not found["topics"]:
        return []
    n, comma = found["n"]["train"], t("、", ", ")
    shown = [f"{100 * topic['train']:.0f}% {comma.join(topic['words'][:3])}" for topic in found["topics"][:5]]
    return [t(f"训练文本的话题（看了 {n} 段）：", f"topics of the training texts ({n} looked at): ") + t("；", "; ").join(shown)]


def _findings(result: dict[str, Any]) -> list[str]:
    if not result["findings"]:
        return [t("数据检查：没有发现问题", "data audit: nothing found")]
    n = len(result["findings"])
    lines = [t(f"数据检查：{n} 项发现（✗ 错误，! 警告，· 提示）", f"data audit: {n} {noun(n, 'finding')} (✗ error, ! warning, · notice)")]
    lines += findings_text(result["findings"], MOST_ROWS)
    if result["stops"]:
        names = ", ".join(result["stops"])
        lines.append(t(f"训练会因此停下（check.fail_on）：{names}", f"these would stop a run (check.fail_on): {names}"))
    return lines


def _shown(text: str) -> str:
    """A long row without its middle, so that the trained end stays in sight."""
    half = MOST_CHARACTERS // 2
    return text if len(text) <= MOST_CHARACTERS else f"{text[:half]} …… {text[-half:]}"
