"""A folder with data files → the files of each split, by their names."""

import re
from collections.abc import Sequence
from pathlib import Path

from weitiao.data.read import FORMATS
from weitiao.errors import DataError
from weitiao.language import t
from weitiao.records import SPLITS, SplitName

FILE_NAMES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "训练集": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "验证集": "validation",
    "test": "test",
    "testing": "test",
    "测试集": "test",
}
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
"""How hubs cut a large file: train-00000-of-00002.parquet."""
_ALL_SHARDS = re.compile(r"-all-of-(\d{5})(?=\.[^/\\]*$)")


def split_files(folder: Path) -> dict[SplitName, tuple[Path, ...]]:
    """split → its files, in the order of splits; several files only where they are the shards of one.

    Raises ``DataError``, listing the files: no training file, two files for one split, a shard that is missing.
    """
    found: dict[SplitName, dict[str, list[Path]]] = {}
    others: list[str] = []
    for file in sorted(folder.iterdir()):
        name = file.name.lower().removesuffix(".gz")
        suffix = next((known for known in FORMATS if name.endswith(known)), None)
        if suffix is None or not file.is_file():
            continue
        stem = name.removesuffix(suffix)
        shard = _SHARD.search(stem)
        split = FILE_NAMES.get(stem[: shard.start()] if shard else stem)
        if split is None:
            others.append(file.name)
        else:  # the shards of one file share all of their name but their number
            one = f"*-of-{shard[2]}{suffix}" if shard else file.name
            found.setdefault(split, {}).setdefault(one, []).append(file)
    for split, files in found.items():
        _check_one(folder, split, files)
    if "train" not in found:
        names = [file.name for files in found.values() for shards in files.values() for file in shards]
        listed = ", ".join([*names, *others][:5]) or t("（没有）", "(none)")
        cause = t(f"文件夹里没有 train 文件；数据文件：{listed}", f"no train file in this folder; its data files: {listed}")
        raise DataError(str(folder), cause, t("直接指定训练文件", "name the training file itself"))
    return {split: tuple(next(iter(found[split].values()))) for split in SPLITS if split in found}


def _check_one(folder: Path, split: SplitName, files: dict[str, list[Path]]) -> None:
    """One file, or all shards of one."""
    if len(files) > 1:
        listed = t("、", ", ").join(path.name for shards in files.values() for path in shards)
        cause = t(f"有几个文件都像是 {split}：{listed}", f"several files look like {split}: {listed}")
        raise DataError(str(folder), cause, t("只留一个，或直接指定文件", "keep one, or name the file itself"))
    (shards,) = files.values()
    if (numbers := _numbers(shards)) and [number for number, _ in numbers] != list(range(numbers[0][1])):
        cause = t(f"{split} 应有 {numbers[0][1]} 个分片，只有 {len(shards)} 个", f"{split} has {len(shards)} of {numbers[0][1]} shards")
        raise DataError(str(folder), cause, t("补齐缺少的文件", "add the files that are missing"))


def shards_of(name: str) -> list[str]:
    """The files that a name stands for: `train-all-of-00002.parquet` for train-00000-of-00002.parquet and its successor, any other name for
    itself."""
    match = _ALL_SHARDS.search(name)
    if match is None:
        return [name]
    return [f"{name[: match.start()]}-{number:05}-of-{match[1]}{name[match.end() :]}" for number in range(int(match[1]))]


def one_name(names: Sequence[str]) -> str | None:
    """The name that stands for these files, if they are all the shards of one; None if they are not."""
    name = re.sub(r"-\d{5}-of-(\d{5})(?=\.[^/]*$)", r"-all-of-\1", names[0])
    return name if name != names[0] and shards_of(name) == sorted(names) else None


def _numbers(files: Sequence[Path]) -> list[tuple[int, int]]:
    """(number, count) of each shard."""
    found = [_SHARD.search(file.name.lower().removesuffix(".gz").rpartition(".")[0]) for file in files]
    return [(int(match[1]), int(match[2])) for match in found if match]
