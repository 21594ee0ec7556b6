"""How good the memory estimate is: twelve combinations of model, method and length, each trained for a few steps in a process of its own.

    python bench/estimate.py --out bench/results/estimate-cpu.json [--real /path/to/Qwen2-0.5B] [--only builtin-lora-128 …]

The models between the built-in one and a real one are of Qwen2's shape with random weights. Written: what `weitiao check` predicts (it does
not load torch), what `weitiao train` predicts before it loads the model, the measured peak of the whole process, and both errors.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

BUILTIN = Path(__file__).parent.parent / "weitiao" / "builtin"
SHAPES = {
    "random-30m": {"hidden_size": 512, "num_hidden_layers": 8, "intermediate_size": 1408, "num_attention_heads": 8, "vocab_size": 8192},
    "random-100m": {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 2048, "num_attention_heads": 12, "vocab_size": 16384},
    "random-494m": {
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "intermediate_size": 4864,
        "num_attention_heads": 14,
        "vocab_size": 151936,
    },
}
COMBINATIONS = (
    ("builtin", "lora", 128), ("builtin", "full", 128), ("builtin", "head", 128), ("builtin", "lora", 512), ("builtin", "full", 512),
    ("random-30m", "lora", 256), ("random-30m", "full", 256), ("random-30m", "full", 640), ("random-100m", "lora", 384),
    ("random-100m", "full", 128), ("random-100m", "head", 384), ("real", "lora", 256),
)  # fmt: skip
STEPS, BATCH_ROWS = 6, 8


def make_model(name: str, folder: Path) -> Path:
    """A model of Qwen2's shape with random weights and the built-in tokenizer."""
    config = Qwen2Config(
        **SHAPES[name], num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=None, eos_token_id=8189
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for path in (BUILTIN / "model").glob("*token*"):
        shutil.copy(path, folder)
    shutil.copy(BUILTIN / "model" / "chat_template.jinja", folder)
    return folder


def write_rows(path: Path, characters: int) -> None:
    """Classification rows of about so many characters, of the built-in texts."""
    texts = [json.loads(line) for line in (BUILTIN / "topic.jsonl").read_text(encoding="utf-8").splitlines()]
    labels = sorted({row["label"] for row in texts})[:4]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        place = 0
        for i in range(120):
            text = ""
            while len(text) < characters:
                text += texts[place % len(texts)]["text"]
                place += 1
            writer.writerow([text, labels[i % 4]])


def run(model: Path | str, method: str, length: int, folder: Path) -> dict[str, object]:
    """Check, then train; what was predicted and measured."""
    data = folder / f"{length}.csv"
    write_rows(data, 3 * length)
    settings = [
        f"model={model}", "task={kind: classification, template: '{text}'}", f"data.train={data}", f"data.max_tokens={length}",
        "method={kind: head, last_blocks: 2}" if method == "head" else f"method={method}", f"train.max_steps={STEPS}",
        f"train.batch_rows={BATCH_ROWS}", f"train.micro_batch_tokens={BATCH_ROWS * length // 2}", "evaluate.batch_tokens=4096",
        f"runs={folder / 'runs'}", "check.fail_on=[]", "check.memory=ignore",
    ]  # fmt: skip
    empty = folder / "empty.yaml"
    empty.write_text("seed: 0\n", encoding="utf-8")
    found = {}
    for command in ("check", "train"):
        quiet = ["-q"] if command == "train" else []
        done = subprocess.run(
            [sys.executable, "-m", "weitiao", "--lang", "en", command, str(empty), *settings, "--json", *quiet],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stderr)
        found[command] = json.loads(done.stdout)
    record = json.loads((Path(found["train"]["run"]) / "run.json").read_text(encoding="utf-8"))
    estimate, measured = record["estimate"], record["estimate"]["measured_peak_bytes"]
    checked = found["check"]["estimate"]["predicted_peak_bytes"]
    return {
        "parameters": record["base_model"]["parameters"], "dtype": record["base_model"]["dtype"], "measured_peak_bytes": measured,
        "check_peak_bytes": checked, "check_error": checked / measured - 1,
        "train_peak_bytes": estimate["predicted_peak_bytes"], "train_error": estimate["error"], "parts": estimate["parts"],
        "versions": record["versions"], "hardware": record["hardware"],
    }  # fmt: skip


def main() -> None:
    """Run the combinations and write the results as they come."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--real", type=Path, help="a local folder of Qwen2-0.5B; without it that combination is left out")
    parser.add_argument("--only", nargs="*", help="MODEL-METHOD-LENGTH")
    given = parser.parse_args()
    results = json.loads(given.out.read_text(encoding="utf-8"))["results"] if given.out.is_file() else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made: dict[str, Path | str] = {"builtin": "builtin"} | ({"real": given.real.absolute()} if given.real else {})
        for model, method, length in COMBINATIONS:
            name = f"{model}-{method}-{length}"
            if (given.only is not None and name not in given.only) or (model == "real" and not given.real):
                continue
            if model not in made:
                made[model] = make_model(model, folder / model)
            results[name] = run(made[model], method, length, folder)
            one = results[name]
            print(f"{name}: measured {one['measured_peak_bytes'] / 1e6:,.0f} MB, check {100 * one['check_error']:+.0f} %, "
                  f"train {100 * one['train_error']:+.0f} %", flush=True)  # fmt: skip
            report = {"date": date.today().isoformat(), "threads": os.environ.get("OMP_NUM_THREADS"), "results": results}
            given.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
