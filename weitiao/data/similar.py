"""Near-duplicates: texts that differ in at most one character of ten. Every pair that is reported was measured; a few may not be found.

Two texts are near-duplicates when their edit distance (insertions, deletions, substitutions) is at most a tenth of the longer one's
length. An edit touches at most ``Q`` of a text's n-grams, so of two such texts, each one's ``k·Q + 1`` rarest n-grams (k: the most edits
that are allowed) hold one that both have: only these are compared (prefix filter: Bayardo, Ma & Srikant 2007; for edit distance Xiao, Wang
& Lin 2008), and each pair that shares one is measured. That filter loses nothing by chance, but two bounds on the work do: of texts that
share an n-gram only ``WINDOW`` neighbours are compared, and of texts longer than ``SAMPLED`` characters a sample of the n-grams is taken by
hash, so that a pair at the limit may be missed. A run misses the same pairs every time.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

SHORTEST = 20
"""Shorter texts are never near-duplicates: one other character often is another meaning there."""
DIFFERENCE = 0.1
"""Most edits as a share of the longer text's length."""
Q = 5
SAMPLED = 512
"""From this length on, n-grams are sampled, about 256 to 512 of a text."""
WINDOW = 32
"""Texts that share an n-gram are compared with as many neighbours in alphabetical order; more share one only where many are built by one
template."""
LARGE_GROUP, LARGE_SHARE = 50, 0.1
_CHUNK_CHARACTERS = 2_000_000

Longs = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]


def are_near(one: str, other: str) -> bool:
    """Whether two texts differ in at most one character of ten (both of :data:`SHORTEST` characters or more)."""
    longest = max(len(one), len(other))
    most = int(longest * DIFFERENCE)
    return min(len(one), len(other)) >= SHORTEST and Levenshtein.distance(one, other, score_cutoff=most) <= most


def near_groups(texts: Sequence[str]) -> list[int]:
    """For each text the index of its group's first text in alphabetical order; texts without a near-duplicate stand alone.

    A group is what near-duplicate pairs connect: its first and last member may differ more. Equal texts are in one group. What is found
    depends on the set of texts, not on their order. Texts should come normalised (`weitiao.data.split.normalised`).
    """
    distinct = sorted(set(texts))
    place = {text: i for i, text in enumerate(distinct)}
    first = {text: i for i, text in reversed(list(enumerate(texts)))}
    parents = list(range(len(distinct)))

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    stripped = strip_common(distinct)
    for i, j in _candidates(stripped):
        low, high = sorted((root(i), root(j)))
        if low != high and are_near(stripped[i], stripped[j]):
            parents[high] = low
    return [first[distinct[root(place[text])]] for text in texts]


def names_of(texts: Sequence[str], groups: Sequence[int]) -> list[str]:
    """For each text the alphabetically first text of its group of near-duplicates (from :func:`near_groups`).

    A group of more than a tenth of the texts (and 50) is taken apart into equal texts again: kept together, it would decide the shares of a
    split alone. That happens where nearly all texts are built by one template.
    """
    sizes = Counter(groups)
    most = max(LARGE_GROUP, LARGE_SHARE * len(texts))
    return [texts[group] if sizes[group] <= most else text for text, group in zip(texts, groups, strict=True)]


def repeats(texts: Sequence[str], labels: Sequence[str], given: Sequence[bool], near: bool) -> dict[int, int]:
    """Index of each row that repeats another one → index of the row that is kept.

    Rows that are ``given`` (validation and test files) are never left out; another row is where a given row has its text, or an earlier one
    its text and label. ``near``: where the texts are in one group of near-duplicates.
    """
    groups: Sequence[str | int] = near_groups(texts) if near else texts
    kept: dict[tuple[str | int, str], int] = {}
    protected: dict[str | int, int] = {}
    for i, is_given in enumerate(given):
        if is_given:
            protected.setdefault(groups[i], i)
    found = {}
    for i, is_given in enumerate(given):
        if not is_given:
            first = protected.get(groups[i], kept.setdefault((groups[i], labels[i]), i))
            if first != i:
                found[i] = first
    return found


def strip_common(texts: Sequence[str]) -> list[str]:
    """The texts without a beginning and an end that most of them share: it says nothing about how alike two of them are."""
    start, end = common_start(texts), common_start([text[::-1] for text in texts])[::-1]
    return [text.removeprefix(start).removesuffix(end) if start or end else text for text in texts]


def common_start(texts: Sequence[str]) -> str:
    """The longest beginning that more than half of the texts (ten at least) have in common."""
    ordered = sorted(texts)
    middle = ordered[len(ordered) // 2] if ordered else ""  # more than half of a sorted list holds its middle
    low, high = 0, len(middle)
    while low < high:
        length = (low + high + 1) // 2
        beginning = middle[:length]
        shared = bisect_left(ordered, beginning + "\U0010ffff") - bisect_left(ordered, beginning)
        if shared >= 10 and 2 * shared > len(ordered):
            low = length
        else:
            high = length - 1
    return middle[:low]


def _candidates(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs that share one of their rarest n-grams and whose lengths allow them to be near-duplicates, each once."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    grams, owners = _prefixes(texts, lengths)
    order = np.lexsort((owners, grams))
    grams, owners = grams[order], owners[order]
    seen = np.zeros(0, dtype=np.int64)
    for distance in range(1, WINDOW + 1):
        same = np.flatnonzero(grams[:-distance] == grams[distance:])
        if not len(same):
            break
        one, other = owners[same], owners[same + distance]
        near = np.abs(lengths[one] - lengths[other]) <= DIFFERENCE * np.maximum(lengths[one], lengths[other])
        pairs = np.unique(one[near] * len(texts) + other[near])
        pairs = pairs[~np.isin(pairs, seen)]
        seen = np.union1d(seen, pairs)
        yield from zip((pairs // len(texts)).tolist(), (pairs % len(texts)).tolist(), strict=True)


def _prefixes(texts: Sequence[str], lengths: Integers) -> tuple[Longs, Integers]:
    """The rarest n-grams of each text, those that no other text has left out, and the texts that they belong to."""
    parts = list(_sampled_grams(texts, lengths))
    if not parts:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    grams, owners = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    _, inverse, counts = np.unique(grams, return_inverse=True, return_counts=True)
    frequency = counts[inverse]
    # What an edit can touch, of the longest partner that is allowed; a sample gets some room more.
    total = np.bincount(owners, minlength=len(texts))
    edits = (lengths / (1 - DIFFERENCE) * DIFFERENCE).astype(np.int64)
    wanted = edits * Q + 1
    sampled = lengths > SAMPLED * (1 - DIFFERENCE)
    wanted = np.where(sampled, np.ceil(0.75 * total).astype(np.int64), wanted)
    alone = frequency == 1  # they come first in the order of rarity, and lead nowhere
    wanted = wanted - np.bincount(owners[alone], minlength=len(texts))
    grams, owners, frequency = grams[~alone], owners[~alone], frequency[~alone]
    order = np.lexsort((grams, frequency, owners))
    grams, owners = grams[order], owners[order]
    starts = np.searchsorted(owners, np.arange(len(texts)))
    kept = np.arange(len(owners)) - starts[owners] < wanted[owners]
    return grams[kept], owners[kept]


def _sampled_grams(texts: Sequence[str], lengths: Integers) -> Iterator[tuple[Longs, Integers]]:
    """(hash of an n-gram, index of its text), each once in a text; those of long texts sampled at the rates of any length near theirs."""
    for chunk in _chunks(texts, lengths):
        grams, owners = hashed_grams([texts[i] for i in chunk], Q)
        owners = np.array(chunk, dtype=np.int64)[owners]
        low, high = _level(lengths[owners] * (1 - DIFFERENCE)), _level(lengths[owners] / (1 - DIFFERENCE))
        for level in range(int(low.min(initial=0)), int(high.max(initial=-1)) + 1):
            mask = np.uint64(2**level - 1)
            here = (low <= level) & (level <= high) & ((grams >> np.uint64(32)) & mask == 0)
            yield distinct_pairs(grams[here] + np.uint64(level), owners[here])


def _level(lengths: npt.NDArray[np.floating[Any]]) -> Integers:
    """How often the sample is halved for texts of a length."""
    halvings: Integers = np.maximum(0, np.ceil(np.log2(np.maximum(lengths, 1) / SAMPLED))).astype(np.int64)
    return halvings


def _chunks(texts: Sequence[str], lengths: Integers) -> Iterator[list[int]]:
    """Indices of the texts that are long enough, in portions of a bounded number of characters."""
    chunk: list[int] = []
    size = 0
    for i in np.flatnonzero(lengths >= SHORTEST).tolist():
        chunk.append(i)
        size += len(texts[i])
        if size >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def hashed_grams(texts: Sequence[str], n: int) -> tuple[Longs, Integers]:
    """The n-grams of texts in order, as 64-bit hashes, and the index of the text of each."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    if len(codes) < n:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    hashes = np.zeros(len(codes) - n + 1, dtype=np.uint64)
    for offset in range(n):
        hashes = (hashes + codes[offset : offset + len(hashes)] + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    owners = np.repeat(np.arange(len(texts)), lengths)[: len(hashes)]
    ends = np.cumsum(lengths)[owners]
    inside = np.arange(len(hashes)) + n <= ends
    return hashes[inside], owners[inside]


def distinct_pairs(grams: Longs, owners: Integers) -> tuple[Longs, Integers]:
    """Each (n-gram, text) once, in the order of the n-grams."""
    order = np.lexsort((owners, grams))
    grams, owners = grams[order], owners[order]
    fresh = np.ones(len(grams), dtype=bool)
    fresh[1:] = (grams[1:] != grams[:-1]) | (owners[1:] != owners[:-1])
    return grams[fresh], owners[fresh]
