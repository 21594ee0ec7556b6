"""What 64 open pages cost a training: `python bench/watch_clients.py --out bench/results/watch-clients.json`.

`weitiao watch` serves a folder in which `weitiao train` trains the built-in model; minutes without pages and minutes with 64 that ask for
the run's curve as often as the server says, as the page does, take turns. The rate is that of the training's own log. The pages are
simulated on the same cores, which a reader's browser would not be: what they take is in the figure (``client`` says how much).
"""

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import torch

SECONDS_TO_OPEN = 3.0
"""In which all pages are opened."""


def tokens_between(metrics: Path, begin: float, end: float) -> float:
    """Tokens per second of the training between two seconds of its own clock."""
    steps = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    seen = [(step["seconds"], step["tokens"]) for step in steps if step["type"] == "step" and begin <= step["seconds"] <= end]
    (first, before), (last, after) = seen[0], seen[-1]
    return (after - before) / (last - first)


def clock(metrics: Path) -> float:
    """The training's own clock now."""
    return float(json.loads(metrics.read_text(encoding="utf-8").splitlines()[-1])["seconds"])


def visit(address: str, headers: dict[str, str], number: int, pages: int, until: float, asked: list[float]) -> None:
    """One page for as long as the minute lasts."""
    with httpx.Client(base_url=address, headers=headers) as client:
        time.sleep(SECONDS_TO_OPEN * number / pages)
        run = client.post("/api/poll", json={"curves": []}).raise_for_status().json()["runs"][0]["id"]
        curve: dict[str, Any] = {"id": run}
        while time.monotonic() < until:
            begin = time.monotonic()
            answer = client.post("/api/poll", json={"curves": [curve], "points": 600, "page": str(number)}).raise_for_status().json()
            asked.append(time.monotonic() - begin)
            curve = {"id": run, "cursor": answer["curves"][run]["cursor"]}
            time.sleep(min(max(0.0, answer["again_seconds"] - (time.monotonic() - begin)), max(0.0, until - time.monotonic())))


def serve(root: Path) -> tuple[subprocess.Popen[str], str, dict[str, str]]:
    """A server of the folder, its address and what its page sends along."""
    command = [sys.executable, "-m", "weitiao", "--lang", "en", "watch", str(root), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None  # by PIPE
    for line in server.stdout:
        if found := re.search(r"(http://127\.0\.0\.1:\d+)/\S*?[#=]([\w-]{20,})", line):
            return server, found[1], {"Authorization": f"Bearer {found[2]}"}
    raise SystemExit("the server did not start")


def measure(rounds: int, seconds: float, pages: int) -> dict[str, Any]:
    """Rates without and with pages, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = ["model=builtin", "data.train=builtin", "name=run", f"runs={root}", "method=lora", "train.epochs=1000"]
        settings += ["train.validate_every=1000", "evaluate.before=false", "evaluate.baselines=false", "task.kind=classification"]
        (root / "run.yaml").write_text("seed: 0\n")
        training = subprocess.Popen([sys.executable, "-m", "weitiao", "train", str(root / "run.yaml"), *settings, "-q"])
        server, address, headers = serve(root)
        metrics, found = root / "run" / "metrics.jsonl", {"without": [], "with": [], "answers": []}  # type: ignore[var-annotated]
        client = 0.0
        try:
            while not metrics.exists() or clock(metrics) < 20:
                time.sleep(1)
            for _ in range(rounds):
                begin = clock(metrics)
                time.sleep(seconds)
                found["without"].append(tokens_between(metrics, begin, clock(metrics)))
                begin, work = clock(metrics), time.process_time()
                end = time.monotonic() + seconds
                visits = [threading.Thread(target=visit, args=(address, headers, i, pages, end, found["answers"])) for i in range(pages)]
                for one in visits:
                    one.start()
                for one in visits:
                    one.join()
                client += time.process_time() - work
                found["with"].append(tokens_between(metrics, begin, clock(metrics)))
        finally:
            for process in (training, server):
                process.terminate()
                process.wait()
    slower = [1 - a / b for a, b in zip(found["with"], found["without"], strict=True)]
    return {
        "pages": pages, "rounds": rounds, "seconds": seconds, "tokens_per_second": {key: found[key] for key in ("without", "with")},
        "slower": {"median": statistics.median(slower), "each": slower},
        "answers": {"n": len(found["answers"]), "median_seconds": statistics.median(found["answers"]), "slowest": max(found["answers"])},
        "client": {"share_of_a_core": client / (rounds * seconds)},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pages", type=int, default=64)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = measure(given.rounds, given.seconds, given.pages) | {
        "command": f"python bench/watch_clients.py --rounds {given.rounds} --seconds {given.seconds} --pages {given.pages}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
