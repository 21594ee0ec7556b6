"""Gives hostile folders to the commands, many in one forked process, and watches what happens there."""

import json
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from commands import command
from harness import Dying, Scene, child, finetune, save_windows, with_disk
from hostile import Case, canary

from weitiao import cost

MOST_SECONDS, MOST_BYTES = 5.0, 1_000_000_000
BATCH = 12
WATCHED = ("socket.", "os.system", "os.exec", "os.posix_spawn", "os.startfile", "pickle.find_class", "ftplib.", "urllib.", "webbrowser.")
"""Events of the interpreter that no folder may cause."""


def sound_folders(scene: Scene) -> dict[str, Path]:
    """What the cases are copies of: a base model, a finished run, one that was cut."""
    folder = scene.folder / "sound"
    if not folder.exists():
        runs = folder / "runs"
        second = shutil.copytree(scene.model, scene.folder / "model-2")
        (second / "generation_config.json").write_text("{}")
        settings = second / "config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"rms_norm_eps": 1e-5}))

        def make(name: str) -> None:
            config = scene.config("sft-lora", name)
            finetune(config.model_copy(update={"runs": str(runs)}))

        assert child(lambda: make("run")) == 0
        last = save_windows(scene, "sft-lora", "windows-hostile")[-1]
        assert child(with_disk(Dying(last), lambda: make("cut"))) == -signal.SIGKILL
    return {"model": scene.model, "run": folder / "runs" / "run", "cut": folder / "runs" / "cut"}


def lines(case: Case, folder: Path, scene: Scene) -> list[list[str]]:
    """The commands that are given the folder."""
    if case.base == "cut":
        return [["train", "--resume", str(folder), "-q"]]
    if case.base == "run":
        return [["report", str(folder)], ["predict", str(folder), "下雨"]]
    config = scene.config("sft-lora", folder.name).model_dump(mode="json")
    config |= {"model": {"path": str(folder), "device": "cpu", "precision": "float32"}, "runs": str(folder.parent / "runs")}
    config["train"] |= {"max_steps": 1}
    config["data"] |= {"test_share": 0.0}
    path = folder.parent / "config.yaml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return [["check", str(path)], ["train", str(path), "-q"]]


def watch(case: Case, base: Path, place: Path, scene: Scene, events: list[str]) -> dict[str, Any]:
    """Make one case's folder, give it to the commands and say what they did."""
    shutil.rmtree(place, ignore_errors=True)
    folder = place / "folder"
    shutil.copytree(base, folder, symlinks=True)
    os.chdir(place)
    case.change(folder)
    seen: dict[str, Any] = {"name": case.name, "faults": [], "codes": [], "said": "", "seconds": 0.0, "bytes": 0}
    for line in lines(case, folder, scene):
        events.clear()
        cost._CLEAR_REFS.write_text("5")
        before, start = cost.peak_memory_bytes(cost.torch.device("cpu")), _processor_seconds()
        signal.setitimer(signal.ITIMER_PROF, 60)  # computes without end
        signal.alarm(900)  # waits without end, be the machine as busy as it may
        result = command(*line)
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        seconds, grown = _processor_seconds() - start, cost.peak_memory_bytes(cost.torch.device("cpu")) - before
        seen["seconds"], seen["bytes"] = max(seen["seconds"], seconds), max(seen["bytes"], grown)
        seen["codes"].append(result.code)
        seen["said"] += result.err[-400:]
        if "Traceback" in result.err or "defect" in result.err:
            seen["faults"].append(f"a traceback: {result.err[-600:]}")
        if result.code not in (0, 1, 2) or (result.code and not result.err.strip()):
            seen["faults"].append(f"ended with {result.code} and {result.err!r}")
        if events:
            seen["faults"].append(f"{events[:3]}")
    if case.refused and not any(seen["codes"]):
        seen["faults"].append("was not refused")
    for path in (canary(), place.parent / "CANARY", folder / "CANARY", folder / "checkpoints" / "CANARY"):
        if os.path.lexists(path):
            seen["faults"].append(f"{path} exists")
            path.unlink()
    if seen["seconds"] > MOST_SECONDS:
        seen["faults"].append(f"took {seen['seconds']:.1f} s")
    if seen["bytes"] > MOST_BYTES:
        seen["faults"].append(f"took {seen['bytes'] / 1e6:.0f} MB")
    strange = [name for name, module in list(sys.modules.items()) if str(module.__dict__.get("__file__") or "").startswith(str(place))]
    if strange:
        seen["faults"].append(f"imported {strange}")
    return seen


def _processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def run_batch(cases: list[Case], scene: Scene) -> list[dict[str, Any]]:
    """What each case did, in a forked process. One that ends it (killed, hanging) is reported, and the rest goes on in another."""
    sound, place, path = sound_folders(scene), scene.folder / "hostile", scene.folder / "seen.jsonl"
    seen: list[dict[str, Any]] = []
    while len(seen) < len(cases):
        path.write_text("")

        left = cases[len(seen) :]

        def work(left: list[Case] = left) -> None:
            events: list[str] = []
            sys.addaudithook(lambda event, arguments: _note(events, event, arguments))
            os.environ["TOKENIZERS_PARALLELISM"] = "false"
            _bound_memory()
            for case in left:
                one = watch(case, sound[case.base], place, scene, events)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(one) + "\n")

        code = child(work)
        seen += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if len(seen) < len(cases):
            ended = {
                "name": cases[len(seen)].name,
                "faults": [f"the process ended with {code}"],
                "codes": [],
                "said": "",
                "seconds": 0,
                "bytes": 0,
            }
            seen.append(ended)
    shutil.rmtree(place, ignore_errors=True)
    return seen


def _note(events: list[str], event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith(WATCHED) and event != "socket.gethostname":  # asked of this machine, not of the network
        events.append(f"{event} {arguments!r}"[:200])
    own = any(worker in str(arguments) for worker in ("template_worker.py", "tokenizer_worker.py"))
    if event == "subprocess.Popen" and not own and arguments[0] != "uname":
        events.append(f"{event} {arguments!r}"[:200])


def _bound_memory() -> None:
    """So that a case that takes all memory ends itself rather than the machine."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4_000_000_000, used + 4_000_000_000))
