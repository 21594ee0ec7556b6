"""The Predictor: how likely each candidate answer is for each prompt. Shared by evaluation and `weitiao predict`.

Language model: the exact log-probability of every candidate's whole text and its end token. The prompts run once; their keys and values are
then used by all candidates, laid out as a tree (candidates that begin alike share their beginning) whose tokens see the prompt and their
ancestors only. `score` head: the scores of the labels at the prompt's last token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from weitiao.data.batch import split_by_tokens
from weitiao.data.render import ChatEncoder
from weitiao.model.heads import has_score_head, output_matrix, trunk
from weitiao.model.logprobs import log_probabilities
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
        extra = [len(self._tree(prompt).tokens) if not has_score_head(self.model) else 0 for prompt in prompts]
        for group in split_by_tokens([len(p.ids) + n for p, n in zip(prompts, extra, strict=True)], self.most_tokens):
            members = [prompts[i] for i in group]
            scored = self._score_labels(members) if has_score_head(self.model) else self._score_answers(members)
            results.update(zip(group, scored, strict=True))
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

    def _pad(self, prompts: Sequence[Prompt]) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = torch.tensor([len(p.ids) for p in prompts])
        tokens = torch.zeros((len(prompts), int(lengths.max())), dtype=torch.long)
        for row, prompt in zip(tokens, prompts, strict=True):
            row[: len(prompt.ids)] = torch.tensor(prompt.ids)
        device = next(self.model.parameters()).device
        return tokens.to(device), lengths.to(device)

    @torch.inference_mode()
    def _score_labels(self, prompts: Sequence[Prompt]) -> list[LabelScores]:
        tokens_BS, lengths_B = self._pad(prompts)
        hidden_BSH = trunk(self.model)(input_ids=tokens_BS, use_cache=False).last_hidden_state
        last_BH = hidden_BSH[torch.arange(len(prompts), device=hidden_BSH.device), lengths_B - 1]
        scores_BL = self.model.score(last_BH).double().cpu().numpy()  # type: ignore[operator]
        number = {label: i for i, label in enumerate(self.task.labels)}
        results = []
        for prompt, scores in zip(prompts, scores_BL, strict=True):
            choices = self.task.choices(prompt.example)
            logs = _log_softmax(scores[[number[label] for label in choices]])
            results.append(LabelScores(prompt.example.id, choices, logs, np.exp(logs), (1,) * len(choices)))
        return results

    @torch.inference_mode()
    def _score_answers(self, prompts: Sequence[Prompt]) -> list[LabelScores]:
        tokens_BS, lengths_B = self._pad(prompts)
        trees = [self._tree(prompt) for prompt in prompts]
        out = trunk(self.model)(input_ids=tokens_BS, use_cache=any(tree.tokens for tree in trees))
        rows = torch.arange(len(prompts), device=tokens_BS.device)
        hidden_BTH = out.last_hidden_state[rows, lengths_B - 1, None]
        if any(tree.tokens for tree in trees):
            tree_BTH = self._run_trees(trees, lengths_B, tokens_BS.shape[1], out.past_key_values)
            hidden_BTH = torch.cat([hidden_BTH, tree_BTH], dim=1)
        places = [(b, place, token) for b, tree in enumerate(trees) for place, token in tree.edges]
        width = hidden_BTH.shape[1]
        order = sorted(range(len(places)), key=lambda i: (places[i][0], places[i][1]))
        positions = torch.tensor([places[i][0] * width + places[i][1] for i in order], device=tokens_BS.device)
        targets = torch.tensor([places[i][2] for i in order], device=tokens_BS.device)
        logs = np.empty(len(places))
        logs[order] = log_probabilities(hidden_BTH.flatten(0, 1), output_matrix(self.model), positions, targets).double().cpu().numpy()
        results, start = [], 0
        for prompt, tree in zip(prompts, trees, strict=True):
            steps = logs[start : start + len(tree.edges)]
            start += len(tree.edges)
            answers = np.array([steps[list(answer)].sum() for answer in tree.answers])
            sizes = tuple(len(answer) for answer in tree.answers)
            results.append(LabelScores(prompt.example.id, self.task.choices(prompt.example), answers, np.exp(_log_softmax(answers)), sizes))
        return results

    def _run_trees(self, trees: Sequence[AnswerTree], lengths_B: torch.Tensor, prompt_width: int, cache: object) -> torch.Tensor:
        """Hidden states [B, T, H] of the trees' inner nodes. Each node sees its row's real prompt tokens, its ancestors and itself."""
        device, width = lengths_B.device, max(len(tree.tokens) for tree in trees)
        tokens_BT = torch.zeros((len(trees), width), dtype=torch.long)
        depths_BT = torch.zeros((len(trees), width), dtype=torch.long)
        sees_BTT = torch.eye(width, dtype=torch.bool).repeat(len(trees), 1, 1)
        for b, tree in enumerate(trees):
            if tree.tokens:
                tokens_BT[b, : len(tree.tokens)] = torch.tensor(tree.tokens)
                depths_BT[b, : len(tree.tokens)] = torch.tensor(tree.depths)
            for node, parent in enumerate(tree.parents):  # parents stand before their children
                if parent >= 0:
                    sees_BTT[b, node] |= sees_BTT[b, parent]
        sees_prompt_BS = torch.arange(prompt_width, device=device) < lengths_B[:, None]
        mask_BTK = torch.cat([sees_prompt_BS[:, None].expand(-1, width, -1), sees_BTT.to(device)], dim=2)
        out = trunk(self.model)(
            input_ids=tokens_BT.to(device),
            position_ids=lengths_B[:, None] + depths_BT.to(device),
            attention_mask=mask_BTK[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        return out.last_hidden_state  # type: ignore[no-any-return]


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
