"""How the tokens of some rows lie in one forward pass, so that what rows have in common is computed once.

Rows that begin alike (a system prompt, an instruction, the options; the two answers to one prompt; a group of rollouts) share that
beginning: it stands once, in a part of its own, and the rest of each row sees it. Nothing else changes: causal attention gives the
beginning the same hidden states in every row, and its gradient is the sum over the rows.

Shapes: B rows of at most S tokens, N asked-for positions, G groups that share a beginning of at most P tokens, T tokens in all parts.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

Sources = tuple[tuple[int, torch.Tensor | None], ...]
_WORTH_IT = 0.9
"""Share only where at most this part of the tokens is left."""


@dataclass(frozen=True, slots=True)
class Part:
    """A grid of ``rows`` × ``width`` tokens. Its tokens see those of the ``sources`` (earlier parts; which of its rows belongs to each row
    of this one, None: the same), then their own part, as far as ``sees`` [rows or 1, 1, width, keys] says (None: causally)."""

    rows: int
    width: int
    sources: Sources = ()
    sees: torch.Tensor | None = None

    def to(self, device: torch.device) -> "Part":
        """The same part with its tensors on a device."""
        sources = tuple((i, None if owners is None else owners.to(device)) for i, owners in self.sources)
        return replace(self, sources=sources, sees=None if self.sees is None else self.sees.to(device))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything stands. ``asked`` is a grid of queries without keys of their own: the places whose hidden states are wanted (None:
    so many that the whole grid is computed)."""

    tokens_BS: torch.Tensor
    """The whole rows, padded on the right."""
    rows_N: torch.Tensor
    columns_N: torch.Tensor
    tokens_T: torch.Tensor
    """The tokens of the parts, one part after another."""
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
            self.tokens_BS.to(device), self.rows_N.to(device), self.columns_N.to(device), self.tokens_T.to(device),
            self.positions_T.to(device), tuple(part.to(device) for part in self.parts),
            None if self.asked is None else self.asked.to(device), self.asked_T.to(device), self.asked_N.to(device),
        )  # fmt: skip


def lay_out(tokens_BS: torch.Tensor, lengths_B: torch.Tensor, rows_N: torch.Tensor, columns_N: torch.Tensor) -> Layout:
    """The layout of rows whose hidden states are wanted at (rows_N, columns_N), on the CPU. Rows are in ascending order."""
    tokens, lengths = tokens_BS.numpy(), lengths_B.numpy()
    most_B = lengths - 1
    np.minimum.at(most_B, rows_N.numpy(), columns_N.numpy())  # what stands before a row's first asked-for position
    groups = find_groups(tokens, lengths, most_B)
    starts, before = np.zeros(len(tokens), dtype=np.int64), np.zeros((len(tokens), 0), dtype=bool)
    parts: list[Part] = []
    grids: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    sources: Sources = ()
    if groups:
        owners = np.zeros(len(tokens), dtype=np.int64)
        for number, (members, length) in enumerate(groups):
            owners[members], starts[members] = number, length
        longest = max(length for _, length in groups)
        parts.append(Part(len(groups), longest))
        grids.append(tokens[[members[0] for members, _ in groups], :longest])
        positions.append(np.broadcast_to(np.arange(longest), grids[0].shape))
        sources = ((0, torch.from_numpy(owners)),)
        before = np.arange(longest) < starts[:, None]
    width = int((lengths - starts).max())
    columns = starts[:, None] + np.arange(width)
    parts.append(Part(len(tokens), width, sources, _sees(before, np.arange(width)[None]) if groups else None))
    grids.append(np.take_along_axis(tokens, np.minimum(columns, tokens.shape[1] - 1), axis=1))
    positions.append(columns)
    offset = sum(part.rows * part.width for part in parts[:-1])
    asked, asked_T, asked_N = _ask(rows_N.numpy(), columns_N.numpy() - starts[rows_N], before, len(tokens), width, len(parts), sources)
    tokens_T, positions_T = (torch.from_numpy(np.concatenate([grid.ravel() for grid in each])) for each in (grids, positions))
    places = torch.from_numpy(asked_T + offset), torch.from_numpy(asked_N if asked else asked_N + offset)
    return Layout(tokens_BS, rows_N, columns_N, tokens_T, positions_T, tuple(parts), asked, *places)


def _sees(before_BP: np.ndarray, columns_RM: np.ndarray, width: int | None = None) -> torch.Tensor:
    """[R, 1, M, P + S]: queries in these columns of the rows see the beginning as far as it is theirs, and their row up to themselves."""
    width = columns_RM.shape[1] if width is None else width
    if before_BP.all() and len(columns_RM) == 1:
        before_BP = before_BP[:1]
    own = np.arange(width) <= columns_RM[:, :, None]
    shape = (max(len(before_BP), len(own)), own.shape[1])
    prefix = np.broadcast_to(before_BP[:, None], (*shape, before_BP.shape[1]))
    return torch.from_numpy(np.concatenate([prefix, np.broadcast_to(own, (*shape, width))], axis=2)[:, None])


def _ask(
    rows: np.ndarray, columns: np.ndarray, before: np.ndarray, num_rows: int, width: int, num_parts: int, sources: Sources
) -> tuple[Part | None, np.ndarray, np.ndarray]:
    """The grid of queries for the positions (rows, columns) of the last part, and their places there."""
    counts = np.bincount(rows, minlength=num_rows)
    most = int(counts.max(initial=0))
    flat = rows * width + columns
    if 2 * most > width or not most:
        return None, flat, flat
    slots = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    grid = np.zeros((num_rows, most), dtype=np.int64)  # a row that asks for fewer asks for its first token besides
    grid[rows, slots] = columns
    part = Part(num_rows, most, (*sources, (num_parts - 1, None)), _sees(before, grid, width))
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
    num_rows, width = tokens_BS.shape
    order = sorted(range(num_rows), key=lambda i: tokens_BS[i].tobytes())
    shared = [int(min(common_length(tokens_BS[i], tokens_BS[j]), most_B[i], most_B[j])) for i, j in pairwise(order)]
    best: list[tuple[list[int], int]] = []
    least = _WORTH_IT * num_rows * width
    for threshold in sorted({n for n in shared if n > 0}):
        groups = [([order[0]], int(most_B[order[0]]))]
        for i, n in zip(order[1:], shared, strict=True):
            members, length = groups[-1]
            if n >= threshold:
                groups[-1] = ([*members, i], min(length, n))
            else:
                groups.append(([i], int(most_B[i])))
        rest = max(int(lengths_B[i]) - length for members, length in groups for i in members)
        cost = len(groups) * max(length for _, length in groups) + num_rows * rest
        if cost < least:
            best, least = groups, cost
    return best
