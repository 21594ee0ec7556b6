"""Fetch a model or data files from one hub: list, refuse, fetch the small files, look at them, fetch the large ones, verify, remember."""

from collections.abc import Sequence
from pathlib import Path

from weitiao.data.folder import one_name, shards_of
from weitiao.errors import DataError, ModelError
from weitiao.hub import cache
from weitiao.hub.allowlist import RepoFile, data_files, left_out, model_settings, refuse_unsafe_names, split_of
from weitiao.hub.cache import Snapshot
from weitiao.hub.client import Client, Listing
from weitiao.hub.names import PREFIXES, TITLES, Hub, HubName
from weitiao.language import t
from weitiao.model.load import check_folder, check_settings, shard_names
from weitiao.progress import Reporter, human_bytes
from weitiao.storage import require_space


def open_client(hub: Hub) -> Client:
    """The adapter of a hub; only now is its client imported."""
    if hub == "huggingface":
        from weitiao.hub.huggingface import HuggingFace

        return HuggingFace()
    from weitiao.hub.modelscope import ModelScope

    return ModelScope()


def fetch_model(hub: Hub, name: HubName, reporter: Reporter) -> Snapshot:
    """A model whole and checked. What is refused is refused before its weights are fetched. Raises HubError, ModelError, NetworkError,
    DiskSpaceError."""
    client = open_client(hub)
    listing = client.list("model", name)
    refuse_unsafe_names(listing.files, listing.title)
    small = model_settings(listing.files, listing.title)
    folder = client.fetch(listing, small, lambda _: None)
    check_settings(folder)
    weights = _weights(listing, folder)
    _announce(listing, [*small, *weights], reporter)
    _transfer(client, listing, weights, folder, reporter)
    check_folder(folder, hub)
    return _completed(listing, name, folder, [*small, *weights])


def _weights(listing: Listing, folder: Path) -> list[RepoFile]:
    known = {file.path: file for file in listing.files}
    if "model.safetensors" in known:
        return [known["model.safetensors"]]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        cause = t("有 safetensors 文件，但没有 model.safetensors 或它的索引", "safetensors files, but no model.safetensors nor its index")
        raise ModelError(listing.title, cause, t("换一个 transformers 格式的模型", "use a model in the transformers format"))
    names = shard_names(index)
    absent = [name for name in names if name not in known]
    if absent:
        cause = t(f"索引里的 {absent[0]} 不在仓库里", f"the repository lacks {absent[0]}, which the index names")
        raise ModelError(listing.title, cause, t("换一个版本或别的仓库", "use another revision or repository"))
    return [known[name] for name in names]


def fetch_data(hub: Hub, name: HubName, splits: Sequence[str], reporter: Reporter) -> Snapshot:
    """The data files of a repository that ``choose`` takes for these splits; without any, all of them. Raises HubError, DataError,
    NetworkError, DiskSpaceError."""
    client = open_client(hub)
    listing = client.list("dataset", name)
    refuse_unsafe_names(listing.files, listing.title)
    offered = data_files(listing.files)
    paths = [file.path for file in offered]
    wanted = set(paths)
    if splits or name.file or not paths:
        wanted = {path for chosen in choose(name, paths, splits or ("train",), listing.title).values() for path in shards_of(chosen)}
    files = [file for file in offered if file.path in wanted]
    folder = cache.repository_folder(hub, "dataset", name.id)
    _announce(listing, files, reporter)
    folder = _transfer(client, listing, files, folder, reporter)
    return _completed(listing, name, folder, files, [file.path for file in offered])


def choose(name: HubName, offered: Sequence[str], splits: Sequence[str], where: str) -> dict[str, str]:
    """Split → path: the named file for the first split, else by the files' names (all shards of one are one file); a split whose file is
    absent is left out, but the first one must have its file. Raises DataError that lists the files and the line that settles it."""
    listed = "".join(f"\n  {path}" for path in offered[:20]) + ("\n  …" if len(offered) > 20 else "")
    first = splits[0]
    if name.file is not None:
        if set(shards_of(name.file)) <= set(offered):
            return {first: name.file}
        cause = t(f"仓库里没有可读的 {name.file}；可读的：{listed}", f"no readable file {name.file}; readable ones:{listed}")
        raise DataError(where, cause, t("从上面选一个", "choose one of the above"))
    if not offered:
        cause = t("没有能读的数据文件（读取用的脚本从不运行）", "no data file that can be read (a loading script is never run)")
        raise DataError(where, cause, t("换一个直接带数据文件的数据集", "use a data set that holds its data as files"))
    found: dict[str, str] = {}
    for split in splits:
        candidates = [path for path in offered if split_of(path) == split]
        if not candidates and split == first == "train":
            unnamed = [path for path in offered if split_of(path) is None]
            candidates = unnamed if len(unnamed) == 1 else []
        if len(candidates) > 1 and (whole := one_name(candidates)):
            candidates = [whole]
        if len(candidates) > 1 or (not candidates and split == first):
            example = f"data.{split}: {_prefix(name)}{name.id}/{(candidates or list(offered))[0]}"
            cause = t(f"从文件名看不出哪一个是 {split}：{listed}", f"the names of its files do not say which one is {split}:{listed}")
            raise DataError(where, cause, t(f"在配置里写明，例如 {example}", f"say it in the configuration, for example {example}"))
        if candidates:
            found[split] = candidates[0]
    return found


def _prefix(name: HubName) -> str:
    return next(prefix for prefix, hub in PREFIXES.items() if hub == (name.hub or "modelscope"))


def _announce(listing: Listing, files: Sequence[RepoFile], reporter: Reporter) -> None:
    size = human_bytes(sum(file.size for file in files))
    reporter.say(
        t(
            f"从 {TITLES[listing.hub]} 取 {listing.id}（版本 {listing.revision[:12]}，{len(files)} 个文件，{size}）",
            f"from {TITLES[listing.hub]}: {listing.id} (revision {listing.revision[:12]}, {len(files)} files, {size})",
        )
    )
    skipped = left_out(listing.files, files)
    if skipped:
        names = ", ".join(skipped[:3]) + (" …" if len(skipped) > 3 else "")
        reporter.say(t(f"不下载会运行代码的文件：{names}", f"not fetched, as they are or hold code: {names}"))


def _transfer(client: Client, listing: Listing, files: Sequence[RepoFile], place: Path, reporter: Reporter) -> Path:
    total = sum(file.size for file in files)
    elsewhere = t("清理磁盘，或用 HF_HOME、MODELSCOPE_CACHE 把缓存移走", "free some, or move the caches: HF_HOME, MODELSCOPE_CACHE")
    require_space(place, total, elsewhere=elsewhere)
    with reporter.transfer(t("下载", "fetching"), total) as bar:
        return client.fetch(listing, files, bar.advance)


def _completed(listing: Listing, name: HubName, folder: Path, files: Sequence[RepoFile], offered: Sequence[str] = ()) -> Snapshot:
    snapshot = Snapshot(listing.hub, listing.kind, listing.id, listing.revision, folder, tuple(file.path for file in files))
    cache.remember(snapshot, name.revision, files, offered)
    return snapshot
