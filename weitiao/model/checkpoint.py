"""Trained weights on disk: checkpoints while training, and the result in the form that transformers and peft load by themselves."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from weitiao.errors import ModelError, NonFiniteError
from weitiao.language import t
from weitiao.model.heads import has_score_head
from weitiao.storage import published_folder, write_json

_CARD_KEYS = {"task", "labels", "method", "max_tokens", "base_model"}
CARD = "weitiao.json"
"""The file in a result folder that says what the model is for."""


def trained_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies in main memory of the weights that are trained, by name."""
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}


def restore(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Put trained weights back."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)


def save_checkpoint(folder: Path, weights: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    """Write the trained weights of one step, whole or not at all."""
    with published_folder(folder) as temporary:
        save_file(weights, temporary / "weights.safetensors")
        write_json(temporary / "position.json", facts)


def publish_model(folder: Path, model: Any, tokenizer: Any, card: dict[str, Any]) -> None:
    """Write the result. Raises NonFiniteError, before anything is written, if a trained weight is NaN or infinite."""
    bad = [name for name, p in model.named_parameters() if p.requires_grad and not torch.isfinite(p).all()]
    if bad:
        raise NonFiniteError(
            t(f"训练后的权重含 NaN 或无穷大，不发布：{bad[0]}", f"a trained weight is NaN or infinite, nothing is published: {bad[0]}")
        )
    if has_score_head(model) and model.config.pad_token_id is None:
        # By it transformers finds the last token of each row; without it, its own class takes no batches.
        model.config.pad_token_id = tokenizer.pad_token_id
    with published_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        (temporary / "README.md").unlink(missing_ok=True)  # peft's empty card; the run folder has a real one
        write_json(temporary / CARD, card)


def read_card(folder: Path) -> dict[str, Any]:
    """What the model in a result folder is for. Raises ModelError."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ModelError(
            str(folder / CARD),
            t("没有或读不了", "absent or unreadable"),
            t("这次运行没有完成？看 run.json 里的 state", "did the run finish? see state in its run.json"),
        ) from None
    if not isinstance(card, dict) or not card.keys() >= _CARD_KEYS:
        raise ModelError(str(folder / CARD), t("内容不完整", "not a complete card"), t("重新训练", "train again"))
    return card


def count_parameters(parameters: Iterable[nn.Parameter]) -> int:
    """Number of elements of distinct parameters (tied ones once)."""
    return sum(p.numel() for p in {id(p): p for p in parameters}.values())
