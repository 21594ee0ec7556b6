"""Peak memory of reading and dividing a large JSON Lines file, which is generated, measured and removed.

python bench/read_memory.py --gigabytes 5 --row-bytes 5000 --folder /tmp
"""

import argparse
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path

CHECK = """
import re, sys
from pathlib import Path
from weitiao.config import build_config
from weitiao.data.examples import load_dataset
dataset = load_dataset(build_config({"data": {"train": sys.argv[1]}}, "bench"))
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
print({split: len(examples) for split, examples in dataset.splits.items()}, peak)
"""


def write(path: Path, size: int, row_bytes: int) -> int:
    """Rows of text and label, cut at random from the built-in texts; returns how many."""
    lines = (Path(__file__).parent.parent / "weitiao" / "builtin" / "topic.jsonl").read_text(encoding="utf-8").splitlines()
    text = "".join(json.loads(line)["text"] for line in lines)
    characters, draw, rows, written = row_bytes // 3, random.Random(0), 0, 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            start = draw.randrange(len(text) - characters)
            line = json.dumps({"text": f"{rows} {text[start : start + characters]}", "label": f"类{rows % 10}"}, ensure_ascii=False) + "\n"
            file.write(line)
            written += len(line.encode())
            rows += 1
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--row-bytes", type=int, default=5000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp"))
    arguments = parser.parse_args()
    path = arguments.folder / "weitiao-read-memory.jsonl"
    try:
        rows = write(path, int(arguments.gigabytes * 1e9), arguments.row_bytes)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", CHECK, str(path)], capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
        peak = int(re.split(r"\s", done.stdout.strip())[-1])
        print(f"{path.stat().st_size / 1e9:.2f} GB, {rows} rows: peak {peak / 1e6:.0f} MB, {seconds:.0f} s; {done.stdout.strip()}")
    finally:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
