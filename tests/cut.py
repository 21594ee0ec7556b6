"""A training that is cut short, and what must not tell its result from that of an uninterrupted one."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from weitiao import storage
from weitiao.config import RunConfig
from weitiao.finetune import finetune

TIMED = {"seconds", "tokens_per_second", "memory_bytes"}


class Cut(Exception):
    """Stands for whatever ends a process."""


def cut_short(config: RunConfig, monkeypatch: pytest.MonkeyPatch, after: int = 3) -> Path:
    """The folder of a named run whose training ended after so many steps."""
    training = sys.modules["weitiao.training"]
    real = training.train

    def train(*arguments: Any) -> Any:
        for step in real(*arguments):
            yield step
            if step.number == after:
                raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", train)
        with pytest.raises(Cut):
            finetune(config)
    return Path(config.runs) / str(config.name)


def log(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl without what was timed."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMED} for line in lines]


def weights(run: Path) -> str:
    """The hash of the adapter that a run trained."""
    return storage.sha256(run / "model" / "adapter_model.safetensors")
