"""What was made of data once is kept (rows, token ids, an audit): an entry is named by a hash of all that decides it, so it is right or it
is not there.

In `~/.cache/weitiao`, or the folder in the variable `WEITIAO_CACHE` (`off`: nowhere), up to `WEITIAO_CACHE_GB` gigabytes; what was not used
for longest goes first. An entry is a folder that appears whole (see `weitiao.storage.published_folder`), with sizes and hashes, which are
compared at each use: one that is damaged is taken away and made again.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from weitiao import storage
from weitiao.errors import DamagedError, UsageError
from weitiao.language import system_cause, t
from weitiao.progress import Reporter

FOLDER, LIMIT = "WEITIAO_CACHE", "WEITIAO_CACHE_GB"
DEFAULT_GB = 10.0
SMALLEST_BYTES = 2_000_000
"""What comes of less text is made again as fast as an entry would be read."""
Kind = Literal["rows", "tokens", "audits"]
_ABANDONED_SECONDS = 86_400
"""A half-written entry of this age belongs to a process that died."""
_Value = TypeVar("_Value")


class Cache:
    """The entries of a folder; ``folder`` None: nothing is kept. The limit is for those of its siblings, too."""

    def __init__(self, folder: Path | None, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes

    @classmethod
    def of_this_machine(cls, kind: Kind) -> "Cache":
        """Where the variables say. Raises UsageError for a limit that is no number."""
        place, given = os.environ.get(FOLDER, ""), os.environ.get(LIMIT, "")
        try:
            limit = float(given or DEFAULT_GB)
        except ValueError:
            limit = -1.0
        if not 0 <= limit < 1e9:
            raise UsageError(LIMIT, t(f"{given!r} 不是大小", f"{given!r} is not a size"), t("写一个数，如 10", "give a number, such as 10"))
        if place == "off":
            return cls(None, 0)
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weitiao"
        return cls((Path(place) if place else home) / kind, int(limit * 1e9))

    def takes(self, num_bytes: int) -> bool:
        """Whether what comes of so much text is worth keeping here."""
        return self.folder is not None and num_bytes >= SMALLEST_BYTES

    def load(self, key: str, read: Callable[[Path], _Value], reporter: Reporter) -> _Value | None:
        """What ``read`` makes of the entry of this name; None where there is none. A damaged one is taken away."""
        if self.folder is None or not (entry := self.folder / key).is_dir():
            return None
        try:
            storage.verify_folder(entry)
            found = read(entry)
            os.utime(entry / storage.MANIFEST)
        except (DamagedError, OSError, ValueError, KeyError) as error:
            reporter.say(t(f"缓存损坏，重新处理数据：{error}", f"a damaged entry in the cache, made again: {error}"))
            shutil.rmtree(entry, ignore_errors=True)
            return None
        return found

    def save(self, key: str, size_bytes: int, write: Callable[[Path], None], reporter: Reporter) -> None:
        """Keep an entry, unless there is no room for it; then let go of the oldest. What fails is said, and no more."""
        if self.folder is None or size_bytes > self.limit_bytes:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if storage.free_bytes(self.folder) < 3 * size_bytes:
                reporter.say(t("磁盘空间不多，处理好的数据不留在缓存里", "little disk space is left: nothing is kept in the cache"))
                return
            with storage.published_folder(self.folder / key) as entry:
                write(entry)
            self._make_room(self.folder / key)
        except OSError as error:
            cause = system_cause(error)
            reporter.say(t(f"处理好的数据没能放进缓存：{cause}", f"the data could not be kept in the cache: {cause}"))

    def _make_room(self, newest: Path) -> None:
        """Take away what was not used for longest until the rest fits, and what processes that died left."""
        assert self.folder is not None  # the caller's condition
        entries = []
        folders = {self.folder, *(self.folder.parent / kind for kind in get_args(Kind))}
        for path in (path for folder in folders if folder.is_dir() for path in folder.iterdir()):
            if path.name.startswith("."):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)
            elif (path / storage.MANIFEST).is_file():
                entries.append(((path / storage.MANIFEST).stat().st_mtime, path))
        total = 0
        for _, path in sorted(entries, key=lambda entry: (entry[1] != newest, -entry[0])):
            total += sum(file.stat().st_size for file in path.iterdir())
            if total > self.limit_bytes:
                shutil.rmtree(path, ignore_errors=True)


def entry_key(decides: dict[str, Any]) -> str:
    """A name for what is decided by these values: the same values, the same name."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


@cache
def code_hash(sources: tuple[str, ...], packages: tuple[str, ...]) -> str:
    """A hash of some of our code (files and folders of the package) and of the versions of the libraries that it calls (those installed)
    and of Python: another version never reads an entry of this one."""
    found = hashlib.sha256(sys.version.encode())
    for package in packages:
        try:
            found.update(f"{package} {metadata.version(package)}\n".encode())
        except metadata.PackageNotFoundError:
            continue
    root = Path(__file__).parents[1]
    for source in sources:
        for path in sorted((root / source).glob("*.py")) if (root / source).is_dir() else [root / source]:
            found.update(path.read_bytes())
    return found.hexdigest()
