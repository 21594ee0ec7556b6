"""The losses on pairs: values derived by hand, every weight of the configuration felt, and micro-batches that add up."""

import math

import pytest
import torch
from tiny import load, relative, within

from weitiao.config import RunConfig
from weitiao.config_objectives import DpoObjective, OrpoObjective, RewardObjective, SimpoObjective
from weitiao.data.batch import make_trees
from weitiao.objectives import choose_objective, preference
from weitiao.objectives.preference import preference_loss
from weitiao.records import Branch, Tree

OBJECTIVES = {
    "sigmoid": DpoObjective(),
    "sigmoid, mean, smoothed, sft": DpoObjective(lengths="mean", label_smoothing=0.1, sft_weight=0.5),
    "ipo": DpoObjective(loss="ipo", beta=0.5),
    "orpo": OrpoObjective(),
    "simpo": SimpoObjective(),
    "reward": RewardObjective(),
}


def pair(name: str, start: int, better: int, worse: int) -> Tree:
    """A pair of so many tokens, the base model's log-probabilities being −1, −2, … and −0.5, −1, …"""
    return Tree(
        name,
        tuple(range(start, start + 5)),
        (
            Branch(tuple(range(50, 50 + better)), (True,) * better, tuple(-1.0 * (i + 1) for i in range(better))),
            Branch(tuple(range(70, 70 + worse)), (True,) * worse, tuple(-0.5 * (i + 1) for i in range(worse))),
        ),
    )


PAIRS = [pair("a", 10, 3, 2), pair("b", 20, 1, 6), pair("c", 30, 4, 4)]


def loss_of(config, logs: list[float], monkeypatch) -> tuple[float, dict]:
    """The loss of one pair of two and one token with these log-probabilities; the base's are (−1, −2) and (−0.5,)."""
    monkeypatch.setattr(preference, "answer_log_probabilities", lambda *_: torch.tensor(logs))
    loss = preference_loss(config)(torch.nn.Linear(1, 1), make_trees([pair("x", 10, 2, 1)]))
    assert loss.weight == 1
    return float(loss.total), dict(loss.parts)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_values_derived_by_hand(monkeypatch):
    logs = [-0.5, -1.0, -2.0]
    # chosen: −1.5 against −3 by the base, so +1.5; rejected: −2 against −0.5, so −1.5; the lead is 3, per token 0.75 + 1.5 = 2.25
    value, parts = loss_of(DpoObjective(beta=0.5), logs, monkeypatch)
    assert value == pytest.approx(softplus(-1.5))
    assert parts == {"pair_accuracy": (1.0, 1.0), "margin": (1.5, 1.0), "chosen_logp": (-1.5, 2.0)}
    assert loss_of(DpoObjective(beta=0.5, lengths="mean"), logs, monkeypatch)[0] == pytest.approx(softplus(-1.125))
    smoothed = 0.9 * softplus(-1.5) + 0.1 * softplus(1.5)
    assert loss_of(DpoObjective(beta=0.5, label_smoothing=0.1), logs, monkeypatch)[0] == pytest.approx(smoothed)
    assert loss_of(DpoObjective(beta=0.5, sft_weight=2.0), logs, monkeypatch)[0] == pytest.approx(softplus(-1.5) + 2 * 0.75)
    assert loss_of(DpoObjective(loss="ipo", beta=0.5), logs, monkeypatch)[0] == pytest.approx((3 - 1) ** 2)
    assert loss_of(DpoObjective(loss="ipo", beta=0.5, lengths="mean"), logs, monkeypatch)[0] == pytest.approx((2.25 - 1) ** 2)
    assert loss_of(SimpoObjective(scale=2.0, margin=0.5), logs, monkeypatch)[0] == pytest.approx(softplus(-(2 * (-0.75 + 2) - 0.5)))
    odds = [math.exp(m) / (1 - math.exp(m)) for m in (-0.75, -2.0)]
    expected = 0.75 + 0.3 * softplus(-math.log(odds[0] / odds[1]))
    assert loss_of(OrpoObjective(odds_weight=0.3), logs, monkeypatch)[0] == pytest.approx(expected)


def test_before_training_the_loss_is_that_of_a_coin(monkeypatch):
    assert loss_of(DpoObjective(), [-1.0, -2.0, -0.5], monkeypatch)[0] == pytest.approx(math.log(2))


CHANGES = [
    (DpoObjective(), {"loss": "ipo"}),
    (DpoObjective(), {"beta": 0.2}),
    (DpoObjective(), {"lengths": "mean"}),
    (DpoObjective(), {"label_smoothing": 0.1}),
    (DpoObjective(), {"sft_weight": 0.1}),
    (DpoObjective(loss="ipo"), {"beta": 0.2}),
    (DpoObjective(loss="ipo"), {"lengths": "mean"}),
    (OrpoObjective(), {"odds_weight": 0.2}),
    (SimpoObjective(), {"scale": 3.0}),
    (SimpoObjective(), {"margin": 0.5}),
]


@pytest.mark.parametrize(("config", "change"), CHANGES, ids=[f"{c.kind} {d}" for c, d in CHANGES])
def test_every_setting_is_felt(config, change, monkeypatch):
    logs = [-0.5, -1.0, -2.0]
    assert loss_of(config, logs, monkeypatch)[0] != pytest.approx(loss_of(config.model_copy(update=change), logs, monkeypatch)[0])


def model_for(name: str, folder) -> torch.nn.Module:
    if name != "reward":
        return load(folder).requires_grad_(True)
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, num_labels=1).requires_grad_(True)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_micro_batches_add_up(name, tiny_model):
    """A step split in any way has the same loss and the same gradient of every weight."""
    model = model_for(name, tiny_model)
    objective = choose_objective(OBJECTIVES[name], model)
    found = []
    for parts in ([PAIRS], [PAIRS[:1], PAIRS[1:]], [[p] for p in PAIRS[::-1]]):
        model.zero_grad(set_to_none=True)
        losses = [objective(model, make_trees(part, ends_only=name == "reward")) for part in parts]
        for loss in losses:
            (loss.total / len(PAIRS)).backward()
        assert sum(loss.weight for loss in losses) == len(PAIRS)
        found.append((sum(loss.total.item() for loss in losses), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (total, gradients), *others = found
    for other_total, other in others:
        assert other_total == pytest.approx(total, rel=1e-6)
        assert other.keys() == gradients.keys() != set()
        for n, gradient in gradients.items():
            within("pairs split into micro-batches", relative(other[n], gradient), 2e-5 if "k_proj.bias" in n else 2e-6)


@pytest.mark.parametrize(
    ("tree", "shown"),
    [
        ({"task": "preference", "objective": "sft"}, "preference goes with dpo, orpo, simpo, reward"),
        ({"task": "generation", "objective": "dpo"}, "generation goes with sft"),
        ({"task": "preference", "objective": "dpo", "method": "head"}, "dpo takes lora or full"),
        ({"task": "preference", "objective": {"kind": "dpo", "loss": "ipo", "label_smoothing": 0.1}}, "sigmoid only"),
        ({"task": "preference", "objective": "dpo", "train": {"best_by": "macro_f1"}}, "accuracy, loss"),
        ({"task": "preference", "objective": "dpo", "data": {"columns": {"label": "x"}}}, "label"),
    ],
)
def test_what_does_not_go_together_is_refused(tree, shown):
    from weitiao import language

    language.use("en")
    try:
        with pytest.raises(ValueError, match=shown):
            RunConfig.model_validate(tree)
    finally:
        language.use(None)
