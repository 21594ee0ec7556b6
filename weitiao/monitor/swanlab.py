"""SwanLab's own API (not transformers' `report_to`, which fails with its present versions)."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import swanlab

from weitiao.config_monitor import MonitorConfig
from weitiao.monitor.board import markdown_table, matrix_rows

_MODES = {"cloud": "online", "local": "local", "offline": "offline"}


def choose_mode(wanted: str, has_key: bool, has_dashboard: bool) -> str:
    """The mode that is possible: the cloud needs a key, without one the run is kept for a later `swanlab sync`."""
    if wanted == "auto":
        return "cloud" if has_key else "local" if has_dashboard else "offline"
    return "offline" if wanted == "cloud" and not has_key else wanted


class SwanLab:
    """A run on SwanLab. The cloud goes on with the run of the same id; the local dashboard cannot, so there a run that goes on is shown
    whole as a new one."""

    def __init__(self, run: Path, record: Mapping[str, Any], config: Mapping[str, Any], settings: MonitorConfig) -> None:
        has_key = swanlab.Settings().api_key is not None
        self.mode = choose_mode(settings.swanlab, has_key, find_spec("swanboard") is not None)
        self._run = swanlab.init(
            mode=_MODES[self.mode],
            log_dir=str(run.parent / "swanlog"),
            project=settings.project,
            name=str(record["name"]),
            id=str(record["id"]) if self.mode == "cloud" else None,
            resume="allow" if self.mode == "cloud" else None,
            config=dict(config),
            tags=[str(record["task"]), str(record["method"])],
            settings=swanlab.Settings(
                interactive=False,
                terminal=swanlab.Settings.Terminal(proxy_type="none"),
                probe=swanlab.Settings.Probe(requirements=False, conda=False, git=False),
            ),
        )

    @property
    def facts(self) -> dict[str, Any]:
        """``mode``, the ``folder`` that SwanLab writes, and in the cloud the page's ``url``."""
        where = {"url": self._run.url} if self.mode == "cloud" else {}
        return {"mode": self.mode, "folder": str(self._run.dir), **where}

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name at a step."""
        self._run.log(dict(values), step=step)

    def show(self, step: int, matrix: Mapping[str, Any] | None, samples: list[dict[str, Any]]) -> None:
        """Tables; the local dashboard shows text only."""
        tables = {}
        if matrix is not None:
            tables["test/confusion_matrix"] = matrix_rows(matrix)
        if samples:
            tables["test/samples"] = (list(samples[0]), [list(row.values()) for row in samples])
        for key, (headers, rows) in tables.items():
            if self.mode == "local":
                self._run.log_text(key=key, data=markdown_table(headers, rows), step=step)
            else:
                table = swanlab.echarts.Table()
                table.add(headers, rows)
                self._run.log_echarts(key=key, data=table, step=step)

    def close(self, state: str, error: str | None) -> None:
        """Send what is left."""
        outcome = {"finished": "success", "failed": "crashed"}.get(state, "aborted")
        self._run.finish(outcome, error=error or state if outcome == "crashed" else None)
