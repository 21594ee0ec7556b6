"""What `data.train`, `data.validation` and `data.test` name: files, a folder of them, or an entry of LLaMA-Factory's dataset_info.json."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weitiao.config_data import DataConfig
from weitiao.data.chats import ROLES, Tags
from weitiao.data.columns import nearest
from weitiao.data.folder import shards_of, split_files
from weitiao.data.read import check_file
from weitiao.errors import DataError
from weitiao.language import t
from weitiao.records import SplitName

BUILTIN = Path(__file__).parent.parent / "builtin"
BUILTIN_DATA = BUILTIN / "topic.jsonl"
BUILTIN_FILES = {"qa": BUILTIN / "questions.jsonl", "generation": BUILTIN / "extraction.jsonl"}
"""What `builtin` is for tasks that do not take the labelled texts; how these files are made stands in tools/builtin_questions.py."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file: the split that it is (None: to be divided), and what is known of its columns."""

    path: str
    split: SplitName | None
    wanted: Mapping[str, str | None]
    shape: str | None
    tags: Tags = field(default_factory=Tags)


def find_sources(data: DataConfig, task: str = "") -> list[Source]:
    """The files to read, those of the training first; ``task`` decides what `builtin` is. A file that the config names wins over the same
    split's in a folder.

    Raises ``DataError``: a folder without a training file or with two of one split, an entry that cannot be read here.
    """
    if data.train == "builtin":
        for name, file in (("validation", data.validation), ("test", data.test)):
            if file is not None:
                cause = t(f"{file}：内置数据自带划分，不能再给文件", f"{file}: the built-in data have their own splits")
                remedy = t("去掉这一项，或给 data.train 一个文件", "leave it out, or give a file as data.train")
                raise DataError(f"data.{name}", cause, remedy)
        return [source_of(data, str(BUILTIN_FILES.get(task, BUILTIN_DATA)), None)]
    files: dict[SplitName, tuple[str, ...]] = {"train": tuple(shards_of(data.train))}
    if os.path.isdir(data.train):  # pathlib raises for a name that is too long
        files = {split: tuple(map(str, paths)) for split, paths in split_files(Path(data.train)).items()}
    if data.validation is not None:
        files["validation"] = tuple(shards_of(data.validation))
    if data.test is not None:
        files["test"] = tuple(shards_of(data.test))
    missing = ("validation" not in files and data.validation_share > 0) or ("test" not in files and data.test_share > 0)
    return [source_of(data, path, None if split == "train" and missing else split) for split, paths in files.items() for path in paths]


def source_of(data: DataConfig, path: str, split: SplitName | None) -> Source:
    """One file (or entry) as a source of rows."""
    source = Source(path, split, data.columns.model_dump(), data.shape)
    file, mark, name = path.rpartition("#")
    return _entry(Path(file), name, source) if mark and file.endswith(".json") and not os.path.exists(path) else source


# ------------------------------------------------------------------------------------------------- LLaMA-Factory's dataset_info.json

_UNREAD = {
    "hf_hub_url": ("在网站上的数据集；请先下载", "a data set on a hub; download it first"),
    "ms_hub_url": ("在网站上的数据集；请先下载", "a data set on a hub; download it first"),
    "om_hub_url": ("在网站上的数据集；请先下载", "a data set on a hub; download it first"),
    "script_url": ("由脚本生成的数据；这里从不运行脚本", "data made by a script; scripts are never run here"),
    "cloud_file_name": ("在云存储上的文件；请先下载", "a file in cloud storage; download it first"),
}
_COLUMNS = {"alpaca": {"prompt": "instruction", "query": "input", "response": "output"}, "sharegpt": {"messages": "conversations"}}
_FIELDS = {"query": "input", "response": "answer"}
_ROLE_TAGS = {
    "user_tag": ("human", "user"),
    "assistant_tag": ("gpt", "assistant"),
    "observation_tag": ("observation", "tool"),
    "function_tag": ("function_call", "function_call"),
    "system_tag": ("system", "system"),
}


def _entry(info: Path, name: str, source: Source) -> Source:
    """The file of an entry, its columns and tags. Columns that the config names win."""
    where = f"{info}#{name}"
    entry = _object(_read(info).get(name), where, sorted(_read(info)))
    for key, (zh, en) in _UNREAD.items():
        if key in entry and "file_name" not in entry:
            raise DataError(where, f"{key}: {t(zh, en)}", t("给出 file_name", "give a file_name"))
    if "num_samples" in entry:
        raise DataError(where, t("num_samples 不在这里设", "num_samples is not read here"), t("用 data.limit", "use data.limit instead"))
    kind = str(entry.get("formatting", "alpaca"))
    if kind not in _COLUMNS or not isinstance(entry.get("file_name"), str):
        cause = t("要有 file_name，formatting 是 alpaca 或 sharegpt", "needs a file_name and the formatting alpaca or sharegpt")
        raise DataError(where, cause, t("改正这一项", "correct the entry"))
    given = _object(entry.get("columns", {}), f"{where}.columns", [])
    columns = {_FIELDS.get(key, key): str(column) for key, column in {**_default_columns(kind, entry, given), **given}.items()}
    wanted = {**columns, **{key: column for key, column in source.wanted.items() if column is not None}}
    for key in ("kto_tag", "images", "videos", "audios"):
        if wanted.pop(key, None) is not None:
            raise DataError(f"{where}.columns.{key}", t("这里不支持", "is not supported here"), t("去掉这一列", "leave this column out"))
    tags = _object(entry.get("tags", {}), f"{where}.tags", [])
    roles = {str(tags.get(tag, usual)): role for tag, (usual, role) in _ROLE_TAGS.items()} if tags else ROLES
    role, content = (str(tags.get(f"{part}_tag", usual)) for part, usual in (("role", "from"), ("content", "value")))
    made = Tags(role, content, roles) if kind == "sharegpt" and tags else Tags()
    return Source(str(info.parent / entry["file_name"]), source.split, wanted, source.shape or _shape(kind, entry), made)


def _default_columns(kind: str, entry: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """What LLaMA-Factory assumes where the entry is silent. An input column is only assumed where no column is named at all."""
    defaults = dict(_COLUMNS[kind])
    if entry.get("ranking"):
        defaults.pop("response", None)
        defaults |= {"chosen": "chosen", "rejected": "rejected"}
    if given:
        defaults.pop("query", None)
    return defaults


def _shape(kind: str, entry: Mapping[str, Any]) -> str:
    if entry.get("ranking"):
        return "preference" if kind == "alpaca" else "preference_turns"
    return "alpaca" if kind == "alpaca" else "sharegpt"


def _read(info: Path) -> Mapping[str, Any]:
    check_file(info)
    try:
        tree = json.loads(info.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(str(info), t("不是合法的 JSON", f"not valid JSON: {error}"), t("改正这个文件", "correct the file")) from None
    return _object(tree, str(info), [])


def _object(value: object, where: str, names: list[str]) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    near = nearest(where.rpartition("#")[2], names) if names else None
    hint = t(f"；是不是 {near!r}？", f"; did you mean {near!r}?") if near else ""
    listed = ", ".join(names[:20])
    cause = t("没有这一项", "there is no such entry") if names else t("不是一个 JSON 对象", "is no JSON object")
    raise DataError(where, cause, t(f"现有：{listed}", f"there are: {listed}") + hint if names else t("改正这里", "correct it"))
