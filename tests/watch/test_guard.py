"""Nobody gets in without token, by another name, from another page, or with too much to say; on every path and every method."""

import random
import urllib.parse

import pytest
from conftest import ALLOWED, HOST, PORT, TOKEN
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.routing import Route

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")


def routes(watch):
    """Every path of the application, as it is, so that a new one is in the test at once; and some that do not exist."""
    found = [route for route in watch.app.app.routes if isinstance(route, (APIRoute, Route))]
    assert len(found) >= 14
    return [*sorted({route.path.replace("{run}", "0" * 16) for route in found}), "/nowhere", "/api", "/docs", "/static/page.js", "//", "*"]


@pytest.fixture
def stranger(watch):
    return TestClient(watch.app, base_url=f"http://127.0.0.1:{PORT}", headers=HOST)


WRONG_TOKENS = [
    {}, {"Authorization": "Bearer "}, {"Authorization": "Bearer " + "x" * 32}, {"Authorization": TOKEN},
    {"Authorization": f"Basic {TOKEN}"},
    {"Cookie": f"token={TOKEN}"}, {"Authorization": f"Bearer {TOKEN}x"},
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_every_path_wants_the_token(watch, stranger, method):
    for path in routes(watch):
        for headers in WRONG_TOKENS:
            assert stranger.request(method, path, headers=headers).status_code == 401, (method, path, headers)
        assert stranger.request(method, path, params={"token": "wrong"}).status_code == 401


@pytest.mark.parametrize("method", METHODS)
def test_every_path_wants_our_host_and_our_origin(watch, stranger, method):
    for path in routes(watch):
        for host in ("evil.example", "127.0.0.1", f"127.0.0.1:{PORT + 1}", f"127.0.0.1.evil.example:{PORT}", ""):
            assert stranger.request(method, path, headers=ALLOWED | {"Host": host}).status_code == 421, (path, host)
        for origin in ("http://evil.example", "null", f"https://127.0.0.1:{PORT}", "http://127.0.0.1", "http://localhost:1"):
            assert stranger.request(method, path, headers=ALLOWED | {"Origin": origin}).status_code == 403, (path, origin)


def test_the_token_in_the_address_opens_only_what_a_browser_opens_by_itself(stranger, client, ids):
    query = {"token": TOKEN}
    assert stranger.get("/", params=query).status_code == 200
    assert stranger.get(f"/api/runs/{ids['one']}/report", params=query).status_code == 200
    for path in ("/api/schema", f"/api/runs/{ids['one']}/data", "/api/openapi.json"):
        assert client.get(path).status_code == 200
        assert stranger.get(path, params=query).status_code == 401
    assert stranger.post("/api/poll", params=query, json={}).status_code == 401


def test_no_other_site_is_told_anything(client):
    answer = client.post("/api/poll", json={}, headers={"Origin": f"http://127.0.0.1:{PORT}"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["x-frame-options"] == "DENY"
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("length", [64 * 1024 + 1, 10**7])
def test_a_body_is_bounded(client, length):
    assert client.post("/api/preview", content=b"x" * length).status_code == 413
    chunks = (b"x" * 1000 for _ in range(length // 1000 + 1))  # without a Content-Length
    assert client.post("/api/preview", content=chunks).status_code == 413
    assert client.post("/api/preview", content=b"{", headers={"Content-Length": "9" * 400}).status_code == 413


def payloads():
    """Ways out of a folder, encoded once, twice and oddly."""
    outside = ["secret.txt", "etc/passwd", "run.json", "config.yaml", ".watch/x.log"]
    ups = ["../", "..\\", "..;/", "....//", "%2e%2e/", "%2e%2e%2f", "..%2f", "..%5c", "%252e%252e%252f", "..%c0%af", "..%ef%bc%8f",
           "\u2025/", "/", "//", "file:///", "C:\\",
           "\\\\host\\share\\", "%00", "~/", "/proc/self/"]  # fmt: skip
    draw = random.Random(0)
    found = {up * n + name + tail for up in ups for n in (1, 2, 4, 9) for name in outside for tail in ("", "%00.json", "%2500", "?x", "#x")}
    return sorted(found, key=lambda text: (draw.random(), text))[:900]


def test_no_payload_leaves_the_folder(client, root, ids):
    secret = "the-secret-outside"
    (root.parent / "secret.txt").write_text(secret)
    texts = payloads()
    assert len(texts) >= 500
    shapes = ["/api/runs/{}", "/api/runs/{}/log", "/api/runs/{}/{{}}".format(ids["one"]), "/{}"]
    for i, text in enumerate(texts):
        path = shapes[i % len(shapes)].replace("{}", text if i % 2 else urllib.parse.quote(text, safe=""))
        answer = client.get(f"http://127.0.0.1:{PORT}{path if path.startswith('/') else '/' + path}", follow_redirects=False)
        assert answer.status_code in (200, 307, 400, 404, 405, 422), (path, answer.status_code)
        assert secret not in answer.text, path
        assert "root:" not in answer.text, path
        assert answer.status_code != 200 or text.startswith(("?", "#", "/", "//")) or "?" in path or "#" in path, path


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.yaml", "report.html", "evaluation/predictions-after.jsonl", "data/ledger.json"])
def test_links_are_not_followed(client, root, ids, name):
    secret = root.parent / "secret.txt"
    secret.write_text(
        '{"type": "step", "step": 1, "loss": 77.5, "files": [{"path": "the-secret"}], "text": "the-secret", "prediction": "x"}\n'
    )
    (root / "one" / name).unlink()
    (root / "one" / name).symlink_to(secret)
    for path in ("data", "settings", "predictions", "evaluations", "log"):
        assert "the-secret" not in client.get(f"/api/runs/{ids['one']}/{path}").text
    assert client.get(f"/api/runs/{ids['one']}/report").status_code == (404 if name == "report.html" else 200)
    curves = client.post("/api/poll", json={"curves": [{"id": ids["one"]}]}).json()["curves"][ids["one"]]
    assert (curves["series"] == {}) == (name == "metrics.jsonl")


def test_a_linked_folder_is_no_run(client, root):
    (root / "three").symlink_to(root / "one")
    (root / "two" / "data" / "ledger.json").unlink()
    (root / "two" / "data" / "audit.json").unlink()
    (root / "two" / "data").rmdir()
    (root / "two" / "data").symlink_to(root / "one" / "data")
    runs = client.post("/api/poll", json={}).json()["runs"]
    assert {run["name"] for run in runs} == {"one", "two"}
    two = next(run["id"] for run in runs if run["name"] == "two")
    assert client.get(f"/api/runs/{two}/data").json()["ledger"]["files"] == []


def test_ids_tell_nothing_and_differ_between_servers(root, ids):
    from weitiao.watch.folder import Runs

    assert all(len(run) == 16 and "one" not in run for run in ids.values())
    assert Runs(root, "another").id(root / "one") != ids["one"]
