"""What written answers are worth: several rewards, each with its weight, each kept apart for the log."""

import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from torch import nn

from weitiao.config_rewards import AnyReward, FormatReward, FunctionReward, LengthReward, ModelReward, ScoreReward
from weitiao.data.batch import make_trees, split_by_tokens
from weitiao.data.render import ChatEncoder
from weitiao.errors import ConfigError
from weitiao.evaluate.scores import Score, exact_match, field_f1, is_json, rouge_l, token_f1
from weitiao.language import t
from weitiao.model.load import load_tokenizer
from weitiao.model.result import load_result
from weitiao.model.trees import answer_scores
from weitiao.records import Branch, Example, Tree
from weitiao.run import Run

Floats = np.ndarray


@dataclass(frozen=True, slots=True)
class Written:
    """An answer to an example's prompt: its text without the end token, its length in tokens with it."""

    example: Example
    text: str
    num_tokens: int


Judge = Callable[[Sequence[Written]], Sequence[float]]


def label_match(answer: str, references: Sequence[str]) -> float:
    """1 if the answer is the first good one to the letter, white space around it aside."""
    return float(answer.strip() == references[0])


SCORES: dict[str, Score] = {
    "label": label_match, "exact": exact_match, "f1": token_f1, "rouge_l": rouge_l, "json": is_json, "fields": field_f1,
}  # fmt: skip


class Rewards:
    """The rewards of a configuration, ready to judge. Raises ConfigError where a function or a reward model cannot be had."""

    def __init__(self, parts: Sequence[AnyReward], most_tokens: int) -> None:
        self.parts = tuple(parts)
        self.names = _names(parts)
        self._judges = [_judge(part, f"objective.rewards[{i}]", most_tokens) for i, part in enumerate(parts)]

    def score(self, answers: Sequence[Written]) -> tuple[Floats, dict[str, Floats]]:
        """The whole reward of each answer [n], and each part of it without its weight. Raises ConfigError where one is no number."""
        found = {name: self._values(i, answers) for i, name in enumerate(self.names)}
        total = sum((part.weight * found[name] for name, part in zip(self.names, self.parts, strict=True)), np.zeros(len(answers)))
        return total, found

    def _values(self, i: int, answers: Sequence[Written]) -> Floats:
        values = list(self._judges[i](answers))
        where = f"objective.rewards[{i}] ({self.names[i]})"
        if len(values) != len(answers):
            raise ConfigError(
                where,
                t(
                    f"给了 {len(answers)} 个回答，返回了 {len(values)} 个数",
                    f"{len(answers)} answers were given, {len(values)} numbers came back",
                ),
                t("每个回答返回一个数", "return one number for each answer"),
            )
        for value, answer in zip(values, answers, strict=True):
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
                raise ConfigError(
                    where,
                    t(f"对 {answer.example.id} 的回答 {answer.text[:40]!r} 返回了 {value!r}，不是有限的数",
                      f"returned {value!r} for the answer {answer.text[:40]!r} to {answer.example.id}, which is no finite number"),
                    t("对每个回答都返回有限的数", "return a finite number for every answer"),
                )  # fmt: skip
        return np.array(values, dtype=np.float64)


def _names(parts: Sequence[AnyReward]) -> tuple[str, ...]:
    """A name for each part, that no other one has."""
    names: list[str] = []
    for part in parts:
        name = str(part.metric if isinstance(part, ScoreReward) else part.kind)
        name = part.function.rpartition(":")[2] if isinstance(part, FunctionReward) else name
        again = sum(other.rstrip("0123456789") == name for other in names)
        names.append(f"{name}{again + 1}" if again else name)
    return tuple(names)


def _judge(part: AnyReward, where: str, most_tokens: int) -> Judge:
    match part:
        case ScoreReward():
            score = SCORES[part.metric]
            return lambda answers: [score(a.text, a.example.targets) for a in answers]
        case FormatReward():
            pattern = re.compile(part.pattern)
            return lambda answers: [float(pattern.fullmatch(a.text) is not None) for a in answers]
        case LengthReward():
            free, width = part.free_tokens, part.most_tokens - part.free_tokens
            return lambda answers: [-min(1.0, max(0.0, (a.num_tokens - free) / width)) for a in answers]
        case FunctionReward():
            return _function(part.function, f"{where}.function")
        case ModelReward():
            return _model(part.run, f"{where}.run", most_tokens)


def _function(name: str, where: str) -> Judge:
    module, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        function: Any = vars(import_module(module)).get(attribute)
    except Exception as error:  # the user's module may raise anything
        cause = t(f"模块 {module} 载入不了：{_said(error)}", f"the module {module} cannot be loaded: {_said(error)}")
        raise ConfigError(
            where, cause, t("模块放在当前文件夹或 Python 能找到的地方", "put it into this folder or where Python finds it")
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    if not callable(function):
        raise ConfigError(
            where, t(f"{module} 里没有函数 {attribute}", f"{module} has no function {attribute}"), t("检查名字", "check the name")
        )

    def judge(answers: Sequence[Written]) -> Sequence[float]:
        prompts = [next((turn.content for turn in reversed(a.example.prompt) if turn.role == "user"), "") for a in answers]
        try:
            return list(function(prompts, [a.text for a in answers], [list(a.example.targets) for a in answers]))
        except Exception as error:
            cause = t(f"函数出错：{_said(error)}", f"the function failed: {_said(error)}")
            remedy = t(
                "它要收三个列表（提示、回答、正确答案），返回数的列表",
                "it takes three lists (prompts, answers, good answers), and returns numbers",
            )
            raise ConfigError(where, cause, remedy) from error

    return judge


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _model(path: str, where: str, most_tokens: int) -> Judge:
    run = Run.open(path)
    if run.record.get("objective") != "reward" or not (run.path / "model").is_dir():
        cause = t(f"{path} 不是训练好的奖励模型", f"{path} is no trained reward model")
        raise ConfigError(where, cause, t("给出 objective: reward 的运行文件夹", "give the folder of a run with objective: reward"))
    model, folder, _ = load_result(run.path / "model", run.config.model)
    encoder = ChatEncoder(load_tokenizer(folder), str(folder.path))
    return lambda answers: _head_scores(model, encoder, answers, most_tokens)


def _head_scores(model: nn.Module, encoder: ChatEncoder, answers: Sequence[Written], most_tokens: int) -> list[float]:
    """A reward model's number for each answer, read at its end token."""
    import torch

    trees = []
    for answer, prompt in zip(answers, encoder.chats([a.example.prompt for a in answers]), strict=True):
        tokens = (*encoder.text(answer.text), encoder.end_of_answer)
        trees.append(Tree(answer.example.id, prompt, (Branch(tokens, (True,) * len(tokens)),)))
    scores = np.zeros(len(trees))
    device = next(model.parameters()).device
    with torch.inference_mode():
        for group in split_by_tokens([len(tree.tokens) for tree in trees], most_tokens):
            batch = make_trees([trees[i] for i in group], ends_only=True).to(device)
            scores[group] = answer_scores(model, batch).double().cpu().numpy()
    return [float(score) for score in scores]
