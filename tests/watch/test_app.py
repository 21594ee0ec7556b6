"""What the page is told, and what it can have done."""

import json
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from weitiao.config import load_config
from weitiao.watch.serve import bind


def test_the_list_shows_state_and_score(client):
    runs = client.post("/api/poll", json={}).json()["runs"]
    assert [run["name"] for run in runs] == ["two", "one"]  # the newest first
    assert runs[0]["state"] == "finished"
    assert runs[0]["score"] == {"name": "accuracy", "value": 0.75, "low": 0.5, "high": 0.9, "n": 8}


def test_several_runs_come_at_once_and_then_only_what_is_new(client, ids):
    wanted = [{"id": run} for run in ids.values()]
    curves = client.post("/api/poll", json={"curves": wanted}).json()["curves"]
    assert curves.keys() == set(ids.values())
    assert len(curves[ids["one"]]["series"]["train/loss"]) == 50
    again = client.post("/api/poll", json={"curves": [{"id": run, "cursor": curves[run]["cursor"]} for run in curves]}).json()["curves"]
    assert all(part["series"] == {} for part in again.values())


def test_predictions_come_with_the_surest_errors_first(client, ids):
    part = client.get(f"/api/runs/{ids['one']}/predictions", params={"number": 3}).json()
    assert (part["n"], part["wrong"], part["chosen"]) == (8, 2, 8)
    assert [row["id"] for row in part["rows"]] == ["test:4", "test:5", "test:0"]
    assert client.get(f"/api/runs/{ids['one']}/predictions", params={"wrong": True}).json()["chosen"] == 2


def test_each_part_of_a_run(client, ids):
    base = f"/api/runs/{ids['one']}"
    assert client.get(f"{base}/evaluations").json()["after"]["confusion_matrix"]["rows"] == [[4, 0], [2, 2]]
    data = client.get(f"{base}/data").json()
    assert data["ledger"]["files"][0]["used"] == 8
    assert len(data["ledger"]["files"][0]["rejected_rows"]) == 20
    assert client.get(f"{base}/settings").json()["settings"] == {"name": "one", "seed": 0, "optim.learning_rate": 0.1}
    report = client.get(f"{base}/report")
    assert "the report" in report.text
    assert report.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert client.get("/api/runs/" + "0" * 16 + "/data").status_code == 404
    assert client.get("/api/runs/xyz/data").status_code == 422


def test_a_damaged_folder_is_shown_as_far_as_it_goes(client, root, ids):
    for name in ("evaluation/after.json", "data/audit.json", "config.yaml", "metrics.jsonl", "evaluation/predictions-after.jsonl"):
        (root / "one" / name).write_bytes(b'\xff{"a": NaN, "\\ud800": [\n{"prediction": "\\ud800", "probability": null}\n')
    for path in ("evaluations", "data", "settings", "predictions", "log", "report"):
        assert client.get(f"/api/runs/{ids['one']}/{path}").status_code == 200, path
    assert client.post("/api/poll", json={"curves": [{"id": ids["one"]}]}).status_code == 200


def test_the_yaml_of_the_form_is_the_configuration(client, tmp_path):
    answer = client.post("/api/preview", json={"settings": {"method": {"kind": "lora", "rank": 4}, "train": {"epochs": 1}}}).json()
    path = tmp_path / "c.yaml"
    path.write_text(answer["yaml"])
    config = load_config(path)
    assert (config.method.rank, config.train.epochs) == (4, 1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"train": {"epochs": -1}}, "train.epochs"),
        ({"optim": {"learning_rat": 1}}, "learning_rate"),
        ({"runs": "/tmp"}, "runs"),
        ({"data": {"train": "/etc/passwd"}}, "/etc/passwd"),
        ({"data": {"train": "../outside.csv"}}, "outside.csv"),
        ({"data": {"train": "builtin", "test": "/etc/hosts"}}, "/etc/hosts"),
        ({"data": {"train": "link.csv"}}, "link.csv"),
        ({"model": {"path": "/root"}}, "/root"),
        ({"model": "../model"}, "../model"),
    ],
)
def test_what_cannot_be_started_is_said(client, tmp_path, settings, said):
    (tmp_path / "outside.csv").write_text("text,label\n")
    (tmp_path / "data" / "link.csv").symlink_to(tmp_path / "outside.csv")
    assert said in client.post("/api/preview", json={"settings": settings}).json()["problem"]
    assert client.post("/api/runs", json={"settings": settings}).status_code == 409
    assert not (tmp_path / "runs" / ".watch").exists()


def test_files_in_the_data_folder_and_names_on_a_hub_are_fine(client, tmp_path):
    (tmp_path / "data" / "mine.csv").write_text("text,label\na,b\n")
    for settings in ({"data": {"train": "mine.csv"}}, {"data": {"train": "ms://owner/name"}}, {"model": "Qwen/Qwen2-0.5B"}):
        assert "yaml" in client.post("/api/preview", json={"settings": settings}).json()


def test_a_run_is_started_as_a_command_with_a_file(client, root, monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda words, **given: started.append((words, given)) or Done())
    answer = client.post("/api/runs", json={"settings": {"name": "three", "train": {"epochs": 1}}})
    assert answer.json() == {"name": "three"}
    ((words, given),) = started
    assert words[:3] == [sys.executable, "-m", "weitiao"]
    assert words[-2:] == ["train", str(root / ".watch" / "three.yaml")]
    assert given.get("shell") is None
    config = load_config(root / ".watch" / "three.yaml")
    assert (config.name, config.runs, config.train.epochs) == ("three", str(root), 1)
    assert client.post("/api/runs", json={"settings": {"name": "one"}}).status_code == 409  # exists


def test_an_interrupted_run_is_resumed_by_its_folder(client, root, ids, monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda words, **_: started.append(words) or Done())
    assert client.post(f"/api/runs/{ids['one']}/resume").status_code == 200
    assert started[0][-3:] == ["train", "--resume", str(root / "one")]


class Done:
    def poll(self):
        return 0


def running(root, process):
    """The run one at work in a process."""
    path = root / "one" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "running", "process": process}))
    time.sleep(1.05)  # seconds for which a listing is kept


@pytest.mark.slow
def test_a_run_of_another_terminal_is_stopped(client, root, ids):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        process = {"host": socket.gethostname(), "pid": other.pid, "started": psutil.Process(other.pid).create_time()}
        running(root, process | {"started": 1.0})  # the number now belongs to another process
        assert client.post(f"/api/runs/{ids['one']}/stop").status_code == 409
        running(root, process | {"host": "elsewhere"})
        assert client.post(f"/api/runs/{ids['one']}/stop").status_code == 409
        assert other.poll() is None
        running(root, process)
        assert client.post(f"/api/runs/{ids['one']}/stop").status_code == 200
        assert other.wait(10) == -signal.SIGTERM
    finally:
        other.kill()
        other.wait()
    assert client.post(f"/api/runs/{ids['one']}/stop").status_code == 409


@pytest.mark.slow
@pytest.mark.parametrize("process", [{"pid": 2**22 + 5, "started": 1.0}, {"pid": "x"}, {"pid": 10**30, "started": 1.0}, {}])
def test_a_run_whose_process_died_is_shown_as_stopped(client, root, process):
    states = lambda: {run["name"]: run["state"] for run in client.post("/api/poll", json={}).json()["runs"]}
    running(root, {"host": socket.gethostname(), **process})
    assert states()["one"] == "stopped"
    running(root, {"host": "elsewhere", **process})
    assert states()["one"] == "running"  # on another machine: nobody here knows


def test_the_page_is_one_file_without_outside_resources(client):
    page = client.get("/").text
    assert "{{" not in page
    assert not [
        word for word in ("http://", "https://", "src=", "@import", "//cdn") if word in page.replace("http://www.w3.org/2000/svg", "")
    ]
    assert not [word for word in (" onclick=", " style=", "innerHTML", "eval(", "document.write") if word in page]


def test_an_answer_does_not_wait_for_the_readers_acknowledgement():
    with bind("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()), listening.accept()[0] as connection:
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
