"""Tokens and keys of the user appear nowhere: not on the screen, not in the run's folder, not where something goes wrong."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from commands import command

from weitiao.errors import NetworkError
from weitiao.masking import masked

ENVIRONMENT = {
    "HF_TOKEN": "hf_CANARY01abcdefghijklmnop", "MODELSCOPE_API_TOKEN": "ms-CANARY02-plain", "SWANLAB_API_KEY": "CANARY03swan9x",
    "OPENAI_API_KEY": "sk-CANARY04abcdefghijkl", "AWS_SECRET_ACCESS_KEY": "CANARY05/aws+secret", "MY_DB_PASSWORD": "CANARY06 pass word",
}  # fmt: skip
WRITTEN = (
    "https://me:CANARY07@host.example/x.csv", "https://CANARY08@host.example/repo", "https://host.example/x?access_token=CANARY09&a=1",
    "Authorization: Bearer CANARY10abc123", "ghp_CANARY11abcdefghijklmnopqrstuvwxyz", "AKIACANARY12ABCDEFGH",
)  # fmt: skip
ALL = (*ENVIRONMENT.values(), *WRITTEN)


@pytest.fixture(autouse=True)
def _canaries(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def test_there_are_twelve():
    assert len({word[word.index("CANARY") :][:8] for word in ALL}) == 12


@pytest.mark.parametrize("text", ALL)
def test_each_is_masked_wherever_it_stands(text):
    for place in (text, f"failed: {text}\n  at 1", f'{{"a": "{text}"}}', f"({text})", f"{text} {text}"):
        assert "CANARY" not in masked(place), place
        assert "***" in masked(place)


@pytest.mark.parametrize(
    "text",
    [
        "basic understanding of bearer bonds", "a@b.example", "http://127.0.0.1:80/?token=abcdefgh1234", "/home/me/sk-learn/x", "train:12",
        "learning_rate: 1e-4", "第 3 步", "https://host.example/x?page=2", "hf_model",
    ],
)  # fmt: skip
def test_other_texts_stay_as_they_are(text):
    assert masked(text) == text


def files(folder: Path) -> str:
    return "\n".join(str(p) + p.read_bytes().decode("utf-8", errors="replace") for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def config(tiny_model: Path, small_csv: Path, tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    tree = {
        "name": "r", "runs": str(tmp_path / "runs"), "model": {"path": str(tiny_model), "device": "cpu"}, "method": "lora",
        "data": {"train": str(small_csv), "validation_share": 0.2, "test_share": 0.2}, "train": {"max_steps": 2},
        "evaluate": {"baselines": False},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    return path


def test_no_command_shows_one(config, tmp_path, monkeypatch):
    """Twelve canaries, every command that reads a configuration or a run, what succeeds and what fails."""
    said, run = [], tmp_path / "runs" / "r"
    for options in ([], ["--json"]):
        for line in (
            ["check", config], ["train", config], ["train", config], ["report", run], ["evaluate", run], ["predict", run, "下雨"],
            ["train", config, f"data.train={WRITTEN[0]}"], ["train", config, f"model={WRITTEN[1]}"], ["check", WRITTEN[2]],
            ["train", config, f"train.epochs={WRITTEN[4]}"], ["predict", WRITTEN[5], "x"], ["init", WRITTEN[0]], ["download", WRITTEN[0]],
            ["download", f"a/{WRITTEN[4]}"], ["nothing", WRITTEN[4]], ["train", "--resume", WRITTEN[1]], ["schema"],
            *(["check", config, f"task.template={{text}} {text}"] for text in ALL),
        ):  # fmt: skip
            result = command(*line, *options)
            said.append(result.out + result.err)
    finetune = sys.modules["weitiao.finetune"]
    for error in (RuntimeError(" ".join(ALL)), NetworkError("hub", " ".join(ALL), ALL[6]), OSError(5, " ".join(ALL))):
        with monkeypatch.context() as patch:
            patch.setattr(finetune, "train_model", lambda *_, error=error: (_ for _ in ()).throw(error))
            result = command("train", config, f"name={type(error).__name__}")
            assert result.code == 1
            said.append(result.out + result.err)
    shown = [text for text in said if "CANARY" in text]
    assert not shown, shown[0]
    written = files(tmp_path / "runs")
    assert "CANARY" not in written, [line for line in written.splitlines() if "CANARY" in line][:3]


def test_the_log_says_what_happened(config, tmp_path, monkeypatch):
    finetune = sys.modules["weitiao.finetune"]
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "train_model", lambda *_: (_ for _ in ()).throw(RuntimeError("a cause")))
        command("train", config)
    command("train", config, "-q")
    lines = [json.loads(line) for line in (tmp_path / "runs" / "r" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(line.keys() == {"at", "level", "text"} for line in lines)
    assert lines[0]["text"] == "begins"
    assert ("error", "RuntimeError: a cause") in [(line["level"], line["text"]) for line in lines]
    assert [line["text"] for line in lines].count("goes on") == 1
    assert lines[-1] == {"at": lines[-1]["at"], "level": "info", "text": "finished"}
