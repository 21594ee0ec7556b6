"""What the page shows of one run beside its curves: predictions, confusion matrix, data, configuration, log."""

from pathlib import Path
from typing import Any, Literal

import yaml

from weitiao.watch.files import read_json, read_json_lines, read_text

MOST_LOG_BYTES = 64_000
MOST_CHARACTERS = 2_000
"""Of one text: a document of a megabyte is not for a table."""
When = Literal["before", "after"]


def predictions(run: Path, when: When, wrong_only: bool, start: int, number: int) -> dict[str, Any]:
    """A page of predictions, the most certain errors first, then the rest in the file's order."""
    rows = read_json_lines(run, f"evaluation/predictions-{when}.jsonl")
    chosen = [row for row in rows if "prediction" in row and not (wrong_only and row.get("correct"))]
    chosen.sort(key=lambda row: -_number(row.get("probability")) if row.get("correct") is False else 1.0)
    keys = ("id", "text", "label", "prediction", "probability", "correct")
    page = [{key: _short(row.get(key)) for key in keys} for row in chosen[start : start + number]]
    return {"n": len(rows), "wrong": sum(row.get("correct") is False for row in rows), "chosen": len(chosen), "rows": page}


def evaluations(run: Path) -> dict[str, Any]:
    """Metrics with intervals, classes, and the confusion matrix, before and after; the baselines."""
    kept = ("n", "metrics", "per_class", "confusion_matrix")
    parts: dict[str, Any] = {}
    for when in ("before", "after"):
        evaluation = read_json(run, f"evaluation/{when}.json")
        parts[when] = {key: evaluation[key] for key in kept if key in evaluation} or None
    return parts | {"baselines": read_json(run, "evaluation/baselines.json").get("baselines")}


def data(run: Path) -> dict[str, Any]:
    """Audit and ledger; of the ledger's row lists their beginning."""
    ledger = read_json(run, "data/ledger.json")
    files = [entry for entry in ledger.get("files", []) if isinstance(entry, dict)] if isinstance(ledger.get("files"), list) else []
    for entry in files:
        for key in ("rejected_rows", "shortened_rows"):
            if isinstance(entry.get(key), list):
                entry[key] = entry[key][:20]
    return {"ledger": {"files": files, "totals": ledger.get("totals")}, "audit": read_json(run, "data/audit.json")}


def log(run: Path) -> str:
    """The end of what a run started here has said."""
    return read_text(run.parent, f".watch/{run.name}.log", MOST_LOG_BYTES, from_end=True) or ""


def settings(run: Path) -> dict[str, Any]:
    """Every setting of a run by dotted name."""
    try:
        tree = yaml.safe_load(read_text(run, "config.yaml") or "")
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return dict(_flat(tree, "")) if isinstance(tree, dict) else {}


def _flat(tree: dict[Any, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", _short(value))]
    return found


def _short(value: Any) -> Any:
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " …"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
