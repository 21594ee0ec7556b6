"""The steps of a reinforcement run: prompts in a fixed order, answers drawn by the model as it is then, their rewards and advantages.

A set of rollouts is a function of (seed, number of the set) and the weights, so a run that goes on from a checkpoint between two sets draws
the same.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from weitiao.config_decoding import DecodingConfig
from weitiao.config_objectives import GrpoObjective
from weitiao.config_training import TrainConfig
from weitiao.data.batch import TreeBatch, epoch_order, make_trees, split_by_tokens, split_tree
from weitiao.data.render import ChatEncoder
from weitiao.evaluate.generate import Answer, generate
from weitiao.evaluate.judge import Judgement
from weitiao.evaluate.statistics import bootstrap, wilson
from weitiao.model.trees import base_weights, score_trees, with_reference
from weitiao.prepare import Prepared
from weitiao.records import Branch, Encoded, Example, SplitName, Tree
from weitiao.rewards import Rewards, Written
from weitiao.storage import append_json_line, cut_file
from weitiao.tasks.generation import with_calls_written

LOG = "rollouts.jsonl"
SHOWN_PROMPTS, SHOWN_ANSWERS = 1, 4
"""How much of each set goes into the log of rollouts."""
_SMALLEST_DEVIATION = 1e-4  # as the paper's own code: a group of nearly equal rewards gets no huge advantages


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt to answer. ``ids``: up to where the answer begins."""

    example: Example
    ids: tuple[int, ...]


def asked_of(data: Prepared, encoder: ChatEncoder, split: SplitName) -> list[Asked]:
    """The prompts of a split, to be answered."""
    examples = data.examples(split)
    return [Asked(e, ids) for e, ids in zip(with_calls_written(encoder, examples), encoder.prompts(examples), strict=True)]


@dataclass(frozen=True)
class Writer:
    """Writes answers to prompts with one model and says what they are worth."""

    model: nn.Module
    encoder: ChatEncoder
    rewards: Rewards
    config: GrpoObjective
    most_tokens: int

    def write(
        self, asked: Sequence[Asked], temperature: float, seed: int, samples: int = 1, progress: Callable[[int], None] | None = None
    ) -> list[list[Answer]]:
        """So many answers to each prompt; the model is in evaluation mode."""
        decoding = DecodingConfig(max_new_tokens=self.config.answer_tokens, temperature=temperature)
        ends = {self.encoder.end_of_answer, self.encoder.end_of_text}
        return generate(self.model, [one.ids for one in asked], ends, decoding, seed, self.most_tokens, samples, progress)

    def judge(self, asked: Sequence[Asked], answers: Sequence[Sequence[Answer]]) -> tuple[list[Written], np.ndarray, dict[str, np.ndarray]]:
        """What the answers, all of them in one row, say and are worth: the whole reward and its parts."""
        decode = self.encoder.tokenizer.decode
        written = [
            Written(one.example, str(decode(list(answer.content))), len(answer.tokens))
            for one, group in zip(asked, answers, strict=True)
            for answer in group
        ]
        return written, *self.rewards.score(written)


def judge_answers(writer: Writer, asked: Sequence[Asked], task: str, seed: int, progress: Callable[[int], None] | None = None) -> Judgement:
    """What the most probable answers to some prompts are worth, with a bootstrap over prompts for each mean."""
    answers = writer.write(asked, 0.0, seed, progress=progress)
    written, total, parts = writer.judge(asked, answers)
    lengths = np.array([one.num_tokens for one in written])
    n, cut_off = len(written), sum(not group[0].ended for group in answers)
    means = {"reward": total, **{f"reward/{name}": values for name, values in parts.items()}, "answer_tokens": lengths}
    metrics = {
        name: bootstrap(lambda rows, values=values: float(values[rows].mean()), n, seed)  # type: ignore[misc]
        for name, values in means.items()
    }
    metrics["overlong"] = wilson(cut_off, n)
    rows = [
        {
            "id": one.example.id, "file": one.example.file, "line": one.example.line, "text": one.example.prompt[-1].content,
            "target": one.example.targets[0], "answer": one.text, "reward": float(total[i]),
            "parts": {name: float(values[i]) for name, values in parts.items()}, "answer_tokens": one.num_tokens,
        }
        for i, one in enumerate(written)
    ]  # fmt: skip
    return Judgement({"task": task, "n": n, "metrics": {name: estimate.as_dict() for name, estimate in metrics.items()}}, rows)


def validate_answers(writer: Writer, asked: Sequence[Asked], seed: int) -> dict[str, Any]:
    """The mean reward of the most probable answers and each part of it, during training, with their n."""
    _, total, parts = writer.judge(asked, writer.write(asked, 0.0, seed))
    return {"reward": float(total.mean()), **{f"reward/{name}": float(values.mean()) for name, values in parts.items()}, "n": len(asked)}


def compare_rewards(after: Judgement, before: Judgement, seed: int) -> dict[str, Any]:
    """``evaluation/comparison.json``: the reward after training less that before, on the same prompts."""
    difference = np.array([b["reward"] - a["reward"] for a, b in zip(before.predictions, after.predictions, strict=True)])
    estimate = bootstrap(lambda rows: float(difference[rows].mean()), len(difference), seed)
    return {"n": len(difference), "metric": "reward", "pairs": [{"a": "after", "b": "before", "difference": estimate.as_dict()}]}


def advantages(rewards_PG: np.ndarray, form: str) -> np.ndarray:
    """How much better than its group each answer did [P, G]; see objectives/policy.py. 0 in a group of equal rewards."""
    ahead_PG = rewards_PG - rewards_PG.mean(axis=1, keepdims=True)
    if form == "dr_grpo":
        return np.asarray(ahead_PG)
    return np.asarray(ahead_PG / (rewards_PG.std(axis=1, ddof=1, keepdims=True) + _SMALLEST_DEVIATION))


@dataclass
class RolloutPlan:
    """The steps of a whole run. ``reference``: the base model where a distance to it is asked for and no adapter can be turned off."""

    writer: Writer
    asked: Sequence[Asked]
    settings: TrainConfig
    seed: int
    reference: nn.Module | None = None
    log: Path | None = None
    rows: list[Encoded] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = [Encoded(one.example.id, one.ids, (False,) * len(one.ids)) for one in self.asked]

    @property
    def config(self) -> GrpoObjective:
        return self.writer.config

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one pass over the prompts."""
        return self.config.updates * math.ceil(len(self.asked) / self.settings.batch_rows)

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the run."""
        steps = max(1, round(self.settings.epochs * self.steps_per_epoch))
        return steps if self.settings.max_steps is None else min(steps, self.settings.max_steps)

    def may_pause(self, done: int) -> bool:
        """Whether the run can be gone on with from here: not between two updates on one set."""
        return done % self.config.updates == 0 or done == self.num_steps

    def steps(self, first: int = 0) -> Iterator[list[TreeBatch]]:
        """The micro-batches of each step from step ``first`` on, made when they are asked for, by the weights at that time."""
        if self.log is not None and self.log.exists():
            _cut_log(self.log, first)
        for number in range(first // self.config.updates, math.ceil(self.num_steps / self.config.updates)):
            batches = self._set(number)
            yield from [batches] * min(self.config.updates, self.num_steps - number * self.config.updates)

    def _set(self, number: int) -> list[TreeBatch]:
        """The micro-batches of one set of rollouts."""
        epoch, place = divmod(number, math.ceil(len(self.asked) / self.settings.batch_rows))
        members = epoch_order([len(one.ids) for one in self.asked], self.settings.batch_rows, self.seed, epoch)[place]
        asked, config = [self.asked[i] for i in members], self.config
        answers = self.writer.write(asked, config.temperature, _seed_of(self.seed, number), config.group)
        written, total, parts = self.writer.judge(asked, answers)
        rewards_PG = total.reshape(len(asked), config.group)
        if self.log is not None:
            _write_log(self.log, number * config.updates + 1, written, total, parts, config.group)
        trees = [
            _tree(one, group, scores, config)
            for one, group, scores in zip(asked, answers, advantages(rewards_PG, config.form), strict=True)
        ]
        facts = self._facts(answers, total, parts, rewards_PG)
        return self._batches(trees, facts)

    def _facts(
        self, answers: Sequence[Sequence[Answer]], total: np.ndarray, parts: Mapping[str, np.ndarray], rewards_PG: np.ndarray
    ) -> dict[str, tuple[float, float]]:
        """What the log says of a set, each a sum and what it is divided by."""
        written, n = [answer for group in answers for answer in group], float(len(total))
        silent = float((rewards_PG.max(axis=1) == rewards_PG.min(axis=1)).sum())
        return {
            "reward": (float(total.sum()), n),
            **{f"reward/{name}": (float(values.sum()), n) for name, values in parts.items()},
            "answer_tokens": (float(sum(len(answer.tokens) for answer in written)), n),
            "overlong": (float(sum(not answer.ended for answer in written)), n),
            "silent_groups": (silent, float(len(rewards_PG))),
        }

    def _batches(self, trees: Sequence[Tree], facts: Mapping[str, tuple[float, float]]) -> list[TreeBatch]:
        """Micro-batches of the answers that something is learned from; the others count in what the loss is divided by."""
        answers = [branch for tree in trees for branch in tree.branches]
        weight = float(sum(b.num_targets for b in answers) if self.config.form == "dapo" else len(answers))
        heard = [tree for tree in trees if self.config.kl_weight or any(b.advantage for b in tree.branches)]
        heard = [replace(tree, branches=tuple(b for b in tree.branches if b.num_targets)) for tree in heard]
        heard = [tree for tree in heard if tree.branches] or [_silent(trees[0])]
        limit = self.settings.micro_batch_tokens
        pieces = [piece for tree in self._scored(heard) for piece in split_tree(tree, limit)]
        groups = split_by_tokens([len(piece.tokens) for piece in pieces], limit)
        batches = [make_trees([pieces[i] for i in group], 0.0) for group in groups]
        return [replace(batches[0], weight=max(weight, 1.0), facts=facts), *batches[1:]]

    def _scored(self, trees: list[Tree]) -> list[Tree]:
        """The trees with what the loss compares with: the base model's numbers, and the model's own before the first update."""
        config, model, most = self.config, self.writer.model, self.writer.most_tokens
        if config.kl_weight:
            with base_weights(self.reference or model) as base:
                trees = with_reference(trees, score_trees(base, trees, most, config.temperature))
        if config.updates > 1:
            own = score_trees(model, trees, most, config.temperature)
            trees = [
                replace(tree, branches=tuple(replace(b, sampled=s) for b, s in zip(tree.branches, scores, strict=True)))
                for tree, scores in zip(trees, own, strict=True)
            ]
        return trees

    def heaviest(self) -> TreeBatch:
        """The largest micro-batch that can occur: the longest prompt with full answers, as many as fit."""
        longest, n = max((one.ids for one in self.asked), key=len), self.config.answer_tokens
        compared = (0.0,) * n
        answer = Branch(
            (longest[-1],) * n, (True,) * n, compared if self.config.kl_weight else (), compared if self.config.updates > 1 else (), 1.0
        )
        return make_trees(split_tree(Tree("heaviest", longest, (answer,) * self.config.group), self.settings.micro_batch_tokens)[:1])


def _tree(asked: Asked, answers: Sequence[Answer], scores: np.ndarray, config: GrpoObjective) -> Tree:
    branches = [
        Branch(a.tokens, (a.ended or config.overlong == "keep",) * len(a.tokens), advantage=float(score))
        for a, score in zip(answers, scores, strict=True)
    ]
    return Tree(asked.example.id, asked.ids, tuple(branches))


def _silent(tree: Tree) -> Tree:
    """One answer that pushes nothing, for a step in which no group says anything."""
    first = tree.branches[0]
    return replace(tree, branches=(Branch(first.tokens, (True,) * len(first.tokens)),))


def _seed_of(seed: int, number: int) -> int:
    """The seed of a set, far from those of other sets and of other uses of the run's seed."""
    return int.from_bytes(hashlib.sha256(f"rollouts/{seed}/{number}".encode()).digest()[:8], "little")


def _write_log(path: Path, step: int, written: Sequence[Written], total: np.ndarray, parts: Mapping[str, np.ndarray], group: int) -> None:
    """Some of a set's answers for people to read."""
    for prompt in range(min(SHOWN_PROMPTS, len(written) // group)):
        places = range(prompt * group, prompt * group + min(group, SHOWN_ANSWERS))
        example = written[places[0]].example
        answers: list[dict[str, Any]] = [
            {"text": written[i].text, "reward": float(total[i]), "parts": {name: float(values[i]) for name, values in parts.items()}}
            for i in places
        ]
        append_json_line(path, {"step": step, "id": example.id, "prompt": example.prompt[-1].content, "answers": answers})


def _cut_log(path: Path, first: int) -> None:
    """Remove the lines of sets that will be drawn again."""
    kept = 0
    for line in path.read_bytes().splitlines(keepends=True):
        if json.loads(line)["step"] > first:
            break
        kept += len(line)
    cut_file(path, kept)
