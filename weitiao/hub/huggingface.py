"""Hugging Face (or what HF_ENDPOINT names) through its own client, ``huggingface_hub``.

The client throws a partial download away when it fails, and compares no hashes. So each file's bytes come through its `http_get` into the
place where its cache keeps content, resumed there and verified; then the client itself puts the snapshot together around them.
"""

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from filelock import FileLock
from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)  # fmt: skip
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from weitiao.errors import HubError, NetworkError
from weitiao.hub.allowlist import RepoFile, require_size, verify
from weitiao.hub.cache import repository_folder
from weitiao.hub.client import Advance, Listing, denied, not_there, quiet_client, require_reachable, strange, unreachable
from weitiao.hub.names import Hub, HubName, Kind

HUB: Hub = "huggingface"
LIST_SECONDS = 20.0
PAUSES_SECONDS = (1.0, 4.0)
"""Before the second and third attempt at what failed for a reason that passes."""
Result = TypeVar("Result")
TransportFault: type[BaseException] = HfHubHTTPError.__bases__[0]
"""The base of all that the client's transport raises, whichever it uses."""


class HuggingFace:
    """See ``weitiao.hub.client.Client``."""

    def __init__(self) -> None:
        self._api = HfApi()

    def list(self, kind: Kind, name: HubName) -> Listing:
        """The files at the revision, pinned to its commit."""
        require_reachable(HUB, self._api.endpoint)

        def ask() -> Listing:
            info = self._api.model_info if kind == "model" else self._api.dataset_info
            with _translated(kind, name), quiet_client("huggingface_hub"):
                found = info(name.id, revision=name.revision, files_metadata=True, timeout=LIST_SECONDS)
            files = []
            for entry in found.siblings or []:
                lfs = entry.lfs
                size = lfs.size if lfs is not None else entry.size
                files.append(RepoFile(entry.rfilename, int(size or 0), lfs.sha256 if lfs else None, None if lfs else entry.blob_id))
            if not files or not found.sha:
                raise not_there(HUB, name, kind)
            return Listing(HUB, kind, name.id, found.sha, tuple(files))

        return _with_patience(ask)

    def fetch(self, listing: Listing, files: Sequence[RepoFile], advance: Advance) -> Path:
        """One file after the other; each appears under its name only when it passed."""
        name = HubName(listing.id, HUB, listing.revision)
        for file in files:
            with quiet_client("huggingface_hub"):
                _with_patience(lambda file=file: _fetch_file(listing, file, name, advance))  # type: ignore[misc]
        return repository_folder(HUB, listing.kind, listing.id) / "snapshots" / listing.revision


def _fetch_file(listing: Listing, file: RepoFile, name: HubName, advance: Advance) -> None:
    with _translated(listing.kind, name):
        storage = repository_folder(HUB, listing.kind, listing.id)
        pointer = storage / "snapshots" / listing.revision / file.path
        if pointer.is_file() and pointer.stat().st_size == file.size:
            advance(file.size)
            return
        url = hf_hub_url(listing.id, file.path, repo_type=listing.kind, revision=listing.revision)
        metadata = get_hf_file_metadata(url)
        if metadata.size is not None:
            require_size(metadata.size, file, listing.title)
        content = storage / "blobs" / _checked_etag(metadata.etag, listing)
        lock = storage.parent / ".locks" / storage.name / f"{content.name}.weitiao.lock"
        for folder in (content.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):  # two programs must not write one partial file
            if content.exists():
                advance(file.size)
            else:
                _fetch_content(metadata.location, url, content, file, listing.title, advance)
        hf_hub_download(listing.id, file.path, repo_type=listing.kind, revision=listing.revision)


def _checked_etag(etag: str | None, listing: Listing) -> str:
    """A name for the content in the cache, which the server chooses: letters and digits only."""
    if etag is None or not etag.replace("-", "").isalnum() or len(etag) > 128:
        raise unreachable(HUB, f"{listing.id}: ETag {etag!r}")
    return etag


def _fetch_content(location: str, url: str, content: Path, file: RepoFile, where: str, advance: Advance) -> None:
    """Fetch into ``<content>.incomplete``, going on where an earlier attempt ended; verify; rename."""
    partial = content.with_name(f"{content.name}.incomplete")
    headers = build_hf_headers()
    if urlsplit(location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)  # a signed address elsewhere must not see the token
    with _Counted(partial, advance) as stream:
        begun = stream.seek(0, os.SEEK_END)
        if begun > file.size:
            stream.truncate(0)
            begun = stream.seek(0)
        stream.tell_progress(begun)
        try:
            http_get(location, stream, resume_size=begun, headers=headers, expected_size=file.size)
        except BaseException:
            stream.tell_progress(-stream.told)  # the next attempt tells what it finds
            raise
    try:
        verify(partial, file, where)
    except HubError:
        partial.unlink()
        raise
    os.replace(partial, content)


class _Counted(io.FileIO):
    """A file that tells how much was written to it; the client knows no other way that is not a progress bar."""

    def __init__(self, path: Path, advance: Advance) -> None:
        super().__init__(path, "rb+" if path.exists() else "wb+")
        self._advance = advance
        self.told = 0

    def tell_progress(self, size: int) -> None:
        self.told += size
        self._advance(size)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        done = super().write(data)
        self.tell_progress(done)
        return done


def _with_patience(action: Callable[[], Result]) -> Result:
    """Try again what broke off; the client does so for dropped connections but not for a server's error."""
    for pause in PAUSES_SECONDS:
        try:
            return action()
        except NetworkError:
            time.sleep(pause)
    return action()


@contextmanager
def _translated(kind: Kind, name: HubName) -> Iterator[None]:
    """The client's errors as ours."""
    try:
        yield
    except GatedRepoError as error:
        raise denied(HUB, name.id) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError, HFValidationError) as error:
        if isinstance(error, LocalEntryNotFoundError):  # what the client says when it cannot reach the hub
            raise unreachable(HUB, constants.ENDPOINT) from error
        raise not_there(HUB, name, kind) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise denied(HUB, name.id) from error
        raise (not_there(HUB, name, kind) if status in (404, 410) else unreachable(HUB, f"HTTP {status}")) from error
    except (TransportFault, OfflineModeIsEnabled) as error:
        raise unreachable(HUB, type(error).__name__) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # a login page, a proxy's answer
        raise strange(HUB, error) from error
    except OSError as error:
        if error.errno is not None or "Consistency check failed" not in str(error):
            raise
        raise unreachable(HUB, f"{name.id}: incomplete") from error
