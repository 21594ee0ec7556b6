"""Attention on a CPU, forward and backward: ours against the fused kernel of torch. `python bench/attention.py [--threads 1] [--rounds 9]`

Shapes of Qwen2-0.5B: 14 heads, 2 of them for keys and values, of size 64; causal; bfloat16. Milliseconds of processor time of all threads,
the median of interleaved rounds; ``forward`` without a gradient, ``both`` with one.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from weitiao.model.states import attention

SHAPES = ((16, 32), (16, 73), (8, 128), (4, 256), (2, 512), (1, 1024), (1, 2048))
HEADS, PAIRS, SIZE = 14, 2, 64


def fused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The kernel that transformers uses."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def ours(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Plain products, piece by piece."""
    return attention(q, k, v, None)


def milliseconds(work: Callable[[], object]) -> float:
    """Of one call, by the clock of the processor."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for rows, tokens in SHAPES:
        inputs = [torch.randn(rows, tokens, n, SIZE, dtype=torch.bfloat16).transpose(1, 2).requires_grad_() for n in (HEADS, PAIRS, PAIRS)]

        def forward(way: Callable[..., torch.Tensor], inputs: list[torch.Tensor] = inputs) -> None:
            with torch.inference_mode():
                way(*inputs)

        def both(way: Callable[..., torch.Tensor], inputs: list[torch.Tensor] = inputs) -> None:
            way(*inputs).transpose(1, 2).sum().backward()  # type: ignore[no-untyped-call]

        found: dict[str, list[float]] = {}
        for _ in range(given.rounds + 1):
            for name, work, way in (("fused", forward, fused), ("ours", forward, ours), ("fused", both, fused), ("ours", both, ours)):
                found.setdefault(f"{work.__name__} {name}", []).append(milliseconds(lambda work=work, way=way: work(way)))  # type: ignore[misc]
        medians = {name: round(statistics.median(values[1:]), 2) for name, values in found.items()}  # the first round warms up
        print(json.dumps({"rows": rows, "tokens": tokens} | medians), flush=True)


if __name__ == "__main__":
    main()
