"""The commands that make a run: `demo`, `train`, `report`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from weitiao import language
from weitiao.commands.options import Json, Overrides, Quiet, RunFolder, emit
from weitiao.errors import UsageError
from weitiao.language import t


def _train(config: Any, quiet: bool, fresh: bool = False, allow_changes: bool = False) -> Any:
    from weitiao.finetune import finetune
    from weitiao.progress import Reporter

    return finetune(config, Reporter(quiet), fresh=fresh, allow_changes=allow_changes)


def demo(
    overrides: Overrides = None,
    method: Annotated[
        str, typer.Option("--method", "-m", help=t("lora、full、head，或 all（三种并排）", "lora, full, head, or all (side by side)"))
    ] = "lora",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole main path on the built-in model and data."""
    from weitiao import demo as demonstration
    from weitiao.summary import run_summary, run_table

    if method == "all":
        runs = demonstration.run_all(overrides or (), quiet)
        emit(as_json, {"runs": demonstration.methods_summary(runs)}, lambda: demonstration.methods_table(runs))
        return
    if method not in demonstration.METHODS:
        raise UsageError("--method", t(f"不认识 {method!r}", f"unknown: {method!r}"), "lora | full | head | all")
    run = _train(demonstration.demo_config(method, overrides or ()), quiet)
    emit(as_json, run_summary(run), lambda: run_table(run))


def train(
    config: Annotated[Path | None, typer.Argument(help="YAML")] = None,
    overrides: Overrides = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help=t("继续这个运行文件夹（不用给配置）", "go on with this run folder (no YAML needed)"))
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help=t("重新开始；旧文件夹改名保留", "start over; the old folder is kept under another name"))
    ] = False,
    allow: Annotated[
        bool, typer.Option("--allow", help=t("配置或数据变了也继续", "go on although configuration or data have changed"))
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train: from data to report, or go on with an interrupted run."""
    from weitiao.run import config_to_train
    from weitiao.summary import run_summary, run_table

    if fresh and resume is not None:
        raise UsageError("--fresh", t("不能与 --resume 同用", "does not go with --resume"), t("去掉其中一个", "leave one of them out"))
    run = _train(config_to_train(config, overrides or (), resume), quiet, fresh, allow)
    emit(as_json, run_summary(run), lambda: run_table(run))


def runs(
    folder: Annotated[Path, typer.Argument(help=t("放着运行的文件夹", "the folder that holds them"))] = Path("runs"), as_json: Json = False
) -> None:
    """List runs with state and score."""
    from weitiao.listing import list_runs, listing_text

    found = list_runs(folder)
    emit(as_json, {"runs": found}, lambda: listing_text(found))


def report(run: RunFolder, as_json: Json = False) -> None:
    """Make the report of a run again."""
    from weitiao.report.build import build_pages
    from weitiao.run import Run

    folder = Run.open(run)
    path = build_pages(folder.path, folder.config.report.language or language.current())
    emit(as_json, {"report": str(path)}, lambda: str(path))
