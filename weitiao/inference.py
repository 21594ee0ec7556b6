"""After a run: judge its model on other rows, and predict labels of new texts."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from weitiao.config import RunConfig
from weitiao.config_tasks import ClassificationTask, GenerationTask, PreferenceTask
from weitiao.data.columns import Columns, find_columns, parse_candidates
from weitiao.data.examples import Dataset, load_dataset, load_split
from weitiao.data.read import BadRow, read_rows
from weitiao.data.render import ChatEncoder
from weitiao.errors import DataError
from weitiao.evaluate.judge import Judgement, judge_labels, judge_text
from weitiao.evaluate.pairs import judge_pairs
from weitiao.evaluate.predict import Predictor
from weitiao.hub.resolve import localise_data
from weitiao.language import t
from weitiao.model.load import load_tokenizer
from weitiao.model.result import load_result
from weitiao.model.trees import base_weights, score_trees, with_reference
from weitiao.prepare import encode_passages, encode_preferences, encode_prompts
from weitiao.progress import Reporter
from weitiao.records import Example, Row, Tree
from weitiao.run import Run
from weitiao.tasks.classification import Classification
from weitiao.tasks.text import encode_documents


@dataclass(frozen=True)
class Tuned:
    """The model of a finished run, ready to answer."""

    run: Run
    config: RunConfig
    model: nn.Module
    encoder: ChatEncoder
    task: Classification | None
    max_tokens: int
    columns: Columns
    """The columns of the training file."""

    @classmethod
    def load(cls, path: Path | str) -> "Tuned":
        """Load the result of a run folder. Raises DataError or ModelError."""
        run = Run.open(path)
        if not (run.path / "model").is_dir():
            state = run.record.get("state")
            raise DataError(
                str(run.path),
                t(f"还没有训练结果（state: {state}）", f"has no result yet (state: {state})"),
                t("先把训练跑完：weitiao train", "finish the training: weitiao train"),
            )
        config = run.config
        model, folder, card = load_result(run.path / "model", config.model)
        encoder = ChatEncoder(load_tokenizer(folder), str(folder.path))
        task = Classification(config.task, tuple(card["labels"])) if isinstance(config.task, ClassificationTask) else None
        return cls(run, config, model, encoder, task, int(card["max_tokens"]), Columns(**card["columns"]))

    def with_reference(self, trees: Sequence[Tree]) -> Sequence[Tree]:
        """Pairs with what the base model says of them, where it is at hand: under an adapter."""
        if self.config.method.kind != "lora" or self.config.objective.kind == "reward":
            return trees
        with base_weights(self.model) as base:
            return with_reference(trees, score_trees(base, trees, self.config.evaluate.batch_tokens))

    @property
    def predictor(self) -> Predictor:
        """Scores labels. Raises DataError for a run of another task."""
        if isinstance(self.config.task, PreferenceTask):
            raise DataError(
                str(self.run.path),
                t("这是 preference 任务的结果，没有标签可预测", "the result of a preference task, which has no labels to predict"),
                t(
                    "evaluate 在成对的回答上评测它；用它生成：model=这个文件夹/model",
                    "evaluate judges it on pairs; to build on it: model=THIS_FOLDER/model",
                ),
            )
        if isinstance(self.config.task, GenerationTask):
            raise DataError(
                str(self.run.path),
                t("这是 generation 任务的结果；生成回答在以后的版本里", "the result of a generation task; writing answers comes later"),
                t("用 transformers 载入 model/；损失用 evaluate", "load model/ with transformers; evaluate gives its loss"),
            )
        if self.task is None:
            raise DataError(
                str(self.run.path),
                t("这是预训练的结果，不是分类器", "this is the result of pre-training, not a classifier"),
                t("用它作基础模型：model=这个文件夹/model", "use it as a base model: model=THIS_FOLDER/model"),
            )
        return Predictor(self.model, self.encoder, self.task, self.config.evaluate.batch_tokens)


@dataclass(frozen=True)
class Prediction:
    """The label of one text. ``probabilities`` are over all candidates and sum to 1; ``shortened``: part of the text was left out to
    fit."""

    text: str
    label: str
    probability: float
    probabilities: dict[str, float]
    shortened: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "label": self.label,
            "probability": self.probability,
            "probabilities": self.probabilities,
            "shortened": self.shortened,
        }


def predict(run: Path | str | Tuned, texts: Sequence[str], reporter: Reporter | None = None) -> list[Prediction]:
    """The labels of texts by the model of a run. Raises DataError for a text that is empty, cannot be encoded or does not fit."""
    tuned = run if isinstance(run, Tuned) else Tuned.load(run)
    results = []
    for i, result in enumerate(_predictions(tuned, texts, [()] * len(texts), reporter or Reporter(quiet=True))):
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


OWN_COLUMNS = ("line", "prediction", "probability", "shortened", "error")
"""What :func:`predict_file` adds; a column of the file with such a name is kept under its name with ``_input`` behind it."""


def predict_file(tuned: Tuned, source: Path, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """One object per row of a data file, in its order: the row's own values and, under ``prediction``, the label. A row that gets none
    keeps its place with ``error``."""
    column = _text_column(tuned, source)
    rows = list(read_rows(source))
    readable = [row for row in rows if isinstance(row, Row)]
    own = tuned.columns.candidates
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
            added = {"prediction": answer.label, "probability": answer.probability, "shortened": answer.shortened}
            yield {"line": row.line, **values, **added}


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
    """Judge the model of a run on a labelled file, or again on its own test split (``data`` None). Raises DataError or ModelError."""
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
        dataset = Dataset({"train": [], "validation": [], "test": dataset.splits["test"]}, tuned.task, dataset.ledger, dataset.columns)
    else:
        dataset = load_split(tuned.config, str(data), tuned.task)
    seed, most = tuned.config.seed, tuned.config.evaluate.batch_tokens
    if isinstance(tuned.config.task, PreferenceTask):
        pairs = encode_preferences(tuned.config, tuned.encoder, dataset, "test", tuned.max_tokens)
        examples, trees = [example for example, _ in pairs], tuned.with_reference([tree for _, tree in pairs])
        with reporter.bar(t("评测", "evaluating"), len(trees)) as bar:
            return judge_pairs(tuned.model, examples, trees, most, seed, bar.advance)
    if tuned.task is None:
        if isinstance(tuned.config.task, GenerationTask):
            passages = encode_passages(tuned.config, tuned.encoder, dataset, "test", tuned.max_tokens)
        else:
            passages = encode_documents(tuned.encoder, dataset.splits["test"], tuned.max_tokens)
        with reporter.bar(t("评测", "evaluating"), sum(len(passage.blocks) for passage in passages)) as bar:
            return judge_text(tuned.model, tuned.config.task.kind, passages, most, seed, bar.advance)
    prompts = encode_prompts(tuned.config, tuned.encoder, dataset, "test", tuned.max_tokens)
    with reporter.bar(t("评测", "evaluating"), len(prompts)) as bar:
        return judge_labels(tuned.predictor, prompts, seed, bar.advance)


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
