"""The audit in `check`, in a run, in its folder and its report."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import command, refused
from planted import clean_texts


@pytest.fixture
def config(tmp_path: Path, tiny_untied: Path) -> Path:
    """60 clean rows; 12 test rows, 3 of them from the training file; labels 50 : 10 in training."""
    texts = [text for text in clean_texts() if len(text) < 80][:80]
    rows = [(text, "甲类" if i % 6 else "乙类") for i, text in enumerate(texts[:60])]
    test = [*rows[:3], *((text, "甲类" if i % 2 else "乙类") for i, text in enumerate(texts[60:69]))]
    for name, part in (("train", rows), ("test", test)):
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *part])
    tree = {
        "name": "r", "runs": str(tmp_path / "runs"), "model": {"path": str(tiny_untied), "precision": "float32", "device": "cpu"},
        "data": {"train": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv"), "validation_share": 0.0, "max_tokens": 250},
        "task": {"template": "{text}"}, "train": {"max_steps": 2, "batch_rows": 4},
        "evaluate": {"before": False, "baselines": False},
    }  # fmt: skip
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    return path


def test_check_shows_what_is_wrong_and_says_so_by_its_exit_code(config: Path) -> None:
    result = command("check", config, "--json")
    assert result.code == 2
    found = {one["check"]: one for one in result.json["findings"]}
    assert found["leakage"]["count"] == 3
    assert found["leakage"]["rows"][0] | {"text": ""} == {
        "file": str(config.parent / "test.csv"), "line": 2, "split": "test", "other": f"{config.parent / 'train.csv'}:2", "text": "",
    }  # fmt: skip
    assert result.json["stops"] == ["leakage"]
    shown = command("check", config, lang="zh")
    assert shown.code == 2
    assert "✗ leakage: 3 行测试数据（25%）原样出现在训练数据里" in shown.out
    assert "训练会因此停下（check.fail_on）：leakage" in shown.out
    assert "【甲类<|im_end|>】" in shown.out or "【乙类<|im_end|>】" in shown.out


def test_a_run_stops_before_it_makes_a_folder(config: Path) -> None:
    message = refused("train", config, "-q")
    assert "test.csv:2: the data audit stops this run: 3 test rows (25%)" in message
    assert not (config.parent / "runs").exists()


@pytest.mark.parametrize("override", ["check.fail_on=[]", "data.deduplicate=exact", "check.fail_on=[duplicates]"])
def test_a_run_goes_on_where_the_user_says_so(config: Path, override: str) -> None:
    assert command("check", config, override).code == 0
    result = command("train", config, override)
    assert result.code == 0, result.err
    run = config.parent / "runs" / "r"
    audit = json.loads((run / "data" / "audit.json").read_text(encoding="utf-8"))
    names = [one["check"] for one in audit["findings"]]
    report = (run / "report.html").read_text(encoding="utf-8")
    ledger = json.loads((run / "data" / "ledger.json").read_text(encoding="utf-8"))
    if "deduplicate" in override:
        assert "leakage" not in names
        assert ledger["totals"] == {"rows_in": 72, "used": 69, "rejected": 3, "shortened": 0}
    else:
        assert names[0] == "leakage"
        assert "leakage: 3 test rows" in result.err
        assert "3 test rows (25%) also stand in the training data" in report
        assert "data.deduplicate=exact" in report


def test_an_unknown_name_is_refused_by_check_and_train(config: Path) -> None:
    for name in ("check", "train"):
        assert "check.fail_on" in refused(name, config, "check.fail_on=[leaks]")


@pytest.mark.parametrize("setting", ["data.balance=oversample", "train.class_weights=balanced"])
@pytest.mark.parametrize("method", ["lora", "head"])
def test_labels_are_balanced_in_a_run(config: Path, setting: str, method: str) -> None:
    result = command("train", config, setting, f"method={method}", "check.fail_on=[]", "train.max_steps=3")
    assert result.code == 0, result.err
    audit = json.loads((config.parent / "runs" / "r" / "data" / "audit.json").read_text(encoding="utf-8"))
    if "balance=" in setting:
        assert audit["repeated"] == {"乙类": 40}
        assert audit["lengths"]["train"]["n"] == 100
        assert "乙类 +40" in result.err
    else:
        assert audit["repeated"] == {}


def test_check_does_not_import_torch_or_transformers(config: Path) -> None:
    code = (
        "import sys; from weitiao.commands.line import run_command; "
        f"assert run_command(['check', {str(config)!r}, 'check.fail_on=[]']) == 0; "
        "assert not {'torch', 'transformers', 'peft', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_clean_data_are_said_to_be_clean(config: Path) -> None:
    result = command("check", config, "data.test=null", "data.test_share=0.0", lang="en")
    assert result.code == 0
    assert "data audit: nothing found" in result.out
