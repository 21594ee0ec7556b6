"""A local folder → model and tokenizer. Only safetensors and JSON are read; code and pickles in a folder are refused, never run."""

import json
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import CRITICAL
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weitiao.config_data import ModelConfig
from weitiao.errors import ModelError
from weitiao.hub.allowlist import refuse_links_out
from weitiao.language import t
from weitiao.model.limits import (
    read_settings,
    require_ordinary_files,
    require_ordinary_number_of_tokens,
    require_ordinary_numbers,
    require_weights_for,
)
from weitiao.model.tokenizer_trial import require_harmless_tokenizer
from weitiao.storage import folder_sha256

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BUILTIN_FOLDER = Path(__file__).parent.parent / "builtin" / "model"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
REWARD_LABELS = ("reward",)
"""The one label of a reward model's head."""
_LARGEST_HEADER_BYTES = 25_000_000  # the largest published models stay under 2 MB
_MOST_TENSORS = 100_000


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked local folder. ``weights`` are names of safetensors files in it; ``parameters`` counts their elements."""

    path: Path
    source: str
    config: dict[str, Any]
    weights: tuple[str, ...]
    parameters: int

    def sha256(self) -> str:
        """One hash over weights, configuration and tokenizer."""
        names = [n for n in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja") if (self.path / n).is_file()]
        return folder_sha256(self.path, [*names, *self.weights])

    @property
    def architecture(self) -> str:
        """Class name of the model, as its config says."""
        names = self.config.get("architectures")
        return str(names[0]) if isinstance(names, list) and names else "?"


def find_model(config: ModelConfig) -> ModelFolder:
    """Check the folder of the base model without loading it. Raises ModelError."""
    if config.path == "builtin":
        return check_folder(BUILTIN_FOLDER, "builtin")
    folder = check_folder(Path(config.path), "local")
    if not folder.architecture.endswith(("ForCausalLM", "GPT2LMHeadModel")):
        raise ModelError(
            str(folder.path / "config.json"),
            t(
                f"architectures 是 {folder.architecture}，不是生成式语言模型",
                f"architectures is {folder.architecture}, not a causal language model",
            ),
            t(
                "用 architectures 为 …ForCausalLM 的模型，如 Qwen2ForCausalLM",
                "use a model of an architecture …ForCausalLM, such as Qwen2ForCausalLM",
            ),
        )
    return folder


def check_folder(path: Path, source: str) -> ModelFolder:
    """Check that a folder holds config.json, tokenizer.json and sound safetensors, and no code that would have to run. Raises
    ModelError."""
    where = str(path)
    if not os.path.isdir(path):  # unlike Path.is_dir, false for a name that is too long
        raise ModelError(
            where,
            t("没有这个文件夹", "no such folder"),
            t(
                "model 是 builtin、本地的模型文件夹，或社区里的名字（所有者/名字）",
                "model is `builtin`, a local model folder, or a name on a hub (owner/name)",
            ),
        )
    config = check_settings(path)
    weights = _weight_files(path)
    elements = sum(prod(shape) for name in weights for shape in tensor_shapes(path / name).values())
    # Absolute: an adapter names its base by this path and may be opened from another folder.
    return ModelFolder(path.absolute(), source, config, weights, elements)


def check_settings(path: Path) -> dict[str, Any]:
    """The config.json of a folder, whose weights may still be missing: that it has what a model needs beside them, no link that leads out,
    and wants no code to be run. Raises ModelError."""
    where = str(path)
    refuse_links_out(path)
    require_ordinary_files(path)
    config = read_settings(path / "config.json")
    require_ordinary_numbers(config, path / "config.json")
    others = [name for name in ("tokenizer_config.json", "generation_config.json") if (path / name).is_file()]
    for name, settings in [("config.json", config), *((name, read_settings(path / name)) for name in others)]:
        require_ordinary_number_of_tokens(settings, path / name)
        if not _wants_code(settings):
            continue
        raise ModelError(
            where,
            t(f"{name} 里有 auto_map：需要运行文件夹里的代码", f"{name} has auto_map: it wants code from the folder to be run"),
            t(
                "本工具从不运行模型文件夹里的代码；请用 transformers 自带架构的模型",
                "this tool never runs code of a model folder; use a model whose architecture is part of transformers",
            ),
        )
    if not (path / "tokenizer.json").is_file():
        raise ModelError(
            where,
            t("没有 tokenizer.json", "no tokenizer.json"),
            t("用 tokenizer.save_pretrained 把快速分词器存进来", "save the fast tokenizer into it: tokenizer.save_pretrained"),
        )
    return config


def _wants_code(settings: Any) -> bool:
    """Whether `auto_map` is a key of the settings or of any part of them."""
    parts = [settings]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if "auto_map" in part:
                return True
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    return False


def _weight_files(path: Path) -> tuple[str, ...]:
    """The safetensors files, of one piece or by their index, all of them present and inside the folder."""
    index = path / "model.safetensors.index.json"
    if (path / "model.safetensors").is_file():
        return ("model.safetensors",)
    if index.is_file():
        names = shard_names(index)
        for name in names:
            if not (path / name).is_file():
                raise ModelError(
                    str(path / name),
                    t("索引里有，文件夹里没有", "named by the index, absent from the folder"),
                    t("把缺的分片下载完整", "fetch the missing shard"),
                )
        if names:
            return tuple(names)
    pickles = [p.name for pattern in _PICKLES for p in path.glob(pattern)]
    if pickles:
        raise ModelError(
            str(path / pickles[0]),
            t("权重是 pickle 格式，打开它会运行其中的代码", "the weights are a pickle; opening it runs code inside it"),
            t("请换成 safetensors 格式的权重", "use weights in the safetensors format"),
        )
    raise ModelError(
        str(path),
        t("没有权重（*.safetensors）", "no weights (*.safetensors)"),
        t("把权重文件下载到这个文件夹", "fetch the weight files into the folder"),
    )


def shard_names(index: Path) -> list[str]:
    """The safetensors files that an index names. Raises ModelError for anything else, and for names that lead out of the folder."""
    weight_map = read_settings(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise ModelError(str(index), t("没有 weight_map", "no weight_map"), t("重新下载这个文件", "fetch the file again"))
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(
                str(index),
                t(f"指向了不允许的文件 {name!r}", f"points to a file that is not allowed: {name!r}"),
                t("只接受同一文件夹里的 safetensors", "only safetensors in the same folder are accepted"),
            )
    return names


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape of the tensors of a safetensors file, its header checked against the file's length. Format: 8 bytes little-endian header
    length, a JSON header with byte offsets, the data. Raises ModelError."""
    size = path.stat().st_size
    broken = t("不是完好的 safetensors 文件", "not a sound safetensors file"), t("重新下载这个文件", "fetch the file again")
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise ModelError(str(path), *broken)
        (length,) = struct.unpack("<Q", start)
        if length > min(size - 8, _LARGEST_HEADER_BYTES):
            raise ModelError(str(path), *broken)
        try:
            header = json.loads(file.read(length))
            if len(header) > _MOST_TENSORS:
                raise ValueError(len(header))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            end = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
            shapes = {name: tuple(map(_length, entry["shape"])) for name, entry in tensors.items()}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            raise ModelError(str(path), *broken) from None
    if end != size - 8 - length:
        raise ModelError(
            str(path),
            t(
                f"文件有 {size - 8 - length} 字节数据，头部写的是 {end}：没下载完整",
                f"{size - 8 - length} bytes of data, the header says {end}: incomplete",
            ),
            broken[1],
        )
    return shapes


def _length(dimension: Any) -> int:
    """One entry of a shape. Raises ValueError for what is none."""
    if not isinstance(dimension, int) or dimension < 0:
        raise ValueError(dimension)
    return dimension


def choose_device(config: ModelConfig) -> "torch.device":
    """The device to run on. Raises ModelError when CUDA is asked for and absent."""
    import torch

    if config.device == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "model.device", t("没有可用的 CUDA 显卡", "no CUDA device is available"), t("用 model.device=cpu", "use model.device=cpu")
        )
    return torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(config: ModelConfig, device: "torch.device") -> "torch.dtype":
    """bfloat16 where the processor multiplies in it, else float32, unless the config says otherwise."""
    import torch

    if config.precision != "auto":
        return torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


@contextmanager
def without_known_warnings() -> Iterator[None]:
    """peft asks transformers for a property by its former name; the user can do nothing about the warning that this makes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def first_line(error: Exception) -> str:
    """What another library says, without its advice for programmers."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def load_tokenizer(folder: ModelFolder) -> "PreTrainedTokenizerBase":
    """The folder's fast tokenizer. Raises ModelError, also when it makes token ids that the model does not have."""
    from transformers import AutoTokenizer

    where = str(folder.path / "tokenizer.json")
    require_harmless_tokenizer(folder.path / "tokenizer.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        cause = t(f"分词器打不开：{first_line(error)}", f"the tokenizer cannot be opened: {first_line(error)}")
        raise ModelError(where, cause, t("重新下载分词器文件", "fetch the tokenizer files again")) from error
    if not isinstance(tokenizer.model_max_length, (int, float)):
        cause = t("model_max_length 不是数字", "model_max_length is no number")
        raise ModelError(str(folder.path / "tokenizer_config.json"), cause, t("改正它", "correct it"))
    check_vocabulary(folder, len(tokenizer))
    return tokenizer


def check_vocabulary(folder: ModelFolder, entries: int) -> None:
    """Raise ModelError for a tokenizer of so many entries that makes token ids which the model does not have."""
    rows = folder.config.get("vocab_size")
    if isinstance(rows, int) and entries > rows:
        raise ModelError(
            str(folder.path / "tokenizer.json"),
            t(f"分词器有 {entries} 个词元，模型只有 {rows} 个", f"the tokenizer has {entries} tokens, the model only {rows}"),
            t("分词器与模型不配套；重新下载模型文件夹", "they do not belong together; fetch the model folder again"),
        )


def load_causal(folder: ModelFolder, device: "torch.device", dtype: "torch.dtype") -> "PreTrainedModel":
    """The folder's causal language model in evaluation mode. Raises ModelError."""
    from transformers import AutoModelForCausalLM

    return _load(AutoModelForCausalLM, folder, device, dtype, {}, fresh=())


def load_with_score_head(
    folder: ModelFolder, labels: tuple[str, ...], device: "torch.device", dtype: "torch.dtype", fresh: bool = True
) -> "PreTrainedModel":
    """The folder's trunk under a `score` head [hidden, labels]: read from the folder if it has one of that shape, else (``fresh``)
    initialised from torch's current random state. Raises ModelError."""
    from transformers import AutoModelForSequenceClassification

    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}, "num_labels": len(labels)}
    return _load(AutoModelForSequenceClassification, folder, device, dtype, names, fresh=("score.weight",) if fresh else ())


def without_weights(folder: ModelFolder, num_labels: int | None) -> "PreTrainedModel":
    """The folder's model on torch's meta device: its structure without numbers, in next to no memory. ``num_labels``: under a `score` head
    of so many labels instead of its own head. Raises ModelError."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    auto_class: Any = AutoModelForSequenceClassification if num_labels is not None else AutoModelForCausalLM
    labels = {} if num_labels is None else {"num_labels": num_labels}
    try:
        config = AutoConfig.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False, **labels)
        with torch.device("meta"):
            return auto_class.from_config(config)  # type: ignore[no-any-return]
    except Exception as error:
        cause = t(f"模型打不开：{first_line(error)}", f"the model cannot be opened: {first_line(error)}")
        raise ModelError(str(folder.path / "config.json"), cause, t("检查 config.json", "check config.json")) from error


def count_elements(model: "PreTrainedModel") -> int:
    """Number of elements of a model's parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters())


def _load(
    auto_class: Any, folder: ModelFolder, device: "torch.device", dtype: "torch.dtype", changes: dict[str, Any], fresh: tuple[str, ...]
) -> "PreTrainedModel":
    """The model, every weight of it from the folder but those named in ``fresh``: transformers would initialise what is absent at
    random."""
    from transformers.utils import logging

    from weitiao.cost import limit_kernel_caches

    limit_kernel_caches()
    remedy = t("检查 config.json 与权重是否配套", "check that config.json and the weights belong together")
    shape = without_weights(folder, changes.get("num_labels"))
    fresh_elements = sum(p.numel() for name, p in shape.named_parameters() if name in fresh)
    require_weights_for(folder.config, count_elements(shape) - fresh_elements, folder.parameters, folder.path / "config.json")
    level = logging.get_verbosity()
    logging.set_verbosity(CRITICAL)  # it reports a fresh score head at length; what matters is checked below
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, found = auto_class.from_pretrained(
            folder.path, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True, attn_implementation="sdpa",
            ignore_mismatched_sizes=True, output_loading_info=True, **changes,
        )  # fmt: skip
    except Exception as error:
        cause = t(f"模型打不开：{first_line(error)}", f"the model cannot be opened: {first_line(error)}")
        raise ModelError(str(folder.path), cause, remedy) from error
    finally:
        logging.set_verbosity(level)
    absent = sorted({*found["missing_keys"], *(entry[0] for entry in found["mismatched_keys"])} - set(fresh))
    if absent:
        named = ", ".join(absent[:3]) + (" …" if len(absent) > 3 else "")
        cause = t(f"权重文件里没有这些权重，或形状不符：{named}", f"these weights are absent from the files or have another shape: {named}")
        raise ModelError(str(folder.path), cause, remedy)
    model.config.use_cache = False
    return model.to(device).eval()  # type: ignore[no-any-return]
