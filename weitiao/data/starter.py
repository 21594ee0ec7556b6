"""What ``weitiao init DATA`` writes: a look at the data, as comments, above a config that can run as it is."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any

from weitiao.data.chats import Chat, Question, Tags, read_chat, read_question
from weitiao.data.columns import Columns, find_columns, folded, parse_label, suggested, text_of, yaml_scalar
from weitiao.data.folder import split_files
from weitiao.data.ledger import describe_reason
from weitiao.data.read import TEXT_FORMATS, BadRow, data_format, detect_encoding, read_rows
from weitiao.data.shapes import ANSWERS, Layout, find_layout, shape_named
from weitiao.data.split import normalised
from weitiao.errors import DataError
from weitiao.language import Language, t, use
from weitiao.records import SPLITS, Row, SplitName

SAMPLE_ROWS, LEAST_ROWS = 200, 20
MOST_GUESSED = 20
"""Labels among the rows of the sample; temperatures and amounts repeat too, but have more values."""
CHATS = ("generation", "qa")
"""The tasks whose rows are chats or questions."""
CHINESE = re.compile("[\u4e00-\u9fff]")
SHOWN_LABELS = 20
SHOWN_FAULTS = 3
SHOWN_CHARACTERS = 60
QUANTILES = (("min", 0.0), ("50 %", 0.5), ("90 %", 0.9), ("99 %", 0.99), ("max", 1.0))


@dataclass(slots=True)
class _Look:
    """What one pass over the training file found. Lengths are in characters."""

    names: list[str]
    layout: Layout
    guessed: str | None
    rows: int = 0
    faults: list[BadRow] = field(default_factory=list)
    num_faults: int = 0
    no_text: int = 0
    num_turns: int = 0
    num_unanswerable: int = 0
    duplicates: int = 0
    contradictions: int = 0
    lengths: list[int] = field(default_factory=list)
    chinese: bool = False
    labels: Counter[str | None] = field(default_factory=Counter)
    unusable: Counter[str] = field(default_factory=Counter)

    @property
    def columns(self) -> Columns:
        return self.layout.columns


def starter_config(data: Path | str, language: Language, fetched: Mapping[SplitName, Path] | None = None) -> str:
    """A commented YAML config, in ``language``, for a data file or a folder with train, validation (dev, valid, val), test files; or for a
    data set on a hub, whose files are ``fetched``.

    Where column names do not settle which is which, the likeliest by content is written, marked as a guess. Raises ``DataError``.
    """

    def write() -> str:
        use(language)
        path = Path(data)
        files: Mapping[SplitName, Sequence[Path]] = split_files(path) if path.is_dir() else {"train": (path,)}
        if fetched:
            files = {split: (file,) for split, file in fetched.items()}
        return _config(str(data), files, _look(files["train"][0]), whole=bool(fetched))

    return copy_context().run(write)


def _look(path: Path) -> _Look:
    rows = read_rows(path)
    head = list(islice(rows, SAMPLE_ROWS))
    while not any(isinstance(row, Row) for row in head):  # ends: a file without a readable row raises
        head.append(next(rows))
    sample = [row for row in head if isinstance(row, Row)]
    names = list(dict.fromkeys(name for row in sample for name in row.values))
    guessed = None
    try:
        layout = find_layout(names, sample, None, {})
        label = _repeating(names, str(layout.columns.text), sample) if layout.task == "text" else None
        if label is not None:
            layout = Layout("classification", "label", Columns(layout.columns.text, label))
            guessed = t("没有列名像标签", "no column is named like a label")
    except DataError as error:
        layout = _guess(names, sample)
        guessed = error.cause.split("\n")[0]
    look = _Look(names, layout, guessed)
    _count(look, chain(head, rows))
    return look


def _guess(names: Sequence[str], sample: Sequence[Row]) -> Layout:
    """Columns by content where names leave it open: messages are a prompt, the longest cells the text, few values that repeat the label."""
    if (chat := _chat_guess(names, sample)) is not None:
        return chat
    text = suggested("text", names, sample)
    if text is None:
        cause = t("行里没有列", "the rows have no columns")
        raise DataError(sample[0].file, cause, t("请给出有列的数据", "give data that has columns"))
    try:  # names may still settle the label
        columns = find_columns(names, sample, None, {"text": text})[1]
    except DataError:
        columns = Columns(text)
    label = columns.label if columns.label is not None and not _differs(columns.label, sample) else _repeating(names, text, sample)
    if label is None:
        return Layout("text", "text", Columns(text))
    return Layout("classification", "label", Columns(text, label, columns.candidates))


def _chat_guess(names: Sequence[str], sample: Sequence[Row]) -> Layout | None:
    """Messages that end with an answer are a chat, those that do not a prompt; the answer is the column named like one, else the only one
    left. Without messages, a column named like an answer whose texts hardly repeat is no label: the longest of the others is its prompt."""
    cells: dict[str, list[Any]] = {name: [row.values.get(name) for row in sample] for name in names}
    messages = [name for name in names if all(map(_is_messages, cells[name]))]
    texts = [name for name in names if name not in messages and any(map(text_of, cells[name]))]
    named = [name for name in names if name not in messages and folded(name) in (*ANSWERS, "ideal")]
    answers = named or texts
    if len(messages) == 1 and all(turns[-1]["role"] == "assistant" for turns in cells[messages[0]]):
        return Layout("generation", "messages", Columns(messages=messages[0]))
    if len(messages) == 1 == len(answers):
        return Layout("generation", "prompt_completion", Columns(prompt=messages[0], answer=answers[0]))
    prompt = suggested("text", [name for name in texts if name not in named], sample)
    if not messages and prompt is not None and len(named) == 1 and _differs(named[0], sample):
        return Layout("generation", "prompt_completion", Columns(prompt=prompt, answer=named[0]))
    return None


def _differs(name: str, sample: Sequence[Row]) -> bool:
    """Whether there are enough cells to see that most of them differ: a text, or a measured number."""
    values = [value for row in sample if (value := parse_label(row.values.get(name))) is not None]
    return len(values) >= LEAST_ROWS and len(set(values)) > len(values) / 2


def _is_messages(value: object) -> bool:
    turns = value if isinstance(value, list) else []
    return len(turns) > 0 and all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in turns)


def _repeating(names: Sequence[str], text: str, sample: Sequence[Row]) -> str | None:
    """The column other than ``text`` with the fewest values, if there are several, yet no more than a prompt could well list, and each
    occurs twice or more on average."""
    label = suggested("label", [name for name in names if name != text], sample)
    values = [value for row in sample if (value := parse_label(row.values.get(label or ""))) is not None]
    return label if 2 <= len(set(values)) <= min(MOST_GUESSED, len(values) / 2) else None


def _count(look: _Look, rows: Iterator[Row | BadRow]) -> None:
    seen: dict[bytes, str | None] = {}
    for row in rows:
        look.rows += 1
        if isinstance(row, BadRow):
            look.num_faults += 1
            look.faults += [row] if look.num_faults <= SHOWN_FAULTS else []
            continue
        text = _document(look, row)
        if not text.strip():
            look.no_text += look.layout.task not in CHATS
            continue
        label = parse_label(row.values.get(look.columns.label)) if look.columns.label is not None else None
        look.lengths.append(len(text))
        look.labels[label] += 1
        look.chinese = look.chinese or bool(CHINESE.search(text))
        key = sha256(normalised(text).encode("utf-8", "surrogatepass")).digest()[:16]
        look.duplicates += key in seen
        look.contradictions += seen.setdefault(key, label) != label
    look.lengths.sort()


def _document(look: _Look, row: Row) -> str:
    """The text of a row, or all that its chat says; empty where there is none."""
    if look.layout.task not in CHATS:
        return text_of(row.values.get(look.columns.text or ""))
    if look.layout.task == "qa":
        question = read_question(row.values, look.layout.shape, look.columns)
        if isinstance(question, Question):
            look.num_unanswerable += not question.answers
            return f"{question.passage}\n{question.question}"
        look.unusable[question] += 1
        return ""
    chat = read_chat(row.values, look.layout.shape, look.columns, Tags())
    if isinstance(chat, Chat):
        look.num_turns += sum(turn.role == "assistant" for turn in chat.turns)
        return "\n".join(turn.content for turn in chat.turns) or " ".join(chat.answers)
    look.unusable[chat] += 1
    return ""


def _config(name: str, files: Mapping[SplitName, Sequence[Path]], look: _Look, whole: bool) -> str:
    """``whole``: one name stands for all files."""
    whole = whole or any(len(shards) > 1 for shards in files.values())
    given = [f"  train: {yaml_scalar(name)}"] if whole else [f"  {split}: {yaml_scalar(str(one))}" for split, (one, *_) in files.items()]
    absent = [split for split in SPLITS if split not in files]
    columns = look.columns.as_dict()
    pairs = ", ".join(f"{use_as}: {yaml_scalar(name)}" for use_as, name in columns.items() if name is not None)
    check = t("  # 按内容猜的，请核对：", "  # a guess by content, check it: ") + look.guessed if look.guessed else ""
    shares = [f"  {split}_share: 0.1" for split in absent]
    if absent:
        where = ", ".join(absent)
        shares[0] += t(f"  # 从训练文件中分出：{where}", f"  # split off the training file: {where}")
    is_text = look.layout.task == "text"
    is_preference = look.layout.task == "generation" and shape_named(look.layout.shape).is_preference
    objective = "pretrain" if is_text else "dpo" if is_preference else "sft"
    limit = t("每行最多的 token 数；只截短正文，逐行记账", "most tokens per row; only the document is shortened, on record")
    lines = [
        *(f"# {line}".rstrip() for line in _findings(name if whole else str(files["train"][0]), files["train"][0], look)),
        "",
        t(
            "model: builtin  # 或 Qwen/Qwen2-0.5B-Instruct 这样的名字，或本地文件夹",
            "model: builtin  # or a name like Qwen/Qwen2-0.5B-Instruct, or a local folder",
        ),
        _task_line(look),
        *(_listed_labels(look) if look.layout.task == "classification" else []),
        "data:",
        *given,
        *([f"  shape: {look.layout.shape}"] if look.layout.task in CHATS else []),
        f"  columns: {{{pairs}}}{check}",
        *shares,
        *([] if is_text else [f"  max_tokens: 512  # {limit}", "  shorten: tail  # head | tail | middle | none"]),
        "method: {kind: lora, rank: 8, alpha: 16}  # full | " + ("lora" if look.layout.task == "generation" else "head | lora"),
        f"objective: {{kind: {objective}}}",
        "train: {epochs: 3, batch_rows: 32}",
        t(
            "# optim: {learning_rate: …}  # 不写：按方法取（full 5e-5，lora 5e-4，head 2e-3）",
            "# optim: {learning_rate: …}  # absent: by method (full 5e-5, lora 5e-4, head 2e-3)",
        ),
        "seed: 0",
    ]
    return "\n".join(lines) + "\n"


def _task_line(look: _Look) -> str:
    """The task; for labels with the template's language where it is not the default: English unless the texts have Chinese characters."""
    if look.layout.task == "generation":
        if shape_named(look.layout.shape).is_preference:
            return "task: {kind: preference}  # " + t("generation：只用 chosen 训练", "generation: trains on chosen alone")
        turns = t("train_on: all | last，训练助手的哪几轮", "train_on: all | last, which turns of the assistant are trained")
        return f"task: {{kind: generation, train_on: all}}  # {turns}"
    language = "" if look.chinese or look.layout.task == "text" else ", language: en"
    if look.layout.task == "qa":
        word = t("没有答案时这样回答", "the reply where there is no answer")
        abstain = f", unanswerable: {'无法回答' if look.chinese else 'unanswerable'}}}  # {word}" if look.num_unanswerable else "}"
        return f"task: {{kind: qa{language}{abstain}"
    return f"task: {{kind: {look.layout.task}{language}}}"


def _listed_labels(look: _Look) -> list[str]:
    """The labels as a line to uncomment, where they are few enough to list."""
    labels = sorted(label for label in look.labels if label is not None)
    remark = t("  # 标签取自数据；要固定就改成：", "  # labels are taken from the data; to fix them write:")
    if not labels or len(labels) > SHOWN_LABELS:
        return []
    listed = ", ".join(map(yaml_scalar, labels))
    return [remark, f"  # task: {{kind: classification, labels: [{listed}]}}"]


def _findings(name: str, path: Path, look: _Look) -> list[str]:
    """The comment lines on what was found."""
    lines = [
        t(f"由 weitiao init 根据 {_short(name)} 写成", f"written by weitiao init from {_short(name)}"),
        _size(path, look),
        t("列：", "columns: ") + ", ".join(map(_short, look.names)),
    ]
    if look.num_faults:
        lines.append(t(f"读不出来的行：{look.num_faults}", f"rows that cannot be read: {look.num_faults}"))
        lines += [f"  {fault.line}: {_short(fault.reason)}" for fault in look.faults]
    for reason, count in look.unusable.most_common(SHOWN_FAULTS):
        lines.append(f"{_short(describe_reason(*reason.partition(': ')[::2]))}: {count}")
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


def _size(path: Path, look: _Look) -> str:
    rows = t(f"{look.rows} 行", f"{look.rows} rows")
    if data_format(path) in TEXT_FORMATS:
        rows = t(f"编码 {detect_encoding(path)}，", f"encoding {detect_encoding(path)}, ") + rows
    if look.layout.task == "qa":
        return rows + t(
            f"，形状 {look.layout.shape}，其中没有答案的 {look.num_unanswerable} 行",
            f", shape {look.layout.shape}, {look.num_unanswerable} of them without an answer",
        )
    if look.layout.task != "generation":
        return rows
    turns = t(
        f"，形状 {look.layout.shape}，助手的话 {look.num_turns} 轮", f", shape {look.layout.shape}, {look.num_turns} turns of the assistant"
    )
    return rows + turns


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
