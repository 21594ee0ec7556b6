"""All commands, each a public function, and what the end of one looks like. Results go to standard output, progress to standard error."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from weitiao import __version__
from weitiao.commands import answers, choose, data, runs, watch
from weitiao.commands.options import language_first
from weitiao.errors import UserError, WeitiaoError
from weitiao.interrupts import INTERRUPTED, is_interrupt
from weitiao.language import system_cause, t, visible
from weitiao.masking import masked, masked_values
from weitiao.terminal import json_line, print_out
from weitiao.usage import Command, Commands, UsageFault, usage_error

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=t(
        "微调：从一份样本文件到微调好的大语言模型，并证明它有多好、花了多少。",
        "From a file of examples to a fine-tuned language model, with proof of how good it is and what it cost.",
    ),
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print_out(__version__)
        raise typer.Exit


_LANG_HELP = t("消息的语言：zh 或 en（默认按系统语言）", "language of messages: zh or en (default: the locale's)")


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_show_version, help=t("版本号", "the version"))] = False,
    lang: Annotated[str | None, typer.Option("--lang", help=_LANG_HELP)] = None,
) -> None: ...


COMMANDS = (
    (
        runs.demo,
        t(
            "用内置的模型和数据跑一遍完整流程：离线，只用 CPU，几分钟。",
            "Run the whole main path on the built-in model and data: offline, on a CPU, a few minutes.",
        ),
    ),
    (data.init, t("看一份数据文件，写出带注释的配置。", "Look at a data file and write a commented configuration.")),
    (data.check, t("检查配置和数据，不训练。", "Check a configuration and its data without training.")),
    (
        data.download,
        t(
            "从 ModelScope 或 Hugging Face 下载一个模型，或（--data）一个数据集的文件。",
            "Fetch a model, or (--data) the files of a data set, from ModelScope or Hugging Face.",
        ),
    ),
    (
        runs.train,
        t(
            "训练：按配置从数据走到报告。同名的运行若被中断过，就从最新的检查点继续。",
            "Train: from data to report as the configuration says. An interrupted run of that name goes on from its newest checkpoint.",
        ),
    ),
    (
        answers.evaluate,
        t(
            "评测一次运行的模型：在它的测试集上，或用 --data 在别的文件上。",
            "Judge the model of a run on its test split, or on another file with --data.",
        ),
    ),
    (answers.predict, t("预测：一段文本，或一个文件（--out 写到文件）。", "Predict: one text, or a file (--out writes to a file).")),
    (
        choose.compare,
        t(
            "并排比较：基线、零样本、少样本、各种方法，在同样的测试行上，各自的价格和一条建议；或比较已有的运行。",
            "Side by side on the same test rows: baselines, the base model, the methods, at their prices, with advice; or existing runs.",
        ),
    ),
    (
        choose.auto,
        t(
            "一条命令走完全程：看数据、检查、选方法、搜索、评测，在时间预算之内，每个选择都写下理由。",
            "The whole way in one command, inside a time budget: data, audit, method, search, test; every choice with its reason.",
        ),
    ),
    (
        choose.tune,
        t(
            "搜索设置：在验证集上挑，测试集只量一次；可中断、可多个进程一起搜。",
            "Search for settings: chosen on the validation rows, the test rows judge once; resumes, several processes may join.",
        ),
    ),
    (
        choose.baselines,
        t(
            "不训练，评测简单方法和基础模型（零样本、少样本）。",
            "Judge the simple methods and the base model (zero-shot, few-shot), no training.",
        ),
    ),
    (choose.probe, t("测量一次训练让基础模型忘掉了多少。", "Measure how much a training made the base model forget.")),
    (
        watch.watch,
        t(
            "在浏览器里看着训练：曲线、结果、预测，启动和停止。",
            "Watch the training in a browser: curves, results, predictions; start and stop runs.",
        ),
    ),
    (runs.runs, t("列出运行：状态、得分、用时。", "List runs: state, score, time.")),
    (runs.report, t("重新生成一次运行的报告。", "Make the report of a run again.")),
    (
        data.schema,
        t("打印全部设置的 JSON Schema（编辑器用它补全）。", "Print the JSON schema of all settings (editors use it)."),
    ),
)
for command, said in COMMANDS:
    app.command(cls=Command, help=said)(command)


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; with `--json`, also an error is one JSON object on standard output."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = "--json" in options
    try:
        code = app(language_first(arguments), prog_name="weitiao", standalone_mode=False)
        if code == INTERRUPTED:  # how typer hands over a KeyboardInterrupt
            return interrupted(as_json)
        return code if isinstance(code, int) else 0
    except SystemExit:  # a closed pipe (`--help | head -1`) is all that makes typer or rich leave by themselves
        return 0
    except KeyboardInterrupt:
        return interrupted(as_json)
    except UsageFault as fault:
        if type(fault).__name__ == "NoArgsIsHelpError":
            print_out(str(fault))
            return 2
        return _user_error(as_json, usage_error(fault))
    except UserError as error:
        return _user_error(as_json, error)
    except WeitiaoError as error:
        return _failed(as_json, type(error).__name__, str(error), error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _failed(as_json, type(error).__name__, where + system_cause(error), 1)
    except Exception as error:
        if is_interrupt(error):
            return interrupted(as_json)
        print(masked(traceback.format_exc()), file=sys.stderr)
        return _failed(
            as_json,
            type(error).__name__,
            t(f"程序的缺陷，请连同上面的内容报告：{error}", f"a defect of this program, please report the above: {error}"),
            1,
        )
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # no Exception: what a library written in Rust raises where it gives up
            raise
        return _failed(as_json, "PanicException", t(f"分词器的库放弃了：{error}", f"the tokenizer's library gave up: {error}"), 1)


def interrupted(as_json: bool) -> int:
    """Say so; the exit code."""
    return _failed(as_json, "KeyboardInterrupt", t("已中断", "interrupted"), INTERRUPTED)


def _user_error(as_json: bool, error: UserError) -> int:
    parts = {"where": error.where, "cause": error.cause, "remedy": error.remedy}
    return _failed(as_json, type(error).__name__, str(error), error.exit_code, parts)


def _failed(as_json: bool, kind: str, message: str, code: int, parts: dict[str, str] | None = None) -> int:
    message = masked(message)
    if as_json:
        print_out(json_line({"error": {"type": kind, "message": message, **masked_values(parts or {})}}))
        if code == INTERRUPTED:  # whoever asked for JSON has it there: a search that stops its trials, say
            return code
    shown = message if code == INTERRUPTED else f"{t('错误', 'error')}: {message}"
    try:
        print(visible(shown), file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    return code
