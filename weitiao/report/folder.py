"""Reads a run folder for the report and the model card. Every file may be absent: a run can fail before it wrote it."""

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from weitiao.errors import DataError
from weitiao.language import Language, from_environment, t

Json = dict[str, Any]

_JSON_FILES = (
    "run.json",
    "data/ledger.json",
    "data/audit.json",
    "evaluation/before.json",
    "evaluation/after.json",
    "evaluation/baselines.json",
    "evaluation/comparison.json",
)
_LINE_FILES = ("metrics.jsonl", "evaluation/predictions-before.jsonl", "evaluation/predictions-after.jsonl")
_BASELINES = "evaluation/predictions-baselines.jsonl"

_LARGEST_FILE_BYTES = 250_000_000

_UNCOMMON = re.compile(r"[^\n\t -~\u3001-\u303f\u4e00-\u9fff\uff01-\uff5e]")
"""What has to be looked at one by one; nearly all characters of Chinese and English text are known to be harmless."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A number as it stands in the folder. ``low`` and ``high`` bound its 95 % interval; what the folder does not say is None."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class RunFolder:
    """What a run folder holds, with every string made safe to show. An absent or unreadable file is empty here and named in
    ``absent`` or, with the reason, in ``problems``."""

    name: str
    run: Json
    config: Json
    config_text: str
    steps: tuple[Json, ...]
    validations: tuple[Json, ...]
    ledger: Json
    audit: Json
    before: Json
    after: Json
    baselines: Json
    comparison: Json
    predictions_before: tuple[Json, ...]
    predictions_after: tuple[Json, ...]
    baseline_answers: dict[str, tuple[str, ...]]
    """What each linear baseline answered to a test row, by its id."""
    absent: tuple[str, ...]
    problems: tuple[tuple[str, str], ...]
    rollouts: tuple[Json, ...] = ()
    probe: Json = field(default_factory=dict)
    """What `weitiao probe` measured; empty where it was not asked to."""

    @property
    def task(self) -> str:
        """``classification``, ``generation`` or ``text``; by the validation lines where run.json does not say."""
        stated = self.run.get("task") or self.after.get("task")
        if stated:
            return str(stated)
        return "text" if any("bits_per_character" in line for line in self.validations) else "classification"

    @property
    def is_scored(self) -> bool:
        """Whether rows are right or wrong, or rewarded, and not judged by their loss."""
        name = str(self.comparison.get("metric") or "accuracy")
        return self.task == "classification" or any(metric(one, name) is not None for one in (self.before, self.after))

    @property
    def language(self) -> Language:
        """``report.language`` of the config, else the locale's."""
        match dig(self.config, "report", "language"):
            case "zh":
                return "zh"
            case "en":
                return "en"
            case _:
                return from_environment()


def read_folder(path: Path) -> RunFolder:
    """Read the run folder ``path``. Raises DataError if it is no folder or holds none of a run's files."""
    if not path.is_dir():
        raise DataError(str(path), t("不是文件夹", "is not a folder"), t("请给出一次训练的结果文件夹", "give the folder of a run"))
    absent: list[str] = []
    problems: list[tuple[str, str]] = []
    config_text = _read_text(path, "config.yaml", absent, problems)
    rollouts, probe = _read_lines(path, "rollouts.jsonl", [], problems), _read_object(path, "evaluation/probe.json", [], problems)
    objects = {name: _read_object(path, name, absent, problems) for name in _JSON_FILES}
    lines = {name: _read_lines(path, name, absent, problems) for name in _LINE_FILES}
    if len(absent) == 1 + len(_JSON_FILES) + len(_LINE_FILES):
        cause = t("里面没有一次训练的任何文件（run.json、config.yaml……）", "holds none of a run's files (run.json, config.yaml, …)")
        raise DataError(str(path), cause, t("请给出一次训练的结果文件夹", "give the folder of a run"))
    return RunFolder(
        name=safe(path.resolve().name),
        run=objects["run.json"],
        config=_parse_config(config_text, problems),
        config_text=config_text,
        steps=tuple(line for line in lines["metrics.jsonl"] if line.get("type") == "step"),
        validations=tuple(line for line in lines["metrics.jsonl"] if line.get("type") == "validation"),
        ledger=objects["data/ledger.json"],
        audit=objects["data/audit.json"],
        before=objects["evaluation/before.json"],
        after=objects["evaluation/after.json"],
        baselines=objects["evaluation/baselines.json"],
        comparison=objects["evaluation/comparison.json"],
        predictions_before=lines["evaluation/predictions-before.jsonl"],
        predictions_after=lines["evaluation/predictions-after.jsonl"],
        baseline_answers=_baseline_answers(path),
        absent=tuple(absent),
        problems=tuple(problems),
        rollouts=rollouts,
        probe=probe,
    )


def _baseline_answers(path: Path) -> dict[str, tuple[str, ...]]:
    """Runs of other tasks, or without baselines, have no such file: it is not missed."""
    lines = _read_lines(path, _BASELINES, [], []) if (path / _BASELINES).is_file() else ()
    return {str(row.get("id")): tuple(str(answer) for name, answer in row.items() if name.startswith("tfidf")) for row in lines}


def _read_text(path: Path, name: str, absent: list[str], problems: list[tuple[str, str]]) -> str:
    file = path / name
    if not file.is_file():
        absent.append(name)
        return ""
    if (size := file.stat().st_size) > _LARGEST_FILE_BYTES:
        problems.append((name, t(f"有 {size / 1e6:.0f} MB，没有读", f"has {size / 1e6:.0f} MB and was not read")))
        return ""
    content = file.read_bytes()
    try:
        return safe(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        problems.append((name, t(f"第 {error.start} 字节不是 UTF-8", f"byte {error.start} is not UTF-8")))
        return safe(content.decode("utf-8", errors="replace"))


def _read_object(path: Path, name: str, absent: list[str], problems: list[tuple[str, str]]) -> Json:
    content = _read_text(path, name, absent, problems)
    if not content:
        return {}
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        problems.append((name, t(f"不是完整的 JSON：{error}", f"is not complete JSON: {error}")))
        return {}
    if not isinstance(value, dict):
        problems.append((name, t("不是一个 JSON 对象", "is not a JSON object")))
        return {}
    return safe_object(value)


def _read_lines(path: Path, name: str, absent: list[str], problems: list[tuple[str, str]]) -> tuple[Json, ...]:
    content = _read_text(path, name, absent, problems)
    return tuple(_parse_lines(content, name, problems))


def _parse_lines(content: str, name: str, problems: list[tuple[str, str]]) -> Iterator[Json]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            yield safe_object(value)
        else:
            problems.append(
                (
                    f"{name}:{number}",
                    t("这一行不是完整的 JSON 对象，已跳过", "this line is not a complete JSON object and was skipped"),
                )
            )


def _parse_config(content: str, problems: list[tuple[str, str]]) -> Json:
    try:
        value = parse_plain_yaml(content) if content else {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        where = f"config.yaml:{mark.line + 1}" if mark else "config.yaml"
        problems.append((where, t("不是 YAML", "is not YAML")))
        return {}
    return safe_object(value) if isinstance(value, dict) else {}


class _Loader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for more than any memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias")
        return super().compose_node(parent, index)


def parse_plain_yaml(text: str) -> Any:
    """One YAML document without aliases. Raises YAMLError, and ValueError or RecursionError for values that are none."""
    return yaml.load(text, Loader=_Loader)


def safe(text: str) -> str:
    """``text`` with control, bidirectional-override, surrogate and unassigned characters made visible; line breaks, tabs stay."""
    return _UNCOMMON.sub(_visible, text.replace("\r\n", "\n"))


def _visible(match: re.Match[str]) -> str:
    char = match[0]
    if char == "\u200d" or char.isprintable() or unicodedata.category(char) == "Zs":  # U+200D joins emoji
        return char
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)  # the Unicode pictures of the control characters
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def _safe_value(value: Any) -> Any:
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, dict):
        return safe_object(value)
    return [_safe_value(item) for item in value] if isinstance(value, list) else value


def safe_object(value: dict[Any, Any]) -> Json:
    """A JSON object with every string in it made safe to show."""
    return {safe(str(key)): _safe_value(item) for key, item in value.items()}


def dig(value: Any, *keys: str) -> Any:
    """The entry of nested objects under ``keys``; None where one is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def objects(value: Any) -> list[Json]:
    """The objects of a list; none where ``value`` is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def finite(value: Any) -> float | None:
    """``value`` as a finite float; None for anything else (text, null, NaN)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def whole(value: Any) -> int | None:
    """``value`` as a count; None for anything else."""
    number = finite(value)
    return None if number is None else int(number)


def reading(value: Any, n: Any = None) -> Reading | None:
    """A number, or an object with value, low, high and n. ``n`` is the number of rows where the object does not say."""
    if not isinstance(value, dict):
        number = finite(value)
        return None if number is None else Reading(number, n=whole(n))
    number = finite(value.get("value"))
    if number is None:
        return None
    return Reading(number, finite(value.get("low")), finite(value.get("high")), whole(value.get("n", n)))


def metric(evaluation: Json, name: str) -> Reading | None:
    """The metric ``name`` of an evaluation; None where it was not measured."""
    return reading(dig(evaluation, "metrics", name), evaluation.get("n"))
