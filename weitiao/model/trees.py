"""Several answers to one prompt: what a model says of each of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from weitiao.data.batch import TreeBatch, make_trees, split_by_tokens
from weitiao.model.heads import output_matrix
from weitiao.model.logprobs import differentiable_log_probabilities
from weitiao.model.states import states
from weitiao.records import Tree


def answer_log_probabilities(model: nn.Module, batch: TreeBatch, temperature: float = 1.0) -> torch.Tensor:
    """log p of every trained token given what stands before it [N], float32 nats, logits divided by ``temperature``; differentiable."""
    hidden_NH = states(model, batch.rows.layout)
    return differentiable_log_probabilities(hidden_NH / temperature, output_matrix(model), batch.targets_N)


@torch.no_grad()
def score_trees(
    model: nn.Module,
    trees: Sequence[Tree],
    most_tokens: int,
    temperature: float = 1.0,
    progress: Callable[[int], None] | None = None,
) -> list[list[tuple[float, ...]]]:
    """The log-probabilities of the trained tokens of each answer of each tree, in the order given. ``progress`` counts trees."""
    device = next(model.parameters()).device
    results: dict[int, list[tuple[float, ...]]] = {}
    for group in split_by_tokens([len(tree.tokens) for tree in trees], most_tokens):
        batch = make_trees([trees[i] for i in group])
        values = answer_log_probabilities(model, batch.to(device), temperature).cpu().tolist()
        start = 0
        for i in group:
            ends = []
            for branch in trees[i].branches:
                ends.append(tuple(values[start : start + branch.num_targets]))
                start += branch.num_targets
            results[i] = ends
        if progress:
            progress(len(group))
    return [results[i] for i in range(len(trees))]


def with_reference(trees: Sequence[Tree], scores: Sequence[Sequence[tuple[float, ...]]]) -> list[Tree]:
    """The trees with what the base model says of them."""
    return [
        replace(tree, branches=tuple(replace(b, reference=s) for b, s in zip(tree.branches, of_tree, strict=True)))
        for tree, of_tree in zip(trees, scores, strict=True)
    ]


@contextmanager
def base_weights(model: nn.Module) -> Iterator[nn.Module]:
    """The base model within an adapted one: its adapters are off. A model without adapters is itself (before it is trained)."""
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        yield model
        return
    with model.disable_adapter():
        yield model


def answer_scores(model: nn.Module, batch: TreeBatch) -> torch.Tensor:
    """The `score` head's number for each answer, read at its last token [M], float32; differentiable."""
    return model.score(states(model, batch.rows.layout))[:, 0].float()  # type: ignore[operator,no-any-return]
