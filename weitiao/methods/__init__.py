"""Which weights move."""

from typing import Any

from torch import nn

from weitiao.config_methods import FullMethod, HeadMethod, LoraMethod
from weitiao.methods import full, head, lora


def apply_method(model: Any, config: FullMethod | HeadMethod | LoraMethod) -> nn.Module:
    """The model with the method's weights trainable and all others frozen. Raises ConfigError when the method does not fit the model."""
    match config:
        case FullMethod():
            return full.apply(model, config)
        case HeadMethod():
            return head.apply(model, config)
        case LoraMethod():
            return lora.apply(model, config)
