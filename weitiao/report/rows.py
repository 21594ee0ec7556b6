"""Single rows in the report: the account of what was shortened or rejected, and the predictions worth reading."""

from collections.abc import Callable
from dataclasses import dataclass

from weitiao.language import t
from weitiao.report.folder import Json, RunFolder, dig, finite, objects, whole
from weitiao.report.numbers import count, decimal, share
from weitiao.report.words import localised, split_title

MAX_LISTED_ROWS = 20
MAX_ERRORS = 30
MAX_CHANGES = 10
MAX_ROLLOUT_STEPS = 6
SHORT_CHARACTERS = 300
LONG_CHARACTERS = 2000
"""A longer text is cut in the report, which must stay small; the predictions file has all of it."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One answer that was drawn while learning by rewards; ``parts`` are its rewards one by one."""

    step: str
    prompt: str
    answer: str
    reward: str
    parts: str


def rollout_rows(folder: RunFolder) -> list[Rollout]:
    """Some of the drawn answers, from the first step to the last."""
    lines = folder.rollouts
    places = sorted({round(i * (len(lines) - 1) / (MAX_ROLLOUT_STEPS - 1)) for i in range(MAX_ROLLOUT_STEPS)}) if lines else []
    return [
        Rollout(
            count(line.get("step")),
            str(line.get("prompt", ""))[-SHORT_CHARACTERS:],
            str(answer.get("text", ""))[:SHORT_CHARACTERS],
            decimal(finite(answer.get("reward")) or 0.0),
            "  ".join(f"{name} {decimal(value)}" for name, part in parts.items() if (value := finite(part)) is not None),
        )
        for line in (lines[place] for place in places)
        for answer in objects(line.get("answers"))
        if isinstance(parts := answer.get("parts", {}), dict)
    ]


@dataclass(frozen=True, slots=True)
class FileRow:
    """The account of one data file. ``is_balanced``: rows in = used + rejected, shortened rows among the used or beside them."""

    path: str
    split: str
    sha256: str
    rows_in: str
    used: str
    rejected: str
    shortened: str
    is_balanced: bool


def file_rows(folder: RunFolder) -> list[FileRow]:
    """One row per data file of data/ledger.json; from run.json where there is no ledger."""
    rows = []
    for one in objects(folder.ledger.get("files")):
        numbers = [whole(one.get(name)) for name in ("rows_in", "used", "rejected", "shortened")]
        rows_in, used, rejected, shortened = (number or 0 for number in numbers)
        rows.append(
            FileRow(
                path=str(one.get("path", "?")),
                split=split_title(str(one.get("split", ""))),
                sha256=str(one.get("sha256") or t("未记录", "not recorded")),
                rows_in=count(one.get("rows_in")),
                used=count(one.get("used")),
                rejected=count(one.get("rejected")),
                shortened=count(one.get("shortened")),
                is_balanced=None in numbers or rows_in in (used + rejected, used + rejected + shortened),
            )
        )
    if rows:
        return rows
    stated = folder.run.get("data")
    return [_stated_file(split, one) for split, one in stated.items() if isinstance(one, dict)] if isinstance(stated, dict) else []


def _stated_file(split: str, one: Json) -> FileRow:
    unknown = t("未记录", "not recorded")
    path, digest = str(one.get("path") or "?"), str(one.get("sha256") or unknown)
    return FileRow(path, split_title(split), digest, count(one.get("rows")), unknown, unknown, unknown, True)


@dataclass(frozen=True, slots=True)
class RowList:
    """The first rows of a kind as ``file:line`` with what happened, and how many there are in all."""

    total: int
    shown: tuple[tuple[str, str], ...]


def rejected_rows(folder: RunFolder) -> RowList:
    """Rows that were not used, with the reason."""
    return _row_list(folder, "rejected", lambda row: localised(row.get("reason")))


def shortened_rows(folder: RunFolder) -> RowList:
    """Rows whose document was shortened, with their tokens before and after."""
    return _row_list(folder, "shortened", lambda row: f"{count(row.get('tokens_before'))} → {count(row.get('tokens_after'))}")


def _row_list(folder: RunFolder, kind: str, words: Callable[[Json], str]) -> RowList:
    files = objects(folder.ledger.get("files"))
    listed = [(one, row) for one in files for row in objects(one.get(f"{kind}_rows"))]
    total = max(len(listed), sum(whole(one.get(kind)) or 0 for one in files))
    shown = [(f"{one.get('path', '?')}:{row.get('line', '?')}", words(row)) for one, row in listed[:MAX_LISTED_ROWS]]
    return RowList(total, tuple(shown))


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """How many rows each label has in each split."""

    splits: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def label_counts(folder: RunFolder) -> LabelCounts | None:
    """Rows per label and split, from data/audit.json."""
    labels = folder.audit.get("labels")
    splits = {name: one for name, one in labels.items() if isinstance(one, dict)} if isinstance(labels, dict) else {}
    names = list(dict.fromkeys(label for one in splits.values() for label in one))
    rows = [(label, tuple(count(one.get(label, 0)) for one in splits.values())) for label in names]
    return LabelCounts(tuple(split_title(name) for name in splits), tuple(rows)) if rows else None


@dataclass(frozen=True, slots=True)
class TopicRow:
    """One topic of the texts: the words that mark it, its share of the training and of the test texts that were looked at, a text."""

    words: str
    train: str
    test: str
    where: str
    text: str


@dataclass(frozen=True, slots=True)
class TopicTable:
    """The topics, the largest first, and how many training texts were looked at."""

    total: str
    rows: tuple[TopicRow, ...]


def topics(folder: RunFolder) -> TopicTable | None:
    """What the texts are about, from data/audit.json."""
    found = folder.audit.get("topics")
    entries = objects(found.get("topics")) if isinstance(found, dict) else []
    rows = [
        TopicRow(
            t("、", ", ").join(str(word) for word in words),
            "—" if finite(one.get("train")) is None else share(one["train"]),
            "—" if finite(one.get("test")) is None else share(one["test"]),
            _finding_place(example),
            str(example.get("text") or "")[:SHORT_CHARACTERS],
        )
        for one in entries
        if isinstance(words := one.get("words"), list) and isinstance(example := one.get("example"), dict)
    ]
    return TopicTable(count(dig(folder.audit, "topics", "n", "train")), tuple(rows)) if rows else None


@dataclass(frozen=True, slots=True)
class ExampleCard:
    """One prediction to read. ``text`` is its beginning, ``rest`` what unfolds, ``cut`` how many characters only the file has."""

    id: str
    where: str
    text: str
    rest: str
    cut: int
    label: str
    prediction: str
    probability: str
    label_probability: str
    before: str = ""


@dataclass(frozen=True, slots=True)
class Examples:
    """Cards of one kind, and how many rows of that kind there are in all."""

    total: int
    cards: tuple[ExampleCard, ...]


def worst_errors(folder: RunFolder) -> Examples:
    """Wrong predictions after training (before it, where only those exist), the most confident first."""
    predictions = folder.predictions_after or folder.predictions_before
    wrong = [one for one in predictions if one.get("correct") is False]
    ordered = sorted(wrong, key=lambda one: (-(finite(one.get("probability")) or 0.0), str(one.get("id"))))
    return Examples(len(wrong), tuple(_card(one) for one in ordered[:MAX_ERRORS]))


def changes(folder: RunFolder) -> tuple[Examples, Examples] | None:
    """Rows fixed and rows broken by training, the largest change of loss first; None without predictions before and after."""
    before = {str(one.get("id")): one for one in folder.predictions_before}
    pairs = [(before[str(one.get("id"))], one) for one in folder.predictions_after if str(one.get("id")) in before]
    if not pairs:
        return None
    fixed = [pair for pair in pairs if pair[0].get("correct") is False and pair[1].get("correct") is True]
    broken = [pair for pair in pairs if pair[0].get("correct") is True and pair[1].get("correct") is False]
    return _changed(fixed), _changed(broken)


def _changed(pairs: list[tuple[Json, Json]]) -> Examples:
    def change(pair: tuple[Json, Json]) -> tuple[float, str]:
        before, after = (finite(one.get("loss")) or 0.0 for one in pair)
        return -abs(before - after), str(pair[1].get("id"))

    ordered = sorted(pairs, key=change)[:MAX_CHANGES]
    return Examples(len(pairs), tuple(_card(after, str(before.get("prediction"))) for before, after in ordered))


def _card(one: Json, before: str = "") -> ExampleCard:
    text = str(one.get("text") or "")
    label = str(one.get("label"))
    return ExampleCard(
        id=str(one.get("id")),
        where=_where(one),
        text=text[:SHORT_CHARACTERS],
        rest=text[SHORT_CHARACTERS:LONG_CHARACTERS],
        cut=max(0, len(text) - LONG_CHARACTERS),
        label=label,
        prediction=str(one.get("prediction")),
        probability=_probability(one.get("probability")),
        label_probability=_probability(dig(one, "probabilities", label)),
        before=before,
    )


def _probability(value: object) -> str:
    number = finite(value)
    return "—" if number is None else decimal(number)


def _where(one: Json) -> str:
    """``file:line``; the line is the last part of the id."""
    line = one.get("line", str(one.get("id")).rpartition(":")[2])
    return f"{one.get('file') or '?'}:{line}" if str(line).isdigit() else str(one.get("file") or "?")


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One finding of the audit: its severity in words and its tone, what was found, what to do, and the first rows as (place, text)."""

    severity: str
    tone: str
    check: str
    message: str
    remedy: str
    rows: tuple[tuple[str, str], ...]


def finding_rows(folder: RunFolder) -> list[FindingRow]:
    """The findings of data/audit.json in their order; one that is a mere text has nothing but its message."""
    found = folder.audit.get("findings")
    return [_finding_row(one) for one in found] if isinstance(found, list) else []


def _finding_row(one: object) -> FindingRow:
    entry = one if isinstance(one, dict) else {}
    severity = str(entry.get("severity", "notice"))
    title = {"error": t("错误", "error"), "warning": t("警告", "warning")}.get(severity, t("提示", "notice"))
    rows = tuple((_finding_place(row), str(row.get("text") or "")) for row in objects(entry.get("rows")))
    tone = {"error": "bad", "warning": "bad"}.get(severity, "open")
    return FindingRow(title, tone, str(entry.get("check") or ""), localised(one), localised(entry.get("remedy")), rows)


def _finding_place(row: Json) -> str:
    where = f"{row.get('file', '?')}:{row.get('line', '?')}"
    return f"{where} = {row['other']}" if row.get("other") else where


@dataclass(frozen=True, slots=True)
class AuditedExample:
    """One decoded training row in three parts: what stands before the trained tokens, the trained tokens, and what follows."""

    id: str
    before: str
    trained: str
    after: str


def audited_example(folder: RunFolder) -> AuditedExample | None:
    """The row that the audit decoded; the trained part is marked where it is found in the row (its last occurrence)."""
    one = folder.audit.get("example")
    if not isinstance(one, dict) or not one.get("text"):
        return None
    text, trained = str(one["text"]), str(one.get("trained_text") or "")
    start = text.rfind(trained) if trained else -1
    if start < 0:
        return AuditedExample(str(one.get("id")), text[:LONG_CHARACTERS], "", "")
    before = text[:start]
    if len(before) > LONG_CHARACTERS:
        before = before[: LONG_CHARACTERS // 2] + " …… " + before[-LONG_CHARACTERS // 2 :]
    return AuditedExample(str(one.get("id")), before, trained[:LONG_CHARACTERS], text[start + len(trained) :][:SHORT_CHARACTERS])
