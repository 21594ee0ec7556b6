"""ModelScope through its own client, ``modelscope_hub``, as a downloader of files only: never its models, pipelines or data loaders, which
run code that a repository brings along."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from modelscope_hub import HubApi, ProgressCallback
from modelscope_hub import errors as ms_errors

from weitiao.hub.allowlist import RepoFile, differs, verify
from weitiao.hub.cache import COMMIT, repository_folder
from weitiao.hub.client import Advance, Listing, denied, not_there, quiet_client, require_reachable, strange, unreachable
from weitiao.hub.names import Hub, HubName, Kind
from weitiao.language import t

HUB: Hub = "modelscope"
DEFAULT_BRANCH = "master"


class ModelScope:
    """See ``weitiao.hub.client.Client``."""

    def __init__(self) -> None:
        self._api = HubApi()

    def list(self, kind: Kind, name: HubName) -> Listing:
        """The files at the revision. The hub lists with each file the commit that last changed it: the latest of these is the state of
        the branch, and what the listing is pinned to."""
        require_reachable(HUB, self._api.legacy.endpoint)
        asked = name.revision or DEFAULT_BRANCH
        with _translated(kind, name):
            with quiet_client("modelscope_hub"):
                entries = self._api.legacy.list_repo_files(name.id, kind, revision=asked)
            blobs = [entry for entry in entries if (entry.get("Type") or "blob") != "tree"]
            listing = Listing(HUB, kind, name.id, _commit(asked, blobs), tuple(_file(entry) for entry in blobs))
        if not blobs:
            raise not_there(HUB, name, kind)
        return listing

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
    """The commit that a branch stands at; the branch itself where the listing does not settle it."""
    if COMMIT.fullmatch(asked):
        return asked
    dated = [(int(blob.get("CommittedDate") or 0), str(blob.get("Revision") or "")) for blob in blobs]
    newest = max((date for date, _ in dated), default=0)
    latest = {commit for date, commit in dated if date == newest}
    commit = latest.pop() if len(latest) == 1 else ""
    return commit if all(COMMIT.fullmatch(each) for _, each in dated) and commit else asked


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
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # a login page, a proxy's answer
        raise strange(HUB, error) from error


def _ours(error: BaseException, kind: Kind, name: HubName, path: str) -> Exception:
    if isinstance(error, ms_errors.NotExistError):
        return not_there(HUB, name, kind)
    if isinstance(error, (ms_errors.AuthenticationError, ms_errors.PermissionDeniedError)):
        return denied(HUB, name.id)
    if isinstance(error, ms_errors.FileIntegrityError):
        size = isinstance(error, ms_errors.FileSizeMismatchError)
        return differs(path, t("大小", "size") if size else t("哈希", "hash"), f"ModelScope {name.id}")
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        return error  # a full disk, a cache that cannot be written to
    return unreachable(HUB, f"{type(error).__name__} {path}".strip())
