"""Python functions that a user names in the configuration (`module:function`) and that run on the user's own machine.

The module is looked for in the folder in which the command runs, then where Python looks for any other.
"""

import importlib
import math
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from weitiao.errors import ConfigError
from weitiao.language import t

_NAME = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")


def _function_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(t("要写成 模块:函数（module:function）", "must be written module:function"))
    return value


FunctionName = Annotated[str, AfterValidator(_function_name)]
"""`module:function`, such as `my_metrics:politeness`."""


def load_function(name: str, where: str) -> Callable[..., Any]:
    """The function of a name; ``where`` is the setting that names it. Raises ConfigError."""
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = vars(importlib.import_module(module)).get(attribute)
    except Exception as error:  # whatever the user's module raises
        cause = t(f"{module} 载入不了：{_said(error)}", f"{module} cannot be imported: {_said(error)}")
        remedy = t(f"把 {module}.py 放在当前文件夹，并改好它", f"put {module}.py into the working folder and correct it")
        raise ConfigError(where, cause, remedy) from None
    if not callable(found):
        cause = t(f"{module} 里没有函数 {attribute}", f"{module} has no function {attribute}")
        raise ConfigError(where, cause, t("检查名字：模块:函数", "check the name: module:function"))
    function: Callable[..., Any] = found
    return function


def numbers(function: Callable[..., Any], name: str, where: str, count: int, *arguments: Sequence[Any]) -> list[float]:
    """What a user's function gives for ``count`` rows: one finite number each. Raises ConfigError where it raises, or gives anything
    else."""
    remedy = t(f"改正函数 {name}", f"correct the function {name}")
    try:
        given = list(function(*arguments))
    except Exception as error:  # whatever the user's function raises
        raise ConfigError(where, t(f"{name} 出错：{_said(error)}", f"{name} failed: {_said(error)}"), remedy) from None
    if len(given) != count:
        cause = t(f"{name} 给了 {len(given)} 个数，应有 {count} 个", f"{name} gave {len(given)} numbers for {count} rows")
        raise ConfigError(where, cause, remedy)
    for place, value in enumerate(given):
        if not _is_number(value):
            cause = t(f"{name} 给第 {place + 1} 行的是 {value!r:.80}", f"{name} gave {value!r:.80} for row {place + 1}")
            raise ConfigError(where, cause, t("每行给一个有限的数", "give one finite number for each row"))
    return [float(value) for value in given]


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, str) and math.isfinite(value)
    except TypeError:
        return False


def _said(error: Exception) -> str:
    """The error in one line, with the last line of code that it passed through."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{place}"
