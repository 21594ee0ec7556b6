"""Scores of single answers: SQuAD's values derived by hand from its script's rules, rouge-chinese as oracle, hand-made JSON."""

import json
import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_chinese import Rouge

from weitiao.evaluate import scores


def squad_tokens(text: str) -> list[str]:
    """`normalize_answer` and `get_tokens` of SQuAD's evaluate-v2.0.py."""
    lowered = "".join(ch for ch in text.lower() if ch not in set(string.punctuation))
    return " ".join(re.compile(r"\b(a|an|the)\b", re.UNICODE).sub(" ", lowered).split()).split()


def squad_f1(gold: str, answer: str) -> float:
    """`compute_f1` of the same script."""
    gold_tokens, answer_tokens = squad_tokens(gold), squad_tokens(answer)
    num_same = sum((Counter(gold_tokens) & Counter(answer_tokens)).values())
    if len(gold_tokens) == 0 or len(answer_tokens) == 0:
        return float(gold_tokens == answer_tokens)
    if num_same == 0:
        return 0.0
    precision, recall = num_same / len(answer_tokens), num_same / len(gold_tokens)
    return (2 * precision * recall) / (precision + recall)


@pytest.mark.parametrize(
    ("answer", "references", "exact", "f1"),
    [
        ("The Norman dynasty.", ["norman dynasty"], 1, 1),
        ("in France", ["France"], 0, 2 / 3),
        ("a 10th-century", ["10th century", "the 10thcentury"], 1, 1),
        ("to be or not to be", ["to be"], 0, 4 / 8),
        ("", ["the"], 1, 1),
        ("", ["Paris"], 0, 0),
        ("一九九七年", ["1997年", "一九九七"], 0, 8 / 9),
        ("「文件 - 打印」。", ["文件-打印"], 1, 1),
        ("２０２４年５月", ["2024年5月"], 1, 1),
        ("选择 the 格式菜单", ["格式菜单"], 0, 8 / 10),
        ("北京", ["上海"], 0, 0),
    ],
)
def test_exact_match_and_f1(answer: str, references: list[str], exact: float, f1: float) -> None:
    assert scores.exact_match(answer, references) == exact
    assert scores.token_f1(answer, references) == pytest.approx(f1)


@given(st.text(st.sampled_from("aAtheTHE .,-'n10é$"), max_size=30), st.text(st.sampled_from("aAtheTHE .,-'n10é$"), max_size=30))
def test_without_chinese_it_is_squads_script(gold: str, answer: str) -> None:
    assert scores.units(answer) == squad_tokens(answer)
    assert scores.exact_match(answer, [gold]) == float(squad_tokens(gold) == squad_tokens(answer))
    assert scores.token_f1(answer, [gold]) == pytest.approx(squad_f1(gold, answer))


@given(st.text("甲乙丙丁文件打印", min_size=1, max_size=12), st.text("甲乙丙丁文件打印", min_size=1, max_size=12))
def test_rouge_l_is_that_of_rouge_chinese(answer: str, reference: str) -> None:
    (expected,) = Rouge(metrics=["rouge-l"]).get_scores([" ".join(answer)], [" ".join(reference)])
    assert scores.rouge_l(answer, [reference]) == pytest.approx(expected["rouge-l"]["f"], abs=1e-6)


def test_rouge_l_by_hand() -> None:
    assert scores.rouge_l("police kill the gunman", ["police killed the gunman"]) == pytest.approx(3 / 4)  # Lin 2004: 3 of 4 in order
    assert scores.rouge_l("the gunman kill police", ["police killed the gunman"]) == pytest.approx(2 / 4)
    assert scores.rouge_l("", ["甲"]) == 0
    assert scores.rouge_l("甲", ["乙", "甲"]) == 1


@pytest.mark.parametrize(
    ("answer", "reference", "f1"),
    [
        ('{"a": 1, "b": "x"}', '{"b": " x ", "a": 1.0}', 1),
        ('{"a": 1, "b": "y"}', '{"a": 1, "b": "x"}', 1 / 2),
        ('{"a": 1}', '{"a": 1, "b": "x"}', 2 / 3),
        ('{"a": true}', '{"a": 1}', 0),
        ('{"a": "1"}', '{"a": 1}', 0),
        ('{"m": ["x", "y", "y"]}', '{"m": ["y", "x"]}', 4 / 5),
        ('{"m": []}', '{"m": []}', 1),
        ('```json\n{"a": 1}\n```', '{"a": 1}', 1),
        ("a is 1", '{"a": 1}', 0),
        ('{"a": NaN}', '{"a": 1}', 0),
        ("[" * 100_000, "[]", 0),
        ('{"p": {"q": [{"r": 1}, {"r": 2}]}}', '{"p": {"q": [{"r": 2}, {"r": 3}]}}', 1 / 2),
    ],
)
def test_fields_of_json(answer: str, reference: str, f1: float) -> None:
    assert scores.field_f1(answer, [reference]) == pytest.approx(f1)


def test_only_an_object_or_a_list_alone_is_json() -> None:
    assert [scores.is_json(text) for text in ('{"a": [1]}', "[]", " {}\n", "1", '"a"', "```json\n{}\n```", "{} {}", "{'a': 1}")] == [
        1, 1, 1, 0, 0, 0, 0, 0,
    ]  # fmt: skip


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
def test_a_value_has_all_of_its_own_fields(value: object) -> None:
    assert scores.field_f1(json.dumps(value), [json.dumps(value)]) == 1


def test_distinct_by_hand() -> None:
    assert scores.distinct(["a b a", "b a"], 1) == 2 / 5
    assert scores.distinct(["a b a", "b a"], 2) == 2 / 3  # a·b, b·a, b·a
    assert scores.distinct(["甲乙", "甲"], 1) == 2 / 3
    assert scores.distinct(["", "a"], 2) == 0
