"""Does the search find its way back from a learning rate that is wrong on purpose? The built-in model and data, cut small.

    python bench/tune_recovery.py FOLDER [trials]

Writes FOLDER/rows/*.jsonl (500 training, 200 validation, 300 test rows of the built-in data, drawn by seed 0), runs `weitiao tune` with
the head method at a thousandth of its usual rate, and prints one JSON object: the validation scores of trial 0 and of the best, the rates,
and the test scores of both.
"""

import json
import random
import subprocess
import sys
from datetime import date
from importlib import metadata
from pathlib import Path

ROWS = {"train": 500, "validation": 200, "test": 300}
WRONG_RATE = 2e-6
TOPIC = Path(__file__).parent.parent / "weitiao" / "builtin" / "topic.jsonl"


def main() -> None:
    folder, trials = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "10"
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in TOPIC.read_text(encoding="utf-8").splitlines()]
    draw = random.Random(0)
    data = {}
    for split, number in ROWS.items():
        own = [row for row in rows if row["split"] == {"validation": "dev"}.get(split, split)]
        path = folder / "rows" / f"{split}.jsonl"
        path.write_text(
            "".join(json.dumps({"text": row["text"], "label": row["label"]}, ensure_ascii=False) + "\n" for row in draw.sample(own, number))
        )
        data[split] = str(path)
    config = {
        "task": {"kind": "classification", "template": "{text}"}, "data": {**data, "max_tokens": 256},
        "method": {"kind": "head", "last_blocks": 1}, "train": {"epochs": 4}, "optim": {"learning_rate": WRONG_RATE},
        "runs": str(folder / "runs"),
    }  # fmt: skip
    (folder / "config.yaml").write_text(json.dumps(config))
    command = [sys.executable, "-m", "weitiao", "--lang", "en", "tune", str(folder / "config.yaml"), "--trials", trials]
    done = subprocess.run([*command, "--out", str(folder / "tune"), "--json"], stdout=subprocess.PIPE, check=True)
    result = json.loads(done.stdout)
    best = result["trials"][result["best"]]
    first = next(trial for trial in result["trials"] if trial["is_default"])
    summary = {
        "date": date.today().isoformat(), "versions": {name: metadata.version(name) for name in ("weitiao", "torch", "optuna")},
        "rows": ROWS, "trials": len(result["trials"]), "metric": result["metric"],
        "first": {"value": first["value"], "rate": first["params"]["optim.learning_rate"]},
        "best": {"number": best["number"], "value": best["value"], "params": best["params"]},
        "test": {row["title"]["en"]: row["metrics"]["accuracy"] for row in result["test"]["rows"]},
        "states": [trial["state"] for trial in result["trials"]],
    }  # fmt: skip
    print(json.dumps(summary, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
