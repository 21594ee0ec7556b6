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
from rapidfuzz.process import cpdist

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
_CHUNK_PAIRS, _WORTH_THREADS = 200_000, 5_000
_MOST_FREQUENT = 4095
"""N-grams in more texts than this count as equally frequent."""

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

    for i, j in _near_pairs(strip_common(distinct)):
        low, high = sorted((root(i), root(j)))
        parents[high] = low
    return [first[distinct[root(place[text])]] for text in texts]


def _near_pairs(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of texts that were measured to be near, each once."""
    for candidates in _candidates(texts):
        for pairs in np.array_split(candidates, len(candidates) // _CHUNK_PAIRS + 1):
            one, other = np.divmod(pairs, len(texts))
            differ = cpdist(
                [texts[i] for i in one.tolist()], [texts[j] for j in other.tolist()],
                scorer=Levenshtein.normalized_distance, score_cutoff=DIFFERENCE, dtype=np.float64,
                workers=-1 if len(pairs) > _WORTH_THREADS else 1,
            )  # fmt: skip
            near = np.asarray(differ) <= DIFFERENCE
            yield from zip(one[near].tolist(), other[near].tolist(), strict=True)


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


def _candidates(texts: Sequence[str]) -> Iterator[Integers]:
    """Pairs that share one of their rarest n-grams and whose lengths allow them to be near-duplicates, each once, in portions; the texts
    ``i`` and ``j`` as the number ``i · len(texts) + j``."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    rare, bits = _prefixes(texts, lengths)
    grams, owners = rare >> np.uint64(bits), (rare & _ones(bits)).astype(np.int64)
    seen = np.zeros(0, dtype=np.int64)
    for distance in range(1, WINDOW + 1):
        same = np.flatnonzero(grams[:-distance] == grams[distance:])
        if not len(same):
            break
        one, other = owners[same], owners[same + distance]
        near = np.abs(lengths[one] - lengths[other]) <= DIFFERENCE * np.maximum(lengths[one], lengths[other])
        pairs = in_order(one[near] * len(texts) + other[near])
        if len(seen):
            pairs = pairs[seen[np.minimum(np.searchsorted(seen, pairs), len(seen) - 1)] != pairs]
        seen = np.sort(np.concatenate((seen, pairs)), kind="stable")  # merges what is in order already
        yield pairs


def _prefixes(texts: Sequence[str], lengths: Integers) -> tuple[Longs, int]:
    """The rarest n-grams of each text, those that no other text has left out, with the number of their text in the lowest bits, in order;
    and how many bits that number takes.

    All is done by sorting 64-bit numbers that hold what they are sorted by, many times as fast as ordering several arrays at once: of an
    n-gram's hash there are as many bits as are left. Where two n-grams have the same ones they count as one, here as there.
    """
    bits = len(texts).bit_length()
    pairs = in_order(np.concatenate([np.zeros(0, dtype=np.uint64), *_sampled_grams(texts, lengths, bits)]))
    if not len(pairs):
        return pairs, bits
    grams, owners = pairs >> np.uint64(bits), (pairs & _ones(bits)).astype(np.int64)
    total = np.bincount(owners, minlength=len(texts))
    # What an edit can touch, of the longest partner that is allowed; a sample gets some room more.
    edits = (lengths / (1 - DIFFERENCE) * DIFFERENCE).astype(np.int64)
    sampled = lengths > SAMPLED * (1 - DIFFERENCE)
    wanted = np.where(sampled, np.ceil(0.75 * total).astype(np.int64), edits * Q + 1)

    places = np.flatnonzero(np.concatenate(([True], grams[1:] != grams[:-1], [True])))
    counts = np.diff(places)
    frequency = np.repeat(counts, counts)
    alone = frequency == 1  # they come first in the order of rarity, and lead nowhere
    wanted = wanted - np.bincount(owners[alone], minlength=len(texts))
    rarity = np.minimum(frequency[~alone], _MOST_FREQUENT).astype(np.uint64) << np.uint64(52 - bits) | grams[~alone] >> np.uint64(12)
    by_rarity = np.sort(owners[~alone].astype(np.uint64) << np.uint64(64 - bits) | rarity)
    owners = (by_rarity >> np.uint64(64 - bits)).astype(np.int64)
    sizes = np.bincount(owners, minlength=len(texts))
    kept = np.arange(len(owners)) - (np.cumsum(sizes) - sizes)[owners] < wanted[owners]
    return np.sort(by_rarity[kept] << np.uint64(bits) | owners[kept].astype(np.uint64)), bits


def _sampled_grams(texts: Sequence[str], lengths: Integers, bits: int) -> Iterator[Longs]:
    """Hashes of n-grams with the number of their text in the lowest bits; those of long texts sampled at the rates of any length near
    theirs."""
    low, high = _level(lengths * (1 - DIFFERENCE)), _level(lengths / (1 - DIFFERENCE))
    for chunk in _chunks(texts, lengths):
        numbers = np.array(chunk, dtype=np.int64)
        grams, places = hashed_grams([texts[i] for i in chunk], Q)
        owners = numbers[places]
        for level in range(int(low[numbers].min()), int(high[numbers].max()) + 1):
            here = (low[owners] <= level) & (level <= high[owners]) & ((grams >> np.uint64(32)) & np.uint64(2**level - 1) == 0)
            own = (grams[here] + (np.uint64(level) << np.uint64(48))) & ~_ones(bits)
            yield in_order(own | owners[here].astype(np.uint64))


def _ones(bits: int) -> np.uint64:
    """A number with as many lowest bits set."""
    ones: np.uint64 = np.uint64((1 << bits) - 1)
    return ones


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


def in_order(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Each value once, in order. `numpy.unique` hashes instead, which takes twelve times as long for numbers that hold pairs."""
    ordered = np.sort(values)
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))] if len(ordered) else ordered


def distinct_pairs(grams: Longs, owners: Integers) -> tuple[Longs, Integers]:
    """Each (n-gram, text) once, in the order of the n-grams."""
    order = np.lexsort((owners, grams))
    grams, owners = grams[order], owners[order]
    fresh = np.ones(len(grams), dtype=bool)
    fresh[1:] = (grams[1:] != grams[:-1]) | (owners[1:] != owners[:-1])
    return grams[fresh], owners[fresh]
