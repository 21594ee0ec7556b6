"""What rows became, in flat arrays: 5 bytes a token rather than the 60 of Python's own integers, and they can lie in a file."""

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from weitiao import storage
from weitiao.records import Encoded, Tree

WHOLE = (-1, 0)
"""As ``kept``: nothing of the document was left out."""


@dataclass(frozen=True, slots=True)
class PackedRow:
    """What one row became: why it cannot be used (``reason``), or its token ids.

    ``tokens_before`` is its length before shortening. What was left out: the ``dropped`` oldest exchanges of a chat, and of the document
    all but the first and the last characters, as many as ``kept`` says.
    """

    reason: str = ""
    tokens: Sequence[int] = ()
    trained: Sequence[bool] = ()
    characters: int = 0
    tokens_before: int = 0
    dropped: int = 0
    kept: tuple[int, int] = WHOLE


def shortened(document: str, kept: tuple[int, int]) -> str:
    """What is left of a document of which so many characters stay at the beginning and at the end."""
    return document if kept == WHOLE else document[: kept[0]] + document[len(document) - kept[1] :]


_NUMBERS = ("characters", "tokens_before", "dropped", "head", "tail")


@dataclass(frozen=True, eq=False)
class Packed(Sequence[PackedRow]):
    """Rows in the order of their examples; each is taken apart when it is asked for."""

    tokens: npt.NDArray[np.uint32]
    trained: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.int64]
    """Where each row's tokens begin, and where the last one's end."""
    numbers: npt.NDArray[np.int64]
    """Of each row what ``_NUMBERS`` lists."""
    reasons: Mapping[int, str]
    """Why rows cannot be used, by place."""

    @classmethod
    def of(cls, rows: Iterable[PackedRow]) -> "Packed":
        """Pack rows; ``trained`` may be left out by all of them."""
        tokens, trained, starts, numbers = array("I"), bytearray(), array("q", [0]), array("q")
        reasons = {}
        for place, row in enumerate(rows):
            tokens.extend(row.tokens)
            trained.extend(row.trained)
            starts.append(len(tokens))
            numbers.extend((row.characters, row.tokens_before, row.dropped, *row.kept))
            if row.reason:
                reasons[place] = row.reason
        table = np.frombuffer(numbers, dtype=np.int64).reshape(-1, len(_NUMBERS))
        marks = np.frombuffer(trained, dtype=np.bool_)
        return cls(np.frombuffer(tokens, dtype=np.uint32), marks, np.frombuffer(starts, dtype=np.int64), table, reasons)

    @classmethod
    def joined(cls, parts: Iterable["Packed"]) -> "Packed":
        """The rows of one after the other."""
        known = list(parts)
        firsts = np.cumsum([0, *(len(part) for part in known)])
        tokens = np.cumsum([0, *(len(part.tokens) for part in known)])
        starts = [part.starts[:-1] + before for part, before in zip(known, tokens, strict=False)]
        reasons = {int(first) + n: reason for part, first in zip(known, firsts, strict=False) for n, reason in part.reasons.items()}
        return cls(
            np.concatenate([part.tokens for part in known]), np.concatenate([part.trained for part in known]),
            np.concatenate([*starts, tokens[-1:]]), np.concatenate([part.numbers for part in known]), reasons,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, place: int) -> PackedRow: ...

    @overload
    def __getitem__(self, place: slice) -> list[PackedRow]: ...

    def __getitem__(self, place: int | slice) -> PackedRow | list[PackedRow]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        span = slice(int(self.starts[place]), int(self.starts[place + 1]))
        trained = self.trained[span].tolist() if len(self.trained) else ()
        characters, before, dropped, head, tail = self.numbers[place].tolist()
        return PackedRow(
            self.reasons.get(place, ""), tuple(self.tokens[span].tolist()), tuple(trained), characters, before, dropped, (head, tail)
        )

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The rows' lengths in tokens."""
        return np.diff(self.starts)

    @property
    def befores(self) -> npt.NDArray[np.int64]:
        """Their lengths before shortening."""
        return self.numbers[:, _NUMBERS.index("tokens_before")]

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by name, those that hold anything."""
        named = {"tokens": self.tokens, "trained": self.trained, "starts": self.starts, "numbers": self.numbers}
        return {name: array for name, array in named.items() if array.size}

    @property
    def num_bytes(self) -> int:
        """How much the arrays take."""
        return sum(values.nbytes for values in self.arrays.values())

    def write(self, folder: Path) -> None:
        """Into files, for :meth:`read`."""
        for name, values in self.arrays.items():
            np.save(folder / f"{name}.npy", values, allow_pickle=False)
        storage.write_json(folder / "reasons.json", {str(place): reason for place, reason in self.reasons.items()})

    @classmethod
    def read(cls, folder: Path) -> "Packed":
        """The rows in a folder's files, the arrays mapped. Raises OSError and ValueError for files that are damaged."""
        arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in folder.glob("*.npy")}
        reasons = json.loads((folder / "reasons.json").read_text(encoding="utf-8"))
        empty = {"tokens": np.zeros(0, dtype=np.uint32), "trained": np.zeros(0, dtype=np.bool_)}
        return cls(reasons={int(place): reason for place, reason in reasons.items()}, **(empty | arrays))


class EncodedRows(Sequence[Encoded]):
    """Some of the rows as training rows, by their places and names."""

    def __init__(self, packed: Packed, places: Sequence[int], names: Sequence[str]) -> None:
        self._packed, self._places, self._names = packed, places, names

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Encoded: ...

    @overload
    def __getitem__(self, place: slice) -> list[Encoded]: ...

    def __getitem__(self, place: int | slice) -> Encoded | list[Encoded]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        row = self._packed[self._places[place]]
        return Encoded(self._names[place], tuple(row.tokens), tuple(row.trained))

    @property
    def lengths(self) -> list[int]:
        """The rows' lengths in tokens."""
        found: list[int] = self._packed.lengths[list(self._places)].tolist()
        return found


def row_lengths(rows: Sequence[Encoded | Tree]) -> list[int]:
    """The lengths of rows in tokens, without taking packed ones apart."""
    return rows.lengths if isinstance(rows, EncodedRows) else [len(row.tokens) for row in rows]
