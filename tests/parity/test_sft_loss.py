"""Our loss against plain transformers': the same sum and the same gradient of every weight.

Tolerances are norms of differences relative to the norm; the largest value measured on this machine (float32, AVX-512) stands next to each.
"""

import pytest
import torch
from tiny import load, relative, sft_rows, text_rows, within
from torch import nn

from weitiao.config_methods import LoraMethod
from weitiao.data.batch import make_batch
from weitiao.methods import apply_method
from weitiao.model import logprobs
from weitiao.model.logprobs import log_probabilities, negative_log_likelihood
from weitiao.objectives.next_token import next_token_loss
from weitiao.records import Encoded

LENGTHS = (5, 31, 2, 17, 40, 9)


def _model(folder, method: str) -> nn.Module:
    model = load(folder)
    if method == "full":
        return model.requires_grad_(True)
    torch.manual_seed(0)
    model = apply_method(model, LoraMethod(rank=4))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # zero at the start: A would have no gradient
                parameter.normal_(std=0.1)
    return model


def _transformers_sum(model: nn.Module, rows: list[Encoded]) -> torch.Tensor:
    width = max(len(row.tokens) for row in rows)
    ids = torch.tensor([list(row.tokens) + [0] * (width - len(row.tokens)) for row in rows])
    mask = torch.tensor([[1] * len(row.tokens) + [0] * (width - len(row.tokens)) for row in rows])
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        for j, trained in enumerate(row.trained):
            if trained:
                labels[i, j] = row.tokens[j]
    return model(input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=1, use_cache=False).loss


def _gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("chunk_elements", [1 << 25, 600 * 7])
@pytest.mark.parametrize("rows", [sft_rows(LENGTHS), text_rows(LENGTHS)], ids=["sft", "pretrain"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("embeddings", ["tied", "untied"])
def test_loss_and_every_gradient(embeddings, method, rows, chunk_elements, tiny_model, tiny_untied, monkeypatch):
    monkeypatch.setattr(logprobs, "CHUNK_ROWS", 1)
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", chunk_elements)
    model = _model(tiny_model if embeddings == "tied" else tiny_untied, method)
    theirs = _transformers_sum(model, rows)
    expected = _gradients(model, theirs)
    ours = next_token_loss(model, make_batch(rows))
    found = _gradients(model, ours.total)

    assert ours.weight == sum(sum(row.trained[1:]) for row in rows)
    within("sft loss", relative(ours.total, theirs), 1e-6)  # measured 1.4e-7
    assert found.keys() == expected.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    assert min(float(g.norm()) for g in expected.values()) > 1e-3  # no gradient is trivially zero
    for name, gradient in expected.items():
        kind = "sft gradient of key biases" if "k_proj.bias" in name else "sft gradient"
        # Measured 1.23e-6; 1.7e-6 for key biases, whose terms nearly cancel (a bias shifts all scores of a query alike).
        within(kind, relative(found[name], gradient), 3e-6 if "k_proj.bias" in name else 2e-6)


@pytest.mark.parametrize("cached", [1 << 19, 1], ids=["whole", "pieces"])
def test_against_cross_entropy_in_double_precision(cached, monkeypatch):
    """The kernel alone: its float32 loss and gradients lie within float32 of the exact ones."""
    monkeypatch.setattr(logprobs, "CHUNK_ROWS", 1)
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", 600 * 7)
    monkeypatch.setattr(logprobs, "CACHED_ELEMENTS", cached)
    monkeypatch.setattr(logprobs, "CACHED_ROWS", 100)
    torch.manual_seed(0)
    hidden, weight = torch.randn(50, 32, requires_grad=True), torch.randn(600, 32, requires_grad=True)
    targets = torch.randint(600, (50,))
    exact_hidden, exact_weight = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    exact = torch.nn.functional.cross_entropy(exact_hidden @ exact_weight.T, targets, reduction="sum")
    (3 * exact).backward()
    ours = negative_log_likelihood(hidden, weight, targets)
    (3 * ours).backward()
    within("kernel loss", relative(ours, exact), 1e-6)  # measured 5.0e-8
    within("kernel hidden gradient", relative(hidden.grad, exact_hidden.grad), 1e-6)  # measured 6.0e-7
    within("kernel weight gradient", relative(weight.grad, exact_weight.grad), 1e-6)  # measured 5.8e-7


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_only_the_gradients_asked_for(needs):
    torch.manual_seed(0)
    hidden, weight = torch.randn(5, 8, requires_grad=needs[0]), torch.randn(20, 8, requires_grad=needs[1])
    negative_log_likelihood(hidden, weight, torch.arange(5)).backward()
    assert (hidden.grad is not None, weight.grad is not None) == needs


def test_log_probabilities_of_shared_positions(monkeypatch):
    monkeypatch.setattr(logprobs, "CHUNK_ROWS", 1)
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", 20 * 3)  # three positions at a time
    torch.manual_seed(0)
    hidden, weight = torch.randn(7, 8), torch.randn(20, 8)
    positions, targets = torch.tensor([0, 0, 1, 3, 3, 3, 6]), torch.tensor([4, 19, 0, 7, 7, 8, 2])
    expected = torch.log_softmax(hidden.double() @ weight.double().T, -1)[positions, targets]
    found = log_probabilities(hidden, weight, positions, targets)
    within("shared positions", float((found - expected).abs().max()), 2e-6)  # nats; measured 1.0e-6


def test_no_position_is_no_loss():
    loss = negative_log_likelihood(torch.zeros(0, 8, requires_grad=True), torch.ones(20, 8), torch.zeros(0, dtype=torch.long))
    assert loss.item() == 0.0
