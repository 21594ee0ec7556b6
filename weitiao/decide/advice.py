"""What a comparison advises, in words that hold: the cheapest of those that were not shown to be worse than the best."""

from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any, TypeVar

from weitiao.language import Language, t, use
from weitiao.report.folder import Reading
from weitiao.report.numbers import count, decimal, duration, estimate, signed
from weitiao.report.words import metric_title

Made = TypeVar("Made")


def in_both(make: Callable[[], Made]) -> tuple[Made, Made]:
    """What is made in Chinese and in English: results are stored, and shown later in the language of whoever reads them."""

    def say(language: Language) -> Made:
        use(language)
        return make()

    return copy_context().run(say, "zh"), copy_context().run(say, "en")


def both(text: Callable[[], str]) -> dict[str, str]:
    """A text in both languages."""
    zh, en = in_both(text)
    return {"zh": zh, "en": en}


def read(value: Mapping[str, Any]) -> Reading:
    """An estimate of the table."""
    return Reading(value["value"], value["low"], value["high"], value["n"])


def recommend(table: Mapping[str, Any]) -> dict[str, Any]:
    """The row to take, and why. Among rows that are not shown worse than the best: the one with the least training time, then the fastest
    answers."""
    rows = {row["name"]: row for row in table["rows"]}
    best = rows[table["best"]]
    contenders = [row for row in rows.values() if row["verdict"] != "worse"]
    choice = min(contenders, key=lambda row: (row["train_seconds"], row["ms_per_row"]))
    return {"choice": choice["name"], "text": both(lambda: " ".join(_sentences(table, best, choice, contenders)).replace("。 ", "。"))}


def _sentences(
    table: Mapping[str, Any], best: Mapping[str, Any], choice: Mapping[str, Any], contenders: list[Mapping[str, Any]]
) -> list[str]:
    metric, n = table["metric"], count(table["n"])
    name, score = metric_title(metric), estimate(read(best["metrics"][metric]))
    words = [t(f"测得最好的是「{_title(best)}」：{name} {score}，n = {n}。", f"Best measured: {_title(best)}, {name} {score}, n = {n}.")]
    others = [row for row in contenders if row is not best]
    if not others:
        words.append(t("它与其余各行的差别都显示出来了，所以选它。", "All others are shown to be worse, so take it."))
        return words + _costs(choice) + _caution()
    listed = t("、", ", ").join(_title(row) for row in others)
    words.append(t(f"在这 {n} 条上看不出它与这些的差别：{listed}。", f"On these {n} rows no difference is shown between it and: {listed}."))
    if choice is best:
        words.append(t("其中它的训练花费最少，所以选它。", "Of these it costs the least to train, so take it."))
    else:
        difference = choice["against_best"]["difference"]
        reach = signed(difference["high"] if metric == "accuracy" else difference["low"])
        words.append(
            t(
                f"其中「{_title(choice)}」训练花费最少，所以建议用它。不确定之处：最好的那个真正的优势可以大到 {reach}（95% 区间的一端）。",
                f"Of these {_title(choice)} costs the least to train, so take that. What stays uncertain: the best one may really be ahead "
                f"by up to {reach} (the end of the 95 % interval).",
            )
        )
    return words + _costs(choice) + _caution()


def _title(row: Mapping[str, Any]) -> str:
    return t(row["title"]["zh"], row["title"]["en"])


def _costs(row: Mapping[str, Any]) -> list[str]:
    """What the chosen row costs, and what it forgot where that is shown."""
    seconds, milliseconds = duration(row["train_seconds"]), decimal(row["ms_per_row"], 2)
    words = [t(f"它训练用 {seconds}，每行推理 {milliseconds} 毫秒。", f"It trains in {seconds} and answers in {milliseconds} ms a row.")]
    for language, bits in (row.get("forgetting") or {}).items():
        if bits["difference"]["low"] > 0:
            spoken = {"zh": t("中文", "Chinese"), "en": t("英文", "English")}.get(language, language)
            lost = estimate(read(bits["difference"]), sign=True)
            words.append(
                t(
                    f"代价：通用{spoken}文本每字符多 {lost} 比特（遗忘）。",
                    f"It forgot: {lost} more bits per character on general {spoken} texts.",
                )
            )
    return words


def _caution() -> list[str]:
    return [
        t(
            "每种方法只有一个种子；最好的那个是在同一批测试行上选出来的，它自己的分数略偏高。",
            "One seed each; the best was chosen on these very rows, so its own score is a little too high.",
        )
    ]
