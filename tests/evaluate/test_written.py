"""Metrics of written answers: sacrebleu's corpus scores, means and shares with intervals, abstaining, paired comparison."""

from typing import Any

import numpy as np
import pytest
import sacrebleu

from weitiao.config import build_config
from weitiao.evaluate.statistics import sign_flip
from weitiao.evaluate.written import Marker, chosen_rows, compare_written

CHINESE = [
    ("选择「文件 - 打印」。", ["选择「文件 - 打印」", "请选择文件菜单里的打印。"]),
    ("单击确定", ["单击「确定」按钮。"]),
    ("甲乙丙丁戊己", ["甲乙丙丁庚辛"]),
]
ENGLISH = [("the cat sat on the mat today", ["the cat sat on a mat"]), ("hello there my friend", ["hello there, my dear friend"])]


def rows(pairs: list[tuple[str, list[str]]], **changes: Any) -> list[dict[str, Any]]:
    return [
        {"id": str(i), "prediction": answer, "answers": references, "prompt": "", "answer_tokens": len(answer), "cut_off": False, **changes}
        for i, (answer, references) in enumerate(pairs)
    ]


def marker(task: Any) -> Marker:
    return Marker.of(build_config({"task": task}, "test"))


@pytest.mark.parametrize(("pairs", "tokenizer"), [(CHINESE, "zh"), (ENGLISH, "13a")])
def test_corpus_scores_are_sacrebleus(pairs: list[tuple[str, list[str]]], tokenizer: str) -> None:
    answers = [answer for answer, _ in pairs]
    most = max(len(references) for _, references in pairs)
    streams = [[references[i] if i < len(references) else None for _, references in pairs] for i in range(most)]
    found = marker("generation").mark(rows(pairs))[0]["metrics"]
    assert found["bleu"]["value"] == pytest.approx(sacrebleu.corpus_bleu(answers, streams, tokenize=tokenizer).score)
    assert found["chrf"]["value"] == pytest.approx(sacrebleu.corpus_chrf(answers, streams).score)
    assert found["bleu"]["value"] > 5
    for metric in found.values():
        assert metric["low"] <= metric["value"] <= metric["high"]
        assert metric["n"] == len(pairs)
    assert found["length_ratio"]["value"] == pytest.approx(sum(map(len, answers)) / sum(len(r[0]) for _, r in pairs))
    assert found["answer_tokens"]["value"] == pytest.approx(np.mean([len(answer) for answer in answers]))


def test_abstaining_by_hand() -> None:
    """Six questions, two without an answer: one of these is abstained from, and one of the others too."""
    pairs = [
        ("北京", ["北京"]), ("在北京", ["北京"]), ("无法回答。", ["上海"]), ("成都", ["广州"]),
        (" 无法回答", ["无法回答"]), ("北京", ["无法回答"]),
    ]  # fmt: skip
    result, each = marker({"kind": "qa", "unanswerable": "无法回答"}).mark(rows(pairs))
    values = {name: metric["value"] for name, metric in result["metrics"].items()}
    assert [own["f1"] for own in each] == pytest.approx([1, 0.8, 0, 0, 1, 0])
    assert values == pytest.approx(
        {
            "f1": 2.8 / 6, "exact_match": 2 / 6, "rouge_l": 2.8 / 6, "abstention_recall": 1 / 2, "abstention_precision": 1 / 2,
            "answered_f1": 1.8 / 4, "answered_exact_match": 1 / 4,
        }
    )  # fmt: skip
    assert result["metrics"]["answered_f1"]["n"] == 4
    assert result["metrics"]["abstention_recall"]["n"] == 2


def test_without_unanswerable_rows_there_is_no_abstaining() -> None:
    result, _ = marker({"kind": "qa", "unanswerable": "无法回答"}).mark(rows([("无法回答", ["北京"]), ("", ["北京"])], cut_off=True))
    assert list(result["metrics"]) == ["f1", "exact_match", "rouge_l"]
    assert result["cut_off_rate"]["value"] == 1
    assert result["empty_rate"]["value"] == 0.5


def test_a_score_is_the_mean_of_the_rows_that_have_it() -> None:
    result, each = marker("generation").mark(rows([('{"a": 1}', ['{"a": 1}']), ("no", ['{"a": 1}']), ("好", ["好"])]))
    assert [own.get("field_f1") for own in each] == [1, 0, None]
    assert (result["metrics"]["field_f1"]["value"], result["metrics"]["field_f1"]["n"]) == (0.5, 2)
    assert result["metrics"]["rouge_l"]["n"] == 3


def test_before_and_after_are_compared_on_the_same_rows() -> None:
    after = [{"id": str(i), "scores": {"f1": 1.0, "exact_match": 1.0}} for i in range(8)]
    before = [{"id": str(i), "scores": {"f1": 0.5, "exact_match": 0.0}} for i in range(6)] + [{"id": "7"}]
    found = compare_written(after, before, 0)
    assert (found["n"], found["metric"]) == (6, "f1")
    f1, exact = found["pairs"]
    assert f1["difference"] == {"value": 0.5, "low": 0.5, "high": 0.5, "n": 6}
    assert f1["sign_flip"]["p_value"] == pytest.approx(2 / 2**6)
    assert (exact["mcnemar"]["a_only"], exact["mcnemar"]["b_only"]) == (6, 0)
    assert compare_written(after, [], 0) == {"n": 0, "metric": None, "pairs": []}


def test_sign_flips_by_hand() -> None:
    assert sign_flip(np.array([0.0, 0.0]), 0) == 1
    assert sign_flip(np.array([1.0, 0.0, 1.0]), 0) == 1 / 2  # ++ and −− of four patterns
    assert sign_flip(np.array([3.0, -1.0, 1.0]), 0) == 6 / 8  # of ±3 ±1 ±1 six are 3 or more from zero: 5 3 3 −3 −3 −5
    assert sign_flip(np.full(40, 0.1), 0) < 0.001


def test_rows_are_chosen_by_seed() -> None:
    assert chosen_rows(5, None, 0) == chosen_rows(5, 9, 0) == [0, 1, 2, 3, 4]
    assert chosen_rows(100, 10, 0) == chosen_rows(100, 10, 0) != chosen_rows(100, 10, 1)
    assert chosen_rows(3, 0, 0) == []
    assert sorted(set(chosen_rows(100, 10, 0))) == chosen_rows(100, 10, 0)
