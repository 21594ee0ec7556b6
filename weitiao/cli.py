"""The command line: one command, one public function. Results go to standard output, progress to standard error."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from weitiao import __version__, language
from weitiao.errors import DataError, UserError, WeitiaoError
from weitiao.language import t

INTERRUPTED = 130


def _language_before_parsing(arguments: list[str]) -> None:
    """`--lang` also decides the language of the help, which is made before options are parsed."""
    for i, argument in enumerate(arguments):
        value = argument.removeprefix("--lang=") if argument.startswith("--lang=") else arguments[i + 1] if argument == "--lang" and i + 1 < len(arguments) else None
        if value in ("zh", "en"):
            language.use("zh" if value == "zh" else "en")


_language_before_parsing(sys.argv[1:])

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=t("微调：从一份样本文件到微调好的大语言模型，并证明它有多好、花了多少。", "From a file of examples to a fine-tuned language model, with proof of how good it is and what it cost."),
)

Json = Annotated[bool, typer.Option("--json", help=t("标准输出只有一个 JSON 对象", "print one JSON object on standard output and nothing else"))]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help=t("不显示进度", "no progress"))]
Overrides = Annotated[list[str] | None, typer.Argument(help=t("覆盖设置：键=值，如 train.epochs=3", "override settings: key=value, such as train.epochs=3"))]
RunFolder = Annotated[Path, typer.Argument(help=t("运行文件夹", "a run folder"))]


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help=t("版本号", "the version"))] = False,
    lang: Annotated[str | None, typer.Option("--lang", help=t("消息的语言：zh 或 en（默认按系统语言）", "language of messages: zh or en (default: the locale's)"))] = None,
) -> None:
    if lang not in (None, "zh", "en"):
        raise DataError("--lang", t(f"不认识 {lang!r}", f"unknown: {lang!r}"), "zh | en")
    if version:
        print(__version__)
        raise typer.Exit


def _emit(as_json: bool, value: dict[str, Any], text: Callable[[], str]) -> None:
    """The command's result: one JSON object, or text for people."""
    print(json.dumps(value, ensure_ascii=False) if as_json else text())


def _train(config: Any, quiet: bool) -> Any:
    from weitiao.finetune import finetune
    from weitiao.progress import Reporter

    return finetune(config, Reporter(quiet))


@app.command(help=t("用内置的模型和数据跑一遍完整流程：离线，只用 CPU，几分钟。", "Run the whole main path on the built-in model and data: offline, on a CPU, a few minutes."))
def demo(overrides: Overrides = None, as_json: Json = False, quiet: Quiet = False) -> None:
    from weitiao.config import load_config
    from weitiao.summary import run_summary, run_table

    run = _train(load_config(Path(__file__).parent / "builtin" / "demo.yaml", overrides or ()), quiet)
    _emit(as_json, run_summary(run), lambda: run_table(run))


@app.command(help=t("看一份数据文件，写出带注释的配置。", "Look at a data file and write a commented configuration."))
def init(
    data: Annotated[Path, typer.Argument(help=t("数据文件或文件夹", "a data file or folder"))],
    out: Annotated[Path | None, typer.Option("--out", "-o", help=t("写到哪里（默认：数据名.yaml）", "where to write it (default: the data's name with .yaml)"))] = None,
    force: Annotated[bool, typer.Option("--force", help=t("覆盖已有的文件", "replace an existing file"))] = False,
    as_json: Json = False,
) -> None:
    from weitiao.data.starter import starter_config
    from weitiao.storage import write_text

    text = starter_config(data, language.current())
    target = out or Path(f"{data.name.split('.')[0] or 'config'}.yaml")
    if target.exists() and not force:
        raise DataError(str(target), t("已经存在", "exists already"), t("用 --out 换个名字，或 --force 覆盖", "choose another name with --out, or --force to replace it"))
    write_text(target, text)
    _emit(as_json, {"config": str(target)}, lambda: t(f"已写好 {target}\n接着：weitiao check {target}，再 weitiao train {target}", f"wrote {target}\nnext: weitiao check {target}, then weitiao train {target}"))


@app.command(help=t("检查配置和数据，不训练。", "Check a configuration and its data without training."))
def check(config: Annotated[Path, typer.Argument(help="YAML")], overrides: Overrides = None, as_json: Json = False) -> None:
    from weitiao.check import check_text, check_run
    from weitiao.config import load_config

    result = check_run(load_config(config, overrides or ()))
    _emit(as_json, result, lambda: check_text(result))


@app.command(help=t("训练：按配置从数据走到报告。", "Train: from data to report as the configuration says."))
def train(
    config: Annotated[Path, typer.Argument(help="YAML")],
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    from weitiao.config import load_config
    from weitiao.summary import run_summary, run_table

    run = _train(load_config(config, overrides or ()), quiet)
    _emit(as_json, run_summary(run), lambda: run_table(run))


@app.command(help=t("评测一次运行的模型：在它的测试集上，或用 --data 在别的文件上。", "Judge the model of a run on its test split, or on another file with --data."))
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


@app.command(help=t("预测：一段文本，或一个文件（--out 写到文件）。", "Predict: one text, or a file (--out writes to a file)."))
def predict(
    run: RunFolder,
    text: Annotated[str, typer.Argument(help=t("文本，或数据文件的路径", "a text, or the path of a data file"))],
    out: Annotated[Path | None, typer.Option("--out", "-o", help=t("结果文件（.jsonl 或 .csv）", "result file (.jsonl or .csv)"))] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    from weitiao.data.read import FORMATS
    from weitiao.inference import Tuned, json_lines, predict as answer, predict_file
    from weitiao.progress import Reporter
    from weitiao.storage import write_text

    tuned = Tuned.load(run)
    is_file = len(text) < 1024 and "\n" not in text and Path(text).is_file()
    if not is_file and text.endswith(tuple(FORMATS)):
        raise DataError(text, t("没有这个文件", "no such file"), t("检查路径", "check the path"))
    if not is_file:
        (one,) = answer(tuned, [text], Reporter(quiet=True))
        _emit(as_json, one.as_dict(), lambda: f"{one.label}  {one.probability:.3f}")
        return
    rows = list(predict_file(tuned, Path(text), Reporter(quiet)))
    rendered = _as_csv(rows) if out is not None and out.suffix == ".csv" else json_lines(rows)
    failed = sum("error" in row for row in rows)
    if out is None and not as_json:
        sys.stdout.write(rendered)
        return
    if out is not None:
        write_text(out, rendered)
    value = {"rows": len(rows), "failed": failed, "out": None if out is None else str(out)} | ({} if out else {"predictions": rows})
    _emit(as_json, value, lambda: t(f"{len(rows)} 行，{failed} 行没有预测 → {out}", f"{len(rows)} rows, {failed} without a prediction → {out}"))


def _as_csv(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV with a BOM (for Excel); cells that a spreadsheet would run as a formula are quoted with an apostrophe."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        cells = ["" if row.get(name) is None else str(row[name]) for name in names]
        writer.writerow([f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell for cell in cells])
    return "\ufeff" + buffer.getvalue()


@app.command(help=t("重新生成一次运行的报告。", "Make the report of a run again."))
def report(run: RunFolder, as_json: Json = False) -> None:
    from weitiao.report.build import build_report
    from weitiao.report.card import build_model_card
    from weitiao.run import Run

    folder = Run.open(run)
    chosen = folder.config.report.language or language.current()
    build_model_card(folder.path, chosen)
    path = build_report(folder.path, chosen)
    _emit(as_json, {"report": str(path)}, lambda: str(path))


@app.command(help=t("打印全部设置的 JSON Schema（编辑器可用它补全）。", "Print the JSON schema of all settings (editors complete from it)."))
def schema() -> None:
    from weitiao.config import RunConfig

    print(json.dumps(RunConfig.model_json_schema(), ensure_ascii=False, indent=1))


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 the run failed, 2 the input is wrong, 130 interrupted."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # set, so that the tokenizer does not warn about forks it never sees
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show Chinese gets escapes, not a traceback
    as_json = "--json" in sys.argv
    try:
        app()
    except KeyboardInterrupt:
        print(t("已中断", "interrupted"), file=sys.stderr)
        sys.exit(INTERRUPTED)
    except WeitiaoError as error:
        if as_json:
            detail = {"where": error.where, "cause": error.cause, "remedy": error.remedy} if isinstance(error, UserError) else {}
            print(json.dumps({"error": {"type": type(error).__name__, "message": str(error), **detail}}, ensure_ascii=False))
        print(f"{t('错误', 'error')}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
