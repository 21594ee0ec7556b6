"""Rows to train, validation and test: by label, duplicates together, the same on every machine.

Which split a row gets depends on the seed and on the rows' content, not on their order and not on Python's hash randomisation.
"""

import hashlib
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from weitiao.errors import DataError
from weitiao.language import t
from weitiao.records import SPLITS, SplitName

COVERED_GROUPS = 3
"""From this many groups on, a label occurs in every split."""


def split_rows(labels: Sequence[str], groups: Sequence[str], shares: Mapping[SplitName, float], seed: int) -> list[SplitName]:
    """The split of each row.

    Rows with the same entry in ``groups`` (see :func:`normalised`) stay together. A label is divided by ``shares`` (of whatever
    sum) to the nearest row; what rounding leaves over is made up for in later labels. A label with three or more
    groups occurs in every split that has a share; one with fewer goes to train first. A group whose rows disagree on the label
    counts for the rarest of its labels.

    Raises ``DataError`` for shares that divide nothing.
    """
    active = _checked(shares)
    total = sum(active.values())
    rows = Counter(groups)
    drift = dict.fromkeys(active, 0.0)
    chosen: dict[str, SplitName] = {}
    strata = _strata(labels, groups)
    for label in sorted(strata, key=lambda label: (len(strata[label]) < COVERED_GROUPS, _rank(seed, label))):
        members = sorted(strata[label], key=lambda group: (-rows[group], _rank(seed, group)))
        num_rows = sum(rows[group] for group in members)
        ideal = {name: share / total * num_rows for name, share in active.items()}
        # Make up for earlier rounding, but by a row at most: no label pays for another.
        room = {name: ideal[name] + max(-1.0, min(1.0, drift[name])) for name in active}
        for group, name in _divide(members, rows, room).items():
            chosen[group] = name
            ideal[name] -= rows[group]
        for name in active:
            drift[name] += ideal[name]
    return [chosen[group] for group in groups]


def _checked(shares: Mapping[SplitName, float]) -> dict[SplitName, float]:
    """The splits with a share, in the order of ``SPLITS``."""
    for name, share in shares.items():
        if name not in SPLITS or not math.isfinite(share) or share < 0:
            raise DataError(
                f"data.{name}_share",
                t(f"{share} 不是可用的份额", f"{share} is not a share"),
                t("给 train、validation、test 各一个不小于 0 的数", "give train, validation and test a number of 0 or more each"),
            )
    active = {name: shares[name] for name in SPLITS if shares.get(name, 0) > 0}
    if not active:
        cause = t("所有份额都是 0", "every share is 0")
        raise DataError("data.validation_share", cause, t("至少给一个大于 0 的份额", "give at least one share above 0"))
    return active


def _strata(labels: Sequence[str], groups: Sequence[str]) -> dict[str, list[str]]:
    """label → its groups; each group once, under the rarest label that it holds."""
    held: defaultdict[str, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        held[group].add(label)
    num_groups = Counter(label for group_labels in held.values() for label in group_labels)
    strata: defaultdict[str, list[str]] = defaultdict(list)
    for group, group_labels in held.items():
        strata[min(group_labels, key=lambda label: (num_groups[label], label))].append(group)
    return strata


def _divide(members: Sequence[str], rows: Mapping[str, int], room: dict[SplitName, float]) -> dict[str, SplitName]:
    """Each group (the largest first) to the split with the most room left; the last ones to the splits that have none yet."""
    uncovered = list(room) if len(members) >= COVERED_GROUPS else list(room)[:1]
    chosen: dict[str, SplitName] = {}
    for index, group in enumerate(members):
        must = uncovered and (len(members) - index <= len(uncovered) or len(members) < COVERED_GROUPS)
        name = max(uncovered if must else room, key=lambda name: room[name])
        chosen[group] = name
        room[name] -= rows[group]
        if name in uncovered:
            uncovered.remove(name)
    return chosen


def _rank(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "surrogatepass")).digest()


def normalised(text: str) -> str:
    """What two texts share when a reader would call them the same: NFKC, no case, no white space, no punctuation.

    A text of nothing but punctuation keeps it, so that "！" and "？" differ. Symbols and emoji count: "C++" is not "C".
    """
    return (_mapped(text) if len(text) >= LONG else "") or _normalised(text)


def _normalised(text: str) -> str:
    """The same, by the rule itself."""
    composed = unicodedata.normalize("NFKC", text)
    folded = composed.casefold()
    if folded != composed:
        folded = unicodedata.normalize("NFKC", folded)
    return _dropped().sub("", folded) or "".join(folded.split())


LONG = 64
"""From so many characters on a table is faster than the rule."""
_WHOLE = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0x20000, 0x2A6DF))
"""Ideographs and Hangul syllables: each stays as it is."""
_TRIED = ((0, 0x3400), (0x4DC0, 0x4E00), (0xA000, 0xAC00), (0xE000, 0x10000), (0x1F000, 0x1FB00))
_JAMO = ((0x1100, 0x1200), (0xA960, 0xA980), (0xD7B0, 0xD800))
_CODES, _NO_RULE, _NOTHING = 0x30000, 0x110000, 0


def _mapped(text: str) -> str:
    """The same by a table, a character at a time; "" where one of them is not in it, or nothing is left."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    if codes.max() >= _CODES:
        return ""
    mapped = _table()[codes]
    if mapped.max() == _NO_RULE:
        return ""
    kept: bytes = mapped[mapped != _NOTHING].tobytes()
    return kept.decode("utf-32-le", "surrogatepass")


@cache
def _table() -> npt.NDArray[np.uint32]:
    """Code → what it becomes, where that is one character or none, whatever stands beside it.

    Left out is what can join its neighbour: marks (all that composes with what stands before it is a mark or a Hangul jamo) and jamo.
    """
    table = np.full(_CODES, _NO_RULE, dtype=np.uint32)
    for start, end in _WHOLE:
        table[start:end] = np.arange(start, end)
    for start, end in _TRIED:
        for code in range(start, end):
            character = chr(code)
            kept = list(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", character).casefold()))
            if not any(_joins(c) for c in (character, *kept)):
                kept = [c for c in kept if not _is_dropped(unicodedata.category(c))]
                if len(kept) <= 1:
                    table[code] = ord(kept[0]) if kept else _NOTHING
    return table


def _joins(character: str) -> bool:
    code = ord(character)
    return unicodedata.category(character)[0] == "M" or any(start <= code < end for start, end in _JAMO)


@cache
def _dropped() -> re.Pattern[str]:
    """Runs of punctuation, separators, control and format characters. (What is unassigned may be an emoji newer than this Python.)"""
    found = [code for codes in _PLANES for code in codes if _is_dropped(unicodedata.category(chr(code)))]
    starts = [code for code, former in zip(found, [-2, *found], strict=False) if code != former + 1]
    ends = [code for code, following in zip(found, [*found[1:], -2], strict=True) if following != code + 1]
    spans = (f"\\U{start:08x}-\\U{end:08x}" for start, end in zip(starts, ends, strict=True))
    return re.compile(f"[{''.join(spans)}]+")


_PLANES = (range(0x20000), range(0xE0000, 0xE1000))
"""All that Unicode has assigned but ideographs."""


def _is_dropped(category: str) -> bool:
    return category[0] in "PZ" or category in ("Cc", "Cf")
