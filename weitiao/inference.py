"""After a run: judge its model on other rows, and predict labels of new texts."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from weitiao.config import ClassificationTask, RunConfig
from weitiao.data.examples import Dataset, load_split
from weitiao.data.read import BadRow, read_rows
from weitiao.data.render import ChatEncoder
from weitiao.errors import DataError
from weitiao.evaluate.judge import Judgement, judge_labels, judge_text
from weitiao.evaluate.predict import Predictor
from weitiao.language import t
from weitiao.model.load import load_tokenizer
from weitiao.model.result import load_result
from weitiao.prepare import encode_prompts
from weitiao.progress import Reporter
from weitiao.records import Example
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

    @classmethod
    def load(cls, path: Path | str) -> "Tuned":
        """Load the result of a run folder. Raises DataError or ModelError."""
        run = Run.open(path)
        if not (run.path / "model").is_dir():
            state = run.record.get("state")
            raise DataError(str(run.path), t(f"还没有训练结果（state: {state}）", f"has no result yet (state: {state})"), t("先把训练跑完：weitiao train", "finish the training: weitiao train"))
        config = run.config
        model, folder, card = load_result(run.path / "model", config.model)
        encoder = ChatEncoder(load_tokenizer(folder), str(folder.path))
        task = Classification(config.task, tuple(card["labels"])) if isinstance(config.task, ClassificationTask) else None
        return cls(run, config, model, encoder, task, int(card["max_tokens"]))

    @property
    def predictor(self) -> Predictor:
        """Scores labels. Raises DataError for a run of another task."""
        if self.task is None:
            raise DataError(str(self.run.path), t("这是预训练的结果，不是分类器", "this is the result of pre-training, not a classifier"), t("用它作基础模型：model=这个文件夹/model", "use it as a base model: model=THIS_FOLDER/model"))
        return Predictor(self.model, self.encoder, self.task, self.config.evaluate.batch_tokens)


@dataclass(frozen=True)
class Prediction:
    """The label of one text. ``probabilities`` are over all candidates and sum to 1; ``shortened``: part of the text was left out to fit."""

    text: str
    label: str
    probability: float
    probabilities: dict[str, float]
    shortened: bool

    def as_dict(self) -> dict[str, Any]:
        return {"text": self.text, "label": self.label, "probability": self.probability, "probabilities": self.probabilities, "shortened": self.shortened}


def predict(run: Path | str | Tuned, texts: Sequence[str], reporter: Reporter | None = None) -> list[Prediction]:
    """The labels of texts by the model of a run. Raises DataError for a text that is empty or does not fit."""
    tuned = run if isinstance(run, Tuned) else Tuned.load(run)
    predictor = tuned.predictor
    assert tuned.task is not None  # the predictor says so
    for i, text in enumerate(texts):
        if not text.strip():
            raise DataError(f"text {i + 1}", t("是空的", "is empty"), t("给出文本", "give a text"))
    examples = [Example(str(i), tuned.task.prompt(text), (), text, "", i + 1) for i, text in enumerate(texts)]
    prompts = tuned.task.encode_prompts(tuned.encoder, examples, tuned.max_tokens, tuned.config.data)
    for i, prompt in enumerate(prompts):
        if prompt is None:
            raise DataError(f"text {i + 1}", t(f"放不进 {tuned.max_tokens} 个词元", f"does not fit into {tuned.max_tokens} tokens"), t("缩短文本", "shorten the text"))
    kept = [prompt for prompt in prompts if prompt is not None]
    with (reporter or Reporter(quiet=True)).bar(t("预测", "predicting"), len(kept)) as bar:
        scores = predictor.score(kept, bar.advance)
    return [
        Prediction(text, s.prediction, float(s.probabilities.max()), dict(zip(s.candidates, map(float, s.probabilities), strict=True)), p.was_shortened)
        for text, s, p in zip(texts, scores, kept, strict=True)
    ]


def predict_file(tuned: Tuned, source: Path, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """One object per row of a data file, in its order: the row's own values and, under ``prediction``, the label. A row without a usable text keeps
    its place with ``error``."""
    column = _text_column(tuned, source)
    rows = list(read_rows(source))
    texts = [None if isinstance(row, BadRow) else row.values.get(column) for row in rows]
    good = [text for text in texts if isinstance(text, str) and text.strip()]
    answers = iter(predict(tuned, good, reporter))
    for row, text in zip(rows, texts, strict=True):
        if isinstance(row, BadRow):
            yield {"line": row.line, "error": row.reason}
        elif isinstance(text, str) and text.strip():
            answer = next(answers)
            yield {"line": row.line, **row.values, "prediction": answer.label, "probability": answer.probability, "shortened": answer.shortened}
        else:
            yield {"line": row.line, **row.values, "error": t("没有文本", "no text")}


def _text_column(tuned: Tuned, source: Path) -> str:
    from weitiao.data.columns import find_columns
    from weitiao.records import Row

    sample = [row for _, row in zip(range(200), read_rows(source), strict=False) if isinstance(row, Row)]
    names = list(dict.fromkeys(name for row in sample for name in row.values))
    wanted = tuned.config.data.columns.text
    return find_columns(names, sample, "text", {"text": wanted if wanted in names else None})[1].text


def evaluate(run: Path | str | Tuned, data: Path | str | None = None, reporter: Reporter | None = None) -> Judgement:
    """Judge the model of a run on a labelled file, or again on its own test split (``data`` None). Raises DataError or ModelError."""
    tuned = run if isinstance(run, Tuned) else Tuned.load(run)
    reporter = reporter or Reporter(quiet=True)
    if data is None:
        from weitiao.data.examples import load_dataset

        dataset: Dataset = load_dataset(tuned.config)
        if not dataset.splits["test"]:
            raise DataError(str(tuned.run.path), t("这次运行没有测试集", "this run has no test split"), t("用 --data 给一个文件", "give a file: --data FILE"))
        dataset = Dataset({"train": [], "validation": [], "test": dataset.splits["test"]}, tuned.task, dataset.ledger)
    else:
        dataset = load_split(tuned.config, str(data), tuned.task)
    seed, most = tuned.config.seed, tuned.config.evaluate.batch_tokens
    if tuned.task is None:
        documents = encode_documents(tuned.encoder, dataset.splits["test"], tuned.max_tokens)
        with reporter.bar(t("评测", "evaluating"), sum(map(len, documents))) as bar:
            return judge_text(tuned.model, documents, dataset.splits["test"], most, seed, bar.advance)
    prompts = encode_prompts(tuned.config, tuned.encoder, dataset, "test", tuned.max_tokens)
    with reporter.bar(t("评测", "evaluating"), len(prompts)) as bar:
        return judge_labels(tuned.predictor, prompts, seed, bar.advance)


def json_lines(values: Iterable[dict[str, Any]]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
