"""What typer says by itself — headings of the help, complaints about options and commands — in the language in force."""

import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from weitiao.errors import UsageError
from weitiao.language import t

UsageFault: type[Exception] = typer.BadParameter.__bases__[0]
"""click's UsageError, wherever the installed typer keeps it."""


def _translate_headings() -> None:
    from typer import rich_utils

    rich_utils.ARGUMENTS_PANEL_TITLE = t("参数", "Arguments")
    rich_utils.OPTIONS_PANEL_TITLE = t("选项", "Options")
    rich_utils.COMMANDS_PANEL_TITLE = t("命令", "Commands")
    rich_utils.REQUIRED_LONG_STRING = t("[必填]", "[required]")
    rich_utils.DEFAULT_STRING = t("[默认：{}]", "[default: {}]")


def _option_help(name: str | None) -> str | None:
    return {
        "help": t("显示这份说明", "show this help"),
        "install_completion": t("给当前的 shell 装上自动补全", "install completion for the current shell"),
        "show_completion": t("打印自动补全脚本", "print the completion script"),
    }.get(name or "")


class Command(TyperCommand):
    """A command whose help is in the language in force."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _translate_headings()
        super().format_help(ctx, formatter)

    def get_usage(self, ctx: Any) -> str:
        return _usage(super().get_usage(ctx))

    def get_help_option(self, ctx: Any) -> Any:
        return _translated(super().get_help_option(ctx))


class Commands(TyperGroup):
    """The group of commands, likewise."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _translate_headings()
        for parameter in self.params:
            _translated(parameter)
        super().format_help(ctx, formatter)

    def get_usage(self, ctx: Any) -> str:
        return _usage(super().get_usage(ctx))

    def get_help_option(self, ctx: Any) -> Any:
        return _translated(super().get_help_option(ctx))


def _usage(text: str) -> str:
    return text.replace("Usage:", t("用法：", "Usage:"), 1)


def _translated(option: Any) -> Any:
    if option is not None and (words := _option_help(option.name)):
        option.help = words
    return option


def usage_error(fault: Any) -> UsageError:
    """A complaint of typer as one of ours: where, cause, remedy."""
    where = fault.ctx.command_path if fault.ctx is not None else "weitiao"
    remedy = t(f"看用法：{where} --help", f"see the usage: {where} --help")
    return UsageError(where, _cause(fault, str(fault.format_message())), remedy + _hint(fault))


def _cause(fault: Any, english: str) -> str:
    """The complaint in a line; the words are typer's own where we know no better."""
    kind = type(fault).__name__
    if kind == "NoSuchOption":
        return t(f"没有选项 {fault.option_name}", f"no such option: {fault.option_name}")
    if kind == "MissingParameter":
        name = fault.param.name if fault.param is not None else ""
        return t(f"缺少参数 {name}", f"the argument {name} is missing")
    if kind == "BadOptionUsage":
        needs = "requires" in english
        return t(f"选项 {fault.option_name} {'后面要有一个值' if needs else '不带值'}", english.rstrip("."))
    if found := re.search(r"No such command '(.+?)'", english):
        return t(f"没有命令 {found[1]}", f"no such command: {found[1]}")
    if found := re.search(r"unexpected extra argument\S* \((.*)\)", english, re.DOTALL):
        return t(f"多出了参数 {found[1]}", f"too many arguments: {found[1]}")
    if "Missing command" in english:
        return t("缺少命令", "a command is missing")
    return t(f"用法不对（{english}）", english)


def _hint(fault: Any) -> str:
    """For a misspelt option or command the nearest ones; for a file or text that looks like an option, how to say so."""
    import difflib

    if type(fault).__name__ == "NoSuchOption":
        known = [name for parameter in fault.ctx.command.params for name in parameter.opts] if fault.ctx is not None else []
        near = difflib.get_close_matches(fault.option_name, known, n=1)
        if near:
            return t(f"；是不是 {near[0]}？", f"; did you mean {near[0]}?")
        return t("；若是文件或文本，前面加 --", "; if it is a file or a text, put -- before it")
    if (found := re.search(r"No such command '(.+?)'", str(fault.format_message()))) and fault.ctx is not None:
        near = difflib.get_close_matches(found[1], fault.ctx.command.list_commands(fault.ctx), n=1)
        return t(f"；是不是 {near[0]}？", f"; did you mean {near[0]}?") if near else ""
    return ""
