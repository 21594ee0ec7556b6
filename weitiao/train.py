"""The training loop: a generator that yields after every optimiser step. Logging, validation, checkpoints and early stopping are plain
statements of its caller."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from weitiao.data.batch import Batch, TreeBatch
from weitiao.errors import NonFiniteError, OutOfMemoryError
from weitiao.language import t
from weitiao.optim import Optimizer
from weitiao.records import Loss

Objective = Callable[[nn.Module, Any], Loss]
"""The loss of a micro-batch of the kind that the objective is made for."""


class Steps(Protocol):
    """What the loop asks of a plan; ``steps`` gives the micro-batches of each step when it is their turn."""

    @property
    def seed(self) -> int: ...

    @property
    def steps_per_epoch(self) -> int: ...

    @property
    def num_steps(self) -> int: ...

    def steps(self, first: int = 0) -> Iterator[Sequence[Batch | TreeBatch]]: ...

    def heaviest(self) -> Batch | TreeBatch: ...


@dataclass(frozen=True, slots=True)
class Step:
    """What one optimiser step did. ``number`` counts from 1; ``loss`` is in nats per target (a weighted mean where targets have weights);
    ``tokens`` are real tokens, without padding."""

    number: int
    epoch: float
    loss: float
    gradient_norm: float
    learning_rate: float
    tokens: int
    targets: int
    parts: Mapping[str, float] = field(default_factory=dict)
    """What else the objective says of the step."""


def reseed(seed: int, step: int, micro_batch: int = 0, rank: int = 0) -> None:
    """Set torch's random state from its place in the run, so that a resumed run draws the same numbers (dropout included)."""
    digest = hashlib.sha256(f"{seed}/{step}/{micro_batch}/{rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little"))


def train(model: nn.Module, objective: Objective, plan: Steps, optimizer: Optimizer, first_step: int = 0) -> Iterator[Step]:
    """Run the plan's steps from ``first_step`` on. Each step's loss is the sum over its micro-batches divided once by the sum of
    their targets' weights (their number where all count the same).

    Raises NonFiniteError, before the weights are touched, when a loss or a gradient is NaN or infinite.
    """
    device = next(model.parameters()).device
    for number, batches in enumerate(plan.steps(first_step), start=first_step):
        model.train()
        targets = sum(len(batch.targets_N) for batch in batches)
        weight = sum(batch.weight for batch in batches)
        total = 0.0
        parts: dict[str, tuple[float, float]] = {}
        for i, batch in enumerate(batches):
            reseed(plan.seed, number, i)
            loss = objective(model, batch.to(device))
            (loss.total / weight).backward()  # type: ignore[no-untyped-call]
            optimizer.accumulate()
            total += _finite(float(loss.total.detach()), number, batch)
            for name, (value, count) in loss.parts.items():
                former, counted = parts.get(name, (0.0, 0.0))
                parts[name] = (former + value, counted + count)
        norm = float(optimizer.gradient_norm())
        if not torch.isfinite(torch.tensor(norm)):
            raise _not_finite(t("梯度", "the gradient"), norm, number, [i for batch in batches for i in batch.ids])
        rate = optimizer.step(number, plan.num_steps)
        model.eval()
        tokens = sum(batch.num_tokens for batch in batches)
        means = {name: value / count for name, (value, count) in parts.items() if count}
        yield Step(number + 1, (number + 1) / plan.steps_per_epoch, total / weight, norm, rate, tokens, targets, means)


def try_heaviest(model: nn.Module, objective: Objective, plan: Steps) -> None:
    """Run forward and backward on the heaviest micro-batch before step 1, so that too little memory shows at once, not hours later.

    Raises OutOfMemoryError with advice. Gradients are thrown away.
    """
    batch = plan.heaviest()
    model.train()
    reseed(plan.seed, 0)
    try:
        loss = objective(model, batch.to(next(model.parameters()).device))
        loss.total.backward()  # type: ignore[no-untyped-call]
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(batch) from error
    except RuntimeError as error:
        if "alloc" in str(error).lower():  # how torch's CPU allocator says it
            raise _out_of_memory(batch) from error
        raise
    finally:
        model.zero_grad(set_to_none=True)
        model.eval()


def _out_of_memory(batch: Batch | TreeBatch) -> OutOfMemoryError:
    rows, length = batch.tokens_BS.shape
    return OutOfMemoryError(
        t(
            f"内存不够：最重的一批有 {rows} 行 × {length} 词元。\n  怎么办: 减小 train.micro_batch_tokens（结果不变），或 data.max_tokens，"
            "或用 method.kind=lora",
            f"out of memory: the heaviest micro-batch has {rows} rows × {length} tokens.\n  What to do: lower train.micro_batch_tokens "
            "(the result stays the same) or data.max_tokens, or use method.kind=lora",
        )
    )


def _finite(value: float, step: int, batch: Batch | TreeBatch) -> float:
    if value - value != 0:  # NaN and ±infinity
        raise _not_finite(t("损失", "the loss"), value, step, list(batch.ids))
    return value


def _not_finite(what: str, value: float, step: int, ids: list[str]) -> NonFiniteError:
    shown = ", ".join(ids[:10]) + (" …" if len(ids) > 10 else "")
    return NonFiniteError(
        t(
            f"第 {step + 1} 步：{what}是 {value}，停止；权重没有更新，也没有发布。这一步的行：{shown}\n  怎么办: 降低 optim.learning_rate，"
            "检查这些行，或用 model.precision=float32",
            f"step {step + 1}: {what} is {value}; stopped, the weights were not updated and nothing was published. Rows of this step: "
            f"{shown}\n"
            "  What to do: lower optim.learning_rate, look at these rows, or use model.precision=float32",
        )
    )
