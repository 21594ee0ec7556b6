"""The one seam through which everything is written: whole files appear at once or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weitiao.errors import DiskSpaceError
from weitiao.language import t


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: a temporary sibling, fsync, rename, fsync of the folder. A failed write leaves the former file as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, with ``\\n`` line ends on every system."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_json_lines(path: Path, values: Iterator[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n" for value in values))


def append_json_line(path: Path, value: Mapping[str, Any]) -> None:
    """Add one line in a single write, so that a reader never sees half of it after a newline."""
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable (a no-op on Windows, which has no such call)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def folder_sha256(folder: Path, files: list[str]) -> str:
    """One SHA-256 over the names and contents of some files of a folder."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{sha256(folder / name)}\n".encode())
    return digest.hexdigest()


@contextmanager
def published_folder(target: Path) -> Iterator[Path]:
    """A temporary sibling to write into; when the block ends well it gets a manifest (sizes, SHA-256), is synced and renamed to ``target``
    (which it replaces); else it is removed. So ``target`` is whole or absent."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _seal(temporary)
        if target.exists():
            old = target.with_name(f".{target.name}.{os.getpid()}.old")
            os.replace(target, old)
            try:
                os.replace(temporary, target)
            except BaseException:
                os.replace(old, target)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, target)
        sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _seal(folder: Path) -> None:
    """Sync every file and write ``manifest.json`` last."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    entries = {}
    for path in files:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        entries[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    write_json(folder / "manifest.json", {"files": entries})


def require_space(folder: Path, needed_bytes: int, free_bytes: Callable[[Path], int] | None = None, elsewhere: str = "") -> None:
    """Raise DiskSpaceError unless ``needed_bytes`` and a tenth more are free where ``folder`` is or will be. ``elsewhere``: the remedy;
    empty: runs=FOLDER."""
    place = folder.absolute()
    while not os.path.exists(place):  # unlike Path.exists, false for a name that is too long
        place = place.parent
    free = (free_bytes or (lambda p: shutil.disk_usage(p).free))(place)
    needed = needed_bytes + needed_bytes // 10
    if free < needed:
        raise DiskSpaceError(
            str(place),
            t(
                f"磁盘只剩 {free / 1e6:.0f} MB，需要约 {needed / 1e6:.0f} MB",
                f"{free / 1e6:.0f} MB of disk space are free, about {needed / 1e6:.0f} MB are needed",
            ),
            elsewhere or t("清理磁盘，或用 runs=别的文件夹 换一个位置", "free some, or put the runs elsewhere: runs=FOLDER"),
        )
