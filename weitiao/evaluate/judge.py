"""One model on one split: predictions, metrics, and comparisons on the same rows."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import nn

from weitiao.data.batch import make_batch, split_by_tokens
from weitiao.evaluate import metrics
from weitiao.evaluate.baselines import BASELINES
from weitiao.evaluate.predict import LabelScores, Predictor
from weitiao.evaluate.statistics import bootstrap, mcnemar, paired_difference
from weitiao.model.heads import has_score_head, output_matrix
from weitiao.model.logprobs import log_probabilities
from weitiao.model.states import states
from weitiao.records import Example, Passage
from weitiao.tasks.classification import Classification, Prompt

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Judgement:
    """What ``evaluation/<name>.json`` and its predictions file hold."""

    evaluation: dict[str, Any]
    predictions: list[dict[str, Any]]

    @property
    def correct(self) -> np.ndarray:
        """Whether each row's prediction is right [n]."""
        return np.array([row["correct"] for row in self.predictions], dtype=bool)

    def value(self, metric: str) -> float:
        """One metric's value."""
        return float(self.evaluation["metrics"][metric]["value"])


def judge_labels(predictor: Predictor, prompts: Sequence[Prompt], seed: int, progress: Progress | None = None) -> Judgement:
    """Score every candidate label of every row and compare with the right ones. ``loss`` is −log p of the right answer in nats per answer
    token, the quantity that training lowers; its interval is a bootstrap over rows."""
    start = time.perf_counter()
    scores = predictor.score(prompts, progress)
    seconds = time.perf_counter() - start
    labels, gold = predictor.task.labels, [p.example.targets[0] for p in prompts]
    evaluation = metrics.classification(gold, [s.prediction for s in scores], labels, _table(scores, labels), seed)
    nats, tokens = _losses(scores, gold)
    if not has_score_head(predictor.model):  # a score head's loss per label is log_loss; per answer token there is none
        evaluation["metrics"]["loss"] = bootstrap(lambda rows: float(nats[rows].sum() / tokens[rows].sum()), len(nats), seed).as_dict()
    evaluation |= {"seconds": seconds, "rows_per_second": len(prompts) / seconds}
    rows = [_prediction(*item) for item in zip(prompts, scores, gold, nats / tokens, strict=True)]
    return Judgement(evaluation, rows)


def _table(scores: Sequence[LabelScores], labels: Sequence[str]) -> np.ndarray:
    """Probabilities [n, L] in the order of ``labels``, 0 where a label is no candidate."""
    number = {label: i for i, label in enumerate(labels)}
    table = np.zeros((len(scores), len(labels)))
    for row, score in zip(table, scores, strict=True):
        row[[number[c] for c in score.candidates]] = score.probabilities
    return table


def _prediction(prompt: Prompt, score: LabelScores, gold: str, loss: float) -> dict[str, Any]:
    return {
        "id": prompt.example.id,
        "file": prompt.example.file,
        "line": prompt.example.line,
        "text": prompt.example.document,
        "label": gold,
        "prediction": score.prediction,
        "probability": float(score.probabilities.max()),
        "probabilities": {c: float(p) for c, p in zip(score.candidates, score.probabilities, strict=True)},
        "correct": score.prediction == gold,
        "loss": float(loss),
    }


def validate_labels(predictor: Predictor, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Accuracy, macro F1 and loss during training: values without intervals, with their n."""
    scores = predictor.score(prompts)
    gold, predicted = [p.example.targets[0] for p in prompts], [s.prediction for s in scores]
    nats, tokens = _losses(scores, gold)
    return {
        "loss": float(nats.sum() / tokens.sum()),
        "accuracy": float(np.mean([a == b for a, b in zip(gold, predicted, strict=True)])),
        "macro_f1": float(f1_score(gold, predicted, average="macro", zero_division=0)),
        "n": len(prompts),
    }


def _losses(scores: Sequence[LabelScores], gold: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """−log p (nats) and length (tokens) of each right answer [n]."""
    chosen = [s.candidates.index(label) for s, label in zip(scores, gold, strict=True)]
    nats = np.array([-s.log_probabilities[i] for s, i in zip(scores, chosen, strict=True)])
    return nats, np.array([s.answer_tokens[i] for s, i in zip(scores, chosen, strict=True)])


def validate_text(model: nn.Module, passages: Sequence[Passage], most_tokens: int) -> dict[str, Any]:
    """Loss, perplexity and bits per character during training, with the number of passages (documents, or chats)."""
    nats, tokens = _passage_losses(model, passages, most_tokens, None)
    loss = float(nats.sum() / tokens.sum())
    characters = sum(passage.characters for passage in passages)
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700)),
        "bits_per_character": float(nats.sum()) / math.log(2) / max(1, characters),
        "n": len(passages),
    }


def judge_text(
    model: nn.Module, task: str, passages: Sequence[Passage], most_tokens: int, seed: int, progress: Progress | None = None
) -> Judgement:
    """The loss of held-out passages: documents, each read alone from its beginning, or the trained answers of chats (``task`` says which).
    Intervals are a bootstrap over passages."""
    start = time.perf_counter()
    nats, tokens = _passage_losses(model, passages, most_tokens, progress)
    seconds = time.perf_counter() - start
    each = [(float(n), int(k), max(1, p.characters)) for n, k, p in zip(nats, tokens, passages, strict=True)]
    characters = sum(c for _, _, c in each)
    evaluation = metrics.language_modelling(float(nats.sum()), int(tokens.sum()), characters, each, seed) | {"task": task}
    rows = [
        {"id": p.example.id, "file": p.example.file, "line": p.example.line, "nats": n, "tokens": k, "characters": c}
        for p, (n, k, c) in zip(passages, each, strict=True)
    ]
    return Judgement(evaluation | {"seconds": seconds, "rows_per_second": len(passages) / seconds}, rows)


@torch.inference_mode()
def _passage_losses(
    model: nn.Module, passages: Sequence[Passage], most_tokens: int, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray]:
    """−log p (nats) and number of targets of each passage [n]; ``progress`` counts blocks."""
    blocks = [(i, block) for i, passage in enumerate(passages) for block in passage.blocks]
    nats, tokens = np.zeros(len(passages)), np.zeros(len(passages), dtype=int)
    device = next(model.parameters()).device
    for group in split_by_tokens([len(block.tokens) for _, block in blocks], most_tokens):
        batch = make_batch([blocks[j][1] for j in group]).to(device)
        hidden_NH = states(model, batch.layout)
        logs = log_probabilities(hidden_NH, output_matrix(model), torch.arange(len(hidden_NH), device=device), batch.targets_N)
        owners = [blocks[group[row]][0] for row in batch.rows_N.tolist()]
        np.subtract.at(nats, owners, logs.double().cpu().numpy())
        np.add.at(tokens, owners, 1)
        if progress:
            progress(len(group))
    return nats, tokens


def judge_baselines(
    task: Classification, train: Sequence[Example], test: Sequence[Example], seed: int
) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, Any]]]:
    """The simple methods on the same rows: ``evaluation/baselines.json``, whether each row is right by baseline, and the predictions."""
    candidates = [example.candidates for example in test] if any(example.candidates for example in test) else None
    gold = [example.targets[0] for example in test]
    entries, correct = [], {}
    predictions: list[dict[str, Any]] = [{"id": e.id, "label": label} for e, label in zip(test, gold, strict=True)]
    for baseline in BASELINES:
        start = time.perf_counter()
        texts, labels = [e.document for e in train], [e.targets[0] for e in train]
        answer = baseline.fit(texts, labels, seed)
        fit_seconds = time.perf_counter() - start
        answers = answer([e.document for e in test], candidates)
        seconds = time.perf_counter() - start
        result = metrics.classification(gold, answers, task.labels, None, seed)
        times = {"seconds": seconds, "fit_seconds": fit_seconds, "rows_per_second": len(test) / max(seconds - fit_seconds, 1e-6)}
        entries.append({"name": baseline.name, "title": {"zh": baseline.zh, "en": baseline.en}, "metrics": result["metrics"], **times})
        correct[baseline.name] = np.array([a == b for a, b in zip(answers, gold, strict=True)])
        for row, given in zip(predictions, answers, strict=True):
            row[baseline.name] = given
    return {"n": len(test), "baselines": entries}, correct, predictions


def compare(after: np.ndarray, others: Mapping[str, np.ndarray], seed: int) -> dict[str, Any]:
    """``evaluation/comparison.json``: accuracy after training against each other method on the same rows."""
    pairs = [
        {"a": "after", "b": name, "difference": paired_difference(after, other, seed).as_dict(), "mcnemar": mcnemar(after, other)}
        for name, other in others.items()
    ]
    return {"n": len(after), "metric": "accuracy", "pairs": pairs}
