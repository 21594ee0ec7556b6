"""Will it fit, how long will it take, and what to change: said by `weitiao check`, and by `weitiao train` before it loads the model."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from weitiao.config import RunConfig
from weitiao.config_methods import FullMethod, HeadMethod, LoraMethod
from weitiao.config_tasks import TextTask
from weitiao.data.packed import row_lengths
from weitiao.data.render import ChatEncoder
from weitiao.errors import ConfigError
from weitiao.estimate import PROCESS_BYTES, Demand, Memory, Method, demand, memory, operations, process_bytes
from weitiao.language import t
from weitiao.machine import Machine
from weitiao.model.structure import Structure
from weitiao.prepare import Prepared, longest_row
from weitiao.progress import human_bytes, human_seconds
from weitiao.records import SPLITS

CLEARLY = 0.85
"""The estimate is good to 15 %: a run is refused only if it would not fit even so."""
ROOM = 0.9
"""A suggestion leaves a tenth of the memory free."""
START_SECONDS = 15.0
_RATES = {("cpu", 2): (30e9, 250e9), ("cpu", 4): (8e9, 60e9), ("cuda", 2): (50e12, 400e12), ("cuda", 4): (8e12, 100e12)}
"""Operations per second of a CPU core, or of a GPU, from slow to fast, by device and bytes of a number."""
_SMALLEST = 256


@dataclass(frozen=True)
class Forecast:
    """What one configuration will take on a machine. ``process``: bytes of the process without the model; None: the usual."""

    config: RunConfig
    data: Prepared
    structure: Structure
    machine: Machine
    answer_nodes: int
    process: int | None = None

    def _labels(self, method: Method) -> int | None:
        """Labels of a `score` head; None: the model writes its answers."""
        if self.config.objective.kind == "reward":
            return 1
        task = self.data.task
        return len(task.labels) if task is not None and isinstance(method, HeadMethod) else None

    @cached_property
    def needs(self) -> Demand:
        """What the data ask for."""
        return demand(self.config, self.data, self.answer_nodes)

    def memory(self, method: Method) -> Memory:
        """The memory with one method."""
        base = self.process if self.process is not None else process_bytes(self.needs)
        process = 0 if self.machine.device == "cuda" else base
        return memory(self.structure, method, self.needs, self.machine, self._labels(method), process)

    @cached_property
    def own(self) -> Memory:
        """The memory with the configuration's own method."""
        return self.memory(self.config.method)

    @property
    def fits(self) -> bool:
        """Whether the estimate is within what the machine has free."""
        return self.own.peak - self.own.mapped <= self.machine.free_bytes

    @property
    def cannot_fit(self) -> bool:
        """Whether it clearly does not fit. On CUDA, where the estimate was never measured: what is counted exactly does not."""
        if self.machine.device == "cuda":
            return self.own.weights + self.own.optimiser > self.machine.total_bytes
        return CLEARLY * (self.own.peak - self.own.mapped) > self.machine.free_bytes

    @property
    def methods(self) -> list[Method]:
        """The methods that the task takes, the configuration's own as it is set."""
        others: list[Method] = [LoraMethod(), FullMethod()]
        if self.config.takes_head:
            others.append(HeadMethod(untie=self.config.task.kind == "text"))
        return [self.config.method if m.kind == self.config.method.kind else m for m in others]

    def operations(self, method: Method) -> tuple[float, float]:
        """Floating-point operations of the training with one method, and of one token that is judged."""
        return operations(self.structure, method, self.needs, self._labels(method))

    def seconds(self) -> tuple[float, float, int]:
        """Low and high guess of the whole run, and how many earlier runs on this machine they rest on (0: on a table of rates)."""
        training, judged = self.operations(self.config.method)
        total = training + judged * (self.needs.judged_before + self.needs.judged_later)
        if rates := former_rates(Path(self.config.runs), self.machine, self.config.method.kind):
            return START_SECONDS + 0.6 * total / median(rates), START_SECONDS + 1.6 * total / median(rates), len(rates)
        slow, fast = _RATES[self.machine.device, self.machine.itemsize]
        cores = self.machine.cores if self.machine.device == "cpu" else 1
        return START_SECONDS + total / (fast * cores), START_SECONDS + total / (slow * cores), 0

    def suggestion(self) -> list[str]:
        """Settings with which it would fit: those first that leave the result as it is. Empty: none was found."""
        for changes in self._smaller():
            if self._with(changes).own.peak <= ROOM * self.machine.free_bytes:
                return [f"{key}={value}" for key, value in changes.items()]
        return []

    def _smaller(self) -> Iterator[dict[str, Any]]:
        longest = max(row_lengths(self.data.rows))
        lengths: list[int | None] = [None]
        while self.config.task.kind != "text" and (length := (lengths[-1] or longest) // 2) >= _SMALLEST:
            lengths.append(length)
        kinds = dict.fromkeys([self.config.method.kind, "lora"])
        for most in lengths:
            for kind in kinds:
                micro = self.config.train.micro_batch_tokens
                while True:
                    change: dict[str, Any] = {} if micro == self.config.train.micro_batch_tokens else {
                        "train.micro_batch_tokens": micro, "evaluate.batch_tokens": min(self.config.evaluate.batch_tokens, 4 * micro),
                    }  # fmt: skip
                    change |= {} if kind == self.config.method.kind else {"method": kind}
                    change |= {} if most is None else {"data.max_tokens": most}
                    if change:
                        yield change
                    if micro // 2 < max(_SMALLEST, most or longest):
                        break
                    micro //= 2

    def _with(self, changes: dict[str, Any]) -> "Forecast":
        """The forecast with other settings, the rows cut as `data.max_tokens` would."""
        config, data = self.config, self.data
        if (micro := changes.get("train.micro_batch_tokens")) is not None:
            train = config.train.model_copy(update={"micro_batch_tokens": micro})
            judging = config.evaluate.model_copy(update={"batch_tokens": changes["evaluate.batch_tokens"]})
            config = config.model_copy(update={"train": train, "evaluate": judging})
        if "method" in changes:
            config = config.model_copy(update={"method": LoraMethod()})
        if (most := changes.get("data.max_tokens")) is not None:
            rows = [replace(row, tokens=row.tokens[:most], trained=row.trained[-most:]) for row in data.rows]
            data = replace(data, rows=rows)
        return replace(self, config=config, data=data)

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and run.json."""
        low, high, runs = self.seconds()
        return {
            "device": self.machine.device,
            "itemsize": self.machine.itemsize,
            "total_bytes": self.machine.total_bytes,
            "free_bytes": self.machine.free_bytes,
            "predicted_peak_bytes": self.own.peak,
            "parts": self.own.as_dict(),
            "predicted_seconds": {"low": low, "high": high, "runs": runs},
        }


def answer_nodes(data: Prepared, encoder: ChatEncoder) -> int:
    """How many tokens the tree of a prompt's candidate answers has at most (evaluate/predict.py): the beginnings that differ."""
    if data.task is None:
        return 0
    answers = {label: encoder.text(label) for label in data.task.labels}
    found = {data.task.choices(prompt.example) for split in SPLITS[1:] for prompt in data.prompts.get(split, [])}
    return max((len({answers[c][:n] for c in choices for n in range(1, len(answers[c]) + 1)}) for choices in found), default=0)


def former_rates(runs: Path, machine: Machine, method: str) -> list[float]:
    """Operations per second of the finished runs in a folder that had this processor, device and method, the newest 20."""
    rates = []
    records = sorted(runs.glob("*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in records[:20]:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            had, training = record["hardware"], record["training"]
            same = (had["device"], had["processor"], had["cores"]) == (machine.device, machine.processor, machine.cores)
            if same and record["state"] == "finished" and record["method"] == method:
                rates.append(training["flops"] / training["seconds"])
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):  # no run of ours, or none that trained
            continue
    return rates


def with_budget(config: RunConfig, structure: Structure, model_config: dict[str, Any], machine: Machine) -> RunConfig:
    """The configuration with `data.max_tokens` set where the longest row that the model takes would not fit into the machine's memory."""
    if config.data.max_tokens is not None or isinstance(config.task, TextTask):
        return config
    longest, least = longest_row(config, model_config), 2 * _SMALLEST
    room = ROOM * machine.total_bytes - (PROCESS_BYTES if machine.device == "cpu" else 0)
    most = longest
    while most > least and _one_row(structure, config.method, machine, most) > room:
        most = max(least, most // 2)
    if most == longest:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"max_tokens": most})})


def _one_row(structure: Structure, method: Method, machine: Machine, length: int) -> int:
    """What training on a single row of this length takes."""
    needs = Demand(
        rows=1, width=length, tokens=length, queries=length, targets=length, several=True, all_tokens=length, all_targets=length,
        mean_length=length, epochs=1, judged_tokens=length, judged_positions=length, judged_width=length, judged_before=0, judged_later=0,
        validated=0, held_bytes=0,
    )  # fmt: skip
    return memory(structure, method, needs, machine, None, 0).peak


def require_memory(forecast: Forecast) -> None:
    """Raise ConfigError where the run clearly cannot fit (`check.memory`)."""
    if forecast.config.check.memory == "ignore" or not forecast.cannot_fit:
        return
    changes = forecast.suggestion()
    instead = " ".join(changes) if changes else t("更小的模型或内存更大的机器", "a smaller model or a machine with more memory")
    peak, free = human_bytes(forecast.own.peak), human_bytes(forecast.machine.free_bytes)
    raise ConfigError(
        f"method.kind = {forecast.config.method.kind}",
        t(f"估计要 {peak} 内存，本机可用 {free}：放不下", f"the estimate is {peak} of memory, this machine has {free} free: it cannot fit"),
        t(f"用 {instead}；要照样试，用 check.memory=ignore", f"use {instead}; to try all the same, set check.memory=ignore"),
    )


def forecast_text(forecast: Forecast) -> list[str]:
    """The estimate for people."""
    machine, parts = forecast.machine, forecast.own
    kinds = "  ".join(
        f"{'→ ' if m == forecast.config.method else ''}{m.kind} {human_bytes(forecast.memory(m).peak)}" for m in forecast.methods
    )
    number = "bfloat16" if machine.itemsize == 2 else "float32"
    free, total = human_bytes(machine.free_bytes), human_bytes(machine.total_bytes)
    shares = (
        (t("进程", "process"), parts.process), (t("权重", "weights"), parts.weights), (t("优化器", "optimiser"), parts.optimiser),
        (t("最好的权重", "best weights"), parts.best), (t("梯度", "gradients"), parts.gradients),
        (t("激活", "activations"), parts.activations), (t("计算时的临时量", "workspace"), parts.workspace),
        (t("堆上的空洞", "holes on the heap"), parts.heap), (t("评测", "judging"), parts.judging),
        (t("映射的文件", "mapped file"), parts.mapped),
    )  # fmt: skip
    low, high, runs = forecast.seconds()
    basis = t(f"按本机先前 {runs} 次运行", f"from {runs} earlier runs here") if runs else t("按一般速度，很粗", "by usual rates, rough")
    between = f"{human_seconds(low)} – {human_seconds(high)}"
    lines = [
        t(f"内存峰值估计（{machine.device}，{number}）：{kinds}", f"peak memory, estimated ({machine.device}, {number}): {kinds}"),
        "  " + "  ".join(f"{name} {human_bytes(size)}" for name, size in shares if size),
        t(f"  本机可用 {free}，共 {total}", f"  this machine has {free} free of {total}"),
        t(f"时间估计：{between}（{basis}；开始后几步会修正）", f"time, estimated: {between} ({basis}; corrected after the first steps)"),
    ]
    if not forecast.fits:
        changes = " ".join(forecast.suggestion())
        lines.insert(3, t(f"  放不下。可以用：{changes or '更小的模型'}", f"  it does not fit. This would: {changes or 'a smaller model'}"))
    return lines


class Pace:
    """The time left, from the steps that were measured. The first step is left out: kernels are compiled in it."""

    STEPS = 4

    def __init__(self, forecast: Forecast) -> None:
        needs = forecast.needs
        training, judged = forecast.operations(forecast.config.method)
        self._tokens = needs.epochs * needs.all_tokens
        self._judging_tokens = judged * needs.judged_later * self._tokens / training
        """Judging after this, in tokens trained that take as long."""
        self._seen: list[tuple[int, float]] = []

    def left(self, tokens: int, seconds: float) -> float | None:
        """Told after each step how many tokens were trained in how many seconds: after the fourth one, the seconds left of the run."""
        self._seen.append((tokens, seconds))
        if len(self._seen) != self.STEPS:
            return None
        rate = (tokens - self._seen[0][0]) / max(1e-9, seconds - self._seen[0][1])
        return (max(0.0, self._tokens - tokens) + self._judging_tokens) / rate
