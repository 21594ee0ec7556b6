"""weitiao (微调): from a file of examples to a fine-tuned language model, with proof of how good it is and what it cost.

from weitiao import finetune, load_config, predict
run = finetune(load_config("my.yaml"))
predict(run.path, ["一段文本"])
"""

import sys
from importlib import import_module
from types import ModuleType

TYPE_CHECKING = False  # as `typing` has it, whose import takes longer than all the rest before Ctrl-C is taken care of
if TYPE_CHECKING:
    from typing import Any

    from weitiao.config import RunConfig, load_config
    from weitiao.finetune import finetune
    from weitiao.inference import evaluate, predict
    from weitiao.run import Run

__version__ = "0.1.0"
__all__ = ["Run", "RunConfig", "evaluate", "finetune", "load_config", "predict"]

_HOMES = {
    "Run": "weitiao.run", "RunConfig": "weitiao.config", "load_config": "weitiao.config", "finetune": "weitiao.finetune",
    "evaluate": "weitiao.inference", "predict": "weitiao.inference",
}  # fmt: skip


def __getattr__(name: str) -> "Any":
    """Public names are imported when they are first used: `weitiao --help` must not wait for torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'weitiao' has no attribute {name!r}")


class _Package(ModuleType):
    """Python binds a submodule to its package when it is imported; here `weitiao.finetune` and `weitiao.evaluate` stay the public
    functions."""

    def __setattr__(self, name: str, value: "Any") -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
