"""Which files of a repository may be fetched, and what every fetched file must be. A list of what is allowed: all else stays where it is.

Weights in safetensors, JSON, the files of a fast tokenizer, data in the formats that ``weitiao.data.read`` knows. Never fetched: pickles
(opening one runs code inside it), Python files, archives, and whatever no one thought of.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from weitiao.data.read import FORMATS
from weitiao.errors import HubError, ModelError
from weitiao.hub.names import is_safe_path
from weitiao.language import t

SETTINGS = (
    "config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "LICENSE", "NOTICE",
)  # fmt: skip
"""Files of a model beside its weights. Without ``tokenizer.model``: only fast tokenizers are read, and those are in ``tokenizer.json``."""
REQUIRED = ("config.json", "tokenizer.json")
LARGEST_SETTINGS_BYTES = 200_000_000
"""Of one such file; the largest published tokenizers have 35 MB."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
NOT_DATA = ("dataset_infos.json", "dataset_info.json", "configuration.json", "config.json", "state.json", "package.json")
"""JSON that describes a data set rather than being one."""

_SPLIT_WORDS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "dev": "validation", "valid": "validation",
    "val": "validation", "validation": "validation",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RepoFile:
    """One file as a hub lists it. ``sha256`` or ``git_sha1`` (of git's blob) are None where the hub does not say; ``revision`` is the
    commit that the file last changed in, where the hub says so."""

    path: str
    size: int
    sha256: str | None = None
    git_sha1: str | None = None
    revision: str | None = None


def refuse_unsafe_names(files: Sequence[RepoFile], where: str) -> None:
    """Raise HubError if a listed path would lead out of the folder, or two differ only in case (one would overwrite the other)."""
    remedy = t("这个仓库不可信，换一个", "do not trust this repository; use another")
    seen: dict[str, str] = {}
    for file in files:
        if not is_safe_path(file.path):
            cause = t(f"列出的文件名 {file.path!r} 会写到文件夹外面", f"it lists a file name that leads out of the folder: {file.path!r}")
            raise HubError(where, cause, remedy)
        other = seen.setdefault(file.path.casefold(), file.path)
        if other != file.path:
            cause = t(f"{other} 与 {file.path} 只差大小写", f"{other} and {file.path} differ only in case")
            raise HubError(where, cause, remedy)


def model_settings(files: Sequence[RepoFile], where: str) -> list[RepoFile]:
    """The files of a model beside its weights. Raises ModelError, with the reason, for a repository that has no loadable model."""
    known = {file.path: file for file in files}
    for name in REQUIRED:
        if name not in known:
            adapter = "adapter_config.json" in known and name == "config.json"
            cause = t(f"仓库里没有 {name}", f"the repository has no {name}")
            if adapter:
                cause += t("（这是 LoRA 适配器，不是完整的模型）", " (it is a LoRA adapter, not a whole model)")
            remedy = t("换一个 transformers 格式、带快速分词器的模型", "use a model in the transformers format with a fast tokenizer")
            raise ModelError(where, cause, remedy)
    if not any(path.endswith(".safetensors") and "/" not in path for path in known):
        raise ModelError(where, _no_weights(known), t("换一个有 safetensors 权重的模型", "use a model that has safetensors weights"))
    chosen = [known[name] for name in SETTINGS if name in known]
    for file in chosen:
        if file.size > LARGEST_SETTINGS_BYTES:
            cause = t(f"{file.path} 有 {file.size:,} 字节", f"{file.path} has {file.size:,} bytes")
            raise ModelError(where, cause, t("这不是正常的模型仓库", "this is no ordinary model repository"))
    return chosen


def _no_weights(names: Iterable[str]) -> str:
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        return t(
            f"权重只有 pickle 格式（{pickles[0]}），打开它会运行其中的代码；一个文件也没有下载",
            f"the only weights are pickles ({pickles[0]}); opening one runs code inside it. Nothing was fetched",
        )
    return t("没有权重（*.safetensors）", "no weights (*.safetensors)")


def left_out(files: Sequence[RepoFile], chosen: Iterable[RepoFile]) -> list[str]:
    """The pickles and Python files that are not fetched, for the user to know."""
    taken = {file.path for file in chosen}
    return [file.path for file in files if file.path not in taken and file.path.endswith((*PICKLES, ".py"))]


def data_files(files: Sequence[RepoFile]) -> list[RepoFile]:
    """The data files of a repository: in a format that can be read, hidden files and descriptions left out."""
    found = []
    for file in files:
        path = PurePosixPath(file.path)
        plain = file.path.lower().removesuffix(".gz")
        hidden = any(part.startswith(".") for part in path.parts)
        if plain.endswith(FORMATS) and not hidden and path.name.lower() not in NOT_DATA and not _is_text_about(path):
            found.append(file)
    return found


def _is_text_about(path: PurePosixPath) -> bool:
    return path.suffix.lower() == ".txt" and path.stem.lower() in ("readme", "license", "notice", "requirements")


def split_of(path: str) -> str | None:
    """`train`, `validation` or `test`, if the words of a file's name (else of its folders) name exactly one of them."""
    for part in reversed(path.split("/")):
        words = re.split(r"[^a-z0-9]+", part.lower())
        named = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
        if named:
            return named.pop() if len(named) == 1 else None
    return None


def verify(path: Path, file: RepoFile, where: str) -> None:
    """Raise HubError unless a fetched file has the size and hash that the hub lists."""
    size = path.stat().st_size
    require_size(size, file, where)
    if file.sha256 is not None:
        expected, digest = file.sha256, hashlib.sha256()
    elif file.git_sha1 is not None:
        expected, digest = file.git_sha1, hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    else:
        return
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != expected.lower():
        raise differs(file.path, t("哈希", "hash"), where)


def require_size(size: int, file: RepoFile, where: str) -> None:
    """Raise HubError unless a file has the size that the hub lists."""
    if size != file.size:
        raise differs(file.path, t(f"大小（{size} 字节）", f"size ({size} bytes)"), where)


def differs(path: str, what: str, where: str) -> HubError:
    """A file whose hash or size is another one than the hub lists."""
    return HubError(
        where,
        t(f"{path} 的{what}与仓库列出的不同", f"{path} has another {what} than the hub lists"),
        t("再下载一次；还这样就换一个仓库", "fetch it again; if that does not help use another repository"),
    )


def refuse_links_out(folder: Path) -> None:
    """Raise ModelError if an entry of a model folder is a link that leads out of it. In a snapshot of Hugging Face's cache the links lead
    to that cache's own stores, which is allowed."""
    real = Path(os.path.realpath(folder))
    allowed = [real]
    if real.parent.name == "snapshots" and real.parent.parent.name.startswith(("models--", "datasets--")):
        allowed += [real.parent.parent / "blobs", real.parent.parent.parent / "blobs"]
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink():
            target = Path(os.path.realpath(entry))
            if not any(target.is_relative_to(place) for place in allowed):
                cause = t(f"是指到文件夹外面的符号链接（{target}）", f"is a symbolic link that leads out of the folder ({target})")
                raise ModelError(str(entry), cause, t("换成文件本身", "put the file itself there"))
