"""The usable rows of all files: what they say lies in a temporary file, what dividing them needs in a few compact columns.

So the memory of reading is about 50 bytes a row, whatever its length (dividing rows by seed holds some 400 bytes a row for a moment,
and looking for near-duplicates the text itself).
"""

import json
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from weitiao import storage
from weitiao.data.chats import Chat
from weitiao.data.split import normalised
from weitiao.records import SPLITS, Example, Message, SplitName, said

IN_MEMORY_BYTES = 64 << 20
"""Up to here the temporary file is no file at all."""
BATCH_ROWS, BATCH_CHARACTERS = 1024, 2_000_000
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
        self._mapped: npt.NDArray[np.uint8] | None = None
        """What is in the temporary file otherwise, where the rows were read from files of their own."""
        self._starts = array("q", [0])
        self._lines = array("q")
        self._nths = array("q")
        self._files = array("i")
        self._labels = array("i")
        self._splits = array("b")
        self._digests = bytearray()
        self._near = array("q")
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
        turns = [] if chat is None else [[turn.role, turn.content, turn.fields, turn.trained] for turn in chat.turns]
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

    def written(self, number: int) -> bytes:
        """What row ``number`` says but its label and candidates, as it is kept."""
        start, end = self._starts[number], self._starts[number + 1]
        if self._mapped is not None:
            return self._mapped[start:end].tobytes()
        self._store.seek(start)
        return self._store.read(end - start)

    def content(self, number: int) -> Content:
        """What row ``number`` says."""
        document, turns, *rest = json.loads(self.written(number))
        chat = None
        if turns:
            answers, tools, place, rejected = rest
            messages = tuple(Message(*turn) for turn in turns)
            chat = Chat(messages, tuple(answers), tuple(tools), None if place is None else (place[0], place[1]), rejected)
        return Content(self.file(number), self.line(number), document, self.label(number), self.candidates(number), chat)

    def file(self, number: int) -> str:
        return self._names[self._files[number]]

    def line(self, number: int) -> int:
        return self._lines[number]

    def nth(self, number: int) -> int:
        """How many rows of the same line stand before it: those of a JSON list may share one."""
        return self._nths[number]

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

    def keep_near(self, numbers: Sequence[int], groups: Sequence[int]) -> None:
        """Remember the groups of near-duplicates that rows are in."""
        self._near = array("q", [-1]) * len(self)
        for number, group in zip(numbers, groups, strict=True):
            self._near[number] = group

    def near(self, numbers: Sequence[int]) -> list[int] | None:
        """The groups of near-duplicates of these rows, if they are just the rows that were compared; else None."""
        compared = sum(group >= 0 for group in self._near)
        known = [self._near[number] for number in numbers] if compared == len(numbers) else []
        return known if known and min(known) >= 0 else None

    def members(self, split: SplitName | None) -> Sequence[int]:
        """The numbers of a split's rows (None: of those without one), in order."""
        wanted = _NO_SPLIT if split is None else SPLITS.index(split)
        return array("q", (number for number, own in enumerate(self._splits) if own == wanted))

    def write(self, folder: Path) -> None:
        """Into files, for :meth:`read`."""
        with (folder / "said.bin").open("wb") as file:
            if self._mapped is not None:
                self._mapped.tofile(file)
            else:
                self._store.seek(0)
                shutil.copyfileobj(self._store, file, 1 << 20)
        for name, column in self._columns().items():
            np.save(folder / f"{name}.npy", np.array(column), allow_pickle=False)
        np.save(folder / "digests.npy", np.frombuffer(self._digests, dtype=np.uint8), allow_pickle=False)
        storage.write_json(folder / "names.json", {"names": self._names, "candidates": {str(n): c for n, c in self._candidates.items()}})

    @classmethod
    def read(cls, folder: Path) -> "Rows":
        """The rows in a folder's files, to be looked at only. Raises OSError and ValueError for files that are damaged."""
        rows = cls()
        rows._mapped = np.asarray(np.memmap(folder / "said.bin", dtype=np.uint8, mode="r"))
        for name, column in rows._columns().items():
            del column[:]  # of no rows there is one start
            column.frombytes(np.load(folder / f"{name}.npy", allow_pickle=False).tobytes())
        rows._digests = bytearray(np.load(folder / "digests.npy", allow_pickle=False).tobytes())
        named = json.loads((folder / "names.json").read_text(encoding="utf-8"))
        rows._names = list(named["names"])
        rows._candidates = {int(number): tuple(labels) for number, labels in named["candidates"].items()}
        return rows

    def _columns(self) -> "dict[str, array[int]]":
        return {
            "starts": self._starts, "lines": self._lines, "nths": self._nths, "files": self._files, "labels": self._labels,
            "splits": self._splits, "near": self._near,
        }  # fmt: skip

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


def batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Examples in portions of bounded size: a thousand, or fewer long ones."""
    batch: list[Example] = []
    size = 0
    for example in examples:
        batch.append(example)
        size += len(example.document) + sum(len(turn.content) for turn in example.prompt)
        if len(batch) >= BATCH_ROWS or size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Examples(Sequence[Example]):
    """The examples of a split, each made when it is asked for from what its row says and its name."""

    def __init__(
        self, rows: Rows, numbers: Sequence[int], split: SplitName, make: Callable[[Content, str], Example], digest: str = ""
    ) -> None:
        self.rows, self.numbers, self.split, self._make = rows, numbers, split, make
        self._known_digest = digest
        self._several = len({rows.file(number) for number in numbers}) > 1

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Example: ...

    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...

    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        return self._make(self.rows.content(self.numbers[place]), self.name(place))

    def __iter__(self) -> Iterator[Example]:
        return (self[place] for place in range(len(self)))

    def name(self, place: int) -> str:
        """The id of the example at a place."""
        number = self.numbers[place]
        nth = self.rows.nth(number)
        line = f"{self.rows.line(number)}.{nth + 1}" if nth else f"{self.rows.line(number)}"
        return f"{self.split}:{Path(self.rows.file(number)).name}:{line}" if self._several else f"{self.split}:{line}"

    def where(self, place: int) -> tuple[str, int]:
        """The file and line of the example at a place."""
        number = self.numbers[place]
        return self.rows.file(number), self.rows.line(number)

    @property
    def num_bytes(self) -> int:
        """About how much the rows say."""
        return self.rows.num_bytes * len(self) // max(1, len(self.rows))

    @cached_property
    def digest(self) -> str:
        """A hash of what the rows say, in order, with their labels and candidates."""
        if self._known_digest:
            return self._known_digest
        found = sha256()
        for number in self.numbers:
            found.update(self.rows.written(number))
            found.update(_packed([self.rows.label(number), self.rows.candidates(number)]))
        return found.hexdigest()


def example_name(examples: Sequence[Example], place: int) -> str:
    """The id of the example at a place, without making the example where that can be."""
    return examples.name(place) if isinstance(examples, Examples) else examples[place].id


class Names(Sequence[str]):
    """The ids of the examples at some places, each made when it is asked for."""

    def __init__(self, examples: Sequence[Example], places: Sequence[int]) -> None:
        self._examples, self._places = examples, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        return example_name(self._examples, self._places[place])


def example_place(examples: Sequence[Example], place: int) -> tuple[str, int]:
    """Its file and line, likewise."""
    return examples.where(place) if isinstance(examples, Examples) else (examples[place].file, examples[place].line)


def files_of(examples: Sequence[Example]) -> Iterator[str]:
    """Each example's file, likewise."""
    if isinstance(examples, Examples):
        return map(examples.rows.file, examples.numbers)
    return (example.file for example in examples)


def near_of(splits: Iterable[Sequence[Example]]) -> list[int] | None:
    """The groups of near-duplicates of all examples, one split behind the other, if they were found when the rows were divided."""
    read = [examples for examples in splits if isinstance(examples, Examples)]
    numbers = [number for examples in read for number in examples.numbers]
    return read[0].rows.near(numbers) if read else None
