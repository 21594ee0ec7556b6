"""Examples → written answers as text, and the judgement of a model by the answers that it writes to test rows."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from weitiao.config import RunConfig
from weitiao.config_tasks import GenerationTask
from weitiao.data.json_schema import load_checker
from weitiao.data.render import ChatEncoder
from weitiao.evaluate.generate import generate
from weitiao.evaluate.grammar import Grammar
from weitiao.evaluate.judge import Judgement, judge_text
from weitiao.evaluate.written import Marker, chosen_rows, shown_prompt
from weitiao.language import t
from weitiao.model.heads import output_matrix
from weitiao.records import Example, Passage
from weitiao.tasks.generation import with_calls_written

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Written:
    """An answer as text; ``tokens`` without the end token, ``cut_off``: it was not over where it had to stop; ``confidence``: the geometric
    mean of its tokens' probabilities."""

    text: str
    tokens: int
    cut_off: bool
    confidence: float


def write_answers(
    model: nn.Module, encoder: ChatEncoder, config: RunConfig, examples: Sequence[Example], progress: Progress | None = None
) -> list[Written]:
    """The model's answer to each example's prompt, as `evaluate.decoding` says."""
    prompts = encoder.prompts(examples)
    ends = {encoder.end_of_answer, encoder.end_of_text}
    settings, grammar = config.evaluate, None
    if settings.decoding.constrained and isinstance(config.task, GenerationTask) and config.task.json_schema is not None:
        grammar = Grammar.of(load_checker(config.task.json_schema), encoder, len(output_matrix(model)), ends)
    answers = generate(model, prompts, ends, settings.decoding, config.seed, settings.batch_tokens, progress=progress, grammar=grammar)
    return [
        Written(
            encoder.spelled(answer.content),
            len(answer.content),
            not answer.ended,
            math.exp(sum(answer.log_probabilities) / len(answer.log_probabilities)),
        )
        for (answer,) in answers
    ]


def num_steps(config: RunConfig, passages: Sequence[Passage]) -> int:
    """How often :func:`judge_written` tells of its progress."""
    return sum(len(passage.blocks) for passage in passages) + len(_answered(config, passages))


def _answered(config: RunConfig, passages: Sequence[Passage]) -> list[int]:
    return chosen_rows(len(passages), config.evaluate.answers if config.task.writes else 0, config.seed)


def judge_written(
    model: nn.Module,
    encoder: ChatEncoder,
    config: RunConfig,
    marker: Marker,
    passages: Sequence[Passage],
    progress: Progress | None = None,
) -> Judgement:
    """The loss of texts or good answers (every row) and, where the task is one of writing, the scores of answers that the model writes
    (`evaluate.answers` of them). A prediction has both; the answer's part is absent where none was written."""
    judged = judge_text(model, config.task.kind, passages, config.evaluate.batch_tokens, config.seed, progress)
    places = _answered(config, passages)
    if not places:
        return judged
    start = time.perf_counter()
    examples = [passages[place].example for place in places]
    answers = write_answers(model, encoder, config, examples, progress)
    seconds = time.perf_counter() - start
    rows = [_row(example, answer) for example, answer in zip(with_calls_written(encoder, examples), answers, strict=True)]
    marks, each = marker.mark(rows)
    for place, row, own in zip(places, rows, each, strict=True):
        judged.predictions[place].update({**row, "scores": own})
    evaluation = judged.evaluation
    tokens = sum(answer.tokens for answer in answers)
    written = {"n": len(rows), "decoding": config.evaluate.decoding.model_dump(), "seconds": seconds, "tokens_per_second": tokens / seconds}
    metrics = marks.pop("metrics") | evaluation["metrics"]
    return Judgement({**evaluation, "metrics": metrics, **marks, "written": written}, judged.predictions)


def written_note(judged: Judgement) -> str:
    """What the user should know of how the answers were written."""
    if "written" not in judged.evaluation:
        return t("没有写回答（evaluate.answers: 0）", "no answers were written (evaluate.answers: 0)")
    written, cut = judged.evaluation["written"], judged.evaluation["cut_off_rate"]
    n, total, share = written["n"], judged.evaluation["n"], f"{100 * cut['value']:.0f} %"
    return t(
        f"写了 {n} 条回答（测试集 {total} 行），{written['tokens_per_second']:,.0f} 词元/秒；{share} 到 max_new_tokens 还没写完",
        f"{n} answers written (test split: {total} rows), {written['tokens_per_second']:,.0f} tokens/s; {share} not over at max_new_tokens",
    )


def _row(example: Example, answer: Written) -> dict[str, Any]:
    return {
        "prompt": shown_prompt(example),
        "answers": list(example.targets),
        "prediction": answer.text,
        "answer_tokens": answer.tokens,
        "cut_off": answer.cut_off,
        "confidence": answer.confidence,
    }
