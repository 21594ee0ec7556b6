"""What one written answer is worth against the good answers to its question: exact match, token F1, ROUGE-L, the fields of a JSON object.

Texts are compared in units. Of a text without Chinese or Japanese characters they are those of SQuAD's script: lower case, no punctuation,
no articles, words between spaces (Rajpurkar et al. 2016, arXiv:1606.05250). Of one with such characters each of them is a unit of its own,
widths are made equal (NFKC) and Chinese punctuation goes too; the words between them are as before. Where a question has several good
answers the best score counts.
"""

import json
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rapidfuzz.distance import LCSseq

_CHARACTERS = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WIDE = re.compile(f"[{_CHARACTERS}\u3000-\u303f\uff00-\uffef]")
_CHARACTER = re.compile(f"([{_CHARACTERS}])")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_PUNCTUATION = frozenset(string.punctuation)
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL)

Score = Callable[[str, Sequence[str]], float]
"""(answer, good answers) → a number, 1 being best."""


def units(text: str, articles: bool = False) -> list[str]:
    """What a text is compared by: characters of Chinese and Japanese, words of anything else; ``articles``: also a, an, the."""
    wide = _WIDE.search(text) is not None
    folded = (unicodedata.normalize("NFKC", text) if wide else text).lower()
    kept = "".join(c for c in folded if not (c in _ASCII_PUNCTUATION or (wide and unicodedata.category(c)[0] == "P")))
    apart = _CHARACTER.sub(r" \1 ", kept)
    return (apart if articles else _ARTICLES.sub(" ", apart)).split()


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 if the answer is one of the good ones, else 0."""
    own = units(answer)
    return float(any(own == units(reference) for reference in references))


def token_f1(answer: str, references: Sequence[str]) -> float:
    """F1 of the units that answer and good answer share, however often each; two answers without units are the same."""
    own = Counter(units(answer))
    return max(_f1(own, Counter(units(reference))) for reference in references)


def _f1(own: Counter[Any], right: Counter[Any]) -> float:
    if not own or not right:
        return float(own == right)
    return 2 * (own & right).total() / (own.total() + right.total())  # 2PR / (P + R) with P = shared/own, R = shared/right


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """F1 of the longest common subsequence of units, articles among them (Lin 2004, ROUGE-L with β = 1)."""
    own = units(answer, articles=True)
    return max(_lcs_f1(own, units(reference, articles=True)) for reference in references)


def _lcs_f1(own: list[str], right: list[str]) -> float:
    if not own or not right:
        return float(own == right)
    return 2 * LCSseq.similarity(own, right) / (len(own) + len(right))


def parse_json(text: str) -> Any:
    """The JSON value that a whole text is. Raises ValueError for anything else, NaN and Infinity too."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("too deep") from None


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def is_json(answer: str, _references: Sequence[str] = ()) -> float:
    """1 if the answer is a JSON object or list and nothing else, else 0."""
    try:
        return float(isinstance(parse_json(answer), (dict, list)))
    except ValueError:
        return 0.0


def field_f1(answer: str, references: Sequence[str]) -> float:
    """F1 of the fields, (path, value) pairs, that the answer's JSON shares with the good one's; the order of lists does not count, nor do a
    code fence around the answer and spaces around a text. 0 for no JSON. ``references`` must be JSON."""
    try:
        fenced = _FENCE.search(answer)
        own = Counter(fields(parse_json(fenced[1] if fenced else answer)))
    except ValueError:
        return 0.0
    return max(_f1(own, Counter(fields(parse_json(reference)))) for reference in references)


def fields(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, value) of everything in a JSON value that is not an object or a list of its own; an empty one of these is a field too."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from fields(item, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for item in value:
            yield from fields(item, f"{path}[]")
    else:
        yield path, _spelled(value)


def _spelled(value: Any) -> str:
    """The same for equal values: 1 and 1.0 are, 1 and true or "1" are not."""
    if isinstance(value, str):
        return json.dumps(unicodedata.normalize("NFKC", value).strip())
    return str(int(value)) if isinstance(value, float) and value.is_integer() else json.dumps(value)


def distinct(answers: Sequence[str], n: int) -> float:
    """Different n-grams of units over all n-grams, all answers together (Li et al. 2016, arXiv:1510.03055); 0 where there is none."""
    written = (units(answer, articles=True) for answer in answers)
    grams = [tuple(own[i : i + n]) for own in written for i in range(len(own) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0
