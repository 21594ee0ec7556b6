"""Side by side with other libraries: `make bench` (all rows) or `python bench/run.py ROW … --rounds 5 --peers FOLDER`.

Each side is a process of its own that loads once; rounds are interleaved (ours, peer, ours, peer, …), so that what else the machine does
falls on all of them. A row's result is one JSON file in bench/results/: seconds of every round, medians, spread, losses of the first and
last step, most memory, versions, machine, date. Peers live in FOLDER/<name>/bin/python; a row whose peer is not there is listed as not run.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cases

HERE = Path(__file__).parent
RESULTS = HERE / "results"


@dataclass(frozen=True)
class Row:
    """One comparison. ``peers``: mode of peers.py → environment that it needs; ``goal``: least ratio of seconds, by peer."""

    title: str
    case: Callable[[argparse.Namespace], dict[str, Any]]
    ours: str
    peers: dict[str, str]
    goal: dict[str, float]
    tolerance: float | None = 1e-3
    """Most relative difference of the first step's loss; None: the sides have no loss in common."""
    memory_goal: dict[str, float] = field(default_factory=dict)
    """Most memory of ours as a share of the peer's, by peer. A row with no goal of seconds runs its sides one after another: together
    they would need their memory at once."""
    needs: tuple[str, ...] = ()
    """Options that the case comes from; their values, which are paths, are not written down."""
    rounds: int = 5
    """Unless ``--rounds`` says otherwise."""


def _sft(rows: dict[str, Any], batch_rows: int, rank: int = 8) -> dict[str, Any]:
    return rows | {"batch_rows": batch_rows, "learning_rate": 1e-5, "rank": rank, "alpha": 16}


LLAMAFACTORY = {"llamafactory-defaults": "llamafactory", "llamafactory-best": "llamafactory"}

ROWS = {
    "sft-full": Row(
        "SFT full, built-in model, 128 built-in rows with their options in the prompt",
        lambda _: _sft(cases.supervised("builtin", *cases.builtin_texts(128), None), 16),
        "sft-full", {"trl-full": "trl", "trl-full-best": "trl", "trainer-full": "trl"}, {"trl-full": 5, "trl-full-best": 2.5},
    ),
    "sft-full-500": Row(
        "SFT full, built-in model, 32 prompts of ~500 tokens with nothing in common, answers of 3",
        lambda _: _sft(cases.long_rows("builtin", 32, 3, 500, 1000), 8),
        "sft-full", {"trl-full": "trl", "trl-full-best": "trl"}, {"trl-full": 5, "trl-full-best": 2.5},
    ),
    "lora-reviews": Row(
        "LoRA r8, 0.5B, 8 short Chinese reviews",
        lambda a: _sft(cases.reviews(a.model, Path(a.reviews), 8), 4),
        "sft-lora", {"trainer-lora": "trl", "trl-lora": "trl", "trl-lora-best": "trl"} | LLAMAFACTORY,
        {"trainer-lora": 5.2, "trl-lora": 8, "llamafactory-defaults": 4.4}, needs=("model", "reviews"),
    ),
    "lora-500": Row(
        "LoRA r8, 0.5B, 2 prompts of ~500 tokens with nothing in common, answers of 3",
        lambda a: _sft(cases.long_rows(a.model, 2, 3, 500, 1000), 2),
        "sft-lora", {"trainer-lora": "trl", "trl-lora": "trl"} | LLAMAFACTORY, {"trainer-lora": 5, "llamafactory-defaults": 4},
        needs=("model",),
    ),
    "lora-memory": Row(
        "LoRA r8, 0.5B, 4 rows of 512 tokens with nothing in common, answers of 3: most memory",
        lambda a: _sft(cases.long_rows(a.model, 4, 3, 512, 512, equal=True), 4),
        "sft-lora", {"trl-lora": "trl", "trl-lora-best": "trl"} | LLAMAFACTORY, {},
        memory_goal={"trl-lora": 0.6}, needs=("model",), rounds=1,
    ),
    "lora-memory-2": Row(
        "the same in two passes of 1,024 tokens, whose gradients are added up, on both sides",
        lambda a: _sft(cases.long_rows(a.model, 4, 3, 512, 512, equal=True), 4) | {"passes": 2},
        "sft-lora", {"trl-lora": "trl"}, {},
        memory_goal={"trl-lora": 0.6}, needs=("model",), rounds=1,
    ),
    "dpo": Row(
        "DPO, LoRA r8, built-in model, 4 prompts of 300 tokens with two answers of 200",
        lambda _: cases.pairs("builtin", 4, 300, 200) | {"batch_rows": 2, "learning_rate": 1e-5, "rank": 8, "alpha": 16},
        "dpo", {"dpo-defaults": "trl", "dpo-best": "trl"}, {"dpo-best": 1.35},
    ),
    "grpo": Row(
        "GRPO update, LoRA r8, built-in model, a group of 16 answers of 200 tokens to a prompt of 500",
        lambda _: cases.rollouts("builtin", 1, 16, 500, 200) | {"learning_rate": 1e-5, "rank": 8, "alpha": 16},
        "grpo", {"grpo-defaults": "trl", "grpo-best": "trl"}, {"grpo-best": 2},
    ),
    "packed-1k": Row(
        "pre-training, built-in shape, 4 packed rows of 1,024 tokens, every token trained",
        lambda _: _sft(cases.long_rows("builtin", 4, 0, 1024, 1024, equal=True), 4),
        "sft-full", {"trl-full-best": "trl"}, {"trl-full-best": 1.2},
    ),
    "head-10": Row(
        "head, built-in model, 256 rows, 10 epochs with the caching pass",
        lambda _: cases.scored(256) | {"batch_rows": 32, "learning_rate": 1e-3, "epochs": 10},
        "head", {"frozen": "trl"}, {"frozen": 10},
    ),
    "head-30": Row(
        "head, built-in model, 128 rows, 30 epochs with the caching pass",
        lambda _: cases.scored(128) | {"batch_rows": 32, "learning_rate": 1e-3, "epochs": 30},
        "head", {"frozen": "trl"}, {"frozen": 26},
    ),
    "labels-77": Row(
        "77 labels scored exactly, built-in model, 8 prompts with the options in them",
        lambda _: cases.labelled(8, cases.INTENTS), "labels", {"lm_eval": "lm-eval"}, {"lm_eval": 20}, 1e-2,
    ),
    "evaluation": Row(
        "evaluation of 128 built-in rows, every label's probability, against greedy answers",
        lambda _: cases.labelled(128, None), "labels", {"generate": "trl"}, {"generate": 10}, None,
    ),
    "output-frozen": Row(
        "output matrix (151,936 × 896, frozen) and cross-entropy, 12 of 2,048 positions supervised",
        lambda _: {"tokens": 2048, "hidden": 896, "vocabulary": 151_936, "supervised": 12},
        "output-frozen", {"torch-frozen": "trl"}, {"torch-frozen": 50},
    ),
    "output-trained": Row(
        "output matrix (151,936 × 896, trained) and cross-entropy, 12 of 2,048 positions supervised",
        lambda _: {"tokens": 2048, "hidden": 896, "vocabulary": 151_936, "supervised": 12},
        "output-trained", {"torch-trained": "trl"}, {"torch-trained": 50},
    ),
}  # fmt: skip


Worker = tuple[str, str, str]
"""Interpreter, script, mode."""


class Side:
    """A running worker."""

    def __init__(self, python: str, script: str, case: Path, mode: str, threads: int, clock: str) -> None:
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "BENCH_THREADS": str(threads),
            "BENCH_CLOCK": clock,
            "TOKENIZERS_PARALLELISM": "false",
        }
        command = [python, str(HERE / script), str(case), mode]
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # as long as the process
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True, env=environment
        )
        self.rounds: list[dict[str, Any]] = []
        self.facts = self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.said.seek(0)
            raise RuntimeError(self.said.read()[-1500:])
        return dict(json.loads(line))

    def run(self) -> None:
        """One round."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.rounds.append(self._read())

    def close(self) -> None:
        """Let the worker end."""
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait(60)

    def result(self) -> dict[str, Any]:
        """What its rounds gave."""
        seconds = [one["seconds"] for one in self.rounds]
        return self.facts | {
            "seconds": seconds, "median_seconds": statistics.median(seconds), "peak_bytes": self.rounds[-1]["peak_bytes"],
            "last": {key: value for key, value in self.rounds[0].items() if key not in ("seconds", "peak_bytes")},
        }  # fmt: skip


def run_row(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one row and write its result."""
    row = ROWS[name]
    case, rounds = row.case(options), options.rounds or row.rounds
    result: dict[str, Any] = {"row": name, "title": row.title, "goal": row.goal, "machine": machine(), "rounds": rounds}
    result |= {"memory_goal": row.memory_goal} if row.memory_goal else {}
    if "rows" in case:
        few = max(1, round(options.share * len(case["rows"])))
        case |= {key: case[key][:few] for key in ("rows", "pairs", "groups", "answers", "targets") if key in case}
        result |= {"examples": len(case["rows"]), "tokens": sum(map(len, case["rows"])) * case.get("epochs", 1)}
    how = options.threads, options.clock
    chosen = f"--rounds {rounds} --threads {options.threads} --clock {options.clock} --share {options.share}"
    chosen += "".join(f" --{key} {key.upper()}" for key in row.needs)
    result |= {"command": f"python bench/run.py {name} {chosen}", "threads": options.threads, "clock": options.clock}
    workers = {"ours": (sys.executable, "ours.py", row.ours)}
    for mode, environment in row.peers.items():
        workers[mode] = str(Path(options.peers) / environment / "bin" / "python"), "peers.py", mode
    sides: dict[str, Side] = {}
    absent: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.json"
        path.write_text(json.dumps(case, ensure_ascii=False), encoding="utf-8")
        for group in [workers] if row.goal else [{mode: worker} for mode, worker in workers.items()]:
            ran, not_run = run_together(group, lambda python, script, mode: Side(python, script, path, mode, *how), rounds)
            sides, absent = sides | ran, absent | not_run
    result |= {"sides": {mode: side.result() for mode, side in sides.items()}, "not_run": absent}
    judge(result, row)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return result


def run_together(workers: dict[str, Worker], start: Callable[..., Side], rounds: int) -> tuple[dict[str, Side], dict[str, str]]:
    """Start the workers, run their rounds in turn and end them: the sides that ran, and why the others did not."""
    absent: dict[str, str] = {}
    started: dict[str, Side] = {}
    try:
        for mode, worker in workers.items():
            if not Path(worker[0]).exists():
                absent[mode] = f"no environment {Path(worker[0]).parent.parent.name} among the peers"
                continue
            try:
                started[mode] = start(*worker)
            except RuntimeError as error:
                if mode == "ours":
                    raise
                absent[mode] = (str(error).strip().splitlines() or [""])[-1]
        for side in (side for _ in range(rounds) for side in started.values()):
            side.run()
    finally:
        for side in started.values():
            side.close()
    return started, absent


def judge(result: dict[str, Any], row: Row) -> None:
    """Ratios round by round, their median and range; whether the first losses agree."""
    ours = result["sides"]["ours"]
    for mode, side in result["sides"].items():
        if mode == "ours":
            continue
        ratios = [theirs / mine for theirs, mine in zip(side["seconds"], ours["seconds"], strict=True)]
        side["ratio"] = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
        side["memory_ratio"] = ours["peak_bytes"] / side["peak_bytes"]
        losses = (ours.get("loss0", ours["last"].get("loss")), side.get("loss0", side["last"].get("loss")))
        if row.tolerance is not None and None not in losses:
            side["first_loss_differs"] = abs(losses[0] / losses[1] - 1)
            side["first_loss_agrees"] = side["first_loss_differs"] <= row.tolerance


def machine() -> dict[str, Any]:
    """Where and when."""
    info = Path("/proc/cpuinfo")
    found = dict(re.findall(r"^(model name|cpu family|model)\s*:\s*(.+)$", info.read_text(), re.MULTILINE)) if info.exists() else {}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": found.get("model name") or platform.processor(), "family": found.get("cpu family"), "model": found.get("model"),
        "processors": os.cpu_count(), "system": platform.platform(),
        "load_before": load, "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }  # fmt: skip


def table() -> str:
    """All results as a Markdown table."""
    lines = ["| row | ours | peer | ratio (range) | goal | memory, ours / peer | first loss differs by |", "|---|---|---|---|---|---|---|"]
    for name in ROWS:
        path = RESULTS / f"{name}.json"
        if not path.exists():
            lines.append(f"| {name} | not run | | | | | |")
            continue
        result = json.loads(path.read_text(encoding="utf-8"))
        ours = result["sides"]["ours"]
        for mode, side in result["sides"].items():
            if mode == "ours":
                continue
            ratio, goal = side["ratio"], result["goal"].get(mode)
            differs = side.get("first_loss_differs")
            lines.append(
                f"| {name} | {ours['median_seconds']:.3g} s | {mode} {side['median_seconds']:.3g} s | "
                f"{ratio['median']:.3g}× ({ratio['least']:.3g}–{ratio['most']:.3g}) | {f'{goal:g}×' if goal else ''} | "
                f"{ours['peak_bytes'] / 1e9:.2f} / {side['peak_bytes'] / 1e9:.2f} GB | {'' if differs is None else f'{differs:.1e}'} |"
            )
        lines += [f"| {name} | | {mode}: not run | | | | |" for mode in result["not_run"]]
    return "\n".join(lines)


def main() -> None:
    """Run rows, or print the table of what was run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], default=[])
    parser.add_argument("--rounds", type=int, help="else each row's own number: 5, or 1 where only memory is asked for")
    parser.add_argument("--peers", default="build/peers", help="folder with an environment for each peer: trl, lm-eval, llamafactory")
    parser.add_argument("--model", default="build/qwen2-0.5b", help="a local Qwen2-0.5B")
    parser.add_argument("--reviews", default="build/reviews.csv", help="short reviews: columns text, label")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--clock",
        choices=["wall", "processor"],
        default="wall",
        help="processor: of the process, for a machine that others use (one thread)",
    )
    parser.add_argument("--share", type=float, default=1.0, help="take this share of each row's examples, where time is short")
    parser.add_argument("--table", action="store_true", help="print the table of the results that are there")
    options = parser.parse_args()
    for name in [] if options.table else options.rows or ROWS:
        print(f"{name} …", file=sys.stderr)
        run_row(name, options)
    print(table())


if __name__ == "__main__":
    main()
