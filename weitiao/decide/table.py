"""The table of a comparison: what was judged on the same test rows, side by side, with its price, and which differences are shown.

The best by value is compared with each other one, row by row. For classification McNemar's exact test, its p-values adjusted for the
number of comparisons (Holm 1979, "A simple sequentially rejective multiple test procedure"); for text a paired bootstrap of bits per
character. The best was chosen on these very rows, so its own score is likely a little too high; the tests do not correct for that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from weitiao.errors import DataError
from weitiao.evaluate.statistics import bootstrap, mcnemar, paired_difference
from weitiao.language import t
from weitiao.run import Run

SIGNIFICANT = 0.05
Titles = dict[str, str]
"""A title in both languages."""


@dataclass(frozen=True)
class Entry:
    """One row of the table. ``kind`` is ``baseline``, ``base`` or ``tuned``; ``outcomes`` maps each test row to right or wrong, or (text)
    to its nats and characters; ``price`` holds what is known of it."""

    name: str
    title: Titles
    kind: str
    metrics: dict[str, Any]
    outcomes: Mapping[str, Any]
    price: dict[str, Any] = field(default_factory=dict)
    run: str | None = None


def row_key(row: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """What makes two test rows the same: the file's content, the row's place in it, and its label."""
    return f"{files.get(str(row.get('file')), '')[:16]} {row['id']} {row.get('label', '')}"


def outcomes(rows: Sequence[Mapping[str, Any]], files: Mapping[str, str]) -> dict[str, Any]:
    """The outcome of each prediction, by the row's key."""
    return {row_key(row, files): row["correct"] if "correct" in row else (row["nats"], row["characters"]) for row in rows}


def run_entry(run: Run, title: Titles | None = None) -> Entry:
    """A finished run as a row. Raises DataError where its test rows were not judged."""
    after = run.read("evaluation/after.json")
    if not after:
        remedy = t("先评测它：weitiao evaluate RUN --save", "judge it first: weitiao evaluate RUN --save")
        raise DataError(str(run.path), t("没有测试集上的评测", "its test rows were not judged"), remedy)
    files = {entry["path"]: entry["sha256"] for entry in run.read("data/ledger.json")["files"]}
    training, probe = run.record["training"], run.read("evaluation/probe.json")
    price = {
        "train_seconds": training["seconds"],
        "tokens": training["tokens"],
        "peak_memory_bytes": training["peak_memory_bytes"],
        "trained_parameters": run.record["trainable"]["parameters"],
        "size_bytes": sum(file.stat().st_size for file in (run.path / "model").rglob("*.safetensors")),
        "ms_per_row": 1000 / after["rows_per_second"],
        "energy_joules": run.record.get("energy", {}).get("joules"),
        "forgetting": probe.get("languages"),
    }
    judged = outcomes(run.read_lines("evaluation/predictions-after.jsonl"), files)
    name = str(run.record["name"])
    return Entry(name, title or {"zh": name, "en": name}, "tuned", after["metrics"], judged, price, str(run.path))


def opponent_entries(folder: Path, result: Mapping[str, Any]) -> list[Entry]:
    """The simple methods and the base model as rows."""
    import json

    found = []
    for one in result["opponents"]:
        rows = [json.loads(line) for line in (folder / f"predictions-{one['name']}.jsonl").read_text(encoding="utf-8").splitlines()]
        price = {
            "train_seconds": one.get("fit_seconds", 0.0),
            "peak_memory_bytes": one["peak_memory_bytes"],
            "ms_per_row": 1000 / one["rows_per_second"],
            "trained_parameters": 0 if one["kind"] == "base" else None,
            "size_bytes": result["base_model"]["bytes"] if one["kind"] == "base" else None,
        }
        found.append(Entry(one["name"], one["title"], one["kind"], one["metrics"], outcomes(rows, result["files"]), price))
    return found


def require_same_rows(entries: Sequence[Entry]) -> None:
    """Raise DataError where the test rows differ: scores on different rows cannot be ranked."""
    first = entries[0]
    for other in entries[1:]:
        only_first, only_other = first.outcomes.keys() - other.outcomes.keys(), other.outcomes.keys() - first.outcomes.keys()
        if only_first or only_other:
            common = len(first.outcomes.keys() & other.outcomes.keys())
            cause = t(
                f"测试的行与 {first.run or first.name} 不同：相同 {common} 行，只有前者 {len(only_first)} 行，只有它 {len(only_other)} 行",
                f"its test rows are not those of {first.run or first.name}: {common} in common, {len(only_first)} only there, "
                f"{len(only_other)} only here",
            )
            remedy = t(
                "在同一个文件上评测它们（data.test 相同，或划分的 seed 相同）再比较",
                "judge them on the same file (the same data.test, or the same seed of the split), then compare",
            )
            raise DataError(other.run or other.name, cause, remedy)


def primary_metric(metrics: Mapping[str, Any]) -> str:
    """The metric by which rows are ranked: accuracy, or bits per character (lower is better)."""
    return "accuracy" if "accuracy" in metrics else "bits_per_character"


def build_table(entries: Sequence[Entry], seed: int) -> dict[str, Any]:
    """``compare.json`` without its recommendation. Raises DataError where the test rows differ."""
    require_same_rows(entries)
    metric = primary_metric(entries[0].metrics)
    sign = 1 if metric == "accuracy" else -1
    best = max(entries, key=lambda entry: sign * entry.metrics[metric]["value"])
    keys = sorted(best.outcomes)
    against = {entry.name: _against(best, entry, keys, seed) for entry in entries if entry is not best}
    tested = {name: pair["mcnemar"]["p_value"] for name, pair in against.items() if "mcnemar" in pair}
    for name, p in holm(tested).items():
        against[name]["p_holm"] = p
    rows = [
        {
            "name": entry.name, "title": entry.title, "kind": entry.kind, "run": entry.run, "metrics": entry.metrics, **entry.price,
            "against_best": against.get(entry.name), "verdict": _verdict(against.get(entry.name)),
        }
        for entry in entries
    ]  # fmt: skip
    return {"schema": 1, "n": len(keys), "metric": metric, "best": best.name, "pareto": pareto(rows, metric, sign), "rows": rows}


def _against(best: Entry, other: Entry, keys: Sequence[str], seed: int) -> dict[str, Any]:
    """The best minus another one on the same rows."""
    a, b = ([entry.outcomes[key] for key in keys] for entry in (best, other))
    if isinstance(a[0], bool):
        right, also = np.array(a, dtype=bool), np.array(b, dtype=bool)
        return {"difference": paired_difference(right, also, seed).as_dict(), "mcnemar": mcnemar(right, also)}
    bits = (np.array([nats for nats, _ in a]) - np.array([nats for nats, _ in b])) / math.log(2)
    characters = np.array([length for _, length in a])
    difference = bootstrap(lambda rows: float(bits[rows].sum() / characters[rows].sum()), len(keys), seed)
    return {"difference": difference.as_dict()}


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values: the i-th smallest of m times m − i + 1, never below a smaller one's, at most 1."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for i, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - i)))
        adjusted[name] = largest
    return adjusted


def _verdict(pair: Mapping[str, Any] | None) -> str:
    """``best``, ``worse`` (shown: interval without 0, and adjusted p below 0.05 where there is one) or ``undecided``."""
    if pair is None:
        return "best"
    apart = pair["difference"]["low"] > 0 or pair["difference"]["high"] < 0
    return "worse" if apart and pair.get("p_holm", 0.0) < SIGNIFICANT else "undecided"


def pareto(rows: Sequence[Mapping[str, Any]], metric: str, sign: int) -> list[str]:
    """Rows that no other one beats in both quality and training time, the cheapest first."""
    kept: list[str] = []
    best = -math.inf
    for row in sorted(rows, key=lambda row: (row["train_seconds"], -sign * row["metrics"][metric]["value"])):
        value = sign * row["metrics"][metric]["value"]
        if value > best:
            best = value
            kept.append(str(row["name"]))
    return kept
