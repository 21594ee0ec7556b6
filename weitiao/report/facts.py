"""What was done, with what, at what cost, and what was not measured: lists that the report and the model card share."""

import shlex
from dataclasses import dataclass

from markupsafe import Markup

from weitiao.language import t
from weitiao.report.folder import RunFolder, dig, finite, metric, objects
from weitiao.report.headline import text_readings
from weitiao.report.numbers import absent, count, duration, flops, general, share, size, text
from weitiao.report.plots import bar
from weitiao.report.words import localised, method_title, metric_title, objective_title, phase_title, task_title

Facts = list[tuple[str, str]]
"""Terms and their values, in the order of the page."""


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """One phase of the run and its share of the whole."""

    title: str
    bar: Markup
    duration: str
    share: str


def method_facts(folder: RunFolder) -> Facts:
    """Task, method, objective and seed."""
    run = folder.run
    return [
        (t("任务", "Task"), task_title(str(run.get("task") or absent()))),
        (t("方法", "Method"), method_title(str(run.get("method") or absent()))),
        (t("目标", "Objective"), objective_title(str(run.get("objective") or absent()))),
        (t("随机种子", "Seed"), text(run.get("seed"))),
    ]


def model_facts(folder: RunFolder) -> Facts:
    """The base model."""
    base = folder.run.get("base_model")
    return [
        (t("来源", "Source"), text(dig(base, "source"))),
        *([(t("名字", "Name"), f"{dig(base, 'id')} @ {text(dig(base, 'revision'))}")] if dig(base, "id") else []),
        (t("路径", "Path"), text(dig(base, "path"))),
        ("SHA-256", text(dig(base, "sha256"))),
        (t("结构", "Architecture"), text(dig(base, "architecture"))),
        (t("参数", "Parameters"), count(dig(base, "parameters"))),
        (t("数值类型", "Number type"), text(dig(base, "dtype"))),
        (t("词表大小", "Vocabulary"), count(dig(base, "vocabulary"))),
        (t("输入输出共享词嵌入", "Tied embeddings"), text(dig(base, "tied_embeddings"))),
    ]


def training_facts(folder: RunFolder) -> Facts:
    """How long and how fast the training was, and what it took."""
    training = folder.run.get("training")
    trainable = folder.run.get("trainable")
    parameters = t(
        f"{count(dig(trainable, 'parameters'))} / {count(dig(trainable, 'total'))}({share(dig(trainable, 'share'))})",
        f"{count(dig(trainable, 'parameters'))} of {count(dig(trainable, 'total'))} ({share(dig(trainable, 'share'))})",
    )
    best = dig(training, "best_metric")
    best_words = f"{metric_title(text(dig(best, 'name')))} = {general(dig(best, 'value'))}" if isinstance(best, dict) else absent()
    best_step = count(dig(training, "best_step"))
    speed = finite(dig(training, "tokens_per_second"))
    return [
        (t("训练的参数", "Trained parameters"), parameters if trainable else absent()),
        (t("训练步", "Training steps"), count(dig(training, "steps"))),
        (t("轮数", "Epochs"), general(dig(training, "epochs"))),
        (
            t("最好的一步", "Best step"),
            t(f"第 {best_step} 步（验证集 {best_words}）", f"step {best_step} (validation {best_words})"),
        ),
        (t("提前停止", "Stopped early"), text(dig(training, "stopped_early"))),
        (t("处理的词元", "Tokens processed"), count(dig(training, "tokens"))),
        (t("其中参与训练的词元", "Of these, trained"), count(dig(training, "trained_tokens"))),
        (t("训练用时", "Training time"), duration(dig(training, "seconds"))),
        (t("速度", "Speed"), absent() if speed is None else t(f"{count(speed)} 词元/秒", f"{count(speed)} tokens/s")),
        (t("计算量", "Computation"), flops(dig(training, "flops"))),
        (t("内存峰值", "Peak memory"), size(dig(training, "peak_memory_bytes"))),
        *_estimate_fact(folder),
    ]


def _estimate_fact(folder: RunFolder) -> Facts:
    """What was estimated before the run against what was measured over all of it; nothing for runs that did not get so far."""
    estimate = folder.run.get("estimate")
    error = finite(dig(estimate, "error"))
    if error is None:
        return []
    predicted, measured = size(dig(estimate, "predicted_peak_bytes")), size(dig(estimate, "measured_peak_bytes"))
    if copied := finite(dig(estimate, "copied_bytes")):
        predicted += t(f"（另加检查点的拷贝 {size(copied)}）", f" (and a copy of {size(copied)} for a checkpoint)")
    both = t(f"估计 {predicted}，实测 {measured}", f"{predicted} estimated, {measured} measured")
    return [(t("整个运行的内存峰值", "Peak memory of the whole run"), f"{both} ({100 * error:+.0f} %)")]


def hardware_facts(folder: RunFolder) -> Facts:
    """The machine."""
    hardware = folder.run.get("hardware")
    gpu = dig(hardware, "gpu")
    return [
        (t("设备", "Device"), text(dig(hardware, "device"))),
        (t("处理器", "Processor"), text(dig(hardware, "processor"))),
        (t("核数", "Cores"), count(dig(hardware, "cores"))),
        (t("内存", "Memory"), size(dig(hardware, "memory_bytes"))),
        ("GPU", text(gpu) if gpu else t("无", "none") if isinstance(hardware, dict) and "gpu" in hardware else absent()),
    ]


def version_facts(folder: RunFolder) -> Facts:
    """Versions, as run.json has them."""
    versions = folder.run.get("versions")
    return [(name, text(value)) for name, value in versions.items()] if isinstance(versions, dict) else []


def time_facts(folder: RunFolder) -> Facts:
    """When the run began and ended."""
    return [(t("开始", "Started"), text(folder.run.get("created"))), (t("结束", "Ended"), text(folder.run.get("ended")))]


def phase_rows(folder: RunFolder) -> list[PhaseRow]:
    """Seconds per phase; what lies between the phases is "other", so that the rows add up to the total."""
    stated = folder.run.get("seconds")
    seconds = {
        name: number for name, value in (stated if isinstance(stated, dict) else {}).items() if (number := finite(value)) is not None
    }
    total = seconds.pop("total", sum(seconds.values()))
    rows = [
        PhaseRow(phase_title(name), bar(value / total if total else 0), duration(value), _share(value, total))
        for name, value in seconds.items()
    ]
    rest = total - sum(seconds.values())
    if rows and rest > 0.005 * total:
        rows.append(PhaseRow(t("其他", "other"), bar(rest / total), duration(rest), _share(rest, total)))
    return [*rows, PhaseRow(phase_title("total"), Markup(""), duration(total), "")] if rows else []


def _share(value: float, total: float) -> str:
    return share(value / total) if total else "—"


def repeat_command(folder: RunFolder) -> str:
    """The command that repeats the run under another name; to be given in the run folder (its config names all other paths in full)."""
    return f"weitiao train config.yaml {shlex.quote(f'name={folder.name}-again')}"


def findings(folder: RunFolder) -> list[str]:
    """What the data audit found."""
    found = folder.audit.get("findings")
    return [localised(one) for one in found] if isinstance(found, list) else []


def not_measured(folder: RunFolder) -> list[str]:
    """What this run does not say. What depends on the folder comes first."""
    return [*_missing_here(folder), *_missing_always(), *_unmeasured(folder)]


def _missing_here(folder: RunFolder) -> list[str]:
    missing = []
    if not folder.is_scored:
        before, after = text_readings(folder, "bits_per_character")
        if after is None or after.low is None:
            missing.append(
                t(
                    "每字符比特数没有区间：不知道它换一批文本会变多少。",
                    "Bits per character has no interval: how it varies with the text is not known.",
                )
            )
        if before is None:
            missing.append(t("训练前没有测量，所以训练带来多少不知道。", "Nothing was measured before training, so the gain is not known."))
        return missing
    n = metric(folder.after, str(folder.comparison.get("metric") or "accuracy"))
    if n is None:
        missing.append(t("训练后没有评测。", "The model was not evaluated after training."))
    if not folder.before:
        missing.append(
            t(
                "训练前没有评测，所以训练带来多少不知道。",
                "The model was not evaluated before training, so the gain is not known.",
            )
        )
    if folder.task == "classification" and not objects(folder.baselines.get("baselines")):
        missing.append(t("没有测量基线：更简单的方法也许够用。", "No baseline was measured: a simpler method may be good enough."))
    if n is not None and n.n is not None:
        rare = [label for label, one in (folder.after.get("per_class") or {}).items() if (finite(dig(one, "support")) or 0) < 30]
        if rare:
            names = t("、", ", ").join(rare)
            missing.append(
                t(
                    f"这些标签的测试数据不到 30 条，它们的分数很不确定：{names}。",
                    f"Fewer than 30 test rows, so very uncertain scores: {names}.",
                )
            )
    return missing


def _missing_always() -> list[str]:
    return [
        t(
            "只有一个随机种子：换一个种子结果会变多少，没有测量。区间只包含测试数据抽样带来的不确定。",
            "One seed only: variation between seeds was not measured. Intervals cover the sampling of test rows only.",
        ),
        t(
            "测试数据与将来实际遇到的数据是否相像，没有测量。",
            "Whether the test rows resemble what the model will meet in use was not measured.",
        ),
        t(
            "对改写、错别字、其他语言和恶意输入是否稳健，没有测量。",
            "Robustness to paraphrase, typing errors, other languages and hostile input was not measured.",
        ),
        t("对不同人群是否公平，没有测量。", "Fairness between groups of people was not measured."),
    ]


def _unmeasured(folder: RunFolder) -> list[str]:
    """What a command, or a comparison on a machine that counts energy, would have measured."""
    if folder.probe:
        abilities = t(
            "遗忘只在通用文本上测量了；听从指令、知识等其他能力是否下降，没有测量。",
            "Forgetting was measured on general texts only, not in following instructions, knowledge or other abilities.",
        )
    else:
        abilities = t(
            "基础模型原有的其他能力是否因训练而下降，没有测量；weitiao probe 可以测量遗忘。",
            "Whether training cost the base model other abilities was not measured; weitiao probe measures forgetting.",
        )
    return [abilities] if dig(folder.run, "energy") else [abilities, t("耗电量没有测量。", "Energy use was not measured.")]


def responsible_use() -> list[str]:
    """Advice that holds for every run."""
    return [
        t(
            "影响到人的决定（录用、信贷、医疗、处分等）不要只凭这个模型作出；要有人复核，并先用自己的数据测试。",
            "Do not let this model alone decide about people (hiring, credit, health, discipline): "
            "have a person review, and test on your own data first.",
        ),
        t(
            "报告和预测文件里有数据原文。分享之前，请检查其中有没有个人信息或不能公开的内容。",
            "The report and the prediction files quote the data. Before sharing them, check for personal or secret content.",
        ),
        t(
            "基础模型和数据的许可证在这里仍然有效，请自行确认用途是否允许。",
            "The licences of the base model and of the data still apply; check that they allow your use.",
        ),
    ]
