"""Token ids that were made once are kept: an entry is named by a hash of all that decides it, so it is right or it is not there.

In `~/.cache/weitiao/tokens`, or the folder in the variable `WEITIAO_CACHE` (`off`: nowhere), up to `WEITIAO_CACHE_GB` gigabytes; what was
not used for longest goes first. An entry is a folder that appears whole (see `weitiao.storage.published_folder`), with sizes and hashes,
which are compared at each use: one that is damaged is taken away and made again.
"""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from weitiao import storage
from weitiao.data.packed import Packed
from weitiao.errors import DamagedError, UsageError
from weitiao.language import system_cause, t
from weitiao.progress import Reporter

FOLDER, LIMIT = "WEITIAO_CACHE", "WEITIAO_CACHE_GB"
DEFAULT_GB = 10.0
_ABANDONED_SECONDS = 86_400
"""A half-written entry of this age belongs to a process that died."""


class TokenCache:
    """The entries of a folder; ``folder`` None: nothing is kept."""

    def __init__(self, folder: Path | None, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes

    @classmethod
    def of_this_machine(cls) -> "TokenCache":
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
        return cls((Path(place) if place else home) / "tokens", int(limit * 1e9))

    def load(self, key: str, reporter: Reporter) -> Packed | None:
        """The entry of this name, its arrays mapped from the file; None where there is none. A damaged one is taken away."""
        if self.folder is None or not (entry := self.folder / key).is_dir():
            return None
        try:
            storage.verify_folder(entry)
            arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in entry.glob("*.npy")}
            reasons = json.loads((entry / "reasons.json").read_text(encoding="utf-8"))
            os.utime(entry / storage.MANIFEST)
        except (DamagedError, OSError, ValueError) as error:
            reporter.say(t(f"缓存损坏，重新编码：{error}", f"a damaged entry in the cache, encoding again: {error}"))
            shutil.rmtree(entry, ignore_errors=True)
            return None
        empty = {"tokens": np.zeros(0, dtype=np.uint32), "trained": np.zeros(0, dtype=np.bool_)}
        return Packed(reasons={int(place): reason for place, reason in reasons.items()}, **(empty | arrays))

    def save(self, key: str, packed: Packed, reporter: Reporter) -> None:
        """Keep an entry, unless there is no room for it; then let go of the oldest. What fails is said, and no more."""
        size = sum(array.nbytes for array in packed.arrays.values())
        if self.folder is None or size > self.limit_bytes:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if storage.free_bytes(self.folder) < 3 * size:
                reporter.say(t("磁盘空间不多，编码结果不留在缓存里", "little disk space is left: the token ids are not kept in the cache"))
                return
            with storage.published_folder(self.folder / key) as entry:
                for name, array in packed.arrays.items():
                    np.save(entry / f"{name}.npy", array, allow_pickle=False)
                storage.write_json(entry / "reasons.json", {str(place): reason for place, reason in packed.reasons.items()})
            self._make_room(key)
        except OSError as error:
            cause = system_cause(error)
            reporter.say(t(f"编码结果没能放进缓存：{cause}", f"the token ids could not be kept in the cache: {cause}"))

    def _make_room(self, newest: str) -> None:
        """Take away what was not used for longest until the rest fits, and what processes that died left."""
        assert self.folder is not None  # the caller's condition
        entries = []
        for path in self.folder.iterdir():
            if path.name.startswith("."):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)
            elif (path / storage.MANIFEST).is_file():
                entries.append(((path / storage.MANIFEST).stat().st_mtime, path))
        total = 0
        for _, path in sorted(entries, key=lambda entry: (entry[1].name != newest, -entry[0])):
            total += sum(file.stat().st_size for file in path.iterdir())
            if total > self.limit_bytes:
                shutil.rmtree(path, ignore_errors=True)


def entry_key(decides: dict[str, Any]) -> str:
    """A name for what is decided by these values: the same values, the same name."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
