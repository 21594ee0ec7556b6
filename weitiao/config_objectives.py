"""The objectives in the configuration: what the training pushes on."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from weitiao.config_base import Number, Part
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


ObjectiveConfig = Annotated[
    PretrainObjective | SftObjective | DpoObjective | OrpoObjective | SimpoObjective | RewardObjective, Field(discriminator="kind")
]
