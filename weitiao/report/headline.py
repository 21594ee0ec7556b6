"""What the run showed, in plain words that hold: better, worse, no difference shown, or not tested."""

from dataclasses import dataclass
from typing import Literal

from weitiao.language import t
from weitiao.report.folder import Json, Reading, RunFolder, dig, finite, metric, objects, reading, whole
from weitiao.report.numbers import absent, count, decimal, estimate, general, interval, p_value
from weitiao.report.words import metric_title, title_of

LOWER_IS_BETTER = frozenset({"loss", "log_loss", "perplexity", "bits_per_character", "calibration_error", "overlong", "answer_tokens"})

VerdictKind = Literal["higher", "lower", "undecided", "conflicting", "untested"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a paired comparison shows. ``conflicting``: the interval and the ``test`` (at 0.05) do not agree. ``test``: the name of the one
    that was made, None where none was."""

    kind: VerdictKind
    difference: Reading | None = None
    p: float | None = None
    test: str | None = None

    @property
    def figures(self) -> str:
        """The difference with its interval and p."""
        if self.difference is None:
            return ""
        words = t("差 ", "difference ") + estimate(self.difference, sign=True)
        return words if self.p is None else words + t(f"，{self.test} ", f", {self.test} ") + p_value(self.p)

    @property
    def disagreement(self) -> str:
        """Why nothing is concluded where the kind is ``conflicting``."""
        return t(f"{self.test}与区间不一致，不能下结论。", f"The {self.test} and the interval disagree: undecided.")


@dataclass(frozen=True, slots=True)
class Tile:
    """One large number: ``style`` is ``before``, ``after``, ``baseline`` or ``difference``."""

    title: str
    value: str
    detail: str
    style: str


@dataclass(frozen=True, slots=True)
class Headline:
    """The first screen of the report. ``tone`` is ``good``, ``bad`` or ``open``."""

    sentences: tuple[str, ...]
    tiles: tuple[Tile, ...]
    tone: Literal["good", "bad", "open"]


def judge(pair: Json | None) -> Verdict:
    """The verdict on one entry of comparison.json ``pairs``."""
    difference = reading(dig(pair, "difference"))
    tests = {"mcnemar": t("McNemar 检验", "McNemar test"), "sign_flip": t("置换检验", "permutation test")}
    made = next((name for name in tests if dig(pair, name) is not None), None)
    test, p = (None, None) if made is None else (tests[made], finite(dig(pair, made, "p_value")))
    if difference is None or difference.low is None or difference.high is None:
        return Verdict("untested", difference, p, test)
    includes_zero = difference.low <= 0 <= difference.high
    if p is not None and includes_zero == (p < 0.05):
        return Verdict("conflicting", difference, p, test)
    if includes_zero:
        return Verdict("undecided", difference, p, test)
    return Verdict("higher" if difference.low > 0 else "lower", difference, p, test)


def pair_of(comparison: Json, a: str, b: str) -> Json | None:
    """The entry that compares ``a`` with ``b``; None where there is none."""
    return next((pair for pair in objects(comparison.get("pairs")) if pair.get("a") == a and pair.get("b") == b), None)


def best_baseline(folder: RunFolder, name: str) -> tuple[Json, Reading] | None:
    """The baseline with the best value of the metric ``name``."""
    measured = [(one, metric(one, name)) for one in objects(folder.baselines.get("baselines"))]
    scored = [(one, value) for one, value in measured if value is not None]
    sign = -1 if name in LOWER_IS_BETTER else 1
    return max(scored, key=lambda pair: sign * pair[1].value, default=None)


def build_headline(folder: RunFolder) -> Headline:
    """The sentences, tiles and tone of the first screen."""
    state = _state_sentences(folder)
    sentences, tiles, tone = _scored(folder) if folder.is_scored else _text_task(folder)
    is_done = folder.run.get("state") == "finished"
    sentences = [_capital(sentence) for sentence in (*state, *sentences)]
    return Headline(tuple(sentences), tiles, tone if is_done else "bad" if folder.run.get("state") == "failed" else "open")


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _state_sentences(folder: RunFolder) -> list[str]:
    state, error = folder.run.get("state"), folder.run.get("error")
    step = count(folder.steps[-1].get("step")) if folder.steps else None
    after_steps = "" if step is None else t(f"（最后记录的是第 {step} 步）", f" (last recorded step: {step})")
    match state:
        case "finished":
            return []
        case "failed":
            words = f"{dig(error, 'type') or t('错误', 'error')}: {dig(error, 'message') or absent()}"
            return [t(f"这次训练失败了{after_steps}：{words}", f"This run failed{after_steps}: {words}")]
        case "interrupted":
            return [t(f"这次训练被中断，没有完成{after_steps}。", f"This run was interrupted before it was done{after_steps}.")]
        case "running":
            return [
                t(
                    f"这次训练还在进行{after_steps}；以下是到目前为止的记录。",
                    f"This run is still going{after_steps}; this is its record so far.",
                )
            ]
        case _:
            return [
                t(
                    "没有 run.json，不知道这次训练是否完成。",
                    "There is no run.json, so it is not known whether this run was completed.",
                )
            ]


def _tone(kind: VerdictKind, name: str) -> Literal["good", "bad", "open"]:
    if kind not in ("higher", "lower"):
        return "open"
    return "good" if (kind == "lower") == (name in LOWER_IS_BETTER) else "bad"


def _scored(folder: RunFolder) -> tuple[list[str], tuple[Tile, ...], Literal["good", "bad", "open"]]:
    name = str(folder.comparison.get("metric") or "accuracy")
    title, after, before = metric_title(name), metric(folder.after, name), metric(folder.before, name)
    if after is None:
        if before is None:
            return (
                [
                    t(
                        "没有评测结果，所以不能说这个模型有多好。",
                        "Nothing was evaluated, so nothing can be said about how good the model is.",
                    )
                ],
                (),
                "open",
            )
        words = t(
            f"训练前的{title}是 {estimate(before)}（{_rows(before)}）；训练后没有评测。",
            f"{title} before training was {estimate(before)} ({_rows(before)}); it was not evaluated after training.",
        )
        return [words], (_tile(t(f"训练前{title}", f"{title} before"), before, "before"),), "open"
    verdict = judge(pair_of(folder.comparison, "after", "before"))
    sentences = [_before_after(title, before, after, verdict)]
    tiles = [_tile(t(f"训练后{title}", f"{title} after training"), after, "after")]
    if before is not None:
        tiles.append(_tile(t("训练前", "Before training"), before, "before"))
    tone = _tone(verdict.kind, name)
    baseline = best_baseline(folder, name)
    if baseline is None and folder.task == "classification":
        sentences.append(
            t(
                "没有测量基线，所以不知道更简单的方法能做到多好。",
                "No baseline was measured, so it is not known how well a simpler method does.",
            )
        )
    elif baseline is not None:
        against = judge(pair_of(folder.comparison, "after", str(baseline[0].get("name"))))
        sentences.append(_against_baseline(title_of(baseline[0]), baseline[1], against))
        tiles.append(_tile(t("最好的基线：", "Best baseline: ") + title_of(baseline[0]), baseline[1], "baseline"))
        tone = "open" if tone == "good" and against.kind != verdict.kind else tone
    return sentences, tuple(tiles), tone


def _rows(value: Reading) -> str:
    if value.n is None:
        return t("行数未记录", "number of rows not recorded")
    return t(f"{count(value.n)} 条测试数据", f"{count(value.n)} test rows")


def _tile(title: str, value: Reading, style: str) -> Tile:
    n = "" if value.n is None else f" · n = {count(value.n)}"
    return Tile(_capital(title), decimal(value.value), interval(value) + n, style)


def _before_after(title: str, before: Reading | None, after: Reading, verdict: Verdict) -> str:
    a, rows = estimate(after), _rows(after)
    if before is None:
        return t(
            f"训练后的{title}是 {a}（{rows}）。训练前没有评测，所以不知道训练带来多少。",
            f"{title} after training is {a} ({rows}). It was not evaluated before training, so the gain is not known.",
        )
    b, figures = estimate(before), verdict.figures
    match verdict.kind:
        case "higher":
            return t(
                f"训练使{title}从 {b} 升到 {a}（{rows}；{figures}）。",
                f"Training raised {title} from {b} to {a} ({rows}; {figures}).",
            )
        case "lower":
            return t(
                f"训练使{title}从 {b} 降到 {a}（{rows}；{figures}）。",
                f"Training lowered {title} from {b} to {a} ({rows}; {figures}).",
            )
        case "undecided":
            return t(
                f"没有看出训练的作用：{title}训练前 {b}，训练后 {a}（{rows}；{figures}，区间包含 0）。",
                f"No difference shown by training: {title} was {b} before and is {a} after ({rows}; {figures}, the interval contains 0).",
            )
        case "conflicting":
            return t(
                f"{title}训练前 {b}，训练后 {a}（{rows}；{figures}）。{verdict.disagreement}",
                f"{title} was {b} before and is {a} after ({rows}; {figures}). {verdict.disagreement}",
            )
    tail = t("差别没有检验。", "The difference was not tested.")
    return t(f"{title}训练前 {b}，训练后 {a}（{rows}）。{tail}", f"{title} was {b} before and is {a} after ({rows}). {tail}")


def _against_baseline(name: str, value: Reading, verdict: Verdict) -> str:
    b, figures = estimate(value), verdict.figures
    match verdict.kind:
        case "higher":
            return t(
                f"高于最好的基线「{name}」的 {b}（{figures}）。",
                f"This is higher than the best baseline, {name}, at {b} ({figures}).",
            )
        case "lower":
            return t(
                f"低于最好的基线「{name}」的 {b}（{figures}）。",
                f"This is lower than the best baseline, {name}, at {b} ({figures}).",
            )
        case "undecided":
            return t(
                f"与最好的基线「{name}」的 {b} 相比，没有看出差别（{figures}，区间包含 0）。",
                f"No difference shown against the best baseline, {name}, at {b} ({figures}, the interval contains 0).",
            )
        case "conflicting":
            return t(
                f"与最好的基线「{name}」的 {b} 相比（{figures}）。{verdict.disagreement}",
                f"Against the best baseline, {name}, at {b} ({figures}). {verdict.disagreement}",
            )
    return t(f"最好的基线「{name}」是 {b}；差别没有检验。", f"The best baseline, {name}, is at {b}; the difference was not tested.")


def text_readings(folder: RunFolder, name: str) -> tuple[Reading | None, Reading | None]:
    """A metric of the text task before and after: from the evaluations, else from the validation lines at step 0 and at the best
    (else last) step."""
    first = next((line for line in folder.validations if line.get("step") == 0), {})
    best = [line for line in folder.validations if line.get("best") is True]
    last = best[-1] if best else folder.validations[-1] if folder.validations else {}
    last = {} if last.get("step") == 0 else last
    before = metric(folder.before, name) or reading(first.get(name), whole(first.get("n")))
    return before, metric(folder.after, name) or reading(last.get(name), whole(last.get("n")))


def _text_task(folder: RunFolder) -> tuple[list[str], tuple[Tile, ...], Literal["good", "bad", "open"]]:
    before, after = text_readings(folder, "bits_per_character")
    if after is None:
        return (
            [
                t(
                    "没有验证结果，所以不能说这个模型有多好。",
                    "Nothing was validated, so nothing can be said about how good the model is.",
                )
            ],
            (),
            "open",
        )
    a, title = _with_n(after), metric_title("bits_per_character")
    tiles = [_tile(t(f"训练后{title}", f"{title} after training"), after, "after")]
    if before is None:
        words = t(f"训练后{title}为 {a}；训练前没有测量。", f"{title} after training: {a}; it was not measured before training.")
        return [words], tuple(tiles), "open"
    tiles.append(_tile(t("训练前", "Before training"), before, "before"))
    tiles.extend(_perplexity_tile(folder))
    is_tested = after.low is not None
    tail = t("", "") if is_tested else t("这是单次测量，没有区间。", "This is one measurement without an interval.")
    b = _with_n(before)
    if after.value == before.value:
        return [t(f"{title}没有变化：{a}。{tail}", f"{title} did not change: {a}. {tail}")], tuple(tiles), "open"
    is_lower = after.value < before.value
    verb_zh, verb_en = ("降到", "fell") if is_lower else ("升到", "rose")
    words = t(f"{title}从 {b} {verb_zh} {a}（越低越好）。{tail}", f"{title} {verb_en} from {b} to {a} (lower is better). {tail}")
    return [words.strip()], tuple(tiles), "open"


def _with_n(value: Reading) -> str:
    n = "" if value.n is None else t(f"（n = {count(value.n)}）", f" (n = {count(value.n)})")
    return (decimal(value.value) if value.low is None else estimate(value)) + n


def _perplexity_tile(folder: RunFolder) -> list[Tile]:
    before, after = text_readings(folder, "perplexity")
    if after is None:
        return []
    detail = "" if before is None else t(f"训练前 {general(before.value)}", f"before: {general(before.value)}")
    n = "" if after.n is None else f" · n = {count(after.n)}"
    return [Tile(t("困惑度", "Perplexity"), general(after.value), (detail + n).removeprefix(" · "), "difference")]
