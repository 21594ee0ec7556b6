"""One model at a time, in a process of its own, that answers the page's sentences. The server itself never loads torch."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import weitiao
from weitiao.language import t

SECONDS_TO_WAIT = 30.0
"""For those that ask at the same time."""


class Playground:
    """Keeps the process of the run that was asked last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: Path | None = None
        self._process: subprocess.Popen[str] | None = None

    def ask(self, run: Path, text: str, context: str = "") -> dict[str, Any]:
        """What base and tuned model say of a text (for qa: of a passage, ``context``); ``problem`` where they cannot. Waits for its turn,
        and for the models to load."""
        if not self._lock.acquire(timeout=SECONDS_TO_WAIT):
            return {"problem": t("正在回答别的问题，请稍候再试", "busy with other questions; try again in a moment")}
        try:
            if self._run != run or self._process is None or self._process.poll() is not None:
                first = self._open(run)
                if "problem" in first:
                    self.close()
                    return first
            return self._say(text, context)
        finally:
            self._lock.release()

    def _open(self, run: Path) -> dict[str, Any]:
        self.close()
        home = str(Path(weitiao.__file__).parent.parent)
        paths = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._run = run
        self._process = subprocess.Popen(
            [sys.executable, "-m", "weitiao.watch.player", str(run)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
            env=os.environ | {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"}, start_new_session=True,
        )  # fmt: skip
        return self._read()

    def _say(self, text: str, context: str) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"text": text, "context": context}) + "\n")
            self._process.stdin.flush()
        except OSError:
            return _gone()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            answer = json.loads(line)
        except ValueError:
            return _gone()
        return answer if isinstance(answer, dict) else _gone()

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._run = None


def _gone() -> dict[str, Any]:
    return {"problem": t("模型的进程中途结束了（内存不够？）", "the model's process ended midway (too little memory?)")}
