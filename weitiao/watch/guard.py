"""Who may talk to the page: right Host, right Origin, the token, a body of bounded size. On every path and method, before any of ours."""

import hmac
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
LARGEST_BODY_BYTES = 64 * 1024
_OPENED_BY_A_LINK = re.compile(r"^/$|^/api/runs/[0-9a-f]{16}/report$")
"""What a browser opens by itself, without our header: there the token may stand in the query."""


class Guard:
    """ASGI middleware. Refusals: 421 for another Host, 403 for another Origin, 401 without the token, 413 for a large body."""

    def __init__(self, app: Any, token: str, hosts: frozenset[str], policy: str) -> None:
        self.app, self.token, self.hosts = app, token, hosts
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cache-control", b"no-store"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]

        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in self._headers if pair[0] not in given)]
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is None:
            body = await _body(receive)
            refusal = (413, "the body is too large") if body is None else None
        if refusal is not None:
            await _refuse(answer, *refusal)
            return
        await self.app(scope, _replay(body or b"", receive), answer)

    def _refusal(self, scope: Scope, headers: list[tuple[bytes, str]]) -> tuple[int, str] | None:
        values = {name: [v for n, v in headers if n == name] for name in (b"host", b"origin", b"authorization", b"content-length")}
        if len(values[b"host"]) != 1 or values[b"host"][0].lower() not in self.hosts:
            return 421, "this Host is not served here"
        if any(origin.lower() not in {f"http://{host}" for host in self.hosts} for origin in values[b"origin"]):
            return 403, "requests from other pages are refused"
        length = values[b"content-length"]
        if any(not value.isdecimal() or int(value[:12]) > LARGEST_BODY_BYTES for value in length):
            return 413, "the body is too large"
        return None if self._is_known(scope, values[b"authorization"]) else (401, "the token is missing or wrong")

    def _is_known(self, scope: Scope, authorization: list[str]) -> bool:
        given = [value.removeprefix("Bearer ") for value in authorization if value.startswith("Bearer ")]
        if scope["method"] == "GET" and _OPENED_BY_A_LINK.match(scope["path"]):
            given += parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        return any(hmac.compare_digest(value.encode("utf-8", "replace"), self.token.encode()) for value in given)


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where it is larger than allowed."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > LARGEST_BODY_BYTES:
            return None
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once more, for the application; afterwards what the connection says."""
    waiting = [body]

    async def again() -> MutableMapping[str, Any]:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


async def _refuse(send: Send, status: int, why: str) -> None:
    body = json.dumps({"detail": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
