"""Rows and audits that were made before: what comes out of the cache is what would be made again, and nothing else ever does."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from weitiao import prepare as preparing
from weitiao import storage
from weitiao.config import RunConfig, build_config
from weitiao.data import cache, kept
from weitiao.data import examples as reading
from weitiao.data.cache import FOLDER
from weitiao.data.examples import Dataset, load_dataset
from weitiao.data.render import ChatEncoder
from weitiao.errors import DataError
from weitiao.language import use
from weitiao.model.load import find_model
from weitiao.model.plain_tokenizer import PlainTokenizer
from weitiao.prepare import audit, prepare
from weitiao.progress import Reporter
from weitiao.records import SPLITS


@pytest.fixture(autouse=True)
def _english():
    use("en")
    yield
    use(None)


def chats(path: Path, word: str = "天气") -> Path:
    """Thirty chats with tools and a row that cannot be read, one without an answer, one that stands there twice."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"第{i % 29}天的{word}怎么样，请说得详细一点，谢谢"},
                {"role": "assistant", "content": f"很好{i % 29}"},
            ]
        }
        for i in range(30)
    ]
    call = {"type": "function", "function": {"name": "weather", "arguments": {"day": 1}}}
    rows[3]["messages"][1] = {"role": "assistant", "content": "", "tool_calls": [call]}  # type: ignore[dict-item]
    rows[4]["messages"][1]["content"] = ""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    lines[5] = "{"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def config_of(path: Path, task: str = "generation", seed: int = 0, **data: Any) -> RunConfig:
    objective = {"objective": "dpo"} if task == "preference" else {}
    return build_config({"task": task, "seed": seed, "data": {"train": str(path)} | data} | objective, "test")


def everything(dataset: Dataset) -> list[Any]:
    splits = {split: list(examples) for split, examples in dataset.splits.items()}
    digests = [dataset.splits[split].digest for split in SPLITS]  # type: ignore[attr-defined]
    return [splits, digests, dataset.task, dataset.layout, dataset.ledger.state()]


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(reading, "read_rows", refuse)


def candidates(path: Path) -> Path:
    rows = [{"text": f"第{i}段，说的是别的事情", "category": ["甲", "乙", "丙"][: 2 + i % 2], "output": "甲乙"[i % 2]} for i in range(40)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


CONFIGS: dict[str, Callable[[Path, Path], RunConfig]] = {
    "chats": lambda tmp_path, _: config_of(chats(tmp_path / "chats.jsonl")),
    "labels": lambda _, small_csv: config_of(small_csv, "classification", deduplicate="near"),
    "candidates": lambda tmp_path, _: config_of(candidates(tmp_path / "own.jsonl"), "classification"),
    "preferences": lambda tmp_path, _: config_of(pairs(tmp_path / "pairs.jsonl"), "preference"),
}


def pairs(path: Path) -> Path:
    rows = [{"prompt": f"问题{i}", "chosen": f"好{i}", "rejected": f"坏{i}"} for i in range(12)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", CONFIGS)
def test_the_second_time_no_row_is_read_and_all_is_the_same(
    name: str, tmp_path: Path, small_csv: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIGS[name](tmp_path, small_csv)
    monkeypatch.setenv(FOLDER, "off")
    plain = everything(load_dataset(config))
    monkeypatch.setenv(FOLDER, str(store))
    cold = everything(load_dataset(config))
    forbid_reading(monkeypatch)
    assert everything(load_dataset(config)) == cold == plain
    assert len(list((store / "rows").iterdir())) == 1


CHANGES: dict[str, Callable[[Path], RunConfig]] = {
    "a row, and neither size nor time": lambda path: _same_stamp(path),
    "the seed": lambda path: config_of(path, seed=1),
    "the shares": lambda path: config_of(path, test_share=0.3),
    "the limit": lambda path: config_of(path, limit=9),
    "repeats left out": lambda path: config_of(path, deduplicate="exact"),
    "its name": lambda path: config_of(path.rename(path.with_name("others.jsonl"))),
}


def _same_stamp(path: Path) -> RunConfig:
    before = path.stat()
    chats(path, "生活")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    return config_of(path)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_rows_changes_the_name(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = chats(tmp_path / "chats.jsonl")
    former = everything(load_dataset(config_of(path)))
    config = CHANGES[change](path)
    found = everything(load_dataset(config))
    assert found != former
    monkeypatch.setenv(FOLDER, "off")
    assert everything(load_dataset(config)) == found


@pytest.mark.usefixtures("store")
def test_other_code_reads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(chats(tmp_path / "chats.jsonl"))
    load_dataset(config)
    monkeypatch.setattr(kept, "_code", lambda: "another version")
    forbid_reading(monkeypatch)
    with pytest.raises(AssertionError, match="read again"):
        load_dataset(config)


def test_a_file_that_changed_while_it_was_read_is_not_kept(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = chats(tmp_path / "chats.jsonl")
    inner = reading.read_rows

    def changing(*arguments: Any) -> Any:
        yield from inner(*arguments)
        chats(path, "生活的节奏")

    monkeypatch.setattr(reading, "read_rows", changing)
    load_dataset(config_of(path))
    assert not (store / "rows").exists()


def test_a_damaged_entry_is_said_and_made_again(tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(chats(tmp_path / "chats.jsonl"))
    first = everything(load_dataset(config))
    (entry,) = (store / "rows").iterdir()
    said = bytearray((entry / "said.bin").read_bytes())
    said[40] ^= 1
    (entry / "said.bin").write_bytes(said)
    assert everything(load_dataset(config, Reporter())) == first
    assert "a damaged entry in the cache" in capsys.readouterr().err
    storage.verify_folder(entry)


@pytest.mark.usefixtures("store")
def test_a_file_that_is_gone_is_an_error_though_its_rows_are_kept(tmp_path: Path) -> None:
    path = chats(tmp_path / "chats.jsonl")
    load_dataset(config_of(path))
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        load_dataset(config_of(path))


def test_the_audit_is_kept_too(tmp_path: Path, store: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ChatEncoder(PlainTokenizer.of(find_model(build_config({"model": str(tiny_model)}, "test").model)), "tiny")
    config = config_of(chats(tmp_path / "chats.jsonl"), max_tokens=200)
    monkeypatch.setenv(FOLDER, "off")
    plain = audit(prepare(config, encoder, {}), encoder)
    assert {"duplicates", "rejected_rows"} <= {finding["check"] for finding in plain["findings"]}
    monkeypatch.setenv(FOLDER, str(store))
    assert audit(prepare(config, encoder, {}), encoder) == plain

    def refuse(*_: Any) -> None:
        raise AssertionError("looked at again")

    with monkeypatch.context() as patched:
        patched.setattr(preparing, "run_checks", refuse)
        assert audit(prepare(config, encoder, {}), encoder) == plain
        with pytest.raises(AssertionError, match="looked at again"):  # other lengths, other findings
            audit(prepare(config_of(tmp_path / "chats.jsonl", max_tokens=60), encoder, {}), encoder)


def test_small_and_very_large_files_are_not_kept(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(chats(tmp_path / "chats.jsonl"))
    monkeypatch.setattr(cache, "SMALLEST_BYTES", 10**6)
    load_dataset(config)
    monkeypatch.setattr(cache, "SMALLEST_BYTES", 0)
    monkeypatch.setattr(kept, "LARGEST_BYTES", 100)
    assert load_dataset(config).key == ""
    assert not store.exists()
