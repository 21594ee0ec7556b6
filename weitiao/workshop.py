"""What all parts of a run share: checked input, encoded data, the place to compute."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from weitiao import cost, storage
from weitiao.audit.checks import require_known, stop_on
from weitiao.config import RunConfig
from weitiao.config_objectives import GrpoObjective
from weitiao.data.batch import Plan
from weitiao.data.render import ChatEncoder
from weitiao.errors import ConfigError
from weitiao.evaluate.written import Marker
from weitiao.forecast import Forecast, Pace, answer_nodes, require_memory, with_budget
from weitiao.hub.resolve import Inputs, localise
from weitiao.judging import Judge, judge_of
from weitiao.language import t
from weitiao.machine import this_machine
from weitiao.methods import apply_method
from weitiao.model.checkpoint import count_parameters
from weitiao.model.load import (
    REWARD_LABELS,
    ModelFolder,
    choose_device,
    choose_precision,
    find_model,
    load_causal,
    load_tokenizer,
    load_with_score_head,
    without_weights,
)
from weitiao.model.structure import read_structure
from weitiao.model.trees import base_weights, score_trees, with_reference
from weitiao.prepare import Prepared, audit, prepare
from weitiao.progress import Reporter
from weitiao.records import SPLITS, Encoded, SplitName, Tree
from weitiao.rewards import Rewards
from weitiao.rollouts import LOG, RolloutPlan, Writer, asked_of
from weitiao.train import reseed

RECORDS_BYTES = 20_000_000
"""More than logs, answers, report and tokenizer take."""


@dataclass
class Workshop:
    """What all parts of a run share: checked input, encoded data, the place to compute. Made before the run folder: wrong input leaves
    nothing."""

    config: RunConfig
    reporter: Reporter
    inputs: Inputs = field(init=False)
    folder: ModelFolder = field(init=False)
    device: torch.device = field(init=False)
    dtype: torch.dtype = field(init=False)
    encoder: ChatEncoder = field(init=False)
    data: Prepared = field(init=False)
    audit: dict[str, Any] = field(init=False)
    marker: Marker = field(init=False)
    """Marks written answers (qa, generation)."""
    rewards: Rewards | None = field(init=False, default=None)
    trained_elements: int = field(init=False)
    all_elements: int = field(init=False)
    forecast: Forecast = field(init=False)
    pace: Pace = field(init=False)
    peak_bytes: int = 0
    """Most memory of the run so far."""

    def __post_init__(self) -> None:
        require_known(self.config.check.fail_on)
        if isinstance(self.config.objective, GrpoObjective):
            self.rewards = Rewards(self.config.objective.rewards, self.config.evaluate.batch_tokens)
        self.inputs = localise(self.config, self.reporter)
        self.config = self.inputs.config
        self.folder = find_model(self.config.model)
        self.device = choose_device(self.config.model)
        self.dtype = choose_precision(self.config.model, self.device)
        labels = 1 if self.config.objective.kind == "reward" else 2
        shape = self._shape(labels)  # a method that does not fit the model says so now, before the data are read
        self.encoder = ChatEncoder(load_tokenizer(self.folder), str(self.folder.path))
        structure = read_structure(self.folder)
        machine = this_machine(self.config.model, self.device.type, self.dtype.itemsize)
        self._keep_to(with_budget(self.config, structure, self.folder.config, machine).data.max_tokens)
        self.data = prepare(self.config, self.encoder, self.folder.config, self.reporter)
        self._require_validation_rows()
        self.marker = Marker.of(self.config)
        self.marker.try_own([passage.example for passage in self.data.passages.get("test", [])[:2]])
        self.audit = audit(self.data, self.encoder, self.reporter)
        stop_on(self.audit["findings"], self.config.check.fail_on)
        if self.has_score_head and self.data.task:
            shape = self._shape(len(self.data.task.labels))
        self.trained_elements = count_parameters(p for p in shape.parameters() if p.requires_grad)
        self.all_elements = count_parameters(shape.parameters())
        storage.require_space(Path(self.config.runs), self.disk_bytes())
        nodes = answer_nodes(self.data, self.encoder)
        self.forecast = Forecast(self.config, self.data, structure, machine, nodes, cost.memory_bytes(self.device))
        require_memory(self.forecast)
        self.pace = Pace(self.forecast)

    def _keep_to(self, max_tokens: int | None) -> None:
        """Take the longest row that was decided on into the configuration, also the one that is kept."""
        self.config = _with_length(self.config, max_tokens)
        self.inputs = replace(self.inputs, config=self.config, pinned=_with_length(self.inputs.pinned, max_tokens))

    @property
    def has_score_head(self) -> bool:
        """Whether the result scores (labels, or whole answers: a reward model) rather than writing."""
        classifies = self.config.method.kind == "head" and self.config.task.kind == "classification"
        return classifies or self.config.objective.kind == "reward"

    def _shape(self, num_labels: int) -> nn.Module:
        """The model with the method applied, without numbers."""
        return apply_method(without_weights(self.folder, num_labels if self.has_score_head else None), self.config.method)

    def _require_validation_rows(self) -> None:
        """Settings that look at validation rows must not be without effect. Raises ConfigError."""
        wanted = [
            name for name in ("patience", "best_by") if name in self.config.train.model_fields_set and self.config.train.model_dump()[name]
        ]
        if wanted and not self.data.dataset.splits["validation"]:
            raise ConfigError(
                f"train.{wanted[0]}",
                t("没有验证集，这个设置不起作用", "there are no validation rows, so this setting would have no effect"),
                t(
                    "给 data.validation 或 data.validation_share，或去掉这个设置",
                    "give data.validation or data.validation_share, or leave the setting out",
                ),
            )

    def result_bytes(self) -> int:
        """What ``model/`` will take: the adapter, or all weights (tied ones once), in working precision."""
        return (self.trained_elements if self.config.method.kind == "lora" else self.all_elements) * self.dtype.itemsize

    def checkpoint_bytes(self) -> int:
        """A checkpoint that training can go on from: weight and two moments in float32 for each trained weight."""
        return 3 * 4 * self.trained_elements

    def disk_bytes(self) -> int:
        """What the run takes at its fullest: the checkpoints that are kept and one being written, or at its end the result instead.

        With validation rows, too: the best checkpoint while it is older than those, and the weights that were the best when each of them
        was written. Without, the last weights. And room for records.
        """
        whole, weights = self.checkpoint_bytes(), self.trained_elements * self.dtype.itemsize
        keep, end, best = self.config.train.checkpoint.keep, self.result_bytes(), 0
        if self.data.dataset.splits["validation"]:
            best = whole + keep * weights
        else:
            end += weights
        return keep * whole + best + max(whole, end) + RECORDS_BYTES

    def transformers_config(self) -> Any:
        """The base model's configuration as transformers reads it."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.folder.path, local_files_only=True, trust_remote_code=False)

    def causal_model(self) -> nn.Module:
        """The base model as it is."""
        return load_causal(self.folder, self.device, self.dtype)

    def trainable_model(self) -> nn.Module:
        """The base model with the method applied, from the seed."""
        reseed(self.config.seed, 0)
        if self.has_score_head:
            labels = self.data.task.labels if self.data.task else REWARD_LABELS
            model: nn.Module = load_with_score_head(self.folder, labels, self.device, self.dtype)
        else:
            model = self.causal_model()
        return apply_method(model, self.config.method)

    def compare_with(self, model: nn.Module) -> None:
        """Note what the base model, which the untrained ``model`` still is, says of both answers of every pair, where that is needed: dpo
        pushes off from it, and the implied reward is measured from it."""
        if not self.data.trees or self.has_score_head:
            return
        splits = [split for split in SPLITS if split == "test" or self.config.objective.kind == "dpo"]
        most, trees = self.config.evaluate.batch_tokens, dict(self.data.trees)
        title = t("基础模型的对数概率", "log-probabilities by the base model")
        with self.reporter.bar(title, sum(len(trees[split]) for split in splits)) as bar, base_weights(model):
            for split in splits:
                trees[split] = with_reference(trees[split], score_trees(model, trees[split], most, progress=bar.advance))
        self.data = replace(self.data, trees=trees)

    def judge(self, model: nn.Module, split: SplitName) -> Judge | None:
        """The judge of a model on the rows of a split; None: there are none."""
        writer = self.writer(model) if self.rewards else None
        return judge_of(model, self.encoder, self.config, self.data, split, self.marker, writer)

    def writer(self, model: nn.Module) -> Writer:
        """What writes answers with a model and rewards them (grpo)."""
        assert self.rewards is not None  # the callers' branch
        assert isinstance(self.config.objective, GrpoObjective)
        return Writer(model, self.encoder, self.rewards, self.config.objective, self.config.evaluate.batch_tokens)

    def rollouts(self, model: nn.Module, folder: Path) -> RolloutPlan:
        """The steps of a reinforcement run. ``model`` is still the base model; where every weight moves and a distance to it is asked for,
        a copy of it is kept."""
        writer, kept = self.writer(model), None
        if writer.config.kl_weight and self.config.method.kind == "full":
            kept = copy.deepcopy(model).requires_grad_(False)
        return RolloutPlan(writer, asked_of(self.data, self.encoder, "train"), self.config.train, self.config.seed, kept, folder / LOG)

    def plan(self) -> Plan:
        """The steps of the training."""
        settings = self.config.train
        labels = len(self.data.task.labels) if self.data.task else int(self.has_score_head)
        rows: Sequence[Encoded | Tree] = self.data.trees.get("train") or self.data.rows
        return Plan(rows, settings.batch_rows, settings.micro_batch_tokens, settings.epochs, settings.max_steps, self.config.seed, labels)


def _with_length(config: RunConfig, max_tokens: int | None) -> RunConfig:
    return config.model_copy(update={"data": config.data.model_copy(update={"max_tokens": max_tokens})})
