"""The one seam through which everything is written: whole files and folders appear at once or not at all."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from weitiao.errors import DamagedError, DiskSpaceError
from weitiao.language import system_cause, t

MANIFEST = "manifest.json"


class Disk:
    """The calls that change the disk. Tests put one in its place that fails, tears or forgets at the i-th call."""

    def open(self, path: Path, mode: str) -> IO[bytes]:
        """Open a file unbuffered, so that a write is one call."""
        return path.open(mode, buffering=0)

    def write(self, file: IO[bytes], data: bytes | memoryview) -> None:
        """Write all of ``data``."""
        view = memoryview(data).cast("B")
        while view:
            view = view[file.write(view) :]

    def sync(self, file: IO[bytes]) -> None:
        """Make what was written durable. A call that failed is never repeated: the pages may be gone, and a second one would say
        "done" (Rebello et al. 2020, "Can Applications Recover from fsync Failures?")."""
        os.fsync(file.fileno())

    def sync_folder(self, folder: Path) -> None:
        """Make renames in a folder durable (a no-op on Windows, which has no such call)."""
        if os.name == "nt":
            return
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def replace(self, source: Path, target: Path) -> None:
        """Rename, replacing a file that is there."""
        os.replace(source, target)

    def make_folder(self, path: Path) -> None:
        """Make a folder that does not exist yet, in one that does."""
        path.mkdir()

    def remove_file(self, path: Path) -> None:
        """Remove a file if it is there."""
        path.unlink(missing_ok=True)

    def remove_folder(self, path: Path) -> None:
        """Remove a folder with all that is in it."""
        shutil.rmtree(path)

    def cut(self, path: Path, length_bytes: int) -> None:
        """Shorten a file, durably."""
        with path.open("rb+") as file:
            file.truncate(length_bytes)
            os.fsync(file.fileno())


disk = Disk()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: a temporary sibling, fsync, rename, fsync of the folder. A failed write leaves the former file as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with disk.open(temporary, "wb") as file:
            disk.write(file, data)
            disk.sync(file)
        disk.replace(temporary, path)
    except BaseException:
        _discard(temporary)
        raise
    disk.sync_folder(path.parent)


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
    line = (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode()
    with disk.open(path, "ab") as file:
        disk.write(file, line)


def synced_length(path: Path) -> int:
    """Make a growing file durable as it is now and return its length in bytes (0: it does not exist)."""
    if not path.exists():
        return 0
    with disk.open(path, "rb+") as file:
        disk.sync(file)
    return path.stat().st_size


def cut_file(path: Path, length_bytes: int) -> None:
    """Cut a growing file back to a length that it had. A missing file stays missing."""
    if path.exists() and path.stat().st_size > length_bytes:
        disk.cut(path, length_bytes)


def read_text(path: Path, most_bytes: int = 50_000_000) -> str:
    """UTF-8 text of an ordinary file. Raises OSError, also for a pipe, a device or a file that is larger, and ValueError for no UTF-8."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, t("不是普通文件", "not an ordinary file"), str(path))
    if status.st_size > most_bytes:
        raise OSError(errno.EFBIG, t("文件太大", "file too large"), str(path))
    return path.read_text(encoding="utf-8")


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


def make_folders(path: Path) -> None:
    """Make a folder, and those above it that are absent. One that another process makes at the same moment is as good."""
    for place in (*reversed(path.parents), path):
        if not exists(place):
            with suppress(FileExistsError):
                disk.make_folder(place)


@contextmanager
def published_folder(target: Path, facts: Mapping[str, Any] | None = None, known: Mapping[str, str] | None = None) -> Iterator[Path]:
    """A temporary sibling to write into; when the block ends well it gets a manifest (sizes, SHA-256, and ``facts``), is synced and renamed
    to ``target`` (which it replaces); else it is removed. So ``target`` is whole or absent. ``known``: the SHA-256 of what was to be
    written, by file, which then is not what the disk gives back; may be filled in the block. Raises OSError, also where the folder that it
    is to stand in does not exist: one that was removed meanwhile does not come back with this alone in it."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    disk.make_folder(temporary)
    try:
        yield temporary
        _seal(temporary, facts or {}, known or {})
        if target.exists():
            old = target.with_name(f".{target.name}.{os.getpid()}.old")
            disk.replace(target, old)
            try:
                disk.replace(temporary, target)
            except BaseException:
                disk.replace(old, target)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            disk.replace(temporary, target)
        disk.sync_folder(target.parent)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if (code := _system_error(error)) is not None:
            raise OSError(code, os.strerror(code), str(target)) from error
        raise


def _system_error(error: BaseException) -> int | None:
    """The number of an operating system's error that a library written in Rust (tokenizers, safetensors) told in words, in an exception of
    its own kind."""
    found = None if isinstance(error, OSError) else re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _discard(temporary: Path) -> None:
    """Best effort: what went wrong first is what counts."""
    with suppress(OSError):
        disk.remove_file(temporary)


def _seal(folder: Path, facts: Mapping[str, Any], known: Mapping[str, str]) -> None:
    """Sync every file and folder and write ``manifest.json`` last."""
    entries = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with disk.open(path, "rb+") as file:
            disk.sync(file)
        name = path.relative_to(folder).as_posix()
        entries[name] = {"bytes": path.stat().st_size, "sha256": known.get(name) or sha256(path)}
    for path in (p for p in folder.rglob("*") if p.is_dir()):
        disk.sync_folder(path)
    write_json(folder / MANIFEST, {"files": entries, **facts})


def verify_folder(folder: Path) -> dict[str, Any]:
    """The manifest of a published folder in which every file is what the manifest says and no other file stands.

    Raises DamagedError that names the first fault.
    """
    try:
        if (folder / MANIFEST).is_symlink():
            raise ValueError(MANIFEST)
        manifest = json.loads(read_text(folder / MANIFEST))
        entries = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedError(folder / MANIFEST, t("没有或读不了", "absent or unreadable")) from None
    try:
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
        for name in sorted(found - entries.keys() - {MANIFEST}):
            raise DamagedError(folder / name, t("不在清单里", "is not in the manifest"))
        for name, (size, digest) in entries.items():
            path = folder / name
            if name not in found or path.is_symlink() or not path.is_file():
                raise DamagedError(path, t("不见了", "is absent"))
            if path.stat().st_size != size:
                has = path.stat().st_size
                raise DamagedError(path, t(f"有 {has} 字节，应为 {size}", f"has {has} bytes instead of {size}"))
            if sha256(path) != digest:
                raise DamagedError(path, t("内容与校验和不符", "does not have the content of its checksum"))
    except OSError as error:
        raise DamagedError(folder, t(f"读不了：{system_cause(error)}", f"cannot be read: {system_cause(error)}")) from error
    return dict(manifest)


def exists(path: Path) -> bool:
    """Whether anything stands there; unlike ``Path.exists`` false for a name that is too long."""
    return os.path.exists(path)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing in a folder: only temporary names of this module."""
    for path in folder.glob(".*"):
        if path.name.endswith((".tmp", ".old")):
            (disk.remove_folder if path.is_dir() else disk.remove_file)(path)


def free_bytes(folder: Path) -> int:
    """Free disk space where ``folder`` is or will be."""
    return shutil.disk_usage(_existing(folder)).free


def _existing(folder: Path) -> Path:
    place = folder.absolute()
    while not exists(place):
        place = place.parent
    return place


def require_space(folder: Path, needed_bytes: int, free: Callable[[Path], int] = free_bytes, elsewhere: str = "") -> None:
    """Raise DiskSpaceError unless ``needed_bytes`` and a tenth more are free where ``folder`` is or will be. ``elsewhere``: the remedy;
    empty: runs=FOLDER."""
    there, needed = free(folder), needed_bytes + needed_bytes // 10
    if there < needed:
        raise DiskSpaceError(
            str(_existing(folder)),
            t(
                f"磁盘只剩 {there / 1e6:.0f} MB，需要约 {needed / 1e6:.0f} MB",
                f"{there / 1e6:.0f} MB of disk space are free, about {needed / 1e6:.0f} MB are needed",
            ),
            elsewhere or t("清理磁盘，或用 runs=别的文件夹 换一个位置", "free some, or put the runs elsewhere: runs=FOLDER"),
        )
