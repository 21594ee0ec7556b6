"""Whatever is sent, within or beside the interface's own description, no answer is a 5xx or one that the description does not name."""

import hypothesis
import pytest
import schemathesis
from conftest import ALLOWED, PORT, TOKEN
from hypothesis import HealthCheck
from runs_made import make_run

from weitiao.watch.app import make_watch
from weitiao.watch.launch import Launcher
from weitiao.watch.playground import Playground

MOST = 60


@pytest.mark.slow
def test_no_answer_is_an_error_of_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(Launcher, "_spawn", lambda *_: None)
    monkeypatch.setattr(Playground, "ask", lambda *_: {"problem": "none"})
    root = tmp_path / "runs"
    make_run(root, "one")
    watch = make_watch(root, tmp_path / "data", TOKEN, "127.0.0.1", PORT)
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", watch.app, headers=ALLOWED)
    answered = 0
    for operation in schema.get_all_operations():

        @hypothesis.given(case=operation.ok().as_strategy())
        @hypothesis.settings(max_examples=MOST, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        def ask(case):
            nonlocal answered
            answer = case.call(headers=ALLOWED)
            answered += 1
            assert answer.status_code < 500, (case.method, case.path, answer.text[:300])
            assert answer.status_code in {200, 307, 400, 401, 403, 404, 405, 409, 413, 421, 422}, answer.status_code

        ask()
    assert answered >= 200
