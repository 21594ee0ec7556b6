"""Names of metrics, splits, methods and phases in both languages."""

from typing import Any

from weitiao.language import current, t
from weitiao.report.folder import Json, RunFolder


def reward_metrics(folder: RunFolder) -> tuple[str, ...]:
    """The metrics of answers that were rewarded: the whole reward, its parts, the length, the share that was cut off."""
    measured = [found for one in (folder.after, folder.before) if isinstance(found := one.get("metrics"), dict)]
    names = dict.fromkeys(str(name) for found in measured for name in found)
    return tuple(name for name in names if name == "reward" or name.startswith("reward/") or name in ("answer_tokens", "overlong"))


def metric_title(name: str) -> str:
    """The name of a metric; one that is not known here keeps its own."""
    if name.startswith("reward/"):
        return t(f"奖励 {name[7:]}", f"reward {name[7:]}")
    titles = {
        "accuracy": t("准确率", "accuracy"),
        "macro_f1": t("宏平均 F1", "macro-F1"),
        "micro_f1": t("微平均 F1", "micro-F1"),
        "weighted_f1": t("加权 F1", "weighted F1"),
        "macro_precision": t("宏平均精确率", "macro precision"),
        "macro_recall": t("宏平均召回率", "macro recall"),
        "log_loss": t("对数损失（奈特）", "log loss (nats)"),
        "calibration_error": t("校准误差", "calibration error"),
        "loss": t("损失（奈特）", "loss (nats)"),
        "perplexity": t("困惑度", "perplexity"),
        "bits_per_character": t("每字符比特数", "bits per character"),
        "exact_match": t("完全匹配", "exact match"),
        "f1": t("词元 F1", "token F1"),
        "rouge_l": "ROUGE-L",
        "answered_f1": t("F1（有答案的题）", "F1, questions with an answer"),
        "answered_exact_match": t("完全匹配（有答案的题）", "exact match, questions with an answer"),
        "abstention_recall": t("拒答召回率", "abstention recall"),
        "abstention_precision": t("拒答精确率", "abstention precision"),
        "field_f1": t("字段 F1", "field F1"),
        "json_valid": t("是合法的 JSON", "valid JSON"),
        "schema_valid": t("合乎 JSON Schema", "keeps to the JSON Schema"),
        "chrf": "chrF",
        "bleu": "BLEU",
        "answer_tokens": t("回答长度（词元）", "answer length (tokens)"),
        "length_ratio": t("长度 / 参考长度", "length / reference length"),
        "cut_off_rate": t("没写完的占比", "share cut off"),
        "empty_rate": t("空回答的占比", "share empty"),
        "distinct_1": "distinct-1",
        "distinct_2": "distinct-2",
        "reward": t("奖励", "reward"),
        "overlong": t("没写完被截断的份额", "share of answers cut off"),
        "silent_groups": t("组内奖励全同的份额", "share of groups with equal rewards"),
        "entropy": t("熵（估计，奈特/词元）", "entropy (estimate, nats per token)"),
        "clipped": t("不再推动的词元份额", "share of tokens pushed no further"),
        "kl": t("与基础模型的 KL（奈特/词元）", "KL to the base model (nats per token)"),
        "margin": t("好坏回答之差", "margin between the answers"),
        "reward_accuracy": t("隐含奖励的准确率", "accuracy of the implied reward"),
        "reward_margin": t("隐含奖励之差（奈特）", "margin of the implied reward (nats)"),
        "pair_accuracy": t("这一步判对的对子", "pairs the right way round, each step"),
        "chosen_logp": t("较好回答每词元的对数概率", "log-probability of the better answers per token"),
    }
    return titles.get(name, name)


def split_title(name: str) -> str:
    """The name of a split."""
    titles = {"train": t("训练集", "training"), "validation": t("验证集", "validation"), "test": t("测试集", "test")}
    return titles.get(name, name)


def state_title(name: str) -> str:
    """The name of a run's state."""
    titles = {
        "running": t("进行中", "running"),
        "finished": t("已完成", "finished"),
        "failed": t("失败", "failed"),
        "interrupted": t("中断", "interrupted"),
    }
    return titles.get(name, t("状态未知", "state not known"))


def method_title(name: str) -> str:
    """The name of a method: which weights moved."""
    titles = {
        "full": t("全参数微调（full）", "full fine-tuning"),
        "head": t("只训练输出层（head）", "head only (frozen trunk)"),
        "lora": t("LoRA（低秩适配）", "LoRA (low-rank adapters)"),
    }
    return titles.get(name, name)


def objective_title(name: str) -> str:
    """The name of an objective: what the training pushed on."""
    titles = {
        "sft": t("有监督微调（sft）", "supervised fine-tuning (sft)"),
        "pretrain": t("自监督预训练（pretrain）", "self-supervised pre-training (pretrain)"),
        "dpo": t("直接偏好优化（dpo）", "direct preference optimisation (dpo)"),
        "orpo": t("几率比偏好优化（orpo）", "odds-ratio preference optimisation (orpo)"),
        "simpo": t("无参考的偏好优化（simpo）", "preference optimisation without a reference (simpo)"),
        "reward": t("奖励模型（reward）", "reward model (reward)"),
        "grpo": t("按奖励的强化学习（grpo）", "reinforcement by rewards (grpo)"),
    }
    return titles.get(name, name)


def task_title(name: str) -> str:
    """The name of a task."""
    titles = {
        "classification": t("分类", "classification"),
        "qa": t("问答", "question answering"),
        "generation": t("回答（对话）", "generation (chats)"),
        "text": t("文本（预训练）", "text (pre-training)"),
        "preference": t("偏好（一好一差）", "preference (a better and a worse answer)"),
    }
    return titles.get(name, name)


def phase_title(name: str) -> str:
    """The name of a phase of the run."""
    titles = {
        "load": t("读取数据与模型", "load data and model"),
        "before": t("训练前评测", "evaluate before"),
        "train": t("训练", "train"),
        "after": t("训练后评测", "evaluate after"),
        "baselines": t("基线", "baselines"),
        "total": t("合计", "total"),
    }
    return titles.get(name, name)


def title_of(entry: Json) -> str:
    """The title of a baseline in the language in force, else its name."""
    return localised(entry.get("title")) or str(entry.get("name", ""))


def localised(value: Any) -> str:
    """A text that may stand as {zh, en}, as {…, message}, or as it is."""
    if not isinstance(value, dict):
        return "" if value is None else str(value)
    chosen = value.get(current()) or value.get("message") or value.get("text")
    if chosen is not None:
        return localised(chosen)
    return "; ".join(f"{key}: {localised(item)}" for key, item in value.items())
