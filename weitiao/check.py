"""`weitiao check`: the configuration, the data and the base model's files, without torch and without training."""

from typing import Any

from weitiao.config import RunConfig
from weitiao.data.examples import label_counts, load_dataset
from weitiao.data.ledger import describe_reason
from weitiao.data.rows import SPLITS
from weitiao.language import t
from weitiao.model.load import find_model


def check_run(config: RunConfig) -> dict[str, Any]:
    """What a run would start from: rows per split, labels, rejected rows, the model. Raises UserError where the run would."""
    folder = find_model(config.model)
    dataset = load_dataset(config)
    for split in SPLITS:
        for example in dataset.splits[split]:
            dataset.ledger.use(split, example.file)
    ledger = dataset.ledger.as_dict()
    example = dataset.splits["train"][0]
    return {
        "model": {"path": str(folder.path), "architecture": folder.architecture, "parameters": folder.parameters},
        "rows": {split: len(dataset.splits[split]) for split in SPLITS},
        "labels": {split: label_counts(dataset.splits[split]) for split in SPLITS} if dataset.task else {},
        "totals": ledger["totals"],
        "rejected": [{"file": f["path"], **row} for f in ledger["files"] for row in f["rejected_rows"]],
        "example": {
            "id": example.id,
            "prompt": [m.content for m in example.prompt] or [example.document],
            "answer": example.targets[0] if config.task.kind != "text" else None,
        },
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
            f"data: {totals['rows_in']} rows in, {totals['used']} usable, {totals['rejected']} rejected",
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
    example = result["example"]
    lines.append(t(f"一个训练样本（{example['id']}）：", f"a training row ({example['id']}):"))
    lines += [f"  {part}" for part in "\n".join(example["prompt"]).split("\n")]
    if example["answer"] is not None:
        lines.append(f"  → {example['answer']}")
    return "\n".join(lines)
