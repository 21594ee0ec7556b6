"""What this machine has to train with, found out without torch, so that `weitiao check` can say it."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from weitiao.config_data import ModelConfig

_CPUINFO = Path("/proc/cpuinfo")
_CONTAINER = (("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
              ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"))  # fmt: skip
"""Where Linux says what a container may use and uses (cgroups, version 2 and 1)."""
_BFLOAT16 = {"avx512_bf16", "amx_bf16"}
_QUERY = ["--query-gpu=memory.total,memory.free,compute_cap", "--format=csv,noheader,nounits"]


@dataclass(frozen=True, slots=True)
class Machine:
    """The device that a run would use. ``free_bytes``: what other processes leave; ``itemsize``: bytes of a weight in working precision."""

    device: str
    total_bytes: int
    free_bytes: int
    itemsize: int
    cores: int
    processor: str


def this_machine(config: ModelConfig, device: str | None = None, itemsize: int | None = None) -> Machine:
    """The machine as `model.device` and `model.precision` would use it. Where torch has decided, ``device`` and ``itemsize`` say what; its
    own process then counts as free, since the estimate counts it too."""
    gpu = None if config.device == "cpu" or device == "cpu" else _gpu()
    total, free = memory()
    text = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.is_file() else ""
    flags, name = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE), re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    native = bool(flags and _BFLOAT16 & set(flags[1].split()))
    if gpu is not None:
        total, free, native = gpu
    elif device is not None:
        free = min(total, free + psutil.Process().memory_info().rss)
    precise = config.precision == "float32" or (config.precision == "auto" and not native)
    used = "cpu" if gpu is None else "cuda"
    return Machine(device or used, total, free, itemsize or (4 if precise else 2), num_cores(), name[1] if name else "")


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else (os.cpu_count() or 1)


def memory() -> tuple[int, int]:
    """Bytes of main memory, total and available; in a container no more than it may use."""
    system = psutil.virtual_memory()
    total, free = system.total, system.available
    for most, used in _CONTAINER:
        try:
            limit, now = int(Path(most).read_text()), int(Path(used).read_text())
        except (OSError, ValueError):  # not in a container, or one without a limit ("max")
            continue
        if limit < total:
            total, free = limit, min(free, max(0, limit - now))
    return total, free


def _gpu() -> tuple[int, int, bool] | None:
    """Total and free bytes of the first GPU, and whether it computes in bfloat16; None: torch would not use one."""
    program = shutil.which("nvidia-smi")
    if program is None or "+cpu" in metadata.version("torch"):
        return None
    try:
        done = subprocess.run([program, *_QUERY], capture_output=True, text=True, timeout=20, check=True)
        total, free, capability = done.stdout.splitlines()[0].split(",")
        return int(total) << 20, int(free) << 20, float(capability) >= 8.0
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
