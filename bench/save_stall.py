"""How long saving halts a training: `python bench/save_stall.py --model FOLDER --data reviews.csv --out bench/results/save-stall.json`.

The same training again and again, each in a process of its own: a checkpoint a minute written in the background (as it is), in the
background without a copy in memory, with the training halted for it, and none at all, which shows what the cores lose to the writing.
"""

import argparse
import json
import multiprocessing
import platform
import tempfile
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from weitiao import finetune, load_config, saves
from weitiao.progress import Reporter

WAYS = ("background", "without-copy", "halting", "never")


def measure(way: str, model: str, data: str, method: str, steps: int, folder: str) -> dict[str, Any]:
    """Seconds of training and seconds that it stood still."""
    if way == "halting":
        saves.BACKGROUND_BYTES = 1 << 62
    if way == "without-copy":
        saves.Saves._room = lambda _: 0  # type: ignore[method-assign]
    settings = [
        f"model={model}", f"data.train={data}", f"runs={folder}", f"method={method}", f"train.max_steps={steps}", "train.batch_rows=8",
        f"train.checkpoint.every_minutes={10_000 if way == 'never' else 1}", "train.validate_every=1000", "evaluate.before=false",
        "evaluate.after=false", "evaluate.baselines=false", "data.validation_share=0.05", "data.test_share=0.05",
    ]  # fmt: skip
    training = finetune(load_config(None, settings), Reporter()).record["training"]
    seconds, peak, checkpoints = (training[key] for key in ("seconds", "peak_memory_bytes", "checkpoints"))
    saved, halted, copied = (checkpoints[key] for key in ("saved", "seconds", "copied_bytes"))
    shares = {"halted_seconds": halted, "share": halted / seconds}
    return {"training_seconds": seconds, "saved": saved, **shares, "copied_bytes": copied, "peak_memory_bytes": peak}


def main() -> None:
    """One way after the other, and a JSON of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--method", default="full")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    for way in given.ways:
        with (
            tempfile.TemporaryDirectory(dir=Path(given.out).parent) as folder,
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart,
        ):
            found[way] = apart.submit(measure, way, given.model, given.data, given.method, given.steps, folder).result()
    found |= {
        "command": f"python bench/save_stall.py --model {Path(given.model).name} --data {Path(given.data).name} --method {given.method} "
        f"--steps {given.steps} --ways {' '.join(given.ways)}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    Path(given.out).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
