"""What a fine-tuned model has to beat: cheap classifiers trained on the same rows, in seconds, on one core.

An opponent chosen weak would flatter the model, so there are two strong linear ones, the usual winners on short texts. Their
settings were chosen by accuracy on 953 development rows of Chinese help paragraphs (6,648 training rows), never on test rows:

- character n-grams of 1 to 3 need no word segmentation. 1–2, 1–4 and min_df = 1 were within 6 of the 953 rows, which is less than
  one standard error (13 rows); words between spaces beside the characters cost 15 to 18 rows;
- balanced class weights: +5 rows for the regression and +9 for the SVM, each at its best C, and rare labels are not given up;
- C = 4 of {1, 4, 10, 20, 40} for the regression, C = 0.5 of {0.25, 0.5, 1, 2} for the SVM;
- naive Bayes (complement, multinomial) was at least 2.5 points weaker than either and is left out.

6,648 rows of 47 characters take 2.4 s (regression) and 0.7 s (SVM) on one core; 100,000 rows of 1,415 characters 160 s and 60 s
and at most 2.2 GB, of which the texts are 0.4 GB.

References: Wang & Manning (2012), "Baselines and Bigrams"; Fan et al. (2008), LIBLINEAR.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from weitiao.language import t

Candidates = Sequence[Sequence[str]] | None
"""Per test row, the labels it may get; ``None`` (or an empty row) allows every training label."""
Answer = Callable[[Sequence[str], Candidates], list[str]]
"""A fitted baseline: a label for each text."""

MAX_FEATURES = 200_000
MAX_TRAIN_CHARACTERS = 20_000_000
"""All training texts together; longer texts are cut to an equal share each, because memory follows the number of n-grams read,
which ``max_features`` does not bound."""
_SHORTEST_CUT = 64
_ROWS_FOR_MIN_DF = 1000  # with fewer rows an n-gram seen once may be all there is to learn from


@dataclass(frozen=True, slots=True)
class Baseline:
    """A classifier without a language model. ``fit(texts, labels, seed)`` learns it."""

    name: str
    zh: str
    en: str
    fit: Callable[[Sequence[str], Sequence[str], int], Answer]

    def predict(
        self, train_texts: Sequence[str], train_labels: Sequence[str], test_texts: Sequence[str], seed: int, candidates: Candidates
    ) -> list[str]:
        """A label per test row, learned from the training rows."""
        return self.fit(train_texts, train_labels, seed)(test_texts, candidates)

    @property
    def title(self) -> str:
        return t(self.zh, self.en)


def _best(labels: Sequence[str], scores: NDArray[np.float64], candidates: Candidates) -> list[str]:
    """The best-scoring label among each row's candidates; the first candidate where training has seen none of them.

    ``scores`` is [n, len(labels)].
    """
    if candidates is None:
        return [labels[i] for i in scores.argmax(axis=1)]
    if len(candidates) != len(scores):
        raise ValueError(f"candidates must be given for each of {len(scores)} test rows, got {len(candidates)}")
    column = {label: i for i, label in enumerate(labels)}

    def choose(row: NDArray[np.float64], allowed: Sequence[str]) -> str:
        return max(allowed or labels, key=lambda label: row[column[label]] if label in column else -np.inf)

    return [choose(row, allowed) for row, allowed in zip(scores, candidates, strict=True)]


def majority(train_labels: Sequence[str], n_test: int, candidates: Candidates = None) -> list[str]:
    """The most frequent training label (among the row's candidates) for every row; the one seen first wins a tie."""
    counts = Counter(train_labels)
    if not counts:
        raise ValueError("a baseline needs at least one training row")
    scores = np.array(list(counts.values()), dtype=np.float64)
    return _best(list(counts), np.broadcast_to(scores, (n_test, len(counts))), candidates)


def _linear(model: Any, texts: Sequence[str], labels: Sequence[str]) -> Answer:
    """Fit ``model`` on TF-IDF of character n-grams; :func:`majority` where nothing separates (one label, or only empty texts)."""
    if len(set(labels)) < 2 or not any(texts):
        return _fit_majority(texts, labels, 0)
    limit = max(_SHORTEST_CUT, MAX_TRAIN_CHARACTERS // len(texts))
    vectorizer = TfidfVectorizer(
        analyzer="char",
        ngram_range=(1, 3),
        sublinear_tf=True,
        min_df=2 if len(texts) >= _ROWS_FOR_MIN_DF else 1,
        max_features=MAX_FEATURES,
        dtype=np.float32,
    )
    model.fit(vectorizer.fit_transform(text[:limit] for text in texts), list(labels))

    def answer(test_texts: Sequence[str], candidates: Candidates) -> list[str]:
        if not test_texts:
            return []
        scores = model.decision_function(vectorizer.transform(text[:limit] for text in test_texts))
        if scores.ndim == 1:  # two labels: scikit-learn gives the score of the second only
            scores = np.stack([-scores, scores], axis=1)
        return _best([str(label) for label in model.classes_], scores, candidates)

    return answer


def _fit_majority(_texts: Sequence[str], labels: Sequence[str], _seed: int) -> Answer:
    return lambda test_texts, candidates: majority(labels, len(test_texts), candidates)


def _fit_logistic_regression(texts: Sequence[str], labels: Sequence[str], seed: int) -> Answer:
    return _linear(LogisticRegression(C=4.0, class_weight="balanced", max_iter=1000, random_state=seed), texts, labels)


def _fit_linear_svm(texts: Sequence[str], labels: Sequence[str], seed: int) -> Answer:
    return _linear(LinearSVC(C=0.5, class_weight="balanced", dual="auto", max_iter=2000, random_state=seed), texts, labels)


def tfidf_logistic_regression(
    train_texts: Sequence[str], train_labels: Sequence[str], test_texts: Sequence[str], seed: int, candidates: Candidates = None
) -> list[str]:
    """Logistic regression on TF-IDF of character n-grams (1–3)."""
    return _fit_logistic_regression(train_texts, train_labels, seed)(test_texts, candidates)


def tfidf_linear_svm(
    train_texts: Sequence[str], train_labels: Sequence[str], test_texts: Sequence[str], seed: int, candidates: Candidates = None
) -> list[str]:
    """Linear support vector machine, one against the rest, on TF-IDF of character n-grams (1–3)."""
    return _fit_linear_svm(train_texts, train_labels, seed)(test_texts, candidates)


BASELINES: tuple[Baseline, ...] = (
    Baseline("majority", "总答最常见的标签", "always the most frequent label", _fit_majority),
    Baseline("tfidf_logistic_regression", "TF-IDF + 逻辑回归", "TF-IDF + logistic regression", _fit_logistic_regression),
    Baseline("tfidf_linear_svm", "TF-IDF + 线性支持向量机", "TF-IDF + linear SVM", _fit_linear_svm),
)
