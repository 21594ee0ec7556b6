"""The story of a run: `finetune(config) -> Run`."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from weitiao.audit.checks import findings_text
from weitiao.config import RunConfig
from weitiao.errors import DataError
from weitiao.evaluate.answers import written_note
from weitiao.evaluate.judge import Judgement, compare, judge_baselines
from weitiao.evaluate.written import compare_written
from weitiao.interrupts import uninterrupted
from weitiao.journal import Journal
from weitiao.language import current, t
from weitiao.model import checkpoint
from weitiao.model.heads import has_score_head, is_tied
from weitiao.monitor.start import Monitors
from weitiao.progress import Reporter, in_notebook
from weitiao.report.build import build_pages
from weitiao.resume import check_existing, identity, open_run, save_point, without_report
from weitiao.rollouts import compare_rewards
from weitiao.run import Run, hardware
from weitiao.saves import Saves, clear
from weitiao.training import record_estimate, train_model
from weitiao.workshop import Workshop

BASELINE_ANSWERS = "evaluation/predictions-baselines.jsonl"


def finetune(config: RunConfig, reporter: Reporter | None = None, *, fresh: bool = False, allow_changes: bool = False) -> Run:
    """Run one configuration from data to report and return its folder.

    A named run whose folder exists and is not finished is gone on with, from its newest checkpoint: the result is that of an uninterrupted
    run. ``fresh`` starts over and keeps the old folder under another name; ``allow_changes`` goes on although configuration, data or base
    model are not what they were.

    Raises UserError when the input is wrong (before a folder is made, or with the folder marked failed), RunError when the run fails, and
    KeyboardInterrupt after marking the run interrupted.
    """
    reporter = reporter or Reporter(quiet=not in_notebook())
    if not fresh:
        if (run := without_report(config)) is not None:
            complete(run.locked()).unlock()
            return run
        check_existing(config, allow_changes)
    work = Workshop(config, reporter)
    run = open_run(work, fresh, allow_changes)
    reporter.journal = Journal(run.path)
    with Monitors(run, config.monitor, work.reporter), recorded(run, reporter.journal):
        most_bytes = work.forecast.own.peak if work.device.type == "cpu" else 0
        saves = Saves(run.path / "checkpoints", config.train.checkpoint, identity(work), reporter, most_bytes)
        start = save_point(run, saves, allow_changes)
        write_accounts(run, work)
        before, baselines = judge_before(run, work) if config.evaluate.before else None, judge_simple(run, work)
        model = work.trainable_model()
        record_model(run, work, model)
        work.compare_with(model)
        with saves:
            train_model(run, work, model, saves, start)
        publish(run, work, model)
        after = judge_test(run, work, model, "after") if config.evaluate.after else None
        write_comparison(run, after, before, baselines)
        record_estimate(run, work)
        run.timed("after")
    return complete(run)


def complete(run: Run) -> Run:
    """What follows the end of a run: only its best checkpoint is kept, and the model card and the report are made from its folder."""
    clear(run.path / "checkpoints", run.record["training"]["best_step"])
    build_pages(run.path, run.config.report.language or current())
    return run


def require_unjudged(folder: Path) -> None:
    """Raise DataError where a run has its test score already: it is measured once."""
    if (folder / "evaluation" / "after.json").is_file():
        cause = t("已经在测试集上评测过", "was judged on its test rows already")
        raise DataError(str(folder), cause, t("去掉 --save", "leave out --save"))


def keep_judgement(folder: Path, judged: Judgement) -> None:
    """The test score of a run that was trained without one (``evaluate.after: false``), into its folder and its report."""
    run = Run.open(folder)
    write_judgement(run, judged, "after")
    earlier = run.read("evaluation/before.json")
    before = Judgement(earlier, run.read_lines("evaluation/predictions-before.jsonl")) if earlier else None
    write_comparison(run, judged, before, former_baselines(run))
    complete(run)


@contextmanager
def recorded(run: Run, journal: Journal) -> Iterator[Run]:
    """However the block ends, run.json and the log say so."""
    journal.write("info", t("继续", "goes on") if "resumed" in run.record else t("开始", "begins"))
    try:
        yield run
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        with uninterrupted():
            journal.write(
                "warning" if interrupted else "error", t("被中断", "interrupted") if interrupted else f"{type(error).__name__}: {error}"
            )
            with suppress(OSError):  # a full disk: what went wrong first is what counts, and run.json does not say "finished"
                run.end("interrupted" if interrupted else "failed", error)
        raise
    run.end("finished")
    journal.write("info", t("完成", "finished"))


def write_accounts(run: Run, work: Workshop) -> None:
    """Ledger, audit, and what the data and the machine are."""
    ledger = work.data.dataset.ledger.as_dict()
    run.write("data/ledger.json", ledger)
    run.write("data/audit.json", work.audit)
    data: dict[str, Any] = {}
    for entry in ledger["files"]:
        first = {"path": entry["path"], "sha256": entry["sha256"], "rows": 0} | work.inputs.data_source(entry["path"])
        one = data.setdefault(entry["split"], first)
        one["rows"] += entry["used"]
    gpu = torch.cuda.get_device_name() if work.device.type == "cuda" else None
    run.update(data=data, hardware=hardware(work.device.type, gpu), estimate=work.forecast.as_dict())
    totals = ledger["totals"]
    work.reporter.say(
        t(
            f"数据：读入 {totals['rows_in']} 行，使用 {totals['used']}，拒绝 {totals['rejected']}，截短 {totals['shortened']}",
            f"data: {totals['rows_in']} rows in, {totals['used']} used, {totals['rejected']} rejected, {totals['shortened']} shortened",
        )
    )
    sizes = "，" if current() == "zh" else ", "
    work.reporter.say(sizes.join(f"{split} {entry['rows']}" for split, entry in data.items()))
    example = work.audit["example"]
    work.reporter.say(
        t(
            f"一个训练样本 {example['id']}，训练的部分：{example['trained_text']!r}",
            f"a training row, {example['id']}; its trained part: {example['trained_text']!r}",
        )
    )
    if repeated := work.audit["repeated"]:
        added = "  ".join(f"{label} +{n}" for label, n in repeated.items())
        work.reporter.say(t(f"重复较少类别的训练行（data.balance）：{added}", f"rows of rarer labels repeated (data.balance): {added}"))
    for line in findings_text(work.audit["findings"], most_rows=0):
        work.reporter.say(line)
    run.timed("load")


def judge_test(run: Run, work: Workshop, model: nn.Module, when: str) -> Judgement | None:
    """Judge a model on the test split and write the evaluation and its predictions. None: there is no test split."""
    judge = work.judge(model, "test")
    if judge is None:
        return None
    title = t("评测（训练前）", "evaluating (before)") if when == "before" else t("评测（训练后）", "evaluating (after)")
    with work.reporter.bar(title, judge.steps) as bar:
        judged = judge.judge(bar.advance)
    if work.config.task.writes and not work.rewards:
        work.reporter.say(written_note(judged))
    write_judgement(run, judged, when)
    return judged


def write_judgement(run: Run, judged: Judgement, when: str, split: str = "test") -> None:
    """``evaluation/<when>.json``, its predictions, and a line in metrics.jsonl."""
    run.write_lines(f"evaluation/predictions-{when}.jsonl", judged.predictions)
    run.write(f"evaluation/{when}.json", judged.evaluation | {"split": split})
    log_judgement(run, judged, when)


def log_judgement(run: Run, judged: Judgement, when: str) -> None:
    """A judgement's line in metrics.jsonl."""
    values = {name: entry["value"] for name, entry in judged.evaluation["metrics"].items()}
    run.log_once(type="evaluation", when=when, n=judged.evaluation["n"], **values)


def judge_before(run: Run, work: Workshop) -> Judgement | None:
    """The base model, untrained, on the test split: the label's text as the answer, whatever the method will be. A run that goes on has
    that already."""
    if evaluation := run.read("evaluation/before.json"):  # written after its predictions
        former = Judgement(evaluation, run.read_lines("evaluation/predictions-before.jsonl"))
        log_judgement(run, former, "before")
        return former
    judged = judge_test(run, work, work.causal_model(), "before")
    run.timed("before")
    return judged


def judge_simple(run: Run, work: Workshop) -> dict[str, Any]:
    """The simple methods on the test split: which rows each gets right. A run that goes on has that already."""
    task, test = work.data.task, work.data.dataset.splits["test"]
    if task is None or not test or not work.config.evaluate.baselines or work.rewards:
        return {}
    if former := former_baselines(run):
        return former
    work.reporter.say(t("评测基线（多数类、TF-IDF + 线性模型）", "judging the baselines (majority class, TF-IDF with a linear model)"))
    seen = [prompt.example for prompt in work.data.prompts["test"]]
    entries, correct, predictions = judge_baselines(task, work.data.dataset.splits["train"], seen, work.config.seed)
    run.write_lines(BASELINE_ANSWERS, predictions)
    run.write("evaluation/baselines.json", entries)
    run.timed("baselines")
    return correct


def former_baselines(run: Run) -> dict[str, Any]:
    """Which test rows each simple method got right when the run judged them; empty if it has not."""
    rows = run.read_lines(BASELINE_ANSWERS) if run.read("evaluation/baselines.json") else []  # which is written after the answers
    names = [name for name in rows[0] if name not in ("id", "label")] if rows else []
    return {name: np.array([row[name] == row["label"] for row in rows]) for name in names}


def write_comparison(run: Run, after: Judgement | None, before: Judgement | None, baselines: dict[str, Any]) -> None:
    """After against before and against each baseline, on the same rows."""
    if after is None:
        return
    if before is not None and "reward" in after.evaluation["metrics"]:
        run.write("evaluation/comparison.json", compare_rewards(after, before, run.config.seed))
    if "accuracy" in after.evaluation["metrics"]:
        others = ({"before": before.correct} if before is not None else {}) | baselines
        if others:
            run.write("evaluation/comparison.json", compare(after.correct, others, run.config.seed))
    elif before is not None and "written" in after.evaluation:
        run.write("evaluation/comparison.json", compare_written(after.predictions, before.predictions, run.config.seed))


def record_model(run: Run, work: Workshop, model: nn.Module) -> None:
    """What the base model is and how much of it is trained."""
    total = checkpoint.count_parameters(model.parameters())
    trained = checkpoint.count_parameters(p for p in model.parameters() if p.requires_grad)
    tied = not has_score_head(model) and is_tied(model)
    run.update(
        base_model={
            "source": work.folder.source,
            **work.inputs.sources.get("model", {}),
            "path": str(work.folder.path.absolute()),
            "sha256": work.folder.sha256(),
            "architecture": work.folder.architecture,
            "parameters": work.folder.parameters,
            "dtype": str(work.dtype).removeprefix("torch."),
            "tied_embeddings": tied if not has_score_head(model) else bool(work.folder.config.get("tie_word_embeddings", False)),
            "vocabulary": work.folder.config.get("vocab_size"),
        },
        trainable={"parameters": trained, "total": total, "share": trained / total},
    )
    share = f"{100 * trained / total:.3g} %"
    work.reporter.say(t(f"训练 {trained:,} / {total:,} 个参数（{share}）", f"training {trained:,} of {total:,} parameters ({share})"))
    run.timed("load")


def publish(run: Run, work: Workshop, model: nn.Module) -> None:
    """The result in ``model/``, loadable by transformers and peft."""
    task = work.data.task
    card = {
        "schema": 1,
        "task": work.config.task.model_dump(mode="json"),
        "labels": list(task.labels) if task else [],
        "method": work.config.method.kind,
        "objective": work.config.objective.kind,
        "columns": dataclasses.asdict(work.data.dataset.columns),
        "shape": work.data.dataset.layout.shape,
        "max_tokens": work.data.max_tokens,
        "shorten": work.config.data.shorten,
        "base_model": {key: run.record["base_model"][key] for key in ("path", "sha256")} | work.inputs.sources.get("model", {}),
    }
    checkpoint.publish_model(run.path / "model", model, work.encoder.tokenizer, card)
