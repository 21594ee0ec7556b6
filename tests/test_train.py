"""The loop: it learns, it repeats itself bit for bit, it stops before a NaN reaches the weights."""

import pytest
import torch
from tiny import STEADY, load, plan, sft_rows, weights

from weitiao.config_methods import LoraMethod
from weitiao.config_training import OptimConfig
from weitiao.data.batch import Plan
from weitiao.errors import NonFiniteError, OutOfMemoryError
from weitiao.methods import apply_method
from weitiao.objectives.next_token import next_token_loss
from weitiao.optim import Optimizer
from weitiao.records import Loss
from weitiao.train import train, try_heaviest

LENGTHS = (5, 31, 2, 17, 40, 9, 23, 12, 8, 8)


def lora(folder, dropout: float = 0.0):
    torch.manual_seed(0)
    return apply_method(load(folder), LoraMethod(dropout=dropout))


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def run(model, steps: Plan, objective=next_token_loss, learning_rate: float = 1e-2):
    optimizer = Optimizer(model.parameters(), STEADY, learning_rate)
    return list(train(model, objective, steps, optimizer)), weights(model)


def test_the_loss_falls(tiny_model):
    model = load(tiny_model)
    before = weights(model)
    steps, _ = run(model, plan(sft_rows(LENGTHS), 5, 40))
    first, last = sum(s.loss for s in steps[:2]) / 2, sum(s.loss for s in steps[-2:]) / 2
    assert first > 5  # random tokens of 600: ln 600 = 6.4, more for a model that is sure of itself
    assert last < 0.5 * first
    assert not equal(weights(model), before)
    assert [s.number for s in steps] == list(range(1, 41))
    assert steps[-1].epoch == 20.0
    assert {s.learning_rate for s in steps} == {1e-2}
    assert sum(s.tokens for s in steps[:2]) == sum(LENGTHS)
    assert sum(s.targets for s in steps[:2]) == sum(row.num_targets for row in sft_rows(LENGTHS))
    assert not model.training


def test_the_reported_loss_is_the_mean_over_targets(tiny_model):
    """By plain transformers, row by row, on the weights before the step."""
    model, rows = load(tiny_model), sft_rows(LENGTHS)
    total = 0.0
    for row in rows:
        ids = torch.tensor([row.tokens])
        labels = torch.where(torch.tensor([row.trained]), ids, -100)
        total += model(ids, labels=labels, num_items_in_batch=1).loss.item()
    (step,), _ = run(model, plan(rows, len(rows), 1, micro_batch_tokens=60))
    assert step.loss == pytest.approx(total / sum(row.num_targets for row in rows), rel=1e-6)


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("micro_batch_tokens", [100_000, 1])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_a_number_stops_before_the_weights(bad, micro_batch_tokens, where, tiny_model):
    model = lora(tiny_model)
    seen = weights(model)
    calls = 0
    first_of_step_3 = 3 if micro_batch_tokens > 1 else 2 * 5 + 3  # with rows alone: the third micro-batch of it

    def objective(model, batch) -> Loss:
        nonlocal calls
        calls += 1
        loss = next_token_loss(model, batch)
        if calls != first_of_step_3:
            return loss
        if where == "loss":
            return Loss(loss.total * bad, loss.weight)
        loss.total.register_hook(lambda gradient: gradient * bad)  # the loss is sound, what flows back is not
        return loss

    steps = plan(sft_rows(LENGTHS), 5, 4, micro_batch_tokens)
    done = []
    loop = train(model, objective, steps, Optimizer(model.parameters(), STEADY, 1e-2))
    for _ in range(2):
        done.append(next(loop))
        seen = weights(model)
    with pytest.raises(NonFiniteError) as failure:
        next(loop)
    assert [s.number for s in done] == [1, 2]
    assert equal(weights(model), seen)
    batches = list(steps.steps())[2]
    rows = batches[first_of_step_3 - 2 * 5 - 1].ids if where == "loss" and micro_batch_tokens == 1 else [i for b in batches for i in b.ids]
    message = str(failure.value)
    assert "3" in message
    assert all(row in message for row in rows)
    assert sum(row.id in message.replace(",", " ").split() for row in sft_rows(LENGTHS)) == len(rows)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_same_seed_twice_is_the_same_bit_for_bit(dropout, tiny_model):
    steps = plan(sft_rows(LENGTHS), 4, 5, micro_batch_tokens=60, seed=7)
    _, first = run(lora(tiny_model, dropout), steps)
    torch.rand(3)  # what happened before does not matter
    _, second = run(lora(tiny_model, dropout), steps)
    assert equal(first, second)


def test_another_seed_is_another_run(tiny_model):
    _, first = run(lora(tiny_model, 0.3), plan(sft_rows(LENGTHS), 10, 3, seed=1))
    _, second = run(lora(tiny_model, 0.3), plan(sft_rows(LENGTHS), 10, 3, seed=2))  # the same rows in every step: only dropout differs
    assert not equal(first, second)


def test_dropout_differs_from_micro_batch_to_micro_batch(tiny_model):
    """Ten equal rows, each a micro-batch: with the same dropout all would have the same loss."""
    row = sft_rows([12])[0]
    losses = []

    def objective(model, batch) -> Loss:
        loss = next_token_loss(model, batch)
        losses.append(loss.total.item())
        return loss

    model = lora(tiny_model, 0.5)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.normal_(std=0.5)
    run(model, plan([row] * 5, 5, 2, micro_batch_tokens=1), objective)
    assert len(set(losses)) == 10


def test_a_run_can_be_continued(tiny_model):
    """Stopped after step 3 of 7 (in the middle of an epoch) and continued by another generator: the weights of an uninterrupted run."""
    rows, config = sft_rows(LENGTHS), OptimConfig(warmup_share=0.3)
    steps = plan(rows, 4, 7, micro_batch_tokens=60)

    whole = lora(tiny_model, 0.3)
    reference = list(train(whole, next_token_loss, steps, Optimizer(whole.parameters(), config, 1e-2)))

    model = lora(tiny_model, 0.3)
    optimizer = Optimizer(model.parameters(), config, 1e-2)
    begun = []
    for step in train(model, next_token_loss, steps, optimizer):
        begun.append(step)
        if step.number == 3:
            break
    kept, state = weights(model), optimizer.adamw.state_dict()
    other = lora(tiny_model, 0.3)
    with torch.no_grad():
        for name, p in other.named_parameters():
            p.copy_(kept[name])
    resumed = Optimizer(other.parameters(), config, 1e-2)
    resumed.adamw.load_state_dict(state)
    torch.rand(5)
    rest = list(train(other, next_token_loss, steps, resumed, first_step=3))
    assert begun + rest == reference
    assert equal(weights(other), weights(whole))


def test_the_heaviest_batch_leaves_no_trace(tiny_model):
    model = lora(tiny_model)
    before = weights(model)
    try_heaviest(model, next_token_loss, plan(sft_rows(LENGTHS), 4, 1))
    assert equal(weights(model), before)
    assert all(p.grad is None for p in model.parameters())
    assert not model.training


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory: tried 9 bytes")]
)
def test_too_little_memory_is_said_before_step_1(error, tiny_model):
    def objective(_model, _batch) -> Loss:
        raise error

    with pytest.raises(OutOfMemoryError, match=r"4 (rows|行) × 40[^\n]*\n.*train\.micro_batch_tokens"):
        try_heaviest(load(tiny_model), objective, plan(sft_rows(LENGTHS), 4, 1))


def test_other_errors_are_not_called_memory(tiny_model):
    def objective(_model, _batch) -> Loss:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        try_heaviest(load(tiny_model), objective, plan(sft_rows(LENGTHS), 4, 1))
