"""The records that every stage shares."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:  # `weitiao --help` and `weitiao check` must not import torch
    import torch

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a user's file as it was read. ``line`` counts from 1 in the file's own lines (CSV: the line where the record starts)."""

    file: str
    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One record for every stage. ``id`` (``split:line``, or ``split:file:line``) ties a row to its prediction and its line in the report.

    ``document`` is the user's text; it is the only part of the ``prompt`` (the chat up to the answer) that may be shortened. ``targets``
    are the good answers, the first one is trained.
    ``candidates`` are the labels that this row may get (classification only).
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
        return 1 if self.label >= 0 else sum(self.trained[1:])


class Loss(NamedTuple):
    """Sums over a micro-batch, never means: ``total`` (scalar, nats) over ``weight``, the sum of its targets' weights (their number where
    all count the same)."""

    total: "torch.Tensor"
    weight: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval and the number of rows it rests on."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | int]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}
