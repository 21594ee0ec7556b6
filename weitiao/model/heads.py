"""The two parts of a decoder-only model: the trunk (tokens → hidden states) and what stands on it."""

import torch
from torch import nn


def inner(model: nn.Module) -> nn.Module:
    """The transformers model inside a peft wrapper, or the model itself. The adapters live in its layers either way."""
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model


def trunk(model: nn.Module) -> nn.Module:
    """The transformer without its head: ``trunk(model)(input_ids=...).last_hidden_state`` [B, S, H], the final norm included."""
    return inner(model).base_model  # type: ignore[return-value]


def output_matrix(model: nn.Module) -> torch.Tensor:
    """The matrix [V, H] that turns hidden states into logits (the embedding itself where they are tied)."""
    return inner(model).get_output_embeddings().weight  # type: ignore[operator,no-any-return]


def has_score_head(model: nn.Module) -> bool:
    """Whether labels are scored by a `score` head rather than by the probability of their text."""
    return "score" in dict(inner(model).named_children())


def blocks(model: nn.Module) -> nn.ModuleList:
    """The transformer blocks, first to last."""
    return next(child for child in trunk(model).children() if isinstance(child, nn.ModuleList))


def final_norm(model: nn.Module) -> nn.Module:
    """The norm behind the last block: the one normalisation that stands beside the blocks."""
    return [child for name, child in trunk(model).named_children() if "norm" in name or name == "ln_f"][-1]


def is_tied(model: nn.Module) -> bool:
    """Whether the output matrix is the embedding."""
    core = inner(model)
    output = core.get_output_embeddings()  # type: ignore[operator]
    return output is not None and output.weight is core.get_input_embeddings().weight  # type: ignore[operator]
