"""The page's programme interface: every path, what it takes and what it gives."""

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path, Query
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from weitiao import __version__
from weitiao.config import RunConfig
from weitiao.errors import WeitiaoError
from weitiao.language import current
from weitiao.masking import masked
from weitiao.watch import details
from weitiao.watch.files import read_text
from weitiao.watch.folder import Runs
from weitiao.watch.guard import Guard
from weitiao.watch.launch import OFFERED, Launcher
from weitiao.watch.pace import Pace
from weitiao.watch.playground import Playground
from weitiao.watch.readings import Readings, encoded

RunId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]
REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


class Json(Response):
    """An answer as JSON; bytes are JSON already."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return content if isinstance(content, bytes) else encoded(content)


class Body(BaseModel):
    """What a request may hold; a key that is not listed is an error."""

    model_config = ConfigDict(extra="forbid")


class Wanted(Body):
    """The curves of one run, behind a cursor."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    cursor: Annotated[str, Field(max_length=40)] = ""


class Poll(Body):
    """What an open page asks for, every few seconds."""

    curves: Annotated[list[Wanted], Field(max_length=200)] = []
    page: Annotated[str, Field(max_length=40)] = ""
    points: Annotated[int, Field(ge=10, le=2000)] = 600


class Settings(Body):
    """The settings of a run to start, as a tree."""

    settings: dict[str, Any]


class Sentence(Body):
    """A text for the playground; ``context``: the passage that a question is about."""

    text: Annotated[str, Field(min_length=1, max_length=20_000)]
    context: Annotated[str, Field(max_length=20_000)] = ""


@dataclass(frozen=True)
class Watch:
    """What the page is about. ``url`` opens it, token included."""

    app: Guard
    url: str
    playground: Playground


def make_watch(root: FilePath, data: FilePath, token: str, host: str, port: int) -> Watch:
    """The application for one folder of runs. ``data``: the folder whose files may be trained on; ``host``: the name to be reached by."""
    runs, launcher, playground = Runs(root, token), Launcher(root, data), Playground()
    app = FastAPI(
        title="weitiao watch", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json",
        default_response_class=Json, responses=_refusals(),
    )  # fmt: skip
    page, policy = _page()
    _add_views(app, runs, page)
    _add_actions(app, runs, launcher, playground)
    names = {"127.0.0.1", "localhost", "[::1]"} if host in ("127.0.0.1", "localhost", "::1") else {host}
    guard = Guard(app, token, frozenset(f"{name}:{port}" for name in names) | (frozenset(names) if port == 80 else frozenset()), policy)
    return Watch(guard, f"http://{host}:{port}/?token={token}", playground)


def _refusals() -> dict[int | str, dict[str, Any]]:
    """What every path may answer instead."""
    words = {
        400: "not JSON", 401: "no token", 403: "another page's request", 404: "no such run", 409: "not possible now", 413: "too large",
        421: "another Host",
    }  # fmt: skip
    return {code: {"description": said} for code, said in words.items()}


def _page() -> tuple[str, str]:
    """The page as one file, and the policy under which only its own script and style run."""
    static = files("weitiao.watch") / "static"
    words, script, style = ((static / name).read_text(encoding="utf-8") for name in ("words.js", "page.js", "page.css"))
    script = words + script
    html = (static / "page.html").read_text(encoding="utf-8").replace("{{style}}", style).replace("{{script}}", script)
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (script, style)]
    return html, (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _folder(runs: Runs, run: str) -> FilePath:
    path = runs.path(run)
    if path is None or not path.is_dir():
        raise HTTPException(404, "no such run")
    return path


def _add_views(app: FastAPI, runs: Runs, page: str) -> None:
    """Everything that only reads."""
    pace, readings = Pace(), Readings()

    @app.get("/", response_class=HTMLResponse)
    def index() -> HTMLResponse:
        return HTMLResponse(page)

    @app.post("/api/poll")
    def poll(wanted: Poll) -> Json:
        listing = encoded({"runs": runs.list(), "folder": runs.root.name, "again_seconds": pace.seconds(wanted.page)})
        known = {one.id: (path, one.cursor) for one in wanted.curves if (path := runs.path(one.id)) is not None}
        return Json(listing[:-1] + b',"curves":' + readings.of(known, wanted.points) + b"}")

    @app.get("/api/runs/{run}/evaluations")
    def evaluations(run: RunId) -> Json:
        return Json(details.evaluations(_folder(runs, run)))

    @app.get("/api/runs/{run}/predictions")
    def predictions(
        run: RunId,
        when: details.When = "after",
        wrong: bool = False,
        start: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
        number: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Json:
        return Json(details.predictions(_folder(runs, run), when, wrong, start, number))

    @app.get("/api/runs/{run}/data")
    def data(run: RunId) -> Json:
        return Json(details.data(_folder(runs, run)))

    @app.get("/api/runs/{run}/settings")
    def settings(run: RunId) -> Json:
        path = _folder(runs, run)
        return Json({"settings": details.settings(path), "yaml": read_text(path, "config.yaml", 200_000) or ""})

    @app.get("/api/runs/{run}/log")
    def log(run: RunId) -> Json:
        return Json({"text": details.log(_folder(runs, run))})

    @app.get("/api/runs/{run}/report", response_class=HTMLResponse)
    def report(run: RunId) -> HTMLResponse:
        html = read_text(_folder(runs, run), "report.html")
        if html is None:
            raise HTTPException(404, "no report yet")
        content = html.encode("utf-8", "replace").decode()
        return HTMLResponse(content, headers={"content-security-policy": REPORT_POLICY})


def _add_actions(app: FastAPI, runs: Runs, launcher: Launcher, playground: Playground) -> None:
    """Everything that starts, stops or asks something."""

    @app.get("/api/schema")
    def schema() -> Json:
        return Json({"schema": RunConfig.model_json_schema(), "offered": OFFERED, "data": launcher.data.name, "language": current()})

    @app.post("/api/preview")
    def preview(given: Settings) -> Json:
        try:
            text = launcher.text(given.settings)
        except WeitiaoError as error:
            return Json({"problem": str(error)})
        return Json({"yaml": text, "command": "weitiao train config.yaml"})

    @app.post("/api/runs")
    def start(given: Settings) -> Json:
        try:
            return Json({"name": launcher.start(given.settings)})
        except (WeitiaoError, OSError) as error:
            raise HTTPException(409, masked(str(error))) from None

    @app.post("/api/runs/{run}/resume")
    def resume(run: RunId) -> Json:
        path = _folder(runs, run)
        try:
            launcher.resume(path)
        except (WeitiaoError, OSError) as error:
            raise HTTPException(409, masked(str(error))) from None
        return Json({"name": path.name})

    @app.post("/api/runs/{run}/stop")
    def stop(run: RunId) -> Json:
        path = _folder(runs, run)
        if not launcher.stop(path):
            raise HTTPException(409, "no process of this run is known")
        return Json({"name": path.name})

    @app.post("/api/runs/{run}/answer")
    def answer(run: RunId, given: Sentence) -> Json:
        return Json(playground.ask(_folder(runs, run), given.text, given.context))
