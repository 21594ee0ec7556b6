"""What a training cost the base model in general ability: bits per character on fixed texts of no task, before and after, per language.

The texts (`builtin/probe.jsonl`, 24 Chinese and 24 English paragraphs written for this purpose) are in no training data. More bits per
character after training than before is forgetting (McCloskey & Cohen 1989, "Catastrophic interference"). It says nothing about the
following of instructions or knowledge beyond what these texts need.
"""

import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import weitiao.builtin
from weitiao.data.render import ChatEncoder
from weitiao.errors import DataError
from weitiao.evaluate.judge import judge_text
from weitiao.evaluate.statistics import Rows, bootstrap_many
from weitiao.hub.resolve import localise_model
from weitiao.language import current, t
from weitiao.model.heads import has_score_head, trunk
from weitiao.model.load import find_model, load_causal, load_tokenizer
from weitiao.model.result import load_result
from weitiao.progress import Reporter
from weitiao.records import Example, Passage
from weitiao.report.build import build_pages
from weitiao.run import Run
from weitiao.tasks.text import encode_documents

BLOCK_TOKENS, BATCH_TOKENS, SEED = 512, 8192, 0


@cache
def probe_texts() -> tuple[Example, ...]:
    """The texts; ``meta`` names the language."""
    path = Path(weitiao.builtin.__path__[0]) / "probe.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return tuple(
        Example(f"{row['language']}:{i}", (), (row["text"],), row["text"], path.name, i, meta={"language": row["language"]})
        for i, row in enumerate(rows, start=1)
    )


def probe(folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Measure the base model and the result of a run; write ``evaluation/probe.json`` and return it; the
    report and the model card then show it. Raises DataError or ModelError."""
    run = Run.open(folder)
    if not (run.path / "model").is_dir():
        raise DataError(str(folder), t("还没有训练结果", "has no result yet"), t("先把训练跑完：weitiao train", "finish the training"))
    config = run.config.model.model_copy(update={"path": run.record["base_model"]["path"], "revision": None})
    base_folder = find_model(localise_model(config))
    encoder = ChatEncoder(load_tokenizer(base_folder), str(base_folder.path))
    passages = encode_documents(encoder, probe_texts(), BLOCK_TOKENS)
    reporter.say(t("测量遗忘：通用文本上的比特/字符", "measuring forgetting: bits per character of general texts"))
    result, _, _ = load_result(run.path / "model", config)
    device = next(result.parameters()).device
    base = load_causal(base_folder, device, next(result.parameters()).dtype)
    before = _nats(base, passages)
    if has_score_head(result):  # it has no output matrix: the base model's reads its trunk
        trunk(base).load_state_dict(trunk(result).state_dict())
        result = base
    else:
        del base
    after = _nats(result, passages)
    value = {"schema": 1, "dtype": run.record["base_model"]["dtype"], "languages": compare_passages(passages, before, after)}
    run.write("evaluation/probe.json", value)
    build_pages(run.path, run.config.report.language or current())
    return value


@torch.inference_mode()
def _nats(model: nn.Module, passages: Sequence[Passage]) -> np.ndarray:
    rows = judge_text(model, "text", passages, BATCH_TOKENS, SEED).predictions
    return np.array([row["nats"] for row in rows])


def compare_passages(passages: Sequence[Passage], before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """Per language bits per character before, after, and their difference on the same passages (paired bootstrap over passages).
    ``before``, ``after``: −log p of each passage in nats [n]."""
    found = {}
    spoken = np.array([passage.example.meta["language"] for passage in passages])
    characters = np.array([passage.characters for passage in passages])
    for language in sorted(set(spoken)):
        members = np.flatnonzero(spoken == language)
        bits = np.stack([before[members], after[members], after[members] - before[members]]) / math.log(2)
        length = characters[members]

        def rates(rows: Rows, bits: np.ndarray = bits, length: np.ndarray = length) -> np.ndarray:
            return np.asarray(bits[:, rows].sum(axis=1) / length[rows].sum())

        names = ("before", "after", "difference")
        found[str(language)] = {name: value.as_dict() for name, value in zip(names, bootstrap_many(rates, len(members), SEED), strict=True)}
    return found
