"""How the tokens of some rows lie in one forward pass, so that what rows have in common is computed once.

Rows that begin alike (a system prompt, an instruction, the options; the two answers to one prompt; a group of rollouts) share that
beginning: it stands once, in a part of its own, and the rest of each row sees it. Nothing else changes: causal attention gives the
beginning the same hidden states in every row, and its gradient is the sum over the rows.

Shapes: B rows of at most S tokens, N asked-for positions, G groups that share a beginning of at most P tokens, T tokens in all parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

Tail = tuple[np.ndarray, np.ndarray]
"""Tokens at a row's end that form a tree: which of them each one sees [n, n], itself included, and their depths [n] from 0."""
Sources = tuple[tuple[int, torch.Tensor | None], ...]
_WORTH_IT = 0.9
"""Share only where at most this part of the tokens is left."""


@dataclass(frozen=True, slots=True)
class Padding:
    """How tokens stand in a padded grid. ``grid`` [rows · width]: the token of each place (of a padded one: any); ``places``: the place of
    each token; ``empty``: the padded places."""

    grid: torch.Tensor
    places: torch.Tensor
    empty: torch.Tensor

    def to(self, device: torch.device) -> "Padding":
        """The same with its tensors on a device."""
        return Padding(self.grid.to(device), self.places.to(device), self.empty.to(device))


@dataclass(frozen=True, slots=True)
class Part:
    """A grid of ``rows`` × ``width`` tokens, padded for attention only (``padding``; None: every place has a token). They see those of the
    ``sources`` (earlier parts; which of its rows belongs to each row of this one, None: the same), then their own part, as far as ``sees``
    [rows or 1, 1, width, keys] says (None: causally)."""

    rows: int
    width: int
    num_tokens: int
    padding: Padding | None = None
    sources: Sources = ()
    sees: torch.Tensor | None = None

    def to(self, device: torch.device) -> "Part":
        """The same part with its tensors on a device."""
        sources = tuple((i, None if owners is None else owners.to(device)) for i, owners in self.sources)
        padding = None if self.padding is None else self.padding.to(device)
        return replace(self, padding=padding, sources=sources, sees=None if self.sees is None else self.sees.to(device))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything stands. ``asked`` is a grid of queries without keys of their own: the places whose hidden states are wanted (None:
    so many that the whole grid is computed)."""

    tokens_BS: torch.Tensor
    """The whole rows, padded on the right."""
    lengths_B: torch.Tensor
    rows_N: torch.Tensor
    columns_N: torch.Tensor
    origin_T: torch.Tensor
    """Where the tokens of the parts, one part after another, stand in the flattened ``tokens_BS``."""
    positions_T: torch.Tensor
    """The place of each token in its row, from 0."""
    parts: tuple[Part, ...]
    asked: Part | None
    asked_T: torch.Tensor
    """Place among the T tokens of each query of ``asked``."""
    asked_N: torch.Tensor
    """Place of each asked-for position in the grid of ``asked`` (None: among the T tokens)."""

    def to(self, device: torch.device) -> "Layout":
        """The same layout with its tensors on a device."""
        return Layout(
            self.tokens_BS.to(device), self.lengths_B.to(device), self.rows_N.to(device), self.columns_N.to(device),
            self.origin_T.to(device), self.positions_T.to(device), tuple(part.to(device) for part in self.parts),
            None if self.asked is None else self.asked.to(device), self.asked_T.to(device), self.asked_N.to(device),
        )  # fmt: skip


def lay_out(
    tokens_BS: torch.Tensor,
    lengths_B: torch.Tensor,
    rows_N: torch.Tensor,
    columns_N: torch.Tensor,
    tails: Sequence[Tail] = (),
    share: bool = True,
) -> Layout:
    """The layout of rows whose hidden states are wanted at (rows_N, columns_N), on the CPU; rows in ascending order. ``tails``: the tree
    that each row's last tokens form. Without ``share`` rows stay whole."""
    tokens, lengths = tokens_BS.numpy(), lengths_B.numpy()
    most_B = lengths - 1
    np.minimum.at(most_B, rows_N.numpy(), columns_N.numpy())  # what stands before a row's first asked-for position
    groups = find_groups(tokens, lengths, most_B) if share else []
    starts, before_BP = np.zeros(len(tokens), dtype=np.int64), np.zeros((len(tokens), 0), dtype=bool)
    grids: list[_Grid] = []
    sources: Sources = ()
    if groups:
        owners, heads = np.zeros(len(tokens), dtype=np.int64), np.array([length for _, length in groups])
        for number, (members, length) in enumerate(groups):
            owners[members], starts[members] = number, length
        columns = np.broadcast_to(np.arange(heads.max()), (len(groups), heads.max()))
        grids.append(_Grid([members[0] for members, _ in groups], columns, columns, columns < heads[:, None]))
        sources = ((0, torch.from_numpy(owners)),)
        before_BP = np.arange(heads.max()) < starts[:, None]
    columns = starts[:, None] + np.arange((lengths - starts).max())
    own_RWW, positions = _grow(tails, lengths - starts, columns)
    grids.append(_Grid(range(len(tokens)), columns, positions, columns < lengths[:, None]))
    numbers = _number([grid.real for grid in grids])
    sees = _sees(before_BP, own_RWW) if groups or tails else None
    parts = [_part(grid, number) for grid, number in zip(grids, numbers, strict=True)]
    parts[-1] = replace(parts[-1], sources=sources, sees=sees)
    places = rows_N.numpy(), columns_N.numpy() - starts[rows_N.numpy()]
    asked, slots, asked_N = _ask(*places, before_BP, own_RWW, (*sources, (len(parts) - 1, None)))
    asked_T = numbers[-1].ravel()[slots]
    origin_T, positions_T = np.concatenate([g.origin(tokens.shape[1]) for g in grids]), np.concatenate([g.positions[g.real] for g in grids])
    found = [torch.from_numpy(each) for each in (origin_T, positions_T, asked_T, asked_N if asked else asked_T)]
    return Layout(tokens_BS, lengths_B, rows_N, columns_N, found[0], found[1], tuple(parts), asked, found[2], found[3])


@dataclass(frozen=True, slots=True)
class _Grid:
    """The places of a part: the row and the column that each token stands at, its position, and whether there is one."""

    rows: Sequence[int]
    columns: np.ndarray
    positions: np.ndarray
    real: np.ndarray

    def origin(self, width: int) -> np.ndarray:
        """Where the tokens stand in the flattened rows of this width."""
        return np.asarray((np.asarray(self.rows)[:, None] * width + self.columns)[self.real])


def _number(reals: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The number of each place's token, one part after another; a padded place has that of the token before it."""
    ends = np.cumsum([0, *(int(real.sum()) for real in reals)])
    return [np.maximum(real.ravel().cumsum() - 1, 0).reshape(real.shape) + end for real, end in zip(reals, ends, strict=False)]


def _part(grid: _Grid, numbers: np.ndarray) -> Part:
    count = int(grid.real.sum())
    flat = grid.real.ravel()
    padding = None
    if count < flat.size:
        inside = torch.from_numpy(numbers.ravel() - numbers.ravel()[0])
        padding = Padding(inside, torch.from_numpy(np.flatnonzero(flat)), torch.from_numpy(np.flatnonzero(~flat)))
    rows, width = grid.real.shape
    return Part(rows, width, count, padding)


def _grow(tails: Sequence[Tail], ends_B: np.ndarray, columns_BW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens of its own row a token sees [rows or 1, W, W], and the positions [B, W]: those of trees' tokens go by depth."""
    num_rows, width = columns_BW.shape
    own, positions = np.tri(width, dtype=bool)[None], columns_BW.copy()
    if tails:
        own = own.repeat(num_rows, axis=0)
    for row, (sees, depths) in enumerate(tails):
        tree = slice(ends_B[row] - len(depths), ends_B[row])
        own[row, tree, tree] = sees
        if len(depths):
            positions[row, tree] = columns_BW[row, tree.start] + depths
    return own, positions


def _sees(before_BP: np.ndarray, own_RMW: np.ndarray) -> torch.Tensor:
    """[R, 1, M, P + W]: the beginning as far as it is the row's, then its own tokens."""
    if before_BP.all() and len(own_RMW) == 1:
        before_BP = before_BP[:1]
    rows, queries = max(len(before_BP), len(own_RMW)), own_RMW.shape[1]
    before = np.broadcast_to(before_BP[:, None], (rows, queries, before_BP.shape[1]))
    own = np.broadcast_to(own_RMW, (rows, *own_RMW.shape[1:]))
    return torch.from_numpy(np.concatenate([before, own], axis=2)[:, None])


def _ask(
    rows: np.ndarray, columns: np.ndarray, before_BP: np.ndarray, own_RWW: np.ndarray, sources: Sources
) -> tuple[Part | None, np.ndarray, np.ndarray]:
    """The grid of queries for the positions (rows, columns) of the last part, and their places there."""
    num_rows, width = len(before_BP), own_RWW.shape[1]
    counts = np.bincount(rows, minlength=num_rows)
    most = int(counts.max(initial=0))
    flat = rows * width + columns
    if 2 * most > width or not most:
        return None, flat, flat
    slots = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    grid = np.zeros((num_rows, most), dtype=np.int64)  # a row that asks for fewer asks for its first token besides
    grid[rows, slots] = columns
    own_BMW = own_RWW[0][grid] if len(own_RWW) == 1 else np.take_along_axis(own_RWW, grid[:, :, None], axis=1)
    part = Part(num_rows, most, num_rows * most, None, sources, _sees(before_BP, own_BMW))
    return part, (np.arange(num_rows)[:, None] * width + grid).ravel(), rows * most + slots


def common_length(a: np.ndarray, b: np.ndarray) -> int:
    """How many tokens two sequences begin with in common."""
    differ = np.flatnonzero(a != b)
    return int(differ[0]) if len(differ) else len(a)


def find_groups(tokens_BS: np.ndarray, lengths_B: np.ndarray, most_B: np.ndarray) -> list[tuple[list[int], int]]:
    """Groups of rows that begin alike, each with the length of the beginning, so that the fewest tokens are left; empty: nothing to gain.

    ``most_B``: how much of each row may be shared. Rows are sorted; a group is a run of neighbours that share at least a threshold, and
    every threshold that makes a difference is tried.
    """
    num_rows = len(tokens_BS)
    order = sorted(range(num_rows), key=lambda i: tokens_BS[i].tobytes())
    shared = [int(min(common_length(tokens_BS[i], tokens_BS[j]), most_B[i], most_B[j])) for i, j in pairwise(order)]
    best: list[tuple[list[int], int]] = []
    least = _WORTH_IT * int(lengths_B.sum())
    for threshold in sorted({n for n in shared if n > 0}):
        groups = [([order[0]], int(most_B[order[0]]))]
        for i, n in zip(order[1:], shared, strict=True):
            members, length = groups[-1]
            if n >= threshold:
                groups[-1] = ([*members, i], min(length, n))
            else:
                groups.append(([i], int(most_B[i])))
        cost = int(lengths_B.sum()) - sum((len(members) - 1) * length for members, length in groups)
        if cost < least:
            best, least = groups, cost
    return best
