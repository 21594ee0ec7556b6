"""What a run says while it works: on standard error, live on a terminal, a few plain lines elsewhere."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from weitiao.journal import Journal, Level
from weitiao.language import t, visible
from weitiao.masking import masked


class _Listened(Console):
    """Standard error. When nobody reads it any more (`2>&1 | head -1`) the run goes on in silence."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


SECONDS_BETWEEN_LINES = 60.0


class Reporter:
    """Tells phases, notes and progress to standard error; ``quiet`` tells nothing."""

    def __init__(self, quiet: bool = False) -> None:
        # Bound to today's standard error: while a hub's client works, its own output there is turned away.
        self.console = _Listened(file=sys.stderr, quiet=quiet, highlight=False, soft_wrap=True, markup=False, emoji=False)
        self.live = self.console.is_terminal and not quiet
        self.journal: Journal | None = None

    def say(self, text: str) -> None:
        """One line, also to the log of the run if there is one."""
        self._tell("info", text)

    def warn(self, text: str) -> None:
        """One line about what went wrong without ending the run."""
        self._tell("warning", text)

    def _tell(self, level: Level, text: str) -> None:
        if self.journal is not None:
            self.journal.write(level, text)
        self.console.print(visible(masked(text)))

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator["Bar"]:
        """A progress bar with time elapsed and left; without a terminal only its title is printed."""
        with self._bar(title, total, str, (MofNCompleteColumn(), TimeElapsedColumn())) as bar:
            yield bar

    @contextmanager
    def transfer(self, title: str, total_bytes: int) -> Iterator["Bar"]:
        """The same for bytes that come over a network, with their rate."""
        with self._bar(title, total_bytes, human_bytes, (DownloadColumn(), TransferSpeedColumn())) as bar:
            yield bar

    @contextmanager
    def _bar(self, title: str, total: int, shown: Callable[[int], str], middle: tuple[ProgressColumn, ...]) -> Iterator["Bar"]:
        if not self.live:
            self.say(title)
            notebook = in_notebook() and not self.console.quiet
            yield Bar(None, None, NotebookBar(title, total, shown) if notebook else PlainLines(self, title, total, shown))
            return
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), *middle,
            TextColumn(t("剩余", "left")), TimeRemainingColumn(), TextColumn("{task.fields[status]}", markup=False),
        )  # fmt: skip
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield Bar(progress, progress.add_task(title, total=total, status=""))


class PlainLines:
    """Progress without a terminal: a line a minute, with the time left."""

    def __init__(self, reporter: Reporter, title: str, total: int, shown: Callable[[int], str] = str) -> None:
        self._reporter, self._title, self._total, self._shown = reporter, title, total, shown
        self._start = self._last = perf_counter()
        self._done = 0

    def advance(self, amount: int, status: str) -> None:
        self._done += amount
        now = perf_counter()
        if now - self._last >= SECONDS_BETWEEN_LINES and 0 < self._done < self._total:
            self._last = now
            left = human_seconds((now - self._start) / self._done * (self._total - self._done))
            done = f"{self._title} {self._shown(self._done)}/{self._shown(self._total)}"
            self._reporter.say("  ".join(part for part in (done, status, t(f"剩余约 {left}", f"about {left} left")) if part))


def in_notebook() -> bool:
    """Whether this process answers a notebook (and not only has its libraries loaded)."""
    library = sys.modules.get("IPython")
    return library is not None and type(library.get_ipython()).__name__ == "ZMQInteractiveShell"


SECONDS_BETWEEN_PICTURES = 0.5


class NotebookBar:
    """Progress under a notebook's cell: one line that changes in its place."""

    def __init__(self, title: str, total: int, shown: Callable[[int], str] = str) -> None:
        from IPython.display import display

        self._title, self._total, self._shown, self._done = title, total, shown, 0
        self._start = self._last = perf_counter()
        self._handle: Any = display(self._picture(""), display_id=True)  # type: ignore[no-untyped-call]

    def advance(self, amount: int, status: str) -> None:
        self._done += amount
        now = perf_counter()
        if now - self._last >= SECONDS_BETWEEN_PICTURES or self._done >= self._total:
            self._last = now
            self._handle.update(self._picture(status))

    def _picture(self, status: str) -> Any:
        from IPython.display import HTML

        left = (perf_counter() - self._start) / self._done * (self._total - self._done) if self._done else None
        time = t(f"剩余约 {human_seconds(left)}", f"about {human_seconds(left)} left") if left else ""
        said = "  ".join(part for part in (f"{self._shown(self._done)}/{self._shown(self._total)}", status, time) if part)
        bar = f'<progress max="{self._total}" value="{self._done}" style="width:16em;vertical-align:middle"></progress>'
        said = f'<div style="font-variant-numeric:tabular-nums">{escape(self._title)} {bar} {escape(said)}</div>'
        return HTML(said)  # type: ignore[no-untyped-call]


class Bar:
    """One running progress bar, or plain lines instead."""

    def __init__(self, progress: Progress | None, task: TaskID | None, lines: PlainLines | NotebookBar | None = None) -> None:
        self._progress, self._task, self._lines = progress, task, lines

    def advance(self, amount: int = 1, status: str | None = None) -> None:
        """More is done; ``status`` is shown behind the bar."""
        if self._lines is not None:
            self._lines.advance(amount, status or "")
        if self._progress is not None and self._task is not None:
            fields = {} if status is None else {"status": status}
            self._progress.update(self._task, advance=amount, **fields)  # type: ignore[arg-type]


def human_bytes(number: float) -> str:
    """A size with a unit: 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def human_seconds(number: float) -> str:
    """A duration: 41 s, 3 min 20 s, 2 h 5 min."""
    if number < 60:
        return f"{number:.1f} s" if number < 10 else f"{number:.0f} s"
    minutes, seconds = divmod(round(number), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
