"""The Predictor: how likely each candidate answer is for each prompt. Shared by evaluation and `weitiao predict`.

Language model: the exact log-probability of every candidate's whole text and its end token. The candidates stand behind the prompt as a
tree (candidates that begin alike share their beginning) whose tokens see the prompt and their ancestors only; what the prompts begin with
in common runs once for a batch. `score` head: the scores of the labels at the prompt's last token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from weitiao.data.batch import split_by_tokens
from weitiao.data.layout import Tail, lay_out
from weitiao.data.render import ChatEncoder
from weitiao.model.heads import has_score_head, output_matrix, trunk
from weitiao.model.logprobs import log_probabilities
from weitiao.model.states import runs_by_block, states
from weitiao.tasks.classification import Classification, Prompt


@dataclass(frozen=True, slots=True)
class LabelScores:
    """What the model says of one prompt. ``probabilities`` are over ``candidates`` and sum to 1; ``log_probabilities`` (nats) are those of
    the whole answers, each with its end token (`score` head: of the labels)."""

    id: str
    candidates: tuple[str, ...]
    log_probabilities: np.ndarray
    probabilities: np.ndarray
    answer_tokens: tuple[int, ...]
    """Length of each candidate's answer in tokens, end token included (`score` head: 1)."""

    @property
    def prediction(self) -> str:
        """The most probable candidate (the first one of equals)."""
        return self.candidates[int(self.probabilities.argmax())]


@dataclass(frozen=True, slots=True)
class AnswerTree:
    """Token sequences as a tree. The T inner nodes are those whose hidden state is needed: all but the sequences' last tokens.

    ``parents[i]`` is the inner node before inner node i, −1 for the prompt. An edge (place, token) belongs to each step of each sequence,
    where place 0 is the prompt's last position and place i + 1 inner node i; ``answers[a]`` are the edges of sequence a.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    answers: tuple[tuple[int, ...], ...]

    @property
    def tail(self) -> Tail:
        """Which inner nodes each one sees [T, T], and their depths [T]."""
        sees = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):  # parents stand before their children
            if parent >= 0:
                sees[node] |= sees[parent]
        return sees, np.array(self.depths, dtype=np.int64)


def answer_tree(sequences: Sequence[Sequence[int]]) -> AnswerTree:
    """The tree of some token sequences, none of them empty."""
    nodes: dict[tuple[int, ...], int] = {}
    tokens: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    edges: dict[tuple[int, int], int] = {}
    for sequence in sorted({tuple(s) for s in sequences}):
        for depth in range(1, len(sequence)):
            path = sequence[:depth]
            if path not in nodes:
                nodes[path] = len(tokens)
                tokens.append(path[-1])
                parents.append(nodes[path[:-1]] if depth > 1 else -1)
                depths.append(depth - 1)
    answers = []
    for sequence in map(tuple, sequences):
        steps = [((nodes[sequence[:i]] + 1) if i else 0, sequence[i]) for i in range(len(sequence))]
        answers.append(tuple(edges.setdefault(step, len(edges)) for step in steps))
    return AnswerTree(tuple(tokens), tuple(parents), tuple(depths), tuple(edges), tuple(answers))


class Predictor:
    """Scores candidate labels with one model. ``model`` is in evaluation mode; ``most_tokens`` bounds a forward pass (padding included)."""

    def __init__(self, model: nn.Module, encoder: ChatEncoder, task: Classification, most_tokens: int) -> None:
        self.model, self.encoder, self.task, self.most_tokens = model, encoder, task, most_tokens
        self._answers: dict[str, tuple[int, ...]] = {}
        self._trees: dict[tuple[str, ...], AnswerTree] = {}

    def score(self, prompts: Sequence[Prompt], progress: Callable[[int], None] | None = None) -> list[LabelScores]:
        """The scores of each prompt, in the order given. ``progress`` is told the number of prompts done, batch by batch."""
        results: dict[int, LabelScores] = {}
        score = self._score_labels if has_score_head(self.model) else self._score_answers
        shared = _common_beginning([prompt.ids for prompt in prompts]) if runs_by_block(trunk(self.model)) else 0
        extra = [0 if has_score_head(self.model) else len(self._tree(prompt).tokens) for prompt in prompts]
        sizes = [len(prompt.ids) - shared + n for prompt, n in zip(prompts, extra, strict=True)]
        for group in split_by_tokens(sizes, max(1, self.most_tokens - shared)):
            results.update(zip(group, score([prompts[i] for i in group]), strict=True))
            if progress:
                progress(len(group))
        return [results[i] for i in range(len(prompts))]

    def _tree(self, prompt: Prompt) -> AnswerTree:
        choices = self.task.choices(prompt.example)
        if choices not in self._trees:
            for label in choices:
                if label not in self._answers:
                    self._answers[label] = (*self.encoder.text(label), self.encoder.end_of_answer)
            self._trees[choices] = answer_tree([self._answers[label] for label in choices])
        return self._trees[choices]

    def _states(self, prompts: Sequence[Prompt], trees: Sequence[AnswerTree] = ()) -> torch.Tensor:
        """Hidden states, prompt by prompt: its last token's, then those of its tree's inner nodes."""
        nodes = [tree.tokens for tree in trees] or [()] * len(prompts)
        rows = [(*prompt.ids, *tokens) for prompt, tokens in zip(prompts, nodes, strict=True)]
        tokens_BS = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.long)
        for line, row in zip(tokens_BS, rows, strict=True):
            line[: len(row)] = torch.tensor(row)
        asked = [(i, j) for i, row in enumerate(rows) for j in range(len(prompts[i].ids) - 1, len(row))]
        rows_N, columns_N = torch.tensor(asked).T.contiguous()
        tails = [tree.tail for tree in trees] if any(tree.tokens for tree in trees) else []
        lengths_B = torch.tensor([len(row) for row in rows])
        layout = lay_out(tokens_BS, lengths_B, rows_N, columns_N, tails, share=runs_by_block(trunk(self.model)))
        return states(self.model, layout.to(next(self.model.parameters()).device))

    @torch.inference_mode()
    def _score_labels(self, prompts: Sequence[Prompt]) -> list[LabelScores]:
        scores_BL = self.model.score(self._states(prompts)).double().cpu().numpy()  # type: ignore[operator]
        number = {label: i for i, label in enumerate(self.task.labels)}
        results = []
        for prompt, scores in zip(prompts, scores_BL, strict=True):
            choices = self.task.choices(prompt.example)
            logs = _log_softmax(scores[[number[label] for label in choices]])
            results.append(LabelScores(prompt.example.id, choices, logs, np.exp(logs), (1,) * len(choices)))
        return results

    @torch.inference_mode()
    def _score_answers(self, prompts: Sequence[Prompt]) -> list[LabelScores]:
        trees = [self._tree(prompt) for prompt in prompts]
        hidden_NH = self._states(prompts, trees)
        firsts = np.cumsum([0, *(1 + len(tree.tokens) for tree in trees)])
        places = [(int(first) + place, token) for first, tree in zip(firsts, trees, strict=False) for place, token in tree.edges]
        order = sorted(range(len(places)), key=lambda i: places[i][0])
        positions, targets = torch.tensor([places[i] for i in order], device=hidden_NH.device).T
        logs = np.empty(len(places))
        logs[order] = log_probabilities(hidden_NH, output_matrix(self.model), positions.contiguous(), targets).double().cpu().numpy()
        results, start = [], 0
        for prompt, tree in zip(prompts, trees, strict=True):
            steps = logs[start : start + len(tree.edges)]
            start += len(tree.edges)
            answers = np.array([steps[list(answer)].sum() for answer in tree.answers])
            sizes = tuple(len(answer) for answer in tree.answers)
            results.append(LabelScores(prompt.example.id, self.task.choices(prompt.example), answers, np.exp(_log_softmax(answers)), sizes))
        return results


def _common_beginning(rows: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all rows begin with in common, short of the shortest row's last."""
    if not rows:
        return 0
    low, high = min(rows), max(rows)  # in lexicographic order: what these two share, all share
    short = min(map(len, rows)) - 1
    return next((i for i in range(short) if low[i] != high[i]), short)


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
