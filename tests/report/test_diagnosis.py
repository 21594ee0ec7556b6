"""Each diagnosis on curves and errors that show it, and none on a training that went well."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from weitiao.report.diagnosis import diagnose
from weitiao.report.folder import RunFolder

Json = dict[str, Any]


def folder(train: Sequence[float] = (), validation: Sequence[float] = (), **parts: Any) -> RunFolder:
    """A run folder with these losses, ten steps to an epoch, and what else it holds."""
    every = len(train) // len(validation) if validation else 1
    steps = [{"step": i, "epoch": i / 10, "loss": loss, "learning_rate": 1e-3} for i, loss in enumerate(train, start=1)]
    validations = [{"step": every * i, "epoch": every * i / 10, "loss": loss} for i, loss in enumerate(validation, start=1)]
    empty: Json = {
        "name": "x", "run": {"training": {"epochs": len(train) / 10}}, "config": {}, "config_text": "", "ledger": {}, "audit": {},
        "before": {}, "after": {}, "baselines": {}, "comparison": {}, "predictions_before": (), "predictions_after": (),
        "baseline_answers": {},
        "absent": (), "problems": (),
    }  # fmt: skip
    return RunFolder(steps=tuple(steps), validations=tuple(validations), **{**empty, **parts})


def falling(steps: int = 100, start: float = 2.0, end: float = 0.3, speed: float = 6.0) -> list[float]:
    return [end + (start - end) * math.exp(-speed * i / steps) for i in range(steps)]


def only(found: RunFolder) -> Any:
    """The one diagnosis that there is."""
    (diagnosis,) = diagnose(found)
    return diagnosis


def test_a_training_that_went_well_is_left_alone() -> None:
    assert diagnose(folder(falling(), [1.0, 0.5, 0.4, 0.39, 0.385, 0.384])) == []
    assert diagnose(folder()) == []


def test_overfitting_names_the_epoch_to_stop_at() -> None:
    found = only(folder(falling(), [1.0, 0.5, 0.4, 0.45, 0.5, 0.6]))
    assert (found.kind, found.setting) == ("overfitting", "train.epochs: 5")
    assert "0.400" in found.message
    assert "0.600" in found.message


def test_validation_loss_that_rises_with_the_training_loss_is_no_overfitting() -> None:
    train = falling(50) + [0.35 + 0.002 * i for i in range(50)]
    assert not [one for one in diagnose(folder(train, [1.0, 0.5, 0.4, 0.45, 0.5, 0.6])) if one.kind == "overfitting"]


def test_underfitting_while_the_loss_still_falls() -> None:
    found = only(folder(falling(speed=1.5), [1.8, 1.6, 1.4, 1.2, 1.0, 0.9]))
    assert (found.kind, found.setting) == ("underfitting", "train.epochs: 20")


def test_underfitting_where_the_loss_hardly_moves() -> None:
    found = only(folder([2.0 - 0.002 * i for i in range(100)], [1.99, 1.97, 1.95, 1.94]))
    assert (found.kind, found.setting) == ("underfitting", "optim.learning_rate: 0.003")


def test_a_rate_too_high_shows_in_a_loss_that_rises_above_its_beginning() -> None:
    found = only(folder([2.0 + 3 * min(1, i / 40) for i in range(100)]))
    assert (found.kind, found.setting) == ("rate_too_high", "optim.learning_rate: 0.0002")


def test_a_rate_too_high_shows_in_a_loss_that_comes_back() -> None:
    found = only(folder(falling(50) + [0.3 + 0.03 * i for i in range(50)]))
    assert found.kind == "rate_too_high"


def test_a_rate_too_high_shows_in_an_infinite_loss() -> None:
    found = only(folder(run={"error": {"type": "NonFiniteError"}}, config={"optim": {"learning_rate": 0.5}}))
    assert (found.kind, found.setting) == ("rate_too_high", "optim.learning_rate: 0.1")


def test_a_label_that_is_never_predicted() -> None:
    matrix = {"labels": ["甲", "乙", "丙"], "rows": [[5, 0, 1], [3, 0, 0], [0, 0, 4]]}
    found = only(folder(after={"confusion_matrix": matrix}))
    assert (found.kind, found.setting) == ("never_predicted", "train.class_weights: balanced")
    assert "乙" in found.message
    assert "甲" not in found.message


def test_a_label_without_test_rows_need_not_be_predicted() -> None:
    assert diagnose(folder(after={"confusion_matrix": {"labels": ["a", "b"], "rows": [[5, 0], [0, 0]]}})) == []


def test_label_noise_from_contradictions_in_the_data() -> None:
    audit = {"findings": [{"check": "conflicting_labels", "count": 12}]}
    found = only(folder(audit=audit, ledger={"totals": {"used": 300}}))
    assert found.kind == "label_noise"
    assert "12" in found.message
    assert diagnose(folder(audit=audit, ledger={"totals": {"used": 5000}})) == []


def predictions(noisy: int, agree: bool) -> dict[str, Any]:
    rows = [{"id": f"test:{i}", "label": "b" if i < noisy else "a", "prediction": "a", "probability": 0.97} for i in range(200)]
    answers = {row["id"]: ("a", "a") if agree else ("a", "b") for row in rows}
    return {"predictions_after": tuple(rows), "baseline_answers": answers}


@pytest.mark.parametrize(("noisy", "agree", "kinds"), [(10, True, ["label_noise"]), (10, False, []), (4, True, []), (0, True, [])])
def test_label_noise_where_all_agree_against_the_label(noisy: int, agree: bool, kinds: list[str]) -> None:
    assert [one.kind for one in diagnose(folder(**predictions(noisy, agree)))] == kinds


def test_truncation_names_a_length_that_would_do() -> None:
    shortened = [{"line": i, "tokens_before": 300 + i, "tokens_after": 256} for i in range(20)]
    files = [
        {"split": "train", "used": 100, "shortened": 20, "shortened_rows": shortened},
        {"split": "test", "used": 10, "shortened": 10, "shortened_rows": []},
    ]
    found = only(folder(ledger={"files": files}))
    assert (found.kind, found.setting) == ("truncation", "data.max_tokens: 320")
    assert "20.0 %" in found.message
    assert diagnose(folder(ledger={"files": [{"split": "train", "used": 1000, "shortened": 20, "shortened_rows": shortened}]})) == []
