"""A local folder → model and tokenizer. Only safetensors and JSON are read; code and pickles in a folder are refused, never run."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weitiao.config import ModelConfig
from weitiao.errors import ModelError
from weitiao.language import t
from weitiao.storage import folder_sha256

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BUILTIN_FOLDER = Path(__file__).parent.parent / "builtin" / "model"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_LARGEST_HEADER_BYTES = 25_000_000  # the largest published models stay under 2 MB


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
        return str((self.config.get("architectures") or ["?"])[0])


def find_model(config: ModelConfig) -> ModelFolder:
    """Check the folder of the base model without loading it. Raises ModelError."""
    if config.path == "builtin":
        return check_folder(BUILTIN_FOLDER, "builtin")
    return check_folder(Path(config.path), "local")


def check_folder(path: Path, source: str) -> ModelFolder:
    """Check that a folder holds config.json, tokenizer.json and sound safetensors, and no code that would have to run. Raises ModelError."""
    where = str(path)
    if not path.is_dir():
        raise ModelError(
            where,
            t("没有这个文件夹", "no such folder"),
            t("model 要么是 builtin，要么是本地的模型文件夹（本版本不下载）", "model is `builtin` or a local model folder (this version downloads nothing)"),
        )
    config = _read_json(path / "config.json")
    if "auto_map" in config:
        raise ModelError(
            where,
            t("config.json 里有 auto_map：需要运行文件夹里的代码", "config.json has auto_map: it wants code from the folder to be run"),
            t("本工具从不运行模型文件夹里的代码；请用 transformers 自带架构的模型", "this tool never runs code of a model folder; use a model whose architecture is part of transformers"),
        )
    if not (path / "tokenizer.json").is_file():
        raise ModelError(
            where, t("没有 tokenizer.json", "no tokenizer.json"), t("用 tokenizer.save_pretrained 把快速分词器存进来", "save the fast tokenizer into it: tokenizer.save_pretrained")
        )
    weights = _weight_files(path)
    return ModelFolder(path, source, config, weights, sum(_count_elements(path / name) for name in weights))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(str(path), t("没有这个文件", "no such file"), t("这不是 transformers 格式的模型文件夹", "this is not a model folder in the transformers format")) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(str(path), t(f"读不了：{error}", f"cannot be read: {error}"), t("重新下载这个文件", "fetch the file again")) from None
    if not isinstance(value, dict):
        raise ModelError(str(path), t("不是 JSON 对象", "not a JSON object"), t("重新下载这个文件", "fetch the file again"))
    return value


def _weight_files(path: Path) -> tuple[str, ...]:
    """The safetensors files, of one piece or by their index, all of them present and inside the folder."""
    index = path / "model.safetensors.index.json"
    if (path / "model.safetensors").is_file():
        return ("model.safetensors",)
    if index.is_file():
        names = sorted({str(name) for name in _read_json(index).get("weight_map", {}).values()})
        for name in names:
            if Path(name).name != name or not name.endswith(".safetensors"):
                raise ModelError(str(index), t(f"指向了不允许的文件 {name!r}", f"points to a file that is not allowed: {name!r}"), t("只接受同一文件夹里的 safetensors", "only safetensors in the same folder are accepted"))
            if not (path / name).is_file():
                raise ModelError(str(path / name), t("索引里有，文件夹里没有", "named by the index, absent from the folder"), t("把缺的分片下载完整", "fetch the missing shard"))
        if names:
            return tuple(names)
    pickles = [p.name for pattern in _PICKLES for p in path.glob(pattern)]
    if pickles:
        raise ModelError(
            str(path / pickles[0]),
            t("权重是 pickle 格式，打开它会运行其中的代码", "the weights are a pickle; opening it runs code inside it"),
            t("请换成 safetensors 格式的权重", "use weights in the safetensors format"),
        )
    raise ModelError(str(path), t("没有权重（*.safetensors）", "no weights (*.safetensors)"), t("把权重文件下载到这个文件夹", "fetch the weight files into the folder"))


def _count_elements(path: Path) -> int:
    """Number of elements in a safetensors file, its header checked against the file's length. Format: 8 bytes little-endian header length, a
    JSON header with byte offsets, the data."""
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
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            end = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
            elements = 0
            for entry in tensors.values():
                count = 1
                for dimension in entry["shape"]:
                    count *= int(dimension)
                elements += count
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            raise ModelError(str(path), *broken) from None
    if end != size - 8 - length:
        raise ModelError(
            str(path), t(f"文件有 {size - 8 - length} 字节数据，头部写的是 {end}：没下载完整", f"{size - 8 - length} bytes of data, the header says {end}: incomplete"), broken[1]
        )
    return elements


def choose_device(config: ModelConfig) -> "torch.device":
    """The device to run on. Raises ModelError when CUDA is asked for and absent."""
    import torch

    if config.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("model.device", t("没有可用的 CUDA 显卡", "no CUDA device is available"), t("用 model.device=cpu", "use model.device=cpu"))
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


def load_tokenizer(folder: ModelFolder) -> "PreTrainedTokenizerBase":
    """The folder's fast tokenizer. Raises ModelError."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelError(str(folder.path / "tokenizer.json"), t(f"分词器打不开：{error}", f"the tokenizer cannot be opened: {error}"), t("重新下载分词器文件", "fetch the tokenizer files again")) from error


def load_causal(folder: ModelFolder, device: "torch.device", dtype: "torch.dtype") -> "PreTrainedModel":
    """The folder's causal language model in evaluation mode. Raises ModelError."""
    from transformers import AutoModelForCausalLM

    return _load(AutoModelForCausalLM, folder, device, dtype, {})


def load_with_score_head(folder: ModelFolder, labels: tuple[str, ...], device: "torch.device", dtype: "torch.dtype") -> "PreTrainedModel":
    """The folder's trunk under a `score` head [hidden, labels]: read from the folder if it has one of that shape, else freshly initialised from
    torch's current random state. Raises ModelError."""
    from transformers import AutoModelForSequenceClassification

    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}, "num_labels": len(labels)}
    return _load(AutoModelForSequenceClassification, folder, device, dtype, names)


def _load(auto_class: Any, folder: ModelFolder, device: "torch.device", dtype: "torch.dtype", changes: dict[str, Any]) -> "PreTrainedModel":
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # a fresh score head is meant; transformers reports it at length
    logging.disable_progress_bar()
    try:
        model = auto_class.from_pretrained(
            folder.path, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True, attn_implementation="sdpa", **changes
        )
    except Exception as error:
        raise ModelError(str(folder.path), t(f"模型打不开：{error}", f"the model cannot be opened: {error}"), t("检查 config.json 与权重是否配套", "check that config.json and the weights belong together")) from error
    finally:
        logging.set_verbosity(level)
    model.config.use_cache = False
    return model.to(device).eval()  # type: ignore[no-any-return]
