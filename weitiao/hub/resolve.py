"""Names in a configuration → local paths, in this order: an existing path; the caches, without a request; the preferred hub; the other
one, with a message. What was used is pinned, so that the saved configuration finds the same bytes again, also offline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weitiao.config import RunConfig
from weitiao.config_data import DataConfig, ModelConfig
from weitiao.data.folder import shards_of
from weitiao.errors import ConfigError, DataError, HubError, ModelError, NetworkError
from weitiao.hub import cache
from weitiao.hub.allowlist import RepoFile, data_files, split_of
from weitiao.hub.cache import Snapshot
from weitiao.hub.fetch import choose, fetch_data, fetch_model
from weitiao.hub.names import PREFIXES, TITLES, Hub, HubName, Kind, data_name, model_name
from weitiao.language import t
from weitiao.model.load import check_folder
from weitiao.progress import Reporter
from weitiao.records import SPLITS, SplitName


@dataclass(frozen=True, slots=True)
class Inputs:
    """A configuration to run (``config``: local paths only) and to keep (``pinned``: names with their revisions). ``sources`` says for
    "model" and each split that came from a hub which one it was: source, id, revision and, for data, file."""

    config: RunConfig
    pinned: RunConfig
    sources: dict[str, dict[str, Any]]

    def data_source(self, path: str) -> dict[str, Any]:
        """Where a data file came from; empty for a local one."""
        given = self.config.data.model_dump()
        return next((source for split, source in self.sources.items() if path in shards_of(given.get(split) or "")), {})


def localise(config: RunConfig, reporter: Reporter | None = None) -> Inputs:
    """Find or fetch what the configuration names. Raises UserError or NetworkError."""
    reporter = reporter or Reporter(quiet=True)
    model, kept, sources = _localise_model(config.model, reporter)
    inputs = localise_data(config, reporter)
    return Inputs(
        inputs.config.model_copy(update={"model": model}),
        inputs.pinned.model_copy(update={"model": kept}),
        sources | inputs.sources,
    )


def localise_model(model: ModelConfig, reporter: Reporter | None = None) -> ModelConfig:
    """The settings of a model with its local path. Raises UserError or NetworkError."""
    return _localise_model(model, reporter or Reporter(quiet=True))[0]


def _localise_model(model: ModelConfig, reporter: Reporter) -> tuple[ModelConfig, ModelConfig, dict[str, dict[str, Any]]]:
    name = model_name(model.path, model.revision)
    if name is None:
        if model.revision is not None:
            cause = t(f"{model.path} 是本地路径，没有版本", f"{model.path} is a local path, which has no revisions")
            raise ConfigError("model.revision", cause, t("去掉 model.revision", "leave model.revision out"))
        return model, model, {}
    snapshot = locate_model(name, model.hub, model.offline, reporter)
    local = model.model_copy(update={"path": str(snapshot.folder), "revision": None})
    kept = model.model_copy(update={"path": str(HubName(snapshot.id, snapshot.hub)), "revision": snapshot.revision})
    return local, kept, {"model": _source(snapshot)}


def _source(snapshot: Snapshot) -> dict[str, Any]:
    return {"source": snapshot.hub, "id": snapshot.id, "revision": snapshot.revision}


def locate_model(name: HubName, preferred: Hub, offline: bool, reporter: Reporter) -> Snapshot:
    """A model's snapshot, here or fetched. Raises HubError, ModelError, NetworkError."""
    hubs = hubs_for(name, preferred)
    refusal: ModelError | None = None
    for hub in hubs:
        for snapshot in cache.find(hub, "model", name):
            if not snapshot.files and not (snapshot.folder / "tokenizer_config.json").is_file():
                continue  # another program's, and without what holds the chat template: not whole
            try:
                check_folder(snapshot.folder, hub)
            except ModelError as error:
                refusal = refusal or error
            else:
                return snapshot
    if offline or client_is_offline():
        raise refusal or absent(name, "model", hubs)
    return ask_hubs(hubs, name, fetch_model, reporter)


def ask_hubs(hubs: Sequence[Hub], name: HubName, fetch: Callable[[Hub, HubName, Reporter], Snapshot], reporter: Reporter) -> Snapshot:
    """What the first hub that has it gives; the user is told of each that does not. Raises what ``fetch`` raises."""
    faults: list[HubError | NetworkError] = []
    for hub in hubs:
        try:
            return fetch(hub, name, reporter)
        except (HubError, NetworkError) as error:
            faults.append(error)
            if hub != hubs[-1]:
                said = str(error).splitlines()[0]
                reporter.say(t(f"{said}\n改问 {TITLES[hubs[-1]]}", f"{said}\nasking {TITLES[hubs[-1]]} instead"))
    raise _all_failed(faults, name)


def hubs_for(name: HubName, preferred: Hub) -> tuple[Hub, ...]:
    """A name with a prefix is never looked for elsewhere: there it may be someone else's."""
    if name.hub is not None:
        return (name.hub,)
    other: Hub = "huggingface" if preferred == "modelscope" else "modelscope"
    return (preferred, other)


def client_is_offline() -> bool:
    """Hugging Face's own variables HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE: who sets them wants no request to any hub."""
    from huggingface_hub import is_offline_mode

    return is_offline_mode()


def absent(name: HubName, kind: Kind, hubs: Sequence[Hub]) -> HubError:
    """What is named is not here, and no hub may be asked."""
    places = ", ".join(str(cache.repository_folder(hub, kind, name.id)) for hub in hubs)
    option = " --data" if kind == "dataset" else ""
    return HubError(
        str(name),
        t(
            f"不是已有的路径，缓存里也没有完整的一份（找过 {places}），而设置了离线",
            f"is no existing path and not whole in the caches (looked in {places}), and no hub may be asked",
        ),
        t(
            f"联网时运行 weitiao download {name}{option}；或去掉 model.offline 与 HF_HUB_OFFLINE；或写本地的文件夹",
            f"run weitiao download {name}{option} with a network; or unset model.offline and HF_HUB_OFFLINE; or give a local folder",
        ),
    )


def _all_failed(faults: Sequence[HubError | NetworkError], name: HubName) -> HubError | NetworkError:
    """What to say when no hub gave it: with two, what each of them said."""
    if len(faults) == 1:
        return faults[0]
    network = next((fault for fault in faults if isinstance(fault, NetworkError)), None)
    said = "".join(f"\n  - {str(fault).splitlines()[0]}" for fault in faults)
    cause = t(f"不是已有的路径，两个社区都没有取到：{said}", f"is no existing path, and neither hub gave it:{said}")
    remedy = t("检查名字和网络；本地文件夹写成 ./名字", "check the name and the network; write a local folder as ./NAME")
    return (NetworkError if network else HubError)(str(name), cause, remedy)


def localise_data(config: RunConfig, reporter: Reporter | None = None) -> Inputs:
    """The same for the data alone."""
    reporter = reporter or Reporter(quiet=True)
    given = {split: value for split in SPLITS if (value := config.data.model_dump()[split]) is not None}
    local: dict[str, str] = {}
    kept: dict[str, str] = {}
    sources: dict[str, dict[str, Any]] = {}
    for split, value in given.items():
        name = data_name(value, f"data.{split}")
        if name is None:
            continue
        name, sheet = _without_sheet(name)
        others = [other for other in SPLITS if split == "train" and other != "train" and other not in given]
        snapshot, chosen = locate_data(name, [split, *others], config.model.offline, reporter)
        for found, path in chosen.items():
            local[found] = str(snapshot.folder / path) + sheet
            pinned_revision = snapshot.revision if snapshot.revision and "/" not in snapshot.revision else None
            kept[found] = str(HubName(snapshot.id, snapshot.hub, pinned_revision, path)) + sheet
            sources[found] = _source(snapshot) | {"file": path}
        used = ", ".join(f"{found} = {path}" for found, path in chosen.items())
        reporter.say(t(f"数据 {snapshot.id}：{used}", f"data {snapshot.id}: {used}"))
    return Inputs(_with_data(config, local), _with_data(config, kept), sources)


def localise_file(config: RunConfig, text: str, reporter: Reporter) -> str:
    """One more file that a command names, as a local path: its data set's test split where the name is that of a data set. Raises UserError
    or NetworkError."""
    name = data_name(text, "--data")
    if name is None:
        return text
    name, sheet = _without_sheet(name)
    snapshot, chosen = locate_data(name, ["test"], config.model.offline, reporter)
    reporter.say(t(f"数据 {snapshot.id}：{chosen['test']}", f"data {snapshot.id}: {chosen['test']}"))
    return str(snapshot.folder / chosen["test"]) + sheet


def files_to_look_at(text: str, reporter: Reporter) -> dict[SplitName, Path]:
    """split → its (first) local file of a data set that a command names; nothing for a path. Raises UserError or NetworkError."""
    name = data_name(text, "DATA")
    if name is None:
        return {}
    name, _ = _without_sheet(name)
    snapshot, chosen = locate_data(name, ["train"] if name.file else SPLITS, False, reporter)
    return {split: snapshot.folder / shards_of(chosen[split])[0] for split in SPLITS if split in chosen}


def _without_sheet(name: HubName) -> tuple[HubName, str]:
    """``book.xlsx#sheet`` taken apart (a hub knows files only): the name of the file, and what stands behind it."""
    file, mark, sheet = (name.file or "").rpartition("#")
    return (replace(name, file=file), mark + sheet) if file.lower().endswith((".xlsx", ".xlsx.gz")) else (name, "")


def _with_data(config: RunConfig, changes: dict[str, str]) -> RunConfig:
    data: DataConfig = config.data.model_copy(update=changes)
    return config.model_copy(update={"data": data})


def locate_data(name: HubName, splits: Sequence[str], offline: bool, reporter: Reporter) -> tuple[Snapshot, dict[str, str]]:
    """The snapshot that holds the data, and split → path in it. Raises HubError, DataError, NetworkError."""
    hub = name.hub or PREFIXES["ms://"]
    for snapshot in cache.find(hub, "dataset", name):
        chosen = _choose_cached(snapshot, name, splits)
        if chosen is not None:
            return snapshot, chosen
    if offline or client_is_offline():
        raise absent(name, "dataset", (hub,))
    snapshot = fetch_data(hub, name, splits, reporter)
    return snapshot, choose(name, cache.offered(snapshot), splits, f"{TITLES[hub]} {name.id}")


def _choose_cached(snapshot: Snapshot, name: HubName, splits: Sequence[str]) -> dict[str, str] | None:
    """What the splits are, if all of it is here. A snapshot of another program may lack files, so only what names say counts there."""
    offered = cache.offered(snapshot)
    if offered:
        chosen = choose(name, offered, splits, f"{TITLES[snapshot.hub]} {name.id}")
        if not {path for name in chosen.values() for path in shards_of(name)} <= set(snapshot.files):
            return None
    else:
        found = [RepoFile(path.relative_to(snapshot.folder).as_posix(), 0) for path in sorted(snapshot.folder.rglob("*")) if path.is_file()]
        offered = tuple(file.path for file in data_files(found))
        if name.file is None and not any(split_of(path) == splits[0] for path in offered):
            return None
        try:
            chosen = choose(name, offered, splits, f"{TITLES[snapshot.hub]} {name.id}")
        except DataError:
            return None
    return chosen if all(cache.stays_inside(snapshot, path) for name in chosen.values() for path in shards_of(name)) else None
