"""The run folder: the only product of a run, and a contract that other programs read (docs/en/run-folder.md)."""

import errno
import glob
import itertools
import json
import os
import platform
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime, timezone
from functools import cached_property
from html import escape
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from weitiao import __version__, storage
from weitiao.config import RunConfig, load_config
from weitiao.errors import ConfigError, DataError, UsageError
from weitiao.interrupts import uninterrupted
from weitiao.language import system_cause, t
from weitiao.masking import masked_values
from weitiao.storage import append_json_line, exists, write_json, write_json_lines, write_text

SCHEMA = 1
METRICS = "metrics.jsonl"


class Run:
    """One run folder. Its ``record`` is run.json, written after every change."""

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path, self.record = path, record
        self._clock = time.monotonic()

    @cached_property
    def _lock(self) -> FileLock:
        return FileLock(self.path / "checkpoints" / ".lock")

    @classmethod
    def create(cls, config: RunConfig) -> "Run":
        """A new folder, locked, with its config and a record in state `running`; it appears with both in it or not at all.

        Raises ConfigError when the name is taken or the place is not writable.
        """
        started = datetime.now(timezone.utc)
        name = config.name or f"{config.task.kind}-{config.method.kind}-{started:%Y%m%d-%H%M%S}"
        parent = Path(config.runs)
        draft = parent / f".{name[:80]}.{os.getpid()}.tmp"
        try:
            shutil.rmtree(draft, ignore_errors=True)
            remove_abandoned(parent, name)
            for folder in ("data", "evaluation", "checkpoints"):
                storage.make_folders(draft / folder)
            run = cls(draft, {})
            write_text(draft / "config.yaml", config.with_absolute_paths().as_yaml())
            run.update(
                schema=SCHEMA,
                id=f"{started:%Y%m%dT%H%M%S}-{os.urandom(4).hex()}",
                name=name,
                state="running",
                created=started.isoformat(timespec="seconds"),
                ended=None,
                error=None,
                versions=versions(),
                seed=config.seed,
                task=config.task.kind,
                method=config.method.kind,
                objective=config.objective.kind,
                seconds={},
                process=this_process(),
            )
            run._settle(parent / name, may_number=config.name is None)
            return run.locked()
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            path, elsewhere = parent / name, t("用 runs=别的文件夹", "use runs=ANOTHER_FOLDER")
            if storage.exists(parent) and not parent.is_dir():
                raise ConfigError(str(parent), t("不是文件夹", "is not a folder"), elsewhere) from None
            cause = t(f"建不了文件夹：{system_cause(error)}", f"the folder cannot be made: {system_cause(error)}")
            raise ConfigError(str(path), cause, elsewhere) from None

    def _settle(self, target: Path, may_number: bool) -> None:
        """Move the folder to its name, or to the first free ``name-N``. A rename onto a folder with content fails: no two runs get one."""
        name = target.name
        for number in itertools.count(1):
            path = target if number == 1 else target.with_name(f"{name}-{number}")
            try:
                if exists(path) and not (path.is_dir() and not any(path.iterdir())):
                    raise FileExistsError(path)
                self.record["name"] = path.name
                write_json(self.path / "run.json", self.record)
                storage.disk.replace(self.path, path)
                storage.disk.sync_folder(path.parent)
            except OSError as error:
                if not isinstance(error, FileExistsError) and error.errno != errno.ENOTEMPTY:
                    raise
                if not may_number:
                    shutil.rmtree(self.path, ignore_errors=True)
                    remedy = t("换一个 name=…，或删掉那个文件夹", "choose another name=…, or remove that folder")
                    raise ConfigError(str(path), t("已经存在", "exists already"), remedy) from None
            else:
                self.path = path
                return

    def locked(self) -> "Run":
        """The same run, held by this process alone. Raises ConfigError while another one holds it (a process that dies lets go of it), and
        where the folder was removed."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                str(self.path),
                t("另一个进程正在这个文件夹里运行", "another process is running in this folder"),
                t("等它结束，或换一个 name=…", "wait for it to end, or choose another name=…"),
            ) from None
        if not exists(self.path / "run.json"):  # the lock makes the folder anew, with nothing else in it
            self.unlock()
            for folder in (Path(self._lock.lock_file).parent, self.path):
                with suppress(OSError):
                    folder.rmdir()
            raise self._gone()
        return self

    def _gone(self) -> ConfigError:
        return ConfigError(str(self.path), t("运行文件夹不见了", "the run's folder is gone"), t("重新训练", "train again"))

    @property
    def is_held(self) -> bool:
        """Whether a process holds the folder: a state of `running` without one means that it died."""
        try:
            with FileLock(self._lock.lock_file, timeout=0) if Path(self._lock.lock_file).is_file() else nullcontext():
                return False
        except Timeout:
            return True

    def unlock(self) -> None:
        """Let go of the folder."""
        with suppress(OSError):  # the folder was removed meanwhile; Windows removes no open file
            Path(self._lock.lock_file).unlink()
        self._lock.release()

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """An existing run folder. Raises DataError when it is none."""
        run = cls(Path(path), {})
        run.reread()
        return run

    def reread(self) -> None:
        """Take the record as it is on disk now. Raises DataError."""
        path = self.path
        try:
            record = json.loads(storage.read_text(path / "run.json"))
            if not isinstance(record, dict) or "state" not in record:
                raise ValueError(path)
        except (OSError, ValueError, RecursionError):
            raise DataError(
                str(path),
                t("不是运行文件夹（没有可读的 run.json）", "not a run folder (no readable run.json)"),
                t("给出 weitiao train 写出的文件夹", "give the folder that weitiao train wrote"),
            ) from None
        self.record = record

    @property
    def config(self) -> RunConfig:
        """The resolved configuration of the run."""
        path = self.path / "config.yaml"
        if not self.path.is_dir():
            raise self._gone()
        if not path.is_file():
            raise ConfigError(str(path), t("没有这个文件", "no such file"), t("给出一个运行文件夹", "give the folder of a run"))
        return load_config(path)

    def _repr_html_(self) -> str:
        """In a notebook: the report, where there is one, in a frame of its own; else where the run stands."""
        report = self.path / "report.html"
        if not report.is_file():
            return f"<p>{escape(str(self.path))}: {escape(str(self.record['state']))}</p>"
        page = escape(report.read_text(encoding="utf-8"))
        return f'<iframe sandbox srcdoc="{page}" style="width:100%;height:42em;border:1px solid #ccc"></iframe>'

    def update(self, **changes: Any) -> None:
        """Change the record and write it."""
        self.record.update(changes)
        write_json(self.path / "run.json", masked_values(self.record))

    def timed(self, phase: str) -> None:
        """Book the time since the last call (or the start) under ``seconds.<phase>``."""
        now = time.monotonic()
        seconds = dict(self.record["seconds"])
        seconds[phase] = seconds.get(phase, 0.0) + now - self._clock
        self._clock = now
        self.update(seconds=seconds | {"total": sum(v for k, v in seconds.items() if k != "total")})

    def end(self, state: str, error: BaseException | None = None) -> None:
        """Close the record (`finished`, `failed` or `interrupted`) and let go of the folder. A second Ctrl-C does not stop it."""
        failure = None if error is None else {"type": type(error).__name__, "message": str(error)}
        with uninterrupted():
            try:
                self.update(state=state, error=failure, ended=datetime.now(timezone.utc).isoformat(timespec="seconds"))
            finally:
                self.unlock()

    def log(self, **line: Any) -> None:
        """Add one line to metrics.jsonl."""
        append_json_line(self.path / METRICS, line)

    def log_once(self, **line: Any) -> None:
        """Add a line unless one of the same type and moment (``when``) stands there, as in a run that goes on after an interruption."""
        path = self.path / METRICS
        lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
        if not any(old["type"] == line["type"] and old.get("when") == line["when"] for old in lines):
            self.log(**line)

    def read(self, name: str) -> dict[str, Any]:
        """One JSON file of the folder; empty if it is absent."""
        path = self.path / name
        return json.loads(storage.read_text(path)) if path.is_file() else {}

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """One JSON-lines file of the folder."""
        return [json.loads(line) for line in (self.path / name).read_text(encoding="utf-8").splitlines()]

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write one JSON file of the folder."""
        write_json(self.path / name, value)

    def write_lines(self, name: str, values: Iterable[Mapping[str, Any]]) -> None:
        """Write one JSON-lines file of the folder."""
        write_json_lines(self.path / name, iter(values))


def config_to_train(path: Path | None, overrides: Sequence[str], resume: Path | None = None) -> RunConfig:
    """The configuration of a YAML file, or (``resume``) that of the run to go on with; either with ``key=value`` overrides. An override in
    the YAML file's place is taken for what it is. Raises UsageError, ConfigError or DataError."""
    if resume is None:
        if path is None:
            remedy = t(
                "weitiao train ./config.yaml，或 weitiao train --resume RUN", "weitiao train config.yaml, or weitiao train --resume RUN"
            )
            raise UsageError("CONFIG", t("没有给配置文件", "no configuration given"), remedy)
        return load_config(path, overrides)
    if path is not None and ("=" not in str(path) or path.exists()):
        remedy = t(
            "--resume 用的是那次运行自己的配置；要改就写 key=value", "--resume uses the run's own configuration; change it with key=value"
        )
        raise UsageError(str(path), t("--resume 不需要配置文件", "--resume takes no configuration file"), remedy)
    folder = Run.open(resume).path.absolute()
    config = load_config(folder / "config.yaml", [*([str(path)] if path is not None else []), *overrides])
    return config.model_copy(update={"name": folder.name, "runs": str(folder.parent)})


def remove_abandoned(parent: Path, name: str) -> None:
    """Remove what processes that died left of a folder that they were making."""
    for draft in parent.glob(f".{glob.escape(name[:80])}.*.tmp"):
        number = draft.name.split(".")[-2]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            storage.disk.remove_folder(draft)


def this_process() -> dict[str, Any]:
    """What tells this process from any other, so that another one can see whether the run is at work."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def process_of(record: Mapping[str, Any]) -> int | None:
    """The process that a record in state `running` belongs to; None: it has ended. 0: it cannot be seen from this machine."""
    process = record.get("process")
    if not isinstance(process, dict) or process.get("host") != socket.gethostname():
        return 0
    try:
        pid = int(process["pid"])
        return pid if abs(psutil.Process(pid).create_time() - float(process["started"])) < 1 else None
    except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
        return None


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    packages = {name: metadata.version(name) for name in ("torch", "transformers", "peft", "tokenizers", "scikit-learn")}
    return {"weitiao": __version__, "python": platform.python_version(), **packages, "platform": platform.platform()}


def hardware(device: str, gpu: str | None) -> dict[str, Any]:
    """The machine, as far as it decides speed."""
    name = platform.processor()
    if sys.platform == "linux":
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
        name = found.group(1) if found else name
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else (os.cpu_count() or 1)
    return {"device": device, "processor": name, "cores": cores, "memory_bytes": psutil.virtual_memory().total, "gpu": gpu}
