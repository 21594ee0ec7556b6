"""Starting, stopping and resuming runs: `python -m weitiao train` as a child process, from settings that were checked here first."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import weitiao
from weitiao.config import RunConfig, build_config
from weitiao.config_io import dump_yaml
from weitiao.errors import ConfigError
from weitiao.hub.names import is_prefixed, model_name
from weitiao.language import current, t
from weitiao.run import Run, process_of
from weitiao.storage import write_text
from weitiao.watch.files import read_json

OFFERED = ("name", "seed", "model", "task", "data", "check", "method", "objective", "train", "optim", "evaluate", "report", "monitor")
"""What may be set over the page; `runs` is the folder that is watched."""
_WRITTEN = ("task", "labels", "name", "project")
"""Text that names no file."""
MOST_AT_ONCE = 4


class Launcher:
    """The runs started from this page. ``root``: where run folders are made; ``data``: the folder whose files a run may read."""

    def __init__(self, root: Path, data: Path) -> None:
        self.root, self.data = root, data
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def config(self, settings: dict[str, Any]) -> RunConfig:
        """The configuration that the settings make. Raises ConfigError, also for files outside the data folder."""
        unknown = sorted(set(settings) - set(OFFERED))
        if unknown:
            raise ConfigError(unknown[0], t("这一项不能在网页上设置", "cannot be set on this page"), t("去掉它", "leave it out"))
        config = build_config({**settings, "runs": str(self.root)}, t("网页", "the page"))
        for where, value in _words(config.model_dump(mode="json", exclude={"runs"})):
            self._require_inside(where, value)
        return config

    def _require_inside(self, where: str, value: str) -> None:
        """Data files and models are `builtin`, on a hub, in the data folder or among the runs; nothing that is code is named."""
        if where in ("data.train", "data.validation", "data.test", "model.path"):
            if value == "builtin" or is_prefixed(value) or (where == "model.path" and model_name(value) and not Path(value).exists()):
                return
        elif not (os.path.isabs(value) or ".." in Path(value).parts or value.endswith(".py")) or where.split(".")[0] in _WRITTEN:
            return
        place = (self.data / value.partition("#")[0]).resolve()
        if value.endswith(".py") or not any(place.is_relative_to(allowed.resolve()) for allowed in (self.data, self.root)):
            cause = t(f"{value} 不在 {self.data} 里", f"{value} is not in {self.data}")
            raise ConfigError(where, cause, t("把文件放进那里，或用命令行训练", "put the file there, or train from the command line"))

    def text(self, settings: dict[str, Any]) -> str:
        """The settings as the YAML that repeats the run: what differs from the defaults, after a check. Raises ConfigError."""
        return dump_yaml(self.config(settings).model_dump(mode="json", exclude_defaults=True))

    def start(self, settings: dict[str, Any]) -> str:
        """Start a run and return its name. Raises ConfigError."""
        config = self.config(settings)
        name = config.name or f"{config.task.kind}-{config.method.kind}-{time.strftime('%Y%m%d-%H%M%S')}"
        if (self.root / name).exists():
            raise ConfigError("name", t(f"{name} 已经存在", f"{name} exists already"), t("换一个名字", "choose another name"))
        file = self.root / ".watch" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, dump_yaml({**config.model_dump(mode="json", exclude_defaults=True), "name": name, "runs": str(self.root)}))
        self._spawn(name, [str(file)])
        return name

    def resume(self, run: Path) -> None:
        """Go on with an interrupted run. Raises DataError or ConfigError."""
        Run.open(run)
        self._spawn(run.name, ["--resume", str(run)])

    def _spawn(self, name: str, words: list[str]) -> None:
        self.children = {key: child for key, child in self.children.items() if child.poll() is None or key == name}
        if len([child for child in self.children.values() if child.poll() is None]) >= MOST_AT_ONCE:
            cause = t(f"已有 {MOST_AT_ONCE} 个运行", f"{MOST_AT_ONCE} runs are at work already")
            raise ConfigError(name, cause, t("等其中一个结束", "wait for one of them to end"))
        home = str(Path(weitiao.__file__).parent.parent)
        paths = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
        (self.root / ".watch").mkdir(parents=True, exist_ok=True)
        with (self.root / ".watch" / f"{name}.log").open("ab") as log:
            self.children[name] = subprocess.Popen(
                [sys.executable, "-m", "weitiao", "--lang", current(), "train", *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.data, start_new_session=True,
                env=os.environ | {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"},
            )  # fmt: skip

    def stop(self, run: Path) -> bool:
        """Ask the process of a run to save and end. False: none is known."""
        child = self.children.get(run.name)
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGINT if os.name == "nt" else signal.SIGTERM)
            return True
        record = read_json(run, "run.json")
        process = process_of(record) if record.get("state") == "running" else None
        if not process:
            return False
        os.kill(process, signal.SIGTERM)
        return True

    def state(self, name: str) -> int | None:
        """The exit code of a run started here; None: it is at work, or was not started here."""
        child = self.children.get(name)
        return None if child is None else child.poll()


def _words(tree: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text among the settings, with its dotted name."""
    if isinstance(tree, str):
        yield where, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from _words(value, f"{where}.{key}" if where else str(key))
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _words(value, where)
