"""Data files → examples in three splits, every row accounted for in the ledger."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weitiao.config import ClassificationTask, RunConfig
from weitiao.data.columns import Columns, find_columns, parse_candidates, parse_label
from weitiao.data.ledger import Ledger
from weitiao.data.read import BadRow, read_rows
from weitiao.data.similar import group_names, repeats
from weitiao.data.split import normalised, split_rows
from weitiao.errors import DataError
from weitiao.language import t
from weitiao.records import Example, Row, SplitName
from weitiao.tasks.classification import Classification

BUILTIN_DATA = Path(__file__).parent.parent / "builtin" / "topic.jsonl"
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
_SPLIT_NAMES: Mapping[str, SplitName] = {
    "train": "train",
    "dev": "validation",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class Dataset:
    """The examples of each split (a split may be empty), the task with its labels settled (classification), and the accounts, in which
    every row has come in but those that go on to encoding are not yet booked as used."""

    splits: dict[SplitName, list[Example]]
    task: Classification | None
    ledger: Ledger
    columns: Columns
    """The columns of the training file (of the only file, in :func:`load_split`)."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A row on its way: its split is None until the splits are made."""

    row: Row
    text: str
    label: str
    candidates: tuple[str, ...]
    split: SplitName | None


def load_dataset(config: RunConfig) -> Dataset:
    """Read the files, find the columns, make the splits that are not given, settle the labels. Raises DataError or ConfigError."""
    ledger = Ledger()
    (path, split), *others = _files(config)
    rows, columns = _read(config, path, split, ledger)
    for path, split in others:
        rows += _read(config, path, split, ledger)[0]
    splits = _assign(config, _without_repeats(config, rows, ledger))
    splits["train"] = _limited(config, splits["train"], ledger)
    if not splits["train"]:
        shown = "".join(f"\n  {line}" for line in ledger.rejections(5))
        cause = t("没有一行能用来训练", "no row can be trained on") + shown
        raise DataError(config.data.train, cause, t("改正这些行，或检查 data.columns", "correct these rows, or check data.columns"))
    task = _settle_labels(config, splits) if isinstance(config.task, ClassificationTask) else None
    examples: dict[SplitName, list[Example]] = {}
    for name in SPLITS:
        several = len({c.row.file for c in splits[name]}) > 1
        examples[name] = [_example(candidate, name, task, several) for candidate in splits[name]]
    return Dataset(examples, task, ledger, columns)


def load_split(config: RunConfig, path: str, task: Classification | None) -> Dataset:
    """One more file as a test split, read as the run's own data were; its labels must be the run's. Raises DataError."""
    ledger = Ledger()
    rows, columns = _read(config, path, "test", ledger)
    if task is not None:
        _check_known(rows, "test", set(task.labels))
    if not rows:
        cause = t("没有能用的行", "no usable row") + "".join(f"\n  {line}" for line in ledger.rejections(5))
        raise DataError(path, cause, t("检查列名和内容", "check the columns and their content"))
    return Dataset({"train": [], "validation": [], "test": [_example(c, "test", task, several=False) for c in rows]}, task, ledger, columns)


def _files(config: RunConfig) -> list[tuple[str, SplitName | None]]:
    """The files and the split that each of them is; None: to be split."""
    data = config.data
    if data.train == "builtin":
        for field, file in (("validation", data.validation), ("test", data.test)):
            if file is not None:
                cause = t(f"{file}：内置数据自带划分，不能再给文件", f"{file}: the built-in data have their own splits")
                raise DataError(
                    f"data.{field}", cause, t("去掉这一项，或给 data.train 一个文件", "leave it out, or give a file as data.train")
                )
        return [(str(BUILTIN_DATA), None)]
    given: list[tuple[str, SplitName | None]] = []
    if data.validation:
        given.append((data.validation, "validation"))
    if data.test:
        given.append((data.test, "test"))
    missing = (data.validation is None and data.validation_share > 0) or (data.test is None and data.test_share > 0)
    return [(data.train, None if missing else "train"), *given]


def _read(config: RunConfig, path: str, split: SplitName | None, ledger: Ledger) -> tuple[list[_Candidate], Columns]:
    """The rows of a file that have what the task needs, and the file's columns; the other rows are booked as rejected."""
    booked: SplitName = split or "train"
    rows: list[Row] = []
    for row in read_rows(Path(path)):
        ledger.enter(row.file)
        if isinstance(row, BadRow):
            ledger.reject(booked, row.file, row.line, f"bad_row: {row.reason}")
        else:
            rows.append(row)
    if not rows:
        raise DataError(path, t("没有一行读得出来", "no row could be read"), t("检查文件格式", "check the file's format"))
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    wanted = config.data.columns.model_dump()
    _, columns = find_columns(names, rows[:200], config.task.kind, wanted)
    usable = []
    for row in rows:
        candidate = _candidate(row, columns, config.task.kind == "classification", _own_split(config, row, split))
        if isinstance(candidate, str):
            ledger.reject(booked, row.file, row.line, candidate)
        else:
            usable.append(candidate)
    return usable, columns


def _own_split(config: RunConfig, row: Row, split: SplitName | None) -> SplitName | None:
    """The built-in data name each row's split."""
    return _SPLIT_NAMES[row.values["split"]] if config.data.train == "builtin" and row.file == str(BUILTIN_DATA) else split


def _candidate(row: Row, columns: Columns, labelled: bool, split: SplitName | None) -> _Candidate | str:
    """The row's parts, or the reason why it cannot be used."""
    text = row.values.get(columns.text)
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        text = str(text)
    if not isinstance(text, str) or not text.strip():
        return "no_text"
    if not labelled:
        return _Candidate(row, text, "", (), split)
    label = parse_label(row.values.get(columns.label or ""))
    if label is None:
        return "no_label"
    candidates = parse_candidates(row.values.get(columns.candidates)) if columns.candidates else ()
    if candidates and label not in candidates:
        return "label_not_in_candidates"
    return _Candidate(row, text, label, candidates, split)


def _without_repeats(config: RunConfig, rows: list[_Candidate], ledger: Ledger) -> list[_Candidate]:
    """The rows that `data.deduplicate` keeps; the others are booked as rejected, each with the row that it repeats."""
    how = config.data.deduplicate
    if how == "none":
        return rows
    given = [row.split in ("validation", "test") for row in rows]
    repeated = repeats([normalised(row.text) for row in rows], [row.label for row in rows], given, near=how == "near")
    for i, j in repeated.items():
        row, kept = rows[i].row, rows[j].row
        ledger.reject("train", row.file, row.line, f"duplicate: {kept.file}:{kept.line}")
    return [row for i, row in enumerate(rows) if i not in repeated]


def _assign(config: RunConfig, rows: Sequence[_Candidate]) -> dict[SplitName, list[_Candidate]]:
    """Put each row into its split; rows without one are split by seed, stratified, duplicates and near ones together."""
    free = [row for row in rows if row.split is None]
    splits: dict[SplitName, list[_Candidate]] = {name: [row for row in rows if row.split == name] for name in SPLITS}
    if free:
        data = config.data
        shares: dict[SplitName, float] = {
            "validation": 0.0 if data.validation else data.validation_share,
            "test": 0.0 if data.test else data.test_share,
        }
        shares["train"] = 1.0 - sum(shares.values())
        if shares["train"] <= 0:
            raise DataError(
                "data.validation_share + data.test_share",
                t("没有给训练留下行", "leaves no rows to train on"),
                t("减小这两个份额", "lower the two shares"),
            )
        for row, name in zip(
            free, split_rows([r.label for r in free], group_names([normalised(r.text) for r in free]), shares, config.seed), strict=True
        ):
            splits[name].append(row)
    return splits


def _limited(config: RunConfig, rows: list[_Candidate], ledger: Ledger) -> list[_Candidate]:
    limit = config.data.limit
    if limit is None or len(rows) <= limit:
        return rows
    kept = set(random.Random(config.seed).sample(range(len(rows)), limit))
    for i, row in enumerate(rows):
        if i not in kept:
            ledger.reject("train", row.row.file, row.row.line, "over_limit")
    return [row for i, row in enumerate(rows) if i in kept]


def _settle_labels(config: RunConfig, splits: Mapping[SplitName, Sequence[_Candidate]]) -> Classification:
    """The label names: the configured ones, else those of the training rows and their candidates, in order of appearance."""
    task = config.task
    assert isinstance(task, ClassificationTask)  # the caller's branch
    seen = list(dict.fromkeys(label for row in splits["train"] for label in (*row.candidates, row.label)))
    labels = task.labels or tuple(seen)
    trained = {row.label for row in splits["train"]}
    if len(trained) < 2:
        raise DataError(
            config.data.train,
            t(f"训练数据只有一个类别：{next(iter(trained))}", f"the training rows have one label only: {next(iter(trained))}"),
            t(
                "分类至少要两个类别；检查 data.columns.label 是不是选错了列",
                "classification needs two labels or more; check that data.columns.label is the right column",
            ),
        )
    for name in SPLITS:
        _check_known(splits[name], name, set(labels))
    for name in ("validation", "test"):
        unseen = {row.label: row for row in splits[name] if row.label not in trained and not row.candidates}
        if unseen:
            row = next(iter(unseen.values()))
            raise DataError(
                f"{row.row.file}:{row.row.line}",
                t(
                    f"{name} 里的类别 {', '.join(unseen)} 在训练数据里没有出现过",
                    f"{name} has labels that no training row has: {', '.join(unseen)}",
                ),
                t("给这些类别补训练样本，或从数据里去掉这些行", "add training rows of these labels, or take these rows out"),
            )
    return Classification(task, labels)


def _check_known(rows: Sequence[_Candidate], name: str, labels: set[str]) -> None:
    for row in rows:
        for label in (row.label, *row.candidates):
            if label not in labels:
                raise DataError(
                    f"{row.row.file}:{row.row.line}",
                    t(
                        f"{name} 里的类别 {label!r} 不在已知类别中：{'、'.join(sorted(labels)[:20])}",
                        f"{name} has the label {label!r}, which is not among the known ones: {', '.join(sorted(labels)[:20])}",
                    ),
                    t(
                        "改正拼写，给训练数据补这个类别，或写进 task.labels",
                        "correct the spelling, add training rows of this label, or list it in task.labels",
                    ),
                )


def _example(candidate: _Candidate, split: SplitName, task: Classification | None, several: bool) -> Example:
    row = candidate.row
    name = f"{split}:{Path(row.file).name}:{row.line}" if several else f"{split}:{row.line}"
    if task is None:
        return Example(name, (), (candidate.text,), candidate.text, row.file, row.line)
    prompt = task.prompt(candidate.text, candidate.candidates)
    return Example(name, prompt, (candidate.label,), candidate.text, row.file, row.line, candidate.candidates)


def label_counts(examples: Sequence[Example]) -> dict[str, int]:
    """Rows of each label, most frequent first."""
    counts: dict[str, int] = {}
    for example in examples:
        counts[example.targets[0]] = counts.get(example.targets[0], 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def describe_lengths(lengths: Sequence[int]) -> dict[str, Any]:
    """Quantiles and a histogram (20 equal bins) of lengths in tokens."""
    import numpy as np

    if not lengths:
        return {"n": 0}
    values = np.array(lengths)
    counts, edges = np.histogram(values, bins=20)
    return {
        "n": len(lengths),
        "min": int(values.min()),
        **{f"p{q}": float(np.percentile(values, q)) for q in (50, 90, 99)},
        "max": int(values.max()),
        "histogram": {"edges": [float(e) for e in edges], "counts": [int(c) for c in counts]},
    }
