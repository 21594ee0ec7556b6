"""data.deduplicate, data.balance and splits by near-duplicates, from files to the ledger."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from planted import clean_texts, edited

from weitiao.config import RunConfig
from weitiao.data.examples import Dataset, load_dataset
from weitiao.data.rows import near_of
from weitiao.data.similar import near_groups
from weitiao.data.split import normalised
from weitiao.errors import ConfigError, RunError
from weitiao.prepare import balanced
from weitiao.records import Encoded

TEXTS = clean_texts()[:40]


def write(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text(
        "".join(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in rows), encoding="utf-8"
    )
    return str(path)


def loaded(train: str, test: str | None, how: str, share: float = 0.0) -> Dataset:
    data = {"train": train, "test": test, "deduplicate": how, "validation_share": 0.0, "test_share": share}
    return load_dataset(RunConfig.model_validate({"data": data}))


def rows_of(texts: tuple[str, ...] = TEXTS) -> list[tuple[str, str]]:
    return [(text, "ab"[i % 2]) for i, text in enumerate(texts)]


def lines(dataset: Dataset) -> dict[str, list[int]]:
    return {split: [one.line for one in examples] for split, examples in dataset.splits.items()}


def settled(dataset: Dataset) -> dict:
    for split, examples in dataset.splits.items():
        for example in examples:
            dataset.ledger.use(split, example.file)
    return dataset.ledger.as_dict()


def test_nothing_is_taken_out_unless_it_is_asked_for(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [*rows_of(), *rows_of()])
    assert lines(loaded(train, None, "none"))["train"] == list(range(1, 81))


def test_repeats_are_rejected_with_the_row_that_they_repeat(tmp_path: Path) -> None:
    """Row 41 repeats row 1 (full stop and all), row 42 has row 2's text under another label and stays."""
    train = write(tmp_path / "train.jsonl", [*rows_of(), (TEXTS[0] + "！", "a"), (TEXTS[1], "a")])
    dataset = loaded(train, None, "exact")
    assert lines(dataset)["train"] == [*range(1, 41), 42]
    ledger = settled(dataset)
    assert ledger["totals"] == {"rows_in": 42, "used": 41, "rejected": 1, "shortened": 0}
    assert ledger["files"][0]["rejected_rows"] == [{"line": 41, "reason": "duplicate", "detail": f"{train}:1"}]


def test_chats_repeat_each_other_with_question_and_answer(tmp_path: Path) -> None:
    """Row 3 repeats row 1, row 4 has another answer, row 5 another system prompt; near: row 6 asks nearly what row 2 asks."""
    first, second = TEXTS[0], TEXTS[1]
    pairs = [
        (first, "甲", ""),
        (second, "乙", ""),
        (first, "甲。", ""),
        (first, "丙", ""),
        (first, "甲", "短"),
        (second[:-1] + "吗", "乙", ""),
    ]
    rows = [{"instruction": question, "output": answer, "system": system} for question, answer, system in pairs]
    train = tmp_path / "train.jsonl"
    train.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")

    def kept(how: str) -> list[int]:
        data = {"train": str(train), "deduplicate": how, "validation_share": 0.0, "test_share": 0.0}
        return lines(load_dataset(RunConfig.model_validate({"task": "generation", "data": data})))["train"]

    assert kept("none") == [1, 2, 3, 4, 5, 6]
    assert kept("exact") == [1, 2, 3, 4, 5, 6]  # "甲。" is another answer than "甲"
    train.write_text(train.read_text(encoding="utf-8").replace("甲。", "甲"), encoding="utf-8")
    assert kept("exact") == [1, 2, 4, 5, 6]
    assert kept("near") == [1, 2, 4]


def test_groups_found_for_the_split_are_those_of_the_audit(tmp_path: Path) -> None:
    """They are not looked for twice; where rows were left out, or were not compared, they are."""
    draw = random.Random(4)
    rows = [*rows_of(), *((edited(draw, text), "a") for text in TEXTS[:10])]
    train = write(tmp_path / "train.jsonl", rows)
    dataset = loaded(train, None, "none", share=0.3)
    known = near_of(dataset.splits.values())
    asked = [normalised(one.document) for split in dataset.splits.values() for one in split]
    assert known is not None
    again = near_groups(asked)
    pairs = {(a, b) for a in range(50) for b in range(a) if again[a] == again[b]}
    assert pairs == {(a, b) for a in range(50) for b in range(a) if known[a] == known[b]}
    assert len(pairs) == 10
    assert near_of(loaded(train, train, "none").splits.values()) is None
    limited = load_dataset(RunConfig.model_validate({"data": {"train": train, "limit": 30}}))
    assert near_of(limited.splits.values()) is None


def test_large_data_keep_equal_texts_together_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(2)
    rows = rows_of(clean_texts()[:200])
    train = write(tmp_path / "all.jsonl", [*rows, *rows, *((edited(draw, text), label) for text, label in rows)])

    def parted() -> tuple[int, int]:
        dataset = loaded(train, None, "none", share=0.3)
        split_of = {one.line: split for split, examples in dataset.splits.items() for one in examples}
        return sum(split_of[n] != split_of[n + 200] for n in range(1, 201)), sum(split_of[n] != split_of[n + 400] for n in range(1, 201))

    assert parted() == (0, 0)
    monkeypatch.setattr("weitiao.data.examples.NEAR_BYTES", 1000)
    equal, near = parted()
    assert equal == 0
    assert near > 40  # by chance 2 · 0.3 · 0.7 of them


def test_a_test_file_stays_whole_and_its_copies_leave_the_training(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", rows_of())
    test = write(tmp_path / "test.jsonl", [(TEXTS[3], "b"), (TEXTS[3], "b"), (edited(random.Random(0), TEXTS[4]), "a")])
    exact, near = loaded(train, test, "exact"), loaded(train, test, "near")
    assert lines(exact)["test"] == lines(near)["test"] == [1, 2, 3]
    assert lines(exact)["train"] == [n for n in range(1, 41) if n != 4]
    assert lines(near)["train"] == [n for n in range(1, 41) if n not in (4, 5)]
    assert settled(near)["totals"]["rejected"] == 2


def test_a_split_keeps_near_duplicates_together_in_any_order(tmp_path: Path) -> None:
    draw = random.Random(1)
    rows = rows_of(clean_texts()[:200])
    pairs = [(edited(draw, text), label) for text, label in rows]
    halves = {text: i for side in (rows, pairs) for i, (text, _) in enumerate(side)}

    def sides(order: list[tuple[str, str]]) -> dict[str, str]:
        dataset = loaded(write(tmp_path / "all.jsonl", order), None, "none", share=0.25)
        assert 90 <= len(dataset.splits["test"]) <= 110
        return {one.document: split for split, examples in dataset.splits.items() for one in examples}

    found = sides([*rows, *pairs])
    of: dict[int, set[str]] = {}
    for text, split in found.items():
        of.setdefault(halves[text], set()).add(split)
    assert all(len(splits) == 1 for splits in of.values())
    mixed = [*pairs, *rows]
    draw.shuffle(mixed)
    assert sides(mixed) == found


def test_rows_are_repeated_or_weighted() -> None:
    rows = [Encoded(str(i), (1, 2), (False, True)) for i in range(4)]
    labels = ["a", "a", "a", "b"]
    config = RunConfig.model_validate({"data": {"balance": "oversample"}})
    more, repeated = balanced(config, rows, labels)
    assert [row.id for row in more] == ["0", "1", "2", "3", "3", "3"]
    assert repeated == {"b": 2}
    config = RunConfig.model_validate({"train": {"class_weights": "balanced"}})
    same, repeated = balanced(config, rows, labels)
    assert [row.weight for row in same] == pytest.approx([4 / 6, 4 / 6, 4 / 6, 2.0])
    assert repeated == {}
    assert balanced(RunConfig(), rows, labels) == (rows, {})


@pytest.mark.parametrize(
    "tree",
    [
        {"data": {"balance": "oversample"}, "train": {"class_weights": "balanced"}},
        {"data": {"balance": "oversample"}, "task": "text", "objective": "pretrain"},
        {"train": {"class_weights": "balanced"}, "task": "text", "objective": "pretrain"},
        {"train": {"class_weights": "balanced"}, "task": "generation"},
        {"data": {"balance": "oversample"}, "task": "generation"},
    ],
)
def test_settings_that_do_not_go_together(tree: dict) -> None:
    from weitiao.config import build_config

    with pytest.raises(ConfigError, match=r"data\.balance"):
        build_config(tree, "test")


def test_a_row_that_is_lost_is_noticed(tmp_path: Path) -> None:
    dataset = loaded(write(tmp_path / "train.jsonl", rows_of()), None, "exact")
    dataset = replace(dataset, splits={**dataset.splits, "train": dataset.splits["train"][:-1]})
    with pytest.raises(RunError):
        settled(dataset)
