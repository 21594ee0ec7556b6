"""What a user calls a model or a data set: a path, or the name of a repository on a hub. Nothing is looked up here but whether a path
exists."""

import os
import re
from dataclasses import dataclass
from typing import Literal

from weitiao.errors import ConfigError
from weitiao.language import t

Hub = Literal["modelscope", "huggingface"]
Kind = Literal["model", "dataset"]
TITLES: dict[Hub, str] = {"modelscope": "ModelScope", "huggingface": "Hugging Face"}
PREFIXES: dict[str, Hub] = {"ms://": "modelscope", "hf://": "huggingface"}

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?P<id>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9_][A-Za-z0-9_.-]*))?(?:/(?P<file>.+))?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository as the user named it. ``hub`` None: whichever has it; ``revision`` None: the newest; ``file`` is for data only."""

    id: str
    hub: Hub | None = None
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        prefix = next((text for text, hub in PREFIXES.items() if hub == self.hub), "")
        revision = f"@{self.revision}" if self.revision else ""
        return f"{prefix}{self.id}{revision}{f'/{self.file}' if self.file else ''}"


def is_prefixed(text: str) -> bool:
    """Whether the text says by its prefix which hub it means."""
    return text.startswith(tuple(PREFIXES))


def model_name(text: str, revision: str | None = None, where: str = "model.path") -> HubName | None:
    """The repository that a model's name means; None: a local path (``builtin`` included). What exists as a path is one; so is anything but
    ``owner/name`` (``./x``, ``/x``, ``x``). Raises ConfigError for a prefix with a name that cannot be one, or two different revisions."""
    if not is_prefixed(text) and os.path.exists(text):
        return None
    name = parse_name(text, where)
    if name is None or (name.file is not None and name.hub is None):
        return None
    if name.file is not None:
        cause = t(f"{text}：模型是整个仓库，不是其中一个文件", f"{text}: a model is a whole repository, not one file of it")
        raise ConfigError(where, cause, t(f"写 {name.id}", f"write {name.id}"))
    if revision is None:
        return name
    if name.revision not in (None, revision):
        cause = t(f"名字里是 {name.revision}，model.revision 是 {revision}", f"the name says {name.revision}, model.revision {revision}")
        raise ConfigError(where, cause, t("只写一个", "give one of them"))
    return HubName(name.id, name.hub, checked_revision(revision))


def data_name(text: str, where: str) -> HubName | None:
    """The repository, or file of it, that the name of data means; None: a local path. Only a prefix leads to a hub: ``news/train.jsonl`` is
    a path. Raises ConfigError."""
    return parse_name(text, where) if is_prefixed(text) else None


def parse_name(text: str, where: str) -> HubName | None:
    """The repository that a text can name, whatever paths exist; None if it cannot. Raises ConfigError for a prefix without a name."""
    prefix = next((prefix for prefix in PREFIXES if text.startswith(prefix)), "")
    match = _NAME.fullmatch(text.removeprefix(prefix))
    if match is None or ".." in match["id"] or "--" in match["id"]:  # caches write the slash as two dashes
        if not prefix:
            return None
        cause = t(f"{text!r} 不是仓库的名字", f"{text!r} is not the name of a repository")
        form = f"{prefix}owner/name[@revision]"
        raise ConfigError(where, cause, t(f"写成 {form}", f"write {form}"))
    file = match["file"]
    if file is not None and not is_safe_path(file):
        if not prefix:
            return None
        cause = t(f"{file!r} 会指到仓库外面", f"{file!r} leads out of the repository")
        raise ConfigError(where, cause, t("写仓库里文件的路径", "give the path of a file in the repository"))
    return HubName(match["id"], PREFIXES.get(prefix), match["revision"], file)


def checked_revision(revision: str, where: str = "model.revision") -> str:
    """A branch, tag or commit that cannot be taken for a path out of a cache. Raises ConfigError."""
    if not _REVISION.fullmatch(revision) or ".." in revision or len(revision) > 200:
        cause = t(f"{revision!r} 不能是分支、标签或提交", f"{revision!r} cannot be a branch, tag or commit")
        raise ConfigError(where, cause, t("写成 main、v1.0 或 40 位的提交号", "write main, v1.0, or a commit of 40 digits"))
    return revision


def is_safe_path(path: str) -> bool:
    """Whether a path from outside stays within the folder that it is joined to, on every system."""
    parts = path.split("/")
    return (
        bool(path)
        and len(path) <= 500
        and not any(part in ("", ".", "..") or part.endswith((" ", ".")) for part in parts)
        and not re.search(r'[\x00-\x1f\x7f\\:*?"<>|]', path)
    )
