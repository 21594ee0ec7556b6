"""What becomes of the rows on their way to the model: rejected, shortened, or without anything to learn."""

from collections import Counter
from contextvars import copy_context

from weitiao.audit.findings import MOST_ROWS, AuditInput, Finding, Place, Words, graded, noun, places, share, verb
from weitiao.data.ledger import describe_reason
from weitiao.language import Language, use


def rejected_rows(data: AuditInput) -> Finding | None:
    """Rows that are not used (but for those that `data.limit` and `data.deduplicate` leave out: that was asked for)."""
    wanted = ("over_limit", "duplicate")
    rows = [(file, row) for file in data.ledger["files"] for row in file["rejected_rows"] if row["reason"] not in wanted]
    if not rows:
        return None
    reasons = Counter(row["reason"] for _, row in rows).most_common()
    n, total = len(rows), data.ledger["totals"]["rows_in"]
    zh = "，".join(f"{_reason(reason, 'zh')} {number}" for reason, number in reasons)
    en = ", ".join(f"{number} {_reason(reason, 'en')}" for reason, number in reasons)
    return Finding(
        graded(n, total, 0.01),
        n,
        Words(f"{n} 行（{share(n, total)}）用不了：{zh}", f"{n} {noun(n, 'row')} ({share(n, total)}) cannot be used: {en}"),
        Words(
            "改正这些行；全部列在 data/ledger.json，weitiao check 也会列出",
            "correct these rows; all are listed in data/ledger.json and by weitiao check",
        ),
        tuple(Place(file["path"], row["line"], file["split"]) for file, row in rows[:MOST_ROWS]),
    )


def _reason(reason: str, language: Language) -> str:
    def worded() -> str:
        use(language)
        return describe_reason(reason)

    return copy_context().run(worded)


def shortened_rows(data: AuditInput) -> Finding | None:
    """Rows of which part of the document is left out, and how much of it."""
    rows = [(file, row) for file in data.ledger["files"] for row in file["shortened_rows"]]
    if not rows:
        return None
    n, total = len(rows), data.ledger["totals"]["used"]
    what = Words("正文", "the documents")
    if any(item.is_chat for item in data.items):
        what = Words("最早的几轮和正文", "the oldest turns and documents")
    before = sum(row["tokens_before"] for _, row in rows)
    lost = before - sum(row["tokens_after"] for _, row in rows)
    return Finding(
        graded(n, total, 0.05),
        n,
        Words(
            f"{n} 行（{share(n, total)}）太长，{what.zh}共截去 {lost:,} 个词元，是这些行的 {share(lost, before)}；指令、选项和答案没有动",
            f"{n} {noun(n, 'row')} ({share(n, total)}) {verb(n, 'are')} too long: {lost:,} {noun(lost, 'token')} of {what.en} "
            f"{verb(lost, 'are')} left out, {share(lost, before)} of {'this row' if n == 1 else 'these rows'}; instruction, options and "
            "answer are whole",
        ),
        Words(
            "增大 data.max_tokens，或用 data.shorten 选择截掉哪一端",
            "raise data.max_tokens, or choose with data.shorten which end is left out",
        ),
        tuple(Place(file["path"], row["line"], file["split"]) for file, row in rows[:MOST_ROWS]),
    )


def untrained_rows(data: AuditInput) -> Finding | None:
    """Training rows in which no token is learned."""
    ids = {row.id for row in data.rows if row.num_targets == 0}
    if not ids:
        return None
    n = len(ids)
    return Finding(
        "error",
        n,
        Words(f"{n} 行训练数据没有一个可训练的词元", f"{n} {noun(n, 'training row')} {verb(n, 'have')} no trained token"),
        Words(
            "检查这些行的答案是不是空的，data.max_tokens 是不是太小",
            "check whether their answers are empty, and whether data.max_tokens is too small",
        ),
        places(item for item in data.train if item.example.id in ids),
    )
