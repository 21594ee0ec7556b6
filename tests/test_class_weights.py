"""Class weights flow through the sums: by hand, against torch's cross_entropy(weight=…), and through a whole training step."""

import dataclasses
import math

import pytest
import torch
from tiny import STEADY, label_rows, load, plan, relative, sft_rows, weights, within

from weitiao.data.batch import make_batch
from weitiao.model.heads import output_matrix, trunk
from weitiao.model.load import check_folder, load_with_score_head
from weitiao.model.logprobs import negative_log_likelihood
from weitiao.objectives.next_token import label_loss, next_token_loss
from weitiao.optim import Optimizer
from weitiao.train import train

LABELS = ("甲", "乙", "丙")
BY_LABEL = (0.5, 1.0, 3.0)


def weighted(rows, by=lambda i: BY_LABEL[i % 3]):
    return [dataclasses.replace(row, weight=by(i)) for i, row in enumerate(rows)]


def test_the_weighted_sum_by_hand() -> None:
    """Logits 0 and ln 3: probabilities 1/4 and 3/4, so 2 ln 4 + 0.5 ln(4/3); the logits' gradients are 2·(−3/4, 3/4), 0.5·(1/4, −1/4)."""
    hidden = torch.tensor([[1.0], [1.0]], requires_grad=True)
    matrix = torch.tensor([[0.0], [math.log(3)]], requires_grad=True)
    total = negative_log_likelihood(hidden, matrix, torch.tensor([0, 1]), torch.tensor([2.0, 0.5]))
    assert total.item() == pytest.approx(2 * math.log(4) + 0.5 * math.log(4 / 3))
    total.backward()
    assert matrix.grad.flatten().tolist() == pytest.approx([-1.5 + 0.125, 1.5 - 0.125])
    assert hidden.grad.flatten().tolist() == pytest.approx([1.5 * math.log(3), -0.125 * math.log(3)])


def test_tokens_against_torch() -> None:
    draw = torch.Generator().manual_seed(0)
    hidden, matrix = torch.randn(7, 5, generator=draw, requires_grad=True), torch.randn(9, 5, generator=draw, requires_grad=True)
    targets = torch.randint(0, 9, (7,), generator=draw)
    by_class = torch.rand(9, generator=draw) + 0.1
    total = negative_log_likelihood(hidden, matrix, targets, by_class[targets])
    ours = torch.autograd.grad(total / by_class[targets].sum(), (hidden, matrix))
    expected = torch.nn.functional.cross_entropy(hidden @ matrix.T, targets, weight=by_class)
    theirs = torch.autograd.grad(expected, (hidden, matrix))
    assert float(total / by_class[targets].sum()) == pytest.approx(float(expected), rel=1e-6)
    for a, b in zip(ours, theirs, strict=True):
        within("class weights, tokens: gradient", relative(a, b), 1e-6)


def test_answers_of_a_language_model_against_torch(tiny_model) -> None:
    """Each token of a row's answer counts by the row's weight; the mean is over the weights."""
    model = load(tiny_model)
    rows = weighted(sft_rows([5, 9, 7, 12]))
    batch = make_batch(rows)
    assert batch.weight == pytest.approx(sum(row.weight * row.num_targets for row in rows))
    loss = next_token_loss(model, batch)
    hidden = trunk(model)(input_ids=batch.tokens_BS, use_cache=False).last_hidden_state
    logits = hidden[batch.rows_N, batch.columns_N] @ output_matrix(model).T
    each = torch.nn.functional.cross_entropy(logits, batch.targets_N, reduction="none")
    by_target = torch.tensor([row.weight for row in rows for _ in range(row.num_targets)])
    assert float(loss.total / loss.weight) == pytest.approx(float((each * by_target).sum() / by_target.sum()), rel=1e-5)


def test_a_score_head_against_torch(tiny_model) -> None:
    model = load_with_score_head(check_folder(tiny_model, "local"), LABELS, torch.device("cpu"), torch.float32)
    rows = weighted([dataclasses.replace(row, candidates=()) for row in label_rows([5, 9, 7, 12, 6], 3)])
    batch = make_batch(rows, 3)
    loss = label_loss(model, batch)
    scores = model.score(trunk(model)(input_ids=batch.tokens_BS, use_cache=False).last_hidden_state[batch.rows_N, batch.columns_N])
    expected = torch.nn.functional.cross_entropy(scores, batch.targets_N, weight=torch.tensor(BY_LABEL))
    assert float(loss.total / loss.weight) == pytest.approx(float(expected), rel=1e-5)
    assert loss.weight == pytest.approx(0.5 + 1 + 3 + 0.5 + 1)


def test_weights_of_one_change_nothing() -> None:
    assert make_batch(sft_rows([4, 6])).weights_N is None
    assert make_batch(sft_rows([4, 6])).weight == sum(row.num_targets for row in sft_rows([4, 6]))


def test_a_row_of_weight_two_is_a_row_twice(tiny_model) -> None:
    """One step on (a, 2·b) moves the weights as one step on (a, b, b); and micro-batches do not change it."""
    a, b = sft_rows([8, 6])
    results = []
    heavy = [a, dataclasses.replace(b, weight=2.0)]
    for rows, micro in ((heavy, 1000), ([a, b, dataclasses.replace(b, id="again")], 1000), (heavy, 1)):
        model = load(tiny_model)
        (step,) = train(model, next_token_loss, plan(rows, len(rows), 1, micro), Optimizer(model.parameters(), STEADY, 1e-2))
        results.append((step.loss, weights(model)))
    for loss, after in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-5)
        for name, value in after.items():
            within("class weights: step", relative(value, results[0][1][name]), 1e-4)
