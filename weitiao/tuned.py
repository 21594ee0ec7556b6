"""The model of a finished run, loaded to answer."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from weitiao.config import RunConfig
from weitiao.config_tasks import ClassificationTask, PreferenceTask
from weitiao.data.columns import Columns
from weitiao.data.render import ChatEncoder
from weitiao.errors import DataError
from weitiao.evaluate.predict import Predictor
from weitiao.language import t
from weitiao.model.load import load_tokenizer
from weitiao.model.result import load_result
from weitiao.model.trees import base_weights, score_trees, with_reference
from weitiao.records import Tree
from weitiao.run import Run
from weitiao.tasks.classification import Classification


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
    shape: str
    """The shape of its rows."""

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
        columns = Columns(**card["columns"])
        return cls(run, config, model, encoder, task, int(card["max_tokens"]), columns, str(card.get("shape") or ""))

    def with_reference(self, trees: list[Tree]) -> list[Tree]:
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
        if self.task is None:
            raise DataError(
                str(self.run.path),
                t("这是预训练的结果，不是分类器", "this is the result of pre-training, not a classifier"),
                t("用它作基础模型：model=这个文件夹/model", "use it as a base model: model=THIS_FOLDER/model"),
            )
        return Predictor(self.model, self.encoder, self.task, self.config.evaluate.batch_tokens)
