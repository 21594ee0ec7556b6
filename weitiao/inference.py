"""After a run: judge its model on other rows, and predict labels of new texts."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weitiao.config_tasks import QaTask
from weitiao.data.columns import find_columns, parse_candidates
from weitiao.data.examples import Dataset, load_dataset, load_split
from weitiao.data.read import BadRow, read_rows
from weitiao.errors import DataError
from weitiao.evaluate.judge import Judgement
from weitiao.evaluate.written import Marker
from weitiao.hub.resolve import localise_data, localise_file
from weitiao.judging import judge_of
from weitiao.language import t
from weitiao.prepare import encode_dataset
from weitiao.progress import Reporter
from weitiao.records import Example, Row
from weitiao.replies import Reply, file_examples, replies, text_example
from weitiao.run import Run
from weitiao.tasks.classification import Classification
from weitiao.tuned import Tuned

__all__ = ["OWN_COLUMNS", "Prediction", "Tuned", "as_csv", "evaluate", "json_lines", "predict", "predict_file"]


@dataclass(frozen=True)
class Prediction:
    """The label of one text. ``probabilities`` are over all candidates and sum to 1; ``shortened``: part of the text was left out to
    fit."""

    text: str
    label: str
    probability: float
    probabilities: dict[str, float]
    shortened: bool

    @property
    def shown(self) -> str:
        """For people."""
        return f"{self.label}  {self.probability:.3f}"

    def added(self) -> dict[str, Any]:
        """What a row of a file gets."""
        return {"prediction": self.label, "probability": self.probability, "shortened": self.shortened}

    def as_dict(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "label": self.label,
            "probability": self.probability,
            "probabilities": self.probabilities,
            "shortened": self.shortened,
        }


def predict(
    run: Path | str | Tuned, texts: Sequence[str], reporter: Reporter | None = None, contexts: Sequence[str] | None = None
) -> Sequence[Prediction | Reply]:
    """The labels of texts by the model of a run, or its written replies (qa, generation). ``contexts``: for qa, the passage that each text
    asks about. Raises DataError for a text that is empty, cannot be encoded or does not fit."""
    tuned = run if isinstance(run, Tuned) else Tuned.load(run)
    reporter = reporter or Reporter(quiet=True)
    if contexts is not None and not isinstance(tuned.config.task, QaTask):
        raise DataError("context", t("只用于 qa 任务的结果", "is for results of the qa task"), t("去掉它", "leave it out"))
    found: Sequence[Prediction | Reply | str]
    if tuned.config.task.writes:
        reasons = [_unusable(text) for text in texts]
        asked = [
            reason or text_example(tuned, text, context)
            for reason, text, context in zip(reasons, texts, contexts or [""] * len(texts), strict=True)
        ]
        found = replies(tuned, asked, reporter)
    else:
        found = _predictions(tuned, texts, [()] * len(texts), reporter)
    results = []
    for i, result in enumerate(found):
        if isinstance(result, str):
            raise DataError(t(f"第 {i + 1} 段文本", f"text {i + 1}"), result, t("换一段文本", "give another text"))
        results.append(result)
    return results


def _predictions(
    tuned: Tuned, texts: Sequence[object], candidates: Sequence[tuple[str, ...]], reporter: Reporter
) -> list[Prediction | str]:
    """The label of each text, or the reason why it gets none. ``candidates``: the labels that a text may get; empty for all."""
    predictor, task = tuned.predictor, tuned.task
    assert task is not None  # the predictor says so
    results: list[Prediction | str] = [_unusable(text) or _unknown(task, own) or "" for text, own in zip(texts, candidates, strict=True)]
    good = [i for i, reason in enumerate(results) if not reason]
    examples = [Example(str(i), task.prompt(str(texts[i]), candidates[i]), (), str(texts[i]), "", i + 1, candidates[i]) for i in good]
    prompts = task.encode_prompts(tuned.encoder, examples, tuned.max_tokens, tuned.config.data)
    kept = [prompt for prompt in prompts if prompt is not None]
    with reporter.bar(t("预测", "predicting"), len(kept)) as bar:
        scores = dict(zip((prompt.example.id for prompt in kept), predictor.score(kept, bar.advance), strict=True))
    for i, prompt in zip(good, prompts, strict=True):
        if prompt is None:
            results[i] = t(f"放不进 {tuned.max_tokens} 个词元", f"does not fit into {tuned.max_tokens} tokens")
        else:
            s = scores[str(i)]
            chances = dict(zip(s.candidates, map(float, s.probabilities), strict=True))
            results[i] = Prediction(str(texts[i]), s.prediction, float(s.probabilities.max()), chances, prompt.was_shortened)
    return results


def _unusable(text: object) -> str | None:
    """Why this is no text; numbers count as text, as in training."""
    if isinstance(text, bool) or not isinstance(text, (str, int, float)) or not str(text).strip():
        return t("没有文本", "no text")
    if any("\ud800" <= character <= "\udfff" for character in str(text)):
        return t("不是合法的 UTF-8", "not valid UTF-8")
    return None


def _unknown(task: Classification, candidates: Sequence[str]) -> str | None:
    """Why these candidates cannot be chosen among."""
    unknown = [label for label in candidates if label not in task.labels]
    return (
        t(f"候选里有没学过的类别：{'、'.join(unknown)}", f"candidates that the model never learned: {', '.join(unknown)}")
        if unknown
        else None
    )


OWN_COLUMNS = ("line", "prediction", "probability", "shortened", "cut_off", "confidence", "error")
"""What :func:`predict_file` adds; a column of the file with such a name is kept under its name with ``_input`` behind it."""


def predict_file(tuned: Tuned, source: Path, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """One object per row of a data file, in its order: the row's own values and, under ``prediction``, the label or the written answer. A
    row that gets none keeps its place with ``error``."""
    rows = list(read_rows(source))
    readable = [row for row in rows if isinstance(row, Row)]
    answers: Iterator[Prediction | Reply | str]
    if tuned.config.task.writes:
        answers = iter(replies(tuned, file_examples(tuned, source, readable), reporter))
    else:
        column, own = _text_column(tuned, source), tuned.columns.candidates
        candidates = [parse_candidates(row.values.get(own)) if own else () for row in readable]
        answers = iter(_predictions(tuned, [row.values.get(column) for row in readable], candidates, reporter))
    for row in rows:
        if isinstance(row, BadRow):
            yield {"line": row.line, "error": row.reason}
            continue
        values = {f"{name}_input" if name in OWN_COLUMNS else name: value for name, value in row.values.items()}
        answer = next(answers)
        if isinstance(answer, str):
            yield {"line": row.line, **values, "error": answer}
        else:
            yield {"line": row.line, **values, **answer.added()}


def _text_column(tuned: Tuned, source: Path) -> str:
    sample = [row for _, row in zip(range(200), read_rows(source), strict=False) if isinstance(row, Row)]
    names = list(dict.fromkeys(name for row in sample for name in row.values))
    wanted = tuned.columns.text
    return str(find_columns(names, sample, "text", {"text": wanted if wanted in names else None})[1].text)


def _require_same_files(run: Run, dataset: Dataset) -> None:
    """The run's own test split is only the same rows if the files are the same bytes. Raises DataError."""
    trained_on = {entry["path"]: entry["sha256"] for entry in run.read("data/ledger.json").get("files", [])}
    for path, sha256 in dataset.ledger.hashes.items():
        if trained_on.get(path, sha256) != sha256:
            raise DataError(
                path,
                t(
                    "训练之后文件变了（SHA-256 不同），测试集不再是原来那些行",
                    "has changed since the training (its SHA-256 differs), so the test split is not the same rows",
                ),
                t("还原这个文件，或用 --data 指明要评测的文件", "restore the file, or name the file to judge with --data"),
            )


def evaluate(run: Path | str | Tuned, data: Path | str | None = None, reporter: Reporter | None = None) -> Judgement:
    """Judge the model of a run on a labelled file (or data set on a hub), or again on its own test split (``data`` None). Raises UserError
    or NetworkError."""
    tuned = run if isinstance(run, Tuned) else Tuned.load(run)
    reporter = reporter or Reporter(quiet=True)
    if data is None:
        dataset: Dataset = load_dataset(localise_data(tuned.config, reporter).config)
        _require_same_files(tuned.run, dataset)
        if not dataset.splits["test"]:
            raise DataError(
                str(tuned.run.path),
                t("这次运行没有测试集", "this run has no test split"),
                t("用 --data 给一个文件", "give a file: --data FILE"),
            )
        dataset = Dataset({"train": [], "validation": [], "test": dataset.splits["test"]}, tuned.task, dataset.ledger, dataset.layout)
    else:
        dataset = load_split(tuned.config, localise_file(tuned.config, str(data), reporter), tuned.task)
    rows = encode_dataset(tuned.config, tuned.encoder, dataset, tuned.max_tokens, reporter)
    rows = replace(rows, trees={split: tuned.with_reference(trees) for split, trees in rows.trees.items() if trees})
    judge = judge_of(tuned.model, tuned.encoder, tuned.config, rows, "test", Marker.of(tuned.config), None)
    assert judge is not None  # a split without rows was refused
    with reporter.bar(t("评测", "evaluating"), judge.steps) as bar:
        return judge.judge(bar.advance)


def json_lines(values: Iterable[dict[str, Any]]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV with a BOM (for Excel); cells that a spreadsheet would run as a formula are quoted with an apostrophe."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        cells = ["" if row.get(name) is None else str(row[name]) for name in names]
        writer.writerow([f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell for cell in cells])
    return "\ufeff" + buffer.getvalue()
