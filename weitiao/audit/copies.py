"""Rows that stand in the data more than once: in training, or, worse, in training and in what is to judge it."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from weitiao.audit.findings import MOST_ROWS, AuditInput, Finding, Item, Words, graded, noun, place, share, verb
from weitiao.data.similar import Integers, Longs, distinct_pairs, hashed_grams, in_order, strip_common
from weitiao.records import SplitName

LEAK_STOPS = 0.01
"""From this share of the test rows on, leaked rows can move an accuracy by as much as runs differ."""
CONTAINED_FROM, CONTAINED_SHARE, CONTAINED_GRAM, CONTAINED_SAMPLE, CONTAINED_ROWS = 30, 0.8, 13, 64, 50
"""A test text of so many characters counts as contained when so much of its n-grams of this length (of a long text, a sample of so many)
stand in one training text; of an n-gram in more texts than the last number the first ones are looked at."""


def duplicates(data: AuditInput) -> Finding | None:
    """Training rows that repeat another one, text and label (chats: all turns)."""
    first: dict[tuple[str, str], Item] = {}
    repeats = [(item, first[key]) for item in data.train if first.setdefault(key := (item.key, item.label), item) is not item]
    if not repeats:
        return None
    n, part = len(repeats), share(len(repeats), len(data.train))
    return Finding(
        graded(n, len(data.train), 0.05),
        n,
        Words(f"{n} 行训练数据（{part}）重复了别的行", f"{n} {noun(n, 'training row')} ({part}) {verb(n, 'repeat')} another row"),
        Words(
            "它们会被多学几遍；用 data.deduplicate=exact 只留第一行",
            "they are learned more often than others; data.deduplicate=exact keeps the first of each",
        ),
        tuple(place(item, other) for item, other in repeats[:MOST_ROWS]),
    )


def near_duplicates(data: AuditInput) -> Finding | None:
    """Training rows whose text differs from another one's in at most a tenth of its characters."""
    seen: dict[int, Item] = {}
    keys: set[str] = set()
    repeats = []
    for item, group in zip(data.items, data.groups, strict=True):
        if item.split == "train" and item.asked not in keys:
            keys.add(item.asked)
            if seen.setdefault(group, item) is not item:
                repeats.append((item, seen[group]))
    if not repeats:
        return None
    n, part = len(repeats), share(len(repeats), len(data.train))
    return Finding(
        graded(n, len(data.train), 0.1),
        n,
        Words(
            f"{n} 行训练数据（{part}）与别的行几乎相同（不同的字不超过一成）",
            f"{n} {noun(n, 'training row')} ({part}) nearly {verb(n, 'repeat')} another row (a tenth of the characters differ, or fewer)",
        ),
        Words(
            "看一眼下面的例子：同一模板的不同内容可以留着；转载、改写的用 data.deduplicate=near 只留第一行",
            "see the rows below: one template with other content may stay; of reposts and rewordings data.deduplicate=near keeps the first",
        ),
        tuple(place(item, other) for item, other in repeats[:MOST_ROWS]),
    )


def leakage(data: AuditInput) -> Finding | None:
    """Test rows whose text is also a training row's."""
    leaked = _in_training(data, "test")
    if not leaked:
        return None
    n, part = len(leaked), share(len(leaked), len(data.splits["test"]))
    return Finding(
        "error" if n >= 2 and n >= LEAK_STOPS * len(data.splits["test"]) else "warning",
        n,
        Words(
            f"{n} 行测试数据（{part}）原样出现在训练数据里，测试成绩会偏高",
            f"{n} {noun(n, 'test row')} ({part}) also {verb(n, 'stand')} in the training data: the test result will be too good",
        ),
        Words(
            "用 data.deduplicate=exact 把它们从训练数据里去掉（测试数据不动）",
            "data.deduplicate=exact takes them out of the training data (the test data stay as they are)",
        ),
        tuple(place(item, other) for item, other in leaked[:MOST_ROWS]),
    )


def leakage_validation(data: AuditInput) -> Finding | None:
    """Validation rows whose text is also a training row's."""
    leaked = _in_training(data, "validation")
    if not leaked:
        return None
    n, part = len(leaked), share(len(leaked), len(data.splits["validation"]))
    return Finding(
        "warning",
        n,
        Words(
            f"{n} 行验证数据（{part}）原样出现在训练数据里，会选错该保留的权重",
            f"{n} {noun(n, 'validation row')} ({part}) also {verb(n, 'stand')} in the training data: the wrong weights may be kept",
        ),
        Words(
            "用 data.deduplicate=exact 把它们从训练数据里去掉（验证数据不动）",
            "data.deduplicate=exact takes them out of the training data (the validation data stay as they are)",
        ),
        tuple(place(item, other) for item, other in leaked[:MOST_ROWS]),
    )


def near_leakage(data: AuditInput) -> Finding | None:
    """Validation and test rows that nearly repeat a training row."""
    exact = {item.key for item in data.train}
    first: dict[int, Item] = {}
    for item, group in zip(data.items, data.groups, strict=True):
        if item.split == "train":
            first.setdefault(group, item)
    found = [
        (item, first[group])
        for item, group in zip(data.items, data.groups, strict=True)
        if item.split != "train" and item.key not in exact and group in first
    ]
    if not found:
        return None
    n, total = len(found), len(data.items) - len(data.train)
    tests = sum(item.split == "test" for item, _ in found)
    return Finding(
        graded(n, total, 0.01),
        n,
        Words(
            f"{n} 行验证或测试数据（{share(n, total)}；测试 {tests} 行）与训练数据里的行几乎相同",
            f"{n} validation or test {noun(n, 'row')} ({share(n, total)}; {tests} of the test) nearly {verb(n, 'repeat')} a training row",
        ),
        Words(
            "成绩里有一部分是记住的；用 data.deduplicate=near 把它们从训练数据里去掉，或不给文件、让程序划分",
            "part of the result is memory; data.deduplicate=near takes them out of the training rows (or give no files: a split made here "
            "keeps them together)",
        ),
        tuple(place(item, other) for item, other in sorted(found, key=lambda pair: pair[0].split != "test")[:MOST_ROWS]),
    )


def conflicting_labels(data: AuditInput) -> Finding | None:
    """Rows with one text and several labels (rows whose options differ are left out: there the question differs)."""
    if not data.labels:
        return None
    held: defaultdict[tuple[str, tuple[str, ...]], list[Item]] = defaultdict(list)
    for item in data.items:
        held[item.key, tuple(sorted(item.example.candidates))].append(item)
    groups = [items for items in held.values() if len({item.label for item in items}) > 1]
    if not groups:
        return None
    texts, rows = len(groups), sum(map(len, groups))
    shown = [(item, items[0]) for items in groups for item in items[1:] if item.label != items[0].label]
    return Finding(
        graded(rows, len(data.items), 0.001),
        rows,
        Words(
            f"{texts} 段文字有不止一个标签（共 {rows} 行）",
            f"{texts} {noun(texts, 'text')} {verb(texts, 'have')} more than one label ({rows} rows)",
        ),
        Words(
            "至少有一个标签是错的，或者类别之间有重叠；改正，或去掉这些行",
            "one label at least is wrong, or the labels overlap; correct or remove these rows",
        ),
        tuple(place(item, other) for item, other in shown[:MOST_ROWS]),
    )


def contamination(data: AuditInput) -> Finding | None:
    """Test rows whose text stands inside a longer training text; an instruction that most rows share is no part of it."""
    known = {item.asked for item in data.train}
    near = {group for item, group in zip(data.items, data.groups, strict=True) if item.split == "train"}
    bare = strip_common([item.asked for item in data.items])
    rows = list(zip(data.items, data.groups, bare, strict=True))
    kept = [
        (item, text)
        for item, group, text in rows
        if item.split == "test" and len(text) >= CONTAINED_FROM and item.asked not in known and group not in near
    ]
    tests = [item for item, _ in kept]
    found = _contained([text for _, text in kept], [text for item, _, text in rows if item.split == "train"]) if kept else {}
    if not found:
        return None
    n = len(found)
    return Finding(
        "warning",
        n,
        Words(f"{n} 行测试数据的文字包含在更长的训练文本里", f"the text of {n} {noun(n, 'test row')} stands inside a longer training text"),
        Words(
            "模型在训练时已经读过它们；从训练数据里去掉这些文本，或换掉这些测试行",
            "the model has read them in training; take these texts out of the training data, or replace these test rows",
        ),
        tuple(place(tests[i], data.train[j]) for i, j in sorted(found.items())[:MOST_ROWS]),
    )


def _contained(tests: list[str], train: list[str]) -> dict[int, int]:
    """Index of each test text that a training text holds → the index of that text.

    Which pairs share much is asked only of those that share one of the test text's rarest n-grams: so many that a text which holds the
    needed share of all holds one of these. Boilerplate, which all rows share, thus makes no pairs; of an n-gram that stands in very many
    training texts the first ``CONTAINED_ROWS`` are looked at.
    """
    grams, owners = distinct_pairs(*hashed_grams(tests, CONTAINED_GRAM))
    grams, owners = _smallest(grams, owners, len(tests))
    owners, grams = owners[order := np.argsort(owners, kind="stable")], grams[order]
    sizes, known = np.bincount(owners, minlength=len(tests)), in_order(grams)
    starts, places = np.cumsum(sizes) - sizes, np.searchsorted(known, grams)
    needed = np.ceil(CONTAINED_SHARE * sizes).astype(np.int64)
    texts = np.zeros(len(known), dtype=np.int64)
    for _, held, _ in _held(train, known):
        texts += np.bincount(held, minlength=len(known))
    by_rarity = np.lexsort((texts[places], owners))
    leads = by_rarity[np.arange(len(owners)) - starts[owners] <= (sizes - needed)[owners]]
    leads = leads[np.argsort(places[leads], kind="stable")]
    seen, found = np.zeros(len(known), dtype=np.int64), dict[int, int]()
    for start, held, rows in _held(train, known):
        early = seen[held] + np.arange(len(held)) - np.searchsorted(held, held) < CONTAINED_ROWS
        seen += np.bincount(held, minlength=len(known))
        hit, lead = _joined(held[early], places[leads])
        pairs = in_order(rows[early][hit] * len(tests) + owners[leads][lead])
        there = np.sort(rows * len(known) + held)
        for part in np.array_split(pairs, len(pairs) // 50_000 + 1):
            j, i = np.divmod(part, len(tests))
            number = np.repeat(np.arange(len(part)), sizes[i])
            own = np.arange(len(number)) - np.repeat(np.cumsum(sizes[i]) - sizes[i], sizes[i]) + starts[i][number]
            keys = j[number] * len(known) + places[own]
            same = there[np.minimum(np.searchsorted(there, keys), len(there) - 1)] == keys
            enough = np.bincount(number[same], minlength=len(part)) >= needed[i]
            for test, row in zip(i[enough].tolist(), j[enough].tolist(), strict=True):
                found.setdefault(test, start + row)
    return found


def _held(train: list[str], known: Longs) -> Iterator[tuple[int, Integers, Integers]]:
    """Of some training texts at a time: the place of the first, and which of the known n-grams stand in which of them (each once, in the
    order of the n-grams)."""
    likely = np.zeros(1 << 24, dtype=bool)  # by the first bits of the hash: most n-grams are not known, and that is seen at once
    likely[known >> np.uint64(40)] = True
    start = 0
    while start < len(train):
        stop, size = start, 0
        while stop < len(train) and size < 2_000_000:
            size += len(train[stop])
            stop += 1
        grams, rows = hashed_grams(train[start:stop], CONTAINED_GRAM)
        there = likely[grams >> np.uint64(40)]
        grams, rows = grams[there], rows[there]
        places = np.minimum(np.searchsorted(known, grams), len(known) - 1)
        is_known = known[places] == grams
        pairs = in_order(places[is_known] * (stop - start) + rows[is_known])
        yield start, *np.divmod(pairs, stop - start)
        start = stop


def _joined(left: Integers, right: Integers) -> tuple[Integers, Integers]:
    """The pairs of places at which two lists have the same value; ``right`` is in order."""
    first, last = np.searchsorted(right, left, "left"), np.searchsorted(right, left, "right")
    widths = last - first
    places = np.repeat(np.arange(len(left)), widths)
    return places, np.arange(len(places)) - np.repeat(np.cumsum(widths) - widths, widths) + first[places]


def _smallest(grams: Longs, owners: Integers, num_texts: int) -> tuple[Longs, Integers]:
    """The n-grams of smallest hash of each text: as many of a long text as of a short one. ``grams`` are in order."""
    order = np.argsort(owners, kind="stable")
    rank = np.arange(len(owners)) - np.searchsorted(owners[order], np.arange(num_texts))[owners[order]]
    kept = np.sort(order[rank < CONTAINED_SAMPLE])
    return grams[kept], owners[kept]


def _in_training(data: AuditInput, split: SplitName) -> list[tuple[Item, Item]]:
    """Rows of a split with the training row of the same text."""
    first: dict[str, Item] = {}
    for item in data.train:
        first.setdefault(item.key, item)
    return [(item, first[item.key]) for item in data.items if item.split == split and item.key in first]
