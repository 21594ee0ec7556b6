"""Metrics: confusion matrices worked by hand, agreement with scikit-learn, degenerate samples."""

import json
import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score, recall_score

from weitiao.errors import NonFiniteError
from weitiao.evaluate.metrics import classification, language_modelling
from weitiao.evaluate.statistics import bootstrap


def values(result: dict[str, Any]) -> dict[str, float]:
    """The headline numbers, after checking that every interval holds its value and that the whole is strict JSON."""
    json.loads(json.dumps(result, allow_nan=False))
    for metric in result["metrics"].values():
        assert set(metric) == {"value", "low", "high", "n"}
        assert metric["low"] <= metric["value"] <= metric["high"]
        assert metric["n"] == result["n"]
    return {name: metric["value"] for name, metric in result["metrics"].items()}


def test_three_labels_by_hand() -> None:
    #            predicted a b c
    # gold a (3)           2 1 0      a: precision 2/2, recall 2/3, F1 4/5
    # gold b (2)           0 1 1      b: precision 1/2, recall 1/2, F1 1/2
    # gold c (1)           0 0 1      c: precision 1/2, recall 1/1, F1 2/3
    result = classification(list("aaabbc"), list("aabbcc"), list("abc"), None, seed=0)
    assert result["task"] == "classification"
    assert result["n"] == 6
    assert values(result) == pytest.approx(
        {
            "accuracy": 4 / 6,
            "macro_f1": (4 / 5 + 1 / 2 + 2 / 3) / 3,
            "micro_f1": 4 / 6,
            "weighted_f1": (3 * 4 / 5 + 2 * 1 / 2 + 1 * 2 / 3) / 6,
            "macro_precision": (1 + 1 / 2 + 1 / 2) / 3,
            "macro_recall": (2 / 3 + 1 / 2 + 1) / 3,
        },
        abs=1e-12,
    )
    assert result["per_class"]["a"] == pytest.approx({"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "support": 3})
    assert result["confusion_matrix"] == {"labels": ["a", "b", "c"], "rows": [[2, 1, 0], [0, 1, 1], [0, 0, 1]]}
    assert "invalid_rate" not in result
    assert "calibration" not in result


def test_answers_that_are_no_label_by_hand() -> None:
    # gold a a b b, answers a None b None: each label precision 1/1, recall 1/2, F1 2/3. Micro-F1 = 2·2/(4 rows + 2 valid) = 2/3.
    result = classification(list("aabb"), ["a", None, "b", None], list("ab"), None, seed=0, generated=True)
    got = values(result)
    assert got["accuracy"] == 0.5
    assert got["macro_f1"] == got["micro_f1"] == got["weighted_f1"] == pytest.approx(2 / 3)
    assert (got["macro_precision"], got["macro_recall"]) == (1.0, 0.5)
    assert result["invalid_rate"]["value"] == 0.5
    # Wilson, p = 1/2, n = 4: half = z √(1/16 + z²/64) / (1 + z²/4) = 1.959964 · √(0.0625 + 0.0600228) / 1.9603648 = 0.3499607
    assert result["invalid_rate"]["low"] == pytest.approx(0.1500393, abs=1e-6)
    assert result["confusion_matrix"] == {"labels": ["a", "b"], "rows": [[1, 0], [0, 1]], "invalid": [1, 1]}


def test_generated_answers_always_report_their_invalid_rate_and_none_cannot_hide() -> None:
    all_valid = classification(["a", "b"], ["a", "b"], ["a", "b"], None, seed=0, generated=True)
    assert all_valid["invalid_rate"]["value"] == 0.0
    assert all_valid["confusion_matrix"]["invalid"] == [0, 0]
    assert classification(["a", "b"], ["a", None], ["a", "b"], None, seed=0)["invalid_rate"]["value"] == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = [f"label {i}" for i in range(8)]  # the last two never occur, the sixth is only ever predicted
    gold = [labels[i] for i in rng.integers(0, 5, size=60)]
    predicted = [labels[i] for i in rng.integers(0, 6, size=60)]
    probabilities = rng.dirichlet(np.ones(8), size=60)
    got = values(classification(gold, predicted, labels, probabilities, seed))
    assert got["accuracy"] == pytest.approx(accuracy_score(gold, predicted), abs=1e-12)
    for average in ("macro", "micro", "weighted"):
        assert got[f"{average}_f1"] == pytest.approx(f1_score(gold, predicted, average=average, zero_division=0), abs=1e-12)
    assert got["macro_precision"] == pytest.approx(precision_score(gold, predicted, average="macro", zero_division=0), abs=1e-12)
    assert got["macro_recall"] == pytest.approx(recall_score(gold, predicted, average="macro", zero_division=0), abs=1e-12)
    assert got["log_loss"] == pytest.approx(log_loss(gold, probabilities, labels=labels), abs=1e-9)


def test_intervals_are_those_of_scikit_learn_on_the_same_resamples() -> None:
    rng = np.random.default_rng(0)
    gold, predicted = rng.integers(0, 3, size=40), rng.integers(0, 3, size=40)
    result = classification([str(i) for i in gold], [str(i) for i in predicted], list("012"), None, seed=5)
    # 2,000 calls of scikit-learn take about two seconds, ours 0.06
    expected = bootstrap(lambda rows: float(f1_score(gold[rows], predicted[rows], average="macro", zero_division=0)), 40, seed=5)
    assert result["metrics"]["macro_f1"] == pytest.approx(expected.as_dict(), abs=1e-12)


def test_log_loss_and_calibration_by_hand() -> None:
    # Top probabilities 0.8 0.8 0.55 0.55, right: yes no yes yes. Of the 15 bins, 0.8 = 12/15 belongs to (11/15, 12/15] and
    # 0.55 to (8/15, 9/15].
    # ECE = 2/4 · |0.8 − 0.5| + 2/4 · |0.55 − 1| = 0.15 + 0.225.
    # Log loss = −(2 ln 0.55 + ln 0.8 + ln 0.2)/4, the gold label of the second row having got 0.2.
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.55, 0.45], [0.45, 0.55]])
    result = classification(list("abab"), list("aaab"), list("ab"), probabilities, seed=0)
    got = values(result)
    assert got["calibration_error"] == pytest.approx(0.375, abs=1e-12)
    assert got["log_loss"] == pytest.approx(-(2 * math.log(0.55) + math.log(0.8) + math.log(0.2)) / 4, abs=1e-12)
    low, high = result["calibration"]["bins"]
    assert low == pytest.approx({"low": 8 / 15, "high": 9 / 15, "confidence": 0.55, "accuracy": 1.0, "n": 2})
    assert high == pytest.approx({"low": 11 / 15, "high": 12 / 15, "confidence": 0.8, "accuracy": 0.5, "n": 2})


def test_a_gold_label_with_probability_zero_costs_a_finite_loss() -> None:
    got = values(classification(["a"], ["b"], ["a", "b"], np.array([[0.0, 1.0]]), seed=0))
    assert got["log_loss"] == pytest.approx(15 * math.log(10))  # −ln 1e-15
    assert got["calibration_error"] == 1.0


@pytest.mark.parametrize(
    ("gold", "predicted", "accuracy", "macro_f1"),
    [
        (["a"], ["a"], 1.0, 1.0),  # one row; b occurs nowhere and does not count
        (["a"], ["b"], 0.0, 0.0),
        (["a"], [None], 0.0, 0.0),
        (["a", "a", "a"], ["a", "a", "a"], 1.0, 1.0),
        (["a", "b"], ["b", "a"], 0.0, 0.0),
        (["a", "b"], ["a", "a"], 0.5, 1 / 3),  # a: precision 1/2, recall 1, F1 2/3; b is never predicted: 0
        (["a", "a"], ["a", "b"], 0.5, 1 / 3),  # b is predicted without a gold row: F1 0, and it counts
        ([*"ab"], [None, None], 0.0, 0.0),
    ],
)
def test_degenerate_samples(gold: list[str], predicted: list[str | None], accuracy: float, macro_f1: float) -> None:
    got = values(classification(gold, predicted, ["a", "b"], None, seed=0))
    assert got["accuracy"] == accuracy
    assert got["macro_f1"] == pytest.approx(macro_f1)


@pytest.mark.parametrize(
    ("gold", "predicted", "probabilities", "message"),
    [
        ([], [], None, "at least 1"),
        (["a"], ["a", "b"], None, "same length"),
        (["c"], ["a"], None, "gold has labels"),
        (["a"], ["c"], None, "predicted has labels"),
        (["a"], ["a"], np.array([[0.5, 0.3, 0.2]]), r"\[rows, labels\]"),
        (["a"], ["a"], np.array([[0.5, 0.2]]), "row 0"),
        (["a"], ["a"], np.array([[1.5, -0.5]]), "row 0"),
        (["a"], ["a"], np.array([[math.nan, 1.0]]), "row 0"),
    ],
)
def test_input_that_does_not_fit_is_refused(gold: Any, predicted: Any, probabilities: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification(gold, predicted, ["a", "b"], probabilities, seed=0)


def test_language_modelling_by_hand() -> None:
    # 12 nats over 6 tokens and 8 characters: 2 nats per token, perplexity e², 12 / ln 2 / 8 bits per character.
    # Two documents: resamples are (first, first), both, (last, last), so the percentiles are the documents' own 1 and 3 nats.
    result = language_modelling(12.0, 6, 8, [(3.0, 3, 4), (9.0, 3, 4)], seed=0)
    assert (result["task"], result["n"]) == ("text", 2)
    expected = {"loss": 2.0, "perplexity": math.exp(2), "bits_per_character": 1.5 / math.log(2)}
    assert values(result) == pytest.approx(expected, abs=1e-12)
    assert (result["metrics"]["loss"]["low"], result["metrics"]["loss"]["high"]) == (1.0, 3.0)
    assert result["metrics"]["perplexity"]["high"] == pytest.approx(math.exp(3))


def test_language_modelling_is_a_ratio_of_sums() -> None:
    # (1 + 90) / (1 + 9), not the mean of 1/1 and 90/9
    assert values(language_modelling(91.0, 10, 10, [(1.0, 1, 1), (90.0, 9, 9)], seed=0))["loss"] == pytest.approx(9.1)


def test_documents_too_short_to_score_are_harmless() -> None:
    assert values(language_modelling(4.0, 2, 3, [(4.0, 2, 2), (0.0, 0, 1), (0.0, 0, 0)], seed=0))["loss"] == 2.0


def test_one_document_and_enormous_losses_stay_json() -> None:
    result = language_modelling(1000.0, 1, 1, [(1000.0, 1, 1)], seed=0)
    assert values(result)["perplexity"] == math.exp(700)
    assert result["metrics"]["loss"] == {"value": 1000.0, "low": 1000.0, "high": 1000.0, "n": 1}


def test_language_modelling_refuses_what_does_not_add_up() -> None:
    with pytest.raises(ValueError, match="sums of the documents"):
        language_modelling(12.0, 7, 8, [(3.0, 3, 4), (9.0, 3, 4)], seed=0)
    with pytest.raises(ValueError, match="must be positive"):
        language_modelling(0.0, 0, 0, [], seed=0)
    with pytest.raises(NonFiniteError, match="not finite"):
        language_modelling(math.nan, 3, 4, [(math.nan, 3, 4)], seed=0)
