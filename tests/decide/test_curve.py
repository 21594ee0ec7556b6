"""The learning curve: its intervals, what it says of more labels, and one whole curve with trainings answered by a formula."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import refused

from weitiao import load_config
from weitiao.decide import curve, members
from weitiao.decide.advice import in_both
from weitiao.decide.compare import Options
from weitiao.decide.curve import Scores, crossing, doubling, interval, learning_curve, more_labels
from weitiao.decide.members import Member, Outcome


def right(share: float, seeds: int = 3, rows: int = 200) -> np.ndarray:
    return np.tile(np.arange(rows) < share * rows, (seeds, 1))


def test_intervals_hold_the_value_and_shrink_with_rows() -> None:
    few, many = (interval(right(0.7, rows=n)[None], lambda x: float(x[0].mean())) for n in (50, 2000))
    for one in (few, many):
        assert one["value"] == pytest.approx(0.7)
        assert one["low"] < 0.7 < one["high"]
    assert many["high"] - many["low"] < (few["high"] - few["low"]) / 4
    assert many["high"] - many["low"] == pytest.approx(2 * 1.96 * (0.7 * 0.3 / 2000) ** 0.5, rel=0.15)


def test_the_gain_of_a_doubling_is_paired_by_row() -> None:
    gain = doubling([Scores(50, right(0.1)), Scores(100, right(0.5)), Scores(400, right(0.7))])
    assert gain["value"] == pytest.approx(0.2 / 2)  # two doublings
    assert (gain["from"], gain["to"], gain["n"]) == (100, 400, 200)
    assert 0.05 < gain["low"] < gain["high"] < 0.15
    assert doubling([Scores(50, right(0.5))]) is None


@pytest.mark.parametrize(
    ("low", "high", "en", "zh"),
    [
        (0.02, 0.06, "look worth collecting", "值得"),
        (-0.01, 0.005, "more are not worth it", "不值得"),
        (-0.01, 0.05, "cannot be told", "看不出"),
    ],
)
def test_more_labels_in_words(low: float, high: float, en: str, zh: str) -> None:
    found = {"title": {"zh": "全参数", "en": "full"}, "doubling": {"value": 0.03, "low": low, "high": high, "from": 100, "to": 400}}
    chinese, english = in_both(lambda: more_labels(found))
    assert en in english
    assert zh in chinese


def test_whether_fewer_labels_do() -> None:
    def points(*values: float) -> list[dict[str, Any]]:
        return [{"rows": rows, "value": value} for rows, value in zip((50, 200, 1000), values, strict=True)]

    curves = [
        {"title": {"zh": "基线", "en": "base"}, "is_baseline": True, "points": points(0.3, 0.5, 0.7)},
        {"title": {"zh": "全", "en": "full"}, "is_baseline": False, "points": points(0.4, 0.75, 0.9)},
        {"title": {"zh": "头", "en": "head"}, "is_baseline": False, "points": points(0.2, 0.3, 0.6)},
    ]
    _, english = in_both(lambda: crossing(curves))
    assert "full reaches with 200 rows what TF-IDF does with 1000" in english
    assert "head does not reach what TF-IDF does with all 1000 rows, 0.700" in english


def test_a_whole_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Member] = []

    def train(one: Member, _quiet: bool) -> Outcome:
        made.append(one)
        (one.path / "evaluation").mkdir(parents=True)
        (one.path / "data").mkdir()
        share = 0.9 if one.config.data.limit is None else 0.5
        rows = [{"id": f"test:{i}", "file": "t", "label": "甲", "correct": i < 40 * share} for i in range(40)]
        (one.path / "evaluation" / "predictions-after.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (one.path / "data" / "ledger.json").write_text(json.dumps({"files": [{"path": "t", "sha256": "1" * 64}]}))
        (one.path / "run.json").write_text(json.dumps({"state": "finished"}))
        return Outcome(0, {})

    monkeypatch.setattr(members, "train", train)
    monkeypatch.setattr(curve, "_simple", lambda *_: np.arange(40) < 24)
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"第{i}行{i * i}的文本,{'甲' if i % 2 else '乙'}\n" for i in range(300)), encoding="utf-8")
    config = load_config(None, [f"data.train={rows}", f"runs={tmp_path}"])
    result = learning_curve(config, Options(methods=("full",), out=tmp_path / "c", quiet=True, language="en"), (50, 5000), 2)
    assert [(one["name"], [p["rows"] for p in one["points"]]) for one in result["curves"]] == [
        ("TF-IDF + logistic regression", [50, 240]),
        ("full", [50, 240]),
    ]
    assert [point["value"] for point in result["curves"][1]["points"]] == [0.5, 0.9]
    assert {(one.config.seed, one.config.data.limit) for one in made} == {(0, 50), (1, 50), (0, None), (1, None)}
    small = next(one.config for one in made if one.config.data.limit == 50)
    assert small.train.epochs * 50 / small.train.batch_rows == pytest.approx(60)
    tests = {one.config.data.test for one in made}
    assert len(tests) == 1  # another seed draws no other test rows
    assert Path(tests.pop()).is_file()
    before = len(made)
    learning_curve(config, Options(methods=("full",), out=tmp_path / "c", quiet=True), (50, 5000), 2)
    assert len(made) == before
    page = (tmp_path / "c" / "report.html").read_text(encoding="utf-8")
    assert "How many labels are enough" in page or "标注多少才够" in page


def test_a_curve_takes_one_configuration(tmp_path: Path) -> None:
    assert "takes one configuration" in refused("compare", "--curve")
    path = tmp_path / "c.yaml"
    path.write_text("task: text\nobjective: pretrain\n")
    assert "classification task" in refused("compare", path, "--curve")
