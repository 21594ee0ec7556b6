"""The page and the terminal name the test that was made, and none where none was."""

from pathlib import Path
from typing import Any

import pytest
from fixtures_run import estimate, make_run, write

from weitiao import language
from weitiao.report.build import build_report

NAMES = {"mcnemar": {"zh": "McNemar 检验", "en": "McNemar test"}, "sign_flip": {"zh": "置换检验", "en": "permutation test"}}
MADE = {
    "mcnemar": {"mcnemar": {"a_only": 20, "b_only": 4, "p_value": 0.0015}},
    "sign_flip": {"sign_flip": {"p_value": 0.0015}},
    "none": {},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


def page(run: Path, made: dict[str, Any], lang: language.Language, difference: float = 0.02) -> str:
    pairs = [{"a": "after", "b": "before", "difference": estimate(difference, 702, 0.03), **made}]
    write(run / "evaluation/comparison.json", {"n": 702, "metric": "accuracy", "pairs": pairs})
    return build_report(run, lang).read_text(encoding="utf-8")


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("kind", MADE)
def test_the_test_that_was_made_is_named(run: Path, kind: str, lang: language.Language) -> None:
    """An interval with 0 beside p = 0.0015: the sentence says which test disagrees; its table has p and the counts that the test has."""
    shown = page(run, MADE[kind], lang)
    disagree, only_first = {"zh": ("不一致", "只有前者对"), "en": ("disagree", "Only the first right")}[lang]
    for other, names in NAMES.items():
        assert (names[lang] in shown) == (other == kind)
    assert (disagree in shown) == (kind != "none")
    assert (">0.002<" in shown) == (kind != "none")
    assert (only_first in shown) == (kind == "mcnemar")


def test_a_difference_is_shown_with_its_test(run: Path) -> None:
    shown = page(run, MADE["sign_flip"], "en", 0.2)
    assert "Training raised accuracy" in shown
    assert "permutation test p\u00a0=\u00a00.002" in shown
