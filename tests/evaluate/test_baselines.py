"""Baselines: one contract for all of them, candidates, and degenerate training sets."""

import sys
from collections.abc import Callable

import numpy as np
import pytest

from weitiao.evaluate.baselines import BASELINES, Baseline, majority, tfidf_linear_svm, tfidf_logistic_regression
from weitiao.language import use

Predict = Callable[..., list[str]]
LINEAR: list[Predict] = [tfidf_logistic_regression, tfidf_linear_svm]
TEXTS = [
    "单元格中的公式",
    "工作表与单元格",
    "合并单元格区域",
    "幻灯片的切换效果",
    "播放幻灯片",
    "新建一张幻灯片",
    "页眉和页脚",
    "段落与页眉",
]
LABELS = ["表格", "表格", "表格", "演示", "演示", "演示", "文字", "文字"]


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.name)
class TestContract:
    def test_one_known_label_per_row_and_the_seed_decides(self, baseline: Baseline) -> None:
        tests = ["锁定单元格", "隐藏幻灯片", "", "完全不相干 text"]
        predicted = baseline.predict(TEXTS, LABELS, tests, 0, None)
        assert len(predicted) == len(tests)
        assert {type(label) for label in predicted} == {str}
        assert set(predicted) <= set(LABELS)
        assert predicted == baseline.predict(TEXTS, LABELS, tests, 0, None)

    def test_answers_stay_within_the_candidates(self, baseline: Baseline) -> None:
        candidates = [["演示", "文字"], ["文字"], ["没见过", "演示"], ["没见过", "也没见过"], []]
        predicted = baseline.predict(TEXTS, LABELS, ["单元格"] * 5, 0, candidates)
        assert predicted[0] in {"演示", "文字"}
        assert predicted[1:4] == ["文字", "演示", "没见过"]  # a label seen in training beats one never seen; none seen: the first
        assert predicted[4] in LABELS

    def test_candidates_must_be_given_for_every_row(self, baseline: Baseline) -> None:
        with pytest.raises(ValueError, match="each of 2 test rows"):
            baseline.predict(TEXTS, LABELS, ["甲", "乙"], 0, [["表格"]])

    def test_no_test_rows(self, baseline: Baseline) -> None:
        assert baseline.predict(TEXTS, LABELS, [], 0, None) == []

    @pytest.mark.parametrize("texts", [["甲"], ["甲", "乙"], ["", ""]])
    def test_one_label_or_nothing_to_read(self, baseline: Baseline, texts: list[str]) -> None:
        assert baseline.predict(texts, ["是"] * len(texts), ["丙", ""], 0, None) == ["是", "是"]

    def test_empty_texts_with_two_labels(self, baseline: Baseline) -> None:
        assert baseline.predict(["", "", ""], ["是", "否", "否"], ["丙"], 0, None) == ["否"]

    def test_has_a_title_in_both_languages(self, baseline: Baseline) -> None:
        titles = set()
        for language in ("zh", "en"):
            use(language)
            titles.add(baseline.title)
        use(None)
        assert titles == {baseline.zh, baseline.en}
        assert len(titles) == 2


def test_names_are_unique() -> None:
    assert len({baseline.name for baseline in BASELINES}) == len(BASELINES)


def test_majority() -> None:
    assert majority(["a", "b", "b"], 3) == ["b", "b", "b"]
    assert majority(["b", "a", "a", "b"], 1) == ["b"]  # a tie: the one seen first
    assert majority(["a", "b", "b", "c", "c", "c"], 2, [["a", "b"], ["c", "a"]]) == ["b", "c"]
    with pytest.raises(ValueError, match="at least one training row"):
        majority([], 1)


@pytest.mark.parametrize("predict", LINEAR)
def test_linear_baselines_learn_what_is_there(predict: Predict) -> None:
    assert predict(TEXTS, LABELS, ["锁定单元格", "隐藏幻灯片", "奇数页的页眉"], 0) == ["表格", "演示", "文字"]


@pytest.mark.parametrize("predict", LINEAR)
def test_two_labels_have_scores_for_both_sides(predict: Predict) -> None:
    # scikit-learn gives one score per row for two labels; a label list in either order must come out right
    texts, labels = ["好吃", "好看", "真好", "难吃", "难看", "真难"], ["好"] * 3 + ["差"] * 3
    assert predict(texts, labels, ["很好", "很难"], 0, [["好", "差"], ["差", "好"]]) == ["好", "差"]


@pytest.mark.parametrize("predict", LINEAR)
def test_rare_labels_are_not_given_up(predict: Predict) -> None:
    # 1,200 rows of random characters; 1 in 40 is of the rare label and has its mark. From 1,000 rows on, min_df is 2.
    rng = np.random.default_rng(0)
    rare = rng.random(1200) < 1 / 40
    texts = ["".join(rng.choice(list("天地玄黄宇宙洪荒"), size=12)) + ("稀" if is_rare else "") for is_rare in rare]
    labels = ["少" if is_rare else "多" for is_rare in rare]
    assert predict(texts, labels, ["天地稀", "天地玄"], 0) == ["少", "多"]


@pytest.mark.parametrize("predict", LINEAR)
def test_very_long_texts_are_cut(predict: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    # 4 texts share 400 characters: 100 each. What comes after is not read, so the marks at the end separate nothing.
    monkeypatch.setattr(sys.modules["weitiao.evaluate.baselines"], "MAX_TRAIN_CHARACTERS", 400)
    early = ["甲" + "的" * 300, "甲" + "的" * 301, "乙" + "的" * 300, "乙" + "的" * 301]
    assert predict(early, ["甲", "甲", "乙", "乙"], ["乙" + "的" * 300], 0) == ["乙"]
    late = [text[::-1] for text in early]
    assert predict(late, ["甲", "甲", "乙", "乙"], ["的" * 300 + "甲", "的" * 300 + "乙"], 0) in (["甲"] * 2, ["乙"] * 2)
