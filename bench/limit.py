"""How near a training comes to what the processor can do: `python bench/limit.py MODEL --out bench/results/DATE-limit.json`

MODEL: a folder in the shape of Qwen2-0.5B. In turn, `--rounds` times: one product [1024, 896] × [896, 4864] in bfloat16 again and again,
which is the limit, and a whole training step (forward, backward, optimiser). The operations of a step are those of its matrix products
as torch's own counter counts them in one step; attention's products, which it computes twice in part, are left out, and so is all that is
no product. The share is the median of the quotients of neighbouring rounds.

- lora: rank 8, 4 rows of 512 tokens with nothing in common, answers of 3
- full: the same rows, every token trained
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cases
import ours
import torch
from torch.utils.flop_counter import FlopCounterMode

TOKENS, HIDDEN, INNER = 1024, 896, 4864


def clock(name: str) -> float:
    """Seconds on the wall, or of the processor."""
    return time.process_time() if name == "processor" else time.perf_counter()


def limit(clock_name: str, seconds: float = 1.0) -> float:
    """Operations per second of one large product."""
    a, b = torch.randn(TOKENS, HIDDEN, dtype=torch.bfloat16), torch.randn(INNER, HIDDEN, dtype=torch.bfloat16)
    start, number = clock(clock_name), 0
    while clock(clock_name) - start < seconds:
        a @ b.T
        number += 1
    return 2.0 * TOKENS * HIDDEN * INNER * number / (clock(clock_name) - start)


def counted(work: Callable[[], object]) -> float:
    """The operations of a step's matrix products, without attention's (batched) ones."""
    with FlopCounterMode(display=False) as counter:
        work()
    parts: Any = counter.get_flop_counts()["Global"]
    return float(sum(count for operation, count in parts.items() if "bmm" not in str(operation)))


def measure(case: dict[str, Any], mode: str, rounds: int, clock_name: str) -> dict[str, Any]:
    """Shares of the limit of one way to train."""
    _, step = ours.sft(case, mode)
    step()  # buffers are made, kernels compiled
    operations = counted(step)
    found: dict[str, list[float]] = {"limit": [], "step": [], "share": []}
    for _ in range(rounds):
        found["limit"].append(limit(clock_name))
        start = clock(clock_name)
        step()
        found["step"].append(operations / (clock(clock_name) - start))
        found["share"].append(found["step"][-1] / found["limit"][-1])
    medians = {name: statistics.median(values) for name, values in found.items()}
    return {"operations": operations, "medians": medians, "rounds": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--modes", default="lora,full")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    result: dict[str, Any] = {
        "command": f"python bench/limit.py MODEL --rounds {given.rounds} --threads {given.threads} --clock {given.clock}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{platform.machine()}, {given.threads} threads, torch {torch.__version__}",
    }
    for mode in given.modes.split(","):
        rows = cases.long_rows(given.model, 4, 3 if mode == "lora" else 0, 512, 512, equal=True)
        result[mode] = measure(rows | {"batch_rows": 4, "learning_rate": 1e-5, "rank": 8, "alpha": 16}, mode, given.rounds, given.clock)
        print(json.dumps({"mode": mode} | result[mode]["medians"]), flush=True)
    given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
