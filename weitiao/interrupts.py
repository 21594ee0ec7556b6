"""Ctrl-C, `kill` and a stopped container: what the program does when it is asked to end."""

import math
import signal
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""The exit code of an interrupted program."""
QUIET_SECONDS = 2.0
"""A signal that comes so soon after one that has taken effect says nothing new, and must not hit the clean-up."""
_HANDLED = (signal.SIGINT, signal.SIGTERM)
_SECONDS_TO_REPEAT = 0.05


class _Effect:
    """When a signal last took effect, whoever received it."""

    last = -math.inf

    @classmethod
    def interrupt(cls) -> None:
        """Raise KeyboardInterrupt, unless one was raised a moment ago."""
        now = time.monotonic()
        if now - cls.last > QUIET_SECONDS:
            cls.last = now
            raise KeyboardInterrupt


class Interrupts:
    """Outside of training: an exception at once."""

    def __init__(self) -> None:
        for number in _HANDLED:
            if signal.getsignal(number) != signal.SIG_IGN:  # as a shell sets it for its background jobs
                signal.signal(number, self._raise)
        sys.unraisablehook = _repeat

    @staticmethod
    def _raise(_number: int, _frame: FrameType | None) -> None:
        _Effect.interrupt()

    @staticmethod
    def ignore() -> None:
        """From here on the program only ends; an interrupt would show as a traceback of its libraries."""
        for number in _HANDLED:
            signal.signal(number, signal.SIG_IGN)
        # CPython notes that an interrupt left a text that it ran (the class of a namedtuple is one), caught or not, and would end by the
        # signal itself instead of with our exit code; another such text makes it forget.
        namedtuple("Forget", ())


def _repeat(lost: "sys.UnraisableHookArgs") -> None:
    """An interrupt that hit a destructor or a callback, where Python drops it with a traceback, comes again a moment later."""
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    _Effect.last = -math.inf
    threading.Timer(_SECONDS_TO_REPEAT, _interrupt_main_thread).start()


def _interrupt_main_thread() -> None:
    """A signal that another thread received would not end the wait (a sleep, a read) that the main thread is in."""
    if hasattr(signal, "pthread_kill") and (main := threading.main_thread().ident) is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and `kill` have no effect within the block (only the main thread can receive them)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, signal.SIG_IGN) for number in _HANDLED}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def is_interrupt(error: BaseException) -> bool:
    """Whether an error is what a library made of a KeyboardInterrupt."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if isinstance(found, KeyboardInterrupt):
            return True
        seen.add(id(found))
        found = found.__cause__ or found.__context__
    return False


class StopRequest:
    """While training: the first signal asks to stop after the step in hand, so that it can be saved; a second Ctrl-C stops at once, without
    saving. Only the main thread receives signals; elsewhere the block changes nothing."""

    def __init__(self) -> None:
        self.made = False
        self._former: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.getsignal(number) for number in _HANDLED}
            for number, handler in self._former.items():
                if handler != signal.SIG_IGN:
                    signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what getsignal gave

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.made and number == signal.SIGINT:
            _Effect.interrupt()
        self.made = True
