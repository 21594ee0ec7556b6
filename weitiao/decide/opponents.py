"""What every fine-tuned model has to beat, on the same test rows: the simple methods, the base model as it is (zero-shot), and the base
model that is shown some training rows as earlier turns of the chat (few-shot; Brown et al. 2020, arXiv:2005.14165)."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from weitiao import cost, storage
from weitiao.config import RunConfig
from weitiao.data.render import ChatEncoder
from weitiao.evaluate.judge import Judgement, judge_baselines, judge_labels, judge_text
from weitiao.evaluate.predict import Predictor
from weitiao.language import t
from weitiao.progress import Reporter
from weitiao.records import Example, Message
from weitiao.tasks.classification import Prompt
from weitiao.workshop import Workshop

MOST_SHOTS = 16
_ROOM_FOR_ANSWER = 64
RESULT = "opponents.json"


def judge_opponents(config: RunConfig, out: Path, reporter: Reporter, simple: bool = False) -> dict[str, Any]:
    """Judge all opponents (``simple``: without the base model); write ``out/opponents.json`` and ``out/predictions-<name>.jsonl`` and
    return the former. Raises UserError."""
    work = Workshop(config, reporter)
    out.mkdir(parents=True, exist_ok=True)
    base = {"parameters": work.folder.parameters, "bytes": sum(file.stat().st_size for file in work.folder.path.glob("*.safetensors"))}
    entries: list[dict[str, Any]] = []
    if work.data.task and work.data.dataset.splits["test"]:
        entries += _baselines(work, out)
    if work.data.dataset.splits["test"] and not simple:
        entries += _base_model(work, out)
    rows = {split: len(examples) for split, examples in work.data.dataset.splits.items()}
    result = {
        "schema": 1,
        "task": config.task.kind,
        "base_model": base,
        "files": work.data.dataset.ledger.hashes,
        "rows": rows,
        "opponents": entries,
    }
    storage.write_json(out / RESULT, result)
    return result


def _baselines(work: Workshop, out: Path) -> list[dict[str, Any]]:
    task = work.data.task
    assert task is not None  # the caller's branch
    work.reporter.say(t("评测基线（多数类、TF-IDF + 线性模型）", "judging the baselines (majority class, TF-IDF with a linear model)"))
    seen = [prompt.example for prompt in work.data.prompts["test"]]
    cost.reset_peak(work.device)
    judged, _, predictions = judge_baselines(task, work.data.dataset.splits["train"], seen, work.config.seed)
    memory = cost.peak_memory_bytes(work.device)
    gold = {example.id: example for example in seen}
    for entry in judged["baselines"]:
        rows = [
            {"id": row["id"], "file": gold[row["id"]].file, "label": row["label"], "prediction": row[entry["name"]],
             "correct": row["label"] == row[entry["name"]]}
            for row in predictions
        ]  # fmt: skip
        storage.write_json_lines(out / f"predictions-{entry['name']}.jsonl", iter(rows))
    return [{"kind": "baseline", "peak_memory_bytes": memory, **entry} for entry in judged["baselines"]]


def _base_model(work: Workshop, out: Path) -> list[dict[str, Any]]:
    cost.reset_peak(work.device)
    model, settings, seed = work.causal_model(), work.config.evaluate, work.config.seed
    zero = ("zero_shot", {"zh": "基础模型，零样本", "en": "base model, zero-shot"})
    if not work.data.task:
        passages = work.data.passages["test"]
        with work.reporter.bar(zero[1]["zh"], sum(len(passage.blocks) for passage in passages)) as bar:
            judged = judge_text(model, work.config.task.kind, passages, settings.batch_tokens, seed, bar.advance)
        return [_entry(work, out, *zero, judged)]
    predictor = Predictor(model, work.encoder, work.data.task, settings.batch_tokens)
    prompts = work.data.prompts["test"]
    with work.reporter.bar(t(zero[1]["zh"], zero[1]["en"]), len(prompts)) as bar:
        entries = [_entry(work, out, *zero, judge_labels(predictor, prompts, seed, bar.advance))]
    longest = int(work.folder.config.get("max_position_embeddings") or 2048)
    shots = choose_shots(work.data.prompts["train"], work.data.task.labels, longest // 2, seed)
    if shots:
        shown = [with_shots(work.encoder, prompt, shots, longest) for prompt in prompts]
        title = {"zh": f"基础模型，{len(shots)} 个示例", "en": f"base model, {len(shots)}-shot"}
        with work.reporter.bar(t(title["zh"], title["en"]), len(shown)) as bar:
            judged = judge_labels(predictor, shown, seed, bar.advance)
        fewer = sum(prompt.example.meta["shots"] < len(shots) for prompt in shown)
        extra = {"shots": len(shots), "shown": [shot.id for shot in shots], "rows_with_fewer": fewer}
        entries.append(_entry(work, out, "few_shot", title, judged) | extra)
    return entries


def _entry(work: Workshop, out: Path, name: str, title: dict[str, str], judged: Judgement) -> dict[str, Any]:
    storage.write_json_lines(out / f"predictions-{name}.jsonl", iter(judged.predictions))
    kept = {key: judged.evaluation[key] for key in ("metrics", "seconds", "rows_per_second")}
    return {"kind": "base", "name": name, "title": title, "peak_memory_bytes": cost.peak_memory_bytes(work.device), **kept}


def choose_shots(prompts: Sequence[Prompt], labels: Sequence[str], most_tokens: int, seed: int) -> list[Example]:
    """Training rows to show: of each label in turn a row drawn by ``seed`` among the shorter half of its rows, one each but
    four rows at least and MOST_SHOTS at most, as far as they fit into ``most_tokens`` together, in random order."""
    draw = random.Random(seed)
    waiting: dict[str, list[Prompt]] = {}
    for label in labels:
        rows = sorted((p for p in prompts if p.example.targets[0] == label), key=lambda p: len(p.ids))
        waiting[label] = rows[: (len(rows) + 1) // 2]
        draw.shuffle(waiting[label])
    chosen: list[Example] = []
    room, wanted = most_tokens, min(MOST_SHOTS, max(4, len(labels)))
    while len(chosen) < wanted and any(waiting.values()):
        for label in labels:
            if waiting[label] and len(chosen) < wanted:
                prompt = waiting[label].pop()
                if len(prompt.ids) <= room:
                    room -= len(prompt.ids)
                    chosen.append(prompt.example)
    draw.shuffle(chosen)
    return chosen


def with_shots(encoder: ChatEncoder, prompt: Prompt, shots: Sequence[Example], longest: int) -> Prompt:
    """The prompt after the shots as earlier turns, as many of them as fit; ``meta["shots"]`` says how many."""
    *system, user = prompt.example.prompt
    for number in range(len(shots), 0, -1):
        shown = [turn for shot in shots[:number] for turn in (shot.prompt[-1], Message("assistant", shot.targets[0]))]
        ids = encoder.chat((*system, *shown, user))
        if len(ids) + _ROOM_FOR_ANSWER <= longest:
            return Prompt(replace(prompt.example, prompt=(*system, *shown, user), meta={"shots": number}), ids, len(ids))
    return replace(prompt, example=replace(prompt.example, meta={"shots": 0}))
