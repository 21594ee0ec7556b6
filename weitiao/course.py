"""The course of a training: the best weights so far, the time it takes, a step's line in metrics.jsonl."""

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import nn

from weitiao.model import checkpoint
from weitiao.train import Step


@dataclass
class Best:
    """The best weights so far by the validation metric; without validation the last ones."""

    metric: str
    value: float | None = None
    step: int = 0
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    since: int = 0
    last: float | None = None
    """What the last validation gave, better or not; not known yet in a run that goes on."""

    def offer(self, value: float, step: int, model: nn.Module) -> bool:
        """Keep these weights if they are better; count the validations since the last better ones otherwise."""
        self.last = value
        better = self.value is None or (value < self.value if self.metric == "loss" else value > self.value)
        if better:
            self.value, self.step, self.weights, self.since = value, step, checkpoint.trained_weights(model), 0
        else:
            self.since += 1
        return better


@dataclass
class Clock:
    """Tokens and seconds of the training itself, validation left out."""

    tokens: int = 0
    targets: int = 0
    seconds: float = 0.0
    _since: float = field(default_factory=perf_counter)

    def add(self, step: Step) -> None:
        """Book one step."""
        self.tokens += step.tokens
        self.targets += step.targets
        self.pause()
        self.resume()

    def pause(self) -> None:
        self.seconds += perf_counter() - self._since

    def resume(self) -> None:
        self._since = perf_counter()

    @property
    def rate(self) -> float:
        """Tokens per second so far."""
        return self.tokens / self.seconds if self.seconds else 0.0


def log_line(step: Step, clock: Clock, rate: float, memory: int) -> dict[str, Any]:
    """A step's line in metrics.jsonl."""
    learnt = {"loss": step.loss, "learning_rate": step.learning_rate, "grad_norm": step.gradient_norm}
    cost = {"tokens": clock.tokens, "tokens_per_second": rate, "memory_bytes": memory, "seconds": clock.seconds}
    return {"type": "step", "step": step.number, "epoch": step.epoch, **learnt, **step.parts, **cost}
