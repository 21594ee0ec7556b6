"""The settings of the boards that show a run while it works."""

from typing import Annotated, Literal

from pydantic import Field

from weitiao.config_base import Name, Part, Whole


class MonitorConfig(Part):
    """Boards that follow metrics.jsonl, each in a process of its own: one that fails neither stops nor slows the run."""

    swanlab: Literal["off", "auto", "cloud", "local", "offline"] = "off"
    """SwanLab. `cloud` needs a key (`swanlab login`, or SWANLAB_API_KEY); `local` is for its own dashboard (`swanlab watch RUNS/swanlog`);
    `offline` is uploaded later (`swanlab sync`). `auto`: cloud where there is a key, else local where the dashboard is installed, else
    offline. Without a key, and in local and offline, no network is tried."""
    project: Name = "weitiao"
    """The project on SwanLab."""
    samples: Annotated[Whole, Field(ge=0, le=1000)] = 20
    """How many rows of the test split a board gets with their texts and answers, wrong ones first. 0: no text leaves the run folder."""
    tensorboard: bool = False
    """Write TensorBoard's event files into the run folder: `tensorboard --logdir RUNS`."""
