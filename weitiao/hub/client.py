"""What both hubs' adapters share: the listing of a repository, a client that keeps quiet, and whether a hub can be reached at all."""

import contextlib
import io
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from weitiao.errors import HubError, NetworkError
from weitiao.hub.allowlist import RepoFile
from weitiao.hub.names import TITLES, Hub, HubName, Kind
from weitiao.language import t

CONNECT_SECONDS = 5.0
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a repository at one revision: a commit, or a branch where the hub does not tell."""

    hub: Hub
    kind: Kind
    id: str
    revision: str
    files: tuple[RepoFile, ...]

    @property
    def title(self) -> str:
        """How messages name it."""
        return f"{TITLES[self.hub]} {self.id}"


class Client(Protocol):
    """What an adapter does. Both raise HubError for what a hub does not have or give, NetworkError for what may work later."""

    def list(self, kind: Kind, name: HubName) -> Listing:
        """The files at the revision, pinned."""

    def fetch(self, listing: Listing, files: Sequence[RepoFile], advance: Advance) -> Path:
        """Fetch files into the hub's cache, resuming what was begun, and verify them; returns the snapshot's folder. ``advance`` is told
        bytes as they come."""


@contextlib.contextmanager
def quiet_client(logger: str) -> Iterator[None]:
    """Keep a client's own progress bars and warnings off standard error: this program has its own."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(level)


def require_reachable(hub: Hub, endpoint: str) -> None:
    """Raise NetworkError at once where no connection can be made, rather than after the client's retries. Through a proxy, if one is set,
    it is the proxy that must answer."""
    parts = urlsplit(endpoint)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    target = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy and not proxy_bypass(parts.netloc) else parts
    if target.scheme not in ("http", "https"):
        return  # SOCKS: left to the client
    port = target.port or (443 if target.scheme == "https" else 80)
    failure: list[Exception] = []

    def connect() -> None:
        try:
            socket.create_connection((target.hostname or "", port), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=connect, daemon=True)  # the look-up of a name has no time limit of its own
    thread.start()
    thread.join(CONNECT_SECONDS)
    if thread.is_alive() or failure:
        raise unreachable(hub, target.netloc)


def unreachable(hub: Hub, detail: str) -> NetworkError:
    """The hub cannot be reached, or breaks off."""
    return NetworkError(
        TITLES[hub],
        t(f"连不上或中断了（{detail}）", f"cannot be reached, or broke off ({detail})"),
        t(
            "检查网络后再运行一次（下载会续传）；或在能上网的机器上 weitiao download，把文件夹拷来，model 写那个文件夹",
            "check the network and run it again (a download is resumed); or run weitiao download where there is a network, copy the folder "
            "here and name it as the model",
        ),
    )


def strange(hub: Hub, error: Exception) -> NetworkError:
    """Something answered, but not as the hub does."""
    return NetworkError(
        TITLES[hub],
        t(f"应答不像是它的（{type(error).__name__}）", f"the answer is not one of a hub ({type(error).__name__})"),
        t(
            "是不是有登录页或代理拦在中间？检查网络和端点的设置",
            "is a login page or a proxy in between? check the network and the endpoint's setting",
        ),
    )


def not_there(hub: Hub, name: HubName, kind: Kind) -> HubError:
    """No such repository or revision, or one that only its members see."""
    what = t("模型", "model") if kind == "model" else t("数据集", "data set")
    revision = t(f"（版本 {name.revision}）", f" (revision {name.revision})") if name.revision else ""
    return HubError(
        f"{TITLES[hub]} {name.id}",
        t(f"没有这个{what}{revision}", f"no such {what}{revision}"),
        t("检查名字和版本的拼写；私有的仓库要先登录", "check the spelling of name and revision; a private one needs a login"),
    )


def denied(hub: Hub, name: str) -> HubError:
    """The hub wants a login or consent to terms."""
    login = "HF_TOKEN=…" if hub == "huggingface" else "MODELSCOPE_API_TOKEN=…"
    return HubError(
        f"{TITLES[hub]} {name}",
        t("没有权限（401/403）：要登录，或先在网页上同意条款", "access denied (401/403): it wants a login, or consent to its terms"),
        t(f"在网页上申请后设 {login}，或换一个公开的仓库", f"apply on its page and set {login}, or use a public repository"),
    )
