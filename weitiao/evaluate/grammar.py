"""Constrained decoding: which tokens keep a written answer to a JSON Schema, by llguidance (`pip install 'weitiao[json]'`).

A matcher follows one answer; it allows the end of the answer only where the JSON is complete. The fields come in the order of the schema's
`properties`, with at most 20 blanks or line ends between any two signs (data/json_schema.py).
Reference: Willard and Louf (2023), Efficient Guided Generation for Large Language Models, arXiv:2307.09702.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from weitiao.data.json_schema import Checker, grammar_of
from weitiao.data.render import ChatEncoder

if TYPE_CHECKING:  # an extra
    from llguidance import LLMatcher, LLTokenizer


@dataclass(frozen=True)
class Grammar:
    """A schema in the tokens of one model, whose ``vocabulary`` is the rows of its output matrix."""

    grammar: str
    tokenizer: "LLTokenizer"
    vocabulary: int
    ends: list[int]

    @classmethod
    def of(cls, checker: Checker, encoder: ChatEncoder, vocabulary: int, ends: Collection[int]) -> "Grammar":
        """For answers that stop at any token of ``ends``. Raises ConfigError as :func:`grammar_of`."""
        grammar = grammar_of(checker)
        from llguidance import LLTokenizer

        rules = json.loads(encoder.tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
        return cls(grammar, LLTokenizer(json.dumps(rules), n_vocab=vocabulary, eos_token=sorted(ends)), vocabulary, sorted(ends))

    def follow(self, rows: int) -> "Followed":
        """So many answers, from their beginning."""
        from llguidance import LLMatcher

        first = LLMatcher(self.tokenizer, self.grammar)
        return Followed([first, *(first.deep_copy() for _ in range(rows - 1))], self.vocabulary, self.ends)


@dataclass(frozen=True)
class Followed:
    """Answers being written, one matcher each."""

    matchers: list["LLMatcher"]
    vocabulary: int
    ends: list[int]

    def allowed(self, rows: Sequence[int]) -> torch.Tensor:
        """Which tokens may come next in these answers, bool [rows, V]: only its end in one that is complete, or that the library can
        follow no longer (the schema is too involved)."""
        found = np.zeros((len(rows), self.vocabulary), dtype=bool)
        for place, row in enumerate(rows):
            if self.matchers[row].is_stopped():
                found[place, self.ends] = True
            else:
                bits = np.frombuffer(self.matchers[row].compute_bitmask(), dtype=np.uint8)
                found[place] = np.unpackbits(bits, count=self.vocabulary, bitorder="little")
        return torch.from_numpy(found)

    def take(self, row: int, token: int) -> None:
        """The next token of an answer."""
        if not self.matchers[row].is_stopped():
            self.matchers[row].consume_token(token)
