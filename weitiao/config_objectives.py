"""The objectives in the configuration: what the training pushes on."""

from typing import Annotated, Literal

from pydantic import Field

from weitiao.config_base import Part


class PretrainObjective(Part):
    """Self-supervised: every token of the text is a target."""

    kind: Literal["pretrain"] = "pretrain"


class SftObjective(Part):
    """Supervised fine-tuning: only the answer and its end token are targets."""

    kind: Literal["sft"] = "sft"


ObjectiveConfig = Annotated[PretrainObjective | SftObjective, Field(discriminator="kind")]
