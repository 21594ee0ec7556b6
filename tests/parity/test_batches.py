"""However a step is cut into micro-batches, it is the same step; and the order of rows is a pure function of (seed, epoch)."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import STEADY, VOCABULARY, label_rows, load, plan, relative, sft_rows, weights, within
from transformers import AutoModelForSequenceClassification

from weitiao.config_training import OptimConfig
from weitiao.data.batch import Plan, epoch_order, make_batch, split_by_tokens
from weitiao.objectives.next_token import label_loss, next_token_loss
from weitiao.optim import Optimizer
from weitiao.records import Encoded
from weitiao.train import train

LENGTHS = (5, 31, 4, 17, 40, 9, 23, 12)
CLOSE_LENGTHS = (28, 40, 37, 33, 34, 30, 39, 36)
CUTS = {  # how many rows the micro-batches have, by the most tokens of one
    CLOSE_LENGTHS: {320: [8], 160: [4, 4], 80: [2, 2, 2, 2], 1: [1] * 8},
    LENGTHS: {320: [8], 60: [1, 1, 2, 4], 1: [1] * 8},  # longest first: 40 | 31 | 23 17 | 12 9 5 4
}


def _one_step(folder, kind: str, lengths, limit: int):
    rows = label_rows(lengths, 3) if kind == "score" else sft_rows(lengths)
    if kind == "score":
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, num_labels=3)
    else:
        model = load(folder)
    before = weights(model)
    steps = plan(rows, 8, 1, limit, num_labels=3)
    config = OptimConfig(schedule="constant", warmup_share=0.0, weight_decay=0.0, clip_norm=1e9)
    # Plain gradient descent shows a wrong gradient in proportion; AdamW's first step would show its sign only.
    optimizer = Optimizer(model.parameters(), config, 10.0)
    optimizer.adamw = torch.optim.SGD(optimizer.masters, lr=10.0)  # large beside the rounding of the weights
    (step,) = train(model, label_loss if kind == "score" else next_token_loss, steps, optimizer)
    moved = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    return step, moved, [len(batch.ids) for batch in next(steps.steps())]


@pytest.mark.parametrize("lengths", list(CUTS), ids=["close", "unequal"])
@pytest.mark.parametrize("kind", ["sft", "score"])
def test_micro_batches_add_up_to_the_same_step(kind, lengths, tiny_model):
    reference, moves, _ = _one_step(tiny_model, kind, lengths, 100_000)
    for limit, sizes in CUTS[lengths].items():
        step, moved, found = _one_step(tiny_model, kind, lengths, limit)
        assert found == sizes
        assert (step.targets, step.tokens) == (reference.targets, reference.tokens)
        within("batches: loss", abs(step.loss / reference.loss - 1), 1e-6)  # measured 1.5e-7
        within("batches: gradient norm", abs(step.gradient_norm / reference.gradient_norm - 1), 1e-5)  # measured 1.8e-7
        for name, move in moves.items():
            within("batches: updates", relative(moved[name], move), 1e-5)  # measured 1.5e-6


def test_adamw_over_several_steps(tiny_model):
    def run(limit: int):
        model = load(tiny_model)
        rows = sft_rows(LENGTHS * 2)
        steps = list(train(model, next_token_loss, plan(rows, 8, 3, limit), Optimizer(model.parameters(), STEADY, 1e-3)))
        return steps, weights(model)

    (steps, whole), (others, parts) = run(100_000), run(60)
    for a, b in zip(steps, others, strict=True):
        within("batches: loss of later steps", abs(a.loss / b.loss - 1), 1e-5)  # measured 7.8e-8
    for name, weight in whole.items():
        within("batches: weights", relative(parts[name], weight), 1e-5)  # measured 1.2e-6


def test_what_stands_after_a_row_does_not_reach_it(tiny_model):
    """The residual of padding is zero, not small: rows alone and padded to 40 have the same loss."""
    model, rows = load(tiny_model), sft_rows(LENGTHS)
    alone = sum(next_token_loss(model, make_batch([row])).total.item() for row in rows)
    padded = next_token_loss(model, make_batch(rows)).total.item()
    within("batches: padding", abs(padded / alone - 1), 1e-6)  # measured 9.1e-8


def test_a_batch_by_hand():
    rows = [Encoded("a", (7, 8, 9), (True, False, True)), Encoded("b", (5, 6), (False, True))]
    batch = make_batch(rows)
    assert batch.tokens_BS.tolist() == [[7, 8, 9], [5, 6, 0]]
    # The first token has nothing before it: though marked, it is no target.
    assert list(zip(batch.rows_N.tolist(), batch.columns_N.tolist(), batch.targets_N.tolist(), strict=True)) == [(0, 1, 9), (1, 0, 6)]
    assert (batch.num_tokens, [row.num_targets for row in rows]) == (5, [1, 1])


def test_targets_are_chosen_by_position_never_by_token():
    """Every id of the vocabulary, those of padding and control tokens too, is a target where its place is trained."""
    ids = tuple(range(VOCABULARY))
    assert make_batch([Encoded("all", (1, *ids), (False, *(True,) * VOCABULARY))]).targets_N.tolist() == list(ids)


def test_a_score_batch_by_hand():
    rows = [Encoded("a", (7, 8, 9), (False,) * 3, 1, (0, 1)), Encoded("b", (5, 6), (False,) * 2, 2)]
    batch = make_batch(rows, 3)
    assert (batch.columns_N.tolist(), batch.targets_N.tolist()) == ([2, 1], [1, 2])
    assert batch.allowed_NL.tolist() == [[True, True, False], [True, True, True]]


@given(lengths=st.lists(st.integers(1, 50), max_size=40), most=st.integers(1, 200))
@settings(deadline=None)
def test_split_by_tokens(lengths, most):
    groups = split_by_tokens(lengths, most)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    flat = [lengths[i] for group in groups for i in group]
    assert flat == sorted(lengths, reverse=True)
    for group in groups:
        assert len(group) == 1 or len(group) * lengths[group[0]] <= most
    for group, following in itertools.pairwise(groups):  # one more row would not have fit
        assert (len(group) + 1) * lengths[group[0]] > most, following


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=100),
    batch_rows=st.integers(1, 9),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
)
@settings(deadline=None)
def test_epoch_order(lengths, batch_rows, seed, epoch):
    steps = epoch_order(lengths, batch_rows, seed, epoch)
    assert sorted(i for step in steps for i in step) == list(range(len(lengths)))
    assert len(steps) == math.ceil(len(lengths) / batch_rows)
    assert sorted(map(len, steps))[1:] == [batch_rows] * (len(steps) - 1)  # only one may be smaller
    assert steps == epoch_order(lengths, batch_rows, seed, epoch)


def test_other_epochs_and_seeds_have_other_orders():
    lengths = [i % 7 + 1 for i in range(60)]
    orders = [str(epoch_order(lengths, 4, seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


def test_rows_of_one_step_are_of_similar_length():
    """2,048 rows of 1 to 512 tokens in steps of 32: within two windows of 1,024 each step spans a thirty-second of the lengths."""
    lengths = [i % 512 + 1 for i in range(2048)]
    padded = sum(32 * max(lengths[i] for i in step) for step in epoch_order(lengths, 32, 0, 0))
    assert padded / sum(lengths) < 1.05  # random order: about 1.9


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    batch_rows=st.integers(1, 9),
    micro=st.integers(1, 200),
    epochs=st.sampled_from([0.01, 0.5, 1.0, 2.5]),
    limit=st.sampled_from([None, 1, 3]),
)
@settings(deadline=None, max_examples=60)
def test_a_plan(lengths, batch_rows, micro, epochs, limit):
    whole = Plan(sft_rows(lengths), batch_rows, micro, epochs, limit, seed=0)
    steps = list(whole.steps())
    assert len(steps) == whole.num_steps >= 1
    for first in {0, len(steps) // 2, len(steps) - 1, len(steps)}:  # a resumed run sees the very same batches
        assert [[b.ids for b in step] for step in whole.steps(first)] == [[b.ids for b in step] for step in steps[first:]]
    heaviest = whole.heaviest()
    assert all(batch.tokens_BS.numel() <= heaviest.tokens_BS.numel() for step in steps for batch in step)
    assert heaviest.tokens_BS.shape[0] == 1 or (heaviest.tokens_BS.numel() <= micro and heaviest.tokens_BS.shape[0] <= batch_rows)


def test_the_heaviest_batch_need_not_hold_the_longest_row():
    # Limit 150: the row of 100 stands alone (100 tokens); three of 50 fill a micro-batch (150 tokens).
    assert Plan(sft_rows([100, 50, 50, 50]), 4, 150, 1.0, None, 0).heaviest().tokens_BS.shape == (3, 50)
