"""Loopback servers that speak the two hubs' protocols as their clients use them, with faults to order."""

import hashlib
import json
import select
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub.file_download
import modelscope_hub._download
import modelscope_hub._legacy_api
import modelscope_hub.config
import pytest
from huggingface_hub import constants

import weitiao.hub.huggingface
from weitiao.hub.names import Hub

LARGE = ".safetensors"
"""Files with this suffix are kept apart (LFS) and served by redirect to another host name, as both hubs do."""


@dataclass
class Repository:
    """A repository at one commit. ``listed`` replaces what the listing says about a file; ``faults`` says by file what goes wrong and how
    often: "500", "401", "404", "stall", "truncate"."""

    files: dict[str, bytes]
    commit: str = "c" * 40
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, name: str) -> str | None:
        """The next thing to go wrong with a file; a trailing "…" goes on for ever."""
        waiting = self.faults.get(name, [])
        if not waiting:
            return None
        return waiting[0].removesuffix("…") if waiting[0].endswith("…") else waiting.pop(0)


class Server:
    """One hub on 127.0.0.1. ``requests`` lists (method, path, Range) in order."""

    def __init__(self, handler: type["Handler"]) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.token: str | None = None
        self.portal = b""  # answers everything, as a login page does
        self._http = _Silent(("127.0.0.1", 0), type("Bound", (handler,), {"hub": self}))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def content(self, digest: str) -> tuple[Repository, str, bytes]:
        """What the content network serves under a hash."""
        for repository in self.repositories.values():
            for name, data in repository.files.items():
                if hashlib.sha256(name.encode() + data).hexdigest() == digest:
                    return repository, name, data
        raise KeyError(digest)


class _Silent(ThreadingHTTPServer):
    """A client may hang up between two requests, as it does when a size is wrong. The library would print a traceback where the tests look
    for those of the program."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """What both hubs share: files with ranges, faults, JSON."""

    hub: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""

    def do_GET(self) -> None:
        self._answer(self.get)

    def do_HEAD(self) -> None:
        self._answer(self.get)

    def _answer(self, action: Callable[[str, dict[str, str]], None]) -> None:
        parts = urlsplit(self.path)
        self.hub.requests.append((self.command, self.path, self.headers.get("Range")))
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        try:
            if self.hub.portal:
                self.send(200, self.hub.portal)
            elif parts.path.startswith("/cdn/"):
                self.send_file(*self.hub.content(parts.path.removeprefix("/cdn/")), {})
            else:
                action(unquote(parts.path), query)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def get(self, path: str, query: dict[str, str]) -> None:
        raise NotImplementedError

    def send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def redirect(self, name: str, data: bytes, headers: dict[str, str]) -> None:
        """To another host name, as a signed address on a content network is."""
        digest = hashlib.sha256(name.encode() + data).hexdigest()
        self.send(302, b"", headers | {"Location": f"http://localhost:{self.hub.port}/cdn/{digest}"})

    def send_file(self, repository: Repository, name: str, data: bytes, headers: dict[str, str]) -> None:
        fault = repository.fault(name) if self.command == "GET" else None
        if fault in ("401", "404", "500"):
            self.send(int(fault))
            return
        start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0]) if self.headers.get("Range") else 0
        if start >= len(data) > 0:
            self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        part = data[start:]
        ranged = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self.send_response(206 if start else 200)
        for key, value in (headers | ranged | {"Content-Length": str(len(part)), "Accept-Ranges": "bytes"}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault in ("stall", "truncate"):
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            if fault == "stall":
                select.select([self.connection], [], [], 20.0)  # until the client has had enough and hangs up
            self.close_connection = True
            return
        self.wfile.write(part)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


class HuggingFaceHandler(Handler):
    """`/api/models/ID/revision/REV?blobs=True` and `/ID/resolve/REV/FILE`."""

    def get(self, path: str, query: dict[str, str]) -> None:  # noqa: ARG002
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self.send_json({"error": "no"}, 401, {"X-Error-Code": "GatedRepo"})
            return
        if path == "/api/agent-harnesses":  # asked for beside, and not needed
            self.send(404)
            return
        if path.startswith("/api/"):
            self.listing(path.removeprefix("/api/"))
            return
        kind = "dataset" if path.startswith("/datasets/") else "model"
        owner, name, _, revision, file = path.removeprefix("/datasets").lstrip("/").split("/", 4)
        repository = self.hub.repositories[kind, f"{owner}/{name}"]
        headers = {"X-Repo-Commit": repository.commit}
        if revision != repository.commit or file not in repository.files:
            self.send(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
            return
        data = repository.files[file]
        if file.endswith(LARGE):
            linked = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{sha256(data)}"'}
            self.redirect(file, data, headers | linked)
        else:
            self.send_file(repository, file, data, headers | {"ETag": f'"{git_sha1(data)}"'})

    def listing(self, path: str) -> None:
        kinds, owner, name, *revision = path.split("/")
        repository = self.hub.repositories.get((kinds.removesuffix("s"), f"{owner}/{name}"))
        if repository is None:
            self.send_json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return
        fault = repository.fault("")
        if fault:
            self.send(int(fault))
            return
        if revision and revision[-1] not in ("main", repository.commit):
            self.send_json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
            return
        siblings = []
        for file, data in repository.files.items():
            lfs = {"lfs": {"size": len(data), "sha256": sha256(data), "pointerSize": 130}} if file.endswith(LARGE) else {}
            entry = {"rfilename": file, "size": len(data), "blobId": git_sha1(data)} | lfs
            changed = repository.listed.get(file, {})
            if lfs and changed:
                entry["lfs"] |= changed
            siblings.append(entry | changed)
        self.send_json({"id": f"{owner}/{name}", "sha": repository.commit, "siblings": siblings})


class ModelScopeHandler(Handler):
    """`/api/v1/models/ID/repo/files`, `/api/v1/datasets/ID/repo/tree` and `/api/v1/KINDs/ID/repo?Revision=…&FilePath=…`."""

    def get(self, path: str, query: dict[str, str]) -> None:
        if path == "/api/v1/repos/internalAccelerationInfo":  # whether a nearer store is known
            self.send_json({"Code": 200, "Data": {}, "Success": True})
            return
        kinds, owner, name, *rest = path.removeprefix("/api/v1/").split("/")
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self.send_json({"Code": 10010101004, "Message": "unauthorized", "Success": False}, 401)
            return
        repository = self.hub.repositories.get((kinds.removesuffix("s"), f"{owner}/{name}"))
        if repository is None or query.get("Revision") not in ("master", repository.commit):
            self.send_json({"Code": 10010205001, "Message": "not found", "Success": False}, 404)
            return
        if rest != ["repo"]:
            fault = repository.fault("")
            if fault:
                self.send_json({"Code": int(fault), "Success": False}, int(fault))
                return
            self.listing(repository)
            return
        file = query["FilePath"]
        if file not in repository.files:
            self.send_json({"Code": 10010205001, "Message": "not found", "Success": False}, 404)
        elif file.endswith(LARGE):
            self.redirect(file, repository.files[file], {})
        else:
            self.send_file(repository, file, repository.files[file], {})

    def listing(self, repository: Repository) -> None:
        """The latest file carries the newest commit, the others an older one."""
        files = []
        for number, (file, data) in enumerate(repository.files.items()):
            last = number == len(repository.files) - 1
            entry = {
                "Name": file.rpartition("/")[2], "Path": file, "Type": "blob", "Size": len(data), "Sha256": sha256(data),
                "Revision": repository.commit if last else "0" * 40, "CommittedDate": 1_700_000_000 + number, "IsLFS": file.endswith(LARGE),
            }  # fmt: skip
            files.append(entry | repository.listed.get(file, {}))
        self.send_json({"Code": 200, "Data": {"Files": files, "LatestCommitter": {"Id": ""}}, "Success": True})


HANDLERS: dict[Hub, type[Handler]] = {"modelscope": ModelScopeHandler, "huggingface": HuggingFaceHandler}


@dataclass
class Hubs:
    """The two servers, and where the clients keep what they fetch."""

    servers: dict[Hub, Server]
    caches: dict[Hub, Path]

    @classmethod
    def start(cls, caches: Path, monkeypatch: pytest.MonkeyPatch) -> "Hubs":
        servers = {hub: Server(handler) for hub, handler in HANDLERS.items()}
        point_clients_at(servers, caches, monkeypatch)
        return cls(servers, {"modelscope": caches / "ms", "huggingface": caches / "hf"})

    def requests(self) -> list[str]:
        return [path for server in self.servers.values() for _, path, _ in server.requests]

    def serve(self, hub: Hub, kind: str, name: str, files: dict[str, bytes]) -> Repository:
        repository = Repository(files)
        self.servers[hub].repositories[kind, name] = repository
        return repository

    def snapshot(self, hub: Hub, kind: str, name: str, commit: str = "c" * 40) -> Path:
        """Where the client's cache has it."""
        safe = name.replace("/", "--")
        folder = self.caches[hub] / (f"{kind}s--{safe}" if hub == "huggingface" else f"{kind}s/{safe}")
        return folder / "snapshots" / commit


def point_clients_at(servers: dict[Hub, Server], caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their own settings, with the waits between attempts cut short; what a client does on a fault stays its own."""
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", servers["modelscope"].url)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(caches / "ms"))
    monkeypatch.setenv("MODELSCOPE_HOME", str(caches / "ms-home"))
    monkeypatch.setattr(modelscope_hub.config, "_default_config", None)
    monkeypatch.setattr(modelscope_hub._download, "DOWNLOAD_RETRY_TIMES", 2)
    monkeypatch.setattr(modelscope_hub._download, "DOWNLOAD_RETRY_MAX_DELAY_SECONDS", 0)
    monkeypatch.setattr(modelscope_hub._download, "DOWNLOAD_INTEGRITY_RETRY_BACKOFF", 0)
    monkeypatch.setattr(modelscope_hub._legacy_api, "REPO_TREE_PAGE_RETRY_MAX_DELAY_SECONDS", 0)
    monkeypatch.setattr(constants, "ENDPOINT", servers["huggingface"].url)
    template = servers["huggingface"].url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(caches / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)  # 10 MB: what is lost of a body that breaks off
    at_once = SimpleNamespace(sleep=lambda _: None)
    monkeypatch.setattr(huggingface_hub.file_download, "time", at_once)
    monkeypatch.setattr(weitiao.hub.huggingface, "PAUSES_SECONDS", (0.0, 0.0))
    wait_for_an_answer(10.0, monkeypatch)  # a busy machine may keep a server of its own waiting


def wait_for_an_answer(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the clients wait for the next byte."""
    monkeypatch.setattr(modelscope_hub._legacy_api, "DOWNLOAD_TIMEOUT", seconds)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", seconds)
