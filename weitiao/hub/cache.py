"""What is here already. The clients' own caches are used, so that other programs find what was fetched; beside each snapshot that this
program completed lies a manifest with the sizes of its files, so that a half-fetched one is never taken for whole.

    Hugging Face   HF_HUB_CACHE/models--owner--name/snapshots/<commit>/     refs/<branch> holds a commit
    ModelScope     MODELSCOPE_CACHE/models/owner--name/snapshots/<commit>/  older clients: models/owner/name, hub/models/owner/name
    manifests      <the repository's folder>/.weitiao/<commit>.json
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weitiao.hub.allowlist import RepoFile
from weitiao.hub.names import Hub, HubName, Kind, is_safe_path
from weitiao.storage import write_bytes, write_json

COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Files of one revision of a repository, here. ``revision`` is the commit (a branch where the hub does not tell); None: not known.
    ``files`` are those that this program fetched; empty: another program did, and what is there must be looked at."""

    hub: Hub
    kind: Kind
    id: str
    revision: str | None
    folder: Path
    files: tuple[str, ...] = ()


def find(hub: Hub, kind: Kind, name: HubName) -> list[Snapshot]:
    """The snapshots in a hub's cache that the name may mean, best first; no request is made. A completed one is complete; others may lack
    files."""
    storage = repository_folder(hub, kind, name.id)
    found = _completed(storage, hub, kind, name)
    foreign = _huggingface(storage, name) if hub == "huggingface" else _modelscope(storage, kind, name)
    known = {snapshot.folder for snapshot in found}
    for revision, folder in foreign:
        if folder.is_dir() and folder not in known:
            found.append(Snapshot(hub, kind, name.id, revision, folder))
    return found


def cache_root(hub: Hub) -> Path:
    """The cache of a hub's client, where its own variables put it."""
    if hub == "huggingface":
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE)
    from modelscope_hub.config import HubConfig

    return HubConfig(token="").cache_dir  # a token given, so that no stored one is read


def repository_folder(hub: Hub, kind: Kind, repository: str) -> Path:
    """The folder of a repository in its hub's cache; it need not exist."""
    safe = repository.replace("/", "--")
    return cache_root(hub) / f"{kind}s--{safe}" if hub == "huggingface" else cache_root(hub) / f"{kind}s" / safe


def remember(snapshot: Snapshot, asked: str | None, files: Sequence[RepoFile], offered: Sequence[str] = ()) -> None:
    """Write the manifest of a completed snapshot: its files (those fetched earlier stay listed, if the revision is a commit), and that it
    is what ``asked`` (None: the default branch) means now, which no other snapshot is any more. ``offered``: all data files that the
    repository has, fetched or not."""
    path = _manifest(repository_folder(snapshot.hub, snapshot.kind, snapshot.id), snapshot.revision or "unknown")
    path.parent.mkdir(exist_ok=True)
    for other in path.parent.glob("*.json"):
        manifest = _read(other)
        if other != path and asked in manifest.get("asked", []):
            write_json(other, manifest | {"asked": [name for name in manifest["asked"] if name != asked]})
    former = _read(path)
    names = [*(name for name in former.get("asked", []) if name != asked), asked]
    kept = former.get("files", {}) if COMMIT.fullmatch(snapshot.revision or "") else {}
    listed = {file.path: {"bytes": file.size, "sha256": file.sha256, "git_sha1": file.git_sha1} for file in files}
    write_json(path, {"revision": snapshot.revision, "asked": names, "files": kept | listed, "offered": list(offered)})
    if snapshot.hub == "huggingface" and not COMMIT.fullmatch(asked or "main"):
        reference = path.parent.parent / "refs" / (asked or "main")  # as the client writes it, so that it resolves the name offline too
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(reference, str(snapshot.revision).encode())


def offered(snapshot: Snapshot) -> tuple[str, ...]:
    """All data files of the repository, as they were listed when this program fetched from it; empty if it did not."""
    if not snapshot.files:
        return ()
    path = _manifest(repository_folder(snapshot.hub, snapshot.kind, snapshot.id), snapshot.revision or "unknown")
    names = _read(path).get("offered", [])
    return tuple(name for name in names if isinstance(name, str) and is_safe_path(name)) if isinstance(names, list) else ()


def stays_inside(snapshot: Snapshot, path: str) -> bool:
    """Whether a file of a snapshot is there and, its links followed, still within the hub's cache."""
    root, target = os.path.realpath(cache_root(snapshot.hub)), Path(os.path.realpath(snapshot.folder / path))
    return target.is_file() and target.is_relative_to(root)


def _manifest(storage: Path, revision: str) -> Path:
    return storage / ".weitiao" / f"{revision.replace('/', '--')}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    sound = isinstance(value, dict) and isinstance(value.get("files"), dict) and isinstance(value.get("asked"), list)
    return value if sound else {}


def _completed(storage: Path, hub: Hub, kind: Kind, name: HubName) -> list[Snapshot]:
    """The snapshots with a manifest that says so and is fulfilled."""
    found = []
    for path in sorted((storage / ".weitiao").glob("*.json")):
        manifest = _read(path)
        revision = manifest.get("revision")
        if not isinstance(revision, str) or not is_safe_path(revision) or name.revision not in (*manifest["asked"], revision):
            continue
        folder = storage / "snapshots" / revision
        if all(is_safe_path(file) and _has(folder / file, entry) for file, entry in manifest["files"].items()):
            found.append(Snapshot(hub, kind, name.id, revision, folder, tuple(manifest["files"])))
    return found


def _has(path: Path, entry: Any) -> bool:
    return isinstance(entry, dict) and path.is_file() and path.stat().st_size == entry.get("bytes")


def _huggingface(storage: Path, name: HubName) -> list[tuple[str | None, Path]]:
    """As the client resolves a revision without a request."""
    revision = name.revision or "main"
    if not COMMIT.fullmatch(revision):
        try:
            revision = (storage / "refs" / revision).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return []
    return [(revision, storage / "snapshots" / revision)] if COMMIT.fullmatch(revision) else []


def _modelscope(storage: Path, kind: Kind, name: HubName) -> list[tuple[str | None, Path]]:
    """As the client does: by revision, else its default branch, else what clients before 1.38 left."""
    if name.revision:
        return [(name.revision, storage / "snapshots" / name.revision)]
    owner, _, own = name.id.partition("/")
    root = storage.parent.parent
    older = [root / f"{kind}s" / owner / own.replace(".", "___"), root / "hub" / f"{kind}s" / owner / own.replace(".", "___")]
    branches: list[tuple[str | None, Path]] = [(branch, storage / "snapshots" / branch) for branch in ("master", "main")]
    return branches + [(None, folder) for folder in older]
