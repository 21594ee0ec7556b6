"""Weights and repeated rows for labels of different frequency, by hand and against scikit-learn."""

from collections import Counter

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from weitiao.data.balance import balanced_weights, oversampled


def test_weights_by_hand() -> None:
    assert balanced_weights(["a", "a", "a", "b"]) == {"a": pytest.approx(4 / 6), "b": 2.0}  # 4 / (2 · 3), 4 / (2 · 1)


def test_weights_are_scikit_learns() -> None:
    labels = ["x"] * 7 + ["y"] * 3 + ["z"] * 11
    names = np.array(["x", "y", "z"])
    theirs = compute_class_weight("balanced", classes=names, y=np.array(labels))
    assert balanced_weights(labels) == pytest.approx(dict(zip(names.tolist(), theirs, strict=True)))


def test_every_label_gets_as_many_rows_as_the_most_frequent() -> None:
    labels = ["a"] * 10 + ["b"] * 4 + ["c"]
    chosen = oversampled(labels, seed=3)
    assert chosen[:15] == list(range(15))  # nothing is left out
    assert Counter(labels[i] for i in chosen) == {"a": 10, "b": 10, "c": 10}
    times = Counter(chosen)
    assert sorted(times[i] for i in range(10, 14)) == [2, 2, 3, 3]  # 10 = 4 + 4 + 2
    assert times[14] == 10
    assert chosen == oversampled(labels, seed=3)
    assert chosen != oversampled(labels, seed=4)


def test_balanced_labels_stay_as_they_are() -> None:
    assert oversampled(["a", "b"], 0) == [0, 1]
    assert oversampled([], 0) == []
