"""The usable rows of all files: what they say lies in a temporary file, what dividing them needs in a few compact columns.

So the memory of reading is about 50 bytes a row, whatever its length (dividing rows by seed holds some 400 bytes a row for a moment,
and looking for near-duplicates the text itself).
"""

import json
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, overload

from weitiao.data.chats import Chat
from weitiao.data.split import normalised
from weitiao.records import SPLITS, Example, Message, SplitName, said

IN_MEMORY_BYTES = 64 << 20
"""Up to here the temporary file is no file at all."""
_NO_SPLIT, _LEFT_OUT = -1, -2
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Content:
    """What one row says: a document with its label and candidates, or a chat."""

    file: str
    line: int
    document: str
    label: str = ""
    candidates: tuple[str, ...] = ()
    chat: Chat | None = None
    nth: int = 0
    """How many rows of the same line stand before it: those of a JSON list may share one."""

    @property
    def text(self) -> str:
        """What makes two rows the same to a reader: the document, or all that the user, the system and tools say."""
        return self.document if self.chat is None else said(self.chat.turns, "system", "user", "tool")

    @property
    def asked(self) -> str:
        """What makes two rows alike: the document, or what the user says (one system prompt can stand before very different questions)."""
        return self.document if self.chat is None else said(self.chat.turns, "user")

    @property
    def answer(self) -> str:
        """What is learned for it: the label, or all that the assistant says (of a preference with the worse answer behind it)."""
        return self.label if self.chat is None else said(self.chat.turns, "assistant") + self.chat.rejected


class Rows:
    """Rows in the order added, by number. ``labels`` and ``files`` are each kept once."""

    def __init__(self) -> None:
        self._store = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - lives as long as the rows
        self._starts = array("q", [0])
        self._lines = array("q")
        self._nths = array("q")
        self._files = array("i")
        self._labels = array("i")
        self._splits = array("b")
        self._digests = bytearray()
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []
        self._candidates: dict[int, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def num_bytes(self) -> int:
        """How much the rows say."""
        return self._starts[-1]

    def add(self, content: Content, split: SplitName | None) -> None:
        """Keep one row; ``split`` None: not settled yet."""
        chat = content.chat
        turns = [] if chat is None else [[turn.role, turn.content, turn.fields] for turn in chat.turns]
        rest = [] if chat is None else [chat.answers, chat.tools, chat.document, chat.rejected]
        self._starts.append(self._starts[-1] + self._store.write(_packed([content.document, turns, *rest])))
        file = self._number(content.file)
        shared = len(self) > 0 and (self._lines[-1], self._files[-1]) == (content.line, file)
        self._nths.append(self._nths[-1] + 1 if shared else 0)
        self._lines.append(content.line)
        self._files.append(file)
        self._labels.append(self._number(content.label))
        self._splits.append(_NO_SPLIT if split is None else SPLITS.index(split))
        self._digests += bytes.fromhex(digest(normalised(content.text)))
        if content.candidates:
            self._candidates[len(self) - 1] = tuple(self._names[self._number(label)] for label in content.candidates)

    def content(self, number: int) -> Content:
        """What row ``number`` says."""
        start = self._starts[number]
        self._store.seek(start)
        document, turns, *rest = json.loads(self._store.read(self._starts[number + 1] - start))
        chat = None
        if turns:
            answers, tools, place, rejected = rest
            messages = tuple(Message(role, text, fields) for role, text, fields in turns)
            chat = Chat(messages, tuple(answers), tuple(tools), None if place is None else (place[0], place[1]), rejected)
        nth = self._nths[number]
        return Content(self.file(number), self.line(number), document, self.label(number), self.candidates(number), chat, nth)

    def file(self, number: int) -> str:
        return self._names[self._files[number]]

    def line(self, number: int) -> int:
        return self._lines[number]

    def label(self, number: int) -> str:
        return self._names[self._labels[number]]

    def candidates(self, number: int) -> tuple[str, ...]:
        return self._candidates.get(number, ())

    def split(self, number: int) -> SplitName | None:
        return None if self._splits[number] < 0 else SPLITS[self._splits[number]]

    def leave_out(self, number: int) -> None:
        """Make the row a member of no split."""
        self._splits[number] = _LEFT_OUT

    def group(self, number: int) -> str:
        """The same for rows with the same text, case, space and punctuation aside."""
        return self._digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES].hex()

    def members(self, split: SplitName | None) -> Sequence[int]:
        """The numbers of a split's rows (None: of those without one), in order."""
        wanted = _NO_SPLIT if split is None else SPLITS.index(split)
        return array("q", (number for number, own in enumerate(self._splits) if own == wanted))

    def _number(self, name: str) -> int:
        """The number of a label or file; each is kept once."""
        if name not in self._numbers:
            self._numbers[name] = len(self._names)
            self._names.append(name)
        return self._numbers[name]


def digest(text: str) -> str:
    """A name of fixed length for a text."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()[:_DIGEST_BYTES].hex()


def _packed(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Examples(Sequence[Example]):
    """The examples of a split, each made when it is asked for."""

    def __init__(self, rows: Rows, numbers: Sequence[int], make: Callable[[Content], Example]) -> None:
        self.rows, self.numbers, self._make = rows, numbers, make

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Example: ...

    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...

    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        if isinstance(place, slice):
            return [self._make(self.rows.content(number)) for number in self.numbers[place]]
        return self._make(self.rows.content(self.numbers[place]))

    def __iter__(self) -> Iterator[Example]:
        return (self._make(self.rows.content(number)) for number in self.numbers)
