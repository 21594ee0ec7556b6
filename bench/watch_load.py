"""How long the live page's server takes: 100 runs of 10,000 steps at first, then what is new, and what a minute of 64 pages costs.

    python bench/watch_load.py [RUNS] [STEPS]

Wall seconds depend on what else the machine does; the processor seconds of the server's own work do not, so both are printed.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from weitiao.watch.app import make_watch

PORT, TOKEN, PAGES, SECONDS_BETWEEN_POLLS = 8642, "t" * 32, 64, 3.0


def line(step: int) -> str:
    """A step's line as a run writes it, some 250 bytes."""
    rates = {"tokens": 812 * step, "tokens_per_second": 2104.4421873 + step % 7, "memory_bytes": 1234567890 + step, "seconds": 0.371 * step}
    learnt = {"loss": 3.1 / (1 + step / 400) + (step * 7919 % 97) / 500, "learning_rate": 4.8e-4, "grad_norm": 1.03847562}
    return json.dumps({"type": "step", "step": step, "epoch": step / 1000, **learnt, **rates}) + "\n"


def make_runs(root: Path, runs: int, steps: int) -> None:
    """Run folders with curves and nothing else; every hundredth step a validation."""
    validation = (
        '{"type": "validation", "step": %d, "epoch": 1.0, "loss": 1.5, "accuracy": 0.5, "macro_f1": 0.4, "n": 953, "best": false}\n'
    )
    text = "".join(line(i) + (validation % i if i % 100 == 0 else "") for i in range(1, steps + 1))
    for i in range(runs):
        folder = root / f"run-{i:03d}"
        folder.mkdir()
        (folder / "metrics.jsonl").write_text(text)
        (folder / "run.json").write_text(json.dumps({"state": "finished", "created": f"2026-01-01T00:{i:03d}", "planned_steps": steps}))


def main() -> None:
    runs, steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100, int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_runs(root, runs, steps)
        watch = make_watch(root, root, TOKEN, "127.0.0.1", PORT)
        client = TestClient(watch.app, base_url=f"http://127.0.0.1:{PORT}", headers={"Authorization": f"Bearer {TOKEN}"})

        def poll(curves: list[dict[str, Any]], points: int = 600) -> tuple[dict[str, Any], float, float]:
            wall, work = time.perf_counter(), time.process_time()
            answer = client.post("/api/poll", json={"curves": curves, "points": points})
            return answer.json(), time.perf_counter() - wall, time.process_time() - work

        listing, wall, work = poll([])
        print(f"list of {len(listing['runs'])} runs: {wall:.3f} s, processor {work:.3f} s")
        ids = [run["id"] for run in listing["runs"]]
        for number in (1, 10, runs):
            first, wall, work = poll([{"id": run} for run in ids[:number]], 120 if number > 50 else 600)
            sampled = sum(part["thinned"] for part in first["curves"].values())
            print(f"curves of {number} runs at first ({sampled} sampled): {wall:.3f} s, processor {work:.3f} s")
        wanted = [{"id": run, "cursor": part["cursor"]} for run, part in first["curves"].items()]
        times = []
        for i in range(20):
            for run in root.iterdir():
                with (run / "metrics.jsonl").open("a") as file:
                    file.write(line(steps + 1 + i))
            time.sleep(0.05)
            part, wall, work = poll(wanted)
            wanted = [{"id": run, "cursor": one["cursor"]} for run, one in part["curves"].items()]
            times.append((wall, work))
        print(f"follow-up of {runs} runs, one new step each: median {statistics.median(w for w, _ in times):.3f} s, "
              f"processor {statistics.median(w for _, w in times):.3f} s")  # fmt: skip
        one = wanted[:1]
        begin = time.process_time()
        polls = 200
        for _ in range(polls):
            client.post("/api/poll", json={"curves": one})
        each = (time.process_time() - begin) / polls
        share = 100 * each * PAGES / SECONDS_BETWEEN_POLLS
        print(f"a poll with nothing new: processor {1000 * each:.2f} ms (client included); {PAGES} pages take {share:.1f} % of one core")


if __name__ == "__main__":
    main()
