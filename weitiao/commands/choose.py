"""The commands that help to choose: `compare`, and what it is made of: `baselines`, `probe`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from weitiao import language
from weitiao.commands.options import Json, Overrides, Quiet, RunFolder, emit
from weitiao.errors import UsageError
from weitiao.language import t

Compared = Annotated[
    list[str] | None,
    typer.Argument(
        help=t(
            "一份配置（每种方法都跑），几份配置，或几个运行文件夹；不给：示例。后面可跟 键=值",
            "one configuration (run with every method), several, or run folders; none: the demo. key=value may follow",
        )
    ),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help=t("放在哪个文件夹", "the folder to keep it in"))]


def compare(
    what: Compared = None,
    methods: Annotated[
        str, typer.Option("--methods", help=t("一份配置时跑哪些方法", "which methods, given one configuration"))
    ] = "head,lora,full",
    ranks: Annotated[str, typer.Option("--ranks", help=t("LoRA 的秩，如 4,16", "ranks of LoRA, such as 4,16"))] = "",
    gpus: Annotated[int, typer.Option("--gpus", min=1, help=t("在几个 GPU 上并排跑", "how many GPUs to run on side by side"))] = 1,
    curve: Annotated[
        bool, typer.Option("--curve", help=t("学习曲线：得分与标注的行数", "the learning curve: score against labelled rows"))
    ] = False,
    sizes: Annotated[str, typer.Option("--sizes", help=t("学习曲线的行数，另加全部", "rows of the curve, besides all"))] = "50,200,1000",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help=t("学习曲线的种子数", "seeds of the curve"))] = 3,
    out: Out = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Methods, or runs, side by side on the same test rows."""
    from weitiao.config import load_config
    from weitiao.decide.compare import Options, compare_configs, compare_runs, demo_configs
    from weitiao.decide.text import comparison_text

    paths, overrides = _sorted_out(what or ())
    options = Options(tuple(methods.split(",")), _numbers("--ranks", ranks), out, quiet, gpus, language.current())
    folders = [path for path in paths if path.is_dir()]
    if folders and (len(folders) < len(paths) or overrides):
        cause = t("运行文件夹不能和配置或 键=值 混用", "run folders do not mix with configurations or key=value")
        raise UsageError(str(folders[0]), cause, "weitiao compare RUN RUN | weitiao compare CONFIG")
    if len(folders) == 1:
        raise UsageError(
            str(folders[0]), t("只有一个运行，没有可比的", "one run has nothing to be compared with"), "weitiao compare RUN RUN"
        )
    if curve:
        _learning_curve(paths, overrides, options, _numbers("--sizes", sizes), seeds, as_json)
        return
    if folders:
        table = compare_runs(folders, options)
    else:
        table = compare_configs([load_config(path, overrides) for path in paths] or demo_configs(overrides), options)
    emit(as_json, table, lambda: comparison_text(table))


def _learning_curve(paths: Sequence[Path], overrides: Sequence[str], options: Any, sizes: Sequence[int], seeds: int, as_json: bool) -> None:
    from weitiao.config import load_config
    from weitiao.decide.curve import learning_curve
    from weitiao.decide.text import curve_text

    if len(paths) != 1 or paths[0].is_dir():
        raise UsageError("--curve", t("要一份配置", "takes one configuration"), "weitiao compare CONFIG --curve")
    result = learning_curve(load_config(paths[0], overrides), options, sizes, seeds)
    emit(as_json, result, lambda: curve_text(result))


def _sorted_out(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Paths, and ``key=value`` overrides."""
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    return [Path(word) for word in words if word not in overrides], overrides


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers from 1 on, separated by commas."""
    parts = [part for part in text.split(",") if part.strip()]
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(option, t(f"不是一列正整数：{text!r}", f"no list of positive whole numbers: {text!r}"), f"{option} 50,200")
    return tuple(int(part) for part in parts)


def tune(
    config: Annotated[Path, typer.Argument(help="YAML")],
    overrides: Overrides = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help=t("搜索计划的 YAML：space、fractions……", "YAML of the plan: space, fractions, …"))
    ] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help=t("一共试多少组", "how many settings to try in all"))] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", help=t("最多几分钟", "at most so many minutes"))] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help=t("一共最多多少训练词元", "at most so many training tokens"))] = None,
    out: Out = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search for settings on the validation rows."""
    from weitiao.config import load_config
    from weitiao.config_tune import load_plan
    from weitiao.decide.members import fingerprint
    from weitiao.decide.text import search_text
    from weitiao.decide.tune import Search, search
    from weitiao.decide.tune_result import conclude
    from weitiao.progress import Reporter

    run_config = load_config(config, overrides or ())
    folder = out or Path(run_config.runs) / f"tune-{fingerprint(run_config)}"
    work = Search(run_config, load_plan(plan, trials=trials, minutes=minutes, tokens=tokens), folder, Reporter(quiet))
    for _ in search(work):
        pass
    result = conclude(work, language.current())
    emit(as_json, result, lambda: search_text(result))


def auto(
    data: Annotated[str, typer.Argument(help=t("数据文件或文件夹，或 builtin", "a data file or folder, or builtin"))],
    budget: Annotated[str, typer.Option("--budget", help=t("一共多少时间，如 90s、30m、2h", "time in all, such as 90s, 30m, 2h"))] = "30m",
    model: Annotated[str, typer.Option("--model", help=t("基础模型", "the base model"))] = "builtin",
    out: Out = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """From a data file to a ready model inside a time budget."""
    from weitiao.decide.auto import Auto
    from weitiao.decide.auto import auto as run
    from weitiao.decide.text import auto_text
    from weitiao.progress import Reporter

    folder = out or Path("runs") / f"auto-{Path(data).name.split('.')[0] or 'data'}"
    work = Auto(data, model, folder, _seconds(budget), Reporter(quiet), language.current())
    result = run(work)
    emit(as_json, result, lambda: auto_text(result))


def _seconds(text: str) -> float:
    """A time such as 90s, 30m, 2h in seconds."""
    number, unit = text[:-1], {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    if unit is None or not number.replace(".", "", 1).isdecimal() or float(number) <= 0:
        raise UsageError("--budget", t(f"看不懂 {text!r}", f"cannot read {text!r}"), "--budget 90s | 30m | 2h")
    return float(number) * unit


def baselines(
    config: Annotated[Path, typer.Argument(help="YAML")],
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", "-o", help=t("放在哪个文件夹", "the folder to keep it in"))] = Path("baselines"),
    simple: Annotated[
        bool, typer.Option("--simple", help=t("只评测简单方法，不用基础模型", "the simple methods only, without the base model"))
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The simple methods and the base model on the test rows, without training."""
    from weitiao.config import load_config
    from weitiao.decide.opponents import judge_opponents
    from weitiao.progress import Reporter
    from weitiao.summary import metrics_table

    result = judge_opponents(load_config(config, overrides or ()), out, Reporter(quiet), simple)
    emit(as_json, result, lambda: "\n".join(f"{one['title'][language.current()]}\n{metrics_table(one)}" for one in result["opponents"]))


def probe(run: RunFolder, as_json: Json = False, quiet: Quiet = False) -> None:
    """What the training cost the base model in general ability."""
    from weitiao.decide.probe import probe as measure
    from weitiao.progress import Reporter
    from weitiao.summary import metrics_table

    value = measure(run, Reporter(quiet))
    emit(as_json, value, lambda: "\n".join(f"{name}\n{metrics_table({'metrics': one})}" for name, one in value["languages"].items()))
