"""Every shipped recipe runs on the built-in model, cut to two steps."""

from pathlib import Path

import pytest

from weitiao import finetune, load_config

ROOT = Path(__file__).parent.parent
NEEDS_ITS_CORPUS = {f"builtin_base{stage}.yaml" for stage in ("", "_2", "_3")}  # `make builtin-base` runs them; test_config checks them
NEEDS_PAIRS = {"preference_dpo.yaml"}  # tests/test_preference.py runs it
NEEDS_A_HUB = {"fudan_news_qwen2_1_5b.yaml"}  # tests/hub/test_fudan_recipe.py serves one
IN_A_ROW = [f"three_ways_{name}.yaml" for name in ("1_pretrain", "2_sft", "3_grpo")]
TEST_ROWS = {"qa_lora.yaml": 148, "json_full.yaml": 149}  # of the built-in questions and extractions; the others have the topics' 702
RECIPES = sorted([*ROOT.glob("recipes/*.yaml"), *ROOT.glob("weitiao/builtin/*.yaml")])


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe", [r for r in RECIPES if r.name not in {*NEEDS_ITS_CORPUS, *NEEDS_A_HUB, *NEEDS_PAIRS, *IN_A_ROW}], ids=lambda r: r.name
)
def test_it_runs(recipe: Path, tmp_path: Path) -> None:
    cut = ["train.max_steps=2", "train.batch_rows=8", "data.limit=200", "evaluate.before=false", "evaluate.baselines=false"]
    run = finetune(load_config(recipe, [f"runs={tmp_path}", *cut]))
    assert run.record["state"] == "finished"
    assert run.record["training"]["steps"] == 2
    assert (run.path / "report.html").stat().st_size > 10_000
    after = run.read("evaluation/after.json")
    assert after["n"] == TEST_ROWS.get(recipe.name, 702)
    assert all(entry["low"] <= entry["value"] <= entry["high"] for entry in after["metrics"].values())


@pytest.mark.slow
def test_the_three_ways_run_in_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cut = ["train.max_steps=2", "train.batch_rows=4", "evaluate.before=false", "train.validate_every=1"]
    for name in IN_A_ROW:
        run = finetune(load_config(ROOT / "recipes" / name, cut))
        assert run.record["state"] == "finished"
    assert run.read("evaluation/after.json")["metrics"]["reward"]["n"] == 702
