"""The run folder: the only product of a run, and a contract that other programs read (docs/en/run-folder.md)."""

import json
import os
import platform
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from weitiao import __version__
from weitiao.config import RunConfig, load_config
from weitiao.errors import ConfigError, DataError
from weitiao.language import system_cause, t
from weitiao.storage import append_json_line, write_json, write_json_lines, write_text

SCHEMA = 1


class Run:
    """One run folder. Its ``record`` is run.json, written after every change."""

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path, self.record = path, record
        self._clock = time.monotonic()

    @staticmethod
    def require_free_name(config: RunConfig) -> None:
        """Raise ConfigError, before any work is done, if the folder of a named run exists."""
        if config.name is not None and os.path.exists(path := Path(config.runs) / config.name):  # a name too long is no folder yet
            raise _taken(path)

    @classmethod
    def create(cls, config: RunConfig) -> "Run":
        """A new folder with its config and a record in state `running`. Raises ConfigError when the name is taken or the place is not
        writable."""
        started = datetime.now(timezone.utc)
        name = config.name or f"{config.task.kind}-{config.method.kind}-{started:%Y%m%d-%H%M%S}"
        path = Path(config.runs) / name
        number = 1
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.mkdir()
                break
            except FileExistsError:
                if not path.parent.is_dir():
                    elsewhere = t("用 runs=别的文件夹", "use runs=ANOTHER_FOLDER")
                    raise ConfigError(str(path.parent), t("不是文件夹", "is not a folder"), elsewhere) from None
                if config.name is not None or not path.is_dir():
                    raise _taken(path) from None
                number += 1
                path = path.with_name(f"{name}-{number}")
            except OSError as error:
                raise ConfigError(
                    str(path),
                    t(f"建不了文件夹：{system_cause(error)}", f"the folder cannot be made: {system_cause(error)}"),
                    t("用 runs=别的文件夹", "use runs=ANOTHER_FOLDER"),
                ) from None
        for folder in ("data", "evaluation", "checkpoints"):
            (path / folder).mkdir()
        run = cls(path, {})
        write_text(path / "config.yaml", config.with_absolute_paths().as_yaml())
        run.update(
            schema=SCHEMA,
            id=f"{started:%Y%m%dT%H%M%S}-{os.urandom(4).hex()}",
            name=path.name,
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
        )
        return run

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """An existing run folder. Raises DataError when it is none."""
        path = Path(path)
        try:
            record = json.loads((path / "run.json").read_text(encoding="utf-8"))
            if not isinstance(record, dict) or "state" not in record:
                raise ValueError(path)
        except (OSError, ValueError, RecursionError):
            raise DataError(
                str(path),
                t("不是运行文件夹（没有可读的 run.json）", "not a run folder (no readable run.json)"),
                t("给出 weitiao train 写出的文件夹", "give the folder that weitiao train wrote"),
            ) from None
        return cls(path, record)

    @property
    def config(self) -> RunConfig:
        """The resolved configuration of the run."""
        return load_config(self.path / "config.yaml")

    def update(self, **changes: Any) -> None:
        """Change the record and write it."""
        self.record.update(changes)
        write_json(self.path / "run.json", self.record)

    def timed(self, phase: str) -> None:
        """Book the time since the last call (or the start) under ``seconds.<phase>``."""
        now = time.monotonic()
        seconds = dict(self.record["seconds"])
        seconds[phase] = seconds.get(phase, 0.0) + now - self._clock
        self._clock = now
        self.update(seconds=seconds | {"total": sum(v for k, v in seconds.items() if k != "total")})

    def end(self, state: str, error: BaseException | None = None) -> None:
        """Close the record: `finished`, `failed` or `interrupted`. A second Ctrl-C does not stop it."""
        failure = None if error is None else {"type": type(error).__name__, "message": str(error)}
        with _uninterrupted():
            self.update(state=state, error=failure, ended=datetime.now(timezone.utc).isoformat(timespec="seconds"))

    def log(self, **line: Any) -> None:
        """Add one line to metrics.jsonl."""
        append_json_line(self.path / "metrics.jsonl", line)

    def read(self, name: str) -> dict[str, Any]:
        """One JSON file of the folder; empty if it is absent."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write one JSON file of the folder."""
        write_json(self.path / name, value)

    def write_lines(self, name: str, values: Iterable[Mapping[str, Any]]) -> None:
        """Write one JSON-lines file of the folder."""
        write_json_lines(self.path / name, iter(values))


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C and `kill` have no effect within the block (only the main thread can receive them)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _taken(path: Path) -> ConfigError:
    remedy = t("换一个 name=…，或删掉那个文件夹", "choose another name=…, or remove that folder")
    return ConfigError(str(path), t("已经存在", "exists already"), remedy)


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    packages = {name: metadata.version(name) for name in ("torch", "transformers", "peft", "tokenizers", "scikit-learn")}
    return {"weitiao": __version__, "python": platform.python_version(), **packages, "platform": platform.platform()}


def hardware(device: str, gpu: str | None) -> dict[str, Any]:
    """The machine, as far as it decides speed."""
    import psutil

    name = platform.processor()
    if sys.platform == "linux":
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
        name = found.group(1) if found else name
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else (os.cpu_count() or 1)
    return {"device": device, "processor": name, "cores": cores, "memory_bytes": psutil.virtual_memory().total, "gpu": gpu}
