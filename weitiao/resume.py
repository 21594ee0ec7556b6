"""Going on with a run that was interrupted: whether it may be, from where, and what keeps two processes out of one folder."""

import hashlib
import json
import os
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from weitiao import storage
from weitiao.config import RunConfig
from weitiao.errors import ConfigError, DataError
from weitiao.language import t
from weitiao.progress import Reporter
from weitiao.run import METRICS, Run, this_process
from weitiao.saves import SavePoint, Saves
from weitiao.workshop import Workshop

_INDIFFERENT = {"name", "runs", "report", "monitor", "train.checkpoint"}
"""Settings that may change while a run is interrupted: they do not touch its numbers."""


def existing_run(config: RunConfig) -> Path | None:
    """The folder that a named run has already; None: there is none, or the run gets a new name from the time."""
    if config.name is None:
        return None
    path = Path(config.runs) / config.name
    return path if storage.exists(path) else None


def without_report(config: RunConfig) -> Run | None:
    """The named run if it is finished and only its report is missing, because the process ended in between."""
    path = existing_run(config)
    if path is None or not (path / "run.json").is_file() or (path / "report.html").is_file():
        return None
    run = Run.open(path)
    return run if run.record["state"] == "finished" else None


def check_existing(config: RunConfig, allow_changes: bool) -> None:
    """Raise ConfigError, before any work is done, where the named run exists and must not be gone on with."""
    path = existing_run(config)
    if path is None:
        return
    try:
        run = Run.open(path)
    except DataError:
        cause = t("已经存在，且不是运行文件夹", "exists already and is no run folder")
        raise ConfigError(str(path), cause, t("换一个 name=…", "choose another name=…")) from None
    if run.record["state"] == "finished":
        raise _finished(path)
    differ = changed_settings(run.config, config).items()
    # Names of models and data mean something only when they have been looked up: `open_run` compares those.
    changes = [f"{key}: {old!r} → {new!r}" for key, (old, new) in differ if not key.startswith(("model.", "data."))]
    if changes and not allow_changes:
        _refuse(path, t("配置与中断的那次不同", "the configuration is not that of the interrupted run"), changes)


def changed_settings(former: RunConfig, config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The settings that decide the numbers and differ: dotted name → (before, now)."""
    before, now = deciding_settings(former), deciding_settings(config)
    return {key: (before.get(key), now.get(key)) for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)}


def deciding_settings(config: RunConfig) -> dict[str, Any]:
    """Every setting that decides the run's numbers, by dotted name."""
    found: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if prefix in _INDIFFERENT:
            return
        if isinstance(value, dict) and value:
            for key, entry in value.items():
                walk(f"{prefix}.{key}" if prefix else key, entry)
        else:
            found[prefix] = value

    walk("", config.with_absolute_paths().model_dump(mode="json"))
    return found


def identity(work: Workshop) -> dict[str, str]:
    """Hashes of what decides a run's numbers, for the manifests of its checkpoints."""
    settings = json.dumps(deciding_settings(work.inputs.pinned), sort_keys=True, ensure_ascii=False)
    data = json.dumps(_file_hashes(work), sort_keys=True, ensure_ascii=False)
    return {"config_sha256": hashlib.sha256(settings.encode()).hexdigest(), "data_sha256": hashlib.sha256(data.encode()).hexdigest()}


def open_run(work: Workshop, fresh: bool, allow_changes: bool) -> Run:
    """The run's folder, locked: a new one, or the named one that was interrupted. Raises ConfigError where it must not be gone on with."""
    config = work.inputs.pinned
    path = existing_run(config)
    if path is not None and fresh:
        put_aside(path, work.reporter)
        path = None
    if path is None:
        return Run.create(config)
    run = Run.open(path).locked()
    run.reread()  # another process may have finished it while this one read its data
    if run.record["state"] == "finished":
        run.unlock()
        raise _finished(path)
    former = run.config
    changes = {key: list(pair) for key, pair in changed_settings(former, config).items()} | _changed_inputs(run, work)
    if changes and not allow_changes:
        run.unlock()
        shown = [f"{key}: {old!r} → {new!r}" for key, (old, new) in changes.items()]
        _refuse(path, t("与中断的那次不同", "this is not as it was in the interrupted run"), shown)
    if changes:
        storage.write_text(path / "config.yaml", config.with_absolute_paths().as_yaml())
        for judged in ("before", "baselines"):  # what was judged then need not hold now
            storage.disk.remove_file(path / "evaluation" / f"{judged}.json")
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    resumed = [*run.record.get("resumed", []), {"at": now, "after": run.record["state"], "changes": changes}]
    run.update(state="running", ended=None, error=None, resumed=resumed, process=this_process())
    return run


def _finished(path: Path) -> ConfigError:
    remedy = t(
        "换一个 name=…，或用 --fresh 重新开始（旧的文件夹会改名保留）",
        "choose another name=…, or start over with --fresh (the old folder is kept under another name)",
    )
    return ConfigError(str(path), t("这次运行已经完成", "this run is finished already"), remedy)


def _file_hashes(work: Workshop) -> dict[str, str]:
    """The data files' hashes under their full names: a run that goes on names them in full, however it named them at first."""
    return {os.path.abspath(path): digest for path, digest in work.data.dataset.ledger.hashes.items()}


def _changed_inputs(run: Run, work: Workshop) -> dict[str, list[Any]]:
    """Data files and base model whose content is not what the run began with."""
    changes: dict[str, list[Any]] = {}
    hashes = _file_hashes(work)
    for entry in (run.read("data/ledger.json") or {"files": []})["files"]:  # a split can have several
        now = hashes.get(os.path.abspath(entry["path"]))
        if now is not None and now != entry["sha256"]:
            changes[f"data.{entry['split']} ({entry['path']})"] = [entry["sha256"][:12], now[:12]]
    former = run.record.get("base_model", {}).get("sha256")
    if former is not None and (found := work.folder.sha256()) != former:
        changes[f"model ({work.folder.path})"] = [former[:12], found[:12]]
    return changes


def _refuse(path: Path, cause: str, changes: list[str]) -> NoReturn:
    listed = "".join(f"\n  {change}" for change in changes)
    remedy = t(
        "改回原样；或用 --allow 照改动继续（结果不再与不中断的运行相同）；或换一个 name=…；或用 --fresh 重新开始",
        "put it back; or go on with the changes: --allow (the result is then not that of an uninterrupted run); or choose another name=…; "
        "or start over: --fresh",
    )
    raise ConfigError(str(path), cause + listed, remedy)


def put_aside(path: Path, reporter: Reporter) -> None:
    """Rename a former run's folder, which nothing may be writing to, so that a new one can have its name. Raises DataError where it is no
    run's: it is somebody's own."""
    Run.open(path).locked().unlock()
    stamp = f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"
    names = (f"{path.name}.former-{stamp}" + (f"-{number}" if number > 1 else "") for number in count(1))
    aside = next(free for name in names if not storage.exists(free := path.with_name(name)))
    storage.disk.replace(path, aside)
    reporter.say(t(f"旧的运行改名为 {aside}", f"the former run is now {aside}"))


def save_point(run: Run, saves: Saves, allow_changes: bool) -> SavePoint | None:
    """Where the run goes on: its newest whole checkpoint, metrics.jsonl cut back to it. None: from the beginning. Raises ConfigError where
    the checkpoint belongs to another configuration or other data."""
    storage.remove_leftovers(run.path)
    storage.remove_leftovers(saves.folder)
    point = saves.newest()
    if point is not None and not allow_changes:
        manifest = storage.verify_folder(point.folder)
        other = [key for key, value in saves.identity.items() if manifest.get(key) != value]
        if other:
            _refuse(point.folder, t("检查点属于另一份配置或数据", "the checkpoint belongs to another configuration or other data"), other)
    storage.cut_file(run.path / METRICS, point.position["metrics_bytes"] if point else 0)
    if point is not None:
        saves.reporter.say(t(f"从第 {point.step} 步的检查点继续", f"going on from the checkpoint of step {point.step}"))
    elif run.record.get("resumed"):
        saves.reporter.say(t("还没有可用的检查点，从头训练", "there is no checkpoint to go on from yet: training from the beginning"))
    return point
