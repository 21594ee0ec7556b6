"""Our losses on pairs and rollouts against TRL 1.16's own: the same value and the same gradients (made by tests/parity/trl_oracle.py)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import load, relative, within
from trl_cases import DPO, GRPO, PAIRS, ROLLOUTS, grpo_objective, kept, set_weights

from weitiao.data.batch import make_trees
from weitiao.objectives.policy import policy_loss
from weitiao.objectives.preference import preference_loss

ORACLE = load_file(Path(__file__).parent / "trl_oracle.safetensors")


def check(name: str, model: torch.nn.Module, loss: torch.Tensor) -> None:
    within("TRL: loss", float((loss.detach() - ORACLE[f"{name}/loss"]).abs()), 1e-5)
    loss.backward()
    found = kept({key: p.grad for key, p in model.named_parameters()})
    for key, gradient in found.items():
        expected = ORACLE[f"{name}/{key}"]
        assert float(expected.norm()) > 1e-3
        within("TRL: gradient", float((gradient - expected).abs().max()), 1e-5)
        within("TRL: gradient, relative", relative(gradient, expected), 1e-5)


@pytest.mark.parametrize("name", DPO)
def test_pairs(name, tiny_model):
    model = set_weights(load(tiny_model))
    loss = preference_loss(DPO[name][2])(model, make_trees(PAIRS))
    check(name, model, loss.total / loss.weight)


@pytest.mark.parametrize("name", GRPO)
def test_rollouts(name, tiny_model):
    model = set_weights(load(tiny_model))
    config = grpo_objective(*GRPO[name])
    answers = [branch for tree in ROLLOUTS for branch in tree.branches]
    loss = policy_loss(config)(model, make_trees(ROLLOUTS))
    check(name, model, loss.total / (sum(b.num_targets for b in answers) if config.form == "dapo" else len(answers)))
    assert 0 < loss.parts["clipped"][0] < loss.parts["clipped"][1], "some tokens are clipped, some are not"
