"""The run's side of its monitors: starts a process for each, and says at the end how they fared. Nothing here raises or waits for long."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import weitiao
from weitiao.config_monitor import MonitorConfig
from weitiao.language import system_cause, t
from weitiao.monitor.board import read_json
from weitiao.progress import Reporter
from weitiao.run import Run

SECONDS_TO_WAIT = 10.0
"""At the end of the run, for all monitors together; one that needs longer goes on by itself."""
_TITLES = {"swanlab": "SwanLab", "tensorboard": "TensorBoard"}


class Monitors:
    """The monitors of a run, within a ``with`` block around it."""

    def __init__(self, run: Run, settings: MonitorConfig, reporter: Reporter) -> None:
        self.run, self.settings, self.reporter = run, settings, reporter
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self._over = threading.Event()

    def __enter__(self) -> "Monitors":
        names = [*(["swanlab"] if self.settings.swanlab != "off" else []), *(["tensorboard"] if self.settings.tensorboard else [])]
        for name in names:
            try:
                self.children[name] = self._start(name)
            except OSError as error:
                self.reporter.say(f"{_TITLES[name]}: {system_cause(error)}")
        if self.children:
            threading.Thread(target=self._announce, daemon=True).start()
        return self

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        folder = self.run.path / "monitor"
        folder.mkdir(exist_ok=True)
        note = self._note(name)
        if note.exists():
            note.write_text(json.dumps(read_json(note) | {"state": "starting"}), encoding="utf-8")
        home = str(Path(weitiao.__file__).parent.parent)
        paths = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"}
        words = [str(self.run.path.absolute()), name, self.settings.model_dump_json(), str(os.getpid())]
        with (folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "weitiao.monitor.follow", *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
            )  # fmt: skip

    def _note(self, name: str) -> Path:
        return self.run.path / "monitor" / f"{name}.json"

    def _announce(self) -> None:
        """Say where to look as soon as that is known."""
        waiting = set(self.children)
        while waiting and not self._over.wait(0.5):
            for name in sorted(waiting):
                note = read_json(self._note(name))
                if note.get("state") in ("following", "failed", "done"):
                    waiting.discard(name)
                    self.reporter.say(self._line(name, note))

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._over.set()
        end = time.monotonic() + SECONDS_TO_WAIT
        for name, child in self.children.items():
            try:
                child.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.reporter.say(
                    t(
                        f"{_TITLES[name]} 还没有写完或传完，会自己继续",
                        f"{_TITLES[name]} has not stored or sent all yet and goes on by itself",
                    )
                )
                continue
            self.reporter.say(self._line(name, read_json(self._note(name))))

    def _line(self, name: str, note: dict[str, object]) -> str:
        title, log = _TITLES[name], self._note(name).with_suffix(".log")
        if note.get("problem") or note.get("state") not in ("following", "done"):
            problem = note.get("problem") or t("没有启动起来", "did not start")
            return t(
                f"{title} 出了问题（训练不受影响）：{problem}；详见 {log}",
                f"{title} failed (the run is not affected): {problem}; see {log}",
            )
        where = note.get("url") or note.get("folder")
        mode = f" ({note['mode']})" if "mode" in note else ""
        return f"{title}{mode}: {where}"
