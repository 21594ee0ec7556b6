"""What a model folder may hold before anything of it is opened: ordinary files of ordinary size, and numbers that a model can have.

A folder from elsewhere may hold a pipe that never ends, a settings file of 40 GB of zeros, or a config of 10⁹ layers; each would stop the
program, or the machine, long before a wrong weight is noticed.
"""

import json
import stat
from pathlib import Path
from typing import Any

from weitiao import storage
from weitiao.errors import ModelError
from weitiao.language import t

LARGEST_TOKENIZER_BYTES = 50_000_000
"""The largest published ones have 35 MB."""
_LARGEST_BYTES = {
    "tokenizer.json": LARGEST_TOKENIZER_BYTES,
    "vocab.json": 50_000_000,
    "merges.txt": 50_000_000,
    "tokenizer.model": 50_000_000,
}
_LARGEST_SETTINGS_BYTES = 10_000_000
_SETTINGS = (".json", ".jinja", ".txt", ".model")
_LARGEST = {
    "num_hidden_layers": 1000, "n_layer": 1000, "num_labels": 100_000, "vocab_size": 10**7, "hidden_size": 10**6, "n_embd": 10**6,
    "intermediate_size": 10**7, "num_attention_heads": 10**4, "num_key_value_heads": 10**4, "n_head": 10**4, "head_dim": 10**5,
    "max_position_embeddings": 10**9, "n_positions": 10**9,
}  # fmt: skip
"""Ten times and more what any published model has."""
_LARGEST_RANK = 4096
MOST_ADDED_TOKENS = 20_000


def require_ordinary_files(folder: Path) -> None:
    """Raise ModelError for an entry of a folder that is neither file nor folder, or for settings of a size that no model has."""
    for entry in sorted(folder.iterdir()):
        try:
            status = entry.stat()
        except OSError:  # a link to nothing: who needs the file says that it is absent
            continue
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            raise _refused(entry, t("不是普通文件（管道、设备或套接字）", "is no ordinary file but a pipe, a device or a socket"))
        most = _LARGEST_BYTES.get(entry.name, _LARGEST_SETTINGS_BYTES)
        if entry.suffix in _SETTINGS and status.st_size > most:
            size = status.st_size
            raise _refused(entry, t(f"有 {size:,} 字节，最多 {most:,}", f"has {size:,} bytes; at most {most:,} are read"))


def require_ordinary_numbers(config: dict[str, Any], where: Path) -> None:
    """Raise ModelError for sizes in a config.json that no model has."""
    for name, most in _LARGEST.items():
        value = config.get(name)
        least = 0 if name == "num_labels" else 1
        if isinstance(value, (int, float)) and not least <= value <= most:  # NaN too
            raise _refused(where, t(f"{name} 是 {value}，应为 {least} 到 {most:,}", f"{name} is {value}, not from {least} to {most:,}"))


def require_ordinary_number_of_tokens(settings: dict[str, Any], where: Path) -> None:
    """Raise ModelError for more added tokens in a tokenizer_config.json than any model has."""
    added = settings.get("added_tokens_decoder")
    if isinstance(added, dict) and len(added) > MOST_ADDED_TOKENS:
        n = len(added)
        raise _refused(
            where, t(f"有 {n:,} 个附加词元，最多 {MOST_ADDED_TOKENS:,}", f"has {n:,} added tokens; at most {MOST_ADDED_TOKENS:,}")
        )


def require_weights_for(config: dict[str, Any], needed: int, held: int, where: Path) -> None:
    """Raise ModelError where a config describes a model of ``needed`` parameters and its files hold fewer: before memory is asked for.
    Tied weights may stand once or twice."""
    rows, width = config.get("vocab_size"), config.get("hidden_size")
    head = rows * width if isinstance(rows, int) and isinstance(width, int) else 0
    if needed > held + head:
        cause = t(
            f"描述的模型有 {needed:,} 个参数，权重文件里只有 {held:,} 个",
            f"describes a model of {needed:,} parameters, the weight files hold {held:,}",
        )
        raise _refused(where, cause)


def require_ordinary_adapter(folder: Path) -> None:
    """Raise ModelError unless the settings of an adapter are those of a plain LoRA: a rank that memory can hold, the names of the layers
    rather than a pattern (matching one can take for ever), no module of somebody's to import."""
    path = folder / "adapter_config.json"
    settings = read_settings(path)
    rank, targets = settings.get("r"), settings.get("target_modules")
    if settings.get("peft_type") != "LORA":
        raise _refused(
            path, t(f"peft_type 是 {settings.get('peft_type')!r}，不是 LORA", f"peft_type is {settings.get('peft_type')!r}, not LORA")
        )
    if type(rank) is not int or not 1 <= rank <= _LARGEST_RANK:
        raise _refused(path, t(f"r 是 {rank!r}，应为 1 到 {_LARGEST_RANK}", f"r is {rank!r}, not a number from 1 to {_LARGEST_RANK}"))
    if not (targets == "all-linear" or (isinstance(targets, list) and targets and all(isinstance(name, str) for name in targets))):
        raise _refused(path, t("target_modules 不是层的名字", "target_modules is no list of layers"))
    for name in ("auto_mapping", "megatron_config", "layer_replication", "rank_pattern", "alpha_pattern", "target_parameters"):
        if settings.get(name):
            raise _refused(path, t(f"用了 {name}，本工具不读", f"it uses {name}, which this tool does not read"))


def read_settings(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model folder. Raises ModelError."""
    try:
        value = json.loads(storage.read_text(path))
    except FileNotFoundError:
        raise ModelError(
            str(path),
            t("没有这个文件", "no such file"),
            t("这不是 transformers 格式的模型文件夹", "this is not a model folder in the transformers format"),
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise _refused(path, t(f"读不了：{error}", f"cannot be read: {error}")) from None
    if not isinstance(value, dict):
        raise _refused(path, t("不是 JSON 对象", "not a JSON object"))
    return value


def _refused(where: Path, cause: str) -> ModelError:
    return ModelError(
        str(where), cause, t("重新下载这个文件；还这样就换一个模型", "fetch the file again; if that does not help use another model")
    )
