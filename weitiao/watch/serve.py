"""`weitiao watch`: the page's server."""

import ipaddress
import os
import secrets
import socket
import sys
from pathlib import Path

import uvicorn

from weitiao.errors import UsageError
from weitiao.language import system_cause, t
from weitiao.watch.app import make_watch


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises UsageError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        where = f"{host}:{port}"
        raise UsageError(where, system_cause(error), t("换一个 --port", "choose another --port")) from None
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # its connections inherit it: no answer's body waits for an ACK (40 ms)
    return listening


def serve(root: Path, data: Path, host: str, port: int) -> None:
    """Serve the page until Ctrl-C. The address with its token goes to standard error."""
    if not is_loopback(host):
        print(
            t(
                "警告：别的机器也能连上这一页，连接没有加密；知道地址里令牌的人能启动训练。",
                "warning: other machines can reach this page, without encryption; whoever knows the token in its address can start runs.",
            ),
            file=sys.stderr,
        )
    with bind(host, port) as listening:
        name = f"[{host}]" if ":" in host else host
        watch = make_watch(root, data, secrets.token_urlsafe(24), name, listening.getsockname()[1])
        print(t(f"打开 {watch.url}（Ctrl-C 结束）", f"open {watch.url} (Ctrl-C ends it)"), file=sys.stderr, flush=True)
        if sys.platform != "win32":
            os.nice(5)  # the training goes first
        config = uvicorn.Config(watch.app, log_level="warning", lifespan="off", timeout_keep_alive=15, limit_concurrency=256, ws="none")
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            watch.playground.close()
