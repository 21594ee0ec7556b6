"""Ctrl-C in the moments in which it used to show a traceback, each brought about on purpose."""

import signal
import subprocess
import sys

import pytest

from weitiao import interrupts
from weitiao.interrupts import INTERRUPTED, Interrupts, StopRequest, is_interrupt, uninterrupted

PROGRAMME = """
import signal, sys, time
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "typer":
            {deed}
sys.meta_path.insert(0, Finder())
sys.argv = ["weitiao", "--lang", "en", "runs", "nowhere"]
from weitiao.cli import main
main()
"""
LOST = """
import time
from weitiao.interrupts import Interrupts
class Lost:
    def __del__(self):
        raise KeyboardInterrupt
class Broken:
    def __del__(self):
        raise ValueError("is told")
Interrupts()
Broken()
start = time.monotonic()
try:
    Lost()
    time.sleep(60)
except KeyboardInterrupt:
    print("came again", "at once" if time.monotonic() - start < 30 else "when the sleep was over")
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    """A program of its own, in which Ctrl-C is not ignored (as it is in a shell's background jobs)."""
    default = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=default, check=False)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    """The handlers and the hook that the test's process has, and no signal a moment ago."""
    monkeypatch.setattr(interrupts._Effect, "last", -1e9)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in former:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "deed",
    ["signal.raise_signal(signal.SIGINT)", "signal.raise_signal(signal.SIGTERM)", "exec('signal.raise_signal(signal.SIGINT)', globals())"],
    ids=["ctrl-c", "kill", "in a text that is run"],  # after the last one CPython ends by the signal itself
)
def test_while_the_commands_are_being_imported(deed):
    result = python(PROGRAMME.format(deed=deed))
    assert (result.returncode, result.stdout, result.stderr) == (INTERRUPTED, "", "interrupted\n")


def test_one_that_python_drops_comes_again():
    result = python(LOST)
    assert result.stdout == "came again at once\n"
    assert "is told" in result.stderr
    assert "KeyboardInterrupt" not in result.stderr


def test_an_impatient_user_does_not_hit_the_clean_up():
    """The second signal of a training raises; the third, in the clean-up, says nothing new, whoever receives it."""
    Interrupts()
    cleaned = []

    def training() -> None:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.made
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)
                cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        training()
    signal.raise_signal(signal.SIGINT)
    assert cleaned


def test_how_it_ended_is_written_uninterrupted():
    Interrupts()
    with uninterrupted():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_an_interrupt_that_a_library_wraps_is_still_one():
    def load() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ImportError("could not be loaded") from None

    with pytest.raises(ImportError) as caught:
        load()
    assert is_interrupt(caught.value)
    assert not is_interrupt(ImportError("could not be loaded"))
