"""`RunConfig`: everything that decides a run, as a tree of small frozen models.

Read from YAML, overridden by ``key=value``, saved resolved. All errors are reported at once, each with its path and what to write instead.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from weitiao.errors import ConfigError
from weitiao.language import t

Name = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Part(BaseModel):
    """A part of the configuration: frozen, unknown keys are errors, a field's documentation is the string under it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class ModelConfig(Part):
    """The base model."""

    path: Name = "builtin"
    """`builtin` (the small Chinese model inside this package) or a local folder in the transformers format."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Working precision of the weights. `auto`: bfloat16 with float32 master weights where the processor computes in bfloat16, else float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes the GPU when there is one."""


class ColumnsConfig(Part):
    """Which columns of the files mean what. What is absent is recognised from the column names."""

    text: Name | None = None
    """The document."""
    label: Name | None = None
    """The right label (classification)."""
    candidates: Name | None = None
    """The labels that this row may get: a list, or a string separated by commas (classification)."""


class DataConfig(Part):
    """The data files and how rows become tokens."""

    train: Name = "builtin"
    """A data file, or `builtin` (the topics of LibreOffice's Chinese help, with its own splits)."""
    validation: Name | None = None
    """A file; absent: split off from `train` by `validation_share`."""
    test: Name | None = None
    """A file; absent: split off from `train` by `test_share`."""
    columns: ColumnsConfig = ColumnsConfig()
    validation_share: Share = 0.1
    """Share of the rows split off for validation when no file is given: by `seed`, stratified by label, duplicates kept together."""
    test_share: Share = 0.1
    """Share of the rows split off for the test when no file is given."""
    max_tokens: Annotated[int, Field(ge=8)] | None = None
    """Longest row in tokens, prompt and answer together. Absent: what the base model was trained for."""
    shorten: Literal["tail", "head", "middle", "none"] = "tail"
    """Which end of the *document* is left out when a row is too long; the instruction, the options and the answer are never touched. `none`: such
    rows are rejected."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use only this many training rows (drawn by `seed`); counted in the ledger."""


class ClassificationTask(Part):
    """Give each text one label out of a set."""

    kind: Literal["classification"] = "classification"
    labels: Annotated[tuple[Name, ...], Field(min_length=2)] | None = None
    """The label names. Absent: those of the training rows. Quote names that YAML reads as something else ('yes', '010')."""
    system: str | None = None
    """System prompt; absent: none."""
    template: str | None = None
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
    block_tokens: Annotated[int, Field(ge=8)] = 512
    """Documents are joined with the end-of-text token and cut into blocks of this many tokens."""


class FullMethod(Part):
    """Full-parameter tuning: every weight moves."""

    kind: Literal["full"] = "full"


class HeadMethod(Part):
    """Transfer learning: the trunk is frozen and a head is trained on it: for classification a new `score` head with the label names, for text the
    output matrix."""

    kind: Literal["head"] = "head"
    last_blocks: Annotated[int, Field(ge=0)] = 0
    """Also train this many of the last transformer blocks and the final norm."""
    untie: bool = False
    """Text task only: allow training the output matrix of a model that shares it with the embedding, by giving it a copy of its own."""


class LoraMethod(Part):
    """Parameter-efficient tuning: low-rank adapters beside frozen weights (Hu et al. 2021, arXiv:2106.09685), through peft."""

    kind: Literal["lora"] = "lora"
    rank: Annotated[int, Field(ge=1)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """The adapter's output is multiplied by alpha/rank (with `rslora` by alpha/sqrt(rank))."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
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


class TrainConfig(Part):
    """How long, in what portions, and when to stop."""

    epochs: Annotated[float, Field(gt=0)] = 3.0
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many optimiser steps even if the epochs are not over."""
    batch_rows: Annotated[int, Field(ge=1)] = 32
    """Rows per optimiser step."""
    micro_batch_tokens: Annotated[int, Field(ge=1)] = 4096
    """Most tokens (padding included) in one forward pass; a step of more is added up from several. Changes memory and speed, not the result."""
    validate_every: Annotated[float, Field(gt=0)] = 0.5
    """Validate every so many epochs."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many validations without a better result. Absent: train to the end. The best weights are kept either way."""
    best_by: Literal["accuracy", "macro_f1", "loss"] | None = None
    """The validation metric that decides which weights are kept. Absent: macro_f1 for classification, loss for text."""


class OptimConfig(Part):
    """AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) with a warm-up and a schedule."""

    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Highest learning rate. Absent: by method (full 5e-5, lora 5e-4, head 2e-3)."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    final_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Learning rate at the last step as a share of the highest one (cosine, linear)."""
    warmup_share: Share = 0.05
    """Share of the steps in which the rate rises linearly."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Not applied to norms and biases."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are scaled down to at most this norm."""


class EvaluateConfig(Part):
    """How the model is judged before and after."""

    before: bool = True
    """Judge the base model on the same rows before training."""
    baselines: bool = True
    """Judge the simple methods (majority class, TF-IDF with a linear model) on the same rows."""
    batch_tokens: Annotated[int, Field(ge=1)] = 16384
    """Most tokens in one forward pass."""


class ReportConfig(Part):
    """The report and the model card."""

    language: Literal["zh", "en"] | None = None
    """Absent: the language of the run's messages."""


TaskConfig = Annotated[ClassificationTask | TextTask, Field(discriminator="kind")]
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
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    model: Annotated[ModelConfig, BeforeValidator(_path_or_tree)] = ModelConfig()
    task: Annotated[TaskConfig, _kind_or_tree("classification")] = ClassificationTask()
    data: DataConfig = DataConfig()
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
                    f"task.kind: {self.task.kind} 与 objective.kind: {self.objective.kind} 不能搭配；text 配 pretrain，classification 配 sft",
                    f"task.kind: {self.task.kind} does not go with objective.kind: {self.objective.kind}; text goes with pretrain, "
                    "classification with sft",
                )
            )
        if isinstance(self.method, HeadMethod) and self.method.untie and self.task.kind == "classification":
            raise ValueError(t("method.untie 只用于 text 任务", "method.untie is for the text task only"))
        if self.task.kind == "text" and self.train.best_by in ("accuracy", "macro_f1"):
            raise ValueError(t("text 任务的 train.best_by 只能是 loss", "for the text task train.best_by can only be loss"))
        return self

    @property
    def learning_rate(self) -> float:
        """The highest learning rate, the method's default if none is given."""
        return self.optim.learning_rate or {"full": 5e-5, "head": 2e-3, "lora": 5e-4}[self.method.kind]

    @property
    def best_by(self) -> str:
        """The validation metric that decides which weights are kept."""
        return self.train.best_by or ("loss" if self.task.kind == "text" else "macro_f1")

    def as_yaml(self) -> str:
        """The resolved configuration: what ``load_config`` reads back as the same object."""
        return yaml.safe_dump(self.model_dump(mode="json"), allow_unicode=True, sort_keys=False, width=120)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core: `yes`, `no`, `on`, `off` and `010` stay what the user wrote, `1e-4` is a number, a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, t(f"键 {key!r} 写了两次", f"key {key!r} is given twice"), key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _resolvers() -> dict[str, list[tuple[str, Any]]]:
    import re

    core = (
        ("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
        ("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), "-+0123456789"),
        ("tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:[0-9][0-9_]*)?(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$"), "-+0123456789."),
        ("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), "~nN"),
        ("tag:yaml.org,2002:merge", re.compile(r"^<<$"), "<"),
    )
    table: dict[str, list[tuple[str, Any]]] = {"": [("tag:yaml.org,2002:null", re.compile(r"^$"))]}
    for tag, pattern, firsts in core:
        for first in firsts:
            table.setdefault(first, []).append((tag, pattern))
    return table


_Loader.yaml_implicit_resolvers = _resolvers()


def parse_yaml(text: str, where: str) -> Any:
    """One YAML document. ``where`` names it in errors. Raises ConfigError with the line of the fault."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        cause = getattr(error, "problem", None) or str(error)
        raise ConfigError(place, t(f"不是合法的 YAML：{cause}", f"not valid YAML: {cause}"), t("改正这一行", "correct this line")) from None
    except ValueError as error:  # e.g. a date that does not exist
        raise ConfigError(where, str(error), t("给这个值加上引号", "put the value in quotes")) from None


def _apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one ``a.b.c=value`` in the tree, the value read as YAML."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(override, t("不是 键=值 的形式", "not of the form key=value"), t("例如 train.epochs=3", "for example train.epochs=3"))
    keys, value = path.split("."), parse_yaml(text, override)
    node = tree
    for key in keys[:-1]:
        child = node.get(key)
        if isinstance(child, str):  # the short forms `model: builtin` and `method: lora`
            child = {"path" if key == "model" else "kind": child}
        if child is None:
            child = {}
        if not isinstance(child, dict):
            raise ConfigError(override, t(f"{key} 不是一组设置", f"{key} is not a group of settings"), t("检查键的路径", "check the key's path"))
        node[key] = child
        node = child
    if keys[-1] == "kind" and node.get("kind") not in (None, value):
        node.clear()  # another variant: the fields of the former one do not belong to it
    node[keys[-1]] = value


def _known_keys(part: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys that are allowed beside the one at ``location`` (pydantic's path of an error, tags of unions included)."""
    found: type[BaseModel] = part
    for step in list(location)[:-1]:
        for candidate in _models_at(found, step):
            found = candidate
            break
    return list(found.model_fields)


def _models_at(part: type[BaseModel], step: str | int) -> Iterator[type[BaseModel]]:
    """The models that a step of an error's path may lead to: a field's model, or the variant of a union with this tag."""
    field = part.model_fields.get(str(step))
    if field is None:
        if "kind" in part.model_fields:
            for variant in (ClassificationTask, TextTask, FullMethod, HeadMethod, LoraMethod, PretrainObjective, SftObjective):
                if variant.model_fields["kind"].default == step:
                    yield variant
        return
    annotation: Any = field.annotation
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            yield candidate


def _explain(error: Mapping[str, Any], tree: Mapping[str, Any]) -> str:
    """One line for one error of pydantic: path, value, cause, remedy."""
    location = tuple(error["loc"])
    shown = [str(step) for i, step in enumerate(location) if not _is_tag(location, i)]
    path = ".".join(shown) or t("整个配置", "the configuration")
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        known = _known_keys(RunConfig, location)
        near = difflib.get_close_matches(shown[-1], known, n=1)
        hint = t(f"，是不是 {near[0]}？", f"; did you mean {near[0]}?") if near else ""
        return t(f"{path}：没有这个键{hint}（可用：{', '.join(known)}）", f"{path}: no such key{hint} (known: {', '.join(known)})")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        given = context.get("tag", "")
        names = str(context.get("expected_tags", "")).replace("'", "").split(", ") if "expected_tags" in context else []
        near = difflib.get_close_matches(str(given), names, n=1)
        hint = t(f"，是不是 {near[0]}？", f"; did you mean {near[0]}?") if near else ""
        return t(
            f"{path}.kind：{given or '（缺）'} 不认识{hint}（可用：{', '.join(names) or '见文档'}）",
            f"{path}.kind: {given or '(missing)'} is unknown{hint} (known: {', '.join(names) or 'see the docs'})",
        )
    value = error.get("input")
    shown_value = "" if isinstance(value, dict) else f"{value!r}"[:80]
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{path} = {shown_value}: {_pydantic_message(kind, context, message)}" if shown_value else f"{path}: {message}"


def _is_tag(location: tuple[str | int, ...], i: int) -> bool:
    """Whether this step of an error's path is the tag of a union, which the user does not write in the path."""
    return i == 1 and location[0] in ("task", "method", "objective") and location[1] in (
        "classification", "text", "full", "head", "lora", "pretrain", "sft")  # fmt: skip


def _pydantic_message(kind: str, context: Mapping[str, Any], english: str) -> str:
    """pydantic's own messages are English; the frequent ones are said in Chinese."""
    chinese = {
        "greater_than": "必须大于 {gt}",
        "greater_than_equal": "必须不小于 {ge}",
        "less_than": "必须小于 {lt}",
        "less_than_equal": "必须不大于 {le}",
        "literal_error": "只能是 {expected}",
        "int_parsing": "必须是整数",
        "int_type": "必须是整数",
        "int_from_float": "必须是整数",
        "float_parsing": "必须是数字",
        "float_type": "必须是数字",
        "finite_number": "必须是有限的数字",
        "bool_parsing": "必须是 true 或 false",
        "bool_type": "必须是 true 或 false",
        "string_type": "必须是文字（像 010、true 这样的值请加引号）",
        "string_too_short": "不能为空",
        "string_too_long": "太长",
        "string_pattern_mismatch": "只能用字母、数字、_、. 和 -",
        "too_short": "至少要有 {min_length} 项",
        "tuple_type": "必须是列表",
        "model_type": "必须是一组设置",
        "model_attributes_type": "必须是一组设置",
    }.get(kind)
    return t(chinese.format(**context), english) if chinese else english


def build_config(tree: Mapping[str, Any], where: str) -> RunConfig:
    """Check a tree of settings. Raises ConfigError that lists every fault at once."""
    try:
        return RunConfig.model_validate(dict(tree))
    except ValidationError as error:
        lines = [_explain(e, tree) for e in error.errors(include_url=False)]  # type: ignore[arg-type]
        count = len(lines)
        listing = "".join(f"\n  - {line}" for line in lines)
        raise ConfigError(
            where,
            t(f"配置里有 {count} 处错误：{listing}", f"{count} error{'s' * (count > 1)} in the configuration:{listing}"),
            t("按上面逐条改正；全部设置见 weitiao schema", "correct them as said above; every setting: weitiao schema"),
        ) from None


def load_config(path: Path | str | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file (``None``: the defaults) and apply ``key=value`` overrides. Relative data and model paths are taken from the folder in
    which the command runs, as in a shell. Raises ConfigError."""
    tree: Any = {}
    where = t("命令行", "command line")
    if path is not None:
        path = Path(path)
        where = str(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            names = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
            near = difflib.get_close_matches(path.name, names, n=1)
            remedy = t(f"是不是 {path.parent / near[0]}？", f"did you mean {path.parent / near[0]}?") if near else t(
                "检查路径，或用 weitiao init 数据文件 生成一份", "check the path, or make one with: weitiao init DATA")  # fmt: skip
            raise ConfigError(where, t("没有这个文件", "no such file"), remedy) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(where, t(f"读不了：{error}", f"cannot be read: {error}"), t("需要 UTF-8 的 YAML 文件", "give a YAML file in UTF-8")) from None
        tree = parse_yaml(text, where) or {}
        if not isinstance(tree, dict):
            raise ConfigError(where, t("不是一组 键: 值", "not a mapping of keys to values"), t("参考 recipes/ 里的例子", "see the examples in recipes/"))
    for override in overrides:
        _apply_override(tree, override)
    return build_config(tree, where)
