"""`weitiao demo`: the main path on the built-in model and data, with one method or with all of them side by side."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from weitiao.config import RunConfig, load_config
from weitiao.errors import RunError, UserError
from weitiao.language import current, t
from weitiao.progress import human_bytes, human_seconds
from weitiao.run import Run
from weitiao.summary import printed, score_cell

DemoMethod = Literal["lora", "full", "head"]
METHODS: tuple[DemoMethod, ...] = ("lora", "full", "head")


def demo_file(method: DemoMethod) -> Path:
    """The demo's configuration for a method."""
    return Path(__file__).parent / "builtin" / f"demo-{method}.yaml"


def demo_config(method: DemoMethod, overrides: Sequence[str] = ()) -> RunConfig:
    """The demo's configuration with overrides. Raises ConfigError."""
    return load_config(demo_file(method), overrides)


def run_all(overrides: Sequence[str], quiet: bool) -> list[Run]:
    """Run every method, each in a process of its own, so that its peak memory is its own. The baselines and the base model are judged once,
    by the first. Raises UserError or RunError when one fails, KeyboardInterrupt when it was interrupted."""
    runs = []
    for i, method in enumerate(METHODS):
        only_once = [] if i == 0 else ["evaluate.baselines=false", "evaluate.before=false"]
        name = demo_config(method, overrides).name  # wrong overrides show before anything runs
        own_name = [] if name is None else [f"name={name}-{method}"]
        command = [sys.executable, "-m", "weitiao", "--lang", current(), "train", str(demo_file(method)), "--json"]
        command += [*(["-q"] if quiet else []), *only_once, *overrides, *own_name]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        if done.returncode == 130:
            raise KeyboardInterrupt
        if done.returncode == UserError.exit_code:
            raise UserError(
                f"demo {method}", t("没有跑成，原因见上", "did not run, for the reason above"), t("按上面说的改", "do as said above")
            )
        if done.returncode:
            raise RunError(t(f"方法 {method} 失败，原因见上", f"method {method} failed, for the reason above"))
        runs.append(Run.open(json.loads(done.stdout)["run"]))
    return runs


def methods_summary(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Quality and price of each run."""
    return [
        {
            "run": str(run.path),
            "method": run.record["method"],
            "metrics": run.read("evaluation/after.json")["metrics"],
            "trainable": run.record["trainable"],
            "training": run.record["training"],
            "model_bytes": sum(p.stat().st_size for p in (run.path / "model").iterdir()),
        }
        for run in runs
    ]


def methods_table(runs: Sequence[Run]) -> str:
    """The methods side by side: what they reach and what they cost."""
    rows = methods_summary(runs)
    n = rows[0]["metrics"]["accuracy"]["n"]
    table = Table(
        title=t(f"三种方法，测试集 n={n}，方括号为 95% 区间", f"the methods, test split n={n}, 95 % intervals in brackets"),
        title_justify="left",
    )
    titles = (
        t("方法", "method"), t("准确率", "accuracy"), t("宏平均 F1", "macro F1"), t("训练参数", "trained"), t("训练时间", "time"),
         t("词元/秒", "tokens/s"), t("内存峰值", "peak memory"), t("结果大小", "result"),
    )  # fmt: skip
    for i, title in enumerate(titles):
        table.add_column(title, justify="left" if i == 0 else "right")
    for row in rows:
        training = row["training"]
        table.add_row(
            row["method"], score_cell(row["metrics"]["accuracy"]), score_cell(row["metrics"]["macro_f1"]),
            f"{row['trainable']['parameters']:,}", human_seconds(training["seconds"]), f"{training['tokens_per_second']:,.0f}",
            human_bytes(training["peak_memory_bytes"]), human_bytes(row["model_bytes"]),
        )  # fmt: skip
    reports = "\n".join(t("报告：", "report: ") + str(run.path / "report.html") for run in runs)
    return f"{printed(table)}\n{reports}"
