"""What every part of the configuration is made of: the frozen base class and the kinds of values."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, StringConstraints, model_validator

from weitiao.language import t

_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")


def _sound(value: str) -> str:
    """Text that can be stored and encoded: no NUL, no half of a surrogate pair."""
    if _UNUSABLE.search(value):
        raise ValueError(t("含有 NUL 或不成对的代理字符", "holds a NUL character or a lone surrogate"))
    return value


def _on_one_line(value: str) -> str:
    """A name that can be shown, and be a path."""
    if _CONTROL.search(value):
        raise ValueError(t("含有控制字符或不是 UTF-8 的字节", "holds a control character or bytes that are not UTF-8"))
    return value


Name = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True), AfterValidator(_on_one_line)]
Text = Annotated[str, AfterValidator(_sound)]
Column = Annotated[str, StringConstraints(min_length=1), AfterValidator(_sound)]
"""The name of a column, as the file spells it."""
Whole = Annotated[int, Strict()]
"""No text and no true or false, which Python takes for 1 and 0."""
Number = Annotated[float, Strict()]
Share = Annotated[Number, Field(ge=0.0, lt=1.0)]


class Part(BaseModel):
    """A part of the configuration: frozen, unknown keys are errors, a field's documentation is the string under it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _fill_empty_sections(cls, value: object) -> object:
        """A section whose lines are all commented out means its defaults."""
        if not isinstance(value, dict):
            return value
        sections = {name for name, field in cls.model_fields.items() if isinstance(field.default, Part)}
        return {key: entry for key, entry in value.items() if entry is not None or key not in sections}
