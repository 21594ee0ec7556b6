"""The end of a search: the best configuration as a file, its test score measured once beside that of the defaults, what mattered, and what
to try next."""

import os
from collections.abc import Mapping
from typing import Any

import psutil

from weitiao import storage
from weitiao.config import RunConfig
from weitiao.config_tune import Range
from weitiao.decide import members
from weitiao.decide.advice import in_both
from weitiao.decide.space import applied, near_edge
from weitiao.decide.table import build_table, run_entry
from weitiao.decide.tune import Search, best_run
from weitiao.errors import RunError
from weitiao.language import Language, t
from weitiao.report.diagnosis import diagnose
from weitiao.report.folder import read_folder
from weitiao.report.tune_page import build_tune_page
from weitiao.run import Run

RESULT, BEST = "tune.json", "best.yaml"
FEW_TRIALS = 10


def conclude(work: Search, language: Language | None = None) -> dict[str, Any]:
    """Write ``best.yaml``, ``tune.json`` and ``report.html`` and return the second. While other processes still try settings the test rows
    are left alone: the last one measures. Raises RunError where no trial ended."""
    found = best_run(work)
    if found is None:
        raise RunError(
            t(
                f"没有一次试验跑完全部数据；看 {work.folder}/runs 里的运行，或加大预算（--trials、--minutes）",
                f"no trial ran on all rows; see the runs in {work.folder}/runs, or give more (--trials, --minutes)",
            )
        )
    with work.alone:
        return _conclude(work, *found, language)


def _conclude(work: Search, number: int, run: Run, language: Language | None) -> dict[str, Any]:
    best = applied(work.config, work.study.trials[number].params)
    storage.write_text(work.folder / BEST, _named(best).as_yaml())
    others = [pid for pid in _at_work(work) if pid != os.getpid() and psutil.pid_exists(pid)]
    result: dict[str, Any] = {
        "schema": 1,
        "folder": str(work.folder),
        "report": str(work.folder / "report.html"),
        "best_config": str(work.folder / BEST),
        "metric": work.config.best_by,
        "direction": work.direction,
        "space": {name: entry.model_dump() if isinstance(entry, Range) else entry for name, entry in work.space.items()},
        "trials": [_trial(work, trial) for trial in work.study.trials],
        "best": number,
        "run": str(run.path),
        "importance": importance(work),
        "others_at_work": len(others),
        "test": None if others else _test(work, run),
    }
    zh, en = in_both(lambda: _suggestions(work, run, result))
    result["next"] = [{"zh": a, "en": b} for a, b in zip(zh, en, strict=True)]
    storage.write_json(work.folder / RESULT, result)
    build_tune_page(work.folder, language)
    return result


def _named(config: RunConfig) -> RunConfig:
    """The configuration to train again: a new run, judged on the test rows."""
    return config.with_absolute_paths().model_copy(update={"name": None})


def _at_work(work: Search) -> list[int]:
    from optuna.trial import TrialState

    return [trial.user_attrs.get("pid", -1) for trial in work.study.get_trials(states=(TrialState.RUNNING,))]


def _trial(work: Search, trial: Any) -> dict[str, Any]:
    attributes = trial.user_attrs
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "is_default": trial.params == work.defaults,
        "params": trial.params,
        "value": trial.value if trial.state.name == "COMPLETE" else None,
        "rungs": [attributes[name] for name in sorted(attributes) if name.startswith("rung")],
        "tokens": attributes.get("tokens", 0),
        "run": attributes.get("run"),
        "message": attributes.get("message"),
    }


def _test(work: Search, run: Run) -> dict[str, Any] | None:
    """The test scores of the best and of the defaults, each measured once, and their paired difference; None: there are no test rows."""
    default = next((trial for trial in work.study.trials if trial.params == work.defaults and trial.value is not None), None)
    runs = [run] + ([] if default is None or default.user_attrs["run"] == str(run.path) else [Run.open(default.user_attrs["run"])])
    if not any(entry["split"] == "test" and entry["used"] for entry in run.read("data/ledger.json")["files"]):
        return None
    for one in runs:
        if not (one.path / "evaluation" / "after.json").is_file():
            members.call("evaluate", str(one.path), "--save", "-q")
    titles = ({"zh": "搜索到的", "en": "found by the search"}, {"zh": "默认设置", "en": "the defaults"})
    entries = [run_entry(Run.open(one.path), title) for one, title in zip(runs, titles, strict=False)]
    table = build_table(entries, work.config.seed)
    if len(runs) == 2:  # found − defaults, whichever scored higher
        table["found_is_best"] = table["best"] == entries[0].name
    return table


def importance(work: Search) -> dict[str, float]:
    """How much of the spread between trials on the first fraction each setting explains (fANOVA, Hutter et al. 2014); empty with too few
    trials, or where all did the same."""
    import optuna

    tried = [trial for trial in work.study.trials if "rung0" in trial.user_attrs]
    values = {trial.user_attrs["rung0"] for trial in tried}
    if len(tried) < 4 or len(values) < 2:
        return {}
    flat = optuna.create_study(direction=work.direction)
    for trial in tried:
        value = trial.user_attrs["rung0"]
        flat.add_trial(optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=value))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return {name: float(part) for name, part in optuna.importance.get_param_importances(flat, evaluator=evaluator).items()}


def _suggestions(work: Search, run: Run, result: Mapping[str, Any]) -> list[str]:
    """What to try next, the most certain first."""
    found = []
    for name, value in work.study.trials[result["best"]].params.items():
        edge = near_edge(work.space[name], value)
        if edge is not None:
            side = t("下限", "low") if edge == "low" else t("上限", "high")
            found.append(
                t(
                    f"{name} 的最好值 {value:.3g} 贴着范围的{side}：把范围往那边放宽再搜。",
                    f"The best {name}, {value:.3g}, lies at the {side} end of its range: widen the range there and search on.",
                )
            )
    for one in diagnose(read_folder(run.path)):
        found.append(f"{one.message} {one.remedy}" + (t(f"（{one.setting}）", f" ({one.setting})") if one.setting else ""))
    ended = sum(trial["state"] == "complete" for trial in result["trials"])
    if len(result["trials"]) < FEW_TRIALS:
        number = len(result["trials"])
        found.append(
            t(
                f"只试了 {number} 组（其中 {ended} 组跑完全部数据）：重复这条命令并加大 --trials，会接着搜。",
                f"Only {number} settings were tried ({ended} on all rows): repeat the command with more --trials to go on.",
            )
        )
    test = result["test"]
    if test is not None and len(test["rows"]) == 2 and any(row["verdict"] == "undecided" for row in test["rows"]):
        found.append(
            t(
                f"在 {test['n']} 条测试数据上看不出它比默认设置好：留着默认设置也行，或增加数据。",
                f"On {test['n']} test rows no difference from the defaults is shown: keeping them is as good a choice, or add data.",
            )
        )
    if not found:
        found.append(
            t("没有明显的下一步：用 best.yaml 训练，换几个 seed 看波动。", "No obvious next step: train best.yaml with some seeds.")
        )
    return found
