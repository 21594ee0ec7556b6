"""What a run costs: floating-point operations by formula, memory as measured.

Forward operations per token (Kaplan et al. 2020, arXiv:2001.08361, with attention scores as in Hoffmann et al. 2022, arXiv:2203.15556), for
L layers, hidden size h, n heads of size d, k key-value heads, intermediate size m, mean length s:
    trunk = L · (4·h·n·d + 4·h·k·d + 6·h·m + 2·n·d·s)        [projections, gated MLP, causal scores and values]
    head  = 2·V·h  per position whose logits are made
A backward pass costs one more forward for the inputs' gradients and one for the weights' gradients, where these are needed.
"""

import os
import re
from pathlib import Path
from typing import Any

import torch

_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_KERNELS = 128


def trunk_flops_per_token(config: Any, mean_length: float) -> float:
    """Forward floating-point operations of the trunk per token at this mean row length."""
    heads = config.num_attention_heads
    size = config.hidden_size // heads if getattr(config, "head_dim", None) is None else config.head_dim
    pairs = config.num_key_value_heads * size
    per_layer = 4 * config.hidden_size * heads * size + 4 * config.hidden_size * pairs + 6 * config.hidden_size * config.intermediate_size
    return float(config.num_hidden_layers * (per_layer + 2 * heads * size * mean_length))


def training_flops(config: Any, method: str, trained_blocks: int, tokens: int, targets: int, mean_length: float, outputs: int) -> float:
    """Floating-point operations of training on ``tokens`` tokens with ``targets`` targets over ``outputs`` classes or vocabulary entries.

    full: 3 × trunk and head. lora: 2 × trunk (no gradient of frozen weights; the adapters' own are left out: under 2 %). head: the forward
    of the frozen trunk, 3 × the trained blocks and the head.
    """
    trunk = trunk_flops_per_token(config, mean_length) * tokens
    head = 2.0 * outputs * float(config.hidden_size) * targets
    if method == "full":
        return 3 * (trunk + head)
    if method == "lora":
        return 2 * (trunk + head)
    return trunk * (1 + 2 * trained_blocks / int(config.num_hidden_layers)) + 3 * head


def limit_kernel_caches() -> None:
    """Bound what oneDNN and torch keep of the kernels that they compile for each shape of a bfloat16 product on a CPU.

    By default both keep 1,024, about 0.27 MB each: batches of ever new shapes take gigabytes (docs/en/estimate.md). One batch needs some
    50. A user's own setting stays. Must be called before the first product.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(_KERNELS))


def reset_peak(device: torch.device) -> None:
    """Begin to measure the peak anew, where the system can (CUDA; Linux: VmHWM)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR_REFS.exists():
        try:
            _CLEAR_REFS.write_text("5")
        except OSError:  # a container may forbid it: the peak is then the process's since its start
            return


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory since :func:`reset_peak`: on CUDA what torch allocated there, else the whole process's resident set (macOS and Windows:
    since its start)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _STATUS.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())):
        return int(found.group(1)) * 1024
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info()._asdict()["peak_wset"])
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_bytes(device: torch.device) -> int:
    """Memory in use now, counted as in :func:`peak_memory_bytes`."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    import psutil

    return int(psutil.Process().memory_info().rss)
