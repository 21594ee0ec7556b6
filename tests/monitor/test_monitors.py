"""Monitors that fail, hang or are missing leave the run alone; those that work show it once. Each is a real process beside a run folder."""

import json
import os
import socket
import time

import pytest
from swanlab_server import cloud

from weitiao.config import build_config
from weitiao.language import use
from weitiao.monitor import start
from weitiao.monitor.start import Monitors
from weitiao.progress import Reporter
from weitiao.run import Run


@pytest.fixture(autouse=True)
def _english_and_nobody_logged_in(monkeypatch, tmp_path):
    use("en")
    for name in [name for name in os.environ if name.startswith("SWANLAB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SWANLAB_ROOT", str(tmp_path / "no-login"))
    yield
    use(None)


def watched(tmp_path, capsys, monkeypatch, monitor, lines, name="one", seconds=60.0, seconds_to_wait=60.0):
    """A run folder that gets some lines while its monitors follow; what was said, how long the end took, and the folder."""
    monkeypatch.setattr(start, "SECONDS_TO_WAIT", seconds_to_wait)
    path = tmp_path / "runs" / name
    config = build_config({"name": name, "runs": str(tmp_path / "runs"), "monitor": monitor}, "here")
    run = Run.open(path).locked() if path.exists() else Run.create(config)
    run.update(state="running")
    begin = time.monotonic()
    with Monitors(run, config.monitor, Reporter()) as monitors:
        started = time.monotonic() - begin
        for line in lines:
            run.log(**line)
        run.end("finished")
        ending = time.monotonic()
    took = time.monotonic() - ending
    for child in monitors.children.values():
        if child.poll() is None:
            child.kill()
    assert started < 2.0  # seconds: starting a process, not waiting for it
    assert seconds > took
    return capsys.readouterr().err, run


STEPS = [{"type": "step", "step": i, "epoch": i / 4, "loss": 2.0 / i, "learning_rate": 1e-4} for i in (1, 2, 3, 4)]


def shadow(tmp_path, monkeypatch, **modules):
    """Modules that stand before the installed ones in the monitors' processes."""
    folder = tmp_path / "shadow"
    folder.mkdir()
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def note(run, name):
    return json.loads((run.path / "monitor" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ["swanlab", "tensorboard"])
def test_a_missing_package_is_said(tmp_path, monkeypatch, capsys, name):
    shadow(tmp_path, monkeypatch, **{name: "raise ModuleNotFoundError('No module named it')"})
    said, run = watched(tmp_path, capsys, monkeypatch, {name: "local" if name == "swanlab" else True}, STEPS)
    assert "failed" in said
    assert "No module named it" in said
    assert note(run, name)["state"] == "failed"
    assert run.record["state"] == "finished"


FULL = """
class Table: ...
class _Run:
    url, dir, id = "", "/nowhere", "x"
    def log(self, values, step): raise OSError(28, "No space left on device")
class Settings:
    api_key = None
    def __init__(self, **_): ...
    Terminal = Probe = dict
def init(**_): return _Run()
"""


def test_a_full_disk_under_the_board_is_said(tmp_path, monkeypatch, capsys):
    shadow(tmp_path, monkeypatch, swanlab=FULL)
    said, run = watched(tmp_path, capsys, monkeypatch, {"swanlab": "local"}, STEPS)
    assert "No space left on device" in said
    assert len(run.read_lines("metrics.jsonl")) == 4


def test_a_folder_that_cannot_be_made_is_said(tmp_path, capsys):
    config = build_config({"name": "one", "runs": str(tmp_path / "runs"), "monitor": {"tensorboard": True}}, "here")
    run = Run.create(config)
    (run.path / "monitor").write_text("in the way")
    with Monitors(run, config.monitor, Reporter()) as monitors:
        assert monitors.children == {}
    assert "TensorBoard" in capsys.readouterr().err
    run.end("finished")


def test_a_server_that_hangs_costs_the_end_of_the_run_no_more_than_the_wait(tmp_path, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("SWANLAB_API_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("SWANLAB_API_KEY", "k" * 21)
        said, run = watched(tmp_path, capsys, monkeypatch, {"swanlab": "cloud"}, STEPS, seconds=4.0, seconds_to_wait=1.0)
    assert "goes on by itself" in said
    assert run.record["state"] == "finished"


NO_NETWORK = """
import pathlib, socket
def _refused(*a, **k):
    with open({log!r}, "a") as file: print(a, file=file)
    raise OSError("a network was tried")
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = socket.socket.connect = _refused
"""


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["auto", "cloud", "offline", "local"])
def test_without_a_key_no_network_is_tried(tmp_path, monkeypatch, capsys, wanted):
    log = tmp_path / "network.txt"
    shadow(tmp_path, monkeypatch, sitecustomize=NO_NETWORK.format(log=str(log)))
    _, run = watched(tmp_path, capsys, monkeypatch, {"swanlab": wanted}, STEPS)
    assert note(run, "swanlab")["mode"] == ("local" if wanted == "local" else "offline")
    assert note(run, "swanlab")["shown"] == {"step": 4}
    assert not log.exists(), log.read_text()


@pytest.mark.slow
def test_the_cloud_gets_every_step_once_also_when_the_run_goes_on(tmp_path, monkeypatch, capsys):
    with cloud() as server:
        monkeypatch.setenv("SWANLAB_API_HOST", server.url)
        monkeypatch.setenv("SWANLAB_API_KEY", "k" * 21)
        said, run = watched(tmp_path, capsys, monkeypatch, {"swanlab": "cloud"}, STEPS[:2])
        assert "SwanLab (cloud): http" in said
        watched(tmp_path, capsys, monkeypatch, {"swanlab": "cloud"}, STEPS[2:])
        assert server.experiments == {run.record["id"]: 2}
        assert server.scalars("train/loss") == [(1, 2.0), (2, 1.0), (3, pytest.approx(2 / 3)), (4, 0.5)]
        assert server.states == ["FINISHED", "FINISHED"]
        assert server.profile["config"]["optim.weight_decay"]["value"] == 0.01
        assert "requirements" not in server.profile  # the machine's packages are nobody's business


@pytest.mark.slow
@pytest.mark.parametrize("samples", [3, 0])
def test_the_cloud_gets_the_matrix_and_some_samples(tmp_path, monkeypatch, capsys, samples):
    """As charts, whose files the client uploads. No text leaves the machine where no sample may."""
    evaluation = tmp_path / "runs" / "one" / "evaluation"
    one = {"label": "体育", "probability": 0.9}
    rows = [one | {"id": f"test:{i}", "text": f"文本{i}", "prediction": ("体育", "天气")[i % 2], "correct": i % 2 == 0} for i in range(4)]
    after = {"type": "evaluation", "step": 4, "when": "after", "accuracy": 0.5}

    def lines():
        yield from STEPS
        matrix = {"labels": ["体育", "天气"], "rows": [[2, 2], [0, 7]]}
        (evaluation / "after.json").write_text(json.dumps({"confusion_matrix": matrix}))
        (evaluation / "predictions-after.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        yield after

    with cloud() as server:
        monkeypatch.setenv("SWANLAB_API_HOST", server.url)
        monkeypatch.setenv("SWANLAB_API_KEY", "k" * 21)
        watched(tmp_path, capsys, monkeypatch, {"swanlab": "cloud", "samples": samples}, lines())
        assert server.scalars("test/accuracy") == [(4, 0.5)]
        shown = {
            metric["key"]: metric for metric in server.metrics if metric["key"].startswith("test/") and metric["key"] != "test/accuracy"
        }
        assert set(shown) == {"test/confusion_matrix", "test/samples"} if samples else {"test/confusion_matrix"}
        charts = {key: json.loads(server.files[path]) for key, metric in shown.items() for path in metric["data"]}
        told = json.dumps(list(charts.values()), ensure_ascii=False)
        assert "7" in told
        assert ("文本1" in told) == bool(samples)


def test_tensorboard_reads_what_was_written(tmp_path, capsys, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    said, run = watched(tmp_path, capsys, monkeypatch, {"tensorboard": True}, STEPS)
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 2.0), (2, 1.0), (3, pytest.approx(2 / 3)), (4, 0.5)]
    assert f"TensorBoard: {run.path / 'tensorboard'}" in said


def test_no_monitor_no_process(tmp_path, capsys, monkeypatch):
    said, run = watched(tmp_path, capsys, monkeypatch, {}, STEPS)
    assert said == ""
    assert not (run.path / "monitor").exists()
