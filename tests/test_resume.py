"""Going on with an interrupted run: what is allowed, what is refused, and that the result is that of an uninterrupted one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cut import Cut, cut_short, log, weights
from safetensors.torch import load_file

from weitiao import language, storage
from weitiao.config import RunConfig, load_config
from weitiao.config_training import CheckpointConfig
from weitiao.errors import ConfigError, DamagedError, DataError, NonFiniteError
from weitiao.finetune import finetune
from weitiao.interrupts import StopRequest
from weitiao.model import checkpoint
from weitiao.progress import Reporter
from weitiao.resume import changed_settings, put_aside
from weitiao.run import Run, config_to_train

pytestmark = pytest.mark.slow  # whole runs of the program

training, saves = sys.modules["weitiao.training"], sys.modules["weitiao.saves"]


@pytest.fixture(autouse=True)
def _english():
    language.use("en")
    yield
    language.use(None)


@pytest.fixture
def config(tiny_model: Path, small_csv: Path, tmp_path: Path) -> RunConfig:
    data = tmp_path / "data.csv"
    shutil.copy(small_csv, data)
    return RunConfig.model_validate(
        {
            "name": "r", "runs": str(tmp_path / "runs"), "model": {"path": str(tiny_model), "precision": "bfloat16", "device": "cpu"},
            "data": {"train": str(data), "validation_share": 0.2, "test_share": 0.2}, "method": {"kind": "lora", "rank": 4, "dropout": 0.2},
            "train": {"epochs": 2, "batch_rows": 8, "micro_batch_tokens": 300, "checkpoint": {"every_steps": 2}},
            "optim": {"learning_rate": 1e-2}, "evaluate": {"baselines": False},
        }
    )  # fmt: skip


class _Heard(Reporter):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    warn = say


@pytest.mark.parametrize("after", [1, 2, 5, 9, 10])
def test_the_result_is_that_of_an_uninterrupted_run(config, monkeypatch, after):
    whole = finetune(config.model_copy(update={"name": "whole"})).path
    run = cut_short(config, monkeypatch, after)
    assert json.loads((run / "run.json").read_text())["state"] == "failed"
    assert not (run / "model").exists()
    done = finetune(config)
    assert done.path == run
    assert done.record["state"] == "finished"
    assert [entry["after"] for entry in done.record["resumed"]] == ["failed"]
    assert weights(run) == weights(whole)
    assert log(run) == log(whole)
    assert done.record["training"]["tokens"] == Run.open(whole).record["training"]["tokens"]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == sorted(p.name for p in (whole / "checkpoints").iterdir())


@pytest.mark.parametrize("last_blocks", [0, 1])
def test_a_kept_frozen_part_goes_on_to_the_same_result(config, last_blocks, monkeypatch):
    config = RunConfig.model_validate(config.model_dump() | {"method": {"kind": "head", "last_blocks": last_blocks}})
    kept = []
    real = training.keep_frozen_states
    monkeypatch.setattr(training, "keep_frozen_states", lambda *arguments: kept.append(real(*arguments)))
    whole = finetune(config.model_copy(update={"name": "whole"})).path
    run = cut_short(config, monkeypatch)
    assert finetune(config).record["state"] == "finished"
    assert len(kept) == 3
    assert storage.sha256(run / "model" / "model.safetensors") == storage.sha256(whole / "model" / "model.safetensors")
    assert log(run) == log(whole)


def test_chats_go_on_to_the_same_result(config, tmp_path, monkeypatch):
    """Task `generation`: two exchanges a row, read from a folder with a file for each split."""
    folder = tmp_path / "chats"
    folder.mkdir()
    for split, size in (("train", 24), ("dev", 8), ("test", 8)):
        rows = [
            {
                "messages": [
                    {"role": role, "content": f"{split}{text}{i % 7}"}
                    for role, text in zip(("user", "assistant") * 2, "问答又好", strict=True)
                ]
            }
            for i in range(size)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    tree = config.model_dump() | {"task": "generation", "data": {"train": str(folder)}}
    config = RunConfig.model_validate(tree)
    whole = finetune(config.model_copy(update={"name": "whole"})).path
    run = cut_short(config, monkeypatch)
    before = (run / "evaluation" / "before.json").stat().st_mtime_ns
    done = finetune(config)
    assert done.record["state"] == "finished"
    assert (run / "evaluation" / "before.json").stat().st_mtime_ns == before
    assert weights(run) == weights(whole)
    assert log(run) == log(whole)
    predictions = [(path / "evaluation" / "predictions-after.jsonl").read_bytes() for path in (run, whole)]
    assert predictions[0] == predictions[1]
    assert [line["metrics"]["loss"]["n"] for line in [done.read("evaluation/after.json")]] == [8]


def test_any_changed_file_of_a_folder_is_named(config, tmp_path, monkeypatch):
    folder = tmp_path / "shards"
    folder.mkdir()
    header, *rows = Path(config.data.train).read_text(encoding="utf-8").splitlines()
    for number, part in enumerate((rows[::2], rows[1::2])):
        (folder / f"train-{number:05}-of-00002.csv").write_text("\n".join([header, *part]) + "\n", encoding="utf-8")
    config = config.model_copy(update={"data": config.data.model_copy(update={"train": str(folder)})})
    cut_short(config, monkeypatch)
    second = folder / "train-00001-of-00002.csv"
    second.write_text(second.read_text(encoding="utf-8") + "新的一条，股票,财经\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="train-00001-of-00002"):
        finetune(config)


def test_what_was_done_is_not_done_again(config, monkeypatch):
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"baselines": True})})
    run = cut_short(config, monkeypatch, 7)
    before = (run / "evaluation" / "before.json").stat().st_mtime_ns
    simple = (run / "evaluation" / "baselines.json").stat().st_mtime_ns
    seen = []
    real = training.train

    def train(model, objective, plan, optimizer, first_step=0):
        seen.append(first_step)
        return real(model, objective, plan, optimizer, first_step)

    monkeypatch.setattr(training, "train", train)
    heard = _Heard()
    finetune(config, heard)
    assert seen == [6]
    assert "going on from the checkpoint of step 6" in heard.said
    assert (run / "evaluation" / "before.json").stat().st_mtime_ns == before
    assert (run / "evaluation" / "baselines.json").stat().st_mtime_ns == simple
    assert {pair["b"] for pair in Run.open(run).read("evaluation/comparison.json")["pairs"]} > {"before"}


def test_patience_that_had_run_out_is_remembered(config, monkeypatch):
    patient = config.model_copy(update={"train": config.train.model_copy(update={"patience": 1, "validate_every": 0.2, "epochs": 20.0})})
    whole = finetune(patient.model_copy(update={"name": "whole"}))
    assert whole.record["training"]["stopped_early"]
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["weitiao.finetune"], "publish", lambda *_: (_ for _ in ()).throw(Cut("cut")))
        with pytest.raises(Cut):
            finetune(patient)
    done = finetune(patient)
    assert done.record["training"] | {"seconds": 0, "tokens_per_second": 0, "peak_memory_bytes": 0, "checkpoints": 0} == whole.record[
        "training"
    ] | {"seconds": 0, "tokens_per_second": 0, "peak_memory_bytes": 0, "checkpoints": 0}
    assert weights(done.path) == weights(whole.path)


def test_a_damaged_checkpoint_is_reported_and_an_earlier_one_used(config, monkeypatch):
    whole = finetune(config.model_copy(update={"name": "whole"})).path
    run = cut_short(config, monkeypatch, 7)
    names = sorted(p.name for p in (run / "checkpoints").glob("step-*"))
    assert {"step-4", "step-6"} <= set(names)
    moments = run / "checkpoints" / "step-6" / "moments.safetensors"
    content = bytearray(moments.read_bytes())
    content[-1] ^= 1
    moments.write_bytes(content)
    heard = _Heard()
    finetune(config, heard)
    assert any("step-6/moments.safetensors" in line and "damaged" in line for line in heard.said)
    assert "going on from the checkpoint of step 4" in heard.said
    assert weights(run) == weights(whole)


def test_a_changed_setting_is_refused_by_name(config, monkeypatch):
    cut_short(config, monkeypatch)
    changed = config.model_copy(update={"optim": config.optim.model_copy(update={"learning_rate": 0.02}), "seed": 3})
    with pytest.raises(ConfigError) as caught:
        finetune(changed)
    assert "optim.learning_rate: 0.01 → 0.02" in caught.value.cause
    assert "seed: 0 → 3" in caught.value.cause
    assert "--allow" in caught.value.remedy
    run = finetune(changed, allow_changes=True)
    assert run.record["resumed"][0]["changes"] == {"optim.learning_rate": [0.01, 0.02], "seed": [0, 3]}
    assert load_config(run.path / "config.yaml").seed == 3


def test_changed_data_are_refused(config, monkeypatch):
    cut_short(config, monkeypatch)
    path = Path(config.data.train)
    path.write_text(path.read_text(encoding="utf-8") + "新的一条，股票,财经\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"data\.train"):
        finetune(config)


def test_settings_that_touch_no_number_may_change(config):
    train = config.train.model_copy(update={"checkpoint": config.train.checkpoint.model_copy(update={"every_minutes": 1.0})})
    report = config.report.model_copy(update={"language": "en"})
    assert changed_settings(config, config.model_copy(update={"train": train, "report": report, "name": "x", "runs": "y"})) == {}


def test_a_finished_run_is_not_touched(config):
    run = finetune(config)
    before = {p: p.stat().st_mtime_ns for p in run.path.rglob("*")}
    with pytest.raises(ConfigError, match="finished already") as caught:
        finetune(config)
    assert "--fresh" in caught.value.remedy
    assert {p: p.stat().st_mtime_ns for p in run.path.rglob("*")} == before


def test_fresh_keeps_the_former_folder(config, monkeypatch):
    run = cut_short(config, monkeypatch)
    former = (run / "run.json").read_bytes()
    done = finetune(config, fresh=True)
    assert done.record["state"] == "finished"
    assert "resumed" not in done.record
    (aside,) = run.parent.glob("r.former-*")
    assert (aside / "run.json").read_bytes() == former


def test_a_former_folder_always_finds_a_free_name(config, monkeypatch):
    """Even if a hundred runs were put aside within this second."""

    class Noon(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 1, 12, 0, 0, tzinfo=tz)

    monkeypatch.setattr("weitiao.resume.datetime", Noon)
    run = Run.create(config)
    run.end("failed")
    taken = ["r.former-20260101-120000", *(f"r.former-20260101-120000-{number}" for number in range(2, 101))]
    for name in taken:
        run.path.with_name(name).mkdir()
    put_aside(run.path, Reporter(quiet=True))
    assert not run.path.exists()
    assert (run.path.with_name("r.former-20260101-120000-101") / "run.json").is_file()


def test_a_folder_that_is_no_run_is_left_alone(config):
    folder = Path(config.runs) / "r"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="no run folder"):
        finetune(config)
    with pytest.raises(DataError, match="not a run folder"):
        finetune(config, fresh=True)
    assert [p.name for p in folder.iterdir()] == ["mine.txt"]
    assert [p.name for p in folder.parent.iterdir()] == ["r"]


def test_two_processes_do_not_share_a_folder(config, monkeypatch):
    run = cut_short(config, monkeypatch)
    hold = "import sys; from weitiao.run import Run; run = Run.open(sys.argv[1]).locked(); print(1, flush=True); input()"
    holder = subprocess.Popen([sys.executable, "-c", hold, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        with pytest.raises(ConfigError, match="another process"):
            finetune(config)
    finally:
        holder.kill()
        holder.wait()
    assert finetune(config).record["state"] == "finished"  # one that died holds nothing


def test_files_named_from_the_working_folder_are_the_same_files_in_full(config, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run = cut_short(config.model_copy(update={"runs": "runs", "data": config.data.model_copy(update={"train": "data.csv"})}), monkeypatch)
    monkeypatch.chdir("/")
    done = finetune(config_to_train(None, [], tmp_path / run))
    assert [entry["changes"] for entry in done.record["resumed"]] == [{}]
    assert done.record["state"] == "finished"


def test_the_command_line_goes_on_with_a_folder(config, monkeypatch):
    run = cut_short(config, monkeypatch)
    same = config_to_train(None, [], run)
    assert changed_settings(config, same) == {}
    assert (same.name, Path(same.runs)) == ("r", run.parent.absolute())
    assert config_to_train(Path("seed=4"), ["train.epochs=3"], run).seed == 4
    with pytest.raises(ValueError, match="no configuration"):
        config_to_train(None, [])
    with pytest.raises(ValueError, match="takes no configuration file"):
        config_to_train(Path("my.yaml"), [], run)
    with pytest.raises(DataError):
        config_to_train(None, [], run / "data")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_end_and_saves(config, monkeypatch, number):
    whole = finetune(config.model_copy(update={"name": "whole"})).path
    with monkeypatch.context() as patch:
        real = training.train

        def train(*arguments, **settings):
            for step in real(*arguments, **settings):
                if step.number == 3:
                    os.kill(os.getpid(), number)
                yield step

        patch.setattr(training, "train", train)
        heard = _Heard()
        with pytest.raises(KeyboardInterrupt):
            finetune(config, heard)
    run = Path(config.runs) / "r"
    assert f"stopped after step 3, saved; to go on: weitiao train --resume {run}" in heard.said
    assert json.loads((run / "run.json").read_text())["state"] == "interrupted"
    assert (run / "checkpoints" / "step-3" / "moments.safetensors").is_file()
    finetune(config)
    assert weights(run) == weights(whole)
    assert log(run) == log(whole)


def test_a_second_ctrl_c_stops_at_once():
    former = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.made
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == former


def test_training_in_another_thread_leaves_signals_alone():
    found = []

    def work() -> None:
        with StopRequest() as stop:
            found.append(stop.made)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


# ------------------------------------------------------------------------------------------------------ saving in the background


class _SlowDisk(storage.Disk):
    """Writing tensors takes longer than a step, so that training would overtake it if nothing held it back."""

    def open(self, path, mode):
        if path.suffix == ".safetensors":
            time.sleep(0.1)
        return super().open(path, mode)


def all_saved(config: RunConfig, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The checkpoints that a run wrote, with a checksum of all that training needs of each."""
    # The end of a run would remove them.
    monkeypatch.setattr(sys.modules["weitiao.finetune"], "clear", lambda folder, _: folder.rename(folder.with_name("aside")))
    keep = {"train": config.train.model_copy(update={"checkpoint": CheckpointConfig(every_steps=1, keep=100)})}
    run = finetune(config.model_copy(update=keep | {"name": name})).path
    kept = [path for path in (run / "aside").iterdir() if path.is_dir()]
    return {path.name: storage.folder_sha256(path, ["weights.safetensors", "moments.safetensors"]) for path in kept}


def room(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let there be so many bytes of main memory for a copy."""
    monkeypatch.setattr(saves.Saves, "_room", lambda _: size)


@pytest.mark.parametrize("free", [0, 20_000, 1 << 40])  # no room for a copy, room for some tensors, and for all
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])  # float32: the optimiser's tensors are the model's own
def test_what_the_background_writes_is_what_was_there_after_the_step(config, monkeypatch, method, precision, free):
    room(monkeypatch, free)
    base = config.model_copy(update={"method": RunConfig(method=method).method})
    base = base.model_copy(update={"model": base.model.model_copy(update={"precision": precision})})
    whole = all_saved(base, "whole", monkeypatch)
    monkeypatch.setattr(saves, "BACKGROUND_BYTES", 0)
    monkeypatch.setattr(storage, "disk", _SlowDisk())
    assert all_saved(base, "background", monkeypatch) == whole
    assert len(whole) == 10


def at_step(monkeypatch: pytest.MonkeyPatch, number: int) -> threading.Event:
    """An event that is set when the training has made the step of that number."""
    stepped = threading.Event()
    real = training.train

    def train(*arguments, **settings):
        for step in real(*arguments, **settings):
            if step.number == number:
                stepped.set()
            yield step

    monkeypatch.setattr(training, "train", train)
    return stepped


@pytest.mark.parametrize(("free", "call"), [(0, "sync"), (1 << 40, "sync"), (1 << 40, "write")])
def test_training_goes_on_while_a_large_checkpoint_is_written(config, monkeypatch, free, call):
    """The first one's call waits for the step after it: nothing would ever end if the training waited for the call. Without room for a
    copy it does wait until the tensors are written."""
    monkeypatch.setattr(saves, "BACKGROUND_BYTES", 0)
    room(monkeypatch, free)
    stepped = at_step(monkeypatch, 3)
    overlapped = []

    class Disk(storage.Disk):
        def wait(self, name, file):
            if name == call and "step-2" in file.name and not overlapped:
                overlapped.append(stepped.wait(30))

        def write(self, file, data):
            self.wait("write", file)
            super().write(file, data)

        def sync(self, file):
            self.wait("sync", file)
            super().sync(file)

    monkeypatch.setattr(storage, "disk", Disk())
    run = finetune(config)
    assert overlapped == [True]
    saved = run.record["training"]["checkpoints"]
    assert saved["saved"] == 5
    assert 0 < saved["seconds"] < 10
    assert (saved["copied_bytes"] > 0) == (free > 0)
    error, peak = (run.record["estimate"][key] for key in ("error", "measured_peak_bytes"))
    assert error == (run.record["estimate"]["predicted_peak_bytes"] + saved["copied_bytes"]) / peak - 1


def test_the_last_tensors_are_copied_as_far_as_there_is_room():
    weights = {"a": torch.ones(10), "b": torch.ones(20)}
    moments = {"a.m": torch.ones(30), "b.m": torch.ones(40)}
    state = saves._State(1, weights, {}, moments)
    for room, left, size in ((0, 4, 0), (159, 4, 0), (160, 3, 160), (279, 3, 160), (280, 2, 280), (360, 1, 360), (1 << 40, 0, 400)):
        apart, still, copied = state.copied(room)
        assert (still, copied) == (left, size)
        pairs = [*zip(weights.values(), apart.weights.values(), strict=True), *zip(moments.values(), apart.moments.values(), strict=True)]
        assert [own is other for own, other in pairs] == [place < left for place in range(4)]
        assert all(torch.equal(own, other) for own, other in pairs)
        assert (list(apart.weights), list(apart.moments)) == (list(weights), list(moments))  # what is written is the same


def test_room_for_a_copy_is_what_the_run_will_not_need(tmp_path, monkeypatch):
    rss = 3 << 30
    monkeypatch.setattr(saves.psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=rss)))
    monkeypatch.setattr(saves, "memory", lambda: (24 << 30, 10 << 30))
    kept = saves.Saves(tmp_path, CheckpointConfig(), {}, Reporter(quiet=True), 8 << 30)
    assert kept._room() == (10 - 5 - 1) << 30
    kept.most_bytes = 24 << 30
    assert kept._room() == 0


def test_a_copy_that_finds_no_memory_is_done_without(config, monkeypatch):
    monkeypatch.setattr(saves, "BACKGROUND_BYTES", 0)
    room(monkeypatch, 1 << 40)

    def copied(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")

    whole = weights(finetune(config.model_copy(update={"name": "whole"})).path)
    monkeypatch.setattr(saves._State, "copied", copied)
    run = finetune(config)
    assert run.record["training"]["checkpoints"]["saved"] == 5
    assert weights(run.path) == whole


@pytest.mark.parametrize("after", [1, 2, 3, 7])
def test_a_run_saved_in_the_background_goes_on_to_the_same_result(config, monkeypatch, after):
    whole = finetune(config.model_copy(update={"name": "whole"})).path
    monkeypatch.setattr(saves, "BACKGROUND_BYTES", 0)
    monkeypatch.setattr(storage, "disk", _SlowDisk())
    run = cut_short(config, monkeypatch, after)
    assert not list((run / "checkpoints").glob(".*"))  # what ends a training waits for the save in hand
    assert len(list((run / "checkpoints").iterdir())) >= after // 2
    finetune(config)
    assert weights(run) == weights(whole)
    assert log(run) == log(whole)


def test_a_failed_save_in_the_background_is_told_in_the_language_of_the_run(config, monkeypatch):
    monkeypatch.setattr(saves, "BACKGROUND_BYTES", 0)
    monkeypatch.setattr(saves.storage, "free_bytes", lambda _: 1000)
    monkeypatch.setattr(storage, "require_space", lambda *_: None)
    language.use("zh")
    heard = _Heard()
    assert finetune(config, heard).record["state"] == "finished"
    assert any("检查点 step-2 没有写成" in line for line in heard.said)


def test_weights_that_are_not_finite_end_the_run_from_the_background_too(config, monkeypatch):
    monkeypatch.setattr(saves, "BACKGROUND_BYTES", 0)
    real = training.train

    def train(model, objective, plan, optimizer, first=0):
        for step in real(model, objective, plan, optimizer, first):
            if step.number == 10:
                optimizer.adamw.state[optimizer.masters[0]]["exp_avg"].view(-1)[0] = float("nan")
            yield step

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(NonFiniteError, match="exp_avg"):
        finetune(config)
    assert not (Path(config.runs) / "r" / "model").exists()


# ------------------------------------------------------------------------------------------------------- checkpoint files


def test_tensors_are_what_the_library_reads(tmp_path):
    tensors = {
        "字.a": torch.randn(3, 5).to(torch.bfloat16), "b": torch.randn(7, 2).T, "empty": torch.zeros(0, 4), "scalar": torch.tensor(2.5),
        "half": torch.randn(3).half(), "double": torch.randn(2).double(),
    }  # fmt: skip
    checkpoint.write_tensors(tmp_path / "x.safetensors", tensors)
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in tensors.items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_checkpoint_of_weights_that_are_not_finite(tmp_path, value):
    with pytest.raises(NonFiniteError, match=r"a\.weight"):
        checkpoint.save_checkpoint(tmp_path / "step-1", {"a.weight": torch.tensor([1.0, value])}, {"step": 1})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_costs_the_checkpoint_only(config, monkeypatch):
    whole = finetune(config.model_copy(update={"name": "whole"})).path
    heard = _Heard()
    monkeypatch.setattr(saves.storage, "free_bytes", lambda _: 1000)
    monkeypatch.setattr(storage, "require_space", lambda *_: None)
    done = finetune(config, heard)
    assert done.record["state"] == "finished"
    assert weights(done.path) == weights(whole)
    assert not list((done.path / "checkpoints").iterdir())
    assert sum("was not written: No space left on device" in line for line in heard.said) >= 1


class Forgetful(storage.Disk):
    """Takes the optimiser's tensors without an error, and keeps one bit of them wrong."""

    def write(self, file, data):
        view = bytearray(memoryview(data).cast("B"))
        if Path(file.name).name == checkpoint.MOMENTS and len(view) > 1000:
            view[500] ^= 1
        super().write(file, view)


def test_what_the_disk_keeps_wrong_is_no_checkpoint(config, monkeypatch):
    whole = finetune(config.model_copy(update={"name": "whole"})).path
    heard = _Heard()
    monkeypatch.setattr(storage, "disk", Forgetful())
    done = finetune(config, heard)
    assert weights(done.path) == weights(whole)
    assert any("was not written" in line and "does not have the content of its checksum" in line for line in heard.said)


def tensor_bytes(path: Path) -> int:
    return sum(value.numel() * value.element_size() for value in load_file(path).values())


@pytest.mark.parametrize("method", ["full", "head", "lora"])
def test_the_space_is_known_before_the_run(config, method):
    """Within 5 % of what is written, for weights that outweigh the records."""
    from weitiao.workshop import Workshop

    settings = config.model_copy(update={"method": RunConfig(method=method).method})
    work = Workshop(settings, Reporter(quiet=True))
    saved = []
    real = checkpoint.save_checkpoint

    def save(folder, weights, position, moments, identity, read):
        real(folder, weights, position, moments, identity, read)
        if moments is not None:
            saved.append(sum(tensor_bytes(p) for p in folder.glob("*.safetensors")))

    checkpoint.save_checkpoint = save
    try:
        run = finetune(settings)
    finally:
        checkpoint.save_checkpoint = real
    # Headers (names, shapes, offsets) are small beside real weights; here they are not, so only tensors are counted.
    assert abs(max(saved) - work.checkpoint_bytes()) <= 0.05 * work.checkpoint_bytes()
    (result,) = (run.path / "model").glob("*.safetensors")
    assert abs(tensor_bytes(result) - work.result_bytes()) <= 0.05 * work.result_bytes()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "weights.safetensors").write_bytes(b""),
        lambda folder: (folder / "position.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "more.bin").write_bytes(b""),
    ],
)
def test_a_folder_that_is_not_its_manifest(tmp_path, spoil):
    folder = tmp_path / "step-2"
    checkpoint.save_checkpoint(folder, {"a": torch.ones(3)}, {"step": 2, "resumable": False})
    assert storage.verify_folder(folder)["files"].keys() == {"weights.safetensors", "position.json"}
    spoil(folder)
    with pytest.raises(DamagedError):
        storage.verify_folder(folder)


def test_a_run_that_ended_before_its_report_gets_it(config, monkeypatch):
    whole = finetune(config.model_copy(update={"name": "whole"})).path
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["weitiao.finetune"], "complete", lambda _: (_ for _ in ()).throw(Cut("cut")))
        with pytest.raises(Cut):
            finetune(config)
    run = Path(config.runs) / "r"
    (run / "checkpoints" / ".lock").write_bytes(b"")  # as a killed process leaves it
    assert not (run / "report.html").exists()
    before = (run / "model" / "adapter_model.safetensors").stat().st_mtime_ns
    assert finetune(config).record["state"] == "finished"
    assert (run / "report.html").is_file()
    assert (run / "model" / "adapter_model.safetensors").stat().st_mtime_ns == before
    assert [p.name for p in (run / "checkpoints").iterdir()] == [p.name for p in (whole / "checkpoints").iterdir()]
