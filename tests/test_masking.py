"""Tokens and keys of the user appear nowhere: not on the screen, not in the run's folder, not where something goes wrong."""

import json
import traceback
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from commands import command
from fastapi.testclient import TestClient

from weitiao.decide import members
from weitiao.decide.members import Outcome
from weitiao.errors import DamagedError, DataError, NetworkError
from weitiao.inference import predict
from weitiao.masking import masked
from weitiao.run import Run
from weitiao.watch.app import make_watch

pytestmark = pytest.mark.slow  # whole runs of the program

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
    finetune = import_module("weitiao.finetune")
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


def test_no_command_that_chooses_or_shows_tells_one(config, tmp_path, monkeypatch):
    """The commands around a run: what they say where they succeed, where a word of theirs is a secret, and where their work fails. Those
    that start others as processes get answers in their place; what such a process said of its failure is passed on."""
    run, runs, said = tmp_path / "runs" / "r", tmp_path / "runs", []
    with monkeypatch.context() as patch:
        patch.setattr(import_module("weitiao.finetune"), "train_model", lambda *_: (_ for _ in ()).throw(RuntimeError(" ".join(ALL))))
        command("train", config, "name=failed", "-q")
    command("train", config, "-q")
    command("train", config, "-q", "name=r2")
    for options in ([], ["--json"]):
        for line in (
            ["runs", runs], ["runs", WRITTEN[0]], ["report", runs / "failed"], ["probe", run], ["probe", WRITTEN[1]],
            ["probe", runs / "failed"],
            ["baselines", config, "--simple", "-q", "-o", tmp_path / "baselines"], ["baselines", config, f"model={WRITTEN[2]}"],
            ["baselines", WRITTEN[5]], ["baselines", config, "-o", f"{tmp_path}/none/{WRITTEN[4]}", f"data.train={WRITTEN[0]}"],
            ["compare", run, runs / "r2"], ["compare", run], ["compare", run, WRITTEN[0]], ["compare", config, "--methods", WRITTEN[4]],
            ["compare", "--ranks", WRITTEN[5]], ["compare", config, "--curve", "--sizes", WRITTEN[4]], ["compare", run, runs / "failed"],
            ["compare", config, f"name={WRITTEN[1]}"], ["tune", WRITTEN[0]], ["tune", config, f"data.validation={WRITTEN[2]}"],
            ["tune", config, "--plan", WRITTEN[4]], ["tune", config, "--trials", WRITTEN[5]], ["auto", WRITTEN[0]],
            ["auto", WRITTEN[4], "--budget", "9s"], ["auto", "builtin", "--budget", WRITTEN[4]],
            ["auto", "builtin", "--model", WRITTEN[1], "--out", runs / "auto"], ["watch", WRITTEN[0]],
            ["watch", runs, "--listen", WRITTEN[4]], ["watch", runs, "--port", WRITTEN[5]], ["evaluate", run, "--data", WRITTEN[0]],
            ["predict", run, "--out", WRITTEN[0], "x"],
        ):  # fmt: skip
            result = command(*line, *([] if line[0] == "watch" else options))
            assert result.code in (0, 2), (line, result.err)
            said.append(result.out + result.err)
    error = {"type": "UserError", "where": ALL[6], "cause": " ".join(ALL), "remedy": ALL[9], "message": " ".join(ALL)}
    monkeypatch.setattr(members, "Job", lambda *_: None)
    for code in (1, 2):
        monkeypatch.setattr(members, "finish", lambda jobs, _watch=None, code=code: [Outcome(code, {"error": error}) for _ in jobs])
        for line in (["compare", config], ["auto", "builtin", "--out", runs / "auto"], ["tune", config, "--out", runs / f"tune{code}"]):
            result = command(*line, "-q")
            assert result.code in (1, 2), (line, result.err)
            said.append(result.out + result.err)
    shown = [text for text in said if "CANARY" in text]
    assert not shown, shown[0]
    written = files(tmp_path)
    assert "CANARY" not in written, [line for line in written.splitlines() if "CANARY" in line][:3]


def test_a_notebook_shows_none(config, tmp_path, monkeypatch):
    """What a cell shows: a run that failed, and the message of an error that nobody caught."""
    monkeypatch.setattr(import_module("weitiao.finetune"), "train_model", lambda *_: (_ for _ in ()).throw(RuntimeError(" ".join(ALL))))
    command("train", config, "-q")
    run = Run.open(tmp_path / "runs" / "r")
    assert run._repr_html_() == f"<p>{run.path}: failed</p>"
    with pytest.raises(DataError) as caught:
        predict(WRITTEN[0], ["下雨"])
    errors = (caught.value, NetworkError("hub", " ".join(ALL), ALL[6]), DamagedError(Path(WRITTEN[0]), WRITTEN[4]))
    for error in errors:
        assert "CANARY" not in "".join(traceback.format_exception_only(error))
        assert "***" in str(error)


def test_the_page_of_runs_shows_none(config, tmp_path):
    """Every path that reads, on a run that failed with secrets in its words, and every refusal to start one."""
    command("train", config, "-q")
    run = Run.open(tmp_path / "runs" / "r")
    run.end("failed", RuntimeError(" ".join(ALL)))
    watch = make_watch(tmp_path / "runs", tmp_path, "t" * 32, "127.0.0.1", 8642)
    client = TestClient(watch.app, base_url="http://127.0.0.1:8642", headers={"Authorization": "Bearer " + "t" * 32})
    (entry,) = client.post("/api/poll", json={}).json()["runs"]
    answers = [
        client.get(f"/api/runs/{entry['id']}/{part}") for part in ("evaluations", "predictions", "data", "settings", "log", "report")
    ]
    answers.append(client.post("/api/poll", json={"curves": [{"id": entry["id"]}]}))
    for text in ALL:
        for settings in ({"name": text}, {"data": {"train": text}}, {"model": text}, {text: 1}):
            answers += [client.post(path, json={"settings": settings}) for path in ("/api/preview", "/api/runs")]
    shown = [answer.text for answer in answers if "CANARY" in answer.text]
    assert not shown, shown[0]
    assert all(answer.status_code in (200, 404, 409) for answer in answers)


def test_the_log_says_what_happened(config, tmp_path, monkeypatch):
    finetune = import_module("weitiao.finetune")
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
