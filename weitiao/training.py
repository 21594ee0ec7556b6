"""The training of a run: steps, validation, checkpoints, and the end of it."""

import math
from typing import Any

from torch import nn

from weitiao import cost, storage
from weitiao.config_methods import HeadMethod
from weitiao.course import Best, Clock, log_line
from weitiao.data.batch import Plan
from weitiao.errors import NonFiniteError
from weitiao.interrupts import StopRequest
from weitiao.language import t
from weitiao.model import checkpoint
from weitiao.model.frozen import can_be_kept, forget_frozen_states, keep_frozen_states, needed_bytes
from weitiao.objectives import choose_objective
from weitiao.optim import Optimizer
from weitiao.progress import Bar, human_bytes, human_seconds
from weitiao.records import Encoded
from weitiao.rollouts import RolloutPlan
from weitiao.run import METRICS, Run
from weitiao.saves import SavePoint, Saves
from weitiao.train import Step, train, try_heaviest
from weitiao.workshop import Workshop


def train_model(run: Run, work: Workshop, model: nn.Module, saves: Saves, start: SavePoint | None) -> None:
    """Train from the beginning or from a checkpoint, validating and saving on the way; at the end the model holds the best weights.

    Asked to stop (Ctrl-C, SIGTERM) it finishes the step, saves and raises KeyboardInterrupt.
    """
    plan = work.rollouts(model, run.path) if work.rewards else work.plan()
    objective = choose_objective(work.config.objective, model)
    optimizer = Optimizer(model.parameters(), work.config.optim, work.config.learning_rate)
    note_peak(work)
    cost.reset_peak(work.device)
    keep_frozen_part(run, work, model, plan, resumed=start is not None)
    try_heaviest(model, objective, plan)
    run.update(planned_steps=plan.num_steps)
    settings, clock, best = work.config.train, Clock(), Best(work.config.best_by)
    done, wanted = start.step if start else 0, False
    if start:
        start.restore(model, optimizer, best, clock)
        clock.resume()
    every = max(1, round(settings.validate_every * plan.steps_per_epoch))

    def is_over() -> bool:
        return settings.patience is not None and best.since >= settings.patience and done < plan.num_steps

    with work.reporter.bar(t("训练", "training"), plan.num_steps) as bar, StopRequest() as stop:
        bar.advance(done)
        steps = iter(()) if is_over() else train(model, objective, plan, optimizer, done)
        for step in steps:
            done = step.number
            clock.add(step)
            log_step(run, work, step, clock, best, bar)
            clock.pause()
            better = False
            if done % every == 0 or done == plan.num_steps:
                better = validate_and_offer(run, work, model, step, best)
            wanted = wanted or saves.due(done) or stop.made
            pause = wanted and plan.may_pause(done)
            if pause:
                wanted = False
                saves.save(done, model, optimizer, best, clock, storage.synced_length(run.path / METRICS))
            elif better:
                saves.save_best(best)
            if stop.made and pause:
                if saves.finish():
                    work.reporter.say(
                        t(
                            f"在第 {done} 步之后停下，已保存；继续：weitiao train --resume {run.path}",
                            f"stopped after step {done}, saved; to go on: weitiao train --resume {run.path}",
                        )
                    )
                raise KeyboardInterrupt
            clock.resume()
            if is_over():
                break
    saves.finish()
    saves.seconds += optimizer.seconds_waited
    take_best(model, best, done)
    forget_frozen_states(model)
    saves.require_best(best)
    record_training(run, work, plan, done, clock, best, saves, is_over())


def take_best(model: nn.Module, best: Best, done: int) -> None:
    """Put the best weights into the model; where there is nothing to judge by, the last ones are the best."""
    if best.value is None:
        best.step, best.weights = done, checkpoint.trained_weights(model)
    elif best.step != done:
        checkpoint.restore(model, best.weights)


def keep_frozen_part(run: Run, work: Workshop, model: nn.Module, plan: Plan | RolloutPlan, resumed: bool) -> None:
    """Where rows are visited more than once, let the frozen part of the model run over each of them only once, if the disk has the room.

    The numbers of either way differ in their last digits, so a run that goes on from a checkpoint goes the way that it went before: raises
    DiskSpaceError where the room is gone.
    """
    if plan.num_steps <= plan.steps_per_epoch or not can_be_kept(model):
        return
    rows = [(row.tokens, row.asked) for row in plan.rows if isinstance(row, Encoded)]  # pairs run whole
    rows += [(prompt.ids, (len(prompt.ids) - 1,)) for prompt in work.data.prompts.get("validation", ())]
    if not work.data.trees:
        rows += [(block.tokens, block.asked) for passage in work.data.passages.get("validation", ()) for block in passage.blocks]
    if not rows:
        return
    size = needed_bytes(model, rows)
    keeps = run.record.get("frozen_part_kept") if resumed else None
    if keeps is None:
        keeps = size + work.disk_bytes() <= storage.free_bytes(run.path)
    elif keeps:
        storage.require_space(run.path, size)
    run.update(frozen_part_kept=keeps)
    if not keeps:
        room = human_bytes(size)
        work.reporter.say(
            t(
                f"磁盘空间不够（{room}），冻结的部分每轮都要重算，会慢一些",
                f"too little disk space ({room}) to keep what the frozen part gives: it runs in every epoch, which takes longer",
            )
        )
        return
    with work.reporter.bar(t("冻结的部分只算这一次", "running the frozen part, this once"), len(set(rows))) as bar:
        keep_frozen_states(model, rows, run.path, work.config.train.micro_batch_tokens, bar.advance)


def log_step(run: Run, work: Workshop, step: Step, clock: Clock, best: Best, bar: Bar) -> None:
    """A step's line in metrics.jsonl and on the progress bar."""
    rate, memory = clock.rate, cost.memory_bytes(work.device)
    run.log(**log_line(step, clock, rate, memory))
    shown = [t("损失", "loss") + f" {step.loss:.3f}", t("学习率", "lr") + f" {step.learning_rate:.1e}"]
    shown += [f"{rate:,.0f} " + t("词元/秒", "tokens/s"), human_bytes(memory)]
    if best.value is not None:
        last = "" if best.last is None else f" {best.last:.3f}"
        shown.append(t(f"验证 {best.metric}{last}（最好 {best.value:.3f}）", f"validation {best.metric}{last} (best {best.value:.3f})"))
    bar.advance(1, "  ".join(shown))
    if (left := work.pace.left(clock.tokens, clock.seconds)) is not None:
        run.update(estimate=run.record["estimate"] | {"seconds_left_after_first_steps": left})
        wait = human_seconds(left)
        work.reporter.say(t(f"按前几步，还要约 {wait}（含评测）", f"by the first steps about {wait} left, judging included"))


def note_peak(work: Workshop) -> None:
    """Remember the most memory so far, of the whole run."""
    work.peak_bytes = max(work.peak_bytes, cost.peak_memory_bytes(work.device))


def record_estimate(run: Run, work: Workshop) -> None:
    """How far the estimate was off, into run.json. ``error`` is predicted / measured − 1. A copy for a checkpoint, which is made only where
    there is room for it and so is not in the estimate, is counted on both sides; it lies in main memory, not on a GPU."""
    note_peak(work)
    copied = run.record["training"]["checkpoints"]["copied_bytes"] if work.device.type == "cpu" else 0
    predicted = work.forecast.own.peak + copied
    found = {"measured_peak_bytes": work.peak_bytes, "copied_bytes": copied, "error": predicted / work.peak_bytes - 1}
    run.update(estimate=run.record["estimate"] | found)
    shown = f"{human_bytes(predicted)} → {human_bytes(work.peak_bytes)} ({100 * found['error']:+.0f} %)"
    work.reporter.say(t(f"内存峰值，估计 → 实测：{shown}", f"peak memory, estimated → measured: {shown}"))


def validate_and_offer(run: Run, work: Workshop, model: nn.Module, step: Step, best: Best) -> bool:
    """Validate, log it, and keep the weights if they are the best so far; whether they are."""
    judge = work.judge(model, "validation")
    if judge is None:
        return False
    line = judge.validate()
    if not math.isfinite(line.get("loss", 0.0)):
        raise NonFiniteError(
            t(
                f"第 {step.number} 步之后验证损失是 {line['loss']}，停止；没有发布任何东西。\n  怎么办: 降低 optim.learning_rate，"
                "或用 model.precision=float32",
                f"after step {step.number} the validation loss is {line['loss']}; stopped, nothing was published.\n  What to do: lower "
                "optim.learning_rate, or use model.precision=float32",
            )
        )
    better = best.offer(line[best.metric], step.number, model)
    run.log(type="validation", step=step.number, epoch=step.epoch, **line, best=better)
    report_validation(work, step, line, better)
    return better


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


def record_training(
    run: Run, work: Workshop, plan: Plan | RolloutPlan, steps: int, clock: Clock, best: Best, saves: Saves, stopped_early: bool
) -> None:
    """What the training took, into run.json."""
    method, data = work.config.method, work.data
    mean_length = sum(len(row.tokens) for row in plan.rows) / len(plan.rows)
    outputs = int(work.folder.config["vocab_size"])
    if work.has_score_head:
        outputs = len(data.task.labels) if data.task else 1
    blocks = method.last_blocks if isinstance(method, HeadMethod) else 0
    flops = cost.training_flops(work.transformers_config(), method.kind, blocks, clock.tokens, clock.targets, mean_length, outputs)
    peak = cost.peak_memory_bytes(work.device)
    note_peak(work)
    run.update(
        training={
            "steps": steps, "epochs": steps / plan.steps_per_epoch,
            "tokens": clock.tokens, "trained_tokens": clock.targets, "seconds": clock.seconds,
            "tokens_per_second": clock.rate, "flops": flops, "peak_memory_bytes": peak, "stopped_early": stopped_early,
            "checkpoints": {"saved": saves.num_saved, "seconds": saves.seconds, "copied_bytes": saves.copied_bytes},
            "best_step": best.step if best.value is not None else steps, "best_metric": {"name": best.metric, "value": best.value},
        }
    )  # fmt: skip
    work.reporter.say(
        t(
            f"训练用时 {human_seconds(clock.seconds)}，{clock.rate:,.0f} 词元/秒，内存峰值 {human_bytes(peak)}",
            f"trained in {human_seconds(clock.seconds)}, {clock.rate:,.0f} tokens/s, peak memory {human_bytes(peak)}",
        )
    )
    run.timed("train")
