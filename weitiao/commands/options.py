"""What the commands share: their options, and how results reach standard output or a file."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from weitiao import language
from weitiao.errors import DataError, UsageError
from weitiao.language import system_cause, t, visible
from weitiao.terminal import json_line, print_out


def language_first(arguments: Sequence[str]) -> list[str]:
    """The arguments without `--lang`, which may stand anywhere and also decides the language of the help, made before options are
    parsed."""
    left: list[str] = []
    given = list(arguments)
    while given:
        argument = given.pop(0)
        if argument == "--":
            return [*left, argument, *given]
        if argument == "--lang" or argument.startswith("--lang="):
            value = argument.partition("=")[2] if "=" in argument else (given.pop(0) if given else "")
            if value not in ("zh", "en"):
                raise UsageError("--lang", t(f"不认识 {value!r}", f"unknown: {value!r}"), "--lang zh | --lang en")
            language.use("zh" if value == "zh" else "en")
        else:
            left.append(argument)
    return left


with contextlib.suppress(UsageError):  # main says so; here, because the texts of options are made when the commands are imported
    language_first(sys.argv[1:])

Json = Annotated[
    bool, typer.Option("--json", help=t("标准输出只有一个 JSON 对象", "print one JSON object on standard output and nothing else"))
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help=t("不显示进度", "no progress"))]
Overrides = Annotated[
    list[str] | None, typer.Argument(help=t("覆盖设置：键=值，如 train.epochs=3", "override settings: key=value, such as train.epochs=3"))
]
RunFolder = Annotated[Path, typer.Argument(help=t("运行文件夹", "a run folder"))]


def emit(as_json: bool, value: dict[str, Any], text: Callable[[], str]) -> None:
    """The command's result: one JSON object, or text for people."""
    print_out(json_line(value) if as_json else visible(text()))


def check_target(path: Path, replace: bool) -> None:
    """Raise DataError, before any work, where a result could not be written."""
    elsewhere = t("用 --out 换一个位置", "choose another place with --out")
    if os.path.lexists(path) and not path.is_file():
        raise DataError(str(path), t("不是普通文件", "is not a regular file"), elsewhere)
    if path.is_file() and not replace:
        remedy = t("用 --out 换个名字，或 --force 覆盖", "choose another name with --out, or --force to replace it")
        raise DataError(str(path), t("已经存在", "exists already"), remedy)
    if not path.parent.is_dir():
        raise DataError(str(path), t("没有这个文件夹", "there is no such folder"), elsewhere)
    if not os.access(path.parent, os.W_OK):
        raise DataError(str(path), t("这个文件夹不能写", "this folder cannot be written to"), elsewhere)


def write(path: Path, text: str) -> None:
    """Write a result where the user wants it. Raises DataError when that is not possible."""
    from weitiao.storage import write_text

    try:
        write_text(path, text)
    except OSError as error:
        raise DataError(str(path), system_cause(error), t("用 --out 换一个位置", "choose another place with --out")) from None
