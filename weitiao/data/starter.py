"""What ``weitiao init DATA`` writes: a look at the data, as comments, above a config that can run as it is."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path

from weitiao.data.columns import Columns, TaskKind, find_columns, parse_label, suggested, yaml_scalar
from weitiao.data.read import FORMATS, BadRow, detect_encoding, read_rows
from weitiao.data.split import ORDER, normalised
from weitiao.errors import DataError
from weitiao.language import Language, t, use
from weitiao.records import Row, SplitName

FILE_NAMES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "训练集": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "验证集": "validation",
    "test": "test",
    "testing": "test",
    "测试集": "test",
}
SAMPLE_ROWS = 200
CHINESE = re.compile("[\u4e00-\u9fff]")
SHOWN_LABELS = 20
SHOWN_FAULTS = 3
SHOWN_CHARACTERS = 60
QUANTILES = (("min", 0.0), ("50 %", 0.5), ("90 %", 0.9), ("99 %", 0.99), ("max", 1.0))


@dataclass(slots=True)
class _Look:
    """What one pass over the training file found. Lengths are in characters."""

    names: list[str]
    task: TaskKind
    columns: Columns
    guessed: str | None
    rows: int = 0
    faults: list[BadRow] = field(default_factory=list)
    num_faults: int = 0
    no_text: int = 0
    duplicates: int = 0
    contradictions: int = 0
    lengths: list[int] = field(default_factory=list)
    chinese: bool = False
    labels: Counter[str | None] = field(default_factory=Counter)


def starter_config(path: Path, language: Language) -> str:
    """A commented YAML config, in ``language``, for a data file or a folder with train, validation (dev, valid, val), test files.

    Where column names do not settle which is which, the likeliest by content is written, marked as a guess. Raises ``DataError``.
    """

    def write() -> str:
        use(language)
        files = _files(path)
        return _config(files, _look(files["train"]))

    return copy_context().run(write)


def _files(path: Path) -> dict[SplitName, Path]:
    """split → file, in the order of splits; a single file is the training file."""
    if not path.is_dir():
        return {"train": path}
    found: dict[SplitName, Path] = {}
    others: list[str] = []
    for file in sorted(path.iterdir()):
        name = file.name.lower().removesuffix(".gz")
        suffix = next((known for known in FORMATS if name.endswith(known)), None)
        if suffix is None:
            continue
        split = FILE_NAMES.get(name.removesuffix(suffix))
        if split is None:
            others.append(file.name)
        elif split in found:
            one, two = found[split].name, file.name
            cause = t(f"{one} 和 {two} 都像是 {split}", f"both {one} and {two} look like {split}")
            raise DataError(str(path), cause, t("只留一个，或直接指定文件", "keep one, or name the file itself"))
        else:
            found[split] = file
    if "train" not in found:
        listed = ", ".join([*(file.name for file in found.values()), *others][:5]) or t("（没有）", "(none)")
        cause = t(f"文件夹里没有 train 文件；数据文件：{listed}", f"no train file in this folder; its data files: {listed}")
        raise DataError(str(path), cause, t("直接指定训练文件", "name the training file itself"))
    return {split: found[split] for split in ORDER if split in found}


def _look(path: Path) -> _Look:
    rows = read_rows(path)
    head = list(islice(rows, SAMPLE_ROWS))
    while not any(isinstance(row, Row) for row in head):  # ends: a file without a readable row raises
        head.append(next(rows))
    sample = [row for row in head if isinstance(row, Row)]
    names = list(dict.fromkeys(name for row in sample for name in row.values))
    guessed = None
    try:
        task, columns = find_columns(names, sample, None, {})
        label = _repeating(names, columns.text, sample) if task == "text" else None
        if label is not None:
            task, columns = "classification", Columns(columns.text, label)
            guessed = t("没有列名像标签", "no column is named like a label")
    except DataError as error:
        task, columns = _guess(names, sample)
        guessed = error.cause.split("\n")[0]
    look = _Look(names, task, columns, guessed)
    _count(look, chain(head, rows))
    return look


def _guess(names: Sequence[str], sample: Sequence[Row]) -> tuple[TaskKind, Columns]:
    """Columns by content where names leave it open: the longest cells are the text, few values that repeat the label."""
    text = suggested("text", names, sample)
    if text is None:
        cause = t("行里没有列", "the rows have no columns")
        raise DataError(sample[0].file, cause, t("请给出有列的数据", "give data that has columns"))
    try:  # names may still settle the label
        task, columns = find_columns(names, sample, None, {"text": text})
    except DataError:
        task, columns = "text", Columns(text)
    label = _repeating(names, text, sample) if columns.label is None else None
    return (task, columns) if label is None else ("classification", Columns(text, label))


def _repeating(names: Sequence[str], text: str, sample: Sequence[Row]) -> str | None:
    """The column other than ``text`` with the fewest values, if there are several and each occurs twice or more on average."""
    label = suggested("label", [name for name in names if name != text], sample)
    values = [value for row in sample if (value := parse_label(row.values.get(label or ""))) is not None]
    return label if 2 <= len(set(values)) <= len(values) / 2 else None


def _count(look: _Look, rows: Iterator[Row | BadRow]) -> None:
    seen: dict[bytes, str | None] = {}
    for row in rows:
        look.rows += 1
        if isinstance(row, BadRow):
            look.num_faults += 1
            look.faults += [row] if look.num_faults <= SHOWN_FAULTS else []
            continue
        value = row.values.get(look.columns.text)
        text = "" if value is None else str(value)
        if not text.strip():
            look.no_text += 1
            continue
        label = parse_label(row.values.get(look.columns.label)) if look.columns.label is not None else None
        look.lengths.append(len(text))
        look.labels[label] += 1
        look.chinese = look.chinese or bool(CHINESE.search(text))
        key = sha256(normalised(text).encode("utf-8", "surrogatepass")).digest()[:16]
        look.duplicates += key in seen
        look.contradictions += seen.setdefault(key, label) != label
    look.lengths.sort()


def _config(files: dict[SplitName, Path], look: _Look) -> str:
    given = [f"  {split}: {yaml_scalar(str(file))}" for split, file in files.items()]
    absent = [split for split in ORDER if split not in files]
    columns = {"text": look.columns.text, "label": look.columns.label, "candidates": look.columns.candidates}
    pairs = ", ".join(f"{use_as}: {yaml_scalar(name)}" for use_as, name in columns.items() if name is not None)
    check = t("  # 按内容猜的，请核对：", "  # a guess by content, check it: ") + look.guessed if look.guessed else ""
    shares = [f"  {split}_share: 0.1" for split in absent]
    if absent:
        where = ", ".join(absent)
        shares[0] += t(f"  # 从训练文件中分出：{where}", f"  # split off the training file: {where}")
    is_text = look.task == "text"
    limit = t("每行最多的 token 数；只截短正文，逐行记账", "most tokens per row; only the document is shortened, on record")
    lines = [
        *(f"# {line}".rstrip() for line in _findings(files["train"], look)),
        "",
        t(
            "model: builtin  # 或 Qwen/Qwen2-0.5B-Instruct 这样的名字，或本地文件夹",
            "model: builtin  # or a name like Qwen/Qwen2-0.5B-Instruct, or a local folder",
        ),
        f"task: {{kind: {look.task}{_task_language(look)}}}",
        *([] if is_text else _listed_labels(look)),
        "data:",
        *given,
        f"  columns: {{{pairs}}}{check}",
        *shares,
        *([] if is_text else [f"  max_tokens: 512  # {limit}", "  shorten: tail  # head | tail | middle | none"]),
        "method: {kind: lora, rank: 8, alpha: 16}  # full | head | lora",
        f"objective: {{kind: {'pretrain' if is_text else 'sft'}}}",
        "train: {epochs: 3, batch_rows: 32}",
        t(
            "# optim: {learning_rate: …}  # 不写：按方法取（full 5e-5，lora 5e-4，head 2e-3）",
            "# optim: {learning_rate: …}  # absent: by method (full 5e-5, lora 5e-4, head 2e-3)",
        ),
        "seed: 0",
    ]
    return "\n".join(lines) + "\n"


def _task_language(look: _Look) -> str:
    """The template's language where it is not the default: English unless the texts have Chinese characters."""
    if look.task == "text":
        return ""
    return "" if look.chinese else ", language: en"


def _listed_labels(look: _Look) -> list[str]:
    """The labels as a line to uncomment, where they are few enough to list."""
    labels = sorted(label for label in look.labels if label is not None)
    remark = t("  # 标签取自数据；要固定就改成：", "  # labels are taken from the data; to fix them write:")
    if not labels or len(labels) > SHOWN_LABELS:
        return []
    listed = ", ".join(map(yaml_scalar, labels))
    return [remark, f"  # task: {{kind: classification, labels: [{listed}]}}"]


def _findings(path: Path, look: _Look) -> list[str]:
    """The comment lines on what was found."""
    lines = [
        t(f"由 weitiao init 根据 {_short(str(path))} 写成", f"written by weitiao init from {_short(str(path))}"),
        t(f"编码 {detect_encoding(path)}，{look.rows} 行", f"encoding {detect_encoding(path)}, {look.rows} rows"),
        t("列：", "columns: ") + ", ".join(map(_short, look.names)),
    ]
    if look.num_faults:
        lines.append(t(f"读不出来的行：{look.num_faults}", f"rows that cannot be read: {look.num_faults}"))
        lines += [f"  {fault.line}: {_short(fault.reason)}" for fault in look.faults]
    if look.no_text:
        lines.append(t(f"正文为空的行：{look.no_text}", f"rows without text: {look.no_text}"))
    again = t(f"与前面某行重复的行：{look.duplicates}", f"rows that repeat an earlier one: {look.duplicates}")
    if look.contradictions:
        again += t(f"，其中标签不同的：{look.contradictions}", f", with another label: {look.contradictions}")
    lines.append(again)
    if look.lengths:
        last = len(look.lengths) - 1
        quantiles = ", ".join(f"{name} {look.lengths[round(share * last)]}" for name, share in QUANTILES)
        lines.append(t(f"正文长度（字符）：{quantiles}", f"length of the text in characters: {quantiles}"))
    return lines + (_label_findings(look) if look.columns.label is not None else [])


def _label_findings(look: _Look) -> list[str]:
    named = [(label, count) for label, count in look.labels.items() if label is not None]
    counts = sorted(named, key=lambda pair: (-pair[1], pair[0]))
    lines = [t(f"标签 {len(counts)} 种：", f"{len(counts)} labels:")]
    lines += [f"  {_short(label)}: {count}" for label, count in counts[:SHOWN_LABELS]]
    if len(counts) > SHOWN_LABELS:
        lines.append(t(f"  ……另有 {len(counts) - SHOWN_LABELS} 种", f"  … and {len(counts) - SHOWN_LABELS} more"))
    if look.labels[None]:
        lines.append(t(f"没有标签的行：{look.labels[None]}", f"rows without a label: {look.labels[None]}"))
    return lines


def _short(text: str) -> str:
    """``text`` for a comment: on one line, cut, quoted as it would have to be in the config."""
    return yaml_scalar(text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…")
