"""The records that every stage shares."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:  # `weitiao --help` and `weitiao check` must not import torch
    import torch

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a user's file as it was read. ``line`` counts from 1 in the file's own lines (CSV: the line where the record starts)."""

    file: str
    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat. ``fields`` is what the chat template is given beside role and content, such as ``tool_calls``. A turn of the
    assistant that the data marks as not to be learned is not ``trained``."""

    role: Role
    content: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The turn as a chat template takes it."""
        return {**self.fields, "role": self.role, "content": self.content}


def said(turns: Iterable[Message], *roles: Role) -> str:
    """What the turns of some roles say, one below the other; of a turn without text its fields, such as ``tool_calls``."""
    return "\n".join(turn.content or str(dict(turn.fields) or "") for turn in turns if turn.role in roles)


@dataclass(frozen=True, slots=True)
class Example:
    """One record for every stage. ``id`` (``split:line``, or ``split:file:line``; the second row of one line has ``.2`` behind it) ties a
    row to its prediction and its line in the report.

    ``document`` is the user's text; it is the only part of the ``prompt`` (the chat up to the answer) that may be shortened. ``targets``
    are the good answers, the first one is trained.
    ``candidates`` are the labels that this row may get (classification only). Of a chat, ``prompt`` holds all turns before the last answer;
    ``place`` is where the document stands in its last user's turn (start, end), None where nothing may be shortened; ``fields`` are those
    of the answer's turn, ``tools`` what the assistant may call.
    """

    id: str
    prompt: tuple[Message, ...]
    targets: tuple[str, ...]
    document: str
    file: str
    line: int
    candidates: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    place: tuple[int, int] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Any, ...] = ()

    @property
    def turns(self) -> tuple[Message, ...]:
        """The whole chat, the answer included."""
        return (*self.prompt, Message("assistant", self.targets[0], self.fields))


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one training row. ``trained`` marks by position which tokens are learned (never by token id).

    For a `score` head no token is learned: ``label`` is the index of the row's label and ``candidates`` the indices that it may take
    (empty: all).
    """

    id: str
    tokens: tuple[int, ...]
    trained: tuple[bool, ...]
    label: int = -1
    candidates: tuple[int, ...] = ()
    weight: float = 1.0
    """How much each of its targets counts in the loss (class weights)."""

    @property
    def num_targets(self) -> int:
        """How many trained tokens (or labels) this row adds to the loss. The first token has no prediction before it."""
        return len(self.asked)

    @property
    def asked(self) -> tuple[int, ...]:
        """The positions whose hidden states predict its targets."""
        if self.label >= 0:
            return (len(self.tokens) - 1,)
        return tuple(j for j, learned in enumerate(self.trained[1:]) if learned)


@dataclass(frozen=True, slots=True)
class Passage:
    """Text that is judged by its loss: the row that it comes from (as the model sees it), its tokens in blocks of one sequence each, and
    how many characters their targets spell."""

    example: Example
    blocks: tuple[Encoded, ...]
    characters: int


@dataclass(frozen=True, slots=True)
class Branch:
    """One of the answers to a prompt. ``trained`` marks by position the tokens whose probability counts.

    ``reference`` and ``sampled`` are the log-probabilities (nats) of those tokens by the base model, and by the model that wrote them;
    ``advantage`` is how much better than its group a rollout did.
    """

    tokens: tuple[int, ...]
    trained: tuple[bool, ...]
    reference: tuple[float, ...] = ()
    sampled: tuple[float, ...] = ()
    advantage: float = 0.0

    @property
    def num_targets(self) -> int:
        """How many of its tokens count."""
        return sum(self.trained)


@dataclass(frozen=True, slots=True)
class Tree:
    """Several answers to one prompt, whose tokens (``prefix``, none of them trained) are computed once for all of them. Of a preference
    the first branch is the better answer, the second the worse one."""

    id: str
    prefix: tuple[int, ...]
    branches: tuple[Branch, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens, each answer behind the other."""
        return self.prefix + tuple(token for branch in self.branches for token in branch.tokens)


class Loss(NamedTuple):
    """Sums over a micro-batch, never means: ``total`` (scalar, nats) over ``weight``, the sum of its targets' weights (their number where
    all count the same). ``parts``: what else is worth a line in the log, each a sum and what it is divided by."""

    total: "torch.Tensor"
    weight: float
    parts: Mapping[str, tuple[float, float]] = {}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval and the number of rows it rests on."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | int]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}
