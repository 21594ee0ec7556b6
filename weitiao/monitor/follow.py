"""The process of one monitor: follows a run folder until the run ends. Started by ``weitiao.monitor.start``, never by hand."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from weitiao.config import load_config
from weitiao.config_monitor import MonitorConfig
from weitiao.monitor import board as shown
from weitiao.monitor.board import Board, read_json
from weitiao.monitor.tail import Tail
from weitiao.storage import write_json

BOARDS = {"swanlab": ("weitiao.monitor.swanlab", "SwanLab"), "tensorboard": ("weitiao.monitor.tensorboard", "TensorBoard")}
SECONDS_BETWEEN_READINGS = 1.0
SECONDS_BETWEEN_NOTES = 10.0
SECONDS_TO_SEND = 600.0
"""After the run has ended: what was not sent by then stays here."""


def open_board(name: str, run: Path, settings: MonitorConfig) -> Board:
    """The board of that name. Raises ImportError where its package is missing."""
    module, kind = BOARDS[name]
    config = flat(load_config(run / "config.yaml").model_dump(mode="json"))
    opened: Board = getattr(import_module(module), kind)(run, read_json(run / "run.json"), config, settings)
    return opened


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


class Follower:
    """Shows a board what is new, once: ``monitor/NAME.json`` keeps how far it has come, for a run that goes on."""

    def __init__(self, name: str, run: Path, settings: MonitorConfig, opened: Callable[[str, Path, MonitorConfig], Board]) -> None:
        self.run, self.settings, self.note = run, settings, run / "monitor" / f"{name}.json"
        former = read_json(self.note)
        self.board = opened(name, run, settings)
        self.facts = self.board.facts
        again = self.facts.get("mode") == "local"  # its dashboard shows a run that goes on as a new one: from the beginning
        self.shown: dict[str, int] = {} if again else dict(former.get("shown", {}))
        self.tail, self.last_step, self._noted = Tail(run / "metrics.jsonl"), 0, 0.0
        self.write_note("following")

    def write_note(self, state: str, problem: str | None = None) -> None:
        """How it stands, for the run's last line and for a run that goes on."""
        self._noted = time.monotonic()
        write_json(self.note, {**self.facts, "state": state, "problem": problem, "shown": self.shown})

    def advance(self) -> None:
        """Show what was added since the last time."""
        for line in self.tail.read():
            read = shown.reading(line, self.last_step)
            if read is None:
                continue
            self.last_step = max(self.last_step, read.step)
            if read.step > self.shown.get(read.stream, -1):
                self.board.log(read.values, read.step)
                if read.stream in ("before", "after"):
                    self._show(read.stream, read.step)
                self.shown[read.stream] = read.step
        if time.monotonic() - self._noted > SECONDS_BETWEEN_NOTES:
            self.write_note("following")

    def _show(self, when: str, step: int) -> None:
        evaluation = read_json(self.run / "evaluation" / f"{when}.json")
        lines = Tail(self.run / "evaluation" / f"predictions-{when}.jsonl").read() if self.settings.samples else []
        self.board.show(step, shown.confusion(evaluation), shown.samples(lines, self.settings.samples))

    def finish(self) -> None:
        """The run is over: show the rest and close."""
        self.advance()
        record = read_json(self.run / "run.json")
        watchdog = threading.Timer(SECONDS_TO_SEND, self._give_up)
        watchdog.daemon = True
        watchdog.start()
        self.board.close(str(record.get("state")), (record.get("error") or {}).get("type"))
        self.write_note("done")

    def _give_up(self) -> None:
        self.write_note("failed", f"not all was sent within {SECONDS_TO_SEND:.0f} s")
        os._exit(1)


def is_over(run: Path, parent: int) -> bool:
    """Whether the run has ended, well or not, or its process is gone."""
    return read_json(run / "run.json").get("state") != "running" or not psutil.pid_exists(parent)


def main() -> None:
    """``python -m weitiao.monitor.follow RUN NAME SETTINGS PARENT``. Exit code 1: the board failed, which its note says."""
    run, name, parent = Path(sys.argv[1]), sys.argv[2], int(sys.argv[4])
    settings = MonitorConfig.model_validate(json.loads(sys.argv[3]))
    if sys.platform != "win32":
        os.nice(10)
    try:
        follower = Follower(name, run, settings, open_board)
        while not is_over(run, parent):
            follower.advance()
            time.sleep(SECONDS_BETWEEN_READINGS)
        follower.finish()
    except (Exception, KeyboardInterrupt) as error:  # whatever a board's package raises: the run's last line says it
        former = read_json(run / "monitor" / f"{name}.json")
        write_json(run / "monitor" / f"{name}.json", {**former, "state": "failed", "problem": f"{type(error).__name__}: {error}"})
        raise


if __name__ == "__main__":
    main()
