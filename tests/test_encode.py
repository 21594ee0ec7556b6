"""The cache of token ids: what comes out of it is what would be made again, and nothing else ever does."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weitiao import encode as encoding
from weitiao import storage
from weitiao.config import RunConfig, build_config
from weitiao.data.cache import FOLDER, LIMIT, Cache, entry_key
from weitiao.data.packed import EncodedRows, Packed, PackedRow, row_lengths, shortened
from weitiao.data.plain_texts import PlainTexts
from weitiao.data.render import ChatEncoder
from weitiao.errors import UsageError
from weitiao.language import use
from weitiao.model.load import find_model, load_tokenizer
from weitiao.model.plain_tokenizer import PlainTokenizer
from weitiao.prepare import Prepared, prepare
from weitiao.progress import Reporter

ANSWERS = "晴天。\n明天也是。"


@pytest.fixture(autouse=True)
def _english():
    use("en")
    yield
    use(None)


@pytest.fixture
def store(store: Path) -> Path:
    """Where the token ids are."""
    return store / "tokens"


@pytest.fixture
def encoder(tiny_model: Path) -> ChatEncoder:
    folder = find_model(build_config({"model": str(tiny_model)}, "test").model)
    return ChatEncoder(PlainTokenizer.of(folder), "tiny")


def chats(path: Path, changed: str = "") -> Path:
    """Twelve chats; the third has two exchanges and does not fit into 80 tokens, the fourth is too long even so, the fifth has a bad
    role."""
    rows: list[Any] = [[("user", f"第{i}天的天气？"), ("assistant", ANSWERS[: 3 + i % 5])] for i in range(12)]
    rows[2] = [("user", "长" * 60), ("assistant", "短"), ("user", "再问"), ("assistant", "再答")]
    rows[3] = [("user", "问" * 200), ("assistant", "答")]
    rows[4] = [("nobody", "x"), ("assistant", "y")]
    if changed:
        rows[7][0] = ("user", changed)
    text = "".join(json.dumps({"messages": [{"role": r, "content": c} for r, c in row]}, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def generation(path: Path, **data: Any) -> RunConfig:
    return build_config(
        {"task": "generation", "data": {"train": str(path), "max_tokens": 80, "validation_share": 0, "test_share": 0} | data}, "test"
    )


def everything(prepared: Prepared) -> list[Any]:
    """All that a run uses."""
    return [list(prepared.rows), dict(prepared.prompts), [list(p) for p in prepared.passages.values()], prepared.dataset.ledger.as_dict()]


def forbid_tokenising(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("tokenised again")

    for name in ("pack_chats", "pack_documents"):
        monkeypatch.setattr(encoding, name, refuse)
    monkeypatch.setattr("weitiao.tasks.classification.Classification.pack_prompts", refuse)


def configs(tmp_path: Path, small_csv: Path) -> dict[str, RunConfig]:
    classes = {"train": str(small_csv), "max_tokens": 150, "shorten": "middle"}
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"第{i}段文字，不长不短。\n" for i in range(30)), encoding="utf-8")
    return {
        "generation": generation(chats(tmp_path / "chats.jsonl")),
        "classification": build_config({"data": classes}, "test"),
        "text": build_config(
            {"task": {"kind": "text", "block_tokens": 16}, "objective": "pretrain", "data": {"train": str(texts)}}, "test"
        ),
    }


@pytest.mark.parametrize("task", ["generation", "classification", "text"])
def test_the_second_time_nothing_is_tokenised_and_all_is_the_same(
    task: str, tmp_path: Path, small_csv: Path, store: Path, encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configs(tmp_path, small_csv)[task]
    monkeypatch.setenv(FOLDER, "off")
    plain = everything(prepare(config, encoder, {}))
    assert not store.exists()
    monkeypatch.setenv(FOLDER, str(store.parent))
    cold = everything(prepare(config, encoder, {}))
    assert len(list(store.iterdir())) == sum(len(split) > 0 for split in prepare(config, encoder, {}).dataset.splits.values())
    forbid_tokenising(monkeypatch)
    assert everything(prepare(config, encoder, {})) == cold == plain


@pytest.mark.parametrize("transformers_own", [False, True])
@pytest.mark.parametrize("task", ["generation", "classification", "text"])
def test_several_processes_with_tiktoken_make_the_same_of_it(
    task: str, transformers_own: bool, tmp_path: Path, small_csv: Path, encoder: ChatEncoder, tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config = configs(tmp_path, small_csv)[task]
    plain = everything(prepare(config, encoder, {}))
    if transformers_own:
        encoder = ChatEncoder(load_tokenizer(find_model(build_config({"model": str(tiny_model)}, "test").model)), "theirs")
    for name, value in (("QUICK_BYTES", 1), ("CREW_BYTES", 1), ("PORTION_ROWS", 5), ("num_cores", lambda: 2)):
        monkeypatch.setattr(encoding, name, value)
    hastened = []
    monkeypatch.setattr(ChatEncoder, "hasten", lambda self: (hastened.append(1), PlainTexts.hasten(self._plain)))
    forbid_tokenising(monkeypatch)  # in this process
    assert everything(prepare(config, encoder, {})) == plain
    assert hastened
    assert encoder._plain.quick is not None


def test_what_train_and_check_use_is_one_entry(tiny_model: Path, encoder: ChatEncoder) -> None:
    """`check` reads the tokenizer without transformers, `train` with it."""
    folder = find_model(build_config({"model": str(tiny_model)}, "test").model)
    assert ChatEncoder(load_tokenizer(folder), "elsewhere").decides == encoder.decides


def test_a_result_s_own_tokenizer_uses_the_same_entry(tiny_model: Path, encoder: ChatEncoder, tmp_path: Path) -> None:
    """`evaluate` reads the tokenizer that a run saved."""
    shutil.copytree(tiny_model, tmp_path / "saved")
    folder = find_model(build_config({"model": str(tiny_model)}, "test").model)
    load_tokenizer(folder).save_pretrained(tmp_path / "saved")
    saved = find_model(build_config({"model": str(tmp_path / "saved")}, "test").model)
    assert ChatEncoder(load_tokenizer(saved), "saved").decides == encoder.decides


CHANGES: dict[str, Callable[[RunConfig, Path], RunConfig]] = {
    "a row": lambda config, path: (chats(path, changed="别的问题"), config)[1],
    "the length": lambda _, path: generation(path, max_tokens=81),
    "what is cut": lambda _, path: generation(path, shorten="head"),
    "which turns": lambda config, _: config.model_copy(update={"task": config.task.model_copy(update={"train_on": "last"})}),
    "the system prompt": lambda config, _: config.model_copy(update={"task": config.task.model_copy(update={"system": "短。"})}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_ids_changes_the_name(change: str, tmp_path: Path, store: Path, encoder: ChatEncoder) -> None:
    path = chats(tmp_path / "chats.jsonl")
    config = generation(path)
    prepare(config, encoder, {})
    (former,) = store.iterdir()
    prepare(CHANGES[change](config, path).model_copy(update={"seed": 0}), encoder, {})
    assert len({former, *store.iterdir()}) >= 2


@pytest.mark.parametrize("other", ["template", "language", "code"])
def test_so_does_what_is_not_in_the_data(
    other: str, tmp_path: Path, store: Path, encoder: ChatEncoder, tiny_untied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = generation(chats(tmp_path / "chats.jsonl"))
    prepare(config, encoder, {})
    if other == "template":  # the same vocabulary under another chat template
        encoder = ChatEncoder(PlainTokenizer.of(find_model(build_config({"model": str(tiny_untied)}, "test").model)), "untied")
    elif other == "language":  # reasons are worded
        use("zh")
    else:
        monkeypatch.setattr(encoding, "_code", lambda: "another version")
    prepare(config, encoder, {})
    assert len(list(store.iterdir())) == 2


def test_a_template_that_writes_the_date_is_encoded_again_the_next_day(encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert encoder.decides["today"] == ""
    monkeypatch.setattr(encoder, "_template", encoder.template + "{# strftime_now #}")
    assert len(encoder.decides["today"]) == len("2026-01-01")


def _flip(entry: Path) -> None:
    data = bytearray((entry / "tokens.npy").read_bytes())
    data[-1] ^= 1
    (entry / "tokens.npy").write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit": _flip,
    "cut short": lambda entry: os.truncate(entry / "tokens.npy", 40),
    "a file missing": lambda entry: (entry / "starts.npy").unlink(),
    "no manifest": lambda entry: (entry / storage.MANIFEST).unlink(),
    "another file": lambda entry: (entry / "x.npy").write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_said_and_made_again(
    damage: str, tmp_path: Path, store: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    config = generation(chats(tmp_path / "chats.jsonl"))
    first = everything(prepare(config, encoder, {}))
    (entry,) = store.iterdir()
    DAMAGE[damage](entry)
    assert everything(prepare(config, encoder, {}, Reporter())) == first
    assert "a damaged entry in the cache" in capsys.readouterr().err
    storage.verify_folder(entry)


def test_a_cache_that_cannot_be_written_costs_nothing_but_the_cache(
    tmp_path: Path, store: Path, encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store.parent.write_text("a file where the folder should be")
    config = generation(chats(tmp_path / "chats.jsonl"))
    found = everything(prepare(config, encoder, {}, Reporter()))
    assert "could not be kept in the cache" in capsys.readouterr().err
    monkeypatch.setenv(FOLDER, "off")
    assert everything(prepare(config, encoder, {})) == found


def rows(number: int) -> Packed:
    return Packed.of(PackedRow("", (i, i + 1), (False, True), 2, 2) for i in range(number))


def put(store: Cache, name: str, number: int) -> None:
    packed = rows(number)
    store.save(name, packed.num_bytes, packed.write, Reporter(quiet=True))


def test_the_oldest_goes_when_there_is_no_room(tmp_path: Path) -> None:
    quiet = Reporter(quiet=True)
    probe = Cache(tmp_path / "probe", 10**9)
    put(probe, "a", 100)
    one = sum(file.stat().st_size for file in (tmp_path / "probe" / "a").iterdir())
    store = Cache(tmp_path / "s", 2 * one + one // 2)
    for number, name in enumerate("abc"):
        put(store, name, 100)
        os.utime(tmp_path / "s" / name / storage.MANIFEST, (number, number))
    assert {path.name for path in (tmp_path / "s").iterdir()} == {"b", "c"}
    assert store.load("b", Packed.read, quiet) is not None  # used now, so newer than c
    put(store, "d", 100)
    assert {path.name for path in (tmp_path / "s").iterdir()} == {"b", "d"}
    put(store, "e", 1000)  # larger than all the room there is
    assert {path.name for path in (tmp_path / "s").iterdir()} == {"b", "d"}


def test_what_died_processes_left_goes_after_a_day(tmp_path: Path) -> None:
    for name, age in ((".old.1.tmp", 2 * 86_400), (".new.2.tmp", 60)):
        (tmp_path / name).mkdir()
        now = (tmp_path / name).stat().st_mtime
        os.utime(tmp_path / name, (now - age, now - age))
    put(Cache(tmp_path, 10**9), "a", 3)
    assert {path.name for path in tmp_path.iterdir()} == {".new.2.tmp", "a"}


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache.of_this_machine("tokens").folder == tmp_path / "weitiao" / "tokens"
    assert Cache.of_this_machine("tokens").limit_bytes == 10_000_000_000
    monkeypatch.setenv(FOLDER, str(tmp_path / "elsewhere"))
    monkeypatch.setenv(LIMIT, "0.5")
    assert Cache.of_this_machine("tokens").folder == tmp_path / "elsewhere" / "tokens"
    assert Cache.of_this_machine("tokens").limit_bytes == 500_000_000
    monkeypatch.setenv(FOLDER, "off")
    assert Cache.of_this_machine("tokens").folder is None
    for wrong in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv(LIMIT, wrong)
        with pytest.raises(UsageError, match=LIMIT):
            Cache.of_this_machine("tokens")


def test_small_data_are_not_kept(tmp_path: Path, store: Path, encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv(FOLDER, str(store.parent))
    prepare(generation(chats(tmp_path / "chats.jsonl")), encoder, {})
    assert not store.exists()


def test_rows_come_out_as_they_went_in() -> None:
    given = [PackedRow("", (1, 2**31), (False, True), 5, 9, 1, (3, 2)), PackedRow("bad_chat: x"), PackedRow("", (7,), (True,), 1, 1)]
    packed = Packed.of(given)
    assert list(packed) == given
    assert packed[0:2] == given[:2]
    assert (packed.lengths.tolist(), packed.befores.tolist(), packed.reasons) == ([2, 0, 1], [9, 0, 1], {1: "bad_chat: x"})
    unmarked = [PackedRow("", (1, 2), tokens_before=2), PackedRow("", (3,), tokens_before=1)]
    assert list(Packed.of(unmarked)) == unmarked
    chosen = EncodedRows(packed, [2, 0], ["c", "a"])
    assert [(row.id, row.tokens, row.trained) for row in chosen] == [("c", (7,), (True,)), ("a", (1, 2**31), (False, True))]
    assert row_lengths(chosen) == row_lengths(list(chosen)) == [1, 2]
    assert len(Packed.of([])) == 0
    assert packed.tokens.dtype == np.uint32


@pytest.mark.parametrize(
    ("kept", "left"), [((-1, 0), "abcdef"), ((2, 0), "ab"), ((0, 2), "ef"), ((2, 1), "abf"), ((0, 0), ""), ((6, 0), "abcdef")]
)
def test_what_is_left_of_a_document(kept: tuple[int, int], left: str) -> None:
    assert shortened("abcdef", kept) == left


def test_names_of_entries_do_not_depend_on_order() -> None:
    assert entry_key({"a": 1, "b": "二"}) == entry_key({"b": "二", "a": 1}) != entry_key({"a": 1, "b": "三"})
