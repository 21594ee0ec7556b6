"""A SwanLab cloud on loopback: what its client needs to open a run, send to it, and close it."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Cloud(ThreadingHTTPServer):
    """Keeps what it was sent. ``experiments`` maps a run's id to how often it was opened."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.experiments: dict[str, int] = {}
        self.metrics: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.profile: dict[str, Any] = {}
        self.states: list[str] = []
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def scalars(self, key: str) -> list[tuple[int, float]]:
        """(step, value) of a metric, in the order sent."""
        return [(m["index"], m["data"]) for m in self.metrics if m["key"] == key]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Cloud

    def log_message(self, format: str, *args: Any) -> None: ...

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _handle(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0].removeprefix("/api")
        self.server.requests.append(f"{self.command} {path}")
        if path.startswith("/files/"):
            self.server.files[path.removeprefix("/files/")] = raw
            self._answer(200, {})
            return
        if self.headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        self._answer(*self._reply(path, json.loads(raw) if raw else {}))

    def _reply(self, path: str, body: Any) -> tuple[int, Any]:
        cloud = self.server
        if path == "/login/api_key":
            return 200, {"sid": "s", "expiredAt": "2099-01-01T00:00:00.000Z", "userInfo": {"username": "somebody", "name": "Some Body"}}
        if path.endswith("/experiment"):
            name = body["cuid"]
            cloud.experiments[name] = cloud.experiments.get(name, 0) + 1
            answer = {"cuid": name, "slug": name, "name": body["name"], "colors": ["#000000"], "createdAt": "2026-01-01T00:00:00.000Z"}
            return 201 if cloud.experiments[name] == 1 else 200, answer
        if path.startswith("/house/metrics/summaries"):
            return 200, {}
        if path == "/house/metrics":
            cloud.metrics += body["metrics"]
            return 200, {}
        if path.endswith("/profile"):
            cloud.profile |= body
        if path.endswith("/state"):
            cloud.states.append(body["state"])
        if path == "/resources/presigned/put":
            return 200, {"urls": [f"{cloud.url}/files/{name}" for name in body["paths"]]}
        group, count = {"username": "somebody"}, {"experiments": len(cloud.experiments)}
        return 200, {"cuid": "p", "name": "weitiao", "group": group, "path": "somebody/weitiao", "_count": count}

    do_GET = do_POST = do_PUT = do_PATCH = _handle


@contextmanager
def cloud() -> Iterator[Cloud]:
    """The server, while the block runs."""
    server = Cloud()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
