"""What a search may change: the default space of each method, and a configuration with some settings changed."""

import math
from collections.abc import Mapping
from typing import Any

from weitiao.config import RunConfig, build_config
from weitiao.config_tune import Range, Space
from weitiao.errors import ConfigError
from weitiao.language import t

SHAPES: dict[str, Space] = {
    "lora": {"method.rank": [4, 8, 16, 32], "train.batch_rows": [16, 32, 64]},
    "full": {"train.batch_rows": [16, 32, 64]},
    "head": {"method.last_blocks": [0, 1, 2]},
}


def default_space(config: RunConfig) -> Space:
    """A small space: the learning rate from a tenth to twenty times the usual one, the number of epochs and one or two more. The
    configuration's own values are always in it."""
    rate, epochs = config.usual_learning_rate, config.train.epochs
    chosen: Space = {"optim.learning_rate": Range(low=rate / 10, high=rate * 20, log=True), "train.epochs": [epochs, 2 * epochs]}
    return {**chosen, **SHAPES[config.method.kind]}


def settle(config: RunConfig, space: Space) -> Space:
    """The space with the configuration's own values in it. Raises ConfigError for a setting that does not exist."""
    settled: Space = {}
    for name, entry in space.items():
        own = value_of(config, name)
        if isinstance(entry, list):
            settled[name] = entry if own in entry else [own, *entry]
        elif isinstance(own, (int, float)) and not isinstance(own, bool):
            settled[name] = entry.model_copy(update={"low": min(entry.low, own), "high": max(entry.high, own)})
        else:
            where = f"space.{name}"
            cause = t(f"{name} 不是数（现在是 {own!r}），不能用 low/high", f"{name} is no number (now {own!r}), so it has no low and high")
            raise ConfigError(where, cause, t(f"写成一列：{name}: [甲, 乙]", f"give a list: {name}: [a, b]"))
    for name in settled:
        applied(config, {name: value_of(config, name)})
    return settled


def value_of(config: RunConfig, name: str) -> Any:
    """The value of a setting by its dotted name; of the learning rate the one in force."""
    if name == "optim.learning_rate":
        return config.learning_rate
    value: Any = config.model_dump(mode="json")
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            cause = t("没有这个设置", "there is no such setting")
            raise ConfigError(f"space.{name}", cause, t("看 docs/zh/config.md 或 weitiao schema", "see docs/en/config.md"))
        value = value[part]
    return value


def applied(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """The configuration with these settings. A LoRA rank takes alpha along in proportion, unless alpha is set too, so that the adapter's
    output keeps its size. Raises ConfigError."""
    tree = config.model_dump(mode="json")
    if "method.rank" in values and "method.alpha" not in values:
        tree["method"]["alpha"] = tree["method"]["alpha"] / tree["method"]["rank"] * float(values["method.rank"])
    for name, value in values.items():
        *sections, last = name.split(".")
        part = tree
        for section in sections:
            part = part[section]
        part[last] = value
    return build_config(tree, "tune")


def near_edge(entry: Any, value: Any) -> str | None:
    """``low`` or ``high`` where a number lies within a tenth of its range's end; None elsewhere and for choices."""
    if not isinstance(entry, Range):
        return None
    scale = math.log if entry.log else float
    part = (scale(value) - scale(entry.low)) / (scale(entry.high) - scale(entry.low))
    return "low" if part < 0.1 else "high" if part > 0.9 else None
