"""The story of a run: `finetune(config) -> Run`."""

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from weitiao import cost
from weitiao.config import HeadMethod, RunConfig
from weitiao.course import Best, Clock, log_line
from weitiao.data.batch import Plan
from weitiao.data.render import ChatEncoder
from weitiao.errors import ConfigError
from weitiao.evaluate.judge import Judgement, compare, judge_baselines, judge_labels, judge_text, validate_labels, validate_text
from weitiao.evaluate.predict import Predictor
from weitiao.language import current, t
from weitiao.methods import apply_method
from weitiao.model import checkpoint
from weitiao.model.heads import has_score_head, is_tied
from weitiao.model.load import (
    ModelFolder,
    choose_device,
    choose_precision,
    find_model,
    load_causal,
    load_tokenizer,
    load_with_score_head,
    without_weights,
)
from weitiao.objectives import choose_objective
from weitiao.optim import Optimizer
from weitiao.prepare import Prepared, audit, prepare
from weitiao.progress import Reporter, human_bytes, human_seconds
from weitiao.report.build import build_report
from weitiao.report.card import build_model_card
from weitiao.run import Run, hardware
from weitiao.storage import require_space
from weitiao.train import Step, reseed, train, try_heaviest


def finetune(config: RunConfig, reporter: Reporter | None = None) -> Run:
    """Run one configuration from data to report and return its folder.

    Raises UserError when the input is wrong (before a folder is made, or with the folder marked failed), RunError when the run fails, and
    KeyboardInterrupt after marking the run interrupted.
    """
    reporter = reporter or Reporter(quiet=True)
    Run.require_free_name(config)
    work = Workshop(config, reporter)
    with recorded(Run.create(config)) as run:
        write_accounts(run, work)
        before, baselines = judge_before(run, work) if config.evaluate.before else None, judge_simple(run, work)
        model = work.trainable_model()
        record_model(run, work, model)
        train_model(run, work, model)
        publish(run, work, model)
        after = judge(run, work, model, "after")
        write_comparison(run, after, before, baselines)
        run.timed("after")
    build_model_card(run.path, config.report.language or current())
    build_report(run.path, config.report.language or current())
    return run


@contextmanager
def recorded(run: Run) -> Iterator[Run]:
    """However the block ends, run.json says so."""
    try:
        yield run
    except BaseException as error:
        with suppress(OSError):  # a full disk: what went wrong first is what counts, and run.json does not say "finished"
            run.end("interrupted" if isinstance(error, KeyboardInterrupt) else "failed", error)
        raise
    run.end("finished")


@dataclass
class Workshop:
    """What all parts of a run share: checked input, encoded data, the place to compute. Made before the run folder: wrong input leaves
    nothing."""

    config: RunConfig
    reporter: Reporter
    folder: ModelFolder = field(init=False)
    device: torch.device = field(init=False)
    dtype: torch.dtype = field(init=False)
    encoder: ChatEncoder = field(init=False)
    data: Prepared = field(init=False)

    def __post_init__(self) -> None:
        self.folder = find_model(self.config.model)
        self.device = choose_device(self.config.model)
        self.dtype = choose_precision(self.config.model, self.device)
        apply_method(without_weights(self.folder, self.has_score_head), self.config.method)  # a method that does not fit says so now
        self.encoder = ChatEncoder(load_tokenizer(self.folder), str(self.folder.path))
        self.data = prepare(self.config, self.encoder, self.folder.config)
        self._require_validation_rows()
        require_space(Path(self.config.runs), self.disk_bytes())

    @property
    def has_score_head(self) -> bool:
        """Whether the result scores labels rather than writing them."""
        return self.config.method.kind == "head" and self.config.task.kind == "classification"

    def _require_validation_rows(self) -> None:
        """Settings that look at validation rows must not be without effect. Raises ConfigError."""
        wanted = [
            name for name in ("patience", "best_by") if name in self.config.train.model_fields_set and self.config.train.model_dump()[name]
        ]
        if wanted and not self.data.dataset.splits["validation"]:
            raise ConfigError(
                f"train.{wanted[0]}",
                t("没有验证集，这个设置不起作用", "there are no validation rows, so this setting would have no effect"),
                t(
                    "给 data.validation 或 data.validation_share，或去掉这个设置",
                    "give data.validation or data.validation_share, or leave the setting out",
                ),
            )

    def disk_bytes(self) -> int:
        """What the run will write at most: the result and one checkpoint in working precision, and 20 MB of records."""
        full = self.folder.parameters * self.dtype.itemsize
        share = 0.1 if self.config.method.kind == "lora" else 1.0
        return int(2 * share * full) + 20_000_000

    def transformers_config(self) -> Any:
        """The base model's configuration as transformers reads it."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.folder.path, local_files_only=True, trust_remote_code=False)

    def causal_model(self) -> nn.Module:
        """The base model as it is."""
        return load_causal(self.folder, self.device, self.dtype)

    def trainable_model(self) -> nn.Module:
        """The base model with the method applied, from the seed."""
        reseed(self.config.seed, 0)
        if self.has_score_head and self.data.task:
            model: nn.Module = load_with_score_head(self.folder, self.data.task.labels, self.device, self.dtype)
        else:
            model = self.causal_model()
        return apply_method(model, self.config.method)

    def plan(self) -> Plan:
        """The steps of the training."""
        settings = self.config.train
        labels = len(self.data.task.labels) if self.data.task else 0
        return Plan(
            self.data.rows, settings.batch_rows, settings.micro_batch_tokens, settings.epochs, settings.max_steps, self.config.seed, labels
        )


def write_accounts(run: Run, work: Workshop) -> None:
    """Ledger, audit, and what the data and the machine are."""
    ledger = work.data.dataset.ledger.as_dict()
    run.write("data/ledger.json", ledger)
    findings = audit(work.data, work.encoder)
    run.write("data/audit.json", findings)
    data: dict[str, Any] = {}
    for entry in ledger["files"]:
        one = data.setdefault(entry["split"], {"path": entry["path"], "sha256": entry["sha256"], "rows": 0})
        one["rows"] += entry["used"]
    gpu = torch.cuda.get_device_name() if work.device.type == "cuda" else None
    run.update(data=data, hardware=hardware(work.device.type, gpu))
    totals = ledger["totals"]
    work.reporter.say(
        t(
            f"数据：读入 {totals['rows_in']} 行，使用 {totals['used']}，拒绝 {totals['rejected']}，截短 {totals['shortened']}",
            f"data: {totals['rows_in']} rows in, {totals['used']} used, {totals['rejected']} rejected, {totals['shortened']} shortened",
        )
    )
    sizes = "，" if current() == "zh" else ", "
    work.reporter.say(sizes.join(f"{split} {entry['rows']}" for split, entry in data.items()))
    example = findings["example"]
    work.reporter.say(
        t(
            f"一个训练样本 {example['id']}，训练的部分：{example['trained_text']!r}",
            f"a training row, {example['id']}; its trained part: {example['trained_text']!r}",
        )
    )
    run.timed("load")


def judge(run: Run, work: Workshop, model: nn.Module, when: str) -> Judgement | None:
    """Judge a model on the test split and write the evaluation and its predictions. None: there is no test split."""
    if not work.data.dataset.splits["test"]:
        return None
    settings, seed = work.config.evaluate, work.config.seed
    title = t("评测（训练前）", "evaluating (before)") if when == "before" else t("评测（训练后）", "evaluating (after)")
    if work.data.task:
        prompts = work.data.prompts["test"]
        with work.reporter.bar(title, len(prompts)) as bar:
            judged = judge_labels(Predictor(model, work.encoder, work.data.task, settings.batch_tokens), prompts, seed, bar.advance)
    else:
        passages = work.data.passages["test"]
        with work.reporter.bar(title, sum(len(passage.blocks) for passage in passages)) as bar:
            judged = judge_text(model, work.config.task.kind, passages, settings.batch_tokens, seed, bar.advance)
    write_judgement(run, judged, when)
    return judged


def write_judgement(run: Run, judged: Judgement, when: str, split: str = "test") -> None:
    """``evaluation/<when>.json``, its predictions, and a line in metrics.jsonl."""
    run.write(f"evaluation/{when}.json", judged.evaluation | {"split": split})
    run.write_lines(f"evaluation/predictions-{when}.jsonl", judged.predictions)
    values = {name: entry["value"] for name, entry in judged.evaluation["metrics"].items()}
    run.log(type="evaluation", when=when, n=judged.evaluation["n"], **values)


def judge_before(run: Run, work: Workshop) -> Judgement | None:
    """The base model, untrained, on the test split: the label's text as the answer, whatever the method will be."""
    judged = judge(run, work, work.causal_model(), "before")
    run.timed("before")
    return judged


def judge_simple(run: Run, work: Workshop) -> dict[str, Any]:
    """The simple methods on the test split: which rows each gets right."""
    task, test = work.data.task, work.data.dataset.splits["test"]
    if task is None or not test or not work.config.evaluate.baselines:
        return {}
    work.reporter.say(t("评测基线（多数类、TF-IDF + 线性模型）", "judging the baselines (majority class, TF-IDF with a linear model)"))
    seen = [prompt.example for prompt in work.data.prompts["test"]]
    entries, correct, predictions = judge_baselines(task, work.data.dataset.splits["train"], seen, work.config.seed)
    run.write("evaluation/baselines.json", entries)
    run.write_lines("evaluation/predictions-baselines.jsonl", predictions)
    run.timed("baselines")
    return correct


def write_comparison(run: Run, after: Judgement | None, before: Judgement | None, baselines: dict[str, Any]) -> None:
    """After against before and against each baseline, on the same rows."""
    if after is not None and "accuracy" in after.evaluation["metrics"]:
        others = ({"before": before.correct} if before is not None else {}) | baselines
        if others:
            run.write("evaluation/comparison.json", compare(after.correct, others, run.config.seed))


def record_model(run: Run, work: Workshop, model: nn.Module) -> None:
    """What the base model is and how much of it is trained."""
    total = checkpoint.count_parameters(model.parameters())
    trained = checkpoint.count_parameters(p for p in model.parameters() if p.requires_grad)
    tied = not has_score_head(model) and is_tied(model)
    run.update(
        base_model={
            "source": work.folder.source,
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


def train_model(run: Run, work: Workshop, model: nn.Module) -> None:
    """Train, validating on the way; at the end the model holds the best weights."""
    plan, objective = work.plan(), choose_objective(model)
    optimizer = Optimizer(model.parameters(), work.config.optim, work.config.learning_rate)
    cost.reset_peak(work.device)
    try_heaviest(model, objective, plan)
    settings, clock = work.config.train, Clock()
    best = Best(work.config.best_by)
    every = max(1, round(settings.validate_every * plan.steps_per_epoch))
    stopped_early = False
    with work.reporter.bar(t("训练", "training"), plan.num_steps) as bar:
        for step in train(model, objective, plan, optimizer):
            clock.add(step)
            rate, memory = clock.rate, cost.memory_bytes(work.device)
            run.log(**log_line(step, clock, rate, memory))
            speed = t(f"损失 {step.loss:.3f}  {rate:,.0f} 词元/秒", f"loss {step.loss:.3f}  {rate:,.0f} tokens/s")
            bar.advance(1, f"{speed}  {human_bytes(memory)}")
            if step.number % every == 0 or step.number == plan.num_steps:
                clock.pause()
                if (line := validate(work, model)) is not None:
                    better = best.offer(line[best.metric], step.number, model)
                    run.log(type="validation", step=step.number, epoch=step.epoch, **line, best=better)
                    report_validation(work, step, line, better)
                    if better:
                        save_best(run, best)
                    stopped_early = settings.patience is not None and best.since >= settings.patience and step.number < plan.num_steps
                clock.resume()
            if stopped_early:
                break
    if best.value is None:  # nothing to judge by: the last weights are the result
        best.step, best.weights = step.number, checkpoint.trained_weights(model)
        save_best(run, best)
    elif best.step != step.number:
        checkpoint.restore(model, best.weights)
    record_training(run, work, plan, step, clock, best, stopped_early)


def validate(work: Workshop, model: nn.Module) -> dict[str, Any] | None:
    """The validation metrics now; None: there is no validation split."""
    if work.data.task:
        prompts = work.data.prompts["validation"]
        return (
            validate_labels(Predictor(model, work.encoder, work.data.task, work.config.evaluate.batch_tokens), prompts) if prompts else None
        )
    passages = work.data.passages["validation"]
    return validate_text(model, passages, work.config.evaluate.batch_tokens) if passages else None


def report_validation(work: Workshop, step: Step, line: dict[str, Any], better: bool) -> None:
    """Tell the user of a validation; a star marks the best one so far."""
    values = "  ".join(f"{name} {value:.4f}" for name, value in line.items() if name != "n")
    mark = " *" if better else ""
    work.reporter.say(
        t(
            f"第 {step.number} 步（{step.epoch:.2f} 轮）验证 n={line['n']}：{values}{mark}",
            f"step {step.number} (epoch {step.epoch:.2f}) validation n={line['n']}: {values}{mark}",
        )
    )


def save_best(run: Run, best: Best) -> None:
    """The best weights as a checkpoint; the former best one is removed after the new one stands."""
    target = run.path / "checkpoints" / f"step-{best.step}"
    checkpoint.save_checkpoint(target, best.weights, {"step": best.step, "metric": best.metric, "value": best.value})
    for old in (run.path / "checkpoints").glob("step-*"):
        if old != target:
            shutil.rmtree(old)


def record_training(run: Run, work: Workshop, plan: Plan, step: Step, clock: Clock, best: Best, stopped_early: bool) -> None:
    """What the training took, into run.json."""
    method, data = work.config.method, work.data
    mean_length = sum(len(row.tokens) for row in plan.rows) / len(plan.rows)
    outputs = len(data.task.labels) if data.task and method.kind == "head" else int(work.folder.config["vocab_size"])
    blocks = method.last_blocks if isinstance(method, HeadMethod) else 0
    flops = cost.training_flops(work.transformers_config(), method.kind, blocks, clock.tokens, clock.targets, mean_length, outputs)
    peak = cost.peak_memory_bytes(work.device)
    run.update(
        training={
            "steps": step.number, "epochs": step.epoch, "tokens": clock.tokens, "trained_tokens": clock.targets, "seconds": clock.seconds,
            "tokens_per_second": clock.rate, "flops": flops, "peak_memory_bytes": peak, "stopped_early": stopped_early,
            "best_step": best.step if best.value is not None else step.number, "best_metric": {"name": best.metric, "value": best.value},
        }
    )  # fmt: skip
    work.reporter.say(
        t(
            f"训练用时 {human_seconds(clock.seconds)}，{clock.rate:,.0f} 词元/秒，内存峰值 {human_bytes(peak)}",
            f"trained in {human_seconds(clock.seconds)}, {clock.rate:,.0f} tokens/s, peak memory {human_bytes(peak)}",
        )
    )
    run.timed("train")


def publish(run: Run, work: Workshop, model: nn.Module) -> None:
    """The result in ``model/``, loadable by transformers and peft."""
    task = work.data.task
    card = {
        "schema": 1,
        "task": work.config.task.model_dump(mode="json"),
        "labels": list(task.labels) if task else [],
        "method": work.config.method.kind,
        "columns": dataclasses.asdict(work.data.dataset.columns),
        "max_tokens": work.data.max_tokens,
        "shorten": work.config.data.shorten,
        "base_model": {"path": run.record["base_model"]["path"], "sha256": run.record["base_model"]["sha256"]},
    }
    checkpoint.publish_model(run.path / "model", model, work.encoder.tokenizer, card)
