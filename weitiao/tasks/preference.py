"""Preference: two answers to one prompt, the first of them the better one."""

from collections.abc import Sequence
from dataclasses import replace

from weitiao.data.render import ChatEncoder, EncodedTurns, Turns
from weitiao.records import Branch, Example, Tree


def longer_answers(encoder: ChatEncoder, examples: Sequence[Example]) -> list[Example]:
    """Each pair as a chat with the longer of its two answers: where that one fits, both do."""
    better = encoder.texts([e.targets[0] for e in examples])
    worse = encoder.texts([e.rejected[0] for e in examples])
    return [e if len(own) >= len(other) else replace(e, targets=e.rejected) for e, own, other in zip(examples, better, worse, strict=True)]


def encode_pairs(encoder: ChatEncoder, examples: Sequence[Example]) -> list[Tree | str]:
    """Each pair as a tree of two answers, each up to its end token; or why the chat template cannot write it."""
    sides = [replace(e, targets=answers) for e in examples for answers in (e.targets, e.rejected)]
    encoded = encoder.whole_chats([Turns(side.turns, side.tools, (len(side.prompt),)) for side in sides])
    return [_pair(e.id, encoded[2 * i], encoded[2 * i + 1]) for i, e in enumerate(examples)]


def _pair(name: str, better: EncodedTurns | str, worse: EncodedTurns | str) -> Tree | str:
    if isinstance(better, str) or isinstance(worse, str):
        return better if isinstance(better, str) else str(worse)
    shared = min(_same(better.tokens, worse.tokens), better.trained.index(True), worse.trained.index(True))
    return Tree(name, better.tokens[:shared], tuple(_branch(side, shared) for side in (better, worse)))


def _same(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _branch(side: EncodedTurns, start: int) -> Branch:
    """What stands behind the shared beginning; what the template writes behind the end token tells nothing of the answer."""
    end = max(i for i, learned in enumerate(side.trained) if learned) + 1
    return Branch(side.tokens[start:end], side.trained[start:end])
