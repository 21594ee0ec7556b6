"""Trained weights on disk: checkpoints while training, and the result in the form that transformers and peft load by themselves.

A checkpoint is a folder ``step-N`` with a manifest: ``weights.safetensors`` (the trained weights), ``position.json`` and, where training
can be continued from it, ``moments.safetensors`` (the optimiser's). It holds all that the next step depends on: order of the data,
dropout and learning rate follow from the seed and the step's number.
"""

import hashlib
import itertools
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from weitiao import storage
from weitiao.data.columns import Columns
from weitiao.errors import DamagedError, ModelError, NonFiniteError
from weitiao.language import t
from weitiao.model.heads import has_score_head
from weitiao.optim import Optimizer
from weitiao.storage import published_folder, write_json

WEIGHTS, MOMENTS, POSITION = "weights.safetensors", "moments.safetensors", "position.json"
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
_CARD_KEYS = {"task", "labels", "method", "max_tokens", "base_model", "columns"}
CARD = "weitiao.json"
"""The file in a result folder that says what the model is for."""


def trained_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies in main memory of the weights that are trained, by name."""
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}


def restore(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Put trained weights back, in the model's precision."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], after: Callable[[], None] = lambda: None) -> str:
    """Write a safetensors file through the storage seam, one tensor at a time: no second copy of them all in memory. The SHA-256 of what
    was to be written, computed from memory while the disk takes it, so that reading the file back shows whether it did. ``after`` is called
    after each tensor. Raises NonFiniteError if one is NaN or infinite, and OSError.

    Format: 8 bytes little-endian length of the header, a JSON header (padded with spaces to a multiple of 8) with dtype, shape and byte
    offsets, then the tensors' bytes in the order of the header. https://github.com/huggingface/safetensors
    """
    header, offset = {}, 0
    for name, tensor in tensors.items():
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    start = struct.pack("<Q", len(text)) + text
    digest = hashlib.sha256(start)
    with storage.disk.open(path, "wb") as file, ThreadPoolExecutor(1) as beside:
        storage.disk.write(file, start)
        for name, tensor in tensors.items():
            _require_finite(name, tensor)
            data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
            hashed = beside.submit(digest.update, data)
            storage.disk.write(file, data)
            hashed.result()
            after()
    return digest.hexdigest()


def _require_finite(name: str, tensor: torch.Tensor) -> None:
    if not torch.isfinite(tensor).all():
        raise NonFiniteError(t(f"{name} 含 NaN 或无穷大，不保存检查点", f"{name} holds NaN or infinity; no checkpoint is written of it"))


def save_checkpoint(
    folder: Path,
    weights: Mapping[str, torch.Tensor],
    position: Mapping[str, Any],
    moments: Mapping[str, torch.Tensor] | None = None,
    identity: Mapping[str, str] | None = None,
    read: Callable[[int], None] = lambda _: None,
) -> None:
    """Write one step's trained weights and its position, with ``moments`` so that training can go on from it; whole or not at all.
    ``identity`` goes into the manifest. ``read`` is told how many tensors, weights before moments, are read: these may change from then on.

    Raises NonFiniteError if a weight or moment is NaN or infinite, and OSError; then nothing stands there.
    """
    known: dict[str, str] = {}
    number = itertools.count(1)
    with published_folder(folder, identity, known) as temporary:
        known[WEIGHTS] = write_tensors(temporary / WEIGHTS, weights, lambda: read(next(number)))
        if moments is not None:
            known[MOMENTS] = write_tensors(temporary / MOMENTS, moments, lambda: read(next(number)))
        write_json(temporary / POSITION, position)


def training_state(model: nn.Module, optimizer: Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(weights in float32 where the optimiser keeps them so, moments) by name: what :func:`save_checkpoint` writes of a training."""
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    weights = dict(zip(names, (m.detach() for m in optimizer.masters), strict=True))
    moments = {}
    for name, master in zip(names, optimizer.masters, strict=True):
        for key, value in optimizer.adamw.state.get(master, {}).items():
            moments[f"{name}.{key}"] = value
    return weights, moments


def resume_training(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Put a checkpoint's weights and moments into a model and its optimiser. Raises DamagedError where they do not fit."""
    weights, moments = read_tensors(folder / WEIGHTS), read_tensors(folder / MOMENTS)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    if weights.keys() != set(names) or any(weights[n].shape != m.shape for n, m in zip(names, optimizer.masters, strict=True)):
        raise DamagedError(folder / WEIGHTS, t("与这次运行的模型不符", "does not fit the model of this run"))
    with torch.no_grad():
        for name, working, master in zip(names, optimizer.working, optimizer.masters, strict=True):
            master.copy_(weights[name])
            if working is not master:
                working.copy_(master)
            state = {key: moments[f"{name}.{key}"].to(master.device) for key in _MOMENTS if f"{name}.{key}" in moments}
            if state:
                optimizer.adamw.state[master] = state


_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps for each weight."""


def read_position(folder: Path) -> dict[str, Any]:
    """Where in the training a checkpoint stands. Raises DamagedError."""
    path = folder / POSITION
    try:
        position = json.loads(storage.read_text(path))
        numbers = [position["step"]]
        if position["resumable"]:
            best, clock = position["best"], position["clock"]
            numbers += [position["metrics_bytes"], best["step"], best["since"], clock["tokens"], clock["targets"], int(clock["seconds"])]
            float(best["value"] or 0.0)
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(numbers)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(path, t("没有或读不了", "absent or unreadable")) from error
    return dict(position)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises DamagedError."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DamagedError(path, t(f"读不了：{error}", f"cannot be read: {error}")) from error


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
        card = json.loads(storage.read_text(folder / CARD))
    except (OSError, ValueError, RecursionError):
        raise ModelError(
            str(folder / CARD),
            t("没有或读不了", "absent or unreadable"),
            t("这次运行没有完成？看 run.json 里的 state", "did the run finish? see state in its run.json"),
        ) from None
    if not isinstance(card, dict) or not card.keys() >= _CARD_KEYS or not _is_card(card):
        raise ModelError(str(folder / CARD), t("内容不完整", "not a complete card"), t("重新训练", "train again"))
    return card


def _is_card(card: dict[str, Any]) -> bool:
    """Whether each entry is of the kind that its readers rely on."""
    labels, base, columns, longest, task = (card[key] for key in ("labels", "base_model", "columns", "max_tokens", "task"))
    return (
        isinstance(labels, list)
        and all(isinstance(label, str) for label in labels)
        and isinstance(base, dict)
        and all(isinstance(base.get(key), str) for key in ("path", "sha256"))
        and isinstance(columns, dict)
        and columns.keys() <= {field.name for field in fields(Columns)}
        and isinstance(task, dict)
        and bool(labels) == (task.get("kind") == "classification")
        and type(longest) is int
        and longest > 0
    )


def count_parameters(parameters: Iterable[nn.Parameter]) -> int:
    """Number of elements of distinct parameters (tied ones once)."""
    return sum(p.numel() for p in {id(p): p for p in parameters}.values())
