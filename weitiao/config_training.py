"""Training, its optimiser, the judging and the report in the configuration."""

from typing import Annotated, Literal

from pydantic import Field

from weitiao.config_base import Number, Part, Share, Whole
from weitiao.config_decoding import DecodingConfig
from weitiao.own_code import FunctionName


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
    best_by: Literal["accuracy", "macro_f1", "loss", "reward"] | None = None
    """The validation metric that decides which weights are kept. Absent: macro_f1 for classification, reward for grpo, loss for the
    others."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced`: a row counts in the loss by n / (labels · rows of its label), so that every label weighs the same (classification)."""


class OptimConfig(Part):
    """AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) with a warm-up and a schedule."""

    learning_rate: Annotated[Number, Field(gt=0)] | None = None
    """Highest learning rate. Absent: by method (full 5e-5, lora 5e-4, head 2e-3), a tenth of it for dpo, orpo, simpo and grpo."""
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
    answers: Annotated[Whole, Field(ge=0)] | None = 200
    """Write answers to this many of the test rows, drawn by `seed` (qa, generation; writing is slow). null: to all; 0: to none, only the
    loss is measured."""
    decoding: DecodingConfig = DecodingConfig()
    """How these answers are written, in `evaluate` and `predict` too."""
    metrics: tuple[FunctionName, ...] = ()
    """Functions of your own that score written answers, such as `my_metrics:politeness` (qa, generation): called with the prompts, the
    answers and the good answers (a list for each row), they give a number for each row, higher being better."""


class ReportConfig(Part):
    """The report and the model card."""

    language: Literal["zh", "en"] | None = None
    """Absent: the language of the run's messages."""
