"""How often and how clearly a model prefers the better answer of a pair.

`accuracy`: rows where the better answer is the more probable one as a whole (a reward model: gets the higher number).
`reward_accuracy`, `reward_margin`: the same of the implied reward, an answer's log-probability less that by the base model, without beta
(Rafailov et al. 2023, arXiv:2305.18290); absent where the base is not known, and for the base itself, whose implied reward is 0.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from weitiao.data.batch import TreeBatch, make_trees, split_by_tokens
from weitiao.evaluate.judge import Judgement
from weitiao.evaluate.statistics import bootstrap, wilson
from weitiao.model.heads import has_score_head
from weitiao.model.trees import answer_scores, score_trees
from weitiao.records import Example, Loss, Tree

Progress = Callable[[int], None]


def judge_pairs(
    model: nn.Module, examples: Sequence[Example], trees: Sequence[Tree], most_tokens: int, seed: int, progress: Progress | None = None
) -> Judgement:
    """Judge a model, in evaluation mode, on pairs; intervals are Wilson's for shares of rows and a bootstrap over rows for the others."""
    if has_score_head(model):
        scores = _head_scores(model, trees, most_tokens, progress)
        implied = None
    else:
        logs = score_trees(model, trees, most_tokens, progress=progress)
        scores = np.array([[sum(answer) for answer in of_tree] for of_tree in logs])
        base = np.array([[sum(branch.reference) for branch in tree.branches] for tree in trees])
        implied = scores - base if all(branch.reference for tree in trees for branch in tree.branches) else None
    correct, n = scores[:, 0] > scores[:, 1], len(trees)
    metrics = {"accuracy": wilson(int(correct.sum()), n)}
    for name, values in (("margin", scores if has_score_head(model) else None), ("reward_margin", implied)):
        if values is not None:
            ahead = values[:, 0] - values[:, 1]
            metrics[name] = bootstrap(lambda rows, ahead=ahead: float(ahead[rows].mean()), n, seed)  # type: ignore[misc]
    if implied is not None:
        metrics["reward_accuracy"] = wilson(int((implied[:, 0] > implied[:, 1]).sum()), n)
    rows = [_row(e, s, None if implied is None else implied[i]) for i, (e, s) in enumerate(zip(examples, scores.tolist(), strict=True))]
    evaluation = {"task": "preference", "n": n, "metrics": {name: estimate.as_dict() for name, estimate in metrics.items()}}
    return Judgement(evaluation, rows)


def _row(example: Example, scores: Sequence[float], implied: np.ndarray | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": example.id,
        "file": example.file,
        "line": example.line,
        "text": example.prompt[-1].content,
        "chosen": example.targets[0],
        "rejected": example.rejected[0],
        "chosen_score": scores[0],
        "rejected_score": scores[1],
        "correct": scores[0] > scores[1],
    }
    return row if implied is None else row | {"reward_margin": float(implied[0] - implied[1])}


@torch.inference_mode()
def _head_scores(model: nn.Module, trees: Sequence[Tree], most_tokens: int, progress: Progress | None) -> np.ndarray:
    """A reward model's numbers for both answers of each pair [n, 2]."""
    scores = np.zeros((len(trees), 2))
    device = next(model.parameters()).device
    for group in split_by_tokens([len(tree.tokens) for tree in trees], most_tokens):
        scores[group] = (
            answer_scores(model, make_trees([trees[i] for i in group], ends_only=True).to(device)).view(-1, 2).double().cpu().numpy()
        )
        if progress:
            progress(len(group))
    return scores


@torch.no_grad()
def validate_pairs(
    model: nn.Module, objective: Callable[[nn.Module, TreeBatch], Loss], trees: Sequence[Tree], most_tokens: int
) -> dict[str, Any]:
    """The objective's loss, accuracy and margin on pairs during training, with their n."""
    device = next(model.parameters()).device
    groups = split_by_tokens([len(tree.tokens) for tree in trees], most_tokens)
    ends_only = has_score_head(model)
    losses = [objective(model, make_trees([trees[i] for i in group], ends_only=ends_only).to(device)) for group in groups]
    ahead, margin = (sum(loss.parts[name][0] for loss in losses) for name in ("pair_accuracy", "margin"))
    n = len(trees)
    return {"loss": sum(float(loss.total) for loss in losses) / n, "accuracy": ahead / n, "margin": margin / n, "n": n}
