"""The seam through which everything is written: whole or absent, whatever goes wrong in between."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from weitiao import language, storage
from weitiao.errors import DiskSpaceError


@pytest.fixture(autouse=True)
def _english():
    language.use("en")
    yield
    language.use(None)


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failed_write_leaves_the_former_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    path = tmp_path / "a.json"
    storage.write_json(path, {"n": 1})
    monkeypatch.setattr(os, broken, full_disk)
    with pytest.raises(OSError, match="No space"):
        storage.write_json(path, {"n": 2})
    monkeypatch.undo()
    assert contents(tmp_path) == {"a.json": b'{\n  "n": 1\n}\n'}


def test_what_is_no_json_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json(tmp_path / "a.json", {"n": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json_lines(tmp_path / "a.jsonl", iter([{"n": 1}, {"n": float("inf")}]))
    with pytest.raises(ValueError, match="JSON"):
        storage.append_json_line(tmp_path / "a.jsonl", {"n": float("nan")})
    assert not (tmp_path / "a.json").exists()
    assert (tmp_path / "a.jsonl").read_bytes() == b"" if (tmp_path / "a.jsonl").exists() else True


def test_text_is_utf8_with_plain_line_ends(tmp_path: Path) -> None:
    storage.write_text(tmp_path / "a.txt", "甲\n乙\n")
    assert (tmp_path / "a.txt").read_bytes() == "甲\n乙\n".encode()
    storage.append_json_line(tmp_path / "a.jsonl", {"文": "本"})
    storage.append_json_line(tmp_path / "a.jsonl", {"n": 2})
    assert (tmp_path / "a.jsonl").read_bytes() == '{"文": "本"}\n{"n": 2}\n'.encode()


def test_a_published_folder_has_a_manifest_of_all_its_files(tmp_path: Path) -> None:
    with storage.published_folder(tmp_path / "model") as folder:
        (folder / "weights").write_bytes(b"abc")
        (folder / "sub").mkdir()
        (folder / "sub" / "card").write_bytes(b"")
    files = contents(tmp_path)
    manifest = json.loads(files.pop("model/manifest.json"))
    assert files == {"model/weights": b"abc", "model/sub/card": b""}
    assert manifest["files"] == {
        "sub/card": {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()},
        "weights": {"bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()},
    }


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("bad"), KeyboardInterrupt()])
@pytest.mark.parametrize("replaces", [False, True])
def test_a_published_folder_is_whole_or_absent_when_the_block_fails(tmp_path: Path, error: BaseException, replaces: bool) -> None:
    target = tmp_path / "model"
    if replaces:
        with storage.published_folder(target) as folder:
            (folder / "weights").write_bytes(b"old")
    before = contents(tmp_path)

    def write_half() -> None:
        with storage.published_folder(target) as folder:
            (folder / "weights").write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert contents(tmp_path) == before
    assert target.exists() == replaces
    assert [path.name for path in tmp_path.iterdir()] == (["model"] if replaces else [])


@pytest.mark.parametrize("broken", ["fsync", "replace"])
@pytest.mark.parametrize("replaces", [False, True])
def test_a_published_folder_is_whole_or_absent_when_the_disk_fills_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, replaces: bool
) -> None:
    target = tmp_path / "model"
    if replaces:
        with storage.published_folder(target) as folder:
            (folder / "weights").write_bytes(b"old")
    before = contents(tmp_path)
    monkeypatch.setattr(os, broken, full_disk)
    with pytest.raises(OSError, match="No space"), storage.published_folder(target) as folder:
        (folder / "weights").write_bytes(b"new")
    monkeypatch.undo()
    assert contents(tmp_path) == before


def test_a_swap_that_fails_halfway_puts_the_former_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model"
    with storage.published_folder(target) as folder:
        (folder / "weights").write_bytes(b"old")
    before = contents(tmp_path)
    replace = os.replace

    def second_fails(source: Path, to: Path) -> None:
        if Path(to) == target and Path(source).name.endswith(".tmp"):
            full_disk()
        replace(source, to)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(OSError, match="No space"), storage.published_folder(target) as folder:
        (folder / "weights").write_bytes(b"new")
    monkeypatch.undo()
    assert contents(tmp_path) == before


def test_a_folder_that_was_removed_does_not_come_back_with_one_part_of_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), storage.published_folder(tmp_path / "run" / "model"):
        pass
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_system_that_a_library_tells_in_words_is_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, storage.published_folder(tmp_path / "model"):
        raise Exception("No space left on device (os error 28)")  # as tokenizers' save does
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "model"))
    assert not list(tmp_path.iterdir())


def test_a_published_folder_replaces_the_former_one_as_a_whole(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with storage.published_folder(tmp_path / "model") as folder:
            (folder / name).write_bytes(b"")
    assert sorted(contents(tmp_path)) == ["model/manifest.json", "model/two"]


def test_a_folders_hash_depends_on_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    first = storage.folder_sha256(tmp_path, ["a", "b"])
    assert first == storage.folder_sha256(tmp_path, ["b", "a"])
    assert first != storage.folder_sha256(tmp_path, ["a"])
    (tmp_path / "b").write_bytes(b"3")
    assert first != storage.folder_sha256(tmp_path, ["a", "b"])


def test_too_little_space_is_refused_with_a_tenth_to_spare(tmp_path: Path) -> None:
    deep = tmp_path / "not" / "made" / "yet"
    storage.require_space(deep, 100, lambda _: 110)
    with pytest.raises(DiskSpaceError, match="runs=") as caught:
        storage.require_space(deep, 100_000_000, lambda _: 109_000_000)
    assert caught.value.where == str(tmp_path)
    assert "109 MB" in caught.value.cause
    assert "110 MB" in caught.value.cause
    storage.require_space(tmp_path / ("字" * 200), 1, lambda _: 10)
