"""The frozen part of a model runs once over each row; all epochs and validations read its outputs.

With a frozen trunk these are the hidden states at the positions that are asked for; with the last blocks trained, the inputs of the first
of them, at every token. They lie in a nameless file that ends with the process, mapped into memory: nothing to clean up, nothing stale. A
run that goes on fills it again in the same order, so that its numbers are the same bit for bit.
"""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from weitiao import storage
from weitiao.data.batch import split_by_tokens
from weitiao.data.layout import Layout, lay_out
from weitiao.model.heads import blocks, trunk
from weitiao.model.states import KEPT, frozen_states, runs_by_block

Row = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids, and the positions whose hidden states are asked for."""


@dataclass(frozen=True)
class FrozenStates:
    """What the frozen part gives for known rows. ``first`` is the first trained block; ``places``: row → (offset, length) in ``values``."""

    first: int
    whole_rows: bool
    values: np.ndarray
    dtype: torch.dtype
    places: dict[bytes, tuple[int, int]]

    def find(self, layout: Layout) -> torch.Tensor | None:
        """The stored values of a layout's rows one after another; None where a row is not known."""
        found = [self.places.get(key) for key in _keys(layout, self.whole_rows)]
        pieces = [self.values[place[0] : sum(place)] for place in found if place is not None]
        if len(pieces) < len(found):
            return None
        values = torch.from_numpy(np.concatenate(pieces)).to(layout.tokens_BS.device)
        return values.view(self.dtype)


def can_be_kept(model: nn.Module) -> bool:
    """Whether the frozen part gives the same outputs at every visit (no dropout) and there is one to keep: no gradient reaches below a
    trained block."""
    layers = list(blocks(model))
    dropout = any(isinstance(module, nn.Dropout) and module.p > 0 for module in trunk(model).modules())
    first = first_trained(model)
    frozen = [trunk(model).get_input_embeddings(), *layers[:first]]  # type: ignore[operator]
    still = not any(p.requires_grad for module in frozen for p in module.parameters())
    return still and not dropout and first > 0 and (first == len(layers) or runs_by_block(trunk(model)))


def first_trained(model: nn.Module) -> int:
    """The first block with a trained weight; the number of blocks where there is none."""
    layers = list(blocks(model))
    return next((i for i, block in enumerate(layers) if any(p.requires_grad for p in block.parameters())), len(layers))


def needed_bytes(model: nn.Module, rows: Iterable[Row]) -> int:
    """How large the file would be."""
    weight = next(trunk(model).parameters())
    whole = first_trained(model) < len(blocks(model))
    states = sum(len(tokens) if whole else len(asked) for tokens, asked in set(rows))
    return states * int(trunk(model).config.hidden_size) * weight.dtype.itemsize  # type: ignore[union-attr,arg-type]


@torch.no_grad()
def keep_frozen_states(model: nn.Module, rows: Sequence[Row], folder: Path, most_tokens: int, progress: Callable[[int], None]) -> None:
    """Run the frozen part over rows, in batches of at most ``most_tokens``, and let the model keep what comes out in a file of ``folder``;
    ``progress`` is told the number of rows done."""
    first, device = first_trained(model), next(model.parameters()).device
    whole = first < len(blocks(model))
    rows = list(dict.fromkeys(rows))
    places: dict[bytes, tuple[int, int]] = {}
    offset, dtype = 0, next(trunk(model).parameters()).dtype
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for group in split_by_tokens([len(tokens) for tokens, _ in rows], most_tokens):
            layout = _lay_out([rows[i] for i in group], everywhere=whole)
            values = frozen_states(model, layout.to(device), first).cpu()
            storage.disk.write(file, values.view(torch.uint8).numpy().data)
            lengths = torch.bincount(layout.rows_N, minlength=len(group)).tolist()
            for key, length in zip(_keys(layout, whole), lengths, strict=True):
                places[key] = offset, length
                offset += length
            progress(len(group))
        size = int(trunk(model).config.hidden_size)  # type: ignore[union-attr,arg-type]
        stored = np.dtype(f"i{dtype.itemsize}")
        mapped = np.memmap(file, mode="r", dtype=stored, shape=(offset, size)) if offset else np.empty((0, size), stored)
    vars(trunk(model))[KEPT] = FrozenStates(first, whole, mapped, dtype, places)


def forget_frozen_states(model: nn.Module) -> None:
    """Let the model compute everything again, and the file go."""
    vars(trunk(model)).pop(KEPT, None)


def _lay_out(rows: Sequence[Row], everywhere: bool) -> Layout:
    lengths = [len(tokens) for tokens, _ in rows]
    tokens_BS = torch.zeros((len(rows), max(lengths)), dtype=torch.long)
    for row, (tokens, _) in zip(tokens_BS, rows, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    places = [(i, j) for i, (tokens, asked) in enumerate(rows) for j in (range(len(tokens)) if everywhere else asked)]
    rows_N, columns_N = torch.tensor(places, dtype=torch.long).reshape(-1, 2).T.contiguous()
    return lay_out(tokens_BS, torch.tensor(lengths), rows_N, columns_N)


def _keys(layout: Layout, whole_rows: bool) -> list[bytes]:
    """What tells rows apart: their tokens and, unless all tokens are stored, the positions asked for."""
    tokens, lengths = layout.tokens_BS.cpu().numpy(), layout.lengths_B.tolist()
    keys = [row[:length].tobytes() for row, length in zip(tokens, lengths, strict=True)]
    if whole_rows:
        return keys
    asked = np.split(layout.columns_N.cpu().numpy(), np.searchsorted(layout.rows_N.cpu().numpy(), np.arange(1, len(keys))))
    return [key + b"/" + columns.tobytes() for key, columns in zip(keys, asked, strict=True)]
