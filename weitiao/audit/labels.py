"""The labels: how evenly they are spread, and names that look like two spellings of one."""

import re
import unicodedata
from collections import defaultdict

from rapidfuzz.distance import Levenshtein

from weitiao.audit.findings import MOST_ROWS, AuditInput, Finding, Words, noun, place, places, verb

IMBALANCE = 10
RARE = 10
COMMON = 10
_OPPOSITES = re.compile(
    "[0-9不无非未没反正负好坏差优劣高低大小多少上下左右前后内外男女新旧真假长短先后东西南北中有是否可已一二三四五六七八九十甲乙丙丁]"
)
"""A name that differs in one of these is another name."""


def imbalance(data: AuditInput) -> Finding | None:
    """A most frequent label with many times the rows of the rarest."""
    if not data.labels or len(data.counts) < 2:
        return None
    (most, top), *_, (least, bottom) = data.counts.most_common()
    if top < IMBALANCE * bottom:
        return None
    ratio = f"{top / bottom:.0f}"
    return Finding(
        "notice",
        top,
        Words(
            f"类别不均衡：最多的“{most}”有 {top} 行，最少的“{least}”有 {bottom} 行，相差 {ratio} 倍",
            f"the labels are imbalanced: “{most}” has {top} rows, “{least}” {bottom}, {ratio} times fewer",
        ),
        Words(
            "看宏平均 F1 和各类表现，不要只看准确率；可以用 train.class_weights=balanced 或 data.balance=oversample",
            "look at macro F1 and the single labels, not only accuracy; train.class_weights=balanced or data.balance=oversample may help",
        ),
    )


def rare_labels(data: AuditInput) -> Finding | None:
    """Labels with very few training rows, or none."""
    rare = {label: data.counts[label] for label in data.labels if data.counts[label] < RARE}
    if not rare:
        return None
    n = len(rare)
    named = [f"{label}（{rows}）" for label, rows in list(rare.items())[:10]]
    english = [f"{label} ({rows})" for label, rows in list(rare.items())[:10]]
    more_zh, more_en = ("等", ", …") if n > 10 else ("", "")
    return Finding(
        "warning",
        n,
        Words(
            f"{n} 个类别的训练数据不到 {RARE} 行：{'、'.join(named)}{more_zh}",
            f"{n} {noun(n, 'label')} {verb(n, 'have')} fewer than {RARE} training rows: {', '.join(english)}{more_en}",
        ),
        Words(
            "补充这些类别的数据，或并入相近的类别；这么少的行学不到什么",
            "add rows of these labels or merge them with others: little is learned from so few",
        ),
        places(item for item in data.train if item.label in rare),
    )


def untested_labels(data: AuditInput) -> Finding | None:
    """Labels of training rows that no test row has."""
    tested = {item.label for item in data.items if item.split == "test"}
    missing = [label for label in data.labels if data.counts[label] and label not in tested]
    if not missing or not tested:
        return None
    return Finding(
        "warning",
        len(missing),
        Words(
            f"{len(missing)} 个类别没有测试数据：{'、'.join(missing[:10])}",
            f"{len(missing)} {noun(len(missing), 'label')} {verb(len(missing), 'have')} no test row: {', '.join(missing[:10])}",
        ),
        Words("这些类别的表现没有测量；给测试集补上它们的行", "how well they are told apart is not measured; add test rows of them"),
    )


def label_typos(data: AuditInput) -> Finding | None:
    """Names that differ only in case, width, white space or marks around them, or in one character from one that is far more frequent."""
    pairs = [*_alike(data), *_mistyped(data)]
    if not pairs:
        return None
    n = len(pairs)
    shown = [f"{rare!r}({data.counts[rare]}) ~ {common!r}({data.counts[common]})" for rare, common in pairs[:5]]
    rare_names = {rare for rare, _ in pairs}
    rows = [item for item in data.train if item.label in rare_names]
    return Finding(
        "warning",
        n,
        Words(
            f"{n} 对类别名像是同一个名字的两种写法：{'；'.join(shown)}",
            f"{n} {noun(n, 'pair')} of labels {verb(n, 'look')} like two spellings of one name: {'; '.join(shown)}",
        ),
        Words(
            "是写错的就在数据里改正；确实不同就不用管",
            "correct the data where it is a typing error; nothing is to be done where they do differ",
        ),
        tuple(place(item) for item in rows[:MOST_ROWS]),
    )


def _alike(data: AuditInput) -> list[tuple[str, str]]:
    """Labels that a reader would call the same, each with the most frequent of them."""
    held: defaultdict[str, list[str]] = defaultdict(list)
    for label in data.labels:
        held[_spelling(label)].append(label)
    pairs = []
    for labels in held.values():
        *rare, common = sorted(labels, key=lambda label: (data.counts[label], label))
        pairs += [(label, common) for label in rare]
    return pairs


def _mistyped(data: AuditInput) -> list[tuple[str, str]]:
    """Labels of four characters or more that differ in one of them from a label that is twenty times as frequent."""
    names = {label: _spelling(label) for label in data.labels}
    commons: defaultdict[str, list[str]] = defaultdict(list)
    for label in sorted(data.labels, key=lambda label: (-data.counts[label], label)):
        for piece in _pieces(names[label]) if data.counts[label] >= COMMON else ():
            commons[piece].append(label)
    pairs = []
    for label, name in names.items():
        near = (common for piece in _pieces(name) for common in commons.get(piece, ()) if _is_slip(name, names[common]))
        few = next((common for common in near if data.counts[label] <= max(1, 0.05 * data.counts[common])), None)
        if few is not None:
            pairs.append((label, few))
    return pairs


def _spelling(label: str) -> str:
    """A name without case, width, white space and punctuation around it. Signs stay: -1 is not 1, and A+ is not A."""
    folded = "".join(unicodedata.normalize("NFKC", label).casefold().split())
    return folded.strip("。,、;:'\"“”‘’") or folded


def _pieces(name: str) -> list[str]:
    """The name, and the name without each of its characters: two names that differ in one character share a piece."""
    return [name, *(name[:i] + name[i + 1 :] for i in range(len(name)))]


def _is_slip(name: str, other: str) -> bool:
    """Whether two names differ in one character, and that does not make another word of it."""
    if min(len(name), len(other)) < 4 or Levenshtein.distance(name, other, score_cutoff=1) != 1:
        return False
    (edit,) = Levenshtein.editops(name, other)
    changed = name[edit.src_pos : edit.src_pos + (edit.tag != "insert")] + other[edit.dest_pos : edit.dest_pos + (edit.tag != "delete")]
    return not _OPPOSITES.search(changed) and not (changed.isascii() and edit.src_pos == 0)  # "atypical" is not "typical"
