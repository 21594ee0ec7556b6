"""Real faults from outside, of which the storage seam knows nothing: a file system of its own for each run, which is too small, out of
inodes, filled meanwhile, suddenly read-only or emptied, and a limit on the size of a file.

The file systems lie in main memory (tmpfs) and in a mount namespace of a forked process: they end with it, however it ends. Where the
system permits no such namespace the programme says so and does nothing.
"""

import ctypes
import errno
import json
import os
import random
import resource
import shutil
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest import mock

from harness import KINDS, Counting, Scene, child, finetune, with_disk
from tally import Tally, compare, is_complete

from weitiao import storage
from weitiao.data import cache as data_cache

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE, _DETACH = 1, 32, 4096, 16384, 1 << 18, 2
_PAGE = 4096
_libc = ctypes.CDLL(None, use_errno=True)
SAID = [os.strerror(code) for code in (errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.ENOENT)] + ["disk space", "folder is gone"]
"""One of these must be in the message of a run that did not go through."""


def _mount(source: Path | str, target: Path, kind: str, flags: int, options: str = "") -> None:
    if _libc.mount(str(source).encode(), str(target).encode(), kind.encode(), flags, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))


def _own_mounts() -> None:
    """From here on this process and its children see mounts of their own. Raises OSError where that is not permitted."""
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(_NEW_MOUNTS if user == 0 else _NEW_MOUNTS | _NEW_USER):
        raise OSError(ctypes.get_errno(), "no mount namespace")
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    _mount("none", Path("/"), "none", _RECURSIVE | _PRIVATE)


def can_mount(folder: Path) -> bool:
    """Whether this process may make file systems."""

    def attempt() -> None:
        _own_mounts()
        _mount("none", folder, "tmpfs", 0, "size=4096")

    return child(attempt) == 0


def room(folder: Path, options: str) -> None:
    """A file system in main memory over ``folder``."""
    folder.mkdir(exist_ok=True)
    _mount("none", folder, "tmpfs", 0, options)


class Measuring(Counting):
    """Notes how much of the file system is used after each call."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.used: list[tuple[int, int]] = []

    def _count(self) -> None:
        super()._count()
        here = os.statvfs(self.folder)
        self.used.append(((here.f_blocks - here.f_bfree) * here.f_frsize, here.f_files - here.f_ffree))


class Happening(Counting):
    """Before one call the world outside changes; the calls themselves are the real ones."""

    def __init__(self, at: int, deed: Callable[[], None]) -> None:
        super().__init__(at)
        self.trouble = deed  # type: ignore[method-assign]


def usage(scene: Scene, kind: str, cache: Path) -> dict[str, list[int]]:
    """Bytes and inodes in use, and files' sizes, in the course of a run on a file system of its own; those of the token cache alone."""
    runs, found = scene.folder / "runs", scene.folder / "usage.json"
    disk = Measuring(runs)

    def measured() -> None:
        finetune(scene.config(kind, "measured"))
        sizes = sorted({path.stat().st_size for path in runs.rglob("*") if path.is_file()})
        used = {"size": [entry[0] for entry in disk.used], "inodes": [entry[1] for entry in disk.used], "file size": sizes}
        used["cache"] = [sum(path.stat().st_blocks * 512 for path in cache.rglob("*"))]
        found.write_text(json.dumps(used))

    def alone() -> None:
        _own_mounts()
        room(runs, "size=64m")
        room(cache, "size=64m")
        assert child(with_disk(disk, measured)) == 0

    assert child(alone) == 0
    return json.loads(found.read_text())


def _between(values: list[int], draw: random.Random) -> int:
    """A limit that is passed somewhere in the course of a run: between what is used at two moments."""
    rising = [value for place, value in enumerate(values) if value > max(values[:place], default=0)]
    place = draw.randrange(len(rising))
    return draw.randint(rising[place - 1] if place else 0, rising[place] - 1)


def _fill(folder: Path) -> None:
    """Somebody else takes all that is left."""
    with suppress(OSError), (folder / "somebody-else").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(_PAGE))


def _fault(scene: Scene, kind: str, name: str, how: str, used: dict[str, list[int]], draw: random.Random, cache: Path) -> Tally:
    """One run on file systems of its own: what is wrong with them is mended after it, and it goes on."""
    tally, runs, told = Tally(how, 0, 1), scene.folder / "runs", scene.folder / f"{name}.told"
    tight = _between(used[how], draw) if how in used else 0
    at = draw.randrange(len(used["size"]))
    _own_mounts()
    room(runs, {"size": f"size={max(1, tight // _PAGE) * _PAGE}", "inodes": f"nr_inodes={max(2, tight)},size=64m"}.get(how, "size=8m"))
    room(cache, f"size={max(1, tight // _PAGE) * _PAGE}" if how == "cache" else "size=64m")

    def read_only() -> None:  # over the writable one, in which the run holds its lock: that cannot be made read-only itself
        _mount(runs, runs, "none", _BIND)
        _mount("none", runs, "none", _REMOUNT | _BIND | _READ_ONLY)

    def deleted() -> None:
        for path in runs.iterdir():
            shutil.rmtree(path)

    deeds = {"filled": lambda: _fill(runs), "read-only": read_only, "deleted": deleted}
    disk = Happening(at, deeds[how]) if how in deeds else storage.Disk()
    what = f"{kind}: {how}, " + (f"call {at}" if how in deeds else str(tight))

    def work() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the limit on files is meant for the run's own
        if how == "file size":
            resource.setrlimit(resource.RLIMIT_FSIZE, (tight, resource.RLIM_INFINITY))
        try:
            with mock.patch.object(storage, "require_space"):  # the space went after the run had looked
                finetune(scene.config(kind, name))
        except BaseException:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            told.write_text(traceback.format_exc())
            raise

    ended = child(with_disk(disk, work))
    text = told.read_text() if told.exists() else ""
    tally.note(f"{how}: ended with {ended}")
    if how == "read-only" and disk.calls > at:
        _libc.umount2(str(runs).encode(), _DETACH)
    elif how == "filled":
        (runs / "somebody-else").unlink(missing_ok=True)
    _mount("none", runs, "tmpfs", _REMOUNT, "size=64m,nr_inodes=0")
    if ended not in (0, 1, 2):
        tally.failures.append(f"{what}: ended with {ended}\n{text}")
    elif ended and not any(words in text for words in SAID):
        tally.failures.append(f"{what}: does not say why\n{text}")
    else:
        _finish(tally, scene, kind, name, what)
    return tally


def _finish(tally: Tally, scene: Scene, kind: str, name: str, what: str) -> None:
    """Go on, unless the run is complete, and compare. A disk that had no room for what the frozen part gives is no fault: the same run on
    the same way is what it is compared with. Checkpoints that could not be written are missing where nothing had to go on from them."""
    run = scene.folder / "runs" / name
    text = (run / "run.json").read_text(encoding="utf-8") if (run / "run.json").exists() else ""
    finished = '"state": "finished"' in text
    if not is_complete(run) and (code := child(lambda: finetune(scene.config(kind, name)))):
        tally.failures.append(f"{what}: going on ended with {code}")
        return
    has_room = '"frozen_part_kept": false' not in (run / "run.json").read_text(encoding="utf-8")
    compare(tally, scene, kind, name, what, {"checkpoints", "best"} if finished else (), has_room)


HOW = ("size", "filled", "read-only", "cache", "deleted", "inodes", "file size")


def outside(scene: Scene, faults: int, seed: int) -> Tally:
    """Each run meets one fault of its file system: it finishes all the same, or ends with an error that names the cause and then goes on,
    on a sound one, to the same result."""
    total, draw, found = Tally("outside", seed), random.Random(seed), scene.folder / "fault.json"
    cache, kinds, used = scene.folder / "cache", list(KINDS), {}
    if not can_mount(scene.folder):
        total.note("skipped: no file system can be mounted here")
        return total
    with mock.patch.dict(os.environ, {"WEITIAO_CACHE": str(cache)}), mock.patch.object(data_cache, "SMALLEST_BYTES", 0):
        for number in range(faults):
            kind, how = kinds[number // len(HOW) % len(kinds)], HOW[number % len(HOW)]
            if kind not in used:
                for has_room in (True, False) if "head" in kind else (True,):
                    scene.reference(kind, has_room)
                used[kind] = usage(scene, kind, cache)
            lot = draw.random()

            def work(kind: str = kind, how: str = how, number: int = number, lot: float = lot) -> None:
                one = _fault(scene, kind, f"outside-{number}", how, used[kind], random.Random(lot), cache)
                found.write_text(json.dumps([one.notes, one.failures]))

            found.unlink(missing_ok=True)
            ended = child(work)
            total.faults += 1
            if ended or not found.exists():
                total.failures.append(f"{kind}: {how}: the programme itself ended with {ended}")
                continue
            notes, failures = json.loads(found.read_text())
            for note in notes:
                total.note(note)
            total.failures += failures
    return total
