"""TensorBoard's event files, without torch: the board's own writer."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from weitiao.config_monitor import MonitorConfig
from weitiao.monitor.board import markdown_table, matrix_rows


class TensorBoard:
    """Event files under ``RUN/tensorboard``. A run that goes on adds a file: the board joins them."""

    def __init__(self, run: Path, _record: Mapping[str, Any], config: Mapping[str, Any], _settings: MonitorConfig) -> None:
        self.folder = run / "tensorboard"
        self._writer = EventFileWriter(str(self.folder))
        rows = [[key, value] for key, value in sorted(config.items())]
        self._add([_text("config", markdown_table(["key", "value"], rows))], 0)

    @property
    def facts(self) -> dict[str, Any]:
        """``folder``."""
        return {"folder": str(self.folder)}

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name at a step."""
        self._add([Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()], step)

    def show(self, step: int, matrix: Mapping[str, Any] | None, samples: list[dict[str, Any]]) -> None:
        """Tables, as texts."""
        if matrix is not None:
            self._add([_text("test/confusion_matrix", markdown_table(*matrix_rows(matrix)))], step)
        if samples:
            rows = [list(row.values()) for row in samples]
            self._add([_text("test/samples", markdown_table(list(samples[0]), rows))], step)

    def close(self, _state: str, _error: str | None) -> None:
        """Flush to disk."""
        self._writer.close()

    def _add(self, values: list[Any], step: int) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        self._writer.flush()


def _text(tag: str, text: str) -> Any:
    data = SummaryMetadata.PluginData(plugin_name="text", content=TextPluginData(version=0).SerializeToString())
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
    return Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=data), tensor=tensor)
