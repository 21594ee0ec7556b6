"""Other processes of this Python that share the work on many portions of data: Python computes on one core only."""

import json
import os
import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_Job = TypeVar("_Job")
_Portion = TypeVar("_Portion")
_Result = TypeVar("_Result")
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from weitiao.crew import work; work()"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
"""The processes are the parallelism."""


def shared(begin: Callable[[_Job], Callable[[_Portion], _Result]], job: _Job, portions: Sequence[_Portion], size: int) -> Iterator[_Result]:
    """What ``begin(job)`` makes of each portion, in order, by ``size`` processes. ``begin`` is a function of a module; all values are
    pickled.

    A portion with which a process fails or dies is done here, so that what is wrong with it is raised where it belongs. The processes end
    with the iterator, and when this process dies.
    """
    beginning = pickle.dumps((begin, job), pickle.HIGHEST_PROTOCOL)
    crew = [_start() for _ in range(size)]
    idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()

    def done(portion: _Portion) -> tuple[bool, Any]:
        member = idle.get()
        try:
            return _ask(member, pickle.dumps(portion, pickle.HIGHEST_PROTOCOL))
        finally:
            idle.put(member)

    def enlist(member: "subprocess.Popen[bytes]") -> None:
        _ask(member, beginning)
        idle.put(member)

    here: Callable[[_Portion], _Result] | None = None
    with ThreadPoolExecutor(size) as threads:
        try:
            for member in crew:
                threads.submit(enlist, member)
            waiting: list[Future[tuple[bool, Any]]] = [threads.submit(done, portion) for portion in portions]
            for portion, future in zip(portions, waiting, strict=True):
                well, result = future.result()
                if not well:
                    here = here or begin(job)
                    result = here(portion)
                yield result
        finally:
            for member in crew:
                member.kill()
            threads.shutdown(wait=True, cancel_futures=True)
            for member in crew:
                stop(member)


def work() -> None:
    """What a process of the crew does until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    function: Callable[[Any], Any] | None = None
    while True:
        try:
            asked = pickle.load(sys.stdin.buffer)  # noqa: S301 - of the process that started this one
        except EOFError:
            return
        try:
            if function is None:
                begin, job = asked
                function, result = begin(job), None
            else:
                result = function(asked)
            answer = True, result
        except Exception:  # done again by the process that asks, which raises it
            answer = False, None
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


def _start() -> "subprocess.Popen[bytes]":
    places = json.dumps([place for place in sys.path if os.path.isabs(place)])
    return subprocess.Popen(
        [sys.executable, "-c", _START, places], env=os.environ | _ONE_THREAD,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _ask(member: "subprocess.Popen[bytes]", pickled: bytes) -> tuple[bool, Any]:
    """Whether a process could do what it was sent, and what came of it."""
    assert member.stdin is not None
    assert member.stdout is not None
    try:
        member.stdin.write(pickled)
        member.stdin.flush()
        answer: tuple[bool, Any] = pickle.load(member.stdout)  # noqa: S301 - of a process that this one started
    except (OSError, EOFError, pickle.UnpicklingError):  # it is gone
        return False, None
    return answer


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process that was asked through pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            try:
                pipe.close()
            except OSError:  # what could not be sent any more
                continue
