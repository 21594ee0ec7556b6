"""`weitiao demo --method all` puts one run of each method side by side."""

from pathlib import Path

import pytest

from weitiao.demo import METHODS, methods_table, run_all
from weitiao.errors import ConfigError


@pytest.mark.slow
def test_all_methods_side_by_side(tmp_path: Path) -> None:
    cut = ["train.max_steps=1", "train.batch_rows=4", "data.limit=100", "evaluate.before=false", "evaluate.baselines=false"]
    runs = run_all([f"runs={tmp_path}", "name=three", *cut], quiet=True)
    assert [run.record["method"] for run in runs] == list(METHODS)
    assert [run.path.name for run in runs] == [f"three-{method}" for method in METHODS]
    table = methods_table(runs)
    for run in runs:
        value = run.read("evaluation/after.json")["metrics"]["accuracy"]["value"]
        assert f"{value:.3f}" in table
        assert f"{run.record['trainable']['parameters']:,}" in table


def test_wrong_overrides_show_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        run_all([f"runs={tmp_path / 'runs'}", "train.epoch=1"], quiet=True)
    assert not (tmp_path / "runs").exists()
