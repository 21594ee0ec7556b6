"""Parameter-efficient tuning by low-rank adapters (Hu et al. 2021, arXiv:2106.09685), through peft: W x + (alpha/rank) B A x with W
frozen."""

from typing import Any

from torch import nn

from weitiao.config_methods import LoraMethod
from weitiao.errors import ConfigError
from weitiao.language import t
from weitiao.model.heads import has_score_head
from weitiao.model.load import without_known_warnings


def apply(model: Any, config: LoraMethod) -> nn.Module:
    """Put adapters beside the linear layers. The adapters get the weights' precision; the optimiser keeps them in float32.

    Raises ConfigError when a target names no linear layer, or the output matrix: the loss multiplies by that matrix itself, so an adapter
    beside it would never learn.
    """
    from peft import LoraConfig, get_peft_model

    output = model.get_output_embeddings()
    names = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not output}
    unknown = sorted(set(config.targets or ()) - names)
    if unknown:
        raise ConfigError(
            "method.targets",
            t(
                f"模型里没有叫 {', '.join(unknown)} 的可加适配器的线性层",
                f"the model has no linear layer for adapters named {', '.join(unknown)}",
            ),
            t(f"可选：{', '.join(sorted(names))}", f"known: {', '.join(sorted(names))}"),
        )
    adapters = LoraConfig(
        task_type="SEQ_CLS" if has_score_head(model) else "CAUSAL_LM",  # with a `score` head: that is trained too
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # peft divides by the rank; a fraction is fine
        lora_dropout=config.dropout,
        target_modules=list(config.targets) if config.targets else "all-linear",
        use_dora=config.dora,
        use_rslora=config.rslora,
    )
    with without_known_warnings():
        return get_peft_model(model, adapters, autocast_adapter_dtype=False)
