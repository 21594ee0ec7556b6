"""Answers written to test rows and what they are worth: the scores of each, their means with intervals, before against after.

A row's scores are in its prediction under ``scores``; a metric is their mean over rows with a bootstrap interval (a share of rows:
Wilson's). chrF and BLEU are sacrebleu's for the whole corpus (0 to 100); their intervals resample rows' statistics.
References: Popović (2015); Papineni et al. (2002); Post (2018), arXiv:1804.08771.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from weitiao.config import RunConfig
from weitiao.config_tasks import GenerationTask, QaTask
from weitiao.data.json_schema import Checker, grammar_of, load_checker
from weitiao.evaluate import scores
from weitiao.evaluate.statistics import bootstrap, bootstrap_many, mcnemar, sign_flip, wilson
from weitiao.own_code import load_function, numbers
from weitiao.records import Estimate, Example

Row = dict[str, Any]
"""What is known of one written answer: ``prediction``, ``answers`` (the good ones), ``prompt``, ``answer_tokens``, ``cut_off``."""
SHARES = ("exact_match", "json_valid", "schema_valid", "abstained")
"""Scores that are 1 or 0 of each row."""
_CHINESE = re.compile("[\u3400-\u9fff]")


def chosen_rows(number: int, wanted: int | None, seed: int) -> list[int]:
    """Which rows get a written answer, in their order: all, or ``wanted`` of them by seed."""
    if wanted is None or wanted >= number:
        return list(range(number))
    return sorted(random.Random(seed).sample(range(number), wanted))


@dataclass(frozen=True)
class Marker:
    """Marks written answers as the task and the configuration say."""

    config: RunConfig
    own: dict[str, Callable[..., Any]] = field(default_factory=dict)
    checker: Checker | None = None

    @classmethod
    def of(cls, config: RunConfig) -> "Marker":
        """The marker of a configuration. Raises ConfigError for a function that cannot be had, or a schema that is none."""
        own = {name: load_function(name, "evaluate.metrics") for name in config.evaluate.metrics}
        schema = config.task.json_schema if isinstance(config.task, GenerationTask) else None
        checker = None if schema is None else load_checker(schema)
        if checker is not None and config.evaluate.decoding.constrained:
            grammar_of(checker)  # refused before the training
        return cls(config, own, checker)

    def try_own(self, examples: Sequence[Example]) -> None:
        """Call the user's functions once with good answers, so that a mistake shows before hours of training. Raises ConfigError."""
        self._own_scores([{"prediction": e.targets[0], "answers": list(e.targets), "prompt": shown_prompt(e)} for e in examples[:2]])

    def mark(self, rows: Sequence[Row]) -> tuple[dict[str, Any], list[dict[str, float]]]:
        """The evaluation of written answers (metrics, shares, diversity) and the scores of each row."""
        each = [self._row_scores(row) for row in rows]
        for name, values in self._own_scores(rows).items():
            for own, value in zip(each, values, strict=True):
                own[name] = value
        seed, n = self.config.seed, len(rows)
        metrics = _means(each, seed)
        if isinstance(self.config.task, QaTask):
            metrics |= self._abstaining(rows, each, seed)
        else:
            metrics |= _corpus_metrics(rows, seed)
        answers = [row["prediction"] for row in rows]
        result = {
            "metrics": {name: estimate.as_dict() for name, estimate in metrics.items()},
            "cut_off_rate": wilson(sum(row["cut_off"] for row in rows), n).as_dict(),
            "empty_rate": wilson(sum(not answer.strip() for answer in answers), n).as_dict(),
            "diversity": {f"distinct_{k}": scores.distinct(answers, k) for k in (1, 2)} | {"n": n},
        }
        return result, each

    def _row_scores(self, row: Row) -> dict[str, float]:
        answer, references = row["prediction"], row["answers"]
        if isinstance(self.config.task, QaTask):
            if self.abstains(answer) or self._is_unanswerable(references):
                right = float(self.abstains(answer) and self._is_unanswerable(references))
                return {"f1": right, "exact_match": right, "rouge_l": right}
            return {
                "f1": scores.token_f1(answer, references), "exact_match": scores.exact_match(answer, references),
                "rouge_l": scores.rouge_l(answer, references),
            }  # fmt: skip
        found = {"rouge_l": scores.rouge_l(answer, references)}
        if all(scores.is_json(reference) for reference in references):
            fields = scores.field_f1(answer, references)
            found = {"field_f1": fields, "exact_match": float(fields == 1), "json_valid": scores.is_json(answer), **found}
            if self.checker is not None:
                found["schema_valid"] = float(self.checker.fault(answer) is None)
        return found

    def abstains(self, answer: str) -> bool:
        """Whether an answer says that the passage does not hold one."""
        word = self.config.task.unanswerable if isinstance(self.config.task, QaTask) else None
        return word is not None and bool(scores.exact_match(answer, [word]))

    def _is_unanswerable(self, references: Sequence[str]) -> bool:
        return all(self.abstains(reference) for reference in references)

    def _abstaining(self, rows: Sequence[Row], each: Sequence[dict[str, float]], seed: int) -> dict[str, Estimate]:
        """Rows with an answer by themselves, and how well the model tells those without one; nothing where every row has an answer."""
        none = np.array([self._is_unanswerable(row["answers"]) for row in rows])
        silent = np.array([self.abstains(row["prediction"]) for row in rows])
        if not none.any():
            return {}
        found = {"abstention_recall": wilson(int((silent & none).sum()), int(none.sum()))}
        if silent.any():
            found["abstention_precision"] = wilson(int((silent & none).sum()), int(silent.sum()))
        if not none.all():
            found["answered_f1"] = _mean(np.array([own["f1"] for own in each])[~none], seed)
            found["answered_exact_match"] = wilson(
                int(sum(own["exact_match"] for own, no in zip(each, none, strict=True) if not no)), int((~none).sum())
            )
        return found

    def _own_scores(self, rows: Sequence[Row]) -> dict[str, list[float]]:
        """What the user's functions say, by their names without the module."""
        columns = [row["prompt"] for row in rows], [row["prediction"] for row in rows], [row["answers"] for row in rows]
        return {
            name.partition(":")[2]: numbers(function, name, "evaluate.metrics", len(rows), *columns) if rows else []
            for name, function in self.own.items()
        }


def shown_prompt(example: Example) -> str:
    """What the user said last."""
    return next((turn.content for turn in reversed(example.prompt) if turn.role == "user"), "")


def _mean(values: np.ndarray, seed: int) -> Estimate:
    return bootstrap(lambda rows: float(values[rows].mean()), len(values), seed)


def _means(each: Sequence[dict[str, float]], seed: int) -> dict[str, Estimate]:
    """The mean of each score over the rows that have it; the user's own first."""
    names = list(dict.fromkeys(name for own in each for name in own))
    found = {}
    for name in names:
        values = np.array([own[name] for own in each if name in own])
        found[name] = wilson(int(values.sum()), len(values)) if name in SHARES else _mean(values, seed)
    return found


def _corpus_metrics(rows: Sequence[Row], seed: int) -> dict[str, Estimate]:
    """chrF and BLEU of the corpus, the answers' mean length in tokens, and their characters over the good answers'."""
    answers = [row["prediction"] for row in rows]
    most = max(len(row["answers"]) for row in rows)
    streams: Any = [[row["answers"][i] if i < len(row["answers"]) else None for row in rows] for i in range(most)]
    found = {}
    for name, metric in (("chrf", CHRF()), ("bleu", BLEU(tokenize=bleu_tokenizer(rows)))):
        statistics = np.array(metric._extract_corpus_statistics(answers, streams))

        def value(chosen: np.ndarray, metric: Any = metric, statistics: np.ndarray = statistics) -> float:
            return float(metric._compute_score_from_stats(statistics[chosen].sum(axis=0).tolist()).score)

        found[name] = bootstrap(value, len(rows), seed)
    lengths = np.array([[row["answer_tokens"], len(row["prediction"]), len(row["answers"][0])] for row in rows], dtype=float)
    tokens, ratio = bootstrap_many(
        lambda chosen: np.array([lengths[chosen, 0].mean(), lengths[chosen, 1].sum() / lengths[chosen, 2].sum()]), len(rows), seed
    )
    return found | {"answer_tokens": tokens, "length_ratio": ratio}


def bleu_tokenizer(rows: Sequence[Row]) -> str:
    """sacrebleu's tokeniser: by character where the good answers are Chinese, else its usual one."""
    return "zh" if any(_CHINESE.search(answer) for row in rows for answer in row["answers"]) else "13a"


def compare_written(after: Sequence[Row], before: Sequence[Row], seed: int) -> dict[str, Any]:
    """``evaluation/comparison.json``: after against before on the same rows, for each score that rows have; the first is the main one."""
    former = {row["id"]: row["scores"] for row in before if "scores" in row}
    pairs = [(row["scores"], former[row["id"]]) for row in after if "scores" in row and row["id"] in former]
    names = [name for name in (pairs[0][0] if pairs else ()) if all(name in a and name in b for a, b in pairs)]
    entries = []
    for name in names:
        a, b = (np.array([pair[side][name] for pair in pairs]) for side in (0, 1))
        difference = _mean(a - b, seed).as_dict()
        test = {"mcnemar": mcnemar(a == 1, b == 1)} if name in SHARES else {"sign_flip": {"p_value": sign_flip(a - b, seed)}}
        entries.append({"a": "after", "b": "before", "metric": name, "difference": difference, **test})
    return {"n": len(pairs), "metric": names[0] if names else None, "pairs": entries}
