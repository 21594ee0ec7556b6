"""What an audit looks at, and what it says."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

from weitiao.audit.clusters import Topics, find_topics
from weitiao.audit.private import masked
from weitiao.data.rows import near_of
from weitiao.data.similar import near_groups
from weitiao.data.split import normalised
from weitiao.records import Encoded, Example, Role, SplitName, said

Severity = Literal["error", "warning", "notice"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "notice")
MOST_ROWS = 5
EXCERPT_CHARACTERS = 60


class Words(NamedTuple):
    """One text in both languages: findings are stored, and shown later in the language of whoever reads them."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Place:
    """A row that a finding points at. ``other`` is the ``file:line`` that it belongs with; ``text`` is its beginning, personal data
    masked."""

    file: str
    line: int
    split: SplitName
    text: str = ""
    other: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or worth knowing: how many rows, which (the first few), and what to do."""

    severity: Severity
    count: int
    message: Words
    remedy: Words
    rows: tuple[Place, ...] = ()

    def as_dict(self, check: str) -> dict[str, Any]:
        """The finding as ``data/audit.json`` holds it."""
        return {
            "check": check,
            "severity": self.severity,
            "count": self.count,
            **self.message._asdict(),
            "remedy": self.remedy._asdict(),
            "rows": [
                {"file": p.file, "line": p.line, "split": p.split} | {k: v for k, v in (("text", p.text), ("other", p.other)) if v}
                for p in self.rows
            ],
        }


@dataclass(eq=False)
class Item:
    """An example in its split. ``key`` is what it shares with texts that a reader would call the same; ``asked`` is that of a chat without
    its system prompt, by which very different chats can look alike."""

    example: Example
    split: SplitName
    key: str
    asked: str
    is_chat: bool

    @cached_property
    def text(self) -> str:
        """What the user wrote: the document, or the user's turns."""
        return said(self.example.prompt, "user") if self.is_chat else self.example.document

    @cached_property
    def written(self) -> str:
        """All that the row says but a label: the document, or every turn of the chat."""
        return said(self.example.turns, *get_args(Role)) if self.is_chat else self.example.document

    @cached_property
    def label(self) -> str:
        """What is to be learned: the label, or what the assistant says in a chat; empty where the task has no answers."""
        if self.is_chat:
            return said(self.example.turns, "assistant")
        return self.example.targets[0] if self.example.prompt else ""


def item(example: Example, split: SplitName, is_chat: bool) -> Item:
    """An example as the checks see it."""
    if not is_chat:
        key = normalised(example.document)
        return Item(example, split, key, key, False)
    asked = normalised(said(example.prompt, "user"))
    alone = all(turn.role in ("user", "assistant") for turn in example.prompt)
    return Item(example, split, asked if alone else normalised(said(example.prompt, "system", "user", "tool")), asked, True)


@dataclass(frozen=True)
class AuditInput:
    """The data of a run, to be looked at only. ``labels`` is empty where the task has none; ``rows`` are the encoded training rows;
    ``ledger`` is what ``data/ledger.json`` holds; ``control_tokens`` are the spellings of the tokenizer's control tokens."""

    splits: Mapping[SplitName, Sequence[Example]]
    labels: tuple[str, ...]
    rows: Sequence[Encoded]
    ledger: Mapping[str, Any]
    control_tokens: tuple[str, ...]

    @cached_property
    def items(self) -> list[Item]:
        """Every example of every split."""
        return [
            item(example, split, bool(example.prompt) and not self.labels)
            for split, examples in self.splits.items()
            for example in examples
        ]

    @cached_property
    def train(self) -> list[Item]:
        """The training examples."""
        return [item for item in self.items if item.split == "train"]

    @cached_property
    def tests(self) -> list[Item]:
        """The test examples."""
        return [item for item in self.items if item.split == "test"]

    @cached_property
    def topics(self) -> Topics:
        """What a sample of the training and test texts is about."""
        return find_topics([item.text for item in self.train], [item.text for item in self.tests])

    @cached_property
    def groups(self) -> list[int]:
        """For each of ``items`` the group of near-duplicates that it is in (see `weitiao.data.similar`)."""
        known = near_of(self.splits.values())
        return near_groups([item.asked for item in self.items]) if known is None else known

    @cached_property
    def counts(self) -> Counter[str]:
        """Training rows of each label."""
        return Counter(item.label for item in self.train)


def place(item: Item, other: Item | None = None, show: bool = True) -> Place:
    """Where an example stands; ``show``: with the beginning of its text."""
    where = f"{other.example.file}:{other.example.line}" if other else ""
    return Place(item.example.file, item.example.line, item.split, excerpt(item.text) if show else "", where)


def places(items: Iterable[Item], show: bool = True) -> tuple[Place, ...]:
    """The first few examples."""
    return tuple(place(item, show=show) for item, _ in zip(items, range(MOST_ROWS), strict=False))


def excerpt(text: str) -> str:
    """The beginning of a text on one line, personal data masked."""
    flat = " ".join(masked(text[: 4 * EXCERPT_CHARACTERS]).split())
    return flat if len(flat) <= EXCERPT_CHARACTERS else flat[:EXCERPT_CHARACTERS] + "…"


def share(part: int, whole: int) -> str:
    """A share as people write it."""
    percent = 100 * part / whole if whole else 0.0
    return f"{percent:.0f}%" if percent >= 10 else f"{percent:.2g}%"


def noun(count: int, word: str) -> str:
    """An English noun after its number."""
    return word if count == 1 else f"{word}s"


def verb(count: int, word: str) -> str:
    """An English verb, given in the plural, after its number."""
    return word if count != 1 else {"are": "is", "have": "has"}.get(word, f"{word}s")


def graded(part: int, whole: int, warn_from: float) -> Severity:
    """A warning from a share of the rows on, below it a notice."""
    return "warning" if part >= warn_from * whole else "notice"
