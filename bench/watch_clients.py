"""What 64 open pages cost a training: `python bench/watch_clients.py --out bench/results/watch-clients.json`.

`weitiao watch` serves a folder in which `weitiao train` trains the built-in model; minutes without pages and minutes with 64 that ask for
the run's curve as often as the server says, as the page does, take turns. The rate is that of the training's own log. The pages are
simulated on the same cores, which a reader's browser would not be: they are one program that says and reads little more than bytes, and
what it takes is in the loss. So the processor seconds are told apart: what the server takes of a core is what pages elsewhere would cost.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
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


class Pages:
    """Simulated pages: connections that stay open, each with one question at a time."""

    def __init__(self, address: str, token: str) -> None:
        self.host, self.token, self.seconds = address.removeprefix("http://"), token, list[float]()

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: dict[str, Any]) -> dict[str, Any]:
        """One question to the server and its answer."""
        begin, body = time.monotonic(), json.dumps(question)
        writer.write(
            f"POST /api/poll HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if not head.startswith(b"HTTP/1.1 200") or length is None:
            raise SystemExit(head.decode())
        answer: dict[str, Any] = json.loads(await reader.readexactly(int(length[1])))
        self.seconds.append(time.monotonic() - begin)
        return answer

    async def page(self, number: int, pages: int, until: float) -> None:
        """One page until a moment: the list, then the run's curve as often as it is told."""
        await asyncio.sleep(SECONDS_TO_OPEN * number / pages)
        reader, writer = await asyncio.open_connection(*self.host.split(":"))
        run = (await self.ask(reader, writer, {}))["runs"][0]["id"]
        curve = {"id": run}
        while time.monotonic() < until:
            answer = await self.ask(reader, writer, {"curves": [curve], "points": 600, "page": str(number)})
            curve = {"id": run, "cursor": answer["curves"][run]["cursor"]}
            await asyncio.sleep(min(answer["again_seconds"], max(0.0, until - time.monotonic())))
        writer.close()

    async def all(self, pages: int, seconds: float) -> None:
        """So many pages for so long."""
        await asyncio.gather(*(self.page(i, pages, time.monotonic() + seconds) for i in range(pages)))


def serve(root: Path) -> tuple[subprocess.Popen[str], Pages]:
    """A server of the folder, and its pages."""
    command = [sys.executable, "-m", "weitiao", "--lang", "en", "watch", str(root), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None  # by PIPE
    for line in server.stdout:
        if found := re.search(r"(http://127\.0\.0\.1:\d+)/\S*?[#=]([\w-]{20,})", line):
            return server, Pages(found[1], found[2])
    raise SystemExit("the server did not start")


def measure(rounds: int, seconds: float, pages: int) -> dict[str, Any]:
    """Rates without and with pages, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = ["model=builtin", "data.train=builtin", "name=run", f"runs={root}", "method=lora", "train.epochs=1000"]
        settings += ["train.validate_every=1000", "evaluate.before=false", "evaluate.baselines=false", "task.kind=classification"]
        (root / "run.yaml").write_text("seed: 0\n")
        training = subprocess.Popen([sys.executable, "-m", "weitiao", "train", str(root / "run.yaml"), *settings, "-q"])
        server, visitors = serve(root)
        metrics, found, taken = root / "run" / "metrics.jsonl", {"without": [], "with": []}, {"without": [], "with": []}  # type: ignore[var-annotated]
        client, load = 0.0, []
        watching = psutil.Process(server.pid)
        try:
            while not metrics.exists() or clock(metrics) < 20:
                time.sleep(1)
            for _ in range(rounds):
                for kind in found:
                    begin, work, own = clock(metrics), sum(watching.cpu_times()[:2]), time.process_time()
                    if kind == "without":
                        time.sleep(seconds)
                    else:
                        asyncio.run(visitors.all(pages, seconds))
                        client += time.process_time() - own
                    taken[kind].append((sum(watching.cpu_times()[:2]) - work) / seconds)
                    found[kind].append(tokens_between(metrics, begin, clock(metrics)))
                    load.append(os.getloadavg()[0])
        finally:
            for process in (training, server):
                process.terminate()
                process.wait()
    slower = [1 - a / b for a, b in zip(found["with"], found["without"], strict=True)]
    return {
        "pages": pages, "rounds": rounds, "seconds": seconds, "tokens_per_second": found,
        "slower": {"median": statistics.median(slower), "each": slower},
        "answers": {"n": len(visitors.seconds), "median_seconds": statistics.median(visitors.seconds), "slowest": max(visitors.seconds)},
        "server": {"share_of_a_core": {kind: statistics.median(shares) for kind, shares in taken.items()}},
        "client": {"share_of_a_core": client / (rounds * seconds)},
        "load_averages": load,
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
