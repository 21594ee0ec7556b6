"""Rewards in the configuration: what a written answer is worth."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from weitiao.config_base import Name, Number, Part, Text, Whole
from weitiao.language import t
from weitiao.own_code import FunctionName


def _pattern(value: str) -> str:
    """A regular expression that compiles."""
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(t(f"不是正则表达式：{error}", f"no regular expression: {error}")) from None
    return value


class RewardPart(Part):
    """What all rewards have."""

    weight: Number = 1.0
    """What this reward is multiplied by in the sum; below 0 it is a punishment."""


class ScoreReward(RewardPart):
    """How good the answer is against the row's good answers, from 0 to 1."""

    kind: Literal["score"] = "score"
    metric: Literal["label", "exact", "f1", "rouge_l", "json", "fields"] = "label"
    """`label`: 1 for the good answer to the letter. `exact`, `f1`: as SQuAD's script, in Chinese by character. `json`: 1 for JSON and
    nothing else. `fields`: F1 of the fields of a JSON answer."""


class FormatReward(RewardPart):
    """1 where the whole answer has a form, else 0."""

    kind: Literal["format"] = "format"
    pattern: Annotated[Text, AfterValidator(_pattern)]
    """A regular expression that the whole answer shall match."""


class LengthReward(RewardPart):
    """0 up to a length, falling to −1 at a greater one (the soft punishment of DAPO, Yu et al. 2025, arXiv:2503.14476)."""

    kind: Literal["length"] = "length"
    free_tokens: Annotated[Whole, Field(ge=0)]
    """Up to so many tokens the reward is 0."""
    most_tokens: Annotated[Whole, Field(ge=1)]
    """From so many on it is −1."""

    @model_validator(mode="after")
    def _check(self) -> "LengthReward":
        if self.free_tokens >= self.most_tokens:
            raise ValueError(t("free_tokens 要小于 most_tokens", "free_tokens must be less than most_tokens"))
        return self


class FunctionReward(RewardPart):
    """What a Python function of yours says, run in this process."""

    kind: Literal["function"] = "function"
    function: FunctionName
    """`module:function`; the module is looked for in the working folder too. It is given the prompts, the answers and the good answers
    (three lists) and returns one number for each."""


class ModelReward(RewardPart):
    """The number that a reward model gives."""

    kind: Literal["model"] = "model"
    run: Name
    """The run folder of the reward model (`objective: reward`)."""


AnyReward = Annotated[ScoreReward | FormatReward | LengthReward | FunctionReward | ModelReward, Field(discriminator="kind")]
