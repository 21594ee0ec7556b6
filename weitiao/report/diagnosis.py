"""What the curves and errors of a run say in words, each with what to do about it and the line of the configuration.

Each rule looks at one sign and says the numbers that it rests on. The limits are rules of thumb; where a sign is absent nothing is said,
which does not prove that all is well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from weitiao.language import t
from weitiao.report.folder import Json, RunFolder, dig, finite, objects, whole
from weitiao.report.numbers import count, decimal, share

RISE = 1.1
"""Overfitting: the last validation loss is more than this many times the lowest."""
STILL_FALLING = 0.05
"""Underfitting: the last third of the validations lowered the loss by more than this share."""
HARDLY_MOVED = 0.8
"""Underfitting: the training loss at the end is more than this share of that at the beginning."""
BLOW_UP = 1.5
"""A rate too high: the smoothed training loss rises to more than this many times what it was."""
SURE = 0.9
NOISY_SHARE, NOISY_ROWS = 0.02, 5
SHORTENED_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that is wrong: what the numbers show, what to do, and the line of the configuration (empty: none helps)."""

    kind: str
    message: str
    remedy: str
    setting: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"kind": self.kind, "message": self.message, "remedy": self.remedy, "setting": self.setting}


def diagnose(folder: RunFolder) -> list[Diagnosis]:
    """Everything that the rules find in a run folder, the most pressing first."""
    rules: list[Callable[[RunFolder], Diagnosis | None]] = [rate_too_high, truncation, never_predicted, label_noise]
    if rate_too_high(folder) is None:  # under such a rate the curves say nothing else
        rules += [overfitting, underfitting]
    return [found for rule in rules if (found := rule(folder)) is not None]


def _values(lines: Sequence[Json], name: str) -> list[float]:
    return [value for line in lines if (value := finite(line.get(name))) is not None]


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Means of neighbouring steps, a tenth of the course at a time (at most 50 steps)."""
    span = max(1, min(50, len(losses) // 10))
    return [fmean(losses[i : i + span]) for i in range(0, len(losses) - span + 1, span)]


def _rate(folder: RunFolder) -> float | None:
    return max(_values(folder.steps, "learning_rate"), default=None) or finite(dig(folder.config, "optim", "learning_rate"))


def rate_too_high(folder: RunFolder) -> Diagnosis | None:
    """The loss became infinite, or rose again well above where it had been."""
    rate, losses = _rate(folder), _smoothed(_values(folder.steps, "loss"))
    setting = "" if rate is None else f"optim.learning_rate: {rate / 5:.2g}"
    remedy = t("把学习率降到约五分之一", "lower the learning rate to about a fifth")
    if dig(folder.run, "error", "type") == "NonFiniteError":
        message = t("损失或梯度变成了无穷大：学习率太高。", "The loss or the gradient became infinite: the learning rate is too high.")
        return Diagnosis("rate_too_high", message, remedy, setting)
    if len(losses) < 4:
        return None
    lowest = min(range(len(losses)), key=losses.__getitem__)
    peak = max(losses[lowest:])
    start, top = losses[0], max(losses)
    if top > BLOW_UP * start and top > start + 0.1:
        numbers = t(f"从 {decimal(start)} 升到 {decimal(top)}", f"rose from {decimal(start)} to {decimal(top)}")
    elif peak > BLOW_UP * losses[lowest] and peak > losses[lowest] + 0.25 * (start - losses[lowest]) + 0.1:
        numbers = t(
            f"降到 {decimal(losses[lowest])} 又升到 {decimal(peak)}", f"fell to {decimal(losses[lowest])} and rose to {decimal(peak)}"
        )
    else:
        return None
    return Diagnosis(
        "rate_too_high",
        t(f"训练损失（平滑后）{numbers}：学习率太高。", f"The smoothed training loss {numbers}: the learning rate is too high."),
        remedy,
        setting,
    )


def overfitting(folder: RunFolder) -> Diagnosis | None:
    """Validation loss rises again while training loss goes on falling."""
    lines = [line for line in folder.validations if finite(line.get("loss")) is not None]
    losses = _values(lines, "loss")
    if len(losses) < 3:
        return None
    lowest = min(range(len(losses)), key=losses.__getitem__)
    if not (losses[-1] > RISE * losses[lowest] and losses[-1] > losses[lowest] + 0.02):
        return None
    step = finite(lines[lowest].get("step")) or 0.0
    early = _values([line for line in folder.steps if (finite(line.get("step")) or 0) <= step], "loss")
    late = _values(folder.steps, "loss")
    window = max(1, len(late) // 10)
    if early and late and fmean(late[-window:]) >= fmean(early[-window:]):
        return None  # the training loss rose too: that is no overfitting
    epoch = finite(lines[lowest].get("epoch"))
    where = t(f"第 {count(step)} 步", f"step {count(step)}") + ("" if epoch is None else t(f"（{epoch:.1f} 轮）", f" (epoch {epoch:.1f})"))
    return Diagnosis(
        "overfitting",
        t(
            f"过拟合：验证损失在{where}最低（{decimal(losses[lowest])}），到最后升到 {decimal(losses[-1])}，而训练损失还在降。",
            f"Overfitting: the validation loss was lowest at {where}, {decimal(losses[lowest])}, and rose to {decimal(losses[-1])} by the "
            "end, while the training loss went on falling.",
        ),
        t(
            "少训练几轮或提前停止，或增加训练数据；LoRA 可以降低秩或加 dropout",
            "train for fewer epochs or stop early, or add training rows; with LoRA lower the rank or add dropout",
        ),
        "train.patience: 2" if epoch is None else f"train.epochs: {max(0.5, round(2 * epoch) / 2):g}",
    )


def underfitting(folder: RunFolder) -> Diagnosis | None:
    """The loss was still falling when the training ended, or hardly moved at all."""
    validations, steps = _values(folder.validations, "loss"), _values(folder.steps, "loss")
    epochs, rate = finite(dig(folder.run, "training", "epochs")) or finite(dig(folder.config, "train", "epochs")), _rate(folder)
    smooth = _smoothed(steps)
    if len(smooth) >= 4 and smooth[-1] > HARDLY_MOVED * smooth[0] and smooth[-1] <= BLOW_UP * smooth[0]:
        return Diagnosis(
            "underfitting",
            t(
                f"欠拟合：训练损失几乎没有降（{decimal(smooth[0])} → {decimal(smooth[-1])}）。",
                f"Underfitting: the training loss hardly fell ({decimal(smooth[0])} → {decimal(smooth[-1])}).",
            ),
            t("把学习率提高到约三倍，或训练更多参数", "raise the learning rate about threefold, or train more parameters"),
            "" if rate is None else f"optim.learning_rate: {3 * rate:.2g}",
        )
    if len(validations) < 4:
        return None
    last, before = validations[-1], validations[-1 - max(1, len(validations) // 3)]
    if last > min(validations) or before - last <= STILL_FALLING * last:
        return None
    return Diagnosis(
        "underfitting",
        t(
            f"欠拟合：验证损失到结束时还在降（最后三分之一从 {decimal(before)} 到 {decimal(last)}）。",
            f"Underfitting: the validation loss was still falling at the end ({decimal(before)} to {decimal(last)} in the last third).",
        ),
        t("多训练几轮", "train for more epochs"),
        "" if epochs is None else f"train.epochs: {2 * epochs:g}",
    )


def label_noise(folder: RunFolder) -> Diagnosis | None:
    """The same text stands under two labels in the data, or model and simple methods agree against the label of many test rows."""
    setting = "check.fail_on: [error, conflicting_labels]"
    for finding in objects(folder.audit.get("findings")):
        rows, used = whole(finding.get("count")) or 0, whole(dig(folder.ledger, "totals", "used")) or 0
        if finding.get("check") == "conflicting_labels" and used and rows >= 0.01 * used:
            return Diagnosis(
                "label_noise",
                t(
                    f"标签噪声：{count(rows)} 行（{share(rows / used)}）文本相同而标签不同。",
                    f"Label noise: {count(rows)} rows ({share(rows / used)}) have the same text under different labels.",
                ),
                t("看数据检查列出的行，改正标签", "look at the rows that the data audit lists and correct their labels"),
                setting,
            )
    against = [row for row in folder.predictions_after if _all_disagree(row, folder)]
    total = len(folder.predictions_after)
    if len(against) < max(NOISY_ROWS, NOISY_SHARE * total):
        return None
    names = ", ".join(str(row.get("id")) for row in against[:5])
    number, part = count(len(against)), share(len(against) / total)
    return Diagnosis(
        "label_noise",
        t(
            f"可能有标签噪声：{number} 条测试数据（{part}），模型很有把握，两种线性基线也同意，但标签不同：{names}……",
            f"Likely label noise: of {number} test rows ({part}) the model is sure, both linear baselines agree with it, and the label is "
            f"another: {names} …",
        ),
        t("先看这些行的标签对不对", "first see whether the labels of these rows are right"),
    )


def _all_disagree(row: Json, folder: RunFolder) -> bool:
    """Whether the model, surely, and every linear baseline give this row one and the same label, which is not its own."""
    answer, linear = row.get("prediction"), folder.baseline_answers.get(str(row.get("id")), ())
    return bool(linear) and answer != row.get("label") and (finite(row.get("probability")) or 0) >= SURE and set(linear) == {answer}


def never_predicted(folder: RunFolder) -> Diagnosis | None:
    """A label that stands in the test rows and was never the answer."""
    labels, rows = dig(folder.after, "confusion_matrix", "labels"), dig(folder.after, "confusion_matrix", "rows")
    if not isinstance(labels, list) or not isinstance(rows, list) or len(labels) != len(rows):
        return None
    missing = [str(label) for i, label in enumerate(labels) if any(rows[i]) and not any(row[i] for row in rows)]
    if not missing:
        return None
    names = t("、", ", ").join(missing[:5]) + (" …" if len(missing) > 5 else "")
    return Diagnosis(
        "never_predicted",
        t(
            f"{len(missing)} 个类别从来没有被预测：{names}。",
            f"Never predicted: {names} ({len(missing)} of {len(labels)} labels).",
        ),
        t("让较少的类别在损失里更重，或增加它们的数据", "let rarer labels weigh more in the loss, or add rows of them"),
        "train.class_weights: balanced",
    )


def truncation(folder: RunFolder) -> Diagnosis | None:
    """Many training rows were too long."""
    files = [one for one in objects(folder.ledger.get("files")) if one.get("split") == "train"]
    used = sum(whole(one.get("used")) or 0 for one in files)
    cut = sum(whole(one.get("shortened")) or 0 for one in files)
    if not used or cut < SHORTENED_SHARE * used:
        return None
    lengths = sorted(whole(row.get("tokens_before")) or 0 for one in files for row in objects(one.get("shortened_rows")))
    enough = -(-lengths[int(0.95 * (len(lengths) - 1))] // 64) * 64 if lengths else 0
    return Diagnosis(
        "truncation",
        t(
            f"{count(cut)} 行训练数据（{share(cut / used)}）太长，正文被截短；截掉的部分模型看不到。",
            f"{count(cut)} training rows ({share(cut / used)}) were too long and shortened; what was cut the model never sees.",
        ),
        t(
            "放宽长度（更费内存和时间），或改从另一端截短",
            "allow longer rows (more memory and time), or shorten at the other end",
        ),
        f"data.max_tokens: {enough}" if enough else "data.shorten: middle",
    )
