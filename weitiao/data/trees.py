"""Micro-batches of trees: the prompt once, its answers behind each other, each blind to the others.

Shapes: B trees, S tokens of the longest one, M answers of all trees together, N trained tokens of all answers together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from weitiao.records import Branch, Tree

_PADDING = -1


@dataclass(frozen=True, slots=True)
class TreeBatch:
    """A micro-batch of trees, padded on the right."""

    ids: tuple[str, ...]
    tokens_BS: torch.Tensor
    lengths_B: torch.Tensor
    positions_BS: torch.Tensor
    """Each answer's tokens count on from the prompt."""
    parts_BS: torch.Tensor
    """0 in the prompt, the number of the answer (from 1) behind it, −1 in the padding."""
    rows_N: torch.Tensor
    columns_N: torch.Tensor
    """Row and column of the position before each target: for an answer's first token the prompt's last position."""
    targets_N: torch.Tensor
    owners_N: torch.Tensor
    """Which of the M answers each target belongs to."""
    ends_M: torch.Tensor
    """Place of each answer's last trained token in tokens_BS.flatten()."""
    advantages_M: torch.Tensor
    weight: float
    """What the loss is divided by."""
    reference_N: torch.Tensor | None = None
    sampled_N: torch.Tensor | None = None

    @property
    def num_tokens(self) -> int:
        """Real tokens, without padding."""
        return int(self.lengths_B.sum())

    @property
    def counts_M(self) -> torch.Tensor:
        """Number of trained tokens of each answer."""
        return torch.bincount(self.owners_N, minlength=len(self.ends_M))

    def sums(self, values_N: torch.Tensor) -> torch.Tensor:
        """The values' sum over each answer [M]."""
        return values_N.new_zeros(len(self.ends_M)).index_add(0, self.owners_N, values_N)

    def mask(self) -> torch.Tensor:
        """[B, 1, S, S], true where a position (third) sees another: those before it in the prompt and in its own answer, and itself."""
        queries, keys = self.parts_BS[:, :, None], self.parts_BS[:, None, :]
        size = self.parts_BS.shape[1]
        earlier = torch.ones((size, size), dtype=torch.bool, device=self.parts_BS.device).tril()
        return (((keys == 0) | (keys == queries)) & earlier)[:, None]

    def to(self, device: torch.device) -> "TreeBatch":
        """The same batch with its tensors on a device."""

        def there(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor.to(device)

        return TreeBatch(
            self.ids, self.tokens_BS.to(device), self.lengths_B, self.positions_BS.to(device), self.parts_BS.to(device),
            self.rows_N.to(device), self.columns_N.to(device), self.targets_N.to(device), self.owners_N.to(device),
            self.ends_M.to(device), self.advantages_M.to(device), self.weight, there(self.reference_N), there(self.sampled_N),
        )  # fmt: skip


def make_trees(trees: Sequence[Tree], weight: float | None = None) -> TreeBatch:
    """Pad trees into one micro-batch. ``weight``: what its loss is divided by; absent, the number of trees."""
    width = max(len(tree.tokens) for tree in trees)
    tokens_BS = torch.zeros((len(trees), width), dtype=torch.long)
    positions_BS, parts_BS = torch.zeros_like(tokens_BS), torch.full_like(tokens_BS, _PADDING)
    places: list[tuple[int, int, int, int]] = []
    ends: list[int] = []
    for row, tree in enumerate(trees):
        start = len(tree.prefix)
        _fill(tokens_BS[row], positions_BS[row], parts_BS[row], 0, tree.prefix, 0, 0)
        for number, branch in enumerate(tree.branches, 1):
            _fill(tokens_BS[row], positions_BS[row], parts_BS[row], start, branch.tokens, len(tree.prefix), number)
            trained = [i for i, learned in enumerate(branch.trained) if learned]
            places += [(row, start + i - 1 if i else len(tree.prefix) - 1, branch.tokens[i], len(ends)) for i in trained]
            ends.append(row * width + start + max(trained, default=0))
            start += len(branch.tokens)
    rows_N, columns_N, targets_N, owners_N = (x.contiguous() for x in torch.tensor(places, dtype=torch.long).reshape(-1, 4).T)
    branches = [branch for tree in trees for branch in tree.branches]
    lengths_B = torch.tensor([len(tree.tokens) for tree in trees])
    return TreeBatch(
        tuple(tree.id for tree in trees), tokens_BS, lengths_B, positions_BS, parts_BS, rows_N, columns_N, targets_N, owners_N,
        torch.tensor(ends), torch.tensor([branch.advantage for branch in branches]), float(len(trees)) if weight is None else weight,
        _joined([branch.reference for branch in branches], len(places)), _joined([branch.sampled for branch in branches], len(places)),
    )  # fmt: skip


def _fill(
    tokens_S: torch.Tensor, positions_S: torch.Tensor, parts_S: torch.Tensor, start: int, tokens: Sequence[int], first: int, part: int
) -> None:
    end = start + len(tokens)
    tokens_S[start:end] = torch.tensor(tokens)
    positions_S[start:end] = torch.arange(first, first + len(tokens))
    parts_S[start:end] = part


def _joined(values: Sequence[Sequence[float]], number: int) -> torch.Tensor | None:
    """All values behind each other [N]; None where they are not known."""
    found = [value for one in values for value in one]
    return torch.tensor(found) if number and len(found) == number else None


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
