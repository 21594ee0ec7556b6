"""Written answers in the report: their metrics before and after with the paired tests, and answers side by side for reading."""

from collections.abc import Sequence
from dataclasses import dataclass

from weitiao.language import t
from weitiao.report.folder import Json, RunFolder, dig, finite, metric, objects, whole
from weitiao.report.headline import judge
from weitiao.report.numbers import absent, count, decimal, estimate, p_value, share
from weitiao.report.words import metric_title

NUM_CARDS = 8
SHOWN_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric: before, after, their difference on the same rows with its test, as printed."""

    title: str
    before: str
    after: str
    n: str
    difference: str
    p: str
    test: str
    tone: str


@dataclass(frozen=True, slots=True)
class AnswerCard:
    """One test row to read: what was asked, the good answer, what was written before and after, and its main score."""

    where: str
    prompt: str
    good: str
    before: str
    after: str
    score: str


@dataclass(frozen=True, slots=True)
class CardList:
    """Cards of one kind under their title."""

    title: str
    cards: tuple[AnswerCard, ...]


def is_written(folder: RunFolder) -> bool:
    """Whether answers were written to test rows."""
    return any(isinstance(one.get("written"), dict) for one in (folder.after, folder.before))


def metric_rows(folder: RunFolder) -> list[MetricRow]:
    """Every metric of the evaluations, in their order."""
    evaluation = folder.after or folder.before
    pairs = {str(pair.get("metric")): pair for pair in objects(folder.comparison.get("pairs"))}
    rows = []
    for name in evaluation.get("metrics") or {} if is_written(folder) else ():
        before, after = metric(folder.before, name), metric(folder.after, name)
        verdict = judge(pairs.get(name))
        known = after or before
        rows.append(
            MetricRow(
                metric_title(name),
                estimate(before) if before else "—",
                estimate(after) if after else "—",
                count(known.n) if known else absent(),
                "—" if verdict.difference is None else estimate(verdict.difference, sign=True),
                "—" if verdict.p is None else p_value(verdict.p).removeprefix("p\u00a0").removeprefix("=\u00a0"),
                verdict.test or "—",
                {"higher": "good", "lower": "bad"}.get(verdict.kind, "open"),
            )
        )
    return rows


def writing_notes(folder: RunFolder) -> list[str]:
    """How many answers were written, how many are not over or empty, and how much they differ from each other."""
    notes = []
    for title, one in ((t("训练前", "Before"), folder.before), (t("训练后", "After"), folder.after)):
        written = one.get("written")
        if not isinstance(written, dict):
            continue
        cut, empty = (share(dig(one, name, "value")) for name in ("cut_off_rate", "empty_rate"))
        distinct = " / ".join(decimal(finite(dig(one, "diversity", f"distinct_{n}")) or 0.0) for n in (1, 2))
        n = count(written.get("n"))
        notes.append(
            t(
                f"{title}：写了 {n} 条；没写完 {cut}，空 {empty}；distinct-1 / 2：{distinct}（无区间）。",
                f"{title}: {n} written; {cut} not over, {empty} empty; distinct-1 / 2: {distinct} (no interval).",
            )
        )
    return notes


def answer_cards(folder: RunFolder) -> list[CardList]:
    """Answers to read: the surest bad ones, those that gained and lost most by training, and a few over the whole test split."""
    former = {str(one.get("id")): one for one in folder.predictions_before if "prediction" in one}
    rows = [one for one in folder.predictions_after or folder.predictions_before if "prediction" in one]
    name = main_score(folder, rows)
    if name is None:
        return []

    def score(row: Json | None) -> float:
        return finite(dig(row or {}, "scores", name)) or 0.0

    def gain(row: Json) -> float:
        return score(row) - score(former.get(str(row.get("id"))))

    bad = sorted((row for row in rows if score(row) < 1), key=lambda row: (score(row), -(finite(row.get("confidence")) or 0.0)))
    paired = [row for row in rows if str(row.get("id")) in former] if folder.predictions_after else []
    gained = [row for row in sorted(paired, key=gain, reverse=True) if gain(row) > 0]
    lost = [row for row in sorted(paired, key=gain) if gain(row) < 0]
    step = max(1, len(rows) // NUM_CARDS)
    lists = (
        (t("各处抽的几条", "Some from all over the test rows"), rows[::step]),
        (t("最差的（同分时越有把握越靠前）", "The worst (of equal ones the most confident first)"), bad),
        (t("训练后好得最多的", "Gained most by training"), gained),
        (t("训练后差得最多的", "Lost most by training"), lost),
    )
    return [
        CardList(f"{title} · {metric_title(name)}", tuple(_card(row, former, name) for row in chosen[:NUM_CARDS]))
        for title, chosen in lists
        if chosen
    ]


def main_score(folder: RunFolder, rows: Sequence[Json]) -> str | None:
    """The score by which answers are put in order: that of the comparison, else the first one that rows have."""
    names = list(dig(rows[0], "scores") or {}) if rows else []
    stated = str(folder.comparison.get("metric") or "")
    return stated if stated in names else names[0] if names else None


def _card(row: Json, former: dict[str, Json], name: str) -> AnswerCard:
    before = former.get(str(row.get("id")))
    values = [finite(dig(one, "scores", name)) for one in (before, row) if one is not None]
    answers = row.get("answers")
    good = " | ".join(map(str, answers)) if isinstance(answers, list) else absent()
    line = whole(row.get("line"))
    return AnswerCard(
        f"{row.get('file') or '?'}:{line}" if line is not None else str(row.get("id")),
        _cut(row.get("prompt")),
        _cut(good),
        "" if before is None or before is row else _cut(before.get("prediction")),
        _cut(row.get("prediction")),
        " → ".join("—" if value is None else decimal(value) for value in values),
    )


def _cut(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS // 2]} …… {text[-SHOWN_CHARACTERS // 2 :]}"
