"""One side of a comparison: a process that prepares itself once and then runs a round whenever it is told to.

Lines on stdout, each one JSON object: first the facts (versions, loss of the first step), then one per round. Every line on stdin is a
round.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Round = Callable[[], dict[str, Any]]


def serve(prepare: Callable[[dict[str, Any], str], tuple[dict[str, Any], Round]]) -> None:
    """``prepare(case, mode)`` gives the facts and the function of a round; its dictionary is sent with the seconds that it took."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr
    case = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    threads()
    reset_peak()
    facts, one_round = prepare(case, sys.argv[2])
    _send(out, facts | {"versions": versions()})
    for _ in sys.stdin:
        start = clock()
        found = one_round()
        seconds = found.pop("seconds", clock() - start)
        _send(out, {"seconds": seconds, "peak_bytes": peak_bytes(), **found})


def clock() -> float:
    """Seconds on the wall, or of all processors that this process used (``BENCH_CLOCK=processor``), which other programs hardly change."""
    return time.process_time() if os.environ.get("BENCH_CLOCK") == "processor" else time.perf_counter()


def _send(out: Any, value: dict[str, Any]) -> None:
    out.write(json.dumps(value) + "\n")
    out.flush()


def threads() -> None:
    """As many threads as processors, for every side alike."""
    import torch

    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", os.cpu_count() or 1)))


def versions() -> dict[str, str]:
    """Versions of what is installed beside this side."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "transformers", "peft", "accelerate", "trl", "lm_eval", "llamafactory"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def reset_peak() -> None:
    """Begin to measure the most memory anew (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes() -> int:
    """The most memory that this process held (Linux: VmHWM)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024 if found else 0
