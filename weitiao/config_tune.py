"""The plan of a search: what is searched, for how long, on how much of the data. A YAML file of its own (`weitiao tune --plan`)."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from weitiao.config_base import Number, Part, Share, Whole
from weitiao.config_io import check_tree, read_tree
from weitiao.language import t

Value = bool | int | float | str | None


class Range(Part):
    """A setting that may take any number between two; both whole: whole numbers only."""

    low: int | Number
    high: int | Number
    log: bool = False
    """Search the logarithm: right for learning rates."""

    @model_validator(mode="after")
    def _check(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(t("low 要小于 high；log 时都要大于 0", "low must be below high; with log both must be above 0"))
        return self

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


Choices = Annotated[list[Value], Field(min_length=1)]
Space = dict[str, Range | Choices]
"""Dotted name of a setting → its range, or the values it may take."""


class TunePlan(Part):
    """How to search. The search ends when the first of its budgets is spent."""

    space: Space | None = None
    """Absent: a small space by method."""
    trials: Annotated[Whole, Field(ge=1)] = 20
    minutes: Annotated[Number, Field(gt=0)] | None = None
    tokens: Annotated[Whole, Field(ge=1)] | None = None
    """Training tokens of all trials together."""
    fractions: tuple[Annotated[Number, Field(gt=0, le=1)], ...] = (0.25, 1.0)
    """Shares of the training rows, growing: a trial goes on to the next while it is among the better ones (successive halving, Li et al.
    2020, arXiv:1810.05934). The last must be 1."""
    keep: Annotated[Share, Field(gt=0)] = 0.34
    """The share of trials that goes on to more data."""
    seed: Annotated[Whole, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check(self) -> "TunePlan":
        if not self.fractions or self.fractions[-1] != 1 or list(self.fractions) != sorted(set(self.fractions)):
            raise ValueError(t("fractions 要逐个增大，最后一个是 1", "fractions must grow, and the last must be 1"))
        return self


def load_plan(path: Path | None, **changes: float | None) -> TunePlan:
    """Read a plan (None: the defaults); ``changes`` that are given override it. Raises ConfigError."""
    overrides = [f"{key}={value}" for key, value in changes.items() if value is not None]
    return check_tree(TunePlan, read_tree(path, overrides, {}), str(path or "tune"))
