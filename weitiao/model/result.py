"""The result of a run, loaded again to answer."""

from pathlib import Path
from typing import Any

from torch import nn

from weitiao.config_data import ModelConfig
from weitiao.errors import ModelError
from weitiao.hub.resolve import localise_model
from weitiao.language import t
from weitiao.model.checkpoint import read_card, read_tensors
from weitiao.model.limits import require_ordinary_adapter, require_ordinary_files
from weitiao.model.load import (
    REWARD_LABELS,
    ModelFolder,
    check_folder,
    choose_device,
    choose_precision,
    find_model,
    first_line,
    load_causal,
    load_with_score_head,
    without_known_warnings,
)


def load_result(folder: Path, config: ModelConfig) -> tuple[nn.Module, ModelFolder, dict[str, Any]]:
    """The model of a result folder, the folder of its tokenizer, and its card. Raises ModelError, also when the base model under an adapter
    is another one than in training."""
    require_ordinary_files(folder)
    card = read_card(folder)
    device = choose_device(config)
    dtype = choose_precision(config, device)
    if card["method"] == "lora":
        base = find_model(localise_model(config))
        if base.sha256() != card["base_model"]["sha256"]:
            raise ModelError(
                str(base.path),
                t(
                    "基础模型与训练时的不同（哈希不一致），适配器不能用在它上面",
                    "not the base model of the training (its hash differs); the adapter must not be used on it",
                ),
                t(f"用训练时的模型：{card['base_model']['path']}", f"use the model of the training: {card['base_model']['path']}"),
            )
        rewards = card.get("objective") == "reward"
        model = load_with_score_head(base, REWARD_LABELS, device, dtype) if rewards else load_causal(base, device, dtype)
        return _with_adapter(model, folder), base, card
    result = check_folder(folder, "local")
    if card.get("objective") == "reward":
        return load_with_score_head(result, REWARD_LABELS, device, dtype, fresh=False), result, card
    if card["method"] == "head" and card["task"]["kind"] == "classification":
        return load_with_score_head(result, tuple(card["labels"]), device, dtype, fresh=False), result, card
    return load_causal(result, device, dtype), result, card


def _with_adapter(model: Any, folder: Path) -> nn.Module:
    from peft import PeftModel, get_peft_model_state_dict

    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(
            str(folder),
            t("没有 adapter_model.safetensors", "no adapter_model.safetensors"),
            t("这次运行没有完成？看 run.json", "did the run finish? see its run.json"),
        )
    require_ordinary_adapter(folder)
    held = read_tensors(folder / "adapter_model.safetensors")
    try:
        with without_known_warnings():
            adapted = PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=False, local_files_only=True).eval()
            wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    except Exception as error:
        raise ModelError(
            str(folder),
            t(f"适配器打不开：{first_line(error)}", f"the adapter cannot be opened: {first_line(error)}"),
            t("重新训练，或换回原来的文件", "train again, or restore the original files"),
        ) from error
    wrong = sorted(held.keys() ^ wanted.keys()) or sorted(name for name, value in held.items() if not value.isfinite().all())
    if wrong:  # peft would go on without what is absent, and answer with what is NaN
        raise ModelError(
            str(folder / "adapter_model.safetensors"),
            t(f"权重缺少、多余或不是有限数：{wrong[0]}", f"a weight is missing, too many, or not finite: {wrong[0]}"),
            t("重新训练，或换回原来的文件", "train again, or restore the original files"),
        )
    return adapted
