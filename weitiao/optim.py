"""AdamW with float32 master weights, gradient accumulation in float32, clipping, a warm-up and a schedule."""

import math
from collections.abc import Iterable
from threading import Event
from time import perf_counter

import torch
from torch import nn

from weitiao.config_training import OptimConfig


def schedule(step: int, num_steps: int, config: OptimConfig) -> float:
    """The factor on the highest learning rate at ``step`` (from 0): a linear warm-up, then cosine, linear or constant down to
    ``final_share``."""
    warmup = round(config.warmup_share * num_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, num_steps - warmup)
    down = 0.5 * (1 + math.cos(math.pi * progress)) if config.schedule == "cosine" else 1 - progress
    return config.final_share + (1 - config.final_share) * down


class Optimizer:
    """AdamW over the trainable weights of a model.

    Weights in bfloat16 get a float32 master: steps far smaller than the weight's own precision add up there, and the working copy is
    rounded from it after each step. Gradients of micro-batches are added in float32. Norms and biases (one-dimensional weights) are not
    decayed.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], config: OptimConfig, learning_rate: float) -> None:
        self.config, self.learning_rate = config, learning_rate
        self.working = [p for p in parameters if p.requires_grad]
        self.masters = [p if p.dtype == torch.float32 else nn.Parameter(p.detach().float()) for p in self.working]
        groups = [
            {"params": [m for m in self.masters if m.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [m for m in self.masters if m.ndim <= 1], "weight_decay": 0.0},
        ]
        self.may_step, self.seconds_waited = Event(), 0.0
        """Not set while somebody reads weights and moments: a step waits for that, so long in all."""
        self.may_step.set()
        self.adamw = torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=(config.beta1, config.beta2), fused=True)

    def accumulate(self) -> None:
        """Add the working copies' gradients to the masters' and free them. Call after each micro-batch's backward pass."""
        for working, master in zip(self.working, self.masters, strict=True):
            if working is master or working.grad is None:
                continue
            if master.grad is None:
                master.grad = working.grad.float()
            else:
                master.grad.add_(working.grad)
            working.grad = None

    def gradient_norm(self) -> torch.Tensor:
        """Clip the gradients to ``clip_norm`` and return their norm before that (a float32 scalar)."""
        return nn.utils.clip_grad_norm_(self.masters, self.config.clip_norm)

    def step(self, number: int, num_steps: int) -> float:
        """Update the weights and return the learning rate used. ``number`` counts from 0."""
        start = perf_counter()
        self.may_step.wait()
        self.seconds_waited += perf_counter() - start
        rate = self.learning_rate * schedule(number, num_steps, self.config)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        with torch.no_grad():
            for working, master in zip(self.working, self.masters, strict=True):
                if working is not master:
                    working.copy_(master)
        return rate
