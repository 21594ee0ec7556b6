"""The command of the live page: `watch`."""

from pathlib import Path
from typing import Annotated

import typer

from weitiao.errors import DataError, UsageError
from weitiao.language import t


def watch(
    runs: Annotated[Path, typer.Argument(help=t("放运行文件夹的文件夹", "the folder of the run folders"))] = Path("runs"),
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help=t("端口（0：任选）", "port (0: any free one)"))] = 8642,
    data: Annotated[
        Path, typer.Option("--data", help=t("网页上能用的数据文件所在的文件夹", "the folder whose data files the page may train on"))
    ] = Path(),
    listen: Annotated[
        str,
        typer.Option("--listen", help=t("监听的地址；别的机器要连才改", "address to listen on; change it only for other machines")),
    ] = "127.0.0.1",
) -> None:
    """Serve a live page of the runs in a folder."""
    from weitiao.watch.serve import serve

    if listen in ("", "0.0.0.0", "::"):
        raise UsageError(
            "--listen",
            t("要写明地址：网页只应答这个名字", "name one address: the page answers to that name only"),
            t("例如 --listen 192.168.1.5", "such as --listen 192.168.1.5"),
        )
    if not runs.is_dir():
        if runs != Path("runs"):
            raise DataError(
                str(runs), t("没有这个文件夹", "there is no such folder"), t("给出放运行的文件夹", "give the folder of the runs")
            )
        runs.mkdir()
    serve(runs.absolute(), data.absolute(), listen, port)
