"""Byte-level BPE by tiktoken instead of the tokenizers library, where both give the same ids: a quarter of the processor time.

tiktoken joins neighbours whose union is the earliest word of the vocabulary, the library joins by a list of pairs. Both do the same if the
list's pairs make words in the order of their ids, each word by one pair, and if the library's own rules make of each word's spelling that
one word. For suppose that tiktoken, where nothing earlier can be joined, joins ``a`` and ``b`` to a word of which the list has another
pair. What it did inside of that word so far, it would do with the word alone, and the list has those pairs (by induction over the ids); so
the library, given the word alone, would come to ``a b`` and find no pair to go on with: it would not make one word of it.

How a text is first cut into words is a pattern over letters, digits and white space, of which the two libraries keep tables of their own.
So only the patterns below are taken, and only texts of characters about which no version of the tables differs; the same holds for what
NFC would change. All else is left to the tokenizers library.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import tiktoken
from tokenizers import Tokenizer

PATTERNS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
"""Of Qwen 1 to 3 and of Llama 3."""
LONGEST_TEXT, LONGEST_BLANK = 200_000, 200
"""Characters of a text, and of white space in a row: longer ones cost tiktoken's pattern too much."""
_BLOCKS = (
    (0x20, 0x7F), (0xA0, 0x2B0), (0x370, 0x530), (0x5D0, 0x5EB), (0x620, 0x64B), (0x1E00, 0x2000), (0x2010, 0x2028), (0x2030, 0x205F),
    (0x20A0, 0x20D0), (0x2100, 0x2C00), (0x3000, 0x3100), (0x3200, 0x3400), (0x4E00, 0x9FA6), (0xAC00, 0xD7A4), (0xFE0F, 0xFE10),
    (0xFE30, 0xFE50), (0xFF01, 0xFFEF), (0x1F000, 0x1FB00), (0x20000, 0x2A6D7),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class QuickBpe:
    """One vocabulary's words."""

    encoding: tiktoken.Encoding
    sizes: Mapping[int, int]
    """How many bytes a token spells."""

    @classmethod
    def of(cls, rules: Mapping[str, Any]) -> "QuickBpe | None":
        """For a tokenizer.json without added tokens; None where tiktoken is not known to give the same ids."""
        words = _words(rules)
        pattern = _pattern(rules)
        if words is None or pattern is None or not _is_consistent(rules, words):
            return None
        return cls.trusted(pattern, words)

    @classmethod
    def trusted(cls, pattern: str, words: Mapping[bytes, int]) -> "QuickBpe":
        """For words and a pattern of which that is known."""
        encoding = tiktoken.Encoding("words", pat_str=pattern, mergeable_ranks=dict(words), special_tokens={})
        return cls(encoding, {number: len(word) for word, number in words.items()})

    def takes(self, text: str) -> bool:
        """Whether the text has nothing but characters on which all tables agree, and no stretch that would take long."""
        return len(text) <= LONGEST_TEXT and not _unsafe().search(text)

    def ids(self, text: str) -> list[int]:
        """Ids of a text that it takes."""
        return self.encoding.encode_ordinary(text)

    def marks(self, ids: Sequence[int], text: str, start: int, end: int) -> list[bool]:
        """Which of the text's tokens have a character between ``start`` and ``end``."""
        first, last = len(text[:start].encode()), len(text[:end].encode())
        marks, place = [], 0
        for number in ids:
            if place >= last:
                break
            place += self.sizes[number]
            marks.append(place > first)
            if marks[-1] and end == len(text):
                break
        return marks + [end == len(text)] * (len(ids) - len(marks))


def _pattern(rules: Mapping[str, Any]) -> str | None:
    """How a text is cut into words, if that is all that is done to it before they are."""
    cut, post = rules.get("pre_tokenizer") or {}, rules.get("post_processor")
    if (rules.get("normalizer") or {"type": "NFC"}) != {"type": "NFC"} or cut.get("type") != "Sequence" or len(cut["pretokenizers"]) != 2:
        return None
    if post is not None and (post.get("type") != "ByteLevel" or post.get("trim_offsets") is not False):
        return None
    split, spelling = cut["pretokenizers"]
    pattern = (split.get("pattern") or {}).get("Regex")
    plain = split.get("type") == "Split" and split.get("behavior") == "Isolated" and split.get("invert") is False
    spelled = spelling.get("type") == "ByteLevel" and not spelling.get("add_prefix_space") and not spelling.get("use_regex")
    return pattern if plain and spelled and pattern in PATTERNS else None


def _words(rules: Mapping[str, Any]) -> dict[bytes, int] | None:
    """Each word's bytes and id, if the list of pairs makes them in the order of their ids, each once."""
    model = rules.get("model") or {}
    plain = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    if any((model.get(name) or None) != value for name, value in plain.items()) or model.get("byte_fallback"):
        return None
    vocabulary: Mapping[str, int] = model.get("vocab") or {}
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model.get("merges") or ()]
    letters = _letters()
    made = [vocabulary.get("".join(pair), -1) for pair in pairs]
    if any(letter not in vocabulary for letter in letters) or any(one >= other for one, other in zip([-1, *made], made, strict=False)):
        return None
    table = {ord(letter): byte for letter, byte in letters.items()}
    texts = [*letters, *("".join(pair) for pair in pairs)]
    return {text.translate(table).encode("latin-1"): vocabulary[text] for text in texts}


def _is_consistent(rules: Mapping[str, Any], words: Mapping[bytes, int]) -> bool:
    """Whether the library makes of each word's spelling that word."""
    bare = {**rules, "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, "added_tokens": []}
    spelling = {byte: letter for letter, byte in _letters().items()}
    texts = ["".join(spelling[byte] for byte in word) for word in words]
    found = Tokenizer.from_str(json.dumps(bare)).encode_batch_fast(texts, add_special_tokens=False)
    return all(one.ids == [number] for one, number in zip(found, words.values(), strict=True))


@cache
def _letters() -> dict[str, int]:
    """How byte-level vocabularies spell bytes: printable ones by themselves, the others by letters from U+0100 on (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


@cache
def _unsafe() -> re.Pattern[str]:
    """What keeps a text from tiktoken: a character outside of the safe ones, or much white space in a row."""
    seconds = set()
    for code in range(0x10000):
        if (parts := unicodedata.decomposition(chr(code)).split()) and not parts[0].startswith("<") and len(parts) == 2:
            seconds.add(int(parts[1], 16))
    ranges: list[list[int]] = [[9, 10], [13, 13]]
    for start, stop in _BLOCKS:
        for code in range(start, stop):
            if code not in seconds and _is_settled(chr(code)):
                if ranges[-1][1] == code - 1:
                    ranges[-1][1] = code
                else:
                    ranges.append([code, code])
    inside = "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in ranges)
    return re.compile(f"[^{inside}]|\\s{{{LONGEST_BLANK},}}")


def _is_settled(character: str) -> bool:
    """Whether all versions of Unicode since 3.2 agree on its kind (symbols and punctuation: a version that lacks them has them as neither
    letter nor digit nor space, which is all that is asked), NFC leaves it as it is, and no ASCII letter is another case of it."""
    kind = unicodedata.category(character)
    agreed = kind[0] in "SP" or kind == unicodedata.ucd_3_2_0.category(character) != "Cn"
    stays = unicodedata.normalize("NFC", character) == character and not unicodedata.combining(character)
    return agreed and stays and (character.isascii() or not character.casefold().isascii())
