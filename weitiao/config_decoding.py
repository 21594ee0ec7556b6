"""The part of the configuration about writing answers."""

from typing import Annotated

from pydantic import Field

from weitiao.config_base import Number, Part, Whole


class DecodingConfig(Part):
    """How answers are written, token by token."""

    max_new_tokens: Annotated[Whole, Field(ge=1)] = 256
    """Longest answer in tokens; one that is not over by then is cut off and counted."""
    temperature: Annotated[Number, Field(ge=0)] = 0.0
    """0: always the most probable token. Above: tokens are drawn by `seed` from the probabilities of logits / temperature."""
    top_p: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """Draw only from the most probable tokens that together reach this probability (Holtzman et al. 2020, arXiv:1904.09751)."""
    top_k: Annotated[Whole, Field(ge=0)] = 0
    """Draw only from this many of the most probable tokens; 0: from all."""
    constrained: bool = False
    """Only tokens that keep to `task.json_schema` may be written (generation; `pip install 'weitiao[json]'`)."""
