"""The objectives in the configuration: what the training pushes on."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from weitiao.config_base import Number, Part, Whole
from weitiao.config_rewards import AnyReward, ScoreReward
from weitiao.language import t


class PretrainObjective(Part):
    """Self-supervised: every token of the text is a target."""

    kind: Literal["pretrain"] = "pretrain"


class SftObjective(Part):
    """Supervised fine-tuning: only the answer and its end token are targets."""

    kind: Literal["sft"] = "sft"


class DpoObjective(Part):
    """Direct preference optimisation: the better answer gains on the worse one, measured against the base model (Rafailov et al. 2023,
    arXiv:2305.18290)."""

    kind: Literal["dpo"] = "dpo"
    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    """`ipo`: the lead shall be 1 / (2 · beta), no more (Azar et al. 2023, arXiv:2310.12036)."""
    beta: Annotated[Number, Field(gt=0)] = 0.1
    """How closely the model is held to the base: the higher, the less it moves."""
    lengths: Literal["sum", "mean"] = "sum"
    """Whether an answer counts by the sum of its tokens' log-probabilities, or by their mean, so that long answers weigh no more (for `ipo`
    its authors take the mean)."""
    label_smoothing: Annotated[Number, Field(ge=0, lt=0.5)] = 0.0
    """The share of pairs that are taken to be the wrong way round (`sigmoid` only)."""
    sft_weight: Annotated[Number, Field(ge=0)] = 0.0
    """Weight of the better answer's own loss per token, which keeps its probability from falling (Pang et al. 2024, arXiv:2404.19733)."""

    @model_validator(mode="after")
    def _check(self) -> "DpoObjective":
        if self.loss == "ipo" and self.label_smoothing:
            raise ValueError(t("label_smoothing 只用于 loss: sigmoid", "label_smoothing is for loss: sigmoid only"))
        return self


class OrpoObjective(Part):
    """Supervised fine-tuning on the better answer with a term for the odds against the worse one; needs no base model beside it (Hong et
    al. 2024, arXiv:2403.07691)."""

    kind: Literal["orpo"] = "orpo"
    odds_weight: Annotated[Number, Field(gt=0)] = 0.1
    """Weight of the term for the odds."""


class SimpoObjective(Part):
    """The better answer's mean log-probability shall be ahead by a margin; needs no base model beside it (Meng et al. 2024,
    arXiv:2405.14734)."""

    kind: Literal["simpo"] = "simpo"
    scale: Annotated[Number, Field(gt=0)] = 2.0
    """What the difference of the mean log-probabilities is multiplied by (the paper's beta)."""
    margin: Annotated[Number, Field(ge=0)] = 1.0
    """The lead that is asked for, after that multiplication (the paper's gamma)."""


class RewardObjective(Part):
    """A reward model: one number for an answer, higher for the better one of each pair (Bradley & Terry 1952; Ouyang et al. 2022,
    arXiv:2203.02155)."""

    kind: Literal["reward"] = "reward"


class GrpoObjective(Part):
    """Reinforcement: answers are drawn, rewarded, and made more or less probable by how much better than their group they did (Shao et al.
    2024, arXiv:2402.03300)."""

    kind: Literal["grpo"] = "grpo"
    form: Literal["grpo", "dr_grpo", "dapo"] = "grpo"
    """How advantages and tokens count. `grpo`: in units of the group's standard deviation, mean over an answer's tokens. `dr_grpo`: neither
    is divided by (Liu et al. 2025, arXiv:2503.20783). `dapo`: all tokens of the step count alike (Yu et al. 2025, arXiv:2503.14476)."""
    rewards: Annotated[tuple[AnyReward, ...], Field(min_length=1)] = (ScoreReward(),)
    """What an answer is worth: the sum of these, each times its weight."""
    group: Annotated[Whole, Field(ge=2)] = 8
    """Answers drawn to each prompt. A step takes `train.batch_rows` prompts."""
    answer_tokens: Annotated[Whole, Field(ge=1)] = 64
    """Longest answer; one that is not over by then is cut off."""
    temperature: Annotated[Number, Field(gt=0)] = 1.0
    """Answers are drawn from logits / temperature."""
    updates: Annotated[Whole, Field(ge=1)] = 1
    """Optimiser steps on each set of answers. More than 1 saves writing; then `clip_low` and `clip_high` take effect."""
    clip_low: Annotated[Number, Field(gt=0, lt=1)] = 0.2
    clip_high: Annotated[Number, Field(gt=0)] = 0.2
    """Where a token's probability has already moved by these shares since it was drawn, it is pushed no further."""
    kl_weight: Annotated[Number, Field(ge=0)] = 0.0
    """Weight of the distance to the base model, an estimate of the KL divergence per token."""
    overlong: Literal["keep", "leave_out"] = "keep"
    """`leave_out`: nothing is learned from answers that were cut off."""


ObjectiveConfig = Annotated[
    PretrainObjective | SftObjective | DpoObjective | OrpoObjective | SimpoObjective | RewardObjective | GrpoObjective,
    Field(discriminator="kind"),
]
