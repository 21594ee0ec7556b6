"""One run of a comparison or a search, each in a process of its own, so that its peak memory is its own. A run that is finished is not made
again, an interrupted one is gone on with: a run's name holds a hash of its settings."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weitiao import storage
from weitiao.config import RunConfig
from weitiao.errors import RunError, UserError
from weitiao.language import current, t
from weitiao.masking import masked
from weitiao.run import Run

Watch = Callable[[], bool]
"""Asked twice a second while a run goes on; true asks the run to stop (it saves first)."""


@dataclass(frozen=True)
class Member:
    """A run to make: its configuration with name and folder settled. ``title`` is shown; ``role`` says what it is in the comparison."""

    config: RunConfig
    title: str
    role: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return Path(self.config.runs) / str(self.config.name)

    @property
    def run(self) -> Run | None:
        """The finished run; None: there is none yet."""
        if not (self.path / "run.json").is_file():
            return None
        run = Run.open(self.path)
        return run if run.record["state"] == "finished" else None


@dataclass(frozen=True)
class Outcome:
    """How a process ended: its exit code and the one JSON object that it printed."""

    code: int
    value: dict[str, Any]

    @property
    def message(self) -> str:
        """Why it failed, in its own words."""
        return masked(str(self.value.get("error", {}).get("message") or t(f"退出码 {self.code}", f"exit code {self.code}")))


def fingerprint(config: RunConfig) -> str:
    """Eight characters that differ where the settings that decide the numbers do."""
    settings = config.with_absolute_paths().model_dump(mode="json", exclude={"name", "runs", "report"})
    return hashlib.sha256(json.dumps(settings, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:8]


def member(config: RunConfig, folder: Path, label: str, title: str, **role: Any) -> Member:
    """The member of a comparison kept in ``folder``."""
    name = f"{label}-{fingerprint(config)}"
    settled = config.with_absolute_paths().model_copy(update={"name": name, "runs": str((folder / "runs").absolute())})
    return Member(settled, title, role)


class Job:
    """A command of this program in a process of its own; what it reports goes to our standard error. ``gpu`` is the only one it sees."""

    def __init__(self, words: Sequence[str], gpu: int | None = None) -> None:
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe could fill while nobody reads
        surroundings = os.environ if gpu is None else os.environ | {"CUDA_VISIBLE_DEVICES": str(gpu)}
        command = [sys.executable, "-m", "weitiao", "--lang", current(), *words, "--json"]
        self.process = subprocess.Popen(command, stdout=self._out, env=surroundings)
        self.asked_to_stop = False

    def stop(self) -> None:
        """Ask it to stop; a training saves first."""
        self.asked_to_stop = True
        self.process.terminate()

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None: it goes on. Raises KeyboardInterrupt where it was interrupted, but not by us."""
        if self.process.poll() is None:
            return None
        if self.process.returncode == 130 and not self.asked_to_stop:
            raise KeyboardInterrupt
        self._out.seek(0)
        lines = self._out.read().decode("utf-8").splitlines()
        return Outcome(self.process.returncode, json.loads(lines[-1]) if lines else {})


def finish(jobs: Sequence[Job], watch: Watch | None = None) -> list[Outcome]:
    """Wait until all have ended. Interrupted, they are asked to stop before the interruption goes on."""
    try:
        while any(job.outcome is None for job in jobs):
            time.sleep(0.2)
            if watch is not None and watch():
                for job in jobs:
                    if not job.asked_to_stop:
                        job.stop()
    except BaseException:
        for job in jobs:
            job.stop()
        for job in jobs:
            job.process.wait()
        raise
    return [outcome for job in jobs if (outcome := job.outcome) is not None]


def call(*words: str) -> dict[str, Any]:
    """Run a command to its end and return what it printed. Raises UserError or RunError with its message where it fails."""
    (outcome,) = finish([Job(words)])
    if outcome.code == UserError.exit_code:
        error = outcome.value.get("error", {})
        raise UserError(str(error.get("where", words[0])), str(error.get("cause", outcome.message)), str(error.get("remedy", "--help")))
    if outcome.code:
        raise RunError(outcome.message)
    return outcome.value


def start(one: Member, quiet: bool, gpu: int | None = None) -> Job:
    """Begin the member's run, or go on with it."""
    path = Path(one.config.runs).parent / "configs" / f"{one.config.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_text(path, one.config.as_yaml())
    return Job(("train", str(path), *(["-q"] if quiet else [])), gpu)


def train(one: Member, quiet: bool, watch: Watch | None = None) -> Outcome:
    """Make the member's run, unless it is finished already. The machine's energy is booked in it where it can be read."""
    if one.run is not None:
        return Outcome(0, {"run": str(one.path)})
    before, began = energy_joules(), time.monotonic()
    (outcome,) = finish([start(one, quiet)], watch)
    spent = energy_joules()
    if one.run is not None and before is not None and spent is not None and spent >= before:
        one.run.update(energy={"joules": spent - before, "seconds": time.monotonic() - began})
    return outcome


def train_all(members: Sequence[Member], quiet: bool, gpus: int) -> list[Outcome]:
    """Make the runs one after the other, or on several GPUs side by side. Their energy is then not told apart."""
    if gpus < 2:
        return [train(one, quiet) for one in members]
    outcomes: list[Outcome] = []
    for first in range(0, len(members), gpus):
        group = members[first : first + gpus]
        jobs = {i: start(one, quiet, gpu=i) for i, one in enumerate(group) if one.run is None}
        ended = dict(zip(jobs, finish(list(jobs.values())), strict=True))
        outcomes += [ended.get(i, Outcome(0, {"run": str(one.path)})) for i, one in enumerate(group)]
    return outcomes


def energy_joules() -> float | None:
    """The energy counters of all processor packages (Linux, RAPL); None where they cannot be read, as without rights. A counter that runs
    over between two readings makes the later one smaller: such a pair says nothing."""
    files = sorted(Path("/sys/class/powercap").glob("intel-rapl:[0-9]*/energy_uj"))
    try:
        readings = [int(file.read_text()) for file in files if file.parent.name.count(":") == 1]
    except OSError:
        return None
    return sum(readings) / 1e6 if readings else None
