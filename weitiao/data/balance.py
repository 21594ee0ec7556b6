"""Labels of very different frequency: repeat the rows of the rarer ones, or let them count more."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence


def balanced_weights(labels: Sequence[str]) -> dict[str, float]:
    """label → n / (number of labels · rows of the label): the rows of each label weigh n / number of labels together. (What scikit-learn
    calls "balanced".)"""
    counts = Counter(labels)
    return {label: len(labels) / (len(counts) * count) for label, count in counts.items()}


def oversampled(labels: Sequence[str], seed: int) -> list[int]:
    """Indices of rows, each at least once, so that every label occurs as often as the most frequent one. Whole rounds of a label's rows
    first; the rest is drawn by ``seed``."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for i, label in enumerate(labels):
        rows[label].append(i)
    most = max(map(len, rows.values()), default=0)
    chosen = list(range(len(labels)))
    for label, own in rows.items():
        missing = most - len(own)
        draw = random.Random(f"{seed}/{label}")
        chosen += own * (missing // len(own)) + sorted(draw.sample(own, missing % len(own)))
    return chosen
