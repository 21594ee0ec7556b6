"""The frozen part that runs once: the same training as when it runs at every visit."""

import pytest
import torch
from tiny import STEADY, label_rows, load, plan, relative, text_rows, weights, within
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GPT2Config

from weitiao.config import HeadMethod, LoraMethod
from weitiao.data.batch import make_batch
from weitiao.methods import apply_method
from weitiao.model.frozen import can_be_kept, first_trained, forget_frozen_states, keep_frozen_states, needed_bytes
from weitiao.model.heads import blocks, trunk
from weitiao.model.states import KEPT, states
from weitiao.objectives.next_token import label_loss, next_token_loss
from weitiao.optim import Optimizer
from weitiao.train import train

LENGTHS = (5, 31, 4, 17, 40, 9, 23, 12)


def _model(folder, head: str, last_blocks: int):
    method = HeadMethod(last_blocks=last_blocks, untie=True)
    if head == "text":
        return apply_method(load(folder), method)
    torch.manual_seed(0)
    return apply_method(AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, num_labels=3).eval(), method)


def _rows(head: str):
    return text_rows(LENGTHS) if head == "text" else label_rows(LENGTHS, 3)


def _train(folder, tmp_path, head: str, last_blocks: int, keep: bool):
    model, rows = _model(folder, head, last_blocks), _rows(head)
    if keep:
        keep_frozen_states(model, [(row.tokens, row.asked) for row in rows], tmp_path, 60, lambda _: None)
    visits = []
    blocks(model)[0].register_forward_pre_hook(lambda *_: visits.append(1))
    blocks(model)[0].mlp.register_forward_pre_hook(lambda *_: visits.append(1))
    steps = plan(rows, 4, 6, num_labels=3)
    done = list(train(model, next_token_loss if head == "text" else label_loss, steps, Optimizer(model.parameters(), STEADY, 1e-2)))
    return model, done, len(visits)


@pytest.mark.parametrize("last_blocks", [0, 1])
@pytest.mark.parametrize("head", ["text", "score"])
def test_training_is_the_same(head, last_blocks, tiny_model, tmp_path):
    model, steps, visits = _train(tiny_model, tmp_path, head, last_blocks, keep=False)
    other, others, none = _train(tiny_model, tmp_path, head, last_blocks, keep=True)
    assert visits >= 6
    assert none == 0  # the first block never runs again
    for a, b in zip(steps, others, strict=True):
        within("frozen part: loss", abs(a.loss / b.loss - 1), 1e-5)  # measured 2e-7
        within("frozen part: gradient norm", abs(a.gradient_norm / b.gradient_norm - 1), 1e-5)  # measured 3e-6
    moved = weights(other)
    for name, weight in weights(model).items():
        if "k_proj.bias" not in name:  # its gradient is zero but for rounding, and AdamW makes whole steps of that
            within("frozen part: weights", relative(moved[name], weight), 1e-5)  # measured 1e-6
    assert list(tmp_path.iterdir()) == []  # the file has no name


def test_rows_that_are_not_known_are_computed(tiny_model, tmp_path):
    model, rows = _model(tiny_model, "text", 0), _rows("text")
    expected = states(model, make_batch(rows).layout)
    keep_frozen_states(model, [(row.tokens, row.asked) for row in rows[1:]], tmp_path, 100, lambda _: None)
    kept = vars(trunk(model))[KEPT]
    assert kept.find(make_batch(rows).layout) is None
    assert torch.equal(states(model, make_batch(rows).layout), expected)
    within("frozen part: states", relative(kept.find(make_batch(rows[1:]).layout), states(model, make_batch(rows[1:]).layout)), 1e-6)
    forget_frozen_states(model)
    assert KEPT not in vars(trunk(model))


def test_other_positions_of_the_same_tokens_are_other_rows(tiny_model, tmp_path):
    model, (row,) = _model(tiny_model, "text", 0), text_rows((9,))
    seen = []
    keep_frozen_states(model, [(row.tokens, (3, 4)), (row.tokens, (8,)), (row.tokens, (8,))], tmp_path, 100, seen.append)
    assert sum(seen) == 2
    kept = vars(trunk(model))[KEPT]
    assert kept.values.shape == (3, 32)
    assert needed_bytes(model, [(row.tokens, (3, 4)), (row.tokens, (8,)), (row.tokens, (8,))]) == kept.values.nbytes
    assert kept.find(make_batch([row]).layout) is None  # all of 0 … 7 are asked for


def test_bfloat16_is_stored_as_it_is(tiny_model, tmp_path):
    model, rows = apply_method(load(tiny_model, torch.bfloat16), HeadMethod(untie=True)), _rows("text")
    keep_frozen_states(model, [(row.tokens, row.asked) for row in rows], tmp_path, 10_000, lambda _: None)
    layout = make_batch(sorted(rows, key=lambda row: -len(row.tokens))).layout
    kept = vars(trunk(model))[KEPT].find(layout)
    forget_frozen_states(model)
    assert kept.dtype == torch.bfloat16
    assert torch.equal(kept, states(model, layout))  # one batch, the same rows: the same bits


def test_what_can_be_kept(tiny_model):
    assert [can_be_kept(_model(tiny_model, "score", k)) for k in (0, 1, 2)] == [True, True, False]
    assert [first_trained(_model(tiny_model, "score", k)) for k in (0, 1, 2)] == [2, 1, 0]
    assert not can_be_kept(apply_method(load(tiny_model), LoraMethod()))
    for dropout in (0.0, 0.1):
        config = GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=2, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout)
        method = [HeadMethod(untie=True, last_blocks=k) for k in (0, 1)]
        kept = [can_be_kept(apply_method(AutoModelForCausalLM.from_config(config), m)) for m in method]
        assert kept == [dropout == 0.0, False]  # blocks of another family do not run one by one
