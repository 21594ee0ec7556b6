"""Which rows make a step, in which order, and how they become tensors. Everything is a pure function of (seed, epoch, position)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from weitiao.data.layout import Layout, lay_out
from weitiao.data.packed import row_lengths
from weitiao.data.portions import heaviest
from weitiao.records import Branch, Encoded, Tree

_WINDOW_STEPS = 32
"""Rows of this many steps are drawn at random, then sorted by length: nearly no padding, still a random order of batches."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro-batch of B rows, padded on the right to S tokens, with N targets.

    Right padding under causal attention needs no mask: a token never sees what stands after it, and no padding position is a target.
    """

    ids: tuple[str, ...]
    tokens_BS: torch.Tensor
    lengths_B: torch.Tensor
    rows_N: torch.Tensor
    """Row of the position before each target."""
    columns_N: torch.Tensor
    """Column of the position before each target: its hidden state predicts the target."""
    targets_N: torch.Tensor
    """Target token, or target label for a `score` head."""
    layout: Layout
    """How the rows run through the trunk."""
    allowed_NL: torch.Tensor | None = None
    """`score` head with per-row candidates: which labels each row may take."""
    weights_N: torch.Tensor | None = None
    """How much each target counts in the loss; None: all the same."""

    @property
    def weight(self) -> float:
        """The sum of the targets' weights: what the loss is divided by."""
        return float(len(self.targets_N)) if self.weights_N is None else float(self.weights_N.sum())

    @property
    def num_tokens(self) -> int:
        """Real tokens, without padding."""
        return int(self.lengths_B.sum())

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on a device."""
        allowed = None if self.allowed_NL is None else self.allowed_NL.to(device)
        weights = None if self.weights_N is None else self.weights_N.to(device)
        tokens, lengths, rows = self.tokens_BS.to(device), self.lengths_B.to(device), self.rows_N.to(device)
        layout = self.layout.to(device)
        return Batch(self.ids, tokens, lengths, rows, self.columns_N.to(device), self.targets_N.to(device), layout, allowed, weights)


def make_batch(rows: Sequence[Encoded], num_labels: int = 0) -> Batch:
    """Pad rows into one micro-batch. Rows with a ``label`` are for a `score` head of ``num_labels`` labels."""
    lengths = [len(row.tokens) for row in rows]
    tokens = torch.zeros((len(rows), max(lengths)), dtype=torch.long)
    for i, row in enumerate(rows):
        tokens[i, : lengths[i]] = torch.tensor(row.tokens)
    ids, lengths_B = tuple(row.id for row in rows), torch.tensor(lengths)
    if rows[0].label >= 0:
        allowed = None
        if any(row.candidates for row in rows):
            allowed = torch.ones((len(rows), num_labels), dtype=torch.bool)
            for i, row in enumerate(rows):
                if row.candidates:
                    allowed[i] = False
                    allowed[i, list(row.candidates)] = True
        numbers, labels = torch.arange(len(rows)), torch.tensor([row.label for row in rows])
        layout = lay_out(tokens, lengths_B, numbers, lengths_B - 1)
        return Batch(ids, tokens, lengths_B, numbers, lengths_B - 1, labels, layout, allowed, _weights(rows, numbers))
    places = [(i, j, row.tokens[j + 1]) for i, row in enumerate(rows) for j in row.asked]
    rows_N, columns_N, targets_N = (column.contiguous() for column in torch.tensor(places, dtype=torch.long).reshape(-1, 3).T)
    layout = lay_out(tokens, lengths_B, rows_N, columns_N)
    return Batch(ids, tokens, lengths_B, rows_N, columns_N, targets_N, layout, None, _weights(rows, rows_N))


def _weights(rows: Sequence[Encoded], rows_N: torch.Tensor) -> torch.Tensor | None:
    """The weight of each target's row [N]; None where all weigh 1."""
    if all(row.weight == 1.0 for row in rows):
        return None
    return torch.tensor([row.weight for row in rows])[rows_N]


@dataclass(frozen=True, slots=True)
class TreeBatch:
    """A micro-batch of trees: a row for each of its M answers behind their prompt, those of a tree next to each other. ``rows.layout`` sees
    to it that a prompt is computed once.

    ``reference_N``, ``sampled_N``: the targets' log-probabilities by the base model, and by the model that wrote them.
    """

    ids: tuple[str, ...]
    rows: Batch
    num_tokens: int
    """Real tokens, a prompt counted once."""
    weight: float
    """What the loss is divided by."""
    advantages_M: torch.Tensor
    reference_N: torch.Tensor | None = None
    sampled_N: torch.Tensor | None = None
    facts: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """What is worth a line in the log beside the loss, each a sum and what it is divided by."""

    @property
    def tokens_BS(self) -> torch.Tensor:
        """The whole rows."""
        return self.rows.tokens_BS

    @property
    def targets_N(self) -> torch.Tensor:
        """The trained tokens."""
        return self.rows.targets_N

    @property
    def owners_N(self) -> torch.Tensor:
        """Which of the M answers each target belongs to."""
        return self.rows.rows_N

    @property
    def counts_M(self) -> torch.Tensor:
        """Number of trained tokens of each answer."""
        return torch.bincount(self.owners_N, minlength=len(self.advantages_M))

    def sums(self, values_N: torch.Tensor) -> torch.Tensor:
        """The values' sum over each answer [M]."""
        return values_N.new_zeros(len(self.advantages_M)).index_add(0, self.owners_N, values_N)

    def to(self, device: torch.device) -> "TreeBatch":
        """The same batch with its tensors on a device."""
        reference, sampled = (None if x is None else x.to(device) for x in (self.reference_N, self.sampled_N))
        rows, advantages = self.rows.to(device), self.advantages_M.to(device)
        return TreeBatch(self.ids, rows, self.num_tokens, self.weight, advantages, reference, sampled, self.facts)


def make_trees(trees: Sequence[Tree], weight: float | None = None, ends_only: bool = False) -> TreeBatch:
    """Trees as one micro-batch. ``weight``: what its loss is divided by; absent, the number of trees. ``ends_only``: for a `score` head,
    which reads the last token of each answer."""
    rows = [
        Encoded(tree.id, tree.prefix + b.tokens, (False,) * len(tree.prefix) + b.trained, 0 if ends_only else -1)
        for tree in trees
        for b in tree.branches
    ]
    batch, branches = make_batch(rows, 1), [branch for tree in trees for branch in tree.branches]
    reference, sampled = [x for b in branches for x in b.reference], [x for b in branches for x in b.sampled]
    return TreeBatch(
        tuple(tree.id for tree in trees), batch, sum(len(tree.tokens) for tree in trees), float(len(trees)) if weight is None else weight,
        torch.tensor([b.advantage for b in branches]),
        torch.tensor(reference) if reference else None, torch.tensor(sampled) if sampled else None,
    )  # fmt: skip


def split_tree(tree: Tree, most_tokens: int) -> list[Tree]:
    """The tree as several with the same prompt and some of the answers each, of at most ``most_tokens`` tokens where one answer fits."""
    parts: list[list[Branch]] = []
    size = most_tokens + 1
    for branch in tree.branches:
        if size + len(branch.tokens) > most_tokens:
            parts.append([])
            size = len(tree.prefix)
        parts[-1].append(branch)
        size += len(branch.tokens)
    return [Tree(tree.id, tree.prefix, tuple(part)) for part in parts]


def split_by_tokens(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Indices of rows, longest first, in groups whose padded size (rows × longest) is at most ``most_tokens``; a longer row stands
    alone."""
    groups: list[list[int]] = []
    longest = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if groups and (len(groups[-1]) + 1) * longest <= most_tokens:
            groups[-1].append(i)
        else:
            groups.append([i])
            longest = lengths[i]
    return groups


def epoch_order(lengths: Sequence[int], batch_rows: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices of the rows of each step of one epoch: each row once; windows of random rows sorted by length, their batches in random
    order."""
    random = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = random.permutation(len(lengths))
    window = batch_rows * _WINDOW_STEPS
    steps: list[list[int]] = []
    for start in range(0, len(order), window):
        part = sorted(order[start : start + window].tolist(), key=lambda i: lengths[i])  # a stable sort keeps ties in random order
        steps.extend(part[i : i + batch_rows] for i in range(0, len(part), batch_rows))
    return [steps[i] for i in random.permutation(len(steps))]


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a whole run over encoded rows."""

    rows: Sequence[Encoded | Tree]
    batch_rows: int
    micro_batch_tokens: int
    epochs: float
    max_steps: int | None
    seed: int
    num_labels: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one pass over the rows."""
        return math.ceil(len(self.rows) / self.batch_rows)

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the run."""
        steps = max(1, round(self.epochs * self.steps_per_epoch))
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def may_pause(self, _done: int) -> bool:
        """Whether the run can be gone on with after so many steps: after every one."""
        return True

    def steps(self, first: int = 0) -> Iterator[list[Batch | TreeBatch]]:
        """The micro-batches of each step from step ``first`` on."""
        lengths = row_lengths(self.rows)
        for epoch in range(first // self.steps_per_epoch, math.ceil(self.num_steps / self.steps_per_epoch)):
            for position, members in enumerate(epoch_order(lengths, self.batch_rows, self.seed, epoch)):
                step = epoch * self.steps_per_epoch + position
                if first <= step < self.num_steps:
                    yield self.micro_batches(members)

    def micro_batches(self, members: Sequence[int]) -> list[Batch | TreeBatch]:
        """The rows of one step as micro-batches of at most ``micro_batch_tokens`` padded tokens."""
        rows = [self.rows[i] for i in members]
        groups = split_by_tokens([len(r.tokens) for r in rows], self.micro_batch_tokens)
        return [self._batch([rows[i] for i in group]) for group in groups]

    def _batch(self, rows: Sequence[Encoded | Tree]) -> Batch | TreeBatch:
        if trees := [row for row in rows if isinstance(row, Tree)]:
            return make_trees(trees, ends_only=self.num_labels > 0)
        return make_batch([row for row in rows if isinstance(row, Encoded)], self.num_labels)

    def heaviest(self) -> Batch | TreeBatch:
        """The largest micro-batch, padding included, that can occur."""
        lengths = row_lengths(self.rows)
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        first, number = heaviest([lengths[i] for i in order], self.batch_rows, self.micro_batch_tokens)
        return self._batch([self.rows[i] for i in order[first : first + number]])
