"""Which shape the rows have: recognised by the set of their columns, with a fixed priority.

Shapes of chats are in one table, :data:`SHAPES`. A shape fits when the file has all of its required columns; one whose required columns
are only part of another fitting shape's gives way to that; among equal sets the first of the table wins. Where two fit and neither set
holds the other, the run stops and shows the line of config that settles it. Labelled and plain texts are found by ``columns``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from weitiao.data.columns import Columns, Field, TaskKind, find_columns, folded, shown_rows, wanted_columns, yaml_scalar
from weitiao.errors import DataError
from weitiao.language import t
from weitiao.records import Row

ANSWERS = ("output", "response", "answer", "completion", "输出", "回答", "答案")
PREFERENCE = "preference"


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape of chats: field → the column names that it goes by. Fields are the keys of ``data.columns``."""

    name: str
    required: Mapping[Field, tuple[str, ...]]
    optional: Mapping[Field, tuple[str, ...]]

    @property
    def is_preference(self) -> bool:
        """Whether each row has a better and a worse answer."""
        return "rejected" in self.required

    @property
    def is_question(self) -> bool:
        """Whether each row is a question and its answers, in a column each: what the qa task takes."""
        return {"prompt", "answer"} <= self.required.keys()


_SYSTEM: dict[Field, tuple[str, ...]] = {"system": ("system", "system_prompt", "系统提示")}
_TURNS = ("conversations", "messages")
SHAPES: tuple[Shape, ...] = (
    Shape("preference_turns", {"messages": _TURNS, "chosen": ("chosen",), "rejected": ("rejected",)}, {**_SYSTEM, "tools": ("tools",)}),
    Shape(
        "preference",
        {"prompt": ("prompt", "instruction", "question", "query"), "chosen": ("chosen",), "rejected": ("rejected",)},
        {**_SYSTEM, "input": ("input",), "history": ("history",)},
    ),
    Shape("preference_messages", {"chosen": ("chosen",), "rejected": ("rejected",)}, {**_SYSTEM, "tools": ("tools",)}),
    Shape("preference_last", {"messages": ("messages",), "rejected": ("rejected_response",)}, {**_SYSTEM, "tools": ("tools",)}),
    Shape("messages", {"messages": ("messages",)}, {**_SYSTEM, "tools": ("tools",)}),
    Shape("sharegpt", {"messages": ("conversations", "conversation")}, {**_SYSTEM, "tools": ("tools",)}),
    Shape(
        "prompt_completion", {"prompt": ("prompt", "提示"), "answer": ANSWERS}, {**_SYSTEM, "tools": ("tools",), "history": ("history",)}
    ),
    Shape(
        "alpaca",
        {"prompt": ("instruction", "指令"), "answer": ANSWERS},
        {**_SYSTEM, "input": ("input", "context", "输入"), "history": ("history",), "tools": ("tools",)},
    ),
    Shape("query_response", {"prompt": ("query",), "answer": ("response", "answer")}, {**_SYSTEM, "history": ("history",)}),
    Shape(
        "question_answers",
        {"prompt": ("question", "问题"), "answer": ("answers", *ANSWERS)},
        {**_SYSTEM, "input": ("context", "passage", "原文")},
    ),
)
NAMES = tuple(shape.name for shape in SHAPES)
MARKS = ("kto_tag", "label", "labels")
"""Where data that say of single answers whether they are good (KTO) keep it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the rows of a file are: the task that they fit, their shape ("text" or "label" for texts) and its columns."""

    task: TaskKind
    shape: str
    columns: Columns


def find_layout(
    names: Sequence[str],
    sample: Sequence[Row],
    task: TaskKind | None,
    wanted: Mapping[str, str | None],
    shape: str | None = None,
    num_rows: int = 0,
) -> Layout:
    """The shape and columns for a task (None: the task that the columns suggest). ``wanted`` and ``shape`` are ``data.columns`` and
    ``data.shape``; ``num_rows`` serves the message.

    Raises ``DataError``, with rows and the config line that settles it: columns not recognised or ambiguous, or chats that the config takes
    for labelled or plain text.
    """
    if task in ("generation", "qa", "preference"):
        found_chats = _chats(names, sample, wanted, shape) or _no_chats(names, sample)
        _refuse_marked(found_chats, names, sample, wanted)
        if task == "preference" and not shape_named(found_chats.shape).is_preference:
            raise _no_pairs(found_chats, sample)
        return _questions(found_chats, sample) if task == "qa" else found_chats
    chats = None if any(wanted.get(field) for field in ("text", "label", "candidates")) else _chats(names, sample, wanted, None)
    if chats is None:
        found, columns = find_columns(names, sample, task, wanted)
        return Layout(found, "text" if columns.label is None else "label", columns)
    try:
        found, columns = find_columns(names, sample, task, wanted)
    except DataError:
        found, columns = "generation", Columns()
    if (columns.label or columns.text or next(iter(_used(chats.columns)))) not in _used(chats.columns):  # of its own, beside the chat
        return Layout(found, "text" if columns.label is None else "label", columns)
    if task is None:
        _refuse_marked(chats, names, sample, wanted)
        return replace(chats, task="qa") if chats.shape == "question_answers" else chats
    raise _chats_instead(chats, sample, task, num_rows)


def _chats(names: Sequence[str], sample: Sequence[Row], wanted: Mapping[str, str | None], only: str | None) -> Layout | None:
    """The layout of chats that the columns fit; None if they fit none."""
    chosen = wanted_columns(names, wanted)
    fitting = [fit for shape in SHAPES if only in (None, shape.name) and (fit := _fit(shape, names, chosen)) is not None]
    best = [fit for fit in fitting if not any(fit.columns_needed < other.columns_needed for other in fitting)]
    if not best:
        return None
    if len({fit.columns_needed for fit in best}) > 1:
        raise _ambiguous_shape([fit.shape for fit in best], sample)
    shape, found = best[0].shape, best[0].found
    for field, columns in found.items():
        if len(columns) > 1:
            raise _ambiguous_column(field, columns, sample)
    return Layout("generation", shape.name, replace(Columns(), **{field: columns[0] for field, columns in found.items()}))


def _refuse_marked(chats: Layout, names: Sequence[str], sample: Sequence[Row], wanted: Mapping[str, str | None]) -> None:
    """Raise ``DataError`` where a column beside a chat says whether its answer is good: the bad ones would be learned. Not where the config
    names the columns."""
    marked = (name for name in names if folded(name) in MARKS and name not in _used(chats.columns))
    mark = next((name for name in marked if all(isinstance(row.values.get(name), bool) for row in sample)), None)
    if mark is None or any(wanted.values()):
        return
    cause = t(
        f"列 {mark!r} 说每个回答是好是坏；照着学会把坏的也学进去，而单个回答的好坏（KTO）这里学不了",
        f"the column {mark!r} says of each answer whether it is good: the bad ones would be learned too, and nothing here learns from "
        "single marks (KTO)",
    )
    line = ", ".join(f"{field}: {yaml_scalar(column)}" for field, column in chats.columns.in_use)
    remedy = t(
        f"只留下好的行，或配成 chosen、rejected 一对；要照样学全部，写明 data.columns: {{{line}}}",
        f"keep the good rows only, or make pairs of chosen and rejected; to learn them all, say data.columns: {{{line}}}",
    )
    raise DataError(_where(sample), cause + shown_rows(sample), remedy)


def _questions(chats: Layout, sample: Sequence[Row]) -> Layout:
    """The same as a layout of questions. Raises ``DataError`` for whole chats and preferences."""
    if shape_named(chats.shape).is_question:
        return replace(chats, task="qa")
    cause = t(
        f"qa 任务要有问题和答案两列，这些行是 {chats.shape}",
        f"the qa task needs a column of questions and one of answers; these rows are {chats.shape}",
    )
    raise DataError(
        _where(sample), cause + shown_rows(sample), t("整段对话用 task.kind: generation", "for whole chats: task.kind: generation")
    )


@dataclass(frozen=True, slots=True)
class _Fit:
    """A shape whose required columns are all there: field → the columns that it could be."""

    shape: Shape
    found: Mapping[Field, Sequence[str]]

    @property
    def columns_needed(self) -> frozenset[str]:
        return frozenset(column for field in self.shape.required for column in self.found[field])


def _fit(shape: Shape, names: Sequence[str], chosen: Mapping[Field, str]) -> _Fit | None:
    known = {**shape.required, **shape.optional}
    if chosen.keys() - known.keys():
        return None
    free = [name for name in names if name not in chosen.values()]
    found: dict[Field, Sequence[str]] = {field: [column] for field, column in chosen.items()}
    for field, spelled in known.items():
        there = [name for name in free if folded(name) in spelled]
        if field not in found and there:
            found[field] = there
    return _Fit(shape, found) if shape.required.keys() <= found.keys() else None


def shape_named(name: str) -> Shape:
    """The shape of chats with this name."""
    return SHAPES[NAMES.index(name)]


def _used(columns: Columns) -> set[str]:
    return {name for name in columns.as_dict().values() if name is not None}


def _where(sample: Sequence[Row]) -> str:
    return sample[0].file if sample else "data.train"


def _settled_by(line: str) -> str:
    return t(f"在配置里写明一行，例如 {line}", f"settle it with one line of config, for example {line}")


def _ambiguous_shape(fitting: Sequence[Shape], sample: Sequence[Row]) -> DataError:
    listed = ", ".join(shape.name for shape in fitting)
    cause = t(f"这些列同时符合几种形状：{listed}", f"these columns fit several shapes: {listed}")
    return DataError(_where(sample), cause + shown_rows(sample), _settled_by(f"data.shape: {fitting[0].name}"))


def _ambiguous_column(field: Field, columns: Sequence[str], sample: Sequence[Row]) -> DataError:
    listed = ", ".join(map(repr, columns))
    cause = t(f"有 {len(columns)} 列都可能是 {field}：{listed}", f"{len(columns)} columns could be {field}: {listed}")
    return DataError(_where(sample), cause + shown_rows(sample), _settled_by(f"data.columns.{field}: {yaml_scalar(columns[0])}"))


def _no_chats(names: Sequence[str], sample: Sequence[Row]) -> Layout:
    listed = ", ".join(map(repr, names))
    cause = t(f"认不出对话的形状；列：{listed}", f"no shape of chats is recognised; the columns are {listed}")
    one, other = (*map(yaml_scalar, names), "A", "B")[:2]
    remedy = _settled_by(f"data.columns: {{prompt: {one}, answer: {other}}}")
    if "segments" in names:
        remedy = t(
            "segments（不用对话模板的片段）要先改成 messages 或 prompt、completion",
            "rewrite the segments as messages, or as prompt and completion",
        )
    elif "input_ids" in names:
        remedy = t("词元 id 只属于一个分词器；请给原来的文字", "token ids belong to one tokenizer: give the texts that they were made of")
    raise DataError(_where(sample), cause + shown_rows(sample), remedy)


def _no_pairs(chats: Layout, sample: Sequence[Row]) -> DataError:
    cause = t(
        f"偏好任务要有 chosen 和 rejected 两列；这些行是 {chats.shape}",
        f"the preference task needs the columns chosen and rejected; these rows are of the shape {chats.shape}",
    )
    one, other = (*map(yaml_scalar, sorted(_used(chats.columns))), "A", "B")[:2]
    return DataError(_where(sample), cause + shown_rows(sample), _settled_by(f"data.columns: {{chosen: {one}, rejected: {other}}}"))


def _chats_instead(chats: Layout, sample: Sequence[Row], task: str, num_rows: int) -> DataError:
    cause = t(
        f"{num_rows} 行都是对话（形状 {chats.shape}：{', '.join(sorted(_used(chats.columns)))}），而任务是 {task}",
        f"the {num_rows} rows are chats (shape {chats.shape}: {', '.join(sorted(_used(chats.columns)))}), but the task is {task}",
    )
    kind = "qa" if chats.shape == "question_answers" else "generation"
    remedy = t(f"用它们的回答训练：task.kind: {kind}", f"train on their answers: task.kind: {kind}")
    if shape_named(chats.shape).is_preference:
        remedy = t(
            "从偏好学习：task.kind: preference 加 objective.kind: dpo；只用 chosen 的回答训练：task.kind: generation",
            "to learn from the preferences: task.kind: preference with objective.kind: dpo; to train on the chosen answers alone: "
            "task.kind: generation",
        )
    elif task == "classification":
        remedy += t(
            "；要做分类，写明 data.columns.text 和 data.columns.label", "; to classify, name data.columns.text and data.columns.label"
        )
    else:
        remedy += t("；要当作文本，写明 data.columns.text", "; to read a column as plain text, name data.columns.text")
    return DataError(_where(sample), cause + shown_rows(sample), remedy)
