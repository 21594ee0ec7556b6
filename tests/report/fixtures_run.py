"""A run folder as the toolkit writes it, made up but plausible, the same on every call."""

import json
import math
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

Json = dict[str, Any]

LABELS = ("文字处理", "电子表格", "Basic编程", "演示文稿", "公式", "图表")
SUPPORT = (168, 153, 141, 105, 81, 54)
PHRASES = {
    "文字处理": (
        "在段落样式中设置首行缩进",
        "选择“格式 - 页面样式”以更改页边距",
        "插入脚注后,编号会自动更新",
        "用查找与替换对话框批量修改文字",
    ),
    "电子表格": (
        "单元格区域的引用可以是相对的,也可以是绝对的",
        "自动筛选只显示符合条件的行",
        "数据透视表用于汇总数据",
        "选中列标题后右击可以调整列宽",
    ),
    "Basic编程": (
        "Dim 语句声明一个变量或数组",
        "使用 For...Next 循环重复执行语句块",
        "On Error GoTo 语句处理运行时错误",
        "函数返回一个字符串表达式",
    ),
    "演示文稿": ("幻灯片切换效果在侧边栏中设置", "母版决定所有幻灯片的背景", "自定义动画可以按顺序播放", "备注视图便于打印讲义"),
    "公式": ("在命令窗口中输入 {a} over {b} 得到分数", "用 matrix 命令写矩阵", "希腊字母以百分号开头", "括号随内容自动缩放"),
    "图表": ("双击图表进入编辑模式", "右击数据序列可以插入趋势线", "坐标轴的刻度可以设为对数", "饼图适合表示部分与整体"),
}
DIGEST = "9f2c4b7d1e8a05c3f6b9d2e7a4c1f8b5e0d3a6c9f2b5e8d1a4c7f0b3e6d9a2c5"


def estimate(value: float, n: int, spread: float | None = None) -> Json:
    """A value with a rough 95 % interval."""
    half = spread if spread is not None else 1.96 * math.sqrt(max(value * (1 - value), 1e-4) / n)
    return {"value": round(value, 6), "low": round(value - half, 6), "high": round(value + half, 6), "n": n}


def predictions(seed: int, accuracy: float, sharpness: float) -> list[Json]:
    """One prediction per test row; texts differ in length, some are long."""
    texts, chance = random.Random(7), random.Random(seed)
    rows = []
    gold = [label for label, number in zip(LABELS, SUPPORT, strict=True) for _ in range(number)]
    texts.shuffle(gold)
    for line, label in enumerate(gold, start=2):
        length = min(60, 1 + int(texts.expovariate(1 / 6)))
        text = "。".join(texts.choice(PHRASES[label]) for _ in range(length)) + "。"
        prediction = label if chance.random() < accuracy else chance.choice([other for other in LABELS if other != label])
        weights = {one: chance.random() ** 3 * 0.4 for one in LABELS}
        weights[prediction] += sharpness * (0.3 + chance.random() * (3 if prediction == label else 1))
        weights[prediction] = max(weights[prediction], 1.01 * max(weights.values()))
        probabilities = {one: round(weight / sum(weights.values()), 6) for one, weight in weights.items()}
        rows.append(
            {
                "id": f"test:{line}",
                "file": "test.csv",
                "text": text,
                "label": label,
                "prediction": prediction,
                "probability": probabilities[prediction],
                "probabilities": probabilities,
                "correct": prediction == label,
                "loss": round(-math.log(max(probabilities[label], 1e-9)), 6),
            }
        )
    return rows


def evaluation(rows: list[Json]) -> Json:
    """The metrics of some predictions, in the form of evaluation/after.json."""
    n = len(rows)
    table = [[sum(r["label"] == a and r["prediction"] == b for r in rows) for b in LABELS] for a in LABELS]
    per_class = {}
    for i, label in enumerate(LABELS):
        hit, said, real = table[i][i], sum(row[i] for row in table), sum(table[i])
        per_class[label] = {
            "precision": hit / max(said, 1),
            "recall": hit / real,
            "f1": 2 * hit / max(said + real, 1),
            "support": real,
        }
    accuracy = sum(r["correct"] for r in rows) / n
    macro = {name: sum(one[name] for one in per_class.values()) / len(LABELS) for name in ("precision", "recall", "f1")}
    bins = []
    for k in range(15):
        inside = [r for r in rows if k / 15 < r["probability"] <= (k + 1) / 15]
        if inside:
            confidence, right = (sum(r[name] for r in inside) / len(inside) for name in ("probability", "correct"))
            bins.append({"low": k / 15, "high": (k + 1) / 15, "confidence": confidence, "accuracy": right, "n": len(inside)})
    loss = sum(r["loss"] for r in rows) / n
    metrics = {
        "accuracy": estimate(accuracy, n),
        "macro_f1": estimate(macro["f1"], n),
        "micro_f1": estimate(accuracy, n),
        "weighted_f1": estimate(accuracy - 0.002, n),
        "macro_precision": estimate(macro["precision"], n),
        "macro_recall": estimate(macro["recall"], n),
        "log_loss": estimate(loss, n, 0.06 * loss),
        "calibration_error": estimate(sum(abs(b["confidence"] - b["accuracy"]) * b["n"] for b in bins) / n, n, 0.012),
    }
    matrix = {"labels": list(LABELS), "rows": table}
    return {
        "task": "classification",
        "n": n,
        "split": "test",
        "metrics": metrics,
        "per_class": per_class,
        "confusion_matrix": matrix,
        "calibration": {"bins": bins},
        "seconds": 11.4,
        "rows_per_second": 61.6,
    }


def metric_lines(steps: int, *, text: bool = False) -> list[Json]:
    """Log-like curves: loss falls as a power of the step, with noise; the learning rate warms up and follows a cosine."""
    chance, lines = random.Random(3), []
    best = 0.0
    for step in range(steps + 1):
        level = 1.78 * (1 + step / 22) ** -0.78 + 0.06
        if step:
            rate = 5e-4 * min(step / 30, 0.5 * (1 + math.cos(math.pi * step / steps)))
            noise = math.exp(chance.gauss(0, 0.28))
            lines.append(
                {
                    "type": "step",
                    "step": step,
                    "epoch": step * 32 / 6400,
                    "loss": round(level * noise, 5),
                    "learning_rate": rate,
                    "grad_norm": round(0.5 + 3.1 * level * math.exp(chance.gauss(0, 0.3)), 4),
                    "tokens": step * 4870,
                    "tokens_per_second": 3300 + chance.gauss(0, 90),
                    "memory_bytes": 1_610_612_736,
                    "seconds": step * 1.47,
                }
            )
        if step % max(1, steps // 12) == 0:
            loss = level * 1.06 + 0.00013 * step + 0.05
            accuracy = min(0.9, 0.13 + 0.76 * (1 - math.exp(-step / 70)) + chance.gauss(0, 0.006))
            judged: Json = {"accuracy": accuracy, "macro_f1": accuracy - 0.012, "n": 690}
            if text:
                judged = {"perplexity": math.exp(loss + 1.4), "bits_per_character": 0.9 * (loss + 1.4), "n": 120}
            line = {"type": "validation", "step": step, "epoch": step * 32 / 6400, "loss": loss, **judged}
            score = -loss if text else accuracy
            line["best"] = not lines or step == 0 or score > best
            best = score if line["best"] else best
            lines.append(line)
    return lines


def run_json(task: str = "classification") -> Json:
    """run.json of a finished run."""
    files = {
        split: {"path": f"{split}.csv", "sha256": DIGEST[::-1][i:] + DIGEST[:i], "rows": rows}
        for i, (split, rows) in enumerate({"train": 6391, "validation": 690, "test": 702}.items())
    }
    return {
        "schema": 1,
        "id": "20260711-153012-lora",
        "name": "libreoffice-topics-lora",
        "state": "finished",
        "created": "2026-07-11T15:30:12+08:00",
        "ended": "2026-07-11T15:48:01+08:00",
        "error": None,
        "versions": {
            "weitiao": "0.1.0",
            "python": "3.11.7",
            "torch": "2.13.0+cpu",
            "transformers": "5.23.0",
            "peft": "0.21.2",
            "platform": "Linux-6.1.0-x86_64",
        },
        "hardware": {
            "device": "cpu",
            "processor": "Intel(R) Xeon(R) Platinum 8369B",
            "cores": 8,
            "memory_bytes": 33_285_996_544,
            "gpu": None,
        },
        "seed": 0,
        "task": task,
        "method": "lora" if task == "classification" else "full",
        "objective": "sft" if task == "classification" else "pretrain",
        "base_model": {
            "source": "local",
            "path": "models/qwen2-zh-small",
            "sha256": DIGEST,
            "architecture": "Qwen2ForCausalLM",
            "parameters": 25_165_824,
            "dtype": "float32",
            "tied_embeddings": True,
            "vocabulary": 16_384,
        },
        "data": files,
        "trainable": {"parameters": 811_008, "total": 25_976_832, "share": 0.031220436},
        "training": {
            "steps": 600,
            "epochs": 3.0,
            "tokens": 2_922_000,
            "trained_tokens": 61_440,
            "seconds": 882.4,
            "tokens_per_second": 3311.4,
            "flops": 4.41e14,
            "peak_memory_bytes": 1_717_986_918,
            "best_step": 550,
            "best_metric": {"name": "macro_f1", "value": 0.8791},
            "stopped_early": False,
        },
        "seconds": {"load": 3.1, "before": 11.9, "train": 882.4, "after": 11.4, "baselines": 4.6, "total": 921.7},
    }


def ledger() -> Json:
    """data/ledger.json: 37 shortened and 9 rejected rows of the training file."""
    chance = random.Random(5)
    shortened = [{"line": 40 + 157 * i, "tokens_before": 512 + chance.randrange(1, 700), "tokens_after": 512} for i in range(37)]
    rejected = [{"line": 101 + 613 * i, "reason": "没有文字" if i % 2 else "标签是空的"} for i in range(9)]
    files = [
        {
            "path": "train.csv",
            "split": "train",
            "sha256": DIGEST[::-1],
            "rows_in": 6400,
            "used": 6391,
            "rejected": 9,
            "shortened": 37,
            "rejected_rows": rejected,
            "shortened_rows": shortened,
        },
        {
            "path": "validation.csv",
            "split": "validation",
            "sha256": DIGEST,
            "rows_in": 690,
            "used": 690,
            "rejected": 0,
            "shortened": 2,
            "rejected_rows": [],
            "shortened_rows": shortened[:2],
        },
        {
            "path": "test.csv",
            "split": "test",
            "sha256": DIGEST[5:] + DIGEST[:5],
            "rows_in": 702,
            "used": 702,
            "rejected": 0,
            "shortened": 0,
            "rejected_rows": [],
            "shortened_rows": [],
        },
    ]
    return {"files": files, "totals": {"rows_in": 7792, "used": 7783, "rejected": 9, "shortened": 39}}


def audit() -> Json:
    """data/audit.json: lengths with a long right tail."""
    lengths = {}
    for seed, (split, n) in enumerate({"train": 6391, "validation": 690, "test": 702}.items()):
        chance = random.Random(seed)
        values = sorted(min(512, int(38 + chance.lognormvariate(4.2, 0.75))) for _ in range(n))
        edges = list(range(32, 545, 16))
        counts = [sum(low <= value < high for value in values) for low, high in pairwise(edges)]
        points = {name: values[int(part * (n - 1))] for name, part in (("min", 0), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1))}
        lengths[split] = {"n": n, **points, "histogram": {"edges": edges, "counts": counts}}
    labels = {
        split: {label: number * factor for label, number in zip(LABELS, SUPPORT, strict=True)}
        for split, factor in (("train", 9), ("validation", 1), ("test", 1))
    }
    trained = "电子表格<|im_end|>"
    text = f"<|im_start|>user\n给下面的文字选一个类别:自动筛选只显示符合条件的行。<|im_end|>\n<|im_start|>assistant\n{trained}"
    return {
        "max_tokens": 512,
        "lengths": lengths,
        "labels": labels,
        "findings": ["训练集与测试集有 3 行文字完全相同。"],
        "topics": {
            "n": {"train": 6391, "test": 702},
            "topics": [
                {"words": words, "train": part, "test": None if i else part, "example": {"file": "t.csv", "line": i + 2, "text": text}}
                for i, (words, part, text) in enumerate([(["单元格", "公式"], 0.4, "选择单元格。"), (["幻灯片"], 0.003, "放映<幻灯片>。")])
            ],
        },
        "example": {"id": "train:17", "text": text, "trained_text": trained},
    }


def pair(b: str, value: float, half: float, p: float, a_only: int = 96, b_only: int = 52) -> Json:
    """One entry of comparison.json."""
    difference = {"value": value, "low": round(value - half, 6), "high": round(value + half, 6), "n": 702}
    return {"a": "after", "b": b, "difference": difference, "mcnemar": {"a_only": a_only, "b_only": b_only, "p_value": p}}


def write(path: Path, value: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")


def write_lines(path: Path, values: list[Json]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")


def make_run(path: Path, *, steps: int = 600) -> Path:
    """A finished classification run."""
    before, after = predictions(1, 0.14, 0.25), predictions(2, 0.878, 1.6)
    path.mkdir(parents=True, exist_ok=True)
    config = "name: libreoffice-topics-lora\nseed: 0\nmodel:\n  path: models/qwen2-zh-small\ntask:\n  kind: classification\nmethod:\n"
    (path / "config.yaml").write_text(config + "  kind: lora\n  rank: 8\nreport:\n  language: zh\n", encoding="utf-8")
    write(path / "run.json", run_json())
    write_lines(path / "metrics.jsonl", metric_lines(steps))
    write(path / "data/ledger.json", ledger())
    write(path / "data/audit.json", audit())
    judged_before, judged_after = evaluation(before), evaluation(after)
    write(path / "evaluation/before.json", judged_before)
    write(path / "evaluation/after.json", judged_after)
    write_lines(path / "evaluation/predictions-before.jsonl", before)
    write_lines(path / "evaluation/predictions-after.jsonl", after)
    named = {
        "majority": ("多数类", "Majority class", 168 / 702, 0.064),
        "tfidf_logistic_regression": ("TF-IDF + 逻辑回归", "TF-IDF + logistic regression", 573 / 702, 0.801),
        "tfidf_linear_svm": ("TF-IDF + 线性 SVM", "TF-IDF + linear SVM", 570 / 702, 0.796),
    }
    baselines = [
        {
            "name": name,
            "title": {"zh": zh, "en": en},
            "metrics": {"accuracy": estimate(a, 702), "macro_f1": estimate(f, 702)},
            "seconds": 1.2,
        }
        for name, (zh, en, a, f) in named.items()
    ]
    write(path / "evaluation/baselines.json", {"n": 702, "baselines": baselines})
    accuracy = judged_after["metrics"]["accuracy"]["value"]
    gain = round(accuracy - judged_before["metrics"]["accuracy"]["value"], 6)
    pairs = [
        pair("before", gain, 0.036, 3.1e-112, 530, 12),
        pair("majority", round(accuracy - 168 / 702, 6), 0.037, 4.4e-98, 470, 20),
        pair("tfidf_logistic_regression", round(accuracy - 573 / 702, 6), 0.027, 0.0000214),
        pair("tfidf_linear_svm", round(accuracy - 570 / 702, 6), 0.027, 0.0000071),
    ]
    write(path / "evaluation/comparison.json", {"n": 702, "metric": "accuracy", "pairs": pairs})
    return path


def make_text_run(path: Path) -> Path:
    """A finished run of the text task: no evaluation, only validation lines."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text("task: text\nobjective: pretrain\n", encoding="utf-8")
    write(path / "run.json", run_json("text"))
    write_lines(path / "metrics.jsonl", metric_lines(300, text=True))
    return path


def make_failed_run(path: Path) -> Path:
    """A run that failed at step 41 on a loss that was not finite; the last line of metrics.jsonl was not written to its end."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
    error = {"type": "NonFiniteError", "message": "step 41: loss is nan (train.csv:77)"}
    kept = ("schema", "id", "name", "created", "task", "method", "objective", "seed", "versions")
    write(path / "run.json", {**{key: run_json()[key] for key in kept}, "state": "failed", "ended": None, "error": error})
    lines = [line for line in metric_lines(600) if line["step"] <= 40]
    write_lines(path / "metrics.jsonl", lines)
    with (path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"type":"step","step":41,"loss":NaN}\n{"type":"st')
    return path
