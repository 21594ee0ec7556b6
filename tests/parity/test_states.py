"""The trunk with shared beginnings, restricted last block and plain attention against transformers' own forward, row by row."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import VOCABULARY, load, relative, sft_rows, with_adapters, within
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen3Config

from weitiao.config import LoraMethod
from weitiao.data.batch import make_batch
from weitiao.data.layout import find_groups, lay_out
from weitiao.methods import apply_method
from weitiao.model import states as module
from weitiao.model.heads import blocks, output_matrix, trunk
from weitiao.model.logprobs import negative_log_likelihood
from weitiao.model.states import attention, states
from weitiao.objectives.next_token import next_token_loss
from weitiao.records import Encoded

SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 48, "head_dim": 8, "max_position_embeddings": 256, "initializer_range": 0.15}  # fmt: skip
FAMILIES = {
    "llama": LlamaConfig(**SMALL, attention_bias=True),
    "qwen3": Qwen3Config(**SMALL),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=256, initializer_range=0.15,
                       resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
}  # fmt: skip


def _row(name: str, *parts: tuple[int, ...], answer: int) -> Encoded:
    tokens = tuple(t for part in parts for t in part)
    return Encoded(name, tokens, (False,) * (len(tokens) - answer) + (True,) * answer)


def _draw(seed: int, count: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(0, VOCABULARY - 3, count).tolist())


INSTRUCTION, PROMPT_A, PROMPT_B = _draw(1, 30), _draw(2, 25), _draw(3, 18)
BATCHES = {
    "instruction": [_row(str(i), INSTRUCTION, _draw(10 + i, 3 + 2 * i), answer=2) for i in range(5)],
    "pairs": [_row(str(i), (PROMPT_A, PROMPT_B)[i // 2], _draw(20 + i, 4 + i), answer=4 + i) for i in range(4)],
    "group": [_row(str(i), PROMPT_A, _draw(30 + i, 6), answer=6) for i in range(6)],
    "one alone": [*[_row(str(i), INSTRUCTION, _draw(40 + i, 4), answer=1) for i in range(4)], _row("x", _draw(50, 20), answer=3)],
    "same rows": [_row(str(i), PROMPT_A, answer=1) for i in range(3)],
    "nothing shared": sft_rows((20, 31, 4, 17)),
}


def _reference(model, rows):
    """Loss and gradients of each row by a forward of its own, through transformers."""
    total = torch.zeros(())
    for row in rows:
        hidden = trunk(model)(input_ids=torch.tensor([row.tokens]), use_cache=False).last_hidden_state[0]
        places = [j - 1 for j in range(1, len(row.tokens)) if row.trained[j]]
        total = total + negative_log_likelihood(hidden[places], output_matrix(model), torch.tensor(row.tokens)[[p + 1 for p in places]])
    return total


def _gradients(model, total):
    model.zero_grad()
    total.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _compare(model, rows, what):
    batch = make_batch(rows)
    expected = _reference(model, rows)
    theirs = _gradients(model, expected)
    found = next_token_loss(model, batch).total
    ours = _gradients(model, found)
    within(f"{what}: loss", relative(found, expected), 1e-6)  # measured 2.6e-7
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        # A key's bias shifts all of a query's scores alike: its gradient is zero but for rounding.
        within(f"{what}: gradient", relative(ours[name], gradient), 1e-4 if "k_proj.bias" in name else 1e-5)  # measured 2e-6
    return batch.layout


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("rows", list(BATCHES))
def test_shared_beginnings_have_the_loss_and_gradients_of_rows_alone(rows, method, tiny_model):
    model = load(tiny_model)
    if method == "lora":
        model = with_adapters(model)
    layout = _compare(model, BATCHES[rows], "shared")
    shapes = [(part.rows, part.width) for part in layout.parts]
    # INSTRUCTION's 30 tokens once; of a prompt all but its last token, whose hidden state predicts; a lone row's own beginning beside.
    assert shapes == {
        "instruction": [(1, 30), (5, 11)], "pairs": [(2, 24), (4, 8)], "group": [(1, 24), (6, 7)], "one alone": [(2, 30), (5, 4)],
        "same rows": [(1, 23), (3, 2)], "nothing shared": [(4, 31)],
    }[rows]  # fmt: skip


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("rows", ["pairs", "nothing shared"])
def test_families(family, rows):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[family]).eval()
    assert module.runs_by_block(trunk(model)) == (family != "gpt2")
    _compare(model, BATCHES[rows], family)


def test_no_other_attention_and_no_dropout_runs_by_block(tiny_model):
    core = trunk(load(tiny_model))
    assert module.runs_by_block(core)
    for change in ({"attention_dropout": 0.1}, {"layer_types": ["full_attention", "sliding_attention"]}):
        before = {name: core.config.to_dict()[name] for name in change}
        core.config.update(change)
        assert not module.runs_by_block(core), change
        core.config.update(before)


def test_the_last_block_computes_what_is_asked_for_only(tiny_model):
    model, seen = load(tiny_model), []
    for block in blocks(model):
        block.mlp.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    batch = make_batch(BATCHES["instruction"])
    states(model, batch.layout)
    assert seen == [30 + 3 + 5 + 7 + 9 + 11, 5 * 2]  # no padding


def test_a_frozen_beginning_needs_no_gradient(tiny_model):
    """LoRA: below the first adapter no gradient is computed."""
    model = apply_method(load(tiny_model), LoraMethod())
    entered = []
    blocks(model)[0].input_layernorm.register_forward_hook(lambda _module, _inputs, output: entered.append(output.requires_grad))
    next_token_loss(model, make_batch(BATCHES["group"]))
    assert entered == [False]


@pytest.mark.parametrize("short", [0, 256], ids=["computed again", "kept"])
@pytest.mark.parametrize("scores", [1, 12_000, 1 << 19], ids=["pieces of a row", "some rows", "all"])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_the_fused_kernel(short, scores, masked, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(module, "SHORT_KEYS", short)
    monkeypatch.setattr(module, "CACHED_SCORES", scores)
    queries, keys = 41, 57 if masked else 41
    q, k, v = torch.randn(5, 4, queries, 8), torch.randn(5, 2, keys, 8), torch.randn(5, 2, keys, 8)
    sees = (torch.rand(5, 1, queries, keys) < 0.6) | (torch.arange(keys) == 0) if masked else None
    results = []
    fused = functools.partial(F.scaled_dot_product_attention, is_causal=sees is None, enable_gqa=True)
    for attend in (attention, fused):
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        out = attend(*inputs, sees)
        out.backward(torch.sin(torch.arange(out.numel())).view_as(out))
        results.append((out, *(x.grad for x in inputs)))
    for ours, theirs in zip(*results, strict=True):
        within("attention", relative(ours, theirs), 1e-6)  # measured 3e-7
    wide = torch.softmax(q.double() @ k.double().repeat_interleave(2, 1).transpose(2, 3) / 8**0.5 + _bias(sees, queries, keys), -1)
    within("attention, exact", relative(results[0][0], wide @ v.double().repeat_interleave(2, 1)), 1e-6)  # measured 2e-7
    with torch.inference_mode():
        assert torch.equal(attention(q, k, v, sees), results[0][0])


def test_attention_in_bfloat16_is_as_near_as_the_fused_kernel():
    """Its scores are rounded before the softmax, the fused kernel's are not; both are off by the rounding of bfloat16 (2^-9)."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, n, 300, 64) for n in (4, 2, 2))
    right = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    ours = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), None).float()
    fused = F.scaled_dot_product_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), is_causal=True, enable_gqa=True).float()
    within("attention, bfloat16", relative(ours, right), 1e-2)  # measured 4.2e-3
    within("attention, bfloat16, fused", relative(fused, right), 1e-2)  # measured 3.2e-3


def test_a_query_that_sees_nothing_poisons_no_gradient():
    q, k, v = (torch.randn(1, 1, 3, 4, requires_grad=True) for _ in range(3))
    sees = torch.tensor([[True, True, True], [False, False, False], [True, False, True]])[None, None]
    out = attention(q, k, v, sees)
    (out * torch.tensor([1.0, 0.0, 1.0])[:, None]).sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in (q, k, v))


def _bias(sees, queries, keys):
    sees = torch.ones(queries, keys, dtype=torch.bool).tril() if sees is None else sees
    return torch.zeros(sees.shape, dtype=torch.double).masked_fill_(~sees, float("-inf"))


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=9), min_size=1, max_size=7), st.data())
@settings(deadline=None, max_examples=200)
def test_every_layout_shows_each_position_its_row_up_to_itself(rows, data):
    lengths = [len(row) for row in rows]
    asked = sorted({(i, data.draw(st.integers(0, n - 1))) for i, n in enumerate(lengths) for _ in range(data.draw(st.integers(0, 2)))})
    tokens = torch.tensor([row + [7] * (max(lengths) - len(row)) for row in rows])
    rows_N, columns_N = torch.tensor(asked, dtype=torch.long).reshape(-1, 2).T.contiguous()
    layout = lay_out(tokens, torch.tensor(lengths), rows_N, columns_N)
    offsets = np.cumsum([0, *(part.num_tokens for part in layout.parts)])
    assert len(layout.origin_T) == offsets[-1] <= sum(lengths)
    inside = [torch.arange(p.num_tokens) if p.padding is None else p.padding.grid for p in layout.parts]
    grids = [offset + grid for offset, grid in zip(offsets[:-1], inside, strict=True)]
    for n, (i, column) in enumerate(asked):
        if layout.asked is None:
            part, place = layout.parts[-1], int(layout.asked_N[n])
            query = int((grids[-1] == place).nonzero()[0])
            sources = (*part.sources, (len(layout.parts) - 1, None))
        else:
            part, query = layout.asked, int(layout.asked_N[n])
            place, sources = int(layout.asked_T[query]), part.sources
        row, slot = divmod(query, part.width)
        assert row == i
        grid = torch.cat([
            grids[j].view(layout.parts[j].rows, -1)[row if owners is None else owners[row]]
            for j, owners in sources
        ])  # fmt: skip
        sees = torch.arange(len(grid)) <= slot if part.sees is None else part.sees[row if len(part.sees) > 1 else 0, 0, slot]
        seen = grid[sees]
        assert layout.positions_T[seen].tolist() == list(range(column + 1))
        assert tokens.flatten()[layout.origin_T[seen]].tolist() == rows[i][: column + 1]
        assert int(layout.positions_T[place]) == column


def test_groups_by_hand():
    rows = np.array([[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 9, 9], [2, 2, 3, 4, 5, 6, 1, 0], [2, 2, 3, 4, 5, 6, 2, 0]])
    lengths = np.array([8, 8, 7, 7])
    # Two beginnings of 6 tokens and four ends of 2: 20 tokens in place of 32.
    assert sorted(find_groups(rows, lengths, lengths - 1)) == [([0, 1], 6), ([2, 3], 6)]
    assert find_groups(rows[[0, 2]], lengths[[0, 2]], lengths[[0, 2]] - 1) == []  # nothing in common
    assert find_groups(rows[:2], lengths[:2], np.array([0, 7])) == []  # the first row asks from its first token on
