"""The one numeric core: hidden states → log-probabilities of given tokens, at the positions that are asked for only.

Shapes: N positions, H hidden size, V vocabulary. Logits are made for some positions at a time, so the [N, V] matrix never exists. They
are computed in the weights' precision and brought to float32 before the log-softmax, as transformers' own loss does.

    logp(y | h) = h·w_y − logsumexp_v(h·w_v)
    d(−Σ c logp)/d logits = c (softmax(logits) − onehot(y))        c: how much a position counts, 1 if nothing is said
"""

from typing import Any

import torch

CHUNK_ELEMENTS, CHUNK_ROWS = 1 << 23, 256
"""Logits at a time: 8 Mi elements (32 MiB in float32), but at least 256 positions, so that the product stays an efficient one."""


def _chunks(num_positions: int, vocabulary: int) -> range:
    return range(0, num_positions, max(CHUNK_ROWS, CHUNK_ELEMENTS // vocabulary))


class _NegativeLogLikelihood(torch.autograd.Function):
    """−Σ c logp(y | h) with its gradient made during the forward pass: the logits are visited once, for two products (frozen head) or
    three."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor | None) -> torch.Tensor:
        need_hidden, need_weight, *_ = ctx.needs_input_grad
        step = _chunks(hidden.shape[0], weight.shape[0]).step
        total = hidden.new_zeros((), dtype=torch.float32)
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        for start in _chunks(hidden.shape[0], weight.shape[0]):
            h, y = hidden[start : start + step], targets[start : start + step, None]
            logits = (h @ weight.T).float()
            normaliser = logits.logsumexp(-1, keepdim=True)
            losses = normaliser - logits.gather(-1, y)
            c = None if counts is None else counts[start : start + step, None]
            total += (losses if c is None else losses * c).sum()
            if need_hidden or need_weight:
                slope = logits.sub_(normaliser).exp_()
                slope.scatter_add_(-1, y, slope.new_full(y.shape, -1.0))
                if c is not None:
                    slope *= c
                slope_cast = slope.to(weight.dtype)
                if grad_hidden is not None:
                    grad_hidden[start : start + step] = slope_cast @ weight
                if grad_weight is not None:
                    grad_weight += slope_cast.T @ h
        ctx.gradients = grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (scale,) = upstream
        return (*(None if g is None else g * scale.to(g.dtype) for g in ctx.gradients), None, None)


def negative_log_likelihood(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """−Σ c log p(target | hidden), a float32 scalar in nats; differentiable once in ``hidden`` [N, H] and ``weight`` [V, H]. ``targets``
    [N]; ``counts`` [N] float32 is c, how much each position counts (None: 1)."""
    return _NegativeLogLikelihood.apply(hidden, weight, targets, counts)  # type: ignore[no-any-return,no-untyped-call]


@torch.no_grad()
def log_probabilities(hidden: torch.Tensor, weight: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log p(targets[i] | hidden[positions[i]]) [M], float32 nats; several targets may share a position, whose logits are made once.

    ``hidden`` [N, H], ``weight`` [V, H], ``positions`` [M] in ascending order, ``targets`` [M]. No gradient.
    """
    result = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
    step = _chunks(hidden.shape[0], weight.shape[0]).step
    for start in _chunks(hidden.shape[0], weight.shape[0]):
        logits = (hidden[start : start + step] @ weight.T).float()
        first, last = torch.searchsorted(positions, torch.tensor([start, start + step], device=positions.device)).tolist()
        rows = positions[first:last] - start
        result[first:last] = logits[rows, targets[first:last]] - logits.logsumexp(-1)[rows]
    return result


class _LogProbabilities(torch.autograd.Function):
    """log p(y | h) with the logits made again on the way back: between the passes only N numbers are kept."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        normalisers = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        chosen = torch.empty_like(normalisers)
        step = _chunks(hidden.shape[0], weight.shape[0]).step
        for start in _chunks(hidden.shape[0], weight.shape[0]):
            part = slice(start, start + step)
            logits = (hidden[part] @ weight.T).float()
            normalisers[part] = logits.logsumexp(-1)
            chosen[part] = logits.gather(-1, targets[part, None])[:, 0]
        ctx.save_for_backward(hidden, weight, targets, normalisers)
        return chosen - normalisers

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (scale,) = upstream
        hidden, weight, targets, normalisers = ctx.saved_tensors
        need_hidden, need_weight, _ = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        step = _chunks(hidden.shape[0], weight.shape[0]).step
        for start in _chunks(hidden.shape[0], weight.shape[0]):
            part = slice(start, start + step)
            slope = (hidden[part] @ weight.T).float().sub_(normalisers[part, None]).exp_().neg_()
            slope.scatter_add_(-1, targets[part, None], slope.new_ones((len(slope), 1)))
            slope_cast = slope.mul_(scale[part, None]).to(weight.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = slope_cast @ weight
            if grad_weight is not None:
                grad_weight += slope_cast.T @ hidden[part]
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None


def differentiable_log_probabilities(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log p(targets[i] | hidden[i]) [N], float32 nats; differentiable once in ``hidden`` [N, H] and ``weight`` [V, H]. For losses that are
    no weighted sum of them; a weighted sum is cheaper as :func:`negative_log_likelihood`."""
    return _LogProbabilities.apply(hidden, weight, targets)  # type: ignore[no-any-return,no-untyped-call]
