"""How long saving halts a training: `python bench/save_stall.py --model FOLDER --data reviews.csv --out bench/results/save-stall.json`.

The same training twice, a checkpoint a minute: written in the background (as it is) and with the training halted for it.
"""

import argparse
import json
import platform
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from weitiao import finetune, load_config, saves
from weitiao.progress import Reporter


def measure(model: str, data: str, method: str, steps: int, folder: str, from_bytes: int) -> dict[str, Any]:
    """Seconds of training and seconds that it stood still. ``from_bytes``: checkpoints of this size are written in the background."""
    saves.BACKGROUND_BYTES = from_bytes
    settings = [
        f"model={model}", f"data.train={data}", f"runs={folder}", f"method={method}", f"train.max_steps={steps}", "train.batch_rows=8",
        "train.checkpoint.every_minutes=1", "train.validate_every=1000", "evaluate.before=false", "evaluate.after=false",
        "evaluate.baselines=false", "data.validation_share=0.05", "data.test_share=0.05",
    ]  # fmt: skip
    training = finetune(load_config(None, settings), Reporter()).record["training"]
    saved, halted = training["checkpoints"]["saved"], training["checkpoints"]["seconds"]
    return {"training_seconds": training["seconds"], "saved": saved, "halted_seconds": halted, "share": halted / training["seconds"]}


def main() -> None:
    """Both ways, and a JSON of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--method", default="full")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    for name, from_bytes in (("background", saves.BACKGROUND_BYTES), ("halting", 1 << 62)):
        with tempfile.TemporaryDirectory(dir=Path(given.out).parent) as folder:
            found[name] = measure(given.model, given.data, given.method, given.steps, folder, from_bytes)
    found |= {
        "command": f"python bench/save_stall.py --model {Path(given.model).name} --data {Path(given.data).name} --method {given.method} "
        f"--steps {given.steps}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    Path(given.out).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
