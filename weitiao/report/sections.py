"""The tables and lists of the report, as plain records that the template only has to print."""

from dataclasses import dataclass

from markupsafe import Markup

from weitiao.language import t
from weitiao.report.figures import systems
from weitiao.report.folder import Json, RunFolder, dig, finite, metric, objects, whole
from weitiao.report.headline import LOWER_IS_BETTER, Verdict, judge
from weitiao.report.numbers import absent, count, decimal, interval, p_value, share, signed
from weitiao.report.plots import bar
from weitiao.report.words import metric_title

MAX_MATRIX_LABELS = 30
"""A confusion matrix of more labels is not legible; its largest cells are listed instead."""

HEAT_LEVELS = 20
"""Steps of shade in the confusion matrix; the style sheet has one class for each."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A number with its interval and n below it."""

    value: str
    detail: str = ""
    is_best: bool = False


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One system: its title, its mark in the style sheet, its cells."""

    title: str
    style: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class MetricTable:
    """Systems down, metrics across."""

    columns: tuple[str, ...]
    rows: tuple[MetricRow, ...]


def metric_table(folder: RunFolder, names: tuple[str, ...]) -> MetricTable | None:
    """The metrics ``names`` of every system that was evaluated; a metric that none has is left out."""
    compared = systems(folder)
    present = [name for name in names if any(metric(system.evaluation, name) for system in compared)]
    if not present:
        return None
    best = {name: _best(folder, name) for name in present}
    rows = []
    for system in compared:
        cells = tuple(_cell(system.evaluation, name, best[name]) for name in present)
        rows.append(MetricRow(system.title, system.style, cells))
    return MetricTable(tuple(metric_title(name) for name in present), tuple(rows))


def _best(folder: RunFolder, name: str) -> float | None:
    found = [value.value for system in systems(folder) if (value := metric(system.evaluation, name)) is not None]
    return None if len(found) < 2 else min(found) if name in LOWER_IS_BETTER else max(found)


def _cell(evaluation: Json, name: str, best: float | None) -> Cell:
    value = metric(evaluation, name)
    if value is None:
        return Cell("—", t("未测量", "not measured"))
    n = "" if value.n is None else f"n = {count(value.n)}"
    parts = ([interval(value)] if value.low is not None else []) + ([n] if n else [])
    return Cell(decimal(value.value), " · ".join(parts), value.value == best)


@dataclass(frozen=True, slots=True)
class PairRow:
    """One paired comparison, as it is printed. ``test``: the name of the one that was made; empty, as its figures, where none was."""

    title: str
    difference: str
    detail: str
    a_only: str
    b_only: str
    test: str
    p: str
    words: str
    tone: str


def pair_rows(folder: RunFolder) -> list[PairRow]:
    """Every paired comparison of comparison.json in its order."""
    titles = {system.name: system.title for system in systems(folder)}
    return [_pair_row(pair, titles) for pair in objects(folder.comparison.get("pairs"))]


def _pair_row(pair: Json, titles: dict[str, str]) -> PairRow:
    verdict = judge(pair)
    a, b = (titles.get(str(pair.get(key)), str(pair.get(key))) for key in ("a", "b"))
    difference = verdict.difference
    n = "" if difference is None or difference.n is None else f" · n = {count(difference.n)}"
    words, tone = _verdict_words(verdict)
    return PairRow(
        title=t(f"{a} 对 {b}", f"{a} vs {b}"),
        difference=absent() if difference is None else signed(difference.value),
        detail="" if difference is None else interval(difference, sign=True) + n,
        a_only=count(dig(pair, "mcnemar", "a_only")) if "mcnemar" in pair else "",
        b_only=count(dig(pair, "mcnemar", "b_only")) if "mcnemar" in pair else "",
        test=verdict.test or "",
        p=p_value(verdict.p).removeprefix("p\u00a0").removeprefix("=\u00a0") if verdict.test else "",
        words=words,
        tone=tone,
    )


def _verdict_words(verdict: Verdict) -> tuple[str, str]:
    return {
        "higher": (t("更高", "higher"), "good"),
        "lower": (t("更低", "lower"), "bad"),
        "undecided": (t("没有看出差别", "no difference shown"), "open"),
        "conflicting": (t("两种检验不一致", "the tests disagree"), "open"),
        "untested": (t("没有检验", "not tested"), "open"),
    }[verdict.kind]


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """A count, its share of the row, and its shade (0 to HEAT_LEVELS)."""

    count: int
    share: str
    level: int
    is_diagonal: bool


@dataclass(frozen=True, slots=True)
class Matrix:
    """A confusion matrix: gold labels down, predictions across. ``rows`` is empty where there are too many labels to print it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[MatrixCell, ...]], ...]
    confusions: tuple[tuple[str, str, int, str], ...]
    num_labels: int


def matrix(evaluation: Json) -> Matrix | None:
    """The confusion matrix of an evaluation; None where it has none that is square."""
    labels = dig(evaluation, "confusion_matrix", "labels")
    counts, invalid = dig(evaluation, "confusion_matrix", "rows"), dig(evaluation, "confusion_matrix", "invalid")
    if not isinstance(labels, list) or not isinstance(counts, list) or not labels or len(labels) != len(counts):
        return None
    table = [[whole(value) or 0 for value in row] if isinstance(row, list) else [] for row in counts]
    if any(len(row) != len(labels) for row in table):
        return None
    names, columns = [str(label) for label in labels], [str(label) for label in labels]
    if isinstance(invalid, list) and len(invalid) == len(labels) and any(invalid):
        columns = [*names, t("无效回答", "invalid answer")]
        table = [[*row, whole(number) or 0] for row, number in zip(table, invalid, strict=True)]
    confusions: list[tuple[str, str, int, str]] = []
    rows: list[tuple[str, int, tuple[MatrixCell, ...]]] = []
    for i, (name, row) in enumerate(zip(names, table, strict=True)):
        total = sum(row)
        confusions.extend((name, columns[j], number, share(number / total)) for j, number in enumerate(row) if number and i != j)
        rows.append((name, total, tuple(_matrix_cell(number, total, i == j) for j, number in enumerate(row))))
    largest = tuple(sorted(confusions, key=lambda one: (-one[2], one[0], one[1]))[:10])
    return Matrix(tuple(columns), tuple(rows) if len(names) <= MAX_MATRIX_LABELS else (), largest, len(names))


def _matrix_cell(number: int, total: int, is_diagonal: bool) -> MatrixCell:
    part = number / total if total else 0.0
    level = 0 if number == 0 else max(1, round(part * HEAT_LEVELS))
    return MatrixCell(number, share(part) if total else "—", level, is_diagonal)


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One label: F1 as a bar (with F1 before as a tick), precision and recall, and the number of test rows it rests on."""

    label: str
    bar: Markup
    f1: str
    before_f1: str
    precision: str
    recall: str
    support: str


def class_rows(folder: RunFolder) -> list[ClassRow]:
    """Per-class results after training (before it, where only that was evaluated)."""
    evaluation = folder.after if folder.after.get("per_class") else folder.before
    per_class = evaluation.get("per_class")
    rows = []
    for label, one in per_class.items() if isinstance(per_class, dict) else ():
        f1 = finite(dig(one, "f1"))
        before = finite(dig(folder.before, "per_class", label, "f1")) if evaluation is folder.after else None
        rows.append(
            ClassRow(
                label=label,
                bar=bar(f1 or 0.0, before, "after" if evaluation is folder.after else "before"),
                f1=_plain(f1),
                before_f1=_plain(before),
                precision=_plain(finite(dig(one, "precision"))),
                recall=_plain(finite(dig(one, "recall"))),
                support=count(dig(one, "support")),
            )
        )
    return rows


def _plain(value: float | None) -> str:
    return "—" if value is None else decimal(value)
