"""What the texts are about: groups of texts that use the same words.

A sample of the texts is cut into words (Chinese: pairs of characters), weighted by tf-idf, projected on its main directions (latent
semantic analysis, Deerwester et al. 1990) and grouped by k-means. The same texts give the same groups.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LEAST_TEXTS, MOST_TEXTS, MOST_CHARACTERS = 200, 1500, 200
"""Of fewer training texts nothing is said; of more, and of longer ones, a sample is looked at: it takes half a second."""
MOST_TOPICS, TEXTS_EACH = 10, 50
DIRECTIONS, WORDS = 30, 5
ALIKE = 0.5
"""From this cosine between two centres on. Measured: help texts of one kind 0.2 to 0.5, texts of one vocabulary 0.55 and more."""
_WORD = re.compile(r"[\u3400-\u9fff]+|[^\W\d_\u3400-\u9fff]{3,}")


@dataclass(frozen=True, slots=True)
class Topic:
    """A group of texts: which ones (by their places in the data, the most typical first), and the words that set it apart."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics, the largest in training first, and how many texts of each split were looked at."""

    topics: tuple[Topic, ...] = ()
    num_train: int = 0
    num_test: int = 0


def find_topics(train: Sequence[str], test: Sequence[str]) -> Topics:
    """The topics of training and test texts; none where there are too few texts, or texts without common words."""
    if len(train) < LEAST_TEXTS:
        return Topics()
    from sklearn.cluster import KMeans

    places = [range(0, len(texts), max(1, -(-len(texts) // MOST_TEXTS))) for texts in (train, test)]
    sample = [texts[place][:MOST_CHARACTERS] for texts, chosen in zip((train, test), places, strict=True) for place in chosen]
    weights, words = _weighted(sample)
    if len(words) <= DIRECTIONS:
        return Topics()
    points = _projected(weights)
    groups = KMeans(min(MOST_TOPICS, len(places[0]) // TEXTS_EACH), n_init=3, random_state=0).fit(points)
    numbers = _joined(groups.cluster_centers_)[groups.labels_]
    overall, split = np.asarray(weights.mean(axis=0)).ravel(), len(places[0])
    found = []
    for number in sorted(set(numbers.tolist())):
        members = np.flatnonzero(numbers == number)
        centre = points[members].mean(axis=0)
        members = members[np.argsort(-(points[members] @ centre), kind="stable")]
        apart = np.asarray(weights[members].mean(axis=0)).ravel() - overall
        topic = Topic(
            tuple(places[0][int(i)] for i in members if i < split),
            tuple(places[1][int(i) - split] for i in members if i >= split),
            tuple(str(words[i]) for i in np.argsort(-apart, kind="stable")[:WORDS]),
        )
        found.append(topic)
    return Topics(tuple(sorted(found, key=lambda topic: -len(topic.train))), len(places[0]), len(places[1]))


def _joined(centres: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """For each centre the number of the topic that it is part of: centres that are alike are one topic, taken apart for want of others."""
    unit = centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
    numbers = np.arange(len(unit))
    for i, j in np.argwhere(np.triu(unit @ unit.T >= ALIKE, 1)).tolist():
        numbers[numbers == numbers[j]] = numbers[i]
    return numbers


def _weighted(texts: Sequence[str]) -> tuple[Any, npt.NDArray[np.str_]]:
    """Texts × words, tf-idf (sparse), and the words; without words that hardly any text, or most of them, have."""
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

    counter = CountVectorizer(analyzer=_words, dtype=np.float32)
    if not any(map(_words, texts)):
        return None, np.zeros(0, dtype=np.str_)
    counts = counter.fit_transform(texts)
    having = np.asarray((counts > 0).sum(axis=0)).ravel()
    kept = np.flatnonzero((having >= 3) & (having <= 0.5 * len(texts)))
    if not kept.size:  # every text has words of its own only (names, keys): scikit-learn refuses a matrix without columns
        return None, np.zeros(0, dtype=np.str_)
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts[:, kept]), counter.get_feature_names_out()[kept]


def _words(text: str) -> list[str]:
    """Words of three letters or more, and the pairs in runs of Chinese characters."""
    found = []
    for run in _WORD.findall(text.lower()):
        found += [run[i : i + 2] for i in range(len(run) - 1)] if "\u3400" <= run[0] <= "\u9fff" else [run]
    return found


def _projected(weights: Any) -> npt.NDArray[np.float32]:
    """Each text on the main directions, of length 1."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    points: npt.NDArray[np.float32] = normalize(TruncatedSVD(DIRECTIONS, n_iter=3, random_state=0).fit_transform(weights))
    return points
