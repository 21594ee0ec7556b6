"""ModelScope through its own client, ``modelscope_hub``, as a downloader of files only: never its models, pipelines or data loaders, which
run code that a repository brings along."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from modelscope_hub import HubApi, ProgressCallback
from modelscope_hub import errors as ms_errors

from weitiao.errors import HubError
from weitiao.hub.allowlist import RepoFile, verify
from weitiao.hub.cache import COMMIT, repository_folder
from weitiao.hub.client import Advance, Listing, denied, not_there, quiet_client, require_reachable, unreachable
from weitiao.hub.names import Hub, HubName, Kind
from weitiao.language import t

HUB: Hub = "modelscope"
DEFAULT_BRANCH = "master"


class ModelScope:
    """See ``weitiao.hub.client.Client``."""

    def __init__(self) -> None:
        self._api = HubApi()
        self._reached = False

    def list(self, kind: Kind, name: HubName) -> Listing:
        """The files at the revision. The hub lists with each file the commit that last changed it: the latest of these is the state of
        the branch, and what the listing is pinned to."""
        if not self._reached:
            require_reachable(HUB, self._api.legacy.endpoint)
            self._reached = True
        asked = name.revision or DEFAULT_BRANCH
        with _translated(kind, name), quiet_client("modelscope_hub"):
            entries = self._api.legacy.list_repo_files(name.id, kind, revision=asked)
        blobs = [entry for entry in entries if (entry.get("Type") or "blob") != "tree"]
        if not blobs:
            raise not_there(HUB, name, kind)
        return Listing(HUB, kind, name.id, _commit(asked, blobs), tuple(_file(entry) for entry in blobs))

    def fetch(self, listing: Listing, files: Sequence[RepoFile], advance: Advance) -> Path:
        """The client resumes, retries, and checks size and SHA-256; each file appears under its name only when it passed."""
        folder = repository_folder(HUB, listing.kind, listing.id) / "snapshots" / listing.revision
        wanted = [{"Path": file.path, "Size": file.size, "Sha256": file.sha256, "Type": "blob"} for file in files]
        name = HubName(listing.id, HUB, listing.revision)
        with _translated(listing.kind, name), quiet_client("modelscope_hub"):
            self._api.download_repo(
                listing.id, listing.kind, revision=listing.revision, local_dir=folder, file_list=wanted,
                progress_callbacks=[_progress(advance)],
            )  # fmt: skip
        for file in files:
            if file.sha256 is None:  # else the client compared it
                verify(folder / file.path, file, listing.title)
        return folder


def _commit(asked: str, blobs: Sequence[dict[str, Any]]) -> str:
    """The commit that a branch stands at; the branch itself where the listing has no commits."""
    if COMMIT.fullmatch(asked):
        return asked
    dated = [(int(blob.get("CommittedDate") or 0), str(blob.get("Revision") or "")) for blob in blobs]
    commits = [entry for entry in dated if COMMIT.fullmatch(entry[1])]
    return max(commits)[1] if len(commits) == len(blobs) else asked


def _file(entry: dict[str, Any]) -> RepoFile:
    path = str(entry.get("Path") or entry.get("Name") or "")
    return RepoFile(path, int(entry.get("Size") or 0), str(entry.get("Sha256") or "").lower() or None, None)


def _progress(advance: Advance) -> type[ProgressCallback]:
    """The class that the client makes one of for each file, in several threads."""
    lock = Lock()

    class Progress(ProgressCallback):
        """Bytes of one file."""

        def update(self, size: int) -> None:
            with lock:
                advance(size)

    return Progress


@contextmanager
def _translated(kind: Kind, name: HubName) -> Iterator[None]:
    """The client's errors as ours."""
    try:
        yield
    except ms_errors.FileDownloadError as error:
        path, first = next(iter(error.failed_files.items()))
        raise _ours(first, kind, name, path) from error
    except (ms_errors.HubError, OSError) as error:
        raise _ours(error, kind, name, "") from error


def _ours(error: BaseException, kind: Kind, name: HubName, path: str) -> Exception:
    if isinstance(error, ms_errors.NotExistError):
        return not_there(HUB, name, kind)
    if isinstance(error, (ms_errors.AuthenticationError, ms_errors.PermissionDeniedError)):
        return denied(HUB, name.id)
    if isinstance(error, ms_errors.FileIntegrityError):
        size = isinstance(error, ms_errors.FileSizeMismatchError)
        what = t("大小", "size") if size else t("哈希", "hash")
        cause = t(f"{path} 的{what}与仓库列出的不同", f"{path} has another {what} than the hub lists")
        return HubError(f"ModelScope {name.id}", cause, t("再下载一次；还这样就换一个仓库", "fetch it again; else use another repository"))
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        return error  # a full disk, a cache that cannot be written to
    return unreachable(HUB, f"{type(error).__name__} {path}".strip())
