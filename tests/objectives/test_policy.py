"""Reinforcement's loss and advantages: values derived by hand, every setting felt, and micro-batches that add up."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import load, relative, within

from weitiao.config_objectives import GrpoObjective
from weitiao.data.batch import make_trees, split_tree
from weitiao.model.trees import score_trees
from weitiao.objectives import policy
from weitiao.objectives.policy import policy_loss
from weitiao.records import Branch, Tree
from weitiao.rollouts import advantages

LOGS = [-1.0, -2.0, -0.5]
"""Now; drawn at −1.5, −1.0, −0.5, by the base model −1.2, −2.2, −0.7."""
RATIOS = [math.exp(0.5), math.exp(-1.0), 1.0]
KL = [math.exp(-0.2) + 0.2 - 1] * 3


def rollouts(sampled: bool = True, reference: bool = True) -> Tree:
    """Two answers of two tokens and one, better and worse than their group."""
    drawn, base = ((-1.5, -1.0), (-0.5,)) if sampled else ((), ()), ((-1.2, -2.2), (-0.7,)) if reference else ((), ())
    branches = [
        Branch(tokens, (True,) * len(tokens), base[i], drawn[i], advantage)
        for i, (tokens, advantage) in enumerate([((11, 12), 2.0), ((13,), -1.0)])
    ]
    return Tree("x", (5, 6, 7), tuple(branches))


def loss_of(monkeypatch, tree: Tree, **settings) -> tuple[float, dict]:
    monkeypatch.setattr(policy, "answer_log_probabilities", lambda *_: torch.tensor(LOGS))
    loss = policy_loss(GrpoObjective(**settings))(torch.nn.Linear(1, 1), make_trees([tree], 2.0))
    assert loss.weight == 2.0
    return float(loss.total), dict(loss.parts)


def test_values_derived_by_hand(monkeypatch):
    # first answer, A = 2: 1.2 · 2 (clipped from 1.65 · 2), then 0.37 · 2 (below 1 − 0.2, but the smaller of the two counts); second: −1
    gains = [2 * 1.2, 2 * RATIOS[1], -1.0]
    without = rollouts(reference=False)
    value, parts = loss_of(monkeypatch, without)
    assert value == pytest.approx(-((gains[0] + gains[1]) / 2 + gains[2]))
    assert parts == {"entropy": (pytest.approx(3.5), 3.0), "clipped": (1.0, 3.0)}
    assert loss_of(monkeypatch, without, form="dr_grpo", answer_tokens=10)[0] == pytest.approx(-sum(gains) / 10)
    assert loss_of(monkeypatch, without, form="dapo", clip_high=0.28)[0] == pytest.approx(-(2 * 1.28 + gains[1] + gains[2]))
    value, parts = loss_of(monkeypatch, rollouts(), kl_weight=0.5)
    kl = [k * ratio for k, ratio in zip(KL, RATIOS, strict=True)]
    assert value == pytest.approx(-((gains[0] + gains[1]) / 2 + gains[2]) + 0.5 * ((kl[0] + kl[1]) / 2 + kl[2]))
    assert parts["kl"] == (pytest.approx(sum(KL)), 3.0)


def test_at_the_first_update_the_gradient_is_that_of_the_advantages(monkeypatch):
    logs = torch.tensor(LOGS, requires_grad=True)
    monkeypatch.setattr(policy, "answer_log_probabilities", lambda *_: logs)
    loss = policy_loss(GrpoObjective(form="dapo"))(torch.nn.Linear(1, 1), make_trees([rollouts(sampled=False, reference=False)], 3.0))
    loss.total.backward()
    assert logs.grad.tolist() == [-2.0, -2.0, 1.0]
    assert "clipped" not in loss.parts


CHANGES = [
    {"form": "dr_grpo"}, {"form": "dapo"}, {"clip_low": 0.7}, {"clip_high": 0.1}, {"kl_weight": 0.2},
    {"form": "dr_grpo", "answer_tokens": 9},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_setting_is_felt(change, monkeypatch):
    tree, former = rollouts(), {"form": "dr_grpo"} if "answer_tokens" in change else {}
    if "clip_low" in change:  # it holds back what is pushed down
        tree = replace(tree, branches=tuple(replace(b, advantage=-b.advantage) for b in tree.branches))
    assert loss_of(monkeypatch, tree, **former)[0] != pytest.approx(loss_of(monkeypatch, tree, **{**former, **change})[0])


def test_temperature_is_felt(tiny_model):
    model, batch = load(tiny_model), make_trees([rollouts()])
    assert len({float(policy_loss(GrpoObjective(temperature=t))(model, batch).total.detach()) for t in (0.5, 1.0)}) == 2


def test_advantages_derived_by_hand():
    rewards = np.array([[1.0, 0.0, 0.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    deviation = math.sqrt(4 * 0.25 / 3)  # of the first group, with n − 1
    for form in ("grpo", "dapo"):
        expected = 0.5 / (deviation + 1e-4)
        assert advantages(rewards, form)[0] == pytest.approx([expected, -expected, -expected, expected])
    assert advantages(rewards, "dr_grpo")[0].tolist() == [0.5, -0.5, -0.5, 0.5]
    for form in ("grpo", "dapo", "dr_grpo"):
        assert advantages(rewards, form)[1].tolist() == [0.0] * 4, "equal rewards teach nothing, and are no NaN"


@pytest.mark.parametrize("form", ["grpo", "dr_grpo", "dapo"])
def test_micro_batches_add_up(form, tiny_model):
    """However a set of rollouts is split, within a group too, the loss and the gradient of every weight are the same."""
    model = load(tiny_model).requires_grad_(True)
    group = [Branch(tuple(range(40 + i, 43 + 2 * i)), (True,) * (3 + i), advantage=a) for i, a in enumerate((1.0, -0.5, 0.2, -0.7))]
    trees = [Tree("a", (5, 6, 7, 8), tuple(group)), Tree("b", (9, 10), tuple(group[:3]))]
    with torch.no_grad():
        scores = score_trees(model, trees, 100)
    trees = [
        replace(tree, branches=tuple(replace(b, reference=tuple(x + 0.1 for x in s), sampled=tuple(x - 0.05 for x in s))
                                     for b, s in zip(tree.branches, of_tree, strict=True)))
        for tree, of_tree in zip(trees, scores, strict=True)
    ]  # fmt: skip
    objective = policy_loss(GrpoObjective(form=form, kl_weight=0.3, answer_tokens=6))
    found = []
    for parts in ([trees], [trees[1:], trees[:1]], [[piece] for tree in trees for piece in split_tree(tree, 12)]):
        model.zero_grad(set_to_none=True)
        losses = [objective(model, make_trees(part)) for part in parts]
        for loss in losses:
            loss.total.backward()
        found.append((sum(loss.total.item() for loss in losses), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    assert len(parts) > 2
    (total, gradients), *others = found
    for other_total, other in others:
        assert other_total == pytest.approx(total, rel=1e-5)
        for name, gradient in gradients.items():
            within("rollouts split into micro-batches", relative(other[name], gradient), 2e-5)
