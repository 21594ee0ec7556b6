"""Which column is the text, which the label, which the row's own candidates; and what a cell of the latter two says.

Columns are recognised by name. Where names do not settle it, the error shows rows and the one config line that does.
"""

import ast
import difflib
import json
import re
import sys
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Literal, get_args

import yaml

from weitiao.errors import DataError
from weitiao.language import t
from weitiao.records import Row

TaskKind = Literal["classification", "text", "qa", "generation", "preference"]
Field = Literal["text", "label", "candidates", "prompt", "input", "answer", "history", "system", "messages", "tools", "chosen", "rejected"]
FIELDS: tuple[Field, ...] = get_args(Field)
"""The keys of ``data.columns``."""

TEXT_NAMES = ("text", "content", "sentence", "review", "body", "document", "query", "文本", "内容", "正文", "句子", "评论")
LABEL_NAMES = ("label", "labels", "class", "target", "category", "output", "sentiment", "标签", "类别", "分类", "情感")
WITH_CANDIDATES = frozenset({"text", "category", "output"})
"""The columns of ModelScope's zh_cls_fudan-news: ``category`` lists the labels a row may get, ``output`` is the right one."""

SHOWN_ROWS = 3
SHOWN_CHARACTERS = 30
MAX_LITERAL_CHARACTERS = 100_000
_SEPARATORS = re.compile(r"[,，、;；|\n]")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns in use: texts have a ``text`` and, labelled, a ``label``; ``candidates`` lists a row's own labels. The others are
    those of chats (see ``shapes``)."""

    text: str | None = None
    label: str | None = None
    candidates: str | None = None
    prompt: str | None = None
    input: str | None = None
    answer: str | None = None
    history: str | None = None
    system: str | None = None
    messages: str | None = None
    tools: str | None = None
    chosen: str | None = None
    rejected: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """Field → column."""
        return asdict(self)

    @property
    def in_use(self) -> tuple[tuple[str, str], ...]:
        """(field, column) of each that is there."""
        return _in_use(self)


@cache
def _in_use(columns: Columns) -> tuple[tuple[str, str], ...]:
    return tuple((use, column) for use, column in asdict(columns).items() if column is not None)


def find_columns(
    names: Sequence[str], sample: Sequence[Row], task: TaskKind | None, wanted: Mapping[str, str | None]
) -> tuple[TaskKind, Columns]:
    """The task and its columns, from the names of the columns (``wanted``, from ``data.columns``, wins over recognition).

    With ``task`` None, a file with a label column is a classification task, any other a text task. ``sample`` serves errors only.
    Raises ``DataError``: a wanted column does not exist, or the names leave it open which column is meant.
    """
    chosen = wanted_columns(names, wanted)
    free = [name for name in names if name not in chosen.values()]
    if task != "text" and len(names) == 3 and {folded(name) for name in names} == WITH_CANDIDATES:
        by_name = {folded(name): name for name in names}
        known = {"text": by_name["text"], "label": by_name["output"], "candidates": by_name["category"]}
        if known | chosen == known:
            return "classification", Columns(**known)
    text = chosen.get("text") or _only("text", [name for name in free if folded(name) in TEXT_NAMES], free, sample)
    label = chosen.get("label")
    if task != "text" and label is None:
        found = [name for name in free if folded(name) in LABEL_NAMES and name != text]
        if found or task == "classification" or "candidates" in chosen:
            label = _only("label", found, [name for name in free if name != text], sample)
    if task == "text" or label is None:
        return "text", Columns(text)
    return "classification", Columns(text, label, chosen.get("candidates"))


def folded(name: str) -> str:
    """A column name without case, width and outer white space."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def wanted_columns(names: Sequence[str], wanted: Mapping[str, str | None]) -> dict[Field, str]:
    """The columns that the config names, all of which exist and differ. Raises ``DataError`` for any other."""
    chosen: dict[Field, str] = {}
    for field in FIELDS:
        name = wanted.get(field)
        if name is None:
            continue
        where = f"data.columns.{field}"
        if name not in names:
            near = nearest(name, names)
            cause = t(f"没有名为 {name!r} 的列", f"there is no column {name!r}")
            listed = ", ".join(map(repr, names))
            remedy = t(f"现有的列：{listed}", f"the columns are {listed}")
            raise DataError(where, cause, remedy + (t(f"；是不是 {near!r}？", f"; did you mean {near!r}?") if near else ""))
        if name in chosen.values():
            cause = t(f"列 {name!r} 被用了两次", f"the column {name!r} is used twice")
            raise DataError(where, cause, t("每个用途指定不同的列", "name a different column for each use"))
        chosen[field] = name
    return chosen


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The name that ``name`` is probably a misspelling of."""
    folded = {known.casefold(): known for known in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return folded[near[0]] if near else None


def _only(field: Field, found: Sequence[str], others: Sequence[str], sample: Sequence[Row]) -> str:
    """The one column found; an error that shows rows and the config line that settles it if there are none or several."""
    if len(found) == 1:
        return found[0]
    where = sample[0].file if sample else f"data.columns.{field}"
    what = t("正文（text）", "text") if field == "text" else t("标签（label）", "label")
    listed = ", ".join(map(repr, found or others)) or t("（无）", "(none)")
    if found:
        cause = t(f"有 {len(found)} 列都可能是{what}：{listed}", f"{len(found)} columns could be the {what}: {listed}")
    else:
        cause = t(f"认不出哪一列是{what}；可选的列：{listed}", f"no column is recognised as the {what}; there are: {listed}")
    raise _unsettled(where, cause, field, suggested(field, found or others, sample), sample)


def suggested(field: Field, names: Sequence[str], sample: Sequence[Row]) -> str | None:
    """The likeliest of ``names`` by content: for text the longest cells, for a label the fewest different ones. Lists and objects are
    neither."""
    if field == "text":
        return max(names, key=lambda name: sum(len(text_of(row.values.get(name))) for row in sample), default=None)
    return min(names, key=lambda name: len({parse_label(row.values.get(name)) for row in sample} - {None}) or sys.maxsize, default=None)


def text_of(value: object) -> str:
    """A cell as text: a number as it is written; empty for what is no text (nothing, true and false, lists, objects)."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def shown_rows(sample: Sequence[Row]) -> str:
    """The first rows, each on a line of its own, for a message."""
    rows = [(row.line, ", ".join(f"{column}={_cut(value)}" for column, value in row.values.items())) for row in sample[:SHOWN_ROWS]]
    return "".join(f"\n  {line}: {cells}" for line, cells in rows)


def _unsettled(where: str, cause: str, field: Field, name: str | None, sample: Sequence[Row]) -> DataError:
    line = f"data.columns.{field}: {yaml_scalar(name or t('列名', 'NAME'))}"
    remedy = t(f"在配置里写明一行，例如 {line}", f"settle it with one line of config, for example {line}")
    return DataError(where, cause + shown_rows(sample), remedy)


def _cut(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def yaml_scalar(text: str) -> str:
    """``text`` as one line of YAML that reads back the same, in ``{…}`` and YAML 1.2 too: quoted unless plainly a word."""
    plain = yaml.safe_dump([text], allow_unicode=True, default_flow_style=True, width=sys.maxsize)[1:-2]
    if plain == text and text[0].isalpha() and text.casefold() not in ("y", "n") and len(text.splitlines()) == 1:
        return plain
    quoted = yaml.safe_dump(text, allow_unicode=True, default_style="'", width=sys.maxsize)[:-1]
    if len(quoted.splitlines()) == 1:
        return quoted
    return yaml.safe_dump(text, default_style='"', width=sys.maxsize)[:-1]


def parse_candidates(value: object) -> tuple[str, ...]:
    """The labels in a cell, in order, each once: a list, a JSON or Python list as text, or lines or , ， 、 ; ； |"""
    if isinstance(value, str):
        text = value.strip()
        items = _literal_list(text) if text.startswith("[") else None
        if items is None:
            bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
            items = [item.strip().strip("'\"") for item in _SEPARATORS.split(bare)]
    else:
        items = list(value) if isinstance(value, (list, tuple)) else [value]
    labels = (parse_label(item) for item in items)
    return tuple(dict.fromkeys(label for label in labels if label is not None))


def _literal_list(text: str) -> list[object] | None:
    """What a list written as JSON or Python holds; None if it is neither (or too long to be a list of labels)."""
    if len(text) > MAX_LITERAL_CHARACTERS:
        return None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # '\d' in a label is the user's text, not our code
                parsed = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return parsed if isinstance(parsed, list) else None


def parse_label(value: object) -> str | None:
    """A label as text: strings stripped, booleans as JSON spells them (true → "true"), numbers as the file does (1 → "1", 1e-4 → "1e-4").

    None for an empty cell, and for lists and objects, which are no label.
    """
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool):
        return json.dumps(value)
    return str(value) if isinstance(value, (int, float)) else None
