"""The methods in the configuration: which weights move."""

from typing import Annotated, Literal

from pydantic import Field

from weitiao.config_base import Name, Number, Part, Whole


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


MethodConfig = Annotated[FullMethod | HeadMethod | LoraMethod, Field(discriminator="kind")]
