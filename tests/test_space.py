"""The disk space that a run asks for before it begins, against what it takes at its fullest."""

from pathlib import Path

import pytest
import torch
from tiny import VOCABULARY, write_tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM

from weitiao import storage
from weitiao.config import RunConfig
from weitiao.finetune import finetune
from weitiao.progress import Reporter
from weitiao.workshop import RECORDS_BYTES, Workshop

pytestmark = pytest.mark.slow  # whole runs of the program

LOSSES = (9.0, 5.0, 9.0, 9.0, 4.0, 9.0, 3.0, 9.0)
"""After each step: the best one is first a whole checkpoint (2) and grows old, then stands between two checkpoints (5, 7)."""
METHODS = {"full": "full", "head": {"kind": "head", "last_blocks": 3}, "lora": {"kind": "lora", "rank": 64}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough for weights to outweigh names and records: 0.9 million of them."""
    folder = tmp_path_factory.mktemp("wide")
    write_tokenizer(folder, None)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=128, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=2, intermediate_size=384,
        max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=None, eos_token_id=VOCABULARY - 3,
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


class Weighing(storage.Disk):
    """Remembers the most bytes that checkpoints and result took together, looked at after every write and sync."""

    def __init__(self, run: Path) -> None:
        self.run, self.most = run, 0

    def _weigh(self) -> None:
        files = [path for path in self.run.rglob("*") if path.is_file() and path.parent != self.run]
        self.most = max(self.most, sum(path.stat().st_size for path in files if path.name != "tokenizer.json"))

    def write(self, file, data):
        super().write(file, data)
        self._weigh()

    def sync(self, file):
        super().sync(file)
        self._weigh()


@pytest.mark.parametrize(
    ("method", "precision", "validation_share"),
    [("full", "bfloat16", 0.2), ("head", "float32", 0.2), ("lora", "float32", 0.2), ("full", "float32", 0.0)],
)
def test_the_most_that_a_run_takes_is_known_before_it(
    model: Path, small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, precision: str, validation_share: float
) -> None:
    judged = {"best_by": "loss", "validate_every": 0.25} if validation_share else {}
    config = RunConfig.model_validate(
        {
            "name": "r", "runs": str(tmp_path), "model": {"path": str(model), "precision": precision, "device": "cpu"},
            "data": {"train": str(small_csv), "validation_share": validation_share}, "method": METHODS[method],
            "train": {"max_steps": 8, "batch_rows": 12, "checkpoint": {"every_steps": 2, "keep": 2}, **judged},
            "evaluate": {"baselines": False, "before": False, "after": False},
        }
    )  # fmt: skip
    losses = iter(LOSSES)
    if validation_share:
        monkeypatch.setattr("weitiao.judging.validate_labels", lambda *_: {"n": 9, "loss": next(losses)})
    disk = Weighing(tmp_path / "r")
    monkeypatch.setattr(storage, "disk", disk)
    predicted = Workshop(config, Reporter(quiet=True)).disk_bytes()
    finetune(config)
    assert not list(losses) or not validation_share  # every one was asked for: the order of saves is the one meant
    assert abs(predicted - RECORDS_BYTES - disk.most) <= 0.05 * disk.most
    assert disk.most <= predicted
