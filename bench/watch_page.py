"""How long a reader waits for the live page: `python bench/watch_page.py --out bench/results/watch-page.json`.

`weitiao watch` serves 100 runs of 10,000 steps to a headless Chromium on the same cores. By the page's own clock, which starts with the
navigation: until the newest run's curves are painted; until those of all runs are, which are ticked the moment the list is there, by a
server that has just started, and by the same server for another reader. Then every run writes a step: from the page's question until the
new curves are painted. The machine's load is told, and the processor seconds of the server and of all of Chromium.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, sync_playwright
from watch_load import line, make_runs

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PACKAGES = ("fastapi", "uvicorn", "pyarrow", "numpy", "playwright")
WATCHER = """{
  window.seen = {};
  const now = () => performance.now() / 1000;
  const painted = (what) => what in seen || (seen[what] = null, requestAnimationFrame(() => setTimeout(() => { seen[what] = now(); })));
  new MutationObserver(() => {
    const every = document.querySelector("#every"), curves = document.querySelectorAll("figure:first-child path.line:not(.second)").length;
    if (TICK && document.querySelector("#runs li") && !every.checked && !seen.ticked) { seen.ticked = true; every.click(); }
    if (curves) painted("one");
    if (curves >= RUNS) painted("all");
  }).observe(document, { childList: true, subtree: true });
}"""
"""Notes in `seen` when the curves of one run and of all runs were painted; ticks all runs where TICK."""
FOLLOW_UP = """async () => {
  const begin = performance.now(), drawn = await poll();
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return drawn ? (performance.now() - begin) / 1000 : null;
}"""


@contextmanager
def served(root: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A server of the folder: the address that opens its page, and its process."""
    command = [sys.executable, "-m", "weitiao", "--lang", "en", "watch", str(root), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None  # by PIPE
    try:
        found = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+/\S+", text) for text in server.stdout)))
        yield found[0], psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait()


def work(processes: list[psutil.Process]) -> float:
    """Processor seconds of processes up to now."""
    return float(sum(times.user + times.system for times in (process.cpu_times() for process in processes if process.is_running())))


def until(page: Page, what: str) -> float:
    """Seconds from the navigation until something was painted."""
    for _ in range(3000):
        if (value := page.evaluate(f"() => seen.{what}")) is not None:
            return float(value)
        page.wait_for_timeout(20)
    raise SystemExit(f"{what} was never drawn")


class Times:
    """Seconds by the wall clock and processor seconds by what was waited for, one entry each time."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[dict[str, float]]] = {}

    def add(self, what: str, server: psutil.Process, waited: Callable[[], float]) -> None:
        """Wait for something; its own seconds, and what the server and Chromium worked meanwhile."""
        browser = [one for one in psutil.Process().children(recursive=True) if "chrom" in one.name()]
        before = work([server]), work(browser)
        seconds = waited()
        spent = {"seconds": seconds, "server": work([server]) - before[0], "chromium": work(browser) - before[1]}
        self.seconds.setdefault(what, []).append(spent)

    def medians(self) -> dict[str, dict[str, float]]:
        """Of each column."""
        return {
            what: {key: round(statistics.median(one[key] for one in each), 4) for key in each[0]} for what, each in self.seconds.items()
        }


def opened(browser: Browser, runs: int, tick: bool) -> Page:
    """An empty page that watches what will be drawn in it."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US").new_page()
    page.add_init_script(WATCHER.replace("TICK", str(tick).lower()).replace("RUNS", str(runs)))
    page.goto("about:blank")
    return page


def visit(page: Page, address: str, what: str) -> float:
    """Seconds from a navigation until something was painted."""
    page.goto(address, wait_until="commit")
    return until(page, what)


def a_round(browser: Browser, root: Path, runs: int, steps: int, times: Times) -> None:
    """Two servers just started: one reader of one run; then two readers of all runs. Five steps more of each run."""
    with served(root) as (address, server):
        page = opened(browser, runs, tick=False)
        times.add("one run", server, lambda: visit(page, address, "one"))
        page.context.close()
    with served(root) as (address, server):
        for what in ("all runs", "all runs, another reader"):
            page = opened(browser, runs, tick=True)
            times.add(what, server, lambda page=page: visit(page, address, "all"))  # type: ignore[misc]
        for step in range(steps + 1, steps + 6):
            for run in root.iterdir():
                with (run / "metrics.jsonl").open("a") as file:
                    file.write(line(step))
            times.add("follow-up of all runs", server, lambda: float(page.evaluate(FOLLOW_UP)))
        for context in browser.contexts:
            context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    times, load = Times(), [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        make_runs(Path(folder), given.runs, given.steps)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for i in range(given.rounds):
            a_round(browser, Path(folder), given.runs, given.steps + 5 * i, times)
            load.append(os.getloadavg()[0])
        found = {
            "command": f"python bench/watch_page.py --runs {given.runs} --steps {given.steps} --rounds {given.rounds}",
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores", "load_averages": load,
            "versions": {"chromium": browser.version, "python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "runs": given.runs, "steps": given.steps, "median": times.medians(), "each": times.seconds,
        }  # fmt: skip
        browser.close()
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found["median"], indent=2), load)


if __name__ == "__main__":
    main()
