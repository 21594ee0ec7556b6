"""The model card: everything the folder says, "not stated" for the rest, and no markup from the run's texts."""

import re
import shutil
from pathlib import Path

import pytest
from fixtures_run import DIGEST, make_failed_run, make_run, make_text_run, run_json, write

from weitiao.report.card import build_model_card, code, plain


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "finished")


def test_the_card_says_what_the_folder_says(finished: Path) -> None:
    path = build_model_card(finished, "en")
    card = path.read_text(encoding="utf-8")
    assert path == finished / "MODEL_CARD.md"
    said = [DIGEST, DIGEST[::-1], "Qwen2ForCausalLM", "6,400 | 6,391 | 37 | 9", "Seed: 0", "2,922,000", "4.41", "kind: lora"]
    said += ["2.13.0+cpu", "8369B", "14 min 42 s", "n = 702", "One seed only", "weitiao train config.yaml name=finished-again"]
    for words in said:
        assert words in card, words
    assert re.search(r"accuracy \| 0\.883\s\\\[0\.859,\s0\.907\\\] \(n = 702\)", card)
    assert build_model_card(finished, "en").read_text(encoding="utf-8") == card


def test_what_nobody_filled_in_is_not_stated(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    assert build_model_card(run, "zh").read_text(encoding="utf-8").count("未说明") == 6
    (run / "card.yaml").write_text("intended_use: 帮助文档分类\nlicense: Apache-2.0\n", encoding="utf-8")
    card = build_model_card(run, "zh").read_text(encoding="utf-8")
    assert "用途：帮助文档分类" in card
    assert card.count("未说明") == 4


@pytest.mark.parametrize("make", [make_failed_run, make_text_run])
def test_a_card_of_a_run_without_evaluation(tmp_path: Path, make: object) -> None:
    assert callable(make)
    card = build_model_card(make(tmp_path / "run"), "en").read_text(encoding="utf-8")
    assert "## Evaluation" in card
    assert ("Nothing was evaluated." in card) == (make is make_failed_run)
    assert ("bits per character" in card) == (make is make_text_run)


def test_names_never_become_markup(tmp_path: Path) -> None:
    nasty = "<script>x</script> [a](http://b.c) **d** `e` | f\n# g"
    write(tmp_path / "run.json", {**run_json(), "name": nasty, "error": {"type": nasty, "message": nasty}, "state": "failed"})
    card = build_model_card(tmp_path, "en").read_text(encoding="utf-8")
    assert "<" not in card
    assert "http:" not in card
    assert "\n# g" not in card
    assert not re.search(r"(?<!\\)\]\(", card)


def test_escapes_by_hand() -> None:
    assert plain("1. a|b\n- <c> & [d]") == "1\\. a\\|b - &lt;c&gt; &amp; \\[d\\]"
    assert plain("- a") == "\\- a"
    assert code("a\n````\n") == "`````\na\n````\n`````"
