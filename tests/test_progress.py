"""Progress without a terminal is a plain line a minute, with the time left."""

import sys

import pytest

from weitiao import progress
from weitiao.language import use
from weitiao.progress import Reporter, human_bytes, human_seconds, in_notebook


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress, "perf_counter", lambda: now[0])
    return now


def test_a_line_a_minute_with_the_time_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    use("en")
    with Reporter().bar("training", 10) as bar:
        for _ in range(10):
            clock[0] += 25.0
            bar.advance(1, "loss 0.5")
    use(None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training"
    # 75 s for 3 steps: 25 s each, 7 left make 175 s
    assert lines[1] == "training 3/10  loss 0.5  about 2 min 55 s left"
    assert len(lines) == 4  # after 75, 150 and 225 s; the end needs no line


def test_quiet_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(quiet=True).bar("training", 3) as bar:
        clock[0] += 100.0
        bar.advance(1, "x")
    assert capsys.readouterr().err == ""


def test_units() -> None:
    assert [human_bytes(n) for n in (999, 1500, 3.63e9)] == ["999 B", "1.5 kB", "3.63 GB"]
    assert [human_seconds(n) for n in (4.26, 41, 200, 7500)] == ["4.3 s", "41 s", "3 min 20 s", "2 h 5 min"]


class ZMQInteractiveShell:
    """The name of the shell that answers a notebook."""


def test_the_libraries_of_notebooks_do_not_make_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setattr("IPython.get_ipython", lambda: None)
    assert not in_notebook()


def test_a_notebook_gets_one_line_that_changes(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, picture: object) -> None:
            shown.append(picture.data)

    monkeypatch.setattr("IPython.display.display", lambda picture, **_: shown.append(picture.data) or Handle())
    monkeypatch.setattr("IPython.get_ipython", ZMQInteractiveShell)
    use("en")
    with Reporter().bar("<training>", 4) as bar:
        for _ in range(4):
            clock[0] += 0.3
            bar.advance(1, "loss 0.5")
    use(None)
    assert len(shown) == 3  # at the start, after 0.6 s, at the end: not at every step
    assert "&lt;training&gt;" in shown[0]
    assert 'value="2"' in shown[1]
    assert "2/4  loss 0.5  about 0.6 s left" in shown[1]
    assert 'value="4"' in shown[2]


def test_a_quiet_notebook_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("IPython.get_ipython", ZMQInteractiveShell)
    monkeypatch.setattr("IPython.display.display", lambda *_a, **_k: pytest.fail("shown"))
    with Reporter(quiet=True).bar("training", 1) as bar:
        bar.advance(1, "x")
