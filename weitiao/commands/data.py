"""The commands before a run: `init`, `check`, `download`, `schema`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from weitiao import language
from weitiao.commands.options import Json, Overrides, Quiet, check_target, emit, write
from weitiao.language import t
from weitiao.terminal import print_out


def init(
    data: Annotated[str, typer.Argument(help=t("数据文件或文件夹，或 ms://… hf://…", "a data file or folder, or ms://… hf://…"))],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help=t("写到哪里（默认：数据名.yaml）", "where to write it (default: the data's name with .yaml)")),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help=t("覆盖已有的文件", "replace an existing file"))] = False,
    as_json: Json = False,
) -> None:
    """Look at a data file and write a commented configuration."""
    from weitiao.data.starter import starter_config
    from weitiao.hub.resolve import files_to_look_at
    from weitiao.progress import Reporter

    text = starter_config(data, language.current(), files_to_look_at(data, Reporter()))
    target = out or Path(f"{Path(data).name.partition('@')[0].split('.')[0] or 'config'}.yaml")
    check_target(target, replace=force)
    write(target, text)
    emit(
        as_json,
        {"config": str(target)},
        lambda: t(
            f"已写好 {target}\n接着：weitiao check {target}，再 weitiao train {target}",
            f"wrote {target}\nnext: weitiao check {target}, then weitiao train {target}",
        ),
    )


def check(config: Annotated[Path, typer.Argument(help="YAML")], overrides: Overrides = None, as_json: Json = False) -> None:
    """Check a configuration and its data without training."""
    from weitiao.check import check_run, check_text
    from weitiao.config import load_config
    from weitiao.progress import Reporter

    result = check_run(load_config(config, overrides or ()), Reporter())
    emit(as_json, result, lambda: check_text(result))
    if result["stops"]:
        raise typer.Exit(2)


def download(
    name: Annotated[str, typer.Argument(help=t("所有者/名字、ms://… 或 hf://…", "owner/name, ms://… or hf://…"))],
    revision: Annotated[str | None, typer.Option("--revision", help=t("分支、标签或提交", "a branch, tag or commit"))] = None,
    to: Annotated[Path | None, typer.Option("--to", help=t("再拷一份到这个文件夹", "also copy it into this folder"))] = None,
    hub: Annotated[str, typer.Option("--hub", help=t("先问哪一个", "which to ask first: ") + "modelscope | huggingface")] = "modelscope",
    data: Annotated[bool, typer.Option("--data", help=t("数据集，不是模型", "a data set rather than a model"))] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch a model or a data set from a hub."""
    from weitiao.hub.command import download as fetch
    from weitiao.progress import Reporter

    result = fetch(name, revision, hub, data, to, Reporter(quiet))
    emit(as_json, result, lambda: result["folder"])


def schema(_as_json: Json = False) -> None:
    """Print the JSON schema of all settings."""
    from weitiao.config import RunConfig

    print_out(json.dumps(RunConfig.model_json_schema(), indent=1))
