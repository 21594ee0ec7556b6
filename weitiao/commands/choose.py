"""The commands that help to choose: `compare`, and what it is made of: `baselines`, `probe`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

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
    if folders:
        table = compare_runs(folders, options)
    else:
        table = compare_configs([load_config(path, overrides) for path in paths] or demo_configs(overrides), options)
    emit(as_json, table, lambda: comparison_text(table))


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


def baselines(
    config: Annotated[Path, typer.Argument(help="YAML")],
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", "-o", help=t("放在哪个文件夹", "the folder to keep it in"))] = Path("baselines"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The simple methods and the base model on the test rows, without training."""
    from weitiao.config import load_config
    from weitiao.decide.opponents import judge_opponents
    from weitiao.progress import Reporter
    from weitiao.summary import metrics_table

    result = judge_opponents(load_config(config, overrides or ()), out, Reporter(quiet))
    emit(as_json, result, lambda: "\n".join(f"{one['title'][language.current()]}\n{metrics_table(one)}" for one in result["opponents"]))


def probe(run: RunFolder, as_json: Json = False, quiet: Quiet = False) -> None:
    """What the training cost the base model in general ability."""
    from weitiao.decide.probe import probe as measure
    from weitiao.progress import Reporter
    from weitiao.summary import metrics_table

    value = measure(run, Reporter(quiet))
    emit(as_json, value, lambda: "\n".join(f"{name}\n{metrics_table({'metrics': one})}" for name, one in value["languages"].items()))
