"""`weitiao download`: ask the hub, whatever the caches hold, and fetch what is newest or named."""

import os
import shutil
from pathlib import Path
from typing import Any

from weitiao.errors import UsageError
from weitiao.hub.cache import Snapshot
from weitiao.hub.fetch import fetch_data, fetch_model
from weitiao.hub.names import TITLES, Hub, HubName, checked_revision, model_name, parse_name
from weitiao.hub.resolve import absent, ask_hubs, client_is_offline, hubs_for
from weitiao.language import t
from weitiao.progress import Reporter
from weitiao.storage import published_folder


def download(text: str, revision: str | None, hub: str, data: bool, to: Path | None, reporter: Reporter) -> dict[str, Any]:
    """Fetch a model, or the data files of a data set. Returns the folder, which revision of what it holds, and its files with their sizes.
    Raises UserError or NetworkError."""
    preferred = next((known for known in TITLES if known == hub), None)
    if preferred is None:
        raise UsageError("--hub", t(f"不认识 {hub!r}", f"unknown: {hub!r}"), " | ".join(TITLES))
    name = _data(text, revision) if data else model_name(text, revision, "NAME")
    if name is None:
        cause = t(f"{text!r} 是本地路径，或不是仓库的名字", f"{text!r} is a local path, or is not the name of a repository")
        raise UsageError("NAME", cause, t("写 所有者/名字、ms://… 或 hf://…", "give owner/name, ms://… or hf://…"))
    if to is not None:
        _require_empty(to)
    hubs = hubs_for(name, preferred)
    if client_is_offline():
        raise absent(name, "dataset" if data else "model", hubs)
    snapshot = ask_hubs(hubs, name, _fetch_all_data if data else fetch_model, reporter)
    return _result(snapshot, _copied(snapshot, to) if to is not None else snapshot.folder)


def _data(text: str, revision: str | None) -> HubName | None:
    name = parse_name(text, "NAME")
    if name is None or revision is None:
        return name
    return HubName(name.id, name.hub, checked_revision(revision, "--revision"), name.file)


def _fetch_all_data(hub: Hub, name: HubName, reporter: Reporter) -> Snapshot:
    return fetch_data(hub, name, (), reporter)


def _require_empty(folder: Path) -> None:
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        cause = t("已经存在，而且不是空文件夹", "exists and is not an empty folder")
        raise UsageError(f"--to {folder}", cause, t("换一个位置", "choose another place"))


def _copied(snapshot: Snapshot, to: Path) -> Path:
    """The files themselves, without the cache's links, with their sizes and hashes in manifest.json; whole or not at all."""
    to = to.absolute()
    to.parent.mkdir(parents=True, exist_ok=True)
    with published_folder(to) as folder:
        for name in snapshot.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(snapshot.folder / name, target)
    return to


def _result(snapshot: Snapshot, folder: Path) -> dict[str, Any]:
    sizes = {name: (folder / name).stat().st_size for name in snapshot.files}
    return {
        "folder": str(folder),
        "source": snapshot.hub,
        "id": snapshot.id,
        "revision": snapshot.revision,
        "files": [{"path": name, "bytes": size} for name, size in sizes.items()],
        "bytes": sum(sizes.values()),
    }
