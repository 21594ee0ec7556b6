"""What a bfloat16 product of a new shape leaves in memory on a CPU, with the libraries' own limits and with ours.

python bench/kernel_memory.py; python bench/kernels.py --limited
"""

import ctypes
import sys
import time

import torch
from torch.nn import functional as F

from weitiao.cost import limit_kernel_caches

SHAPES = 240


class _Info(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
                                                     "fordblks", "keepcost")]  # fmt: skip


_libc = ctypes.CDLL("libc.so.6")
_libc.mallinfo2.restype = _Info


def product(rows: int, length: int, weight: torch.Tensor) -> None:
    """Forward and backward of one linear layer."""
    F.linear(torch.randn(rows, length, 320, dtype=weight.dtype, requires_grad=True), weight).sum().backward()
    weight.grad = None


def attention(rows: int, length: int, weight: torch.Tensor) -> None:
    """Forward and backward of the fused attention."""
    q, k, v = (torch.randn(rows, heads, length, 64, dtype=weight.dtype, requires_grad=True) for heads in (5, 1, 1))
    F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).sum().backward()


if __name__ == "__main__":
    if "--limited" in sys.argv:
        limit_kernel_caches()
    for dtype in (torch.bfloat16, torch.float32):
        weight = torch.randn(960, 320, dtype=dtype, requires_grad=True)
        for work in (product, attention):
            work(2, 300, weight)
            before, start = _libc.mallinfo2().uordblks, time.perf_counter()
            for length in range(301, 301 + SHAPES):
                work(2, length, weight)
            kept = (_libc.mallinfo2().uordblks - before) / SHAPES
            each = (time.perf_counter() - start) / SHAPES * 1000
            print(f"{dtype} {work.__name__}: {kept / 1000:,.0f} kB kept and {each:.1f} ms for each shape")
