"""What a board is shown of a run: the numbers of each line of metrics.jsonl, and at the end confusion matrix and sample predictions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

LABELS_AT_MOST = 100
"""A larger confusion matrix cannot be read on any board."""
_NOT_NUMBERS = ("step", "n")


class Board(Protocol):
    """One monitor. Every method may fail or hang: the process that calls it is not the run's."""

    @property
    def facts(self) -> dict[str, Any]:
        """Where to look: ``mode``, ``url`` or ``folder``."""
        ...

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name at a step."""
        ...

    def show(self, step: int, matrix: Mapping[str, Any] | None, samples: list[dict[str, Any]]) -> None:
        """Confusion matrix (``labels``, ``rows``) and predictions of an evaluation."""
        ...

    def close(self, state: str, error: str | None) -> None:
        """The run ended; wait until all is stored or sent."""
        ...


@dataclass(frozen=True)
class Reading:
    """The numbers of one line. ``stream`` tells lines apart that stand at the same step."""

    stream: str
    step: int
    values: dict[str, float]


_GROUPS = {"step": "train", "validation": "validation", "before": "test", "after": "test"}


def reading(line: Mapping[str, Any], last_step: int) -> Reading | None:
    """What a board is shown of a line; None: nothing. An evaluation stands where the training was: before it at 0, after it at its last
    step."""
    kind = line.get("type")
    stream = str(line.get("when") if kind == "evaluation" else kind)
    if stream not in _GROUPS:
        return None
    step = {"before": 0, "after": last_step}.get(stream, line.get("step"))
    if not isinstance(step, int):
        return None
    values = {
        f"{_GROUPS[stream]}/{name}": float(value)
        for name, value in line.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name not in _NOT_NUMBERS
    }
    return Reading(stream, step, values)


def samples(predictions: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """The rows to show: wrong ones first, in the file's order."""
    chosen = sorted((p for p in predictions if "prediction" in p), key=lambda p: bool(p.get("correct")))[:number]
    return [{key: p.get(key) for key in ("id", "text", "label", "prediction", "probability")} for p in chosen]


def confusion(evaluation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The confusion matrix of an evaluation, unless there is none or it is too large to be read."""
    matrix = evaluation.get("confusion_matrix")
    return matrix if isinstance(matrix, dict) and len(matrix["labels"]) <= LABELS_AT_MOST else None


def markdown_table(headers: list[str], rows: list[list[Any]]) -> str:
    """A table as Markdown."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines)


def matrix_rows(matrix: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Headers and rows of a confusion matrix: right labels down, predictions across."""
    return ["", *matrix["labels"]], [[label, *row] for label, row in zip(matrix["labels"], matrix["rows"], strict=True)]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of the run folder; empty if it is absent or cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
