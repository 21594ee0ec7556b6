"""Learning from preferences as a user meets it: rows in, a run folder out, gone on with after an interruption, judged on more pairs."""

import json
import random
import shutil
from pathlib import Path

import pytest
from commands import command, refused
from cut import cut_short, log, weights
from tiny import load
from transformers import AutoModelForSequenceClassification

from weitiao.config import RunConfig
from weitiao.data.chats import Tags, read_pair
from weitiao.data.columns import Columns
from weitiao.data.render import ChatEncoder
from weitiao.finetune import finetune
from weitiao.inference import Tuned
from weitiao.model.load import check_folder, load_tokenizer
from weitiao.model.trees import score_trees
from weitiao.prepare import prepare
from weitiao.run import Run

pytestmark = pytest.mark.slow  # whole runs of the program

LANGUAGES = pytest.mark.parametrize("lang", ["zh", "en"])
KINDS = {
    "dpo-lora": {"objective": {"kind": "dpo", "sft_weight": 0.1}, "method": {"kind": "lora", "rank": 4, "dropout": 0.1}},
    "dpo-full": {"objective": "dpo", "method": "full"},
    "orpo": {"objective": "orpo", "method": {"kind": "lora", "rank": 4}},
    "reward-lora": {"objective": "reward", "method": {"kind": "lora", "rank": 4}},
    "reward-head": {"objective": "reward", "method": {"kind": "head", "last_blocks": 1}},
}


def rows(number: int) -> list[dict]:
    draw = random.Random(0)
    return [
        {
            "prompt": f"第{i}条{draw.choice(['球', '雨', '钱'])}",
            "chosen": "好" + "呀" * draw.randrange(3),
            "rejected": "坏" + "啊" * draw.randrange(4),
        }
        for i in range(number)
    ]


def write(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", [*rows(60), {**rows(1)[0], "prompt": "无", "rejected": ""}])


def settings(model: Path, data: Path, runs: Path, name: str) -> RunConfig:
    tree = {
        "name": name, "runs": str(runs), "model": {"path": str(model), "precision": "float32", "device": "cpu"}, "task": "preference",
        "data": {"train": str(data), "validation_share": 0.2, "test_share": 0.2}, "optim": {"learning_rate": 3e-3},
        "train": {"epochs": 3, "batch_rows": 8, "micro_batch_tokens": 300, "checkpoint": {"every_steps": 4}},
    }  # fmt: skip
    return RunConfig.model_validate(tree | KINDS[name])


@pytest.fixture(scope="module")
def runs(tiny_model, data, tmp_path_factory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: finetune(settings(tiny_model, data, folder, name)) for name in KINDS}


@pytest.mark.parametrize("name", KINDS)
def test_a_run_learns_which_answer_is_better(runs, name):
    run = runs[name]
    before, after = run.read("evaluation/before.json"), run.read("evaluation/after.json")
    assert before["task"] == after["task"] == "preference"
    assert before["n"] == after["n"] == 12
    assert before["metrics"].keys() == {"accuracy"}
    scores = {"accuracy", "margin"} if name.startswith("reward") else {"accuracy", "reward_accuracy", "reward_margin"}
    assert after["metrics"].keys() == scores
    for metric in after["metrics"].values():
        assert metric["low"] <= metric["value"] <= metric["high"]
    learnt = after["metrics"]["margin" if name.startswith("reward") else "reward_margin"]
    assert learnt["low"] > 0, "the better answers are ahead on rows that were not trained"
    lines = run.read_lines("evaluation/predictions-after.jsonl")
    assert sum(line["correct"] for line in lines) / 12 == after["metrics"]["accuracy"]["value"]
    steps = [line for line in run.read_lines("metrics.jsonl") if line["type"] == "step"]
    assert steps[-1]["margin"] > steps[0]["margin"]
    ledger = run.read("data/ledger.json")
    assert ledger["totals"] == {"rows_in": 61, "used": 60, "rejected": 1, "shortened": 0}
    assert ledger["files"][0]["rejected_rows"] == [{"line": 61, "reason": "no_rejected"}]
    assert [pair["b"] for pair in run.read("evaluation/comparison.json")["pairs"]] == ["before"]
    assert "preference" in (run.path / "report.html").read_text(encoding="utf-8").casefold()


def test_at_the_first_step_dpo_knows_nothing(runs):
    """The reference is the model itself: a margin of 0 and a loss of log 2."""
    first = next(line for line in runs["dpo-full"].read_lines("metrics.jsonl") if line["type"] == "step")
    assert first["margin"] == pytest.approx(0, abs=1e-5)
    assert first["loss"] == pytest.approx(0.693147, abs=1e-5)


@pytest.mark.parametrize("name", ["dpo-lora", "reward-lora"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(runs, name, tiny_model, data, tmp_path, monkeypatch):
    config = settings(tiny_model, data, tmp_path, name)
    cut_short(config, monkeypatch, 6)
    run = finetune(config)
    assert [entry["after"] for entry in run.record["resumed"]] == ["failed"]
    assert weights(run.path) == weights(runs[name].path)
    assert log(run.path) == log(runs[name].path)


@pytest.mark.parametrize("name", ["dpo-lora", "dpo-full", "reward-lora", "reward-head"])
def test_the_result_is_judged_again_the_same(runs, name, tmp_path):
    run = runs[name]
    result = command("evaluate", run.path, "--json")
    assert result.code == 0, result.err
    for metric, value in result.json["metrics"].items():
        assert value == pytest.approx(run.read("evaluation/after.json")["metrics"][metric])
    more = write(tmp_path / "more.jsonl", rows(9))
    result = command("evaluate", run.path, "--data", more, "--json")
    assert result.code == 0, result.err
    assert result.json["n"] == 9
    assert "preference" in refused("predict", run.path, "你好")


def test_the_result_of_a_reward_opens_in_transformers(runs):
    """One number per answer, at its end token: transformers' own class says the same of the whole text."""
    folder = runs["reward-head"].path / "model"
    theirs = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    import torch

    tuned = Tuned.load(runs["reward-head"].path)
    tree = prepare(tuned.config, tuned.encoder, {"max_position_embeddings": 256}).trees["test"][0]
    line = runs["reward-head"].read_lines("evaluation/predictions-after.jsonl")[0]
    for branch, score in zip(tree.branches, (line["chosen_score"], line["rejected_score"]), strict=True):
        logits = theirs(input_ids=torch.tensor([tree.prefix + branch.tokens])).logits
        assert float(logits[0, 0].detach()) == pytest.approx(score, abs=1e-5)


def test_a_pair_is_the_template_of_both_chats(tiny_model, tmp_path):
    """The prompt once and both answers up to their end token: the ids of the official template, the answers' tokens trained."""
    turns = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}, {"role": "user", "content": "再问"}]
    row = {"conversations": turns, "chosen": {"role": "assistant", "content": "好答"}, "rejected": {"role": "assistant", "content": "好坏"}}
    path = write(tmp_path / "p.jsonl", [row])
    tree = {"task": "preference", "objective": "dpo", "data": {"train": str(path), "validation_share": 0, "test_share": 0}}
    folder = check_folder(tiny_model, "local")
    encoder = ChatEncoder(load_tokenizer(folder), str(tiny_model))
    (pair,) = prepare(RunConfig.model_validate(tree), encoder, folder.config).trees["train"]
    for branch, answer in zip(pair.branches, ("好答", "好坏"), strict=True):
        chat = [*turns, {"role": "assistant", "content": answer}]
        text = encoder.tokenizer.apply_chat_template(chat, tokenize=False)
        assert encoder.tokenizer.decode(list(pair.prefix + branch.tokens)) + "\n" == text
        assert encoder.tokenizer.decode([t for t, on in zip(branch.tokens, branch.trained, strict=True) if on]) == f"{answer}<|im_end|>"
    assert encoder.tokenizer.decode(list(pair.prefix)).endswith("assistant\n")  # what the answers share is trained, so it is in both
    assert all(len(s) == b.num_targets for s, b in zip(score_trees(load(tiny_model), [pair], 99)[0], pair.branches, strict=True))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"rejected": None}, "no_rejected"),
        ({"rejected": " "}, "no_rejected"),
        ({"chosen": ""}, "no_answer"),
        ({"rejected": "好"}, "same_answers"),
        ({"prompt": ""}, "no_prompt"),
        ({"chosen": [{"role": "user", "content": "a"}]}, "no_answer"),
        ({"rejected": [{"role": "assistant", "content": "b"}, {"role": "user", "content": "a"}]}, "no_rejected"),
        ({"rejected": [{"role": "user", "content": "别的"}, {"role": "assistant", "content": "b"}]}, "bad_pair"),
        ({"rejected": [{"role": "assistant", "content": "b"}, {"role": "assistant", "content": "c"}]}, "bad_pair"),
    ],
)
def test_rows_that_are_no_pair_say_why(values, reason):
    row = {"prompt": "问", "chosen": "好", "rejected": "坏"} | values
    columns = Columns(prompt="prompt", chosen="chosen", rejected="rejected")
    found = read_pair(row, "preference", columns, Tags())
    assert isinstance(found, str)
    assert found.partition(":")[0] == reason


@LANGUAGES
@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"rejected": ""}, "bad.jsonl:1"),
        ({"rejected": "好"}, "bad.jsonl:1"),
        ({"chosen": [{"role": "user", "content": "a"}]}, "bad.jsonl:1"),
    ],
)
def test_a_file_without_one_pair_is_refused(change, shown, lang, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("bad.jsonl"), [{"prompt": f"问{i}", "chosen": "好", "rejected": "坏"} | change for i in range(9)])
    config = {"model": str(tiny_model), "task": "preference", "objective": "dpo", "data": {"train": "bad.jsonl"}}
    Path("c.yaml").write_text(json.dumps(config), encoding="utf-8")
    assert shown in refused("check", "c.yaml", lang=lang)
    write(Path("chats.jsonl"), [{"prompt": "问", "completion": "好"}] * 9)
    assert "rejected" in refused("train", "c.yaml", "data.train=chats.jsonl", lang=lang)
    assert not Path("runs").exists()


def test_init_writes_a_configuration_that_trains(tiny_model, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(data, "pairs.jsonl")
    assert command("init", "pairs.jsonl", "--out", "c.yaml").code == 0
    result = command("train", "c.yaml", f"model={tiny_model}", "train.max_steps=1", "--json")
    assert result.code == 0, result.err


def test_the_recipe_runs(tiny_model, data, tmp_path):
    recipe = Path(__file__).parent.parent / "recipes" / "preference_dpo.yaml"
    given = [f"data.train={data}", f"model={tiny_model}", "train.max_steps=2", f"runs={tmp_path}"]
    result = command("train", recipe, *given, "--json")
    assert result.code == 0, result.err
