"""Checkpoints of a run: when one is due, which are kept, and which one a run goes on from."""

import errno
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from time import monotonic, perf_counter
from types import TracebackType
from typing import Any

import psutil
import torch
from torch import nn

from weitiao import storage
from weitiao.config_training import CheckpointConfig
from weitiao.course import Best, Clock
from weitiao.errors import DamagedError
from weitiao.language import system_cause, t
from weitiao.machine import memory
from weitiao.model import checkpoint
from weitiao.optim import Optimizer
from weitiao.progress import Reporter

_RECORDS_BYTES = 100_000
"""More than position and manifest take."""
BACKGROUND_BYTES = 100_000_000
"""A checkpoint from this size on is written while training goes on; a smaller one is on the disk before a thread would have paid."""
_SPARE_BYTES = 1 << 30
"""Main memory that a copy leaves free at least beside what the run is expected to take; an eighth of that where it is more."""


@dataclass(frozen=True)
class SavePoint:
    """A whole checkpoint that training can go on from, and the best weights that belong to it."""

    folder: Path
    position: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return int(self.position["step"])

    def restore(self, model: nn.Module, optimizer: Optimizer, best: Best, clock: Clock) -> None:
        """Put everything back as it was after the step. Raises DamagedError where it does not fit the run."""
        checkpoint.resume_training(self.folder, model, optimizer)
        kept, spent = self.position["best"], self.position["clock"]
        best.value, best.step, best.since = kept["value"], kept["step"], kept["since"]
        if best.value is not None:
            best.weights = checkpoint.read_tensors(self.folder.with_name(f"step-{best.step}") / checkpoint.WEIGHTS)
        clock.tokens, clock.targets, clock.seconds = spent["tokens"], spent["targets"], spent["seconds"]


@dataclass(frozen=True)
class _State:
    """What a checkpoint is written of; without moments it holds the best weights alone."""

    step: int
    weights: Mapping[str, torch.Tensor]
    position: Mapping[str, Any]
    moments: Mapping[str, torch.Tensor] | None = None

    @property
    def num_bytes(self) -> int:
        return sum(x.numel() * x.element_size() for x in (*self.weights.values(), *(self.moments or {}).values()))

    def copied(self, room: int) -> tuple["_State", int, int]:
        """The same with the last tensors, as many as go into ``room`` bytes, in main memory of their own; how many of the first ones are
        still the training's, and the bytes copied."""
        weights, moments = dict(self.weights), dict(self.moments or {})
        places = [(kept, name) for kept in (weights, moments) for name in kept]
        left, size = len(places), 0
        for kept, name in reversed(places):
            size += kept[name].numel() * kept[name].element_size()
            if size > room:
                size -= kept[name].numel() * kept[name].element_size()
                break
            kept[name] = kept[name].detach().to("cpu", copy=True)
            left -= 1
        return replace(self, weights=weights, moments=moments), left, size


class Saves:
    """The checkpoints of one run. A save that fails never ends the run: it is reported, and the newest whole checkpoint stays.

    Large ones are written by a thread, one at a time: as much as main memory has room for from a copy, the rest straight from the
    optimiser's tensors; it waits with its next step until these are read. As a context manager it waits for the last one, unless the user
    wants to stop at once.
    """

    def __init__(
        self, folder: Path, settings: CheckpointConfig, identity: Mapping[str, str], reporter: Reporter, most_bytes: int = 0
    ) -> None:
        """``identity``: hashes of what the run is about, for the manifests. ``most_bytes``: main memory that the run is expected to
        take."""
        self.folder, self.settings, self.identity, self.reporter = folder, settings, identity, reporter
        self.most_bytes = most_bytes
        self.num_saved, self.seconds = 0, 0.0
        """Checkpoints that training can go on from, and the time that training stood still for all of them."""
        self.copied_bytes = 0
        """Main memory that the largest copy took; 0: there was none."""
        self._last = monotonic()
        self._written: Future[bool] = Future()
        self._written.set_result(True)

    def __enter__(self) -> "Saves":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None or issubclass(kind, Exception):
            self._written.exception()  # waits; what a save found is no news any more where the run has failed

    def due(self, step: int) -> bool:
        """Whether the settings want a checkpoint after this step."""
        every = self.settings.every_steps
        return monotonic() - self._last >= 60 * self.settings.every_minutes or (every is not None and step % every == 0)

    def save(self, step: int, model: nn.Module, optimizer: Optimizer, best: Best, clock: Clock, metrics_bytes: int) -> None:
        """Begin to save a training after ``step``, when metrics.jsonl had so many bytes. :meth:`finish` says whether it was written."""
        self._last = monotonic()
        if best.value is not None and best.step != step and not self.require_best(best):
            return
        weights, moments = checkpoint.training_state(model, optimizer)
        position = {
            "step": step,
            "resumable": True,
            "metric": best.metric,
            "value": best.value if best.step == step else None,
            "best": {"value": best.value, "step": best.step, "since": best.since},
            "clock": {"tokens": clock.tokens, "targets": clock.targets, "seconds": clock.seconds},
            "metrics_bytes": metrics_bytes,
        }
        self._begin(_State(step, weights, position, moments), best.step, optimizer.may_step)

    def save_best(self, best: Best) -> None:
        """Begin to save the best weights alone. Where that fails they are still in memory."""
        position = {"step": best.step, "resumable": False, "metric": best.metric, "value": best.value}
        self._begin(_State(best.step, best.weights, position), best.step, Event())  # copies, which nobody changes

    def require_best(self, best: Best) -> bool:
        """Save the best weights unless they are on disk, as they are not where an earlier attempt failed. False: they could not be."""
        self.finish()
        if self._path(best.step).exists():
            return True
        self.save_best(best)
        return self.finish()

    def finish(self) -> bool:
        """Wait for the save in hand, and say whether the last one was written. Raises NonFiniteError if its weights were not finite."""
        start = perf_counter()
        try:
            return self._written.result()
        finally:
            self.seconds += perf_counter() - start

    def _begin(self, state: _State, best_step: int, read: Event) -> None:
        """Write a checkpoint, in the background if it is large. ``read`` is set when the tensors may change again."""
        self.finish()
        start, done, is_small = perf_counter(), Future[bool](), state.num_bytes < BACKGROUND_BYTES

        def write() -> None:
            try:
                written = self._write(*self._apart(state, read, 0 if is_small else self._room()), read)
                if written:
                    self.num_saved += state.moments is not None
                    self._tidy(best_step)
                done.set_result(written)
            except BaseException as error:  # raised by finish, in the thread that trains
                done.set_exception(error)
            finally:
                read.set()

        read.clear()
        self._written = done
        if is_small:
            write()
        else:
            Thread(target=copy_context().run, args=(write,), name=f"step-{state.step}", daemon=True).start()  # in the caller's language
        self.seconds += perf_counter() - start
        if is_small:
            self.finish()

    def _room(self) -> int:
        """Bytes of main memory for a copy."""
        to_come = max(0, self.most_bytes - psutil.Process().memory_info().rss)
        return max(0, memory()[1] - to_come - max(_SPARE_BYTES, self.most_bytes // 8))

    def _apart(self, state: _State, read: Event, room: int) -> tuple[_State, int]:
        """A state that training is about to change, partly or wholly copied, which goes faster than any disk writes; and how many of its
        tensors are not copied. Best weights are copies already."""
        if state.moments is None:
            return state, 0
        try:
            apart, left, size = state.copied(room)
        except (MemoryError, RuntimeError):  # torch's word for no memory on the CPU; a limit that the system does not tell
            return state, len(state.weights) + len(state.moments)
        self.copied_bytes = max(self.copied_bytes, size)
        if not left:
            read.set()
        return apart, left

    def newest(self) -> SavePoint | None:
        """The newest checkpoint that is whole and whose best weights are whole. Damaged ones are reported and passed over."""
        for folder in reversed(checkpoint_folders(self.folder)):
            try:
                point = self._open(folder)
            except DamagedError as error:
                self.reporter.warn(
                    t(f"检查点已损坏，改用更早的：{error}", f"a checkpoint is damaged, going back to an earlier one: {error}")
                )
                continue
            if point is not None:
                return point
        return None

    def _open(self, folder: Path) -> SavePoint | None:
        """A verified checkpoint; None where it holds weights only. Raises DamagedError."""
        storage.verify_folder(folder)
        position = checkpoint.read_position(folder)
        if not position["resumable"]:
            return None
        if position["best"]["value"] is not None:
            storage.verify_folder(self._path(position["best"]["step"]))
        return SavePoint(folder, position)

    def _write(self, state: _State, left: int, read: Event) -> bool:
        """Write one checkpoint and read it back; ``read`` is set when its first ``left`` tensors are written. False: it could not be
        written, which was said."""
        folder = self._path(state.step)

        def told(number: int) -> None:
            if number == left:
                read.set()

        try:
            if storage.free_bytes(self.folder) < state.num_bytes + _RECORDS_BYTES:
                raise OSError(errno.ENOSPC, "No space left on device")
            checkpoint.save_checkpoint(folder, state.weights, state.position, state.moments, self.identity, told)
            storage.verify_folder(folder)
        except (OSError, DamagedError) as error:
            cause = system_cause(error) if isinstance(error, OSError) else str(error)
            whole = [path.name for path in checkpoint_folders(self.folder) if path != folder]
            stays = t(f"；仍可从 {whole[-1]} 继续", f"; {whole[-1]} stays") if whole else ""
            failed = t(f"检查点 {folder.name} 没有写成：{cause}", f"checkpoint {folder.name} was not written: {cause}")
            self.reporter.warn(failed + stays)
            return False
        return True

    def _tidy(self, best_step: int) -> None:
        """Remove all but the newest ``keep`` that training can go on from, their best weights, and the best so far."""
        keep, resumable = {self._path(best_step)}, 0
        for folder in reversed(checkpoint_folders(self.folder)):
            try:
                position = checkpoint.read_position(folder)
            except DamagedError:
                continue
            if position["resumable"] and resumable < self.settings.keep:
                resumable += 1
                keep |= {folder, self._path(position["best"]["step"])}
        self._remove(keep)

    def _remove(self, keep: set[Path]) -> None:
        for folder in checkpoint_folders(self.folder):
            if folder not in keep:
                try:
                    storage.disk.remove_folder(folder)
                except OSError as error:
                    self.reporter.warn(t(f"{folder} 删不掉：{system_cause(error)}", f"{folder} cannot be removed: {system_cause(error)}"))

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step}"


def checkpoint_folders(folder: Path) -> list[Path]:
    """The checkpoints in a folder by step, the oldest first."""
    found = [path for path in folder.glob("step-*") if path.name[5:].isdecimal() and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def clear(folder: Path, best_step: int) -> None:
    """The run is finished: remove all checkpoints but the best one. What cannot be removed is left: the result does not depend on it."""
    for path in checkpoint_folders(folder):
        if path.name != f"step-{best_step}":
            with suppress(OSError):
                storage.disk.remove_folder(path)
