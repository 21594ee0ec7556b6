"""The guide's tutorial, every step that can run here: the recipe as it ships, with both names served on loopback. Only the weights are
others: the built-in model stands in for Qwen2-1.5B-Instruct."""

import json
import random
from pathlib import Path

import pytest
from commands import command
from hub_servers import Hubs

from weitiao import load_config
from weitiao.model.load import BUILTIN_FOLDER
from weitiao.run import Run

RECIPE = Path(__file__).parent.parent.parent / "recipes" / "fudan_news_qwen2_1_5b.yaml"
MODEL, DATA = "Qwen/Qwen2-1.5B-Instruct", "swift/zh_cls_fudan-news"
WORDS = {"Sports": "球队进球", "Politics": "会议决定", "Agriculture": "水稻种植", "Space": "卫星发射", "Art": "绘画展览"}
CUT = ("train.max_steps=2", "train.batch_rows=4", "evaluate.baselines=false", "model.precision=float32", "data.max_tokens=128")


def fudan_rows(count: int, seed: int) -> bytes:
    """Rows of the data set's shape: a document far longer than the budget, its candidates as text, its class."""
    draw = random.Random(seed)
    lines = []
    for i in range(count):
        label = list(WORDS)[i % len(WORDS)]
        candidates = draw.sample(list(WORDS), 3)
        if label not in candidates:
            candidates[0] = label
        text = f"第{i}篇报道。" + "".join(draw.choice(WORDS[label]) for _ in range(400))
        row = {"text": text, "category": json.dumps(candidates), "output": label}
        lines.append(json.dumps(row, ensure_ascii=False))
    return "\n".join(lines).encode()


@pytest.fixture
def served(hubs: Hubs) -> Hubs:
    hubs.serve("modelscope", "model", MODEL, {p.name: p.read_bytes() for p in sorted(BUILTIN_FOLDER.iterdir())})
    readme = b"---\nlicense: apache-2.0\n---"
    loader = b"raise SystemExit('never run')"
    files = {"README.md": readme, "zh_cls_fudan-news.py": loader, "dataset_infos.json": b"{}"}
    hubs.serve("modelscope", "dataset", DATA, files | {"train.jsonl": fudan_rows(40, 0), "test.jsonl": fudan_rows(10, 1)})
    return hubs


def test_the_recipe_says_what_the_tutorial_does() -> None:
    config = load_config(RECIPE)
    assert (config.model.path, config.data.train) == (MODEL, f"ms://{DATA}")
    assert config.data.max_tokens == 384
    assert config.method.model_dump() | {"kind": "lora", "rank": 8, "alpha": 32.0, "dropout": 0.1} == config.method.model_dump()


def test_names_data_and_prompts(served: Hubs) -> None:
    checked = command("check", RECIPE, "--json")
    assert checked.code == 0, checked.err
    assert checked.json["rows"] == {"train": 35, "validation": 5, "test": 10}  # one row of each of 5 labels for validation
    assert checked.json["totals"] == {"rows_in": 50, "used": 50, "rejected": 0, "shortened": 50}  # none lost its options
    system, user = checked.json["example"]["prompt"]
    assert system.startswith("你是一个文本分类领域的专家")
    assert user.startswith("文本:第")
    assert ",类型选型:" in user
    assert not any(".py" in path for path in served.requests())


@pytest.mark.slow
def test_training_from_names_and_again_offline(served: Hubs, tmp_path: Path) -> None:
    runs = f"runs={tmp_path / 'runs'}"
    trained = command("train", RECIPE, runs, "name=first", *CUT, "--json", "--quiet")
    assert trained.code == 0, trained.err
    first = Run.open(tmp_path / "runs" / "first")
    assert first.record["base_model"] | {"source": "modelscope", "id": MODEL, "revision": "c" * 40} == first.record["base_model"]
    source = {"source": "modelscope", "id": DATA, "revision": "c" * 40}
    assert first.record["data"]["train"] | source | {"file": "train.jsonl"} == first.record["data"]["train"]
    assert first.record["data"]["test"] | source | {"file": "test.jsonl"} == first.record["data"]["test"]
    assert first.record["data"]["validation"] | source | {"file": "train.jsonl"} == first.record["data"]["validation"]
    totals = first.read("data/ledger.json")["totals"]
    assert totals == {"rows_in": 50, "used": 50, "rejected": 0, "shortened": 50}  # every row, none lost its options or its answer
    assert (first.config.model.path, first.config.model.revision) == (f"ms://{MODEL}", "c" * 40)
    assert first.config.data.test == f"ms://{DATA}@{'c' * 40}/test.jsonl"
    assert f"{MODEL}" in (first.path / "MODEL_CARD.md").read_text(encoding="utf-8")

    for server in served.servers.values():
        server.close()
    again = command("train", first.path / "config.yaml", runs, "name=second", "model.offline=true", "--json", "--quiet")
    assert again.code == 0, again.err
    second = Run.open(tmp_path / "runs" / "second")
    assert second.record["base_model"] == first.record["base_model"]
    assert second.read("evaluation/after.json")["metrics"] == first.read("evaluation/after.json")["metrics"]
    judged = command("evaluate", first.path, "--json", "--quiet")
    assert judged.json["metrics"] == first.read("evaluation/after.json")["metrics"]
