"""What happens to a run's folder and clock from outside while it works."""

import errno
import json
import os
import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml
from commands import command, refused

from weitiao import storage
from weitiao.config import load_config
from weitiao.errors import ConfigError
from weitiao.finetune import complete, finetune
from weitiao.run import Run

pytestmark = pytest.mark.slow  # whole runs of the program


@pytest.fixture
def config(tiny_model: Path, small_csv: Path, tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    tree = {
        "name": "r", "runs": str(tmp_path / "runs"), "model": {"path": str(tiny_model), "device": "cpu"}, "method": "lora",
        "data": {"train": str(small_csv), "validation_share": 0.2, "test_share": 0.2},
        "train": {"max_steps": 4, "checkpoint": {"every_steps": 1}}, "evaluate": {"baselines": False, "before": False},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    return path


def after_step(monkeypatch: pytest.MonkeyPatch, number: int, deed) -> None:
    """Something that happens between two steps."""
    import weitiao.training as module

    real = module.train

    def train(*arguments, **settings):
        for step in real(*arguments, **settings):
            yield step
            if step.number == number:
                deed()

    monkeypatch.setattr(module, "train", train)


def test_a_folder_that_is_deleted_ends_the_run_and_does_not_come_back(config, tmp_path, monkeypatch):
    run = tmp_path / "runs" / "r"
    after_step(monkeypatch, 2, lambda: shutil.rmtree(run))
    result = command("train", config, "-q")
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "error: " in result.err
    assert not run.exists()
    monkeypatch.undo()
    assert command("train", config, "-q").code == 0


def test_a_folder_that_is_deleted_before_its_report_is_missed_by_name(config):
    run = finetune(load_config(config))
    shutil.rmtree(run.path)
    with pytest.raises(ConfigError, match="folder is gone"):
        complete(run)


def test_a_folder_that_is_deleted_as_soon_as_it_is_there_does_not_come_back(config, tmp_path, monkeypatch):
    """The lock makes its folder anew."""
    settle = Run._settle

    def settled(self, *arguments, **options):
        settle(self, *arguments, **options)
        shutil.rmtree(self.path)

    monkeypatch.setattr(Run, "_settle", settled)
    assert "folder is gone" in refused("train", config, "-q")
    assert not (tmp_path / "runs" / "r").exists()
    monkeypatch.undo()
    assert command("train", config, "-q").code == 0


class _ReadOnly(storage.Disk):
    """A file system that was mounted anew, read-only. (Bits of permission mean nothing to root, who runs many tests.)"""

    def open(self, path, mode):
        if mode != "rb":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return super().open(path, mode)


def test_a_folder_that_becomes_read_only_ends_the_run(config, tmp_path, monkeypatch):
    after_step(monkeypatch, 2, lambda: monkeypatch.setattr(storage, "disk", _ReadOnly()))
    result = command("train", config, "-q")
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "Read-only" in result.err
    assert json.loads((tmp_path / "runs" / "r" / "run.json").read_text())["state"] == "running"  # never "finished"
    monkeypatch.undo()
    assert command("train", config, "-q").code == 0  # and goes on when it can be written again


def test_a_place_that_cannot_be_written_is_said_before_anything_else(config, monkeypatch):
    monkeypatch.setattr(storage, "disk", _ReadOnly())
    result = command("train", config, "-q")
    assert result.code == 2
    assert "Read-only" in result.err


def test_a_clock_that_jumps_back_changes_nothing(config, tmp_path, monkeypatch):
    import weitiao.run as module

    assert command("train", config, "name=whole", "-q").code == 0

    class Backwards(datetime):
        hours = 0

        @classmethod
        def now(cls, _zone=None):
            cls.hours += 1
            return datetime(2026, 1, 1, tzinfo=timezone.utc) - timedelta(hours=cls.hours)

    monkeypatch.setattr(module, "datetime", Backwards)
    monkeypatch.setattr("time.time", lambda: 1e9 - Backwards.hours)
    assert command("train", config, "-q").code == 0
    record = Run.open(tmp_path / "runs" / "r").record
    assert record["state"] == "finished"
    assert all(seconds >= 0 for seconds in record["seconds"].values())
    weights = [storage.sha256(tmp_path / "runs" / name / "model" / "adapter_model.safetensors") for name in ("r", "whole")]
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.parametrize("exists", [False, True])
def test_two_commands_at_once_make_one_run(config, tmp_path, monkeypatch, exists):
    """The second says that another process is there, or (had the first ended) that the run is finished; the run is whole. The same where
    both find an interrupted run to go on with."""
    if exists:
        with monkeypatch.context() as patch:
            after_step(patch, 2, interrupted)
            assert command("train", config, "-q").code == 130
    words = [sys.executable, "-m", "weitiao", "--lang", "en", "train", str(config), "-q"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes == [0, 2], said
    assert any(text in "".join(said) for text in ("another process", "finished already", "exists already"))
    record = Run.open(tmp_path / "runs" / "r").record
    assert record["state"] == "finished"
    assert len(record.get("resumed", [])) == exists


def interrupted() -> None:
    raise KeyboardInterrupt
