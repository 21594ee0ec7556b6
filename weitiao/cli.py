"""The command line: one command, one public function. Results go to standard output, progress to standard error."""

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from weitiao import __version__, language
from weitiao.errors import DataError, UsageError, UserError, WeitiaoError
from weitiao.interrupts import Interrupts
from weitiao.language import system_cause, t, visible
from weitiao.terminal import json_line, prepare_streams, print_out
from weitiao.usage import Command, Commands, UsageFault, usage_error

INTERRUPTED = 130


def _language_first(arguments: Sequence[str]) -> list[str]:
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


with contextlib.suppress(UsageError):  # main says so
    _language_first(sys.argv[1:])

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

Json = Annotated[
    bool, typer.Option("--json", help=t("标准输出只有一个 JSON 对象", "print one JSON object on standard output and nothing else"))
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help=t("不显示进度", "no progress"))]
Overrides = Annotated[
    list[str] | None, typer.Argument(help=t("覆盖设置：键=值，如 train.epochs=3", "override settings: key=value, such as train.epochs=3"))
]
RunFolder = Annotated[Path, typer.Argument(help=t("运行文件夹", "a run folder"))]


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


def _emit(as_json: bool, value: dict[str, Any], text: Callable[[], str]) -> None:
    """The command's result: one JSON object, or text for people."""
    print_out(json_line(value) if as_json else visible(text()))


def _check_target(path: Path, replace: bool) -> None:
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


def _write(path: Path, text: str) -> None:
    """Write a result where the user wants it. Raises DataError when that is not possible."""
    from weitiao.storage import write_text

    try:
        write_text(path, text)
    except OSError as error:
        raise DataError(str(path), system_cause(error), t("用 --out 换一个位置", "choose another place with --out")) from None


def _train(config: Any, quiet: bool, fresh: bool = False, allow_changes: bool = False) -> Any:
    from weitiao.finetune import finetune
    from weitiao.progress import Reporter

    return finetune(config, Reporter(quiet), fresh=fresh, allow_changes=allow_changes)


@app.command(
    cls=Command,
    help=t(
        "用内置的模型和数据跑一遍完整流程：离线，只用 CPU，几分钟。",
        "Run the whole main path on the built-in model and data: offline, on a CPU, a few minutes.",
    ),
)
def demo(
    overrides: Overrides = None,
    method: Annotated[
        str, typer.Option("--method", "-m", help=t("lora、full、head，或 all（三种并排）", "lora, full, head, or all (side by side)"))
    ] = "lora",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    from weitiao import demo as demonstration
    from weitiao.summary import run_summary, run_table

    if method == "all":
        runs = demonstration.run_all(overrides or (), quiet)
        _emit(as_json, {"runs": demonstration.methods_summary(runs)}, lambda: demonstration.methods_table(runs))
        return
    if method not in demonstration.METHODS:
        raise UsageError("--method", t(f"不认识 {method!r}", f"unknown: {method!r}"), "lora | full | head | all")
    run = _train(demonstration.demo_config(method, overrides or ()), quiet)
    _emit(as_json, run_summary(run), lambda: run_table(run))


@app.command(cls=Command, help=t("看一份数据文件，写出带注释的配置。", "Look at a data file and write a commented configuration."))
def init(
    data: Annotated[Path, typer.Argument(help=t("数据文件或文件夹", "a data file or folder"))],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help=t("写到哪里（默认：数据名.yaml）", "where to write it (default: the data's name with .yaml)")),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help=t("覆盖已有的文件", "replace an existing file"))] = False,
    as_json: Json = False,
) -> None:
    from weitiao.data.starter import starter_config

    text = starter_config(data, language.current())
    target = out or Path(f"{data.name.split('.')[0] or 'config'}.yaml")
    _check_target(target, replace=force)
    _write(target, text)
    _emit(
        as_json,
        {"config": str(target)},
        lambda: t(
            f"已写好 {target}\n接着：weitiao check {target}，再 weitiao train {target}",
            f"wrote {target}\nnext: weitiao check {target}, then weitiao train {target}",
        ),
    )


@app.command(cls=Command, help=t("检查配置和数据，不训练。", "Check a configuration and its data without training."))
def check(config: Annotated[Path, typer.Argument(help="YAML")], overrides: Overrides = None, as_json: Json = False) -> None:
    from weitiao.check import check_run, check_text
    from weitiao.config import load_config
    from weitiao.progress import Reporter

    result = check_run(load_config(config, overrides or ()), Reporter())
    _emit(as_json, result, lambda: check_text(result))
    if result["stops"]:
        raise typer.Exit(2)


@app.command(
    cls=Command,
    help=t(
        "从 ModelScope 或 Hugging Face 下载一个模型，或（--data）一个数据集的文件。",
        "Fetch a model, or (--data) the files of a data set, from ModelScope or Hugging Face.",
    ),
)
def download(
    name: Annotated[str, typer.Argument(help=t("所有者/名字、ms://… 或 hf://…", "owner/name, ms://… or hf://…"))],
    revision: Annotated[str | None, typer.Option("--revision", help=t("分支、标签或提交", "a branch, tag or commit"))] = None,
    to: Annotated[Path | None, typer.Option("--to", help=t("再拷一份到这个文件夹", "also copy it into this folder"))] = None,
    hub: Annotated[str, typer.Option("--hub", help=t("先问哪一个", "which to ask first: ") + "modelscope | huggingface")] = "modelscope",
    data: Annotated[bool, typer.Option("--data", help=t("数据集，不是模型", "a data set rather than a model"))] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    from weitiao.hub.command import download as fetch
    from weitiao.progress import Reporter

    result = fetch(name, revision, hub, data, to, Reporter(quiet))
    _emit(as_json, result, lambda: result["folder"])


@app.command(
    cls=Command,
    help=t(
        "训练：按配置从数据走到报告。同名的运行若被中断过，就从最新的检查点继续。",
        "Train: from data to report as the configuration says. A run of that name that was interrupted goes on from its newest checkpoint.",
    ),
)
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
    from weitiao.run import config_to_train
    from weitiao.summary import run_summary, run_table

    if fresh and resume is not None:
        raise UsageError("--fresh", t("不能与 --resume 同用", "does not go with --resume"), t("去掉其中一个", "leave one of them out"))
    run = _train(config_to_train(config, overrides or (), resume), quiet, fresh, allow)
    _emit(as_json, run_summary(run), lambda: run_table(run))


@app.command(
    cls=Command,
    help=t(
        "评测一次运行的模型：在它的测试集上，或用 --data 在别的文件上。",
        "Judge the model of a run on its test split, or on another file with --data.",
    ),
)
def evaluate(
    run: RunFolder,
    data: Annotated[str | None, typer.Option("--data", help=t("带标签的数据文件", "a labelled data file"))] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    from weitiao.inference import evaluate as judge
    from weitiao.progress import Reporter
    from weitiao.summary import metrics_table

    judged = judge(run, data, Reporter(quiet))
    _emit(as_json, judged.evaluation, lambda: metrics_table(judged.evaluation))


@app.command(
    cls=Command, help=t("预测：一段文本，或一个文件（--out 写到文件）。", "Predict: one text, or a file (--out writes to a file).")
)
def predict(
    run: RunFolder,
    text: Annotated[str, typer.Argument(help=t("文本，或数据文件的路径", "a text, or the path of a data file"))],
    out: Annotated[Path | None, typer.Option("--out", "-o", help=t("结果文件（.jsonl 或 .csv）", "result file (.jsonl or .csv)"))] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    from weitiao.data.read import FORMATS
    from weitiao.inference import Tuned, as_csv, json_lines, predict_file
    from weitiao.inference import predict as answer
    from weitiao.progress import Reporter

    is_file = os.path.isfile(text)
    if not is_file and text.lower().removesuffix(".gz").endswith(FORMATS) and not any(c.isspace() for c in text):
        remedy = t("检查路径；若这就是要预测的文本，在末尾加一个空格", "check the path; if this is the text itself, add a space at its end")
        raise DataError(text, t("没有这个文件", "no such file"), remedy)
    if out is not None:
        _check_predictions_target(out, Path(text) if is_file else None)
    tuned = Tuned.load(run)
    if not is_file:
        (one,) = answer(tuned, [text], Reporter(quiet=True))
        if out is not None:
            _write(out, as_csv([one.as_dict()]) if out.suffix == ".csv" else json_lines([one.as_dict()]))
        _emit(as_json, one.as_dict(), lambda: f"{one.label}  {one.probability:.3f}")
        return
    rows = list(predict_file(tuned, Path(text), Reporter(quiet)))
    failed = sum("error" in row for row in rows)
    if out is None and not as_json:
        print_out(json_lines(rows))
        return
    if out is not None:
        _write(out, as_csv(rows) if out.suffix == ".csv" else json_lines(rows))
    value = {"rows": len(rows), "failed": failed, "out": None if out is None else str(out)} | ({} if out else {"predictions": rows})
    _emit(
        as_json,
        value,
        lambda: t(f"{len(rows)} 行，{failed} 行没有预测 → {out}", f"{len(rows)} rows, {failed} without a prediction → {out}"),
    )


def _check_predictions_target(out: Path, source: Path | None) -> None:
    if out.suffix not in (".jsonl", ".csv"):
        cause = t(f"不认识的后缀 {out.suffix!r}", f"unknown suffix {out.suffix!r}")
        raise DataError(str(out), cause, t("用 .jsonl 或 .csv", "use .jsonl or .csv"))
    _check_target(out, replace=True)
    if source is not None and out.is_file() and out.samefile(source):
        cause = t("结果文件就是数据文件", "the result file is the data file")
        raise DataError(str(out), cause, t("用 --out 换个名字", "choose another name with --out"))


@app.command(cls=Command, help=t("重新生成一次运行的报告。", "Make the report of a run again."))
def report(run: RunFolder, as_json: Json = False) -> None:
    from weitiao.report.build import build_report
    from weitiao.report.card import build_model_card
    from weitiao.run import Run

    folder = Run.open(run)
    chosen = folder.config.report.language or language.current()
    build_model_card(folder.path, chosen)
    path = build_report(folder.path, chosen)
    _emit(as_json, {"report": str(path)}, lambda: str(path))


@app.command(
    cls=Command,
    help=t("打印全部设置的 JSON Schema（编辑器可用它补全）。", "Print the JSON schema of all settings (editors complete from it)."),
)
def schema(_as_json: Json = False) -> None:
    from weitiao.config import RunConfig

    print_out(json.dumps(RunConfig.model_json_schema(), indent=1))


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 the run failed, 2 the input is wrong, 130 interrupted (Ctrl-C or SIGTERM)."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # set, so that the tokenizer does not warn about forks it never sees
    prepare_streams()
    interrupts = Interrupts()
    code = run_command(sys.argv[1:])
    interrupts.ignore()
    sys.exit(code)


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; with `--json`, also an error is one JSON object on standard output."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = "--json" in options
    try:
        code = app(_language_first(arguments), prog_name="weitiao", standalone_mode=False)
        if code == INTERRUPTED:  # how typer hands over a KeyboardInterrupt
            return _failed(as_json, "KeyboardInterrupt", t("已中断", "interrupted"), INTERRUPTED)
        return code if isinstance(code, int) else 0
    except SystemExit:  # a closed pipe (`--help | head -1`) is all that makes typer or rich leave by themselves
        return 0
    except KeyboardInterrupt:
        return _failed(as_json, "KeyboardInterrupt", t("已中断", "interrupted"), INTERRUPTED)
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
        traceback.print_exc()
        return _failed(
            as_json,
            type(error).__name__,
            t(f"程序的缺陷，请连同上面的内容报告：{error}", f"a defect of this program, please report the above: {error}"),
            1,
        )


def _user_error(as_json: bool, error: UserError) -> int:
    parts = {"where": error.where, "cause": error.cause, "remedy": error.remedy}
    return _failed(as_json, type(error).__name__, str(error), error.exit_code, parts)


def _failed(as_json: bool, kind: str, message: str, code: int, parts: dict[str, str] | None = None) -> int:
    if as_json:
        print_out(json_line({"error": {"type": kind, "message": message, **(parts or {})}}))
    shown = message if code == INTERRUPTED else f"{t('错误', 'error')}: {message}"
    try:
        print(visible(shown), file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    return code
