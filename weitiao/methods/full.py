"""Full-parameter tuning: every weight moves."""

from torch import nn

from weitiao.config_methods import FullMethod


def apply(model: nn.Module, _config: FullMethod) -> nn.Module:
    """Make every weight trainable."""
    model.requires_grad_(True)
    return model
