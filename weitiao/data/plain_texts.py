"""Texts without control tokens → token ids, and which of a text's tokens belong to a part of it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tokenizers import Encoding, Tokenizer

from weitiao.data.quick_bpe import QuickBpe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from weitiao.model.plain_tokenizer import PlainTokenizer


class Piece(Protocol):
    """A text's tokens."""

    @property
    def ids(self) -> Sequence[int]: ...

    def marks(self, start: int, end: int) -> list[bool]:
        """Which of them have a character between ``start`` and ``end``, of which the second is greater."""
        ...


class PlainTexts:
    """A tokenizer that knows no control tokens, padding, truncation or post-processing. ``rules`` is a hash of what decides its ids."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase | PlainTokenizer") -> None:
        tree = json.loads(tokenizer.backend_tokenizer.to_str())
        tree["added_tokens"] = []
        tree["padding"] = tree["truncation"] = tree["decoder"] = None
        if (tree.get("post_processor") or {}).get("type") != "ByteLevel":
            tree["post_processor"] = None
        for affix in ("continuing_subword_prefix", "end_of_word_suffix"):  # none is sometimes written as an empty one
            tree["model"][affix] = tree["model"].get(affix) or None
        written = json.dumps(tree)
        self._library = Tokenizer.from_str(written)
        self.rules = hashlib.sha256(written.encode()).hexdigest()
        self.quick: QuickBpe | None = None

    def hasten(self) -> None:
        """Find out whether a quicker way gives the same ids, and go it from now on; that takes a second or two for a large vocabulary."""
        self.quick = self.quick or QuickBpe.of(json.loads(self._library.to_str()))

    def ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of texts, in parallel."""
        return [tuple(piece.ids) for piece in self._found(texts, with_places=False)]

    def pieces(self, texts: Sequence[str]) -> list[Piece]:
        """The tokens of texts, in parallel."""
        return self._found(texts, with_places=True)

    def encodings(self, texts: Sequence[str]) -> list[Encoding]:
        """The same with each token's place in the text, always by the library."""
        return self._library.encode_batch(list(texts), add_special_tokens=False)

    def _found(self, texts: Sequence[str], with_places: bool) -> list[Piece]:
        quick = self.quick
        taken = [quick is not None and quick.takes(text) for text in texts]
        others = [text for text, own in zip(texts, taken, strict=True) if not own]
        encode: Any = self._library.encode_batch if with_places else self._library.encode_batch_fast
        found = iter(encode(others, add_special_tokens=False) if others else ())
        return [
            _Quick(quick, text, quick.ids(text)) if own and quick is not None else _Library(text, next(found))
            for text, own in zip(texts, taken, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Library:
    """What the tokenizers library makes of a text."""

    text: str
    encoding: Encoding

    @property
    def ids(self) -> Sequence[int]:
        return self.encoding.ids

    def marks(self, start: int, end: int) -> list[bool]:
        num_tokens = len(self.encoding)
        first = self.encoding.char_to_token(start) if end == len(self.text) else None
        if first is not None:  # the usual case, without taking every token's place apart
            return [False] * first + [True] * (num_tokens - first)
        return [stop > start and begin < end for begin, stop in self.encoding.offsets]


@dataclass(frozen=True, slots=True)
class _Quick:
    """What tiktoken makes of it."""

    bpe: QuickBpe
    text: str
    ids: list[int]

    def marks(self, start: int, end: int) -> list[bool]:
        return self.bpe.marks(self.ids, self.text, start, end)
