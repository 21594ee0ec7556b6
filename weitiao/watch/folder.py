"""The runs that the page shows: the run folders directly in one folder, each under an id that tells nothing of its path."""

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from weitiao.run import process_of
from weitiao.watch.files import read_json

SECONDS_TO_KEEP = 1.0
"""Between two looks at the folder: many pages ask at once."""
_KEPT = (
    "name",
    "state",
    "created",
    "ended",
    "task",
    "method",
    "objective",
    "seed",
    "error",
    "planned_steps",
    "training",
    "seconds",
    "process",
)


class Runs:
    """The runs in a folder, looked at anew once a second at most."""

    def __init__(self, root: Path, secret: str) -> None:
        self.root, self._secret = root, secret
        self._paths: dict[str, Path] = {}
        self._entries: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}
        self._looked = -SECONDS_TO_KEEP
        self._listing: list[dict[str, Any]] = []

    def id(self, path: Path) -> str:
        """A run's id, for this server only."""
        return hashlib.sha256(f"{self._secret}/{path.name}".encode()).hexdigest()[:16]

    def path(self, run: str) -> Path | None:
        """The folder of an id; None: no such run."""
        if run not in self._paths:
            self.list()
        return self._paths.get(run)

    def list(self, fresh: bool = False) -> list[dict[str, Any]]:
        """What the list shows of each run, the newest first."""
        now = time.monotonic()
        if fresh or now - self._looked >= SECONDS_TO_KEEP:
            self._looked = now
            try:
                entries = [e for e in os.scandir(self.root) if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
            except OSError:
                entries = []
            found = [one for entry in entries if (one := self._look(Path(entry.path))) is not None]
            self._listing = sorted(found, key=lambda one: str(one.get("created")), reverse=True)
        return self._listing

    def _look(self, path: Path) -> dict[str, Any] | None:
        """One run's entry, read again only where run.json is another file than last time."""
        try:
            status = os.lstat(path / "run.json")
        except OSError:
            return None
        run, stamp = self.id(path), (status.st_mtime_ns, status.st_ino)
        if self._entries.get(run, ((0, 0), {}))[0] != stamp:
            record = read_json(path, "run.json")
            if "state" not in record:
                return None
            entry = {key: record.get(key) for key in _KEPT} | {"id": run, "name": path.name, "score": _score(path)}
            self._entries[run] = (stamp, entry)
        self._paths[run] = path
        entry = self._entries[run][1]
        stopped = entry["state"] == "running" and process_of(entry) is None
        return {key: value for key, value in entry.items() if key != "process"} | ({"state": "stopped"} if stopped else {})


def _score(path: Path) -> dict[str, Any] | None:
    """The score that a list can show: accuracy, or the loss, with its interval."""
    metrics = read_json(path, "evaluation/after.json").get("metrics")
    if not isinstance(metrics, dict):
        return None
    name = "accuracy" if "accuracy" in metrics else "loss"
    return {"name": name, **metrics[name]} if isinstance(metrics.get(name), dict) else None
