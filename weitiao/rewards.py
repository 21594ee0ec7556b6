"""What written answers are worth: several rewards, each with its weight, each kept apart for the log."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from weitiao.config_rewards import AnyReward, FormatReward, FunctionReward, LengthReward, ModelReward, ScoreReward
from weitiao.data.batch import make_trees, split_by_tokens
from weitiao.data.render import ChatEncoder
from weitiao.errors import ConfigError, NonFiniteError
from weitiao.evaluate.scores import Score, exact_match, field_f1, is_json, rouge_l, token_f1
from weitiao.language import t
from weitiao.model.load import load_tokenizer
from weitiao.model.result import load_result
from weitiao.model.trees import answer_scores
from weitiao.own_code import load_function, numbers
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
        """The whole reward of each answer [n], and each part of it without its weight. Raises ConfigError where a function fails."""
        found = {name: np.array(judge(answers), dtype=np.float64) for name, judge in zip(self.names, self._judges, strict=True)}
        total = sum((part.weight * found[name] for name, part in zip(self.names, self.parts, strict=True)), np.zeros(len(answers)))
        if not np.isfinite(total).all():
            raise NonFiniteError(t("奖励模型给出的分数不是有限的数", "a reward model gave a number that is not finite"))
        return total, found


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
    function = load_function(name, where)

    def judge(answers: Sequence[Written]) -> Sequence[float]:
        prompts = [next((turn.content for turn in reversed(a.example.prompt) if turn.role == "user"), "") for a in answers]
        texts, targets = [a.text for a in answers], [list(a.example.targets) for a in answers]
        return numbers(function, name, where, len(answers), prompts, texts, targets)

    return judge


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
    for answer, prompt in zip(answers, encoder.prompts([a.example for a in answers]), strict=True):
        tokens = (*encoder.text(answer.text), encoder.end_of_answer)
        trees.append(Tree(answer.example.id, prompt, (Branch(tokens, (True,) * len(tokens)),)))
    scores = np.zeros(len(trees))
    device = next(model.parameters()).device
    with torch.inference_mode():
        for group in split_by_tokens([len(tree.tokens) for tree in trees], most_tokens):
            batch = make_trees([trees[i] for i in group], ends_only=True).to(device)
            scores[group] = answer_scores(model, batch).double().cpu().numpy()
    return [float(score) for score in scores]
