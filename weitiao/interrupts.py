"""Ctrl-C, `kill` and a stopped container: what the program does when it is asked to end."""

import math
import signal
import threading
import time
from types import FrameType

_HANDLED = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Outside of training: an exception at once. A signal repeated within two seconds says nothing new and must not hit the clean-up."""

    def __init__(self) -> None:
        self._last = -math.inf
        for number in _HANDLED:
            if signal.getsignal(number) != signal.SIG_IGN:  # as a shell sets it for its background jobs
                signal.signal(number, self._raise)

    def _raise(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last > 2:
            self._last = now
            raise KeyboardInterrupt

    @staticmethod
    def ignore() -> None:
        """From here on the program only ends; an interrupt would show as a traceback of its libraries."""
        for number in _HANDLED:
            signal.signal(number, signal.SIG_IGN)


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
            raise KeyboardInterrupt
        self.made = True
