"""What the sides get: token ids, made once by our encoder, so that all of them work on the very same rows."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from weitiao.config import RunConfig
from weitiao.data.render import ChatEncoder
from weitiao.model.load import BUILTIN_FOLDER, find_model, load_tokenizer
from weitiao.records import Example
from weitiao.tasks.classification import Classification

BUILTIN_ROWS = BUILTIN_FOLDER.parent / "topic.jsonl"
REVIEWS = "判断下面的评论是正面还是负面，只回答“正面”或“负面”。\n评论：{text}"
INTENTS = tuple(f"{verb}{noun}" for verb in ("查询", "修改", "取消", "激活", "挂失", "投诉", "解释") for noun in
                ("信用卡", "转账", "余额", "密码", "汇率", "手续费", "账单", "身份验证", "退款", "限额", "贷款"))  # fmt: skip
"""77 labels of several tokens, as many as Banking77 has."""


def prompts(
    model: str, texts: list[str], labels: tuple[str, ...], template: str | None, most_tokens: int
) -> tuple[list[Any], list[list[int]]]:
    """The prompts' ids, and the labels' with their end token."""
    settings: dict[str, Any] = {"model": {"path": model}, "task": {"kind": "classification"} | ({"template": template} if template else {})}
    config = RunConfig.model_validate(settings)
    encoder = ChatEncoder(load_tokenizer(find_model(config.model)), model)
    task = Classification(config.task, labels)  # type: ignore[arg-type]
    examples = [Example(str(i), task.prompt(text), (labels[0],), text, "", i) for i, text in enumerate(texts)]
    encoded = task.encode_prompts(encoder, examples, most_tokens, config.data)
    return [list(p.ids) for p in encoded if p], [[*encoder.text(label), encoder.end_of_answer] for label in labels]


def supervised(model: str, texts: list[str], gold: list[str], template: str | None, most_tokens: int = 1024) -> dict[str, Any]:
    """Prompts with their answers."""
    labels = tuple(sorted(set(gold)))
    ids, answers = prompts(model, texts, labels, template, most_tokens)
    chosen = [answers[labels.index(label)] for label in gold]
    return {"rows": [p + a for p, a in zip(ids, chosen, strict=True)], "answers": [len(a) for a in chosen], "model": folder(model)}


def folder(model: str) -> str:
    """The path that every side loads."""
    return str(BUILTIN_FOLDER) if model == "builtin" else model


def builtin_texts(count: int) -> tuple[list[str], list[str]]:
    """So many rows of the built-in data."""
    rows = [json.loads(line) for line in BUILTIN_ROWS.read_text(encoding="utf-8").splitlines()][:count]
    return [row["text"] for row in rows], [row["label"] for row in rows]


def reviews(model: str, path: Path, count: int) -> dict[str, Any]:
    """Short Chinese reviews, two labels."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:count]
    return supervised(model, [row["text"] for row in rows], [row["label"] for row in rows], REVIEWS)


def long_rows(model: str, count: int, answer: int, mean: int, most: int, equal: bool = False) -> dict[str, Any]:
    """Random rows that share nothing: lengths log-normal (sigma 0.3) with this mean, or all the same, and so many answer tokens."""
    draw = np.random.default_rng(0)
    lengths = np.full(count, mean) if equal else np.clip(draw.lognormal(np.log(mean) - 0.045, 0.3, count), 32, most).astype(int)
    rows = [draw.integers(100, 8000, n).tolist() for n in lengths]
    return {"rows": rows, "answers": [answer or n - 1 for n in map(int, lengths)], "model": folder(model)}


def pairs(model: str, count: int, prompt: int, answer: int) -> dict[str, Any]:
    """Random prompts that share nothing, each with a better and a worse answer, all of the same lengths."""
    draw = np.random.default_rng(0)
    rows = [[draw.integers(100, 8000, n).tolist() for n in (prompt, answer, answer)] for _ in range(count)]
    return {"pairs": rows, "rows": [[*p, *c, *r] for p, c, r in rows], "model": folder(model)}


def rollouts(model: str, count: int, group: int, prompt: int, answer: int) -> dict[str, Any]:
    """Random prompts that share nothing, each with a group of answers and their advantages, all of the same lengths."""
    draw = np.random.default_rng(0)
    groups = [
        {
            "prompt": draw.integers(100, 8000, prompt).tolist(),
            "answers": draw.integers(100, 8000, (group, answer)).tolist(),
            "advantages": draw.standard_normal(group).round(3).tolist(),
        }
        for _ in range(count)
    ]
    rows = [[*one["prompt"], *written] for one in groups for written in one["answers"]]
    return {"groups": groups, "rows": rows, "model": folder(model)}


def scored(count: int) -> dict[str, Any]:
    """Prompts for a `score` head, with the labels' numbers."""
    texts, gold = builtin_texts(count)
    labels = tuple(sorted(set(gold)))
    ids, _ = prompts("builtin", texts, labels, None, 1024)
    return {"rows": ids, "targets": [labels.index(label) for label in gold], "labels": labels, "model": folder("builtin")}


def labelled(count: int, labels: tuple[str, ...] | None) -> dict[str, Any]:
    """Prompts whose labels are to be scored; the labels stand in the prompt as options."""
    texts, _ = builtin_texts(count)
    labels = labels or tuple(sorted(set(builtin_texts(10_000)[1])))
    ids, answers = prompts("builtin", texts, labels, None, 1000)
    return {"rows": ids, "labels": labels, "label_ids": answers, "model": folder("builtin")}
