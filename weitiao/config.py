"""`RunConfig`: everything that decides a run, as a tree of small frozen models.

Read from YAML, overridden by ``key=value``, saved resolved (``config_io`` does the reading and words the faults).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from weitiao.config_base import Name, Part, Whole
from weitiao.config_data import CheckConfig, DataConfig, ModelConfig
from weitiao.config_io import check_tree, dump_yaml, parse_yaml, read_tree
from weitiao.config_methods import HeadMethod, LoraMethod, MethodConfig
from weitiao.config_monitor import MonitorConfig
from weitiao.config_objectives import GrpoObjective, ObjectiveConfig, SftObjective
from weitiao.config_rewards import ModelReward
from weitiao.config_tasks import ClassificationTask, GenerationTask, TaskConfig
from weitiao.config_training import EvaluateConfig, OptimConfig, ReportConfig, TrainConfig
from weitiao.hub.names import is_prefixed, model_name
from weitiao.language import t
from weitiao.masking import masked_values

__all__ = ["RunConfig", "build_config", "load_config", "parse_yaml"]


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
    monitor: MonitorConfig = MonitorConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _holds_no_secret(self) -> "RunConfig":
        tree = self.model_dump(mode="json")
        for group, values in tree.items():
            if masked_values(values) != values:
                raise ValueError(
                    t(
                        f"{group} 里有密钥、令牌或带密码的网址；它会被写进运行文件夹。密钥请放进环境变量",
                        f"{group} holds a key, a token or an address with a password, which would be written into the run folder; "
                        "keep keys in the environment",
                    )
                )
        return self

    @model_validator(mode="after")
    def _check(self) -> "RunConfig":
        if self.objective.kind not in self.task.objectives:
            task, objective, fitting = self.task.kind, self.objective.kind, ", ".join(self.task.objectives)
            raise ValueError(
                t(
                    f"task.kind: {task} 与 objective.kind: {objective} 不能搭配；{task} 配 {fitting}",
                    f"task.kind: {task} does not go with objective.kind: {objective}; {task} goes with {fitting}",
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
        self._check_objective()
        self._check_columns()
        self._check_answers()
        return self

    def _check_objective(self) -> None:
        """What the objective wants of the other parts."""
        task, objective = self.task.kind, self.objective.kind
        judged_by = ("reward",) if objective == "grpo" else self.task.judged_by
        if self.train.best_by is not None and self.train.best_by not in judged_by:
            what, known = "grpo" if objective == "grpo" else task, ", ".join(judged_by)
            raise ValueError(t(f"{what} 的 train.best_by 只能是 {known}", f"for {what} train.best_by can only be {known}"))
        if self.method.kind == "head" and not self.takes_head:
            kind = str(task if objective == "sft" else objective)
            raise ValueError(t(f"{kind} 用 lora 或 full", f"{kind} takes lora or full"))
        if objective == "grpo" and (self.data.balance, self.train.class_weights) != ("none", "none"):
            raise ValueError(t("grpo 用不到 data.balance 和 train.class_weights", "grpo does not use data.balance and train.class_weights"))

    def _check_columns(self) -> None:
        """No column without effect: those of texts are for texts, those of chats for chats."""
        named = {field for field, column in self.data.columns.model_dump().items() if column is not None}
        own = self.task.columns
        wrong = named & {"text", "label", "candidates"} if own is None else named - own
        if self.data.shape is not None and own is not None:
            wrong.add("shape")
        if wrong:
            listed, kind = ", ".join(sorted(wrong)), self.task.kind
            raise ValueError(t(f"{kind} 任务用不到 data 里的 {listed}", f"the {kind} task does not use these settings of data: {listed}"))

    def _check_answers(self) -> None:
        """No setting of written answers without effect."""
        names = {"answers", "decoding", "metrics"}
        own, usual = self.evaluate.model_dump(include=names), EvaluateConfig().model_dump(include=names)
        changed = ", ".join(name for name in own if own[name] != usual[name])
        if changed and not self.task.writes:
            kind = self.task.kind
            raise ValueError(
                t(f"{kind} 任务用不到 evaluate 里的 {changed}", f"the {kind} task does not use these settings of evaluate: {changed}")
            )

        if self.evaluate.decoding.constrained and (not isinstance(self.task, GenerationTask) or self.task.json_schema is None):
            raise ValueError(
                t("evaluate.decoding.constrained 要有 task.json_schema", "evaluate.decoding.constrained needs task.json_schema")
            )

    @property
    def takes_head(self) -> bool:
        """Whether the last layer alone can learn this task by this objective."""
        return self.objective.kind == "reward" or (self.task.has_head and self.objective.kind != "grpo")

    @property
    def learning_rate(self) -> float:
        """The highest learning rate; if none is given the usual one."""
        return self.optim.learning_rate or self.usual_learning_rate

    @property
    def usual_learning_rate(self) -> float:
        """The method's, a tenth of it where answers are only made more or less probable."""
        own = {"full": 5e-5, "head": 2e-3, "lora": 5e-4}[self.method.kind]
        return own / 10 if self.objective.kind in ("dpo", "orpo", "simpo", "grpo") else own

    @property
    def best_by(self) -> str:
        """The validation metric that decides which weights are kept."""
        if self.objective.kind == "grpo":
            return "reward"
        return self.train.best_by or self.task.best_by

    def with_absolute_paths(self) -> "RunConfig":
        """The same configuration, good in any working folder: file and folder names in full."""
        data = {
            name: str(Path(value).absolute())
            for name, value in (("train", self.data.train), ("validation", self.data.validation), ("test", self.data.test))
            if value is not None and value != "builtin" and not is_prefixed(value)
        }
        named = self.model.path == "builtin" or model_name(self.model.path) is not None
        model = {} if named else {"path": str(Path(self.model.path).absolute())}
        changes: dict[str, Any] = {
            "runs": str(Path(self.runs).absolute()),
            "data": self.data.model_copy(update=data),
            "model": self.model.model_copy(update=model),
        }
        if isinstance(self.task, GenerationTask) and self.task.json_schema is not None:
            changes["task"] = self.task.model_copy(update={"json_schema": str(Path(self.task.json_schema).absolute())})
        if isinstance(self.objective, GrpoObjective):
            rewards = tuple(
                one.model_copy(update={"run": str(Path(one.run).absolute())}) if isinstance(one, ModelReward) else one
                for one in self.objective.rewards
            )
            changes["objective"] = self.objective.model_copy(update={"rewards": rewards})
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
