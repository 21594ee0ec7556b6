"""Runs that are killed, starved of disk or asked to stop, in forked children: a fork starts in milliseconds, an import takes seconds."""

import contextlib
import csv
import errno
import gc
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import tiny
import torch

from weitiao import language, saves, storage
from weitiao.config import RunConfig
from weitiao.errors import WeitiaoError
from weitiao.evaluate import statistics
from weitiao.finetune import finetune as run_config
from weitiao.run import Run

torch.set_num_threads(1)
TIMED = {"seconds", "tokens_per_second", "memory_bytes", "rows_per_second"}
TEXT = {"task": {"kind": "text", "block_tokens": 24}, "objective": "pretrain"}
KINDS: dict[str, dict] = {
    "sft-full": {"method": "full", "optim": {"learning_rate": 2e-3}},
    "sft-head": {"method": {"kind": "head", "last_blocks": 1}, "optim": {"learning_rate": 1e-2}},
    "sft-lora": {"method": {"kind": "lora", "rank": 4, "dropout": 0.2}, "optim": {"learning_rate": 1e-2}},
    "generation-lora": {"method": {"kind": "lora", "rank": 4, "dropout": 0.2}, "optim": {"learning_rate": 1e-2}, "task": "generation"},
    "pretrain-full": {"method": "full", "optim": {"learning_rate": 2e-3}, **TEXT},
    "pretrain-head": {"method": {"kind": "head", "untie": True}, "optim": {"learning_rate": 1e-2}, **TEXT},
    "pretrain-lora": {"method": {"kind": "lora", "rank": 4, "dropout": 0.2}, "optim": {"learning_rate": 1e-2}, **TEXT},
}
"""{sft, pretrain} × {full, head, lora}, and chats: an objective that is added later needs a line here."""
BRIEF = ("brief-pretrain-head",)
"""Two steps only: few enough calls to the disk that each of them can fail within a test."""
_bootstrap = statistics.scipy_bootstrap


def finetune(config: RunConfig) -> Run:
    """A run with 20 resamples for its intervals: they are not what is tested here, and took a third of the time. With ``full`` every
    checkpoint is written in the background."""

    def few(*values: object, **settings: object) -> object:
        return _bootstrap(*values, **settings | {"n_resamples": 20})

    from_bytes = 0 if config.method.kind == "full" else saves.BACKGROUND_BYTES
    with mock.patch.object(statistics, "scipy_bootstrap", few), mock.patch.object(saves, "BACKGROUND_BYTES", from_bytes):
        return run_config(config)


class Scene:
    """A tiny model, a small data file and a folder for runs; reference results are made once per kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.model = tiny.write_model(folder / "model", tied=True)
        self.data = folder / "news.csv"
        draw = random.Random(0)
        words = {"体育": ["球赛", "球队"], "天气": ["下雨", "台风"], "财经": ["股票", "银行"]}
        with self.data.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for i in range(36):
                label = list(words)[i % 3]
                writer.writerow([f"第{i}条：{draw.choice(words[label])}的消息{'很长' * draw.randrange(4)}", label])
        self._references: dict[str, dict] = {}
        finetune(self.config("sft-lora", "first"))  # imports, page templates and tables, which every child would make again
        gc.freeze()  # a collection in a child would copy every page of memory that it shares

    def config(self, kind: str, name: str) -> RunConfig:
        """Ten steps or so with a checkpoint at every other one. bfloat16 for `full`, so that masters and working weights differ."""
        precision = "bfloat16" if "full" in kind else "float32"
        tree = {
            "name": name, "runs": str(self.folder / "runs"), "seed": 5,
            "model": {"path": str(self.model), "precision": precision, "device": "cpu"},
            "data": {"train": str(self.data), "validation_share": 0.2, "test_share": 0.2},
            "train": {
                "epochs": 2, "batch_rows": 6, "micro_batch_tokens": 400, "validate_every": 0.5, "best_by": "loss",
                "checkpoint": {"every_minutes": 1000.0, "every_steps": 2, "keep": 2},
            },
            "evaluate": {"baselines": False, "before": kind in ("sft-lora", "pretrain-full", *BRIEF)},
        }  # fmt: skip
        if kind.startswith("generation"):
            tree["data"] |= {"columns": {"prompt": "text", "answer": "label"}}
        if kind in BRIEF:
            tree["train"] |= {"max_steps": 2, "checkpoint": {"every_minutes": 1000.0, "every_steps": 1, "keep": 1}}
        return RunConfig.model_validate(tree | KINDS[kind.removeprefix("brief-")])

    def reference(self, kind: str, has_room: bool = True) -> dict:
        """The result of a run that nothing disturbs; ``has_room``: for what the frozen part of the model gives."""
        name = f"reference-{kind}" + ("" if has_room else "-without-room")
        if name not in self._references:
            with contextlib.nullcontext() if has_room else mock.patch("weitiao.training.can_be_kept", return_value=False):
                assert child(lambda: finetune(self.config(kind, name))) == 0
            self._references[name] = result(self.folder / "runs" / name)
        return self._references[name]


def result(run: Path) -> dict:
    """What must be the same: state, weights, logged values, best checkpoint, predictions; without times and memory."""
    record = json.loads((run / "run.json").read_text())
    weights = next(path for name in ("adapter_model", "model") if (path := run / "model" / f"{name}.safetensors").is_file())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    training = record["training"]
    best = run / "checkpoints" / f"step-{training['best_step']}" / "weights.safetensors"
    checkpoints = sorted(path.name for path in (run / "checkpoints").iterdir())
    return {
        "state": record["state"],
        "weights": storage.sha256(weights),
        "metrics": [{key: value for key, value in line.items() if key not in TIMED} for line in lines],
        "training": {key: training[key] for key in ("steps", "tokens", "trained_tokens", "best_step", "best_metric", "stopped_early")},
        "best": storage.sha256(best) if best.is_file() else None,
        "checkpoints": checkpoints,
        "predictions": hashlib.sha256((run / "evaluation" / "predictions-after.jsonl").read_bytes()).hexdigest(),
    }


BROKEN_FORK = 99
"""torch's thread pool does not always survive a fork (no run of a user is forked): such an attempt is made again."""


def child(work: Callable[[], object], after_fork: Callable[[int], None] | None = None) -> int:
    """Run ``work`` in a forked process and return how it ended: 0, 1 (an error of ours or of the system), 130, −9 (killed) … A defect ends
    with 70 and its traceback. ``after_fork`` gets the child's process id in the parent."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            language.use("en")
            work()
            code = 0
        except KeyboardInterrupt:
            code = 130
        except (WeitiaoError, OSError) as error:
            if "Invalid thread pool" in str(error):
                os._exit(BROKEN_FORK)
            code = error.exit_code if isinstance(error, WeitiaoError) else 1
            print(f"[{os.getpid()}] {type(error).__name__}: {error}", file=sys.stderr)  # pytest shows it where a test fails
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    if after_fork:
        after_fork(pid)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return child(work, after_fork) if code == BROKEN_FORK else code


def kill_after(seconds: float, number: int = signal.SIGKILL) -> Callable[[int], None]:
    """For ``child``: send a signal after a while."""

    def send(pid: int) -> None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    return send


class Counting(storage.Disk):
    """Counts the calls that change the disk and does something else at the one numbered ``at`` (from 0)."""

    def __init__(self, at: int = -1) -> None:
        self.calls, self.at = 0, at
        self.one_at_a_time = threading.RLock()  # a save in the background calls from a thread of its own

    def trouble(self) -> None:
        """What happens at that call, before it does anything."""

    def _count(self) -> None:
        self.calls += 1
        if self.calls - 1 == self.at:
            self.trouble()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self.one_at_a_time:
            self._count()
            yield

    def open(self, path, mode):
        with self._counted():
            return super().open(path, mode)

    def write(self, file, data):
        with self._counted():
            super().write(file, data)

    def sync(self, file):
        with self._counted():
            super().sync(file)

    def sync_folder(self, folder):
        with self._counted():
            super().sync_folder(folder)

    def replace(self, source, target):
        with self._counted():
            super().replace(source, target)

    def make_folder(self, path):
        with self._counted():
            super().make_folder(path)

    def remove_file(self, path):
        with self._counted():
            super().remove_file(path)

    def remove_folder(self, path):
        with self._counted():
            super().remove_folder(path)

    def cut(self, path, length_bytes):
        with self._counted():
            super().cut(path, length_bytes)


class Failing(Counting):
    """One call fails with an error of the operating system."""

    def __init__(self, at: int, code: int) -> None:
        super().__init__(at)
        self.code = code

    def trouble(self) -> None:
        raise OSError(self.code, os.strerror(self.code))


class Dying(Counting):
    """The process dies in the middle of a call: a write has done half of its work."""

    def trouble(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def write(self, file, data):
        with self.one_at_a_time:
            if self.calls == self.at:
                view = memoryview(data).cast("B")
                super(Counting, self).write(file, view[: len(view) // 2])
            super().write(file, data)


def with_disk(disk: storage.Disk, work: Callable[[], object]) -> Callable[[], object]:
    """``work`` with another disk under it (in a child: the parent's stays)."""

    def run() -> object:
        storage.disk = disk
        return work()

    return run


def count_calls(scene: Scene, kind: str, name: str) -> int:
    """How many calls a whole run makes to the disk."""
    disk = Counting()
    path = scene.folder / f"{name}.calls"

    def run() -> None:
        finetune(scene.config(kind, name))
        path.write_text(str(disk.calls))

    assert child(with_disk(disk, run)) == 0
    return int(path.read_text())


def save_windows(scene: Scene, kind: str, name: str) -> list[int]:
    """The numbers of the disk calls that belong to saving a checkpoint."""
    disk, inside, path = Counting(), [], scene.folder / f"{name}.windows"

    def run() -> None:
        from weitiao.saves import Saves

        write = Saves._write

        def watched(self, *arguments):
            start = disk.calls
            try:
                return write(self, *arguments)
            finally:
                inside.extend(range(start, disk.calls))

        Saves._write = watched
        finetune(scene.config(kind, name))
        path.write_text(json.dumps(inside))

    code = child(with_disk(disk, run))
    assert code == 0, code
    return json.loads(path.read_text())


ERRORS = (errno.ENOSPC, errno.EIO, errno.EINTR)


def scratch() -> Path:
    """A new folder for a programme."""
    return Path(tempfile.mkdtemp(prefix="weitiao-faults-"))


class Volatile(Counting):
    """A disk whose power fails at a call: what was not synced is torn, renames and removals that no folder sync made durable may be undone.

    ``draw`` decides how much survives of each. Files that libraries wrote past the seam count as not synced until they are.
    """

    def __init__(self, at: int, draw: random.Random, root: Path) -> None:
        super().__init__(at)
        self.draw, self.root, self.born = draw, root, time.time_ns()
        self.synced: dict[Path, int] = {}  # length of a file that is surely on the disk
        self.pending: list[tuple[str, Path, Path | None, Path | None]] = []  # (what, where, from, what stood there before)
        self.trash = Path(tempfile.mkdtemp(prefix="trash-", dir=root.parent))

    def sync(self, file):
        with self.one_at_a_time:
            super().sync(file)
            path = Path(file.name)
            self.synced[path] = path.stat().st_size

    def sync_folder(self, folder):
        with self.one_at_a_time:
            super().sync_folder(folder)
            self.pending = [entry for entry in self.pending if entry[1].parent != folder]

    def replace(self, source, target):
        with self.one_at_a_time:
            former = None
            if target.is_file():
                former = self._bin()
                shutil.copy(target, former)
            super().replace(source, target)
            for path in [p for p in self.synced if p == source or source in p.parents]:
                self.synced[target / path.relative_to(source)] = self.synced.pop(path)
            self.pending.append(("renamed", target, source, former))

    def remove_file(self, path):
        with self.one_at_a_time:
            if path.exists():
                former = self._bin()
                shutil.copy(path, former)
                super().remove_file(path)
                self.pending.append(("removed", path, None, former))
            else:
                super().remove_file(path)

    def remove_folder(self, path):
        with self.one_at_a_time:
            former = self._bin()
            shutil.copytree(path, former)
            super().remove_folder(path)
            self.pending.append(("removed", path, None, former))

    def _bin(self) -> Path:
        return self.trash / str(len(list(self.trash.iterdir())))

    def trouble(self) -> None:
        self._tear()
        for what, path, source, former in reversed(self.pending[self.draw.randint(0, len(self.pending)) :]):
            if what == "renamed" and path.exists() and source is not None and source.parent.is_dir():
                os.rename(path, source)
            if former is not None and not path.exists() and path.parent.is_dir():
                (shutil.copytree if former.is_dir() else shutil.copy)(former, path)
        os.kill(os.getpid(), signal.SIGKILL)

    def _tear(self) -> None:
        """Lose some, all or none of what was not synced of each file that this process may have written."""
        for path in [p for p in self.root.rglob("*") if p.is_file() and p.stat().st_mtime_ns >= self.born]:
            safe, size = self.synced.get(path, 0), path.stat().st_size
            if path not in self.synced and ".tmp" not in str(path) and path.name != "metrics.jsonl":
                continue  # a copy of a folder that was synced under another name, or a lock
            if size > safe and (how := self.draw.choice(("keep", "cut", "zero"))) != "keep":
                with path.open("rb+") as file:
                    kept = self.draw.randint(safe, size)
                    file.truncate(kept)
                    if how == "zero":
                        file.truncate(size)


def powered(scene: Scene, at: int, draw: random.Random, work: Callable[[], object]) -> Callable[[], object]:
    """``work`` on a disk whose power fails at a call."""

    def run() -> object:
        storage.disk = Volatile(at, draw, scene.folder / "runs")
        return work()

    return run
