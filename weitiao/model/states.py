"""Hidden states where they are asked for, with the least work: every objective, evaluation and prediction goes through here.

    1. What rows begin with in common is computed once (data/layout.py), and no padding but inside attention.
    2. The last block computes queries, attention and MLP only for the positions that are asked for; keys and values it needs of all.
    3. On a CPU attention is plain products, of as many scores at a time as fit into a core's cache: the fused kernel takes up to six
       times as long.

Models of some families (model/structure.py) run block by block; any other one runs its own forward over the padded rows.
Shapes: T tokens, N asked-for positions, H hidden size, h heads of size d, g key-value heads.
"""

import math
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from weitiao.data.layout import Layout, Padding, Part
from weitiao.model.heads import blocks, final_norm, trunk
from weitiao.model.structure import is_known

if TYPE_CHECKING:
    from weitiao.model.frozen import FrozenStates

KEPT = "frozen_states"
"""Under this name a trunk holds what it keeps of its frozen part."""
SHORT_KEYS = 256
"""Up to so many keys the attention of a training keeps its weights for the backward pass; over longer rows it computes them again."""
CACHED_SCORES = 1 << 19
"""So many attention scores at a time for each core (2 MB in float32)."""


def states(model: nn.Module, layout: Layout) -> torch.Tensor:
    """The trunk's hidden states [N, H], the final norm included, at the layout's positions. What the model keeps of its frozen part
    (model/frozen.py) is not computed again."""
    core: Any = trunk(model)
    kept: FrozenStates | None = vars(core).get(KEPT)
    found = None if kept is None else kept.find(layout)
    layers = list(blocks(model))
    if kept is not None and found is not None and kept.first == len(layers):
        return found
    if not runs_by_block(core):
        return _whole_rows(core, layout)[layout.rows_N, layout.columns_N]
    if kept is None or found is None:
        hidden_TH = _embed(core, layout)
    else:
        hidden_TH, layers = _spread(found, layout), layers[kept.first :]
    turn = _turn(core, hidden_TH, layout)
    for block in layers[:-1]:
        hidden_TH = run_block(block, hidden_TH, turn, layout.parts)
    hidden_TH = run_block(layers[-1], hidden_TH, turn, layout.parts, layout)
    return final_norm(model)(hidden_TH[layout.asked_N])  # type: ignore[no-any-return]


def frozen_states(model: nn.Module, layout: Layout, first: int) -> torch.Tensor:
    """What comes out below block ``first`` [N, H], at the layout's positions: the block's inputs, or, above all blocks, :func:`states`."""
    layers = list(blocks(model))
    if first == len(layers):
        return states(model, layout)
    hidden_TH = _embed(trunk(model), layout)
    turn = _turn(trunk(model), hidden_TH, layout)
    for block in layers[:first]:
        hidden_TH = run_block(block, hidden_TH, turn, layout.parts)
    return hidden_TH[layout.asked_N]


def _whole_rows(core: Any, layout: Layout) -> torch.Tensor:
    """The hidden states [B, S, H] of padded rows by the trunk's own forward. A mask is needed only where rows end in trees."""
    (part, *shared), sees = layout.parts, layout.parts[0].sees
    if sees is None or shared:
        return core(input_ids=layout.tokens_BS, use_cache=False).last_hidden_state  # type: ignore[no-any-return]
    flat = layout.positions_T if part.padding is None else layout.positions_T[part.padding.grid]
    positions_BS = flat.view(part.rows, part.width)
    out = core(input_ids=layout.tokens_BS, position_ids=positions_BS, attention_mask=sees, use_cache=False)
    return out.last_hidden_state  # type: ignore[no-any-return]


def _embed(core: Any, layout: Layout) -> torch.Tensor:
    return core.embed_tokens(layout.tokens_BS.flatten()[layout.origin_T])  # type: ignore[no-any-return]


def _spread(rows_RH: torch.Tensor, layout: Layout) -> torch.Tensor:
    """The states [T, H] of the layout's parts out of those of whole rows, one row after another without padding."""
    width = layout.tokens_BS.shape[1]
    starts_B = layout.lengths_B.cumsum(0) - layout.lengths_B
    return rows_RH[starts_B[layout.origin_T // width] + layout.origin_T % width]


def runs_by_block(core: Any) -> bool:
    """Whether a trunk runs block by block."""
    return is_known(core.config.to_dict())


def _turn(core: Any, hidden_TH: torch.Tensor, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines [T, 1, d] of the rotary positions."""
    cos, sin = core.rotary_emb(hidden_TH[None], layout.positions_T[None])
    return cos[0, :, None], sin[0, :, None]


def rotate(x_Thd: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864), the halves of a head as pairs."""
    cos, sin = turn
    first, second = x_Thd.chunk(2, dim=-1)
    return x_Thd * cos + torch.cat((-second, first), dim=-1) * sin


def run_block(
    block: Any, hidden_TH: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor], parts: tuple[Part, ...], only: Layout | None = None
) -> torch.Tensor:
    """One block over all tokens; ``only``: its outputs only where that layout asks for them."""
    attention = block.self_attn
    normed = block.input_layernorm(hidden_TH)
    k_Tgd, v_Tgd = (project(normed).unflatten(-1, (-1, attention.head_dim)) for project in (attention.k_proj, attention.v_proj))
    if only is not None and only.asked is not None:
        hidden_TH, normed, turn_q = hidden_TH[only.asked_T], normed[only.asked_T], (turn[0][only.asked_T], turn[1][only.asked_T])
        queries: tuple[Part, ...] = (only.asked,)
    else:
        queries, turn_q = parts, turn
    q_Qhd = attention.q_proj(normed).unflatten(-1, (-1, attention.head_dim))
    if attention.config.model_type == "qwen3":
        q_Qhd, k_Tgd = attention.q_norm(q_Qhd), attention.k_norm(k_Tgd)
    mixed = attend(rotate(q_Qhd, turn_q), rotate(k_Tgd, turn), v_Tgd, parts, queries)
    hidden_TH = hidden_TH + attention.o_proj(mixed.flatten(1))
    return hidden_TH + block.mlp(block.post_attention_layernorm(hidden_TH))  # type: ignore[no-any-return]


def attend(
    q_Qhd: torch.Tensor, k_Tgd: torch.Tensor, v_Tgd: torch.Tensor, parts: tuple[Part, ...], queries: tuple[Part, ...]
) -> torch.Tensor:
    """Attention [Q, h, d] of the queries' grids, each over the keys of its sources and, where it is one of the parts, its own."""
    keys, values = _grids(k_Tgd, parts), _grids(v_Tgd, parts)
    mixed = []
    for i, (q_BhMd, part) in enumerate(zip(_grids(q_Qhd, queries), queries, strict=True)):
        own = [(i, None)] if queries is parts else []
        seen = [[_rows_of(x[j], owners, part.rows) for j, owners in (*part.sources, *own)] for x in (keys, values)]
        k_BgKd, v_BgKd = (x[0] if len(x) == 1 else torch.cat(x, dim=2) for x in seen)
        out = attention(q_BhMd, k_BgKd, v_BgKd, part.sees).transpose(1, 2).flatten(0, 1)
        mixed.append(out if part.padding is None else _Unpad.apply(out, part.padding))  # type: ignore[no-untyped-call]
    return torch.cat(mixed) if len(mixed) > 1 else mixed[0]


def _grids(x_Tnd: torch.Tensor, parts: tuple[Part, ...]) -> list[torch.Tensor]:
    """Each part as [rows, n, width, d]."""
    pieces = torch.split(x_Tnd, [part.num_tokens for part in parts])
    padded = [x if part.padding is None else _Pad.apply(x, part.padding) for x, part in zip(pieces, parts, strict=True)]  # type: ignore[no-untyped-call]
    return [x.view(part.rows, part.width, *x.shape[1:]).transpose(1, 2) for x, part in zip(padded, parts, strict=True)]


class _Pad(torch.autograd.Function):
    """Tokens [T, …] into their grid [rows · width, …]. Nothing sees a padded place, so its gradient is zero and is not added."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, padding: Padding) -> torch.Tensor:
        ctx.padding = padding
        return x.index_select(0, padding.grid)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return upstream[0].index_select(0, ctx.padding.places), None


class _Unpad(torch.autograd.Function):
    """Tokens [T, …] out of their grid."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, padding: Padding) -> torch.Tensor:
        ctx.padding = padding
        return x.index_select(0, padding.places)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        padding: Padding = ctx.padding
        return upstream[0].index_select(0, padding.grid).index_fill_(0, padding.empty, 0), None


def _rows_of(x: torch.Tensor, owners: torch.Tensor | None, num_rows: int) -> torch.Tensor:
    if owners is None:
        return x
    return x.expand(num_rows, -1, -1, -1) if len(x) == 1 else x[owners]


def attention(q_BhMd: torch.Tensor, k_BgKd: torch.Tensor, v_BgKd: torch.Tensor, sees: torch.Tensor | None) -> torch.Tensor:
    """softmax(q kᵀ / √d) v [B, h, M, d]; ``sees`` [B or 1, 1, M, K] says which keys each query sees (None: causally)."""
    if q_BhMd.is_cpu:
        return _PlainAttention.apply(q_BhMd, k_BgKd, v_BgKd, sees)  # type: ignore[no-any-return,no-untyped-call]
    return F.scaled_dot_product_attention(q_BhMd, k_BgKd, v_BgKd, sees, is_causal=sees is None, enable_gqa=True)


class _Scores:
    """The scores [B, g, n, M, K] of attention, piece by piece. n: the query heads that use one pair of keys and values; in a product they
    are rows of one matrix."""

    def __init__(self, q_BhMd: torch.Tensor, k_BgKd: torch.Tensor, sees: torch.Tensor | None) -> None:
        queries = q_BhMd.shape[2]
        self.q, self.k, self.sees = q_BhMd.view(len(q_BhMd), k_BgKd.shape[1], -1, *q_BhMd.shape[2:]), k_BgKd, sees
        self.num_keys = queries if sees is None else k_BgKd.shape[2]
        most = CACHED_SCORES * torch.get_num_threads()
        in_row = q_BhMd.shape[1] * queries * self.num_keys
        self.fits, self.is_one = in_row <= most, in_row * len(q_BhMd) <= most
        self.num_rows = -(-len(q_BhMd) // -(-len(q_BhMd) // max(1, most // in_row)))  # pieces of like size
        self.num_queries = queries if self.fits else min(queries, max(16, most // (q_BhMd.shape[1] * self.num_keys)))
        self.future = _bias(torch.ones(self.num_queries, self.num_queries, dtype=torch.bool).tril()) if sees is None else None

    def pieces(self) -> Iterator[tuple[slice, slice, int]]:
        """Rows, queries and the number of keys: of several rows all, or of one row some queries and what they can see."""
        rows, queries = self.q.shape[0], self.q.shape[3]
        for row in range(0, rows, self.num_rows):
            for start in range(0, queries, self.num_queries):
                end = min(start + self.num_queries, queries)
                yield slice(row, row + self.num_rows), slice(start, end), end if self.sees is None else self.num_keys

    def queries(self, rows: slice, queries: slice) -> torch.Tensor:
        """[b, g, n · m, d]"""
        return self.q[rows, :, :, queries].flatten(2, 3)

    def shares(self, rows: slice, queries: slice, keys: int, keep: bool) -> torch.Tensor:
        """The softmax of a piece [b, g, n · m, keys], computed in float32, in the precision of the queries. Without ``keep`` the next
        piece overwrites it."""
        q = self.queries(rows, queries)
        products = torch.matmul(q, self.k[rows, :, :keys].transpose(2, 3), out=_scratch(0, q.dtype, *q.shape[:3], keys))
        products = products.view(*q.shape[:2], self.q.shape[2], -1, keys)
        scores, shares = (_scratch(i, torch.float32, *products.shape) for i in (1, 2))
        if self.future is not None:
            scores.copy_(products)
            size = products.shape[3]
            scores[..., keys - size :] += self.future[:size, :size]
        else:
            own = self.sees if len(self.sees) == 1 else self.sees[rows]  # type: ignore[arg-type,index]
            torch.add(products, _bias(own[:, :, None, queries]), out=scores)  # type: ignore[index]
        torch.softmax(scores, -1, out=shares)
        return (shares.to(q.dtype, copy=True) if keep else products.copy_(shares)).flatten(2, 3)


def _bias(sees: torch.Tensor) -> torch.Tensor:
    """What is added to scores: 0, or what makes their share 0 (−∞ would make NaN of a query that sees nothing)."""
    return torch.zeros(sees.shape).masked_fill_(~sees, torch.finfo(torch.float32).min)


scratch = threading.local()
"""The room for attention's scores, by its use and precision."""


def _scratch(number: int, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Room for so many numbers, the same at each call: memory that is given back and taken again for each piece costs as much time as
    the arithmetic."""
    buffers: dict[tuple[int, torch.dtype], torch.Tensor] = vars(scratch).setdefault("buffers", {})
    key, size = (number, dtype), math.prod(shape)
    if key not in buffers or buffers[key].numel() < size:
        with torch.inference_mode(False):  # what is made within it could not be written to outside
            buffers[key] = torch.empty(size, dtype=dtype)
    return buffers[key][:size].view(shape)


class _PlainAttention(torch.autograd.Function):
    """Attention by plain products. What is kept of it is in the inputs' precision; over long rows the weights are not kept (Dao et al.
    2022, arXiv:2205.14135)."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sees: torch.Tensor | None) -> torch.Tensor:
        q = q * q.shape[-1] ** -0.5
        scores, kept = _Scores(q, k, sees), []
        keep = any(ctx.needs_input_grad) and k.shape[2] <= SHORT_KEYS
        mixed = _Whole(scores)
        for rows, queries, keys in scores.pieces():
            share = scores.shares(rows, queries, keys, keep)
            mixed.put(share @ v[rows, :, :keys], rows, queries)
            if keep:
                kept.append(share)
        ctx.save_for_backward(q, k, v, sees, *kept)
        return mixed.value

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, sees, *kept = ctx.saved_tensors
        scores = _Scores(q, k, sees)
        slopes = upstream[0].view(scores.q.shape)
        d_q, d_k, d_v = _Whole(scores), _Sum(scores, k), _Sum(scores, v)
        for i, (rows, queries, keys) in enumerate(scores.pieces()):
            share = kept[i] if kept else scores.shares(rows, queries, keys, keep=False)
            slope = slopes[rows, :, :, queries].flatten(2, 3)
            d_share = torch.matmul(slope, v[rows, :, :keys].transpose(2, 3), out=_scratch(3, q.dtype, *share.shape))
            d_scores = torch._softmax_backward_data(d_share, share, -1, q.dtype, grad_input=_scratch(4, q.dtype, *share.shape))
            d_q.put((d_scores @ k[rows, :, :keys]).mul_(q.shape[-1] ** -0.5), rows, queries)
            d_k.add(d_scores.transpose(2, 3) @ scores.queries(rows, queries), rows, keys)
            d_v.add(share.transpose(2, 3) @ slope, rows, keys)
        return d_q.value, d_k.value, d_v.value, None


class _Whole:
    """Pieces [b, g, n · m, d] put together to [B, h, M, d]."""

    def __init__(self, scores: _Scores) -> None:
        self._scores, self.value = scores, scores.q.flatten(1, 2)
        if not scores.is_one:  # a position's heads together, as the linear layers want them
            rows, heads, length, size = self.value.shape
            self.value = scores.q.new_empty(rows, length, heads, size).transpose(1, 2)

    def put(self, piece: torch.Tensor, rows: slice, queries: slice) -> None:
        """One of them."""
        if self._scores.is_one:
            self.value = piece.view(self.value.shape)
        else:
            into = self.value.view(self._scores.q.shape)[rows, :, :, queries]
            into.copy_(piece.view(into.shape))


class _Sum:
    """What pieces [b, g, keys, d] add to keys or values; where a row has several, in float32, so that it is rounded once."""

    def __init__(self, scores: _Scores, like: torch.Tensor) -> None:
        whole = scores.fits and scores.num_keys == like.shape[2]
        self._dtype, self._is_one, self._fits = like.dtype, whole and scores.is_one, scores.fits
        if not self._is_one:
            self._sum = torch.empty_like(like) if whole else torch.zeros_like(like, dtype=like.dtype if scores.fits else torch.float32)

    def add(self, piece: torch.Tensor, rows: slice, keys: int) -> None:
        """One of them."""
        if self._is_one:
            self._sum = piece
        elif self._fits:
            self._sum[rows, :, :keys] = piece
        else:
            self._sum[rows, :, :keys] += piece

    @property
    def value(self) -> torch.Tensor:
        """In the precision of the keys or values."""
        return self._sum.to(self._dtype)
