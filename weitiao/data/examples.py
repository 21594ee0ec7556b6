"""Data files → examples in three splits, every row accounted for in the ledger."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weitiao.config import RunConfig
from weitiao.config_tasks import ClassificationTask, GenerationTask, QaTask, TextTask
from weitiao.data.chats import Chat, Tags, read_chat, read_pair, read_question
from weitiao.data.columns import Columns, parse_candidates, parse_label, text_of
from weitiao.data.folder import shards_of
from weitiao.data.json_schema import Checker, load_checker
from weitiao.data.kept import Reading, ReadRows
from weitiao.data.ledger import Ledger
from weitiao.data.read import BadRow, check_file, encoding_of, read_rows
from weitiao.data.rows import Content, Examples, Rows, digest
from weitiao.data.shapes import Layout, find_layout
from weitiao.data.similar import names_of, near_groups, repeats
from weitiao.data.sources import BUILTIN, Source, find_sources, source_of
from weitiao.data.split import normalised, split_rows
from weitiao.errors import DataError
from weitiao.language import t
from weitiao.progress import Reporter
from weitiao.records import SPLITS, Example, Message, Row, SplitName
from weitiao.tasks.classification import Classification
from weitiao.tasks.qa import question_chat

_SPLIT_NAMES: Mapping[str, SplitName] = {
    "train": "train",
    "dev": "validation",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
SAMPLE_ROWS = 200
KEPT_ROWS = 10_000
"""A file of more rows is parsed a second time instead of being held in memory until its columns are known."""
NEAR_BYTES = 200_000_000
"""Near-duplicates are looked for in rows of so much text at most: it takes several times as much memory."""


@dataclass(frozen=True)
class Dataset:
    """The examples of each split (a split may be empty), the task with its labels settled (classification), and the accounts, in which
    every row has come in but those that go on to encoding are not yet booked as used."""

    splits: Mapping[SplitName, Sequence[Example]]
    task: Classification | None
    ledger: Ledger
    layout: Layout
    """The shape and columns of the training file (of the only file, in :func:`load_split`)."""
    key: str = ""
    """Names all of this, if it is kept in the cache."""

    @property
    def columns(self) -> Columns:
        return self.layout.columns


def load_dataset(config: RunConfig, reporter: Reporter | None = None) -> Dataset:
    """Read the files, find the columns, make the splits that are not given, settle the labels; or take from the cache what came of that
    before. Raises DataError or ConfigError."""
    reporter = reporter or Reporter(quiet=True)
    sources = find_sources(config.data, config.task.kind)
    reading = Reading.of(config, sources)
    found, digests = reading.recall(reporter) or (None, None)
    known = found or _read_all(config, sources)
    task = Classification(config.task, known.labels) if isinstance(config.task, ClassificationTask) else None
    examples = {
        split: examples_of(config, known.rows, known.splits[split], split, task, digests[split] if digests else "") for split in SPLITS
    }
    if found is None and reading.key:
        reading.keep(known, {split: examples[split].digest for split in SPLITS}, reporter)
    return Dataset(examples, task, known.ledger, known.layout, reading.key)


def _read_all(config: RunConfig, sources: Sequence[Source]) -> ReadRows:
    ledger, rows = Ledger(), Rows()
    layouts = [_read(config, source, ledger, rows) for source in sources]
    _leave_out_repeats(config, rows, ledger)
    splits = _assign(config, rows)
    splits["train"] = _limited(config, rows, splits["train"], ledger)
    if not splits["train"]:
        shown = "".join(f"\n  {line}" for line in ledger.rejections(5))
        cause = t("没有一行能用来训练", "no row can be trained on") + shown
        raise DataError(config.data.train, cause, t("改正这些行，或检查 data.columns", "correct these rows, or check data.columns"))
    labels = _settle_labels(config.data.train, config.task, rows, splits) if isinstance(config.task, ClassificationTask) else ()
    return ReadRows(rows, splits, labels, ledger, layouts[0])


def load_split(config: RunConfig, path: str, task: Classification | None) -> Dataset:
    """One more file as a test split, read as the run's own data were; its labels must be the run's. Raises DataError."""
    ledger, rows = Ledger(), Rows()
    layout, *_ = [_read(config, source_of(config.data, file, "test"), ledger, rows) for file in shards_of(path)]
    numbers = rows.members("test")
    if task is not None:
        _check_known(rows, numbers, "test", set(task.labels))
    if not numbers:
        cause = t("没有能用的行", "no usable row") + "".join(f"\n  {line}" for line in ledger.rejections(5))
        raise DataError(path, cause, t("检查列名和内容", "check the columns and their content"))
    return Dataset({"train": [], "validation": [], "test": examples_of(config, rows, numbers, "test", task)}, task, ledger, layout)


def _read(config: RunConfig, source: Source, ledger: Ledger, rows: Rows) -> Layout:
    """Add the rows of a file that have what the task needs; the others are booked as rejected. Returns the file's shape and columns."""
    booked: SplitName = source.split or "train"
    kept: list[Row] | None = []
    sample: list[Row] = []
    names: dict[str, None] = {}
    num_rows = 0
    path = Path(source.path)
    check_file(path)
    encoding = encoding_of(path)
    for row in read_rows(path, encoding):
        ledger.enter(row.file)
        if isinstance(row, BadRow):
            ledger.reject(booked, row.file, row.line, f"bad_row: {row.reason}")
            continue
        num_rows += 1
        if not row.values.keys() <= names.keys():
            names |= dict.fromkeys(row.values)
        if num_rows <= SAMPLE_ROWS:
            sample.append(row)
        if kept is not None:
            kept.append(row)
            kept = kept if num_rows <= KEPT_ROWS else None
    if not num_rows:
        raise DataError(source.path, t("没有一行读得出来", "no row could be read"), t("检查文件格式", "check the file's format"))
    layout = find_layout(list(names), sample, config.task.kind, source.wanted, source.shape, num_rows)
    schema = config.task.json_schema if isinstance(config.task, GenerationTask) else None
    checker = None if schema is None else load_checker(schema)
    again = (row for row in read_rows(path, encoding) if isinstance(row, Row)) if kept is None else kept
    for row in again:
        content = _content(row, layout, source.tags, config, checker)
        if isinstance(content, str):
            ledger.reject(booked, row.file, row.line, content)
        else:
            rows.add(content, _own_split(config, row, source.split))
    return layout


def _own_split(config: RunConfig, row: Row, split: SplitName | None) -> SplitName | None:
    """The built-in data name each row's split."""
    return _SPLIT_NAMES[row.values["split"]] if config.data.train == "builtin" and Path(row.file).parent == BUILTIN else split


def _content(row: Row, layout: Layout, tags: Tags, config: RunConfig, checker: Checker | None) -> Content | str:
    """What a row says, or the reason why it cannot be used."""
    columns = layout.columns
    if layout.task in ("generation", "qa"):
        chat = _chat(row, layout, tags, config, checker)
        return chat if isinstance(chat, str) else Content(row.file, row.line, "", chat=chat)
    text = text_of(row.values.get(columns.text or ""))
    if not text.strip():
        return "no_text"
    if layout.task == "text":
        return Content(row.file, row.line, text)
    label = parse_label(row.values.get(columns.label or ""))
    if label is None:
        return "no_label"
    candidates = parse_candidates(row.values.get(columns.candidates)) if columns.candidates else ()
    if candidates and label not in candidates:
        return "label_not_in_candidates"
    return Content(row.file, row.line, text, label, candidates)


def _chat(row: Row, layout: Layout, tags: Tags, config: RunConfig, checker: Checker | None) -> Chat | str:
    if isinstance(config.task, QaTask):
        question = read_question(row.values, layout.shape, layout.columns)
        return question if isinstance(question, str) else question_chat(config.task, question)
    read = read_pair if config.task.kind == "preference" else read_chat
    chat = read(row.values, layout.shape, layout.columns, tags)
    if checker is not None and not isinstance(chat, str) and (fault := checker.fault(chat.answers[0])) is not None:
        return f"bad_answer: {fault}"
    return chat


def _leave_out_repeats(config: RunConfig, rows: Rows, ledger: Ledger) -> None:
    """What `data.deduplicate` does not keep is booked as rejected, each row with the one that it repeats."""
    if config.data.deduplicate == "none":
        return
    near, numbers = config.data.deduplicate == "near", range(len(rows))
    texts, answers = [], []
    for number, content in enumerate(map(rows.content, numbers)):
        texts.append(normalised(content.asked) if near else rows.group(number))
        answers.append(digest(content.answer))
    given = [rows.split(number) in ("validation", "test") for number in numbers]
    for number, kept in repeats(texts, answers, given, near).items():
        ledger.reject("train", rows.file(number), rows.line(number), f"duplicate: {rows.file(kept)}:{rows.line(kept)}")
        rows.leave_out(number)


def _groups(rows: Rows, numbers: Sequence[int]) -> list[str]:
    """The same for rows that no split may part: near-duplicates, which the rows keep; of data too large to compare, rows with the same
    text."""
    if rows.num_bytes > NEAR_BYTES:
        return [rows.group(number) for number in numbers]
    texts = [normalised(rows.content(number).asked) for number in numbers]
    groups = near_groups(texts)
    rows.keep_near(numbers, groups)
    return [digest(name) for name in names_of(texts, groups)]


def _assign(config: RunConfig, rows: Rows) -> dict[SplitName, Sequence[int]]:
    """The numbers of each split's rows; rows without a split are divided by seed, stratified, duplicates and near ones together."""
    free = rows.members(None)
    splits = {name: rows.members(name) for name in SPLITS}
    if free:
        data = config.data
        shares: dict[SplitName, float] = {
            "validation": 0.0 if splits["validation"] else data.validation_share,
            "test": 0.0 if splits["test"] else data.test_share,
        }
        shares["train"] = 1.0 - sum(shares.values())
        if shares["train"] <= 0:
            raise DataError(
                "data.validation_share + data.test_share",
                t("没有给训练留下行", "leaves no rows to train on"),
                t("减小这两个份额", "lower the two shares"),
            )
        names = split_rows([rows.label(n) for n in free], _groups(rows, free), shares, config.seed)
        for split in SPLITS:
            divided = [number for number, name in zip(free, names, strict=True) if name == split]
            splits[split] = [*splits[split], *divided]
    return splits


def _limited(config: RunConfig, rows: Rows, numbers: Sequence[int], ledger: Ledger) -> Sequence[int]:
    limit = config.data.limit
    if limit is None or len(numbers) <= limit:
        return numbers
    kept = set(random.Random(config.seed).sample(range(len(numbers)), limit))
    for place, number in enumerate(numbers):
        if place not in kept:
            ledger.reject("train", rows.file(number), rows.line(number), "over_limit")
    return [number for place, number in enumerate(numbers) if place in kept]


def _settle_labels(file: str, task: ClassificationTask, rows: Rows, splits: Mapping[SplitName, Sequence[int]]) -> tuple[str, ...]:
    """The label names: the configured ones, else those of the training rows and their candidates, in order of appearance."""
    seen = dict.fromkeys(label for number in splits["train"] for label in (*rows.candidates(number), rows.label(number)))
    labels = task.labels or tuple(seen)
    trained = {rows.label(number) for number in splits["train"]}
    if len(trained) < 2:
        raise DataError(
            file,
            t(f"训练数据只有一个类别：{next(iter(trained))}", f"the training rows have one label only: {next(iter(trained))}"),
            t(
                "分类至少要两个类别；检查 data.columns.label 是不是选错了列",
                "classification needs two labels or more; check that data.columns.label is the right column",
            ),
        )
    for name in SPLITS:
        _check_known(rows, splits[name], name, set(labels))
    for name in ("validation", "test"):
        unseen = {rows.label(n): n for n in splits[name] if rows.label(n) not in trained and not rows.candidates(n)}
        if unseen:
            number = next(iter(unseen.values()))
            raise DataError(
                f"{rows.file(number)}:{rows.line(number)}",
                t(
                    f"{name} 里的类别 {', '.join(unseen)} 在训练数据里没有出现过",
                    f"{name} has labels that no training row has: {', '.join(unseen)}",
                ),
                t("给这些类别补训练样本，或从数据里去掉这些行", "add training rows of these labels, or take these rows out"),
            )
    return labels


def _check_known(rows: Rows, numbers: Sequence[int], name: str, labels: set[str]) -> None:
    for number in numbers:
        for label in (rows.label(number), *rows.candidates(number)):
            if label not in labels:
                raise DataError(
                    f"{rows.file(number)}:{rows.line(number)}",
                    t(
                        f"{name} 里的类别 {label!r} 不在已知类别中：{'、'.join(sorted(labels)[:20])}",
                        f"{name} has the label {label!r}, which is not among the known ones: {', '.join(sorted(labels)[:20])}",
                    ),
                    t(
                        "改正拼写，给训练数据补这个类别，或写进 task.labels",
                        "correct the spelling, add training rows of this label, or list it in task.labels",
                    ),
                )


def examples_of(
    config: RunConfig, rows: Rows, numbers: Sequence[int], split: SplitName, task: Classification | None, digest: str = ""
) -> Examples:
    """The rows of a split as examples, each made when it is asked for."""
    system = None if isinstance(config.task, TextTask) else config.task.system

    def make(content: Content, name: str) -> Example:
        document = content.document
        if content.chat is not None:
            return _chat_example(name, content, system)
        if task is None:
            return Example(name, (), (document,), document, content.file, content.line)
        prompt = task.prompt(document, content.candidates)
        return Example(name, prompt, (content.label,), document, content.file, content.line, content.candidates)

    return Examples(rows, numbers, split, make, digest)


def _chat_example(name: str, content: Content, system: str | None) -> Example:
    """A chat: everything before the last answer is its prompt. ``system`` is for chats without a system prompt of their own."""
    chat = content.chat
    assert chat is not None  # the caller's branch
    *before, last = chat.turns
    if system is not None and before[0].role != "system":
        before.insert(0, Message("system", system))
    document = ""
    if chat.document is not None:
        user = next(turn for turn in reversed(before) if turn.role == "user")
        document = user.content[chat.document[0] : chat.document[1]]
    rejected = (chat.rejected,) if chat.rejected else ()
    return Example(
        name, tuple(before), chat.answers, document, content.file, content.line, (), rejected,
        place=chat.document, fields=last.fields, tools=chat.tools,
    )  # fmt: skip


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
