"""Transfer learning: a frozen trunk with a trained head, optionally with the last blocks."""

from torch import nn

from weitiao.config_methods import HeadMethod
from weitiao.errors import ConfigError
from weitiao.language import t
from weitiao.model.heads import blocks, final_norm, has_score_head, inner, is_tied


def apply(model: nn.Module, config: HeadMethod) -> nn.Module:
    """Freeze the trunk, free the head and the last ``last_blocks`` blocks (with them the final norm, which stands behind them).

    Raises ConfigError when the head is the embedding too (tied) and ``untie`` is off: training it would silently train the embedding.
    """
    model.requires_grad_(False)
    layers = blocks(model)
    if config.last_blocks > len(layers):
        raise ConfigError(
            "method.last_blocks",
            t(
                f"模型只有 {len(layers)} 层，要求训练最后 {config.last_blocks} 层",
                f"the model has {len(layers)} blocks, the last {config.last_blocks} were asked for",
            ),
            t(f"用 0 到 {len(layers)}", f"use 0 to {len(layers)}"),
        )
    if has_score_head(model):
        model.score.requires_grad_(True)
    else:
        _free_output_matrix(model, config)
    if config.last_blocks:
        for block in layers[len(layers) - config.last_blocks :]:
            block.requires_grad_(True)
        final_norm(model).requires_grad_(True)
    return model


def _free_output_matrix(model: nn.Module, config: HeadMethod) -> None:
    core = inner(model)
    output = core.get_output_embeddings()  # type: ignore[operator]
    if is_tied(model):
        if not config.untie:
            raise ConfigError(
                "method.kind = head",
                t(
                    "这个模型的输出矩阵就是词嵌入（tied），训练它会同时改动嵌入",
                    "this model's output matrix is its embedding (tied): training it would change the embedding too",
                ),
                t(
                    "设 method.untie=true 给输出矩阵单独一份，或改用 lora / full",
                    "set method.untie=true to give the output matrix a copy of its own, or use lora / full",
                ),
            )
        output.weight = nn.Parameter(output.weight.detach().clone())
        core.config.tie_word_embeddings = False  # type: ignore[union-attr]
    output.requires_grad_(True)
