"""The table of a comparison and its advice, from made-up outcomes whose answers are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from weitiao.decide.advice import recommend
from weitiao.decide.table import Entry, build_table, holm, pareto, row_key
from weitiao.errors import DataError
from weitiao.report.compare_page import build_compare_page

N = 100


def entry(name: str, right: int, seconds: float, kind: str = "tuned", shift: int = 0, rows: int = N) -> Entry:
    """A method that gets ``right`` rows right, beginning with row ``shift``."""
    judged = {f"aa test:{i}": shift <= i < shift + right for i in range(rows)}
    score = {"value": right / rows, "low": right / rows - 0.05, "high": right / rows + 0.05, "n": rows}
    price = {"train_seconds": seconds, "ms_per_row": 1.0, "peak_memory_bytes": 10**9, "trained_parameters": 5, "size_bytes": 7}
    return Entry(name, {"zh": f"{name}（中）", "en": name}, kind, {"accuracy": score, "macro_f1": score}, judged, price)


def test_holm_is_the_textbook_example() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9}) == {"a": 0.9}


def test_the_best_is_compared_with_each_other_row_by_row() -> None:
    table = build_table([entry("low", 40, 1, "baseline"), entry("top", 90, 50), entry("near", 89, 20)], seed=0)
    rows = {row["name"]: row for row in table["rows"]}
    assert (table["n"], table["metric"], table["best"]) == (N, "accuracy", "top")
    assert rows["top"]["verdict"] == "best"
    assert rows["top"]["against_best"] is None
    assert rows["near"]["verdict"] == "undecided"
    assert rows["near"]["against_best"]["difference"]["value"] == pytest.approx(0.01)
    assert rows["low"]["verdict"] == "worse"
    assert rows["low"]["against_best"]["mcnemar"] == {"a_only": 50, "b_only": 0, "p_value": pytest.approx(binomtest(50, 50).pvalue)}
    assert rows["low"]["against_best"]["p_holm"] == pytest.approx(2 * binomtest(50, 50).pvalue)


def test_of_those_not_shown_worse_the_cheapest_is_advised_with_its_reason() -> None:
    table = build_table([entry("top", 90, 50), entry("near", 89, 20), entry("low", 40, 1, "baseline")], seed=0)
    advice = recommend(table)
    assert advice["choice"] == "near"
    assert "On these 100 rows no difference is shown between it and: near." in advice["text"]["en"]
    assert "「near（中）」训练花费最少" in advice["text"]["zh"]


def test_one_that_is_shown_best_is_advised_whatever_it_costs() -> None:
    advice = recommend(build_table([entry("top", 90, 5000), entry("low", 40, 1, "baseline")], seed=0))
    assert advice["choice"] == "top"
    assert "All others are shown to be worse" in advice["text"]["en"]


def test_what_was_forgotten_is_said_of_the_advised_one() -> None:
    top = entry("top", 90, 50)
    bits = {"before": 3.0, "after": 3.5, "difference": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 24}}
    top.price["forgetting"] = {"zh": bits}
    advice = recommend(build_table([top, entry("low", 40, 1)], seed=0))
    assert "It forgot: +0.500\u00a0[+0.400,\u00a0+0.600] more bits per character on general Chinese texts." in advice["text"]["en"]


def test_rows_that_differ_are_not_ranked() -> None:
    with pytest.raises(DataError, match="90 in common, 10 only there, 0 only here"):
        build_table([entry("a", 50, 1), entry("b", 50, 1, rows=90)], seed=0)


def test_the_same_row_is_the_same_content_at_the_same_place_with_the_same_label() -> None:
    files = {"/a/x.csv": "1" * 64, "/b/x.csv": "1" * 64, "/c/x.csv": "2" * 64}
    one = {"id": "test:5", "label": "是"}
    assert row_key({**one, "file": "/a/x.csv"}, files) == row_key({**one, "file": "/b/x.csv"}, files)
    assert row_key({**one, "file": "/a/x.csv"}, files) != row_key({**one, "file": "/c/x.csv"}, files)
    assert row_key({**one, "file": "/a/x.csv"}, files) != row_key({**one, "label": "否", "file": "/a/x.csv"}, files)


def test_text_is_ranked_by_bits_per_character_where_less_is_better() -> None:
    def text(name: str, nats: float) -> Entry:
        judged = {f"aa test:{i}": (nats * (1 + i % 3), 10) for i in range(30)}
        bits = nats * 2 / np.log(2) / 10
        metrics = {"bits_per_character": {"value": bits, "low": bits, "high": bits, "n": 30}}
        return Entry(name, {"zh": name, "en": name}, "tuned", metrics, judged, {"train_seconds": 1.0, "ms_per_row": 1.0})

    table = build_table([text("worse", 10.0), text("better", 9.0)], seed=0)
    rows = {row["name"]: row for row in table["rows"]}
    assert table["best"] == "better"
    assert rows["worse"]["verdict"] == "worse"
    assert rows["worse"]["against_best"]["difference"]["value"] == pytest.approx(-2 / np.log(2) / 10)


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    rows = [
        {"name": n, "train_seconds": s, "metrics": {"accuracy": {"value": v}}} for n, s, v in [("a", 1, 0.5), ("b", 2, 0.4), ("c", 3, 0.6)]
    ]
    assert pareto(rows, "accuracy", 1) == ["a", "c"]


def written(folder: Path, table: dict[str, Any]) -> str:
    table |= {"failed": [{"title": {"zh": "全参数", "en": "full"}, "reason": "<out of memory>"}], "recommendation": recommend(table)}
    (folder / "compare.json").write_text(json.dumps(table), encoding="utf-8")
    return build_compare_page(folder, "en").read_text(encoding="utf-8")


def test_the_page_stands_alone_and_escapes_what_it_quotes(tmp_path: Path) -> None:
    evil = entry("<script>alert(1)</script>", 90, 50)
    page = written(tmp_path, build_table([evil, entry("low", 40, 0.0, "baseline")], seed=0))
    assert "<script" not in page
    assert "&lt;out of memory&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "Quality against price" in page
    assert "0.900" in page
    assert build_compare_page(tmp_path, "en").read_text(encoding="utf-8") == page
    assert "质量与价格" in build_compare_page(tmp_path, "zh").read_text(encoding="utf-8")
