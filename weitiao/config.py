"""`RunConfig`: everything that decides a run, as a tree of small frozen models.

Read from YAML, overridden by ``key=value``, saved resolved (``config_io`` does the reading and words the faults).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from weitiao.config_base import Name, Number, Part, Share, Text, Whole
from weitiao.config_chats import ColumnsConfig, GenerationTask, ShapeName
from weitiao.config_io import check_tree, dump_yaml, parse_yaml, read_tree
from weitiao.hub.names import checked_revision, is_prefixed, model_name
from weitiao.language import t

__all__ = ["RunConfig", "build_config", "load_config", "parse_yaml"]


class ModelConfig(Part):
    """The base model."""

    path: Name = "builtin"
    """`builtin` (the small Chinese model inside this package), a local folder in the transformers format, or the name of a model on a hub:
    `owner/name`, `ms://owner/name` (ModelScope), `hf://owner/name` (Hugging Face). A path that exists is that path."""
    revision: Annotated[Name, AfterValidator(checked_revision)] | None = None
    """Branch, tag or commit of a model on a hub. Absent: what is in the cache, else the newest; the run records the commit."""
    hub: Literal["modelscope", "huggingface"] = "modelscope"
    """Which hub to ask first for a name without a prefix; the other one is asked when this one does not give it."""
    offline: bool = False
    """Ask no hub, for the model or for data: only what is here already counts."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Working precision of the weights. `auto`: bfloat16 with float32 master weights where the processor computes in bfloat16, else
    float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes the GPU when there is one."""


class DataConfig(Part):
    """The data files and how rows become tokens."""

    train: Name = "builtin"
    """A data file; a folder with files named train, validation (dev, valid, val) and test; an entry `…/dataset_info.json#name` of
    LLaMA-Factory; `builtin` (the topics of LibreOffice's Chinese help, with its own splits); or a data set on a hub, `ms://owner/name` or
    `hf://owner/name`, with `/FILE` behind it where the files' names do not tell the splits. Only files are fetched, no script is run."""
    validation: Name | None = None
    """A file; absent: split off from `train` by `validation_share`."""
    test: Name | None = None
    """A file; absent: split off from `train` by `test_share`."""
    shape: ShapeName | None = None
    """The shape of the chats, where their columns fit several (generation)."""
    columns: ColumnsConfig = ColumnsConfig()
    validation_share: Share = 0.1
    """Share of the rows split off for validation when no file is given: by `seed`, stratified by label, duplicates kept together."""
    test_share: Share = 0.1
    """Share of the rows split off for the test when no file is given."""
    max_tokens: Annotated[Whole, Field(ge=8)] | None = None
    """Longest row in tokens, prompt and answer together. Absent: what the base model was trained for."""
    shorten: Literal["tail", "head", "middle", "none"] = "tail"
    """Which end of the *document* is left out when a row is too long; the instruction, the options and the answer are never touched.
    `none`: such rows are rejected."""
    limit: Annotated[Whole, Field(ge=1)] | None = None
    """Use only this many training rows (drawn by `seed`); counted in the ledger."""
    deduplicate: Literal["none", "exact", "near"] = "none"
    """Keep the first of the rows with one text and label (`near`: texts that differ in a tenth of their characters at most), and no
    training row that is also in a given validation or test file; the rejected rows are in the ledger. Given validation and test files stay
    whole."""
    balance: Literal["none", "oversample"] = "none"
    """`oversample`: repeat training rows of the rarer labels until all labels have as many (classification); counted in the audit."""


class CheckConfig(Part):
    """The audit of the data, before every run and in `weitiao check`."""

    fail_on: tuple[Name, ...] = ("error",)
    """Which findings stop a run: severities (`error`, `warning`, `notice`) and names of checks, such as `[error, conflicting_labels]`."""


class ClassificationTask(Part):
    """Give each text one label out of a set."""

    kind: Literal["classification"] = "classification"
    labels: Annotated[tuple[Name, ...], Field(min_length=2)] | None = None
    """The label names. Absent: those of the training rows. They stay as written: yes, 010, 1e-4 are names."""
    system: Text | None = None
    """System prompt; absent: none."""
    template: Text | None = None
    """The user's turn, with the places {text} and {labels}. Absent: a Chinese or English one, by `language`."""
    language: Literal["zh", "en"] = "zh"
    """Language of the built-in template."""

    @model_validator(mode="after")
    def _check(self) -> "ClassificationTask":
        if self.template is not None and self.template.count("{text}") != 1:
            raise ValueError(t("模板里必须恰好出现一次 {text}", "the template must contain {text} exactly once"))
        if self.labels is not None and len(set(self.labels)) != len(self.labels):
            raise ValueError(t("标签有重复", "a label is listed twice"))
        return self


class TextTask(Part):
    """Learn the language of a text (self-supervised): predict each next token."""

    kind: Literal["text"] = "text"
    block_tokens: Annotated[Whole, Field(ge=8)] = 512
    """Documents are joined with the end-of-text token and cut into blocks of this many tokens."""


class FullMethod(Part):
    """Full-parameter tuning: every weight moves."""

    kind: Literal["full"] = "full"


class HeadMethod(Part):
    """Transfer learning: the trunk is frozen and a head is trained on it: for classification a new `score` head with the label names, for
    text the output matrix."""

    kind: Literal["head"] = "head"
    last_blocks: Annotated[Whole, Field(ge=0)] = 0
    """Also train this many of the last transformer blocks and the final norm."""
    untie: bool = False
    """Text task only: allow training the output matrix of a model that shares it with the embedding, by giving it a copy of its own."""


class LoraMethod(Part):
    """Parameter-efficient tuning: low-rank adapters beside frozen weights (Hu et al. 2021, arXiv:2106.09685), through peft."""

    kind: Literal["lora"] = "lora"
    rank: Annotated[Whole, Field(ge=1)] = 8
    alpha: Annotated[Number, Field(gt=0)] = 16.0
    """The adapter's output is multiplied by alpha/rank (with `rslora` by alpha/sqrt(rank))."""
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """Names of the linear layers that get an adapter. Absent: all of them but the output matrix."""
    dora: bool = False
    """Train the magnitude of each adapted weight apart from its direction (Liu et al. 2024, arXiv:2402.09353)."""
    rslora: bool = False
    """Scale by alpha/sqrt(rank) (Kalajdzievski 2023, arXiv:2312.03732)."""


class PretrainObjective(Part):
    """Self-supervised: every token of the text is a target."""

    kind: Literal["pretrain"] = "pretrain"


class SftObjective(Part):
    """Supervised fine-tuning: only the answer and its end token are targets."""

    kind: Literal["sft"] = "sft"


class CheckpointConfig(Part):
    """When training is saved so that it can go on after an interruption, and how many of these checkpoints are kept."""

    every_minutes: Annotated[Number, Field(gt=0)] = 10.0
    """Save when this much time has passed since the last save. Also saved: when the run is asked to stop."""
    every_steps: Annotated[Whole, Field(ge=1)] | None = None
    """Save also at every so many optimiser steps."""
    keep: Annotated[Whole, Field(ge=1)] = 2
    """How many of the newest are kept while training (the best weights are kept besides). When the run is finished only the best remain."""


class TrainConfig(Part):
    """How long, in what portions, and when to stop."""

    epochs: Annotated[Number, Field(gt=0)] = 3.0
    max_steps: Annotated[Whole, Field(ge=1)] | None = None
    """Stop after this many optimiser steps even if the epochs are not over."""
    batch_rows: Annotated[Whole, Field(ge=1)] = 32
    """Rows per optimiser step."""
    micro_batch_tokens: Annotated[Whole, Field(ge=1)] = 4096
    """Most tokens (padding included) in one forward pass; a step of more is added up from several. Changes memory and speed, not the
    result."""
    validate_every: Annotated[Number, Field(gt=0)] = 0.5
    """Validate every so many epochs."""
    patience: Annotated[Whole, Field(ge=1)] | None = None
    """Stop after this many validations without a better result. Absent: train to the end. The best weights are kept either way."""
    best_by: Literal["accuracy", "macro_f1", "loss"] | None = None
    """The validation metric that decides which weights are kept. Absent: macro_f1 for classification, loss for text."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced`: a row counts in the loss by n / (labels · rows of its label), so that every label weighs the same (classification)."""


class OptimConfig(Part):
    """AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) with a warm-up and a schedule."""

    learning_rate: Annotated[Number, Field(gt=0)] | None = None
    """Highest learning rate. Absent: by method (full 5e-5, lora 5e-4, head 2e-3)."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    final_share: Annotated[Number, Field(ge=0, le=1)] = 0.0
    """What the learning rate falls to, as a share of the highest one (cosine, linear); reached right after the last step, so that every
    step learns."""
    warmup_share: Share = 0.05
    """Share of the steps in which the rate rises linearly."""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.01
    """Not applied to norms and biases."""
    beta1: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[Number, Field(ge=0, lt=1)] = 0.999
    clip_norm: Annotated[Number, Field(gt=0)] = 1.0
    """Gradients are scaled down to at most this norm."""


class EvaluateConfig(Part):
    """How the model is judged before and after."""

    before: bool = True
    """Judge the base model on the same rows before training."""
    baselines: bool = True
    """Judge the simple methods (majority class, TF-IDF with a linear model) on the same rows."""
    after: bool = True
    """Judge the result on the test rows. Off while settings are still being chosen, so that the test rows choose nothing."""
    batch_tokens: Annotated[Whole, Field(ge=1)] = 16384
    """Most tokens in one forward pass."""


class ReportConfig(Part):
    """The report and the model card."""

    language: Literal["zh", "en"] | None = None
    """Absent: the language of the run's messages."""


TaskConfig = Annotated[ClassificationTask | GenerationTask | TextTask, Field(discriminator="kind")]
MethodConfig = Annotated[FullMethod | HeadMethod | LoraMethod, Field(discriminator="kind")]
ObjectiveConfig = Annotated[PretrainObjective | SftObjective, Field(discriminator="kind")]


def _path_or_tree(value: object) -> object:
    """`model: builtin` means `model: {path: builtin}`."""
    return {"path": value} if isinstance(value, str) else value


def _kind_or_tree(default: str) -> BeforeValidator:
    """`method: lora` means `method: {kind: lora}`; a tree without `kind` means the default one."""

    def complete(value: object) -> object:
        if isinstance(value, str):
            return {"kind": value}
        if isinstance(value, dict) and "kind" not in value:
            return {"kind": default, **value}
        return value

    return BeforeValidator(complete)


class RunConfig(Part):
    """Everything that decides a run."""

    name: Annotated[str, StringConstraints(pattern=r"^[\w.-]+$", max_length=100)] | None = None
    """Name of the run folder. Absent: task, method and the time."""
    runs: Name = "runs"
    """The folder in which run folders are made."""
    seed: Annotated[Whole, Field(ge=0, lt=2**32)] = 0
    model: Annotated[ModelConfig, BeforeValidator(_path_or_tree)] = ModelConfig()
    task: Annotated[TaskConfig, _kind_or_tree("classification")] = ClassificationTask()
    data: DataConfig = DataConfig()
    check: CheckConfig = CheckConfig()
    method: Annotated[MethodConfig, _kind_or_tree("lora")] = LoraMethod()
    objective: Annotated[ObjectiveConfig, _kind_or_tree("sft")] = SftObjective()
    train: TrainConfig = TrainConfig()
    optim: OptimConfig = OptimConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _check(self) -> "RunConfig":
        if (self.task.kind == "text") != (self.objective.kind == "pretrain"):
            raise ValueError(
                t(
                    f"task.kind: {self.task.kind} 与 objective.kind: {self.objective.kind} 不能搭配；text 配 pretrain，classification 和 "
                    "generation 配 sft",
                    f"task.kind: {self.task.kind} does not go with objective.kind: {self.objective.kind}; text goes with pretrain, "
                    "classification and generation with sft",
                )
            )
        if isinstance(self.method, HeadMethod) and self.method.untie and self.task.kind == "classification":
            raise ValueError(t("method.untie 只用于 text 任务", "method.untie is for the text task only"))
        if self.task.kind != "classification" and (self.data.balance, self.train.class_weights) != ("none", "none"):
            raise ValueError(
                t(
                    "data.balance 和 train.class_weights 只用于 classification 任务",
                    "data.balance and train.class_weights are for the classification task only",
                )
            )
        if "none" not in (self.data.balance, self.train.class_weights):
            raise ValueError(
                t(
                    "data.balance 和 train.class_weights 只能用一个：一起用会校正两次",
                    "use one of data.balance and train.class_weights: together they would correct twice",
                )
            )
        if self.task.kind != "classification" and self.train.best_by in ("accuracy", "macro_f1"):
            kind = self.task.kind
            raise ValueError(t(f"{kind} 任务的 train.best_by 只能是 loss", f"for the {kind} task train.best_by can only be loss"))
        if self.task.kind == "generation" and self.method.kind == "head":
            raise ValueError(t("generation 任务用 lora 或 full", "the generation task takes lora or full"))
        self._check_columns()
        return self

    def _check_columns(self) -> None:
        """No column without effect: those of texts are for texts, those of chats for chats."""
        named = {field for field, column in self.data.columns.model_dump().items() if column is not None}
        of_texts = {"classification": {"text", "label", "candidates"}, "text": {"text"}}.get(self.task.kind)
        wrong = named & {"text", "label", "candidates"} if of_texts is None else named - of_texts
        if self.data.shape is not None and of_texts is not None:
            wrong.add("shape")
        if wrong:
            listed, kind = ", ".join(sorted(wrong)), self.task.kind
            raise ValueError(t(f"{kind} 任务用不到 data 里的 {listed}", f"the {kind} task does not use these settings of data: {listed}"))

    @property
    def learning_rate(self) -> float:
        """The highest learning rate, the method's default if none is given."""
        return self.optim.learning_rate or {"full": 5e-5, "head": 2e-3, "lora": 5e-4}[self.method.kind]

    @property
    def best_by(self) -> str:
        """The validation metric that decides which weights are kept."""
        return self.train.best_by or ("macro_f1" if self.task.kind == "classification" else "loss")

    def with_absolute_paths(self) -> "RunConfig":
        """The same configuration, good in any working folder: file and folder names in full."""
        data = {
            name: str(Path(value).absolute())
            for name, value in (("train", self.data.train), ("validation", self.data.validation), ("test", self.data.test))
            if value is not None and value != "builtin" and not is_prefixed(value)
        }
        named = self.model.path == "builtin" or model_name(self.model.path) is not None
        model = {} if named else {"path": str(Path(self.model.path).absolute())}
        changes = {
            "runs": str(Path(self.runs).absolute()),
            "data": self.data.model_copy(update=data),
            "model": self.model.model_copy(update=model),
        }
        return self.model_copy(update=changes)

    def as_yaml(self) -> str:
        """The resolved configuration: what ``load_config`` reads back as the same object."""
        return dump_yaml(self.model_dump(mode="json"))


SHORT_FORMS = {"model": "path", "task": "kind", "method": "kind", "objective": "kind"}
"""What a bare word means for these keys: `method: lora` is `method: {kind: lora}`."""


def build_config(tree: Mapping[Any, Any], where: str) -> RunConfig:
    """Check a tree of settings. Raises ConfigError that lists every fault at once."""
    return check_tree(RunConfig, tree, where)


def load_config(path: Path | str | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file (``None``: the defaults) and apply ``key=value`` overrides. Relative data and model paths are taken from the folder
    in which the command runs, as in a shell. Raises ConfigError."""
    where = t("命令行", "command line") if path is None else str(path)
    return build_config(read_tree(None if path is None else Path(path), overrides, SHORT_FORMS), where)
