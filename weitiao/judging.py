"""How the rows of a run are judged: the one place that says which of evaluate/'s ways belongs to what was encoded."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from weitiao.config import RunConfig
from weitiao.data.render import ChatEncoder
from weitiao.evaluate.answers import judge_written, num_steps
from weitiao.evaluate.judge import Judgement, judge_labels, validate_labels, validate_text
from weitiao.evaluate.pairs import judge_pairs, validate_pairs
from weitiao.evaluate.predict import Predictor
from weitiao.evaluate.written import Marker
from weitiao.objectives import choose_objective
from weitiao.prepare import Prepared
from weitiao.records import SplitName
from weitiao.rollouts import Writer, asked_of, judge_answers, validate_answers


@dataclass(frozen=True)
class Judge:
    """How a model is judged on the rows of a split: with predictions and intervals, telling ``steps`` times of its progress; or during
    training, by values alone."""

    steps: int
    judge: Callable[[Callable[[int], None]], Judgement]
    validate: Callable[[], dict[str, Any]]


def judge_of(
    model: nn.Module, encoder: ChatEncoder, config: RunConfig, data: Prepared, split: SplitName, marker: Marker, writer: Writer | None
) -> Judge | None:
    """The judge of a model on a split; None: it has no rows. ``writer``: answers are judged by their rewards."""
    most, seed, task = config.evaluate.batch_tokens, config.seed, config.task.kind
    if not data.shown(split):
        return None
    if writer:
        asked = asked_of(data, encoder, split)
        return Judge(len(asked), partial(judge_answers, writer, asked, task, seed), partial(validate_answers, writer, asked, seed))
    if data.task:
        prompts, predictor = data.prompts[split], Predictor(model, encoder, data.task, most)
        return Judge(len(prompts), partial(judge_labels, predictor, prompts, seed), partial(validate_labels, predictor, prompts))
    if trees := data.trees.get(split):
        objective = choose_objective(config.objective, model)
        judge = partial(judge_pairs, model, data.examples(split), trees, most, seed)
        return Judge(len(trees), judge, partial(validate_pairs, model, objective, trees, most))
    passages = data.passages[split]
    judge = partial(judge_written, model, encoder, config, marker, passages)
    return Judge(num_steps(config, passages), judge, partial(validate_text, model, passages, most))
