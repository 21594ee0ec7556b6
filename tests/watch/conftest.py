"""A page over some run folders, asked without a network."""

import pytest
from fastapi.testclient import TestClient
from runs_made import make_run

from weitiao.watch.app import Watch, make_watch

TOKEN, PORT = "t" * 32, 8642
HOST = {"Host": f"127.0.0.1:{PORT}"}
ALLOWED = HOST | {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "runs"
    root.mkdir()
    make_run(root, "one")
    make_run(root, "two", created="2026-01-02T00:00:00+00:00")
    (root / "no-run").mkdir()
    return root


@pytest.fixture
def watch(root, tmp_path) -> Watch:
    data = tmp_path / "data"
    data.mkdir()
    return make_watch(root, data, TOKEN, "127.0.0.1", PORT)


@pytest.fixture
def client(watch):
    """Allowed in."""
    return TestClient(watch.app, base_url=f"http://127.0.0.1:{PORT}", headers=ALLOWED)


@pytest.fixture
def ids(client):
    """Run name → id."""
    return {run["name"]: run["id"] for run in client.post("/api/poll", json={}).json()["runs"]}
