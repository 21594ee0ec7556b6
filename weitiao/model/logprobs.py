"""The one numeric core: hidden states → log-probabilities of given tokens, at the positions that are asked for only.

Shapes: N positions, H hidden size, V vocabulary. Logits are made for some positions at a time, so the [N, V] matrix never exists. They
are computed in the weights' precision and brought to float32 before the log-softmax, as transformers' own loss does; on a CPU as many of
them at a time as fit into a core's cache.

    logp(y | h) = h·w_y − logsumexp_v(h·w_v)
    d(−Σ c logp)/d logits = c (softmax(logits) − onehot(y))        c: how much a position counts, 1 if nothing is said
"""

from collections.abc import Iterator
from typing import Any

import torch

CHUNK_ELEMENTS, CHUNK_ROWS = 1 << 23, 256
"""Logits at a time: 8 Mi elements, but at least 256 positions, so that the product stays an efficient one."""
CACHED_ELEMENTS, CACHED_ROWS = 1 << 19, 1024
"""On a CPU so many logits (2 MiB in float32) and rows of the output matrix's gradient at a time."""


def _chunks(num_positions: int, vocabulary: int) -> Iterator[slice]:
    """Positions whose logits are made at a time."""
    step = max(CHUNK_ROWS, CHUNK_ELEMENTS // vocabulary)
    return (slice(start, min(start + step, num_positions)) for start in range(0, num_positions, step))


def _logits(hidden: torch.Tensor, weight: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Chunks of positions and their logits [n, V], each in the room of the one before."""
    room: torch.Tensor | None = None
    for chunk in _chunks(len(hidden), len(weight)):
        size = chunk.stop - chunk.start
        if room is None:
            room = hidden.new_empty((size, len(weight)))
        yield chunk, torch.mm(hidden[chunk], weight.T, out=room[:size])


def _pieces(logits: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The logits column by column, as many as fit into the cache: where they are, and the same numbers in float32, which may be changed."""
    rows, vocabulary = logits.shape
    step = min(vocabulary, max(64, CACHED_ELEMENTS // rows)) if logits.is_cpu else vocabulary
    room = logits.new_empty((rows, step), dtype=torch.float32)
    for start in range(0, vocabulary, step):
        piece = logits[:, start : start + step]
        yield piece, room[:, : piece.shape[1]].copy_(piece)


def _normalisers(logits: torch.Tensor) -> torch.Tensor:
    """logsumexp over the vocabulary [n, 1], float32."""
    return torch.stack([exact.logsumexp(-1) for _, exact in _pieces(logits)]).logsumexp(0)[:, None]


def _make_slopes(logits: torch.Tensor, normalisers: torch.Tensor, targets: torch.Tensor, c: torch.Tensor | None) -> None:
    """Logits [n, V] → c (softmax(logits) − onehot(y)), in place; ``targets`` and ``c`` [n, 1]."""
    chosen = (logits.gather(-1, targets).float() - normalisers).exp_() - 1
    for piece, exact in _pieces(logits):
        slopes = exact.sub_(normalisers).exp_()
        piece.copy_(slopes if c is None else slopes.mul_(c))
    logits.scatter_(-1, targets, (chosen if c is None else chosen * c).to(logits.dtype))


class _WeightGradient:
    """Σ slopesᵀ h over chunks [V, H], in float32."""

    def __init__(self, weight: torch.Tensor) -> None:
        self._dtype, self._begun = weight.dtype, False
        self._sum = torch.empty_like(weight, dtype=torch.float32)

    def add(self, slopes: torch.Tensor, h: torch.Tensor) -> None:
        """One more chunk: [n, V] and [n, H]."""
        step = CACHED_ROWS if slopes.is_cpu else slopes.shape[1]
        for start in range(0, slopes.shape[1], step):
            part = slopes[:, start : start + step].T @ h
            if self._begun:
                self._sum[start : start + step] += part
            else:
                self._sum[start : start + step] = part
        self._begun = True

    def done(self) -> torch.Tensor:
        """In the weights' precision."""
        return self._sum.to(self._dtype) if self._begun else torch.zeros_like(self._sum, dtype=self._dtype)


class _NegativeLogLikelihood(torch.autograd.Function):
    """−Σ c logp(y | h) with its gradient made during the forward pass: the logits are visited once, for two products (frozen head) or
    three."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor | None) -> torch.Tensor:
        need_hidden, need_weight, *_ = ctx.needs_input_grad
        total = hidden.new_zeros((), dtype=torch.float32)
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight = _WeightGradient(weight) if need_weight else None
        for chunk, logits in _logits(hidden, weight):
            y = targets[chunk, None]
            normalisers = _normalisers(logits)
            losses = normalisers - logits.gather(-1, y).float()
            c = None if counts is None else counts[chunk, None]
            total += (losses if c is None else losses * c).sum()
            if need_hidden or need_weight:
                _make_slopes(logits, normalisers, y, c)
                if grad_hidden is not None:
                    grad_hidden[chunk] = logits @ weight
                if grad_weight is not None:
                    grad_weight.add(logits, hidden[chunk])
        ctx.gradients = grad_hidden, None if grad_weight is None else grad_weight.done()
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
    for chunk, logits in _logits(hidden, weight):
        first, last = torch.searchsorted(positions, torch.tensor([chunk.start, chunk.stop], device=positions.device)).tolist()
        rows = positions[first:last] - chunk.start
        result[first:last] = logits[rows, targets[first:last]].float() - _normalisers(logits)[rows, 0]
    return result


class _LogProbabilities(torch.autograd.Function):
    """log p(y | h) with the logits made again on the way back: between the passes only N numbers are kept."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        normalisers = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        chosen = torch.empty_like(normalisers)
        for chunk, logits in _logits(hidden, weight):
            normalisers[chunk] = _normalisers(logits)[:, 0]
            chosen[chunk] = logits.gather(-1, targets[chunk, None])[:, 0]
        ctx.save_for_backward(hidden, weight, targets, normalisers)
        return chosen - normalisers

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (scale,) = upstream
        hidden, weight, targets, normalisers = ctx.saved_tensors
        need_hidden, need_weight, _ = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight = _WeightGradient(weight) if need_weight else None
        for chunk, logits in _logits(hidden, weight):
            _make_slopes(logits, normalisers[chunk, None], targets[chunk, None], -scale[chunk, None])
            if grad_hidden is not None:
                grad_hidden[chunk] = logits @ weight
            if grad_weight is not None:
                grad_weight.add(logits, hidden[chunk])
        return grad_hidden, None if grad_weight is None else grad_weight.done(), None


def differentiable_log_probabilities(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log p(targets[i] | hidden[i]) [N], float32 nats; differentiable once in ``hidden`` [N, H] and ``weight`` [V, H]. For losses that are
    no weighted sum of them; a weighted sum is cheaper as :func:`negative_log_likelihood`."""
    return _LogProbabilities.apply(hidden, weight, targets)  # type: ignore[no-any-return,no-untyped-call]
