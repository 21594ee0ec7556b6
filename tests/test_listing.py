"""`weitiao runs`: what stands in a folder of runs."""

import json
import os
from pathlib import Path

from commands import command, refused
from filelock import FileLock


def made(folder: Path, name: str, state: str, created: str, **after: float) -> Path:
    path = folder / name
    (path / "evaluation").mkdir(parents=True)
    (path / "checkpoints").mkdir()
    record = {"state": state, "created": created, "task": "classification", "method": "lora", "name": name, "seconds": {"total": 61.0}}
    (path / "run.json").write_text(json.dumps(record))
    if after:
        metrics = {key: {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 50} for key, value in after.items()}
        (path / "evaluation" / "after.json").write_text(json.dumps({"metrics": metrics}))
    return path


def test_runs_are_listed_with_state_and_score_newest_first(tmp_path: Path) -> None:
    made(tmp_path, "old", "finished", "2026-01-01T10:00:00+00:00", macro_f1=0.7, accuracy=0.8)
    made(tmp_path / "compare-1" / "runs", "new", "failed", "2026-01-02T10:00:00+00:00")
    (tmp_path / "no-run").mkdir()
    (tmp_path / "spoilt").mkdir()
    (tmp_path / "spoilt" / "run.json").write_text("{")
    found = command("runs", tmp_path, "--json").json["runs"]
    assert [(Path(one["run"]).name, one["state"]) for one in found] == [("new", "failed"), ("old", "finished"), ("spoilt", "unreadable")]
    assert found[1]["metric"] == "accuracy"
    assert found[1]["score"] == {"value": 0.8, "low": 0.8 - 0.1, "high": 0.8 + 0.1, "n": 50}
    assert found[0]["score"] is None
    shown = command("runs", tmp_path, lang="en").out
    assert "accuracy 0.800 [0.700, 0.900]" in shown
    assert "1 min 1 s" in shown
    assert "准确率 0.800" in command("runs", tmp_path, lang="zh").out


def test_a_run_whose_process_is_gone_is_told_from_one_that_goes_on(tmp_path: Path) -> None:
    path = made(tmp_path, "one", "running", "2026-01-01T10:00:00+00:00")
    (state,) = [one["state"] for one in command("runs", tmp_path, "--json").json["runs"]]
    assert state == "died"
    with FileLock(path / "checkpoints" / ".lock"):
        (state,) = [one["state"] for one in command("runs", tmp_path, "--json").json["runs"]]
    assert state == "running"
    assert os.listdir(path / "checkpoints") in ([], [".lock"])


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "no such folder" in refused("runs", tmp_path / "absent")
    assert "There are no runs here." in command("runs", tmp_path).out
