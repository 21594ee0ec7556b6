"""Prompts → written answers: batched, sorted by length, each token of a prompt computed once.

Shapes: B rows being written, S prompt columns, H hidden size, V vocabulary.

What all prompts begin with is computed once for the whole call; several answers to one prompt share its computation; prompts of like length
stand together, padded on the left; rows that are done leave the batch. A drawn answer is a function of (seed, place of the prompt, number
of the sample) and the model, so it does not depend on what else is in the batch (but for rounding).

    p(token) ∝ exp(logit / temperature) over the `top_k` most probable tokens, of these over the fewest that reach `top_p`
"""

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers.cache_utils import DynamicCache, DynamicLayer

from weitiao.config_decoding import DecodingConfig
from weitiao.data.batch import split_by_tokens
from weitiao.errors import NonFiniteError
from weitiao.evaluate.grammar import Followed, Grammar
from weitiao.language import t
from weitiao.model.heads import inner, output_matrix, trunk

ROOM_TOKENS = 64
"""By so many columns a buffer of keys and values grows when it is full."""
SHORTEST_SHARED = 16
"""A shorter common beginning is not worth a forward pass of its own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A written answer. ``tokens`` include the end token if it ``ended``, else it was cut off at `max_new_tokens` or where the model's
    positions end;
    ``log_probabilities`` (nats, one for each token) are the model's own, whatever the temperature."""

    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    ended: bool

    @property
    def content(self) -> tuple[int, ...]:
        """The tokens without the end token."""
        return self.tokens[:-1] if self.ended else self.tokens


@torch.inference_mode()
def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    ends: Collection[int],
    decoding: DecodingConfig,
    seed: int,
    most_tokens: int,
    samples: int = 1,
    progress: Callable[[int], None] | None = None,
    grammar: Grammar | None = None,
) -> list[list[Answer]]:
    """``samples`` answers to each prompt (token ids, none empty), in the order given. ``model`` is in evaluation mode; an answer stops at
    any token of ``ends``; ``most_tokens`` bounds a batch (padding and answers included); ``progress`` is told how many prompts are done;
    ``grammar`` holds the answers to a schema.

    Raises NonFiniteError where the model gives no probabilities.
    """
    results: list[list[Answer]] = [[] for _ in prompts]
    shared = _Shared(model, prompts)
    weights = [(len(prompt) + decoding.max_new_tokens) * samples for prompt in prompts]
    for group in split_by_tokens(weights, most_tokens):
        draws = [_draws(seed, i, number, decoding) for i in group for number in range(samples)]
        batch = _Batch(model, [prompts[i] for i in group], samples, shared)
        most = [_most_new(model, len(prompts[i]), decoding) for i in group for _ in range(samples)]
        followed = None if grammar is None else grammar.follow(len(draws))
        answers = _written(batch, draws, most, frozenset(ends), decoding, followed)
        for i in group:
            results[i] = [next(answers) for _ in range(samples)]
        if progress:
            progress(len(group))
    return results


def _most_new(model: nn.Module, prompt_tokens: int, decoding: DecodingConfig) -> int:
    """How many tokens an answer to a prompt may have: a model with so many positions cannot go beyond them."""
    positions = getattr(inner(model).config, "max_position_embeddings", None)  # not every architecture counts positions
    return decoding.max_new_tokens if positions is None else max(1, min(decoding.max_new_tokens, positions - prompt_tokens))


def _draws(seed: int, prompt: int, sample: int, decoding: DecodingConfig) -> np.ndarray:
    """The random numbers in [0, 1) that decide the tokens of one answer."""
    return np.random.Generator(np.random.PCG64([seed, prompt, sample])).random(decoding.max_new_tokens)


def _written(
    batch: "_Batch",
    draws: Sequence[np.ndarray],
    most: Sequence[int],
    ends: frozenset[int],
    decoding: DecodingConfig,
    followed: Followed | None,
) -> Iterator[Answer]:
    """The answers to a batch's rows, in their order; ``most``: their longest lengths in tokens."""
    tokens: list[list[int]] = [[] for _ in draws]
    logs: list[list[float]] = [[] for _ in draws]
    rows, open_rows = list(range(len(draws))), set(range(len(draws)))
    for step in range(max(most)):
        drawn = torch.tensor(np.array([draws[row][step] for row in rows]), device=batch.hidden_BH.device)
        allowed_BV = None if followed is None else followed.allowed(rows).to(drawn.device)
        chosen_B, logs_B = choose_tokens(batch.hidden_BH @ output_matrix(batch.model).T, drawn, decoding, allowed_BV)
        for row, token, log in zip(rows, chosen_B.tolist(), logs_B.tolist(), strict=True):
            if row in open_rows:
                tokens[row].append(token)
                logs[row].append(log)
                if followed is not None:
                    followed.take(row, token)
                if token in ends or step + 1 == most[row]:
                    open_rows.remove(row)
        if not open_rows:
            break
        if 8 * (len(rows) - len(open_rows)) >= len(rows):
            kept = [place for place, row in enumerate(rows) if row in open_rows]
            rows, chosen_B = [rows[place] for place in kept], chosen_B[kept]
            batch.keep(kept)
        batch.advance(chosen_B)
    return (Answer(tuple(ids), tuple(values), ids[-1] in ends) for ids, values in zip(tokens, logs, strict=True))


def choose_tokens(
    logits_BV: torch.Tensor, drawn_B: torch.Tensor, decoding: DecodingConfig, allowed_BV: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next token of each row [B] and its log-probability under the model [B], whatever is ``allowed_BV``. ``drawn_B``: float64 numbers
    in [0, 1), each the place in the distribution at which its row's token stands. Raises NonFiniteError."""
    logits_BV = logits_BV.float()
    normaliser_B = logits_BV.logsumexp(-1)
    if not bool(torch.isfinite(normaliser_B).all()):
        raise NonFiniteError(
            t("模型给出的概率是 NaN 或无穷大，不能写答案", "the model's probabilities are NaN or infinite; nothing can be written")
        )
    own_BV = logits_BV
    if allowed_BV is not None:
        logits_BV = logits_BV.masked_fill(~allowed_BV, float("-inf"))
    if decoding.temperature == 0:
        chosen_B = logits_BV.argmax(-1)
    elif decoding.top_k or decoding.top_p < 1:
        kept = min(decoding.top_k or logits_BV.shape[1], logits_BV.shape[1])
        values_BK, order_BK = logits_BV.topk(kept, sorted=True)
        chances_BK = (values_BK / decoding.temperature).softmax(-1).double()
        before_BK = chances_BK.cumsum(-1) - chances_BK
        chances_BK *= before_BK < decoding.top_p
        chosen_B = order_BK.gather(-1, _place(chances_BK, drawn_B)).squeeze(-1)
    else:
        chosen_B = _place((logits_BV / decoding.temperature).softmax(-1).double(), drawn_B).squeeze(-1)
    return chosen_B, own_BV.gather(-1, chosen_B[:, None]).squeeze(-1) - normaliser_B


def _place(chances_BK: torch.Tensor, drawn_B: torch.Tensor) -> torch.Tensor:
    """Where in the row's distribution (of any sum) the drawn number falls, [B, 1]."""
    sums_BK = chances_BK.cumsum(-1)
    return torch.searchsorted(sums_BK, drawn_B[:, None] * sums_BK[:, -1:] * (1 - 1e-9), right=True)


class _Shared:
    """The common beginning of all prompts, computed once: its length in tokens and its keys and values (None: not shared)."""

    def __init__(self, model: nn.Module, prompts: Sequence[Sequence[int]]) -> None:
        self.cache: DynamicCache | None = None
        self.length = _common_length(prompts)
        cache = _new_cache(model)
        if self.length < SHORTEST_SHARED or not all(isinstance(layer, _RoomyLayer) for layer in cache.layers):
            self.length = 0  # where a layer sees a window only, columns must be as far apart as positions
            return
        tokens = torch.tensor([list(prompts[0][: self.length])], device=next(model.parameters()).device)
        self.cache = trunk(model)(input_ids=tokens, past_key_values=cache, use_cache=True).past_key_values

    def expanded(self, model: nn.Module, rows: int) -> DynamicCache:
        """A cache of so many rows that holds the beginning."""
        if self.cache is None:
            return _new_cache(model)
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(rows)
        return cache


def _common_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; at least one of each prompt is left over, nothing is common to a single one."""
    if len(prompts) < 2:
        return 0
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))  # in the order of a dictionary: what these two share, all share
    most = min(map(len, prompts)) - 1
    return next((i for i, (a, b) in enumerate(zip(first[:most], last, strict=False)) if a != b), most)


def _new_cache(model: nn.Module) -> DynamicCache:
    """transformers' own cache for this model, its plain layers with room to grow."""
    cache = DynamicCache(config=inner(model).config)  # type: ignore[arg-type]
    cache.layers = [_RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


class _RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values in buffers with room behind them: a step writes its own column instead of copying all that came before."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        """Append [B, heads, new, size] and return all."""
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return key_states, value_states
        start, end = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if self._room is None or self._room[0].shape[2] < end:
            self._room = _with_room(self.keys, end), _with_room(self.values, end)
        keys, values = self._room
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows."""
        super().batch_select_indices(indices)
        self._room = None

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row so many times."""
        super().batch_repeat_interleave(repeats)
        self._room = None


def _with_room(old: torch.Tensor, columns: int) -> torch.Tensor:
    batch, heads, width, size = old.shape
    buffer = old.new_empty((batch, heads, columns + ROOM_TOKENS, size))
    buffer[:, :, :width] = old
    return buffer


class _Batch:
    """Rows being written: their keys and values so far and the hidden state [B, H] that decides their next token."""

    def __init__(self, model: nn.Module, prompts: Sequence[Sequence[int]], samples: int, shared: _Shared) -> None:
        self.model = model
        device = next(model.parameters()).device
        lengths = [len(prompt) - shared.length for prompt in prompts]
        width = max(lengths)
        tokens_BS = torch.zeros((len(prompts), width), dtype=torch.long)
        mask_BS = torch.zeros((len(prompts), width), dtype=torch.bool)
        for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
            tokens_BS[row, width - length :] = torch.tensor(list(prompt[shared.length :]))
            mask_BS[row, width - length :] = True
        places_BS = shared.length + (mask_BS.cumsum(-1) - 1).clamp(min=0)
        self._mask_BK = torch.cat([torch.ones((len(prompts), shared.length), dtype=torch.bool), mask_BS], dim=1).to(device)
        self._places_B1 = torch.tensor([[len(prompt)] for prompt in prompts], device=device)
        self._cache = shared.expanded(model, len(prompts))
        self.hidden_BH = self._forward(tokens_BS.to(device), places_BS.to(device))
        if samples > 1:
            self._cache.batch_repeat_interleave(samples)
            self._mask_BK, self._places_B1, self.hidden_BH = (
                part.repeat_interleave(samples, dim=0) for part in (self._mask_BK, self._places_B1, self.hidden_BH)
            )

    def _forward(self, tokens_BS: torch.Tensor, places_BS: torch.Tensor) -> torch.Tensor:
        """Hidden states [B, H] of the last column. With a mask in full, transformers lets the heads of a group share their keys where a
        row has one query; a mask that hides nothing it would drop, and take a path that is 10 times as slow on a CPU in bfloat16."""
        whole = tokens_BS.shape[1] == 1 and all(isinstance(layer, _RoomyLayer) for layer in self._cache.layers)
        mask = self._mask_BK[:, None, None] if whole else self._mask_BK
        out = trunk(self.model)(
            input_ids=tokens_BS, attention_mask=mask, position_ids=places_BS, past_key_values=self._cache, use_cache=True
        )
        return out.last_hidden_state[:, -1]  # type: ignore[no-any-return]

    def advance(self, tokens_B: torch.Tensor) -> None:
        """Append a token to each row."""
        self._mask_BK = torch.cat([self._mask_BK, self._mask_BK.new_ones((len(tokens_B), 1))], dim=1)
        self.hidden_BH = self._forward(tokens_B[:, None], self._places_B1)
        self._places_B1 = self._places_B1 + 1

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        chosen = torch.tensor(rows, device=self.hidden_BH.device)
        self._cache.batch_select_indices(chosen)
        self._mask_BK, self._places_B1, self.hidden_BH = self._mask_BK[chosen], self._places_B1[chosen], self.hidden_BH[chosen]
