"""The schedule by hand; AdamW with masters against plain torch."""

import math

import pytest
import torch
from torch import nn

from weitiao.config_training import OptimConfig
from weitiao.optim import Optimizer, schedule

STEADY = OptimConfig(schedule="constant", warmup_share=0.0, weight_decay=0.0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # Ten steps, two of warm-up (1/3 and 2/3 of the way), then eight eighths of the way down.
        ({"schedule": "constant"}, [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 1, 1]),
        ({"schedule": "linear"}, [1 / 3, 2 / 3, 8 / 8, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ({"schedule": "linear", "final_share": 0.2}, [1 / 3, 2 / 3, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]),
        ({"schedule": "cosine"}, [1 / 3, 2 / 3, *((1 + math.cos(math.pi * k / 8)) / 2 for k in range(8))]),
        ({"schedule": "cosine", "final_share": 1.0}, [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 1, 1]),
        ({"schedule": "linear", "warmup_share": 0.0}, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
    ],
)
def test_the_schedule_by_hand(settings, expected):
    config = OptimConfig(**{"warmup_share": 0.2} | settings)
    assert [schedule(step, 10, config) for step in range(10)] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_short_runs_learn_something_at_every_step(num_steps):
    for kind in ("constant", "linear", "cosine"):
        assert all(schedule(step, num_steps, OptimConfig(schedule=kind)) > 0 for step in range(num_steps))


class Toy(nn.Module):
    """Weights of one and two dimensions."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(6, 5)
        self.norm = nn.LayerNorm(5)
        self.second = nn.Linear(5, 2)
        self.to(dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.norm(self.first(x)).tanh())


def inputs(step: int) -> torch.Tensor:
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(step))


@pytest.mark.parametrize("fused", [True, False])
def test_float32_is_torch_adamw(fused):
    config = OptimConfig(weight_decay=0.1, clip_norm=0.5, beta1=0.8, beta2=0.95)
    ours, theirs = Toy(), Toy()
    optimizer = Optimizer(ours.parameters(), config, 1e-2)
    decayed = [p for p in theirs.parameters() if p.ndim > 1]
    plain = [p for p in theirs.parameters() if p.ndim <= 1]
    reference = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], lr=1e-2, betas=(0.8, 0.95), fused=fused
    )
    for step in range(10):
        ours(inputs(step)).square().sum().backward()
        optimizer.accumulate()
        norm = float(optimizer.gradient_norm())
        rate = optimizer.step(step, 10)
        theirs(inputs(step)).square().sum().backward()
        expected = float(nn.utils.clip_grad_norm_(theirs.parameters(), 0.5))
        assert expected > 0.5  # so clipping acts
        assert norm == (expected if fused else pytest.approx(expected, rel=1e-5))
        for group in reference.param_groups:
            group["lr"] = rate
        reference.step()
        reference.zero_grad()
        assert rate == 1e-2 * schedule(step, 10, config)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        if fused:
            assert torch.equal(a, b)
        else:
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)
        assert a.grad is None


def test_only_matrices_decay():
    """Without gradients' help: a gradient of zero leaves decay alone to act, by rate × decay each step."""
    model = Toy()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = Optimizer(model.parameters(), OptimConfig(schedule="constant", warmup_share=0.0, weight_decay=0.1), 0.5)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.gradient_norm()
    optimizer.step(0, 1)
    for name, p in model.named_parameters():
        expected = before[name] * (1 - 0.5 * 0.1) if p.ndim == 2 else before[name]
        assert torch.allclose(p, expected, rtol=1e-6, atol=0), name


def test_frozen_weights_are_left_alone():
    model = Toy()
    model.first.requires_grad_(False)
    optimizer = Optimizer(model.parameters(), STEADY, 1e-2)
    assert len(optimizer.working) == 4
    frozen = model.first.weight.clone()
    model(inputs(0)).sum().backward()
    optimizer.accumulate()
    optimizer.gradient_norm()
    optimizer.step(0, 1)
    assert torch.equal(model.first.weight, frozen)


def test_bfloat16_steps_too_small_for_it_add_up():
    """At 1.0 bfloat16's neighbours are 2⁻⁸ below and 2⁻⁷ above. AdamW with a steady gradient moves 1e-3 a step: less than half of either,
    so without masters the weight would never move; with them it arrives after 20 steps at 0.98 to bfloat16's precision."""
    weight = nn.Parameter(torch.ones(4, 4, dtype=torch.bfloat16))
    optimizer = Optimizer([weight], STEADY, 1e-3)
    seen = []
    for step in range(20):
        weight.grad = torch.full_like(weight, 0.25)
        optimizer.accumulate()
        optimizer.gradient_norm()
        optimizer.step(step, 20)
        seen.append(float(weight[0, 0].detach()))
    assert seen[0] == 1.0  # the working copy cannot show the first step
    assert optimizer.masters[0].dtype == torch.float32
    assert float(optimizer.masters[0][0, 0].detach()) == pytest.approx(0.98, abs=1e-5)
    assert seen[-1] == float(torch.tensor(0.98).bfloat16())


def test_micro_batches_of_bfloat16_add_up_in_float32():
    """256 gradients of 1 beside one of 256: in bfloat16 256 + 1 stays 256."""
    weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    optimizer = Optimizer([weight], STEADY, 1e-3)
    for gradient in (256.0, *(1.0,) * 256):
        weight.grad = torch.full_like(weight, gradient)
        optimizer.accumulate()
        assert weight.grad is None
    assert float(optimizer.masters[0].grad) == 512.0
    assert float(optimizer.gradient_norm()) == 512.0
    assert float(optimizer.masters[0].grad) == pytest.approx(1.0, rel=1e-5)  # clipped to the norm 1
