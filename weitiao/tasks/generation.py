"""Generation: answer as the chats of the data do. The assistant's turns are learned, each with its end token.

A chat that is too long loses its oldest exchanges, whole; if the last one alone is too long, its document is shortened. The system prompt,
an instruction beside a document, tools, the last answer and its end token are never touched.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import overload

from weitiao.config_data import DataConfig
from weitiao.config_tasks import GenerationTask, QaTask
from weitiao.data.packed import WHOLE, EncodedRows, Packed, PackedRow, shortened
from weitiao.data.render import ChatEncoder, EncodedTurns, Measured, Turns
from weitiao.data.rows import Names, batches
from weitiao.records import Encoded, Example, Passage


@dataclass(frozen=True, slots=True)
class EncodedChat:
    """A chat as the model sees it; ``tokens_before`` is its length before shortening."""

    passage: Passage
    tokens_before: int

    @property
    def encoded(self) -> Encoded:
        """Its one sequence."""
        return self.passage.blocks[0]


def encode_chats(
    encoder: ChatEncoder, examples: Sequence[Example], most_tokens: int, task: GenerationTask, data: DataConfig
) -> list[EncodedChat | str]:
    """The chats' ids with their trained tokens; "too_long", or "bad_chat: " and why the template cannot write it, instead of a chat."""
    rows = pack_chats(encoder, examples, most_tokens, task, data)
    return [row.reason or EncodedChat(_passage(example, row), row.tokens_before) for example, row in zip(examples, rows, strict=True)]


def pack_chats(
    encoder: ChatEncoder, examples: Iterable[Example], most_tokens: int, task: GenerationTask | QaTask, data: DataConfig
) -> Iterator[PackedRow]:
    """The same, chat by chat, without the examples that were given."""
    waiting: list[list[Example]] = []

    def written() -> Iterator[list[Turns]]:
        for batch in batches(examples):
            waiting.append(batch)
            yield [_turns(example, task) for example in batch]

    for wholes in encoder.whole_chat_batches(written()):
        batch = waiting.pop(0)
        rows = [PackedRow(f"bad_chat: {whole}") if isinstance(whole, str) else _row(whole, len(whole.tokens)) for whole in wholes]
        long = [i for i, row in enumerate(rows) if len(row.tokens) > most_tokens]
        if data.shorten == "none":
            shorter: Sequence[PackedRow | None] = [None] * len(long)
        else:
            shorter = _Shortening(encoder, task, most_tokens, data.shorten).rows([(batch[i], len(rows[i].tokens)) for i in long])
        for i, row in zip(long, shorter, strict=True):
            rows[i] = row or PackedRow("too_long", tokens_before=len(rows[i].tokens))
        yield from rows


def with_calls_written(encoder: ChatEncoder, examples: Sequence[Example]) -> list[Example]:
    """The examples, to compare answers with: where the good answer calls tools, its target is what the template writes of it."""
    calling = [place for place, example in enumerate(examples) if example.fields.get("tool_calls")]
    chats = encoder.whole_chats([Turns(examples[i].turns, examples[i].tools, (len(examples[i].prompt),)) for i in calling])
    shown = list(examples)
    for place, chat in zip(calling, chats, strict=True):
        if not isinstance(chat, str):
            said = encoder.spelled([token for token, learned in zip(chat.tokens, chat.trained, strict=True) if learned])
            shown[place] = replace(shown[place], targets=(said,))
    return shown


def _turns(example: Example, task: GenerationTask | QaTask) -> Turns:
    turns = example.turns
    places = [place for place, turn in enumerate(turns) if turn.role == "assistant" and turn.trained]
    return Turns(turns, example.tools, tuple(places if task.train_on == "all" else places[-1:]))


def _row(chat: EncodedTurns, tokens_before: int, dropped: int = 0, kept: tuple[int, int] = WHOLE) -> PackedRow:
    return PackedRow("", chat.tokens, chat.trained, chat.characters, tokens_before, dropped, kept)


def _passage(example: Example, row: PackedRow) -> Passage:
    """The chat as the model saw it, and its ids."""
    shown = _without_first(example, _starts(example), row.dropped)
    if row.kept != WHOLE:
        shown = _with_document(shown, shortened(shown.document, row.kept))
    return Passage(shown, (Encoded(example.id, tuple(row.tokens), tuple(row.trained)),), row.characters)


class Passages(Sequence[Passage]):
    """The chats of a split that can be used, each put together when it is asked for."""

    def __init__(self, examples: Sequence[Example], packed: Packed) -> None:
        self._examples, self._packed = examples, packed
        self._places = [place for place in range(len(packed)) if place not in packed.reasons]
        self.rows = EncodedRows(packed, self._places, Names(examples, self._places))
        """Their token ids."""

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Passage: ...

    @overload
    def __getitem__(self, place: slice) -> list[Passage]: ...

    def __getitem__(self, place: int | slice) -> Passage | list[Passage]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        return _passage(self._examples[self._places[place]], self._packed[self._places[place]])


def passage_lengths(passages: Sequence[Passage]) -> list[int]:
    """The lengths of passages in tokens, without taking packed ones apart."""
    if isinstance(passages, Passages):
        return passages.rows.lengths
    return [sum(len(block.tokens) for block in passage.blocks) for passage in passages]


@dataclass(frozen=True, slots=True)
class _Guess:
    """A chat whose document is being shortened: which row it is, its last exchange, how many went before, the tokens to keep."""

    place: int
    last: Example
    dropped: int
    document: Measured
    keep: int


@dataclass(frozen=True, slots=True)
class _Shortening:
    """Chats without as many of their oldest exchanges as must go, then with shorter documents, many at a time."""

    encoder: ChatEncoder
    task: GenerationTask | QaTask
    most_tokens: int
    where: str

    def rows(self, chats: Sequence[tuple[Example, int]]) -> list[PackedRow | None]:
        """Each chat (with its length) as it fits; None where it does not."""
        results: list[PackedRow | None] = [None] * len(chats)
        last = []
        for place, (example, length) in enumerate(chats):
            starts = _starts(example)
            dropped = 1 + bisect_left(range(1, len(starts)), True, key=partial(self._fits_without, example, starts))
            if dropped < len(starts):
                (chat,) = self._encoded([_without_first(example, starts, dropped)])
                results[place] = None if isinstance(chat, str) else _row(chat, length, dropped)
            else:
                last.append((place, _without_first(example, starts, max(0, len(starts) - 1)), max(0, len(starts) - 1)))
        guesses = [guess for guess in self._first_guesses(chats, last) if guess.keep >= 1 and guess.last.place is not None]
        while guesses:
            kept = [guess.document.kept(guess.keep, self.where) for guess in guesses]
            shorter = [_with_document(g.last, shortened(g.last.document, k)) for g, k in zip(guesses, kept, strict=True)]
            again = []
            for guess, cut, chat in zip(guesses, kept, self._encoded(shorter), strict=True):
                if isinstance(chat, str):
                    continue
                over = len(chat.tokens) - self.most_tokens
                if over <= 0:
                    results[guess.place] = _row(chat, chats[guess.place][1], guess.dropped, cut)
                elif (keep := min(guess.keep - 1, guess.keep - over)) >= 1:
                    again.append(replace(guess, keep=keep))
            guesses = again
        return results

    def _first_guesses(self, chats: Sequence[tuple[Example, int]], last: Sequence[tuple[int, Example, int]]) -> Iterator[_Guess]:
        documents = self.encoder.measured([example.document for _, example, _ in last])
        shorter = iter(self._encoded([example for _, example, dropped in last if dropped]))
        for (place, example, dropped), document in zip(last, documents, strict=True):
            chat = next(shorter) if dropped else None
            length = len(chat.tokens) if isinstance(chat, EncodedTurns) else chats[place][1]
            yield _Guess(place, example, dropped, document, document.num_tokens - (length - self.most_tokens))

    def _encoded(self, examples: Sequence[Example]) -> list[EncodedTurns | str]:
        return self.encoder.whole_chats([_turns(example, self.task) for example in examples])

    def _fits_without(self, example: Example, starts: Sequence[int], number: int) -> bool:
        (chat,) = self._encoded([_without_first(example, starts, number)])
        return not isinstance(chat, str) and len(chat.tokens) <= self.most_tokens


def _starts(example: Example) -> list[int]:
    """The places of a chat's user's turns."""
    return [place for place, turn in enumerate(example.prompt) if turn.role == "user"]


def _without_first(example: Example, starts: Sequence[int], number: int) -> Example:
    """The chat without its first ``number`` exchanges; ``starts`` are the places of its user's turns."""
    head = example.prompt[: starts[0]] if example.prompt[0].role == "system" else ()
    return replace(example, prompt=(*head[:1], *example.prompt[starts[number] :])) if number else example


def _with_document(example: Example, document: str) -> Example:
    """The chat with another document in its last user's turn."""
    assert example.place is not None  # the caller's condition
    start, end = example.place
    place = max(i for i, turn in enumerate(example.prompt) if turn.role == "user")
    user = example.prompt[place]
    changed = replace(user, content=user.content[:start] + document + user.content[end:])
    prompt = (*example.prompt[:place], changed, *example.prompt[place + 1 :])
    return replace(example, prompt=prompt, document=document, place=(start, start + len(document)))
