"""Generation: answer as the chats of the data do. The assistant's turns are learned, each with its end token.

A chat that is too long loses its oldest exchanges, whole; if the last one alone is too long, its document is shortened. The system prompt,
an instruction beside a document, tools, the last answer and its end token are never touched.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from weitiao.config_data import DataConfig
from weitiao.config_tasks import GenerationTask, QaTask
from weitiao.data.render import ChatEncoder, EncodedTurns, Turns
from weitiao.records import Encoded, Example, Passage

BATCH_ROWS = 1024


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
    encoder: ChatEncoder, examples: Sequence[Example], most_tokens: int, task: GenerationTask | QaTask, data: DataConfig
) -> list[EncodedChat | str]:
    """The chats' ids with their trained tokens; "too_long", or "bad_chat: " and why the template cannot write it, instead of a chat."""
    results: list[EncodedChat | str] = []
    for start in range(0, len(examples), BATCH_ROWS):
        batch = examples[start : start + BATCH_ROWS]
        for example, whole in zip(batch, encoder.whole_chats([_turns(e, task) for e in batch]), strict=True):
            if isinstance(whole, str):
                results.append(f"bad_chat: {whole}")
            elif len(whole.tokens) <= most_tokens:
                results.append(EncodedChat(_passage(example, whole), len(whole.tokens)))
            else:
                shorter = (
                    None if data.shorten == "none" else _shortened(encoder, example, len(whole.tokens), most_tokens, task, data.shorten)
                )
                results.append("too_long" if shorter is None else EncodedChat(shorter, len(whole.tokens)))
    return results


def _turns(example: Example, task: GenerationTask | QaTask) -> Turns:
    turns = example.turns
    places = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
    return Turns(turns, example.tools, tuple(places[-1:] if isinstance(task, QaTask) or task.train_on == "last" else places))


def _passage(example: Example, chat: EncodedTurns) -> Passage:
    return Passage(example, (Encoded(example.id, chat.tokens, chat.trained),), chat.characters)


def _shortened(
    encoder: ChatEncoder, example: Example, tokens: int, most_tokens: int, task: GenerationTask | QaTask, where: str
) -> Passage | None:
    """The chat without as many of its oldest exchanges as must go, then with a shorter document; None if it still does not fit."""

    def encoded(shorter: Example) -> EncodedTurns | None:
        (chat,) = encoder.whole_chats([_turns(shorter, task)])
        return None if isinstance(chat, str) else chat

    def fits(chat: EncodedTurns | None) -> bool:
        return chat is not None and len(chat.tokens) <= most_tokens

    starts = [place for place, turn in enumerate(example.prompt) if turn.role == "user"]
    dropped = bisect_left(range(len(starts)), True, key=lambda n: fits(encoded(_without_first(example, starts, n))))
    if dropped < len(starts):
        shorter = _without_first(example, starts, dropped)
        chat = encoded(shorter)
        return None if chat is None else _passage(shorter, chat)
    last = _without_first(example, starts, len(starts) - 1)
    chat = encoded(last)
    keep = len(encoder.text(last.document)) - ((tokens if chat is None else len(chat.tokens)) - most_tokens)
    while keep >= 1 and last.place is not None:
        shorter = _with_document(last, encoder.shorten(last.document, keep, where))
        chat = encoded(shorter)
        if chat is None or fits(chat):
            return None if chat is None else _passage(shorter, chat)
        keep = min(keep - 1, keep - (len(chat.tokens) - most_tokens))
    return None


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
