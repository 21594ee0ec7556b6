"""The commands that use the model of a run: `evaluate`, `predict`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from weitiao.commands.options import Json, Quiet, RunFolder, check_target, emit, write
from weitiao.errors import DataError, UsageError
from weitiao.language import t
from weitiao.terminal import print_out


def evaluate(
    run: RunFolder,
    data: Annotated[
        str | None, typer.Option("--data", help=t("带标签的数据文件，或 ms://… hf://…", "a labelled data file, or ms://… hf://…"))
    ] = None,
    save: Annotated[
        bool,
        typer.Option(
            "--save", help=t("存进运行文件夹，作为它在测试集上的结果", "keep it in the run folder as its result on the test rows")
        ),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge the model of a run on its test split or on another file."""
    from weitiao.finetune import keep_judgement, require_unjudged
    from weitiao.inference import evaluate as judge
    from weitiao.progress import Reporter
    from weitiao.summary import metrics_table

    if save and data is not None:
        cause = t("只保存它自己测试集上的结果", "only what was measured on its own test rows is kept")
        raise UsageError("--save", cause, t("去掉 --data 或 --save", "leave out --data or --save"))
    if save:
        require_unjudged(run)
    judged = judge(run, data, Reporter(quiet))
    if save:
        keep_judgement(run, judged)
    emit(as_json, judged.evaluation, lambda: metrics_table(judged.evaluation))


def predict(
    run: RunFolder,
    text: Annotated[str, typer.Argument(help=t("文本，或数据文件的路径", "a text, or the path of a data file"))],
    out: Annotated[Path | None, typer.Option("--out", "-o", help=t("结果文件（.jsonl 或 .csv）", "result file (.jsonl or .csv)"))] = None,
    context: Annotated[str | None, typer.Option("--context", help=t("问题所问的原文（qa）", "the passage asked about (qa)"))] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict or answer one text, or a file."""
    from weitiao.data.read import FORMATS
    from weitiao.inference import Tuned, as_csv, json_lines, predict_file
    from weitiao.inference import predict as answer
    from weitiao.progress import Reporter

    is_file = os.path.isfile(text)
    if not is_file and text.lower().removesuffix(".gz").endswith(FORMATS) and not any(c.isspace() for c in text):
        remedy = t("检查路径；若这就是要预测的文本，在末尾加一个空格", "check the path; if this is the text itself, add a space at its end")
        raise DataError(text, t("没有这个文件", "no such file"), remedy)
    if is_file and context is not None:
        remedy = t("把原文放在文件的一列里", "put the passages into a column of the file")
        raise UsageError("--context", t("只用于一个问题，不用于文件", "is for one question, not for a file"), remedy)
    if out is not None:
        _check_predictions_target(out, Path(text) if is_file else None)
    tuned = Tuned.load(run)
    if not is_file:
        (one,) = answer(tuned, [text], Reporter(quiet=True), None if context is None else [context])
        if out is not None:
            write(out, as_csv([one.as_dict()]) if out.suffix == ".csv" else json_lines([one.as_dict()]))
        emit(as_json, one.as_dict(), lambda: one.shown)
        return
    rows = list(predict_file(tuned, Path(text), Reporter(quiet)))
    failed = sum("error" in row for row in rows)
    if out is None and not as_json:
        print_out(json_lines(rows))
        return
    if out is not None:
        write(out, as_csv(rows) if out.suffix == ".csv" else json_lines(rows))
    value = {"rows": len(rows), "failed": failed, "out": None if out is None else str(out)} | ({} if out else {"predictions": rows})
    emit(
        as_json,
        value,
        lambda: t(f"{len(rows)} 行，{failed} 行没有预测 → {out}", f"{len(rows)} rows, {failed} without a prediction → {out}"),
    )


def _check_predictions_target(out: Path, source: Path | None) -> None:
    if out.suffix not in (".jsonl", ".csv"):
        cause = t(f"不认识的后缀 {out.suffix!r}", f"unknown suffix {out.suffix!r}")
        raise DataError(str(out), cause, t("用 .jsonl 或 .csv", "use .jsonl or .csv"))
    check_target(out, replace=True)
    if source is not None and out.is_file() and out.samefile(source):
        cause = t("结果文件就是数据文件", "the result file is the data file")
        raise DataError(str(out), cause, t("用 --out 换个名字", "choose another name with --out"))
