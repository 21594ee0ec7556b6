"""A data set that was read before: its rows, splits and accounts, kept in the cache under the hash of its files' bytes and of all that
decides how they are read. Neither name nor time of a file says what is in it: every byte is hashed, each time.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weitiao import storage
from weitiao.config import RunConfig
from weitiao.config_tasks import GenerationTask
from weitiao.data.cache import Cache, code_hash, entry_key
from weitiao.data.columns import Columns
from weitiao.data.ledger import Ledger
from weitiao.data.read import check_file, file_and_sheet, file_sha256
from weitiao.data.rows import Rows
from weitiao.data.shapes import Layout
from weitiao.data.sources import Source
from weitiao.language import current
from weitiao.progress import Reporter
from weitiao.records import SPLITS, SplitName

LARGEST_BYTES = 1_000_000_000
"""Files of more together are read anew each time: a copy of them would crowd everything else out of the cache."""
_SOURCES = ("data", "tasks", "records.py")
"""The code that decides rows, splits and accounts."""


@dataclass(frozen=True)
class ReadRows:
    """What reading gives: the rows and each split's numbers, the label names (classification), the accounts, the training file's shape and
    columns."""

    rows: Rows
    splits: dict[SplitName, Sequence[int]]
    labels: tuple[str, ...]
    ledger: Ledger
    layout: Layout


@dataclass(frozen=True)
class Reading:
    """The files that are about to be read. ``key`` names what comes of it; empty: it is not kept."""

    key: str
    files: tuple[Path, ...]
    stamps: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, config: RunConfig, sources: Sequence[Source]) -> "Reading":
        """Hashes the files. Raises DataError for one that cannot be read."""
        for source in sources:
            check_file(Path(source.path))
        files = tuple(file_and_sheet(Path(source.path))[0] for source in sources)
        stamps = _stamps(files)
        size = sum(size for _, size in stamps)
        if size > LARGEST_BYTES or not Cache.of_this_machine("rows").takes(size):
            return cls("", files, stamps)
        schema = config.task.json_schema if isinstance(config.task, GenerationTask) else None
        decides = {
            "sources": [asdict(source) for source in sources],
            "files": [file_sha256(file) for file in files],
            "schema": file_sha256(Path(schema)) if schema is not None and Path(schema).is_file() else "",
            "task": config.task.model_dump(mode="json"),
            "data": config.data.model_dump(mode="json"),
            "seed": config.seed,
            "language": current(),  # reasons are worded
            "code": _code(),
        }
        return cls(entry_key(decides), files, stamps)

    def recall(self, reporter: Reporter) -> tuple[ReadRows, dict[SplitName, str]] | None:
        """What was read before and the splits' digests; None: they are not kept."""
        return Cache.of_this_machine("rows").load(self.key, _read, reporter) if self.key else None

    def keep(self, found: ReadRows, digests: dict[SplitName, str], reporter: Reporter) -> None:
        """Keep what was read, unless a file has changed meanwhile."""
        if self.key and _stamps(self.files) == self.stamps:
            entry = _Entry(found, digests)
            Cache.of_this_machine("rows").save(self.key, found.rows.num_bytes, entry.write, reporter)


@dataclass(frozen=True)
class _Entry:
    found: ReadRows
    digests: dict[SplitName, str]

    def write(self, folder: Path) -> None:
        found = self.found
        found.rows.write(folder)
        for split in SPLITS:
            np.save(folder / f"split-{split}.npy", np.array(found.splits[split], dtype=np.int64), allow_pickle=False)
        facts: dict[str, Any] = {"labels": found.labels, "ledger": found.ledger.state(), "layout": asdict(found.layout)}
        storage.write_json(folder / "facts.json", facts | {"digests": self.digests})


def _read(folder: Path) -> tuple[ReadRows, dict[SplitName, str]]:
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    splits = {split: np.load(folder / f"split-{split}.npy", allow_pickle=False).tolist() for split in SPLITS}
    task, shape, columns = (facts["layout"][name] for name in ("task", "shape", "columns"))
    layout = Layout(task, shape, Columns(**columns))
    return ReadRows(Rows.read(folder), splits, tuple(facts["labels"]), Ledger.restored(facts["ledger"]), layout), facts["digests"]


def _stamps(files: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """Time of change (ns) and size of each file."""
    found = [file.stat() for file in files]
    return tuple((status.st_mtime_ns, status.st_size) for status in found)


def _code() -> str:
    return code_hash(_SOURCES, ("numpy", "rapidfuzz", "pyarrow", "openpyxl", "jsonschema"))
