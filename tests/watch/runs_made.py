"""Run folders for the page's tests, made by hand: no training."""

import json
import math
from pathlib import Path
from typing import Any

LABELS = ["体育", "天气"]


def step(number: int, loss: float | None = None) -> dict[str, Any]:
    value = 3 / math.sqrt(number) if loss is None else loss
    return {
        "type": "step", "step": number, "epoch": number / 50, "loss": value, "learning_rate": 1e-4, "grad_norm": 1.0,
        "tokens": 900 * number, "tokens_per_second": 900.0, "memory_bytes": 10**9, "seconds": float(number),
    }  # fmt: skip


def validation(number: int) -> dict[str, Any]:
    return {"type": "validation", "step": number, "epoch": number / 50, "loss": 2 / math.sqrt(number), "accuracy": 1 - 1 / number, "n": 20}


def make_run(root: Path, name: str, steps: int = 50, state: str = "finished", **record: Any) -> Path:
    """A run folder with curves, evaluations, predictions, accounts, and a report."""
    run = root / name
    for folder in ("data", "evaluation", "checkpoints"):
        (run / folder).mkdir(parents=True)
    facts = {"state": state, "name": name, "task": "classification", "method": "lora", "created": "2026-01-01T00:00:00+00:00"}
    write(run / "run.json", facts | {"planned_steps": 100} | record)
    lines = [line for i in range(1, steps + 1) for line in ([step(i), validation(i)] if i % 10 == 0 else [step(i)])]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    metric = {"value": 0.75, "low": 0.5, "high": 0.9, "n": 8}
    for when in ("before", "after"):
        write(
            run / "evaluation" / f"{when}.json",
            {"n": 8, "metrics": {"accuracy": metric}, "confusion_matrix": {"labels": LABELS, "rows": [[4, 0], [2, 2]]}},
        )
        rows = [
            {
                "id": f"test:{i}",
                "text": f"第{i}条",
                "label": LABELS[i // 4],
                "prediction": LABELS[int(i > 5)],
                "probability": 0.9 - i / 100,
                "correct": i not in (4, 5),
            }
            for i in range(8)
        ]
        (run / "evaluation" / f"predictions-{when}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write(
        run / "data" / "ledger.json",
        {
            "files": [
                {
                    "path": "news.csv",
                    "split": "train",
                    "rows_in": 9,
                    "used": 8,
                    "rejected": 1,
                    "shortened": 0,
                    "rejected_rows": [{"line": 3}] * 50,
                }
            ],
            "totals": {},
        },
    )
    write(run / "data" / "audit.json", {"findings": [], "lengths": {}, "example": {"marked": "【体育】"}})
    (run / "config.yaml").write_text(f"name: {name}\nseed: 0\noptim: {{learning_rate: 0.1}}\n")
    (run / "report.html").write_text("<!DOCTYPE html><title>r</title><p>the report</p>")
    return run


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))
