"""Learning by rewards as a user meets it: answers drawn and rewarded, a run folder that shows how, and clear refusals."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import command, refused
from cut import cut_short, log, weights
from tiny import write_model

from weitiao.config import RunConfig
from weitiao.config_objectives import GrpoObjective
from weitiao.config_rewards import FormatReward, FunctionReward, LengthReward, ScoreReward
from weitiao.errors import ConfigError, DataError
from weitiao.finetune import finetune
from weitiao.progress import Reporter
from weitiao.records import Example, Message
from weitiao.rewards import Rewards, Written
from weitiao.rollouts import asked_of
from weitiao.run import Run
from weitiao.summary import run_table
from weitiao.workshop import Workshop

LANGUAGES = pytest.mark.parametrize("lang", ["zh", "en"])
FUNCTIONS = '''"""A user's rewards."""

def letters(prompts, answers, targets):
    """The share of ASCII characters: what a random model can learn."""
    assert len(prompts) == len(answers) == len(targets)
    return [sum(c.isascii() for c in a) / max(1, len(a)) for a in answers]

def one_short(prompts, answers, targets):
    return [0.0] * (len(answers) - 1)

def no_number(prompts, answers, targets):
    return [float("nan")] * len(answers)

def broken(prompts, answers, targets):
    return 1 / 0
'''
OBJECTIVE = {
    "kind": "grpo", "answer_tokens": 6, "group": 6,
    "rewards": [{"kind": "function", "function": "own_rewards:letters"},
                {"kind": "length", "free_tokens": 4, "most_tokens": 8, "weight": 0.1}],
}  # fmt: skip
KINDS = {
    "lora": {"objective": OBJECTIVE | {"kl_weight": 0.01, "updates": 2}, "method": {"kind": "lora", "rank": 8}},
    "full": {"objective": OBJECTIVE | {"form": "dr_grpo", "overlong": "leave_out"}, "method": "full"},
}


@pytest.fixture(scope="module", autouse=True)
def _functions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("functions")
    (folder / "own_rewards.py").write_text(FUNCTIONS, encoding="utf-8")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def settings(model: Path, data: Path, runs: Path, name: str) -> RunConfig:
    tree = {
        "name": name, "runs": str(runs), "model": {"path": str(model), "precision": "float32", "device": "cpu"},
        "data": {"train": str(data), "validation_share": 0.2, "test_share": 0.2}, "optim": {"learning_rate": 2e-2},
        "train": {"max_steps": 8, "epochs": 9, "batch_rows": 6, "micro_batch_tokens": 600, "validate_every": 2,
                  "checkpoint": {"every_steps": 3}},
    }  # fmt: skip
    return RunConfig.model_validate(tree | KINDS[name])


@pytest.fixture(scope="module")
def runs(tiny_model, small_csv, tmp_path_factory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: finetune(settings(tiny_model, small_csv, folder, name)) for name in KINDS}


def test_the_reward_rises_and_the_folder_shows_how(runs):
    run = runs["lora"]
    steps = [line for line in run.read_lines("metrics.jsonl") if line["type"] == "step"]
    assert len(steps) == 8
    wanted = {"reward", "reward/letters", "reward/length", "answer_tokens", "overlong", "silent_groups", "entropy", "kl", "clipped"}
    assert wanted <= steps[0].keys()
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert steps[0]["reward"] == pytest.approx(steps[0]["reward/letters"] + 0.1 * steps[0]["reward/length"])
    assert [s["reward"] for s in steps[::2]] == [s["reward"] for s in steps[1::2]], "two updates on each set"
    assert steps[-1]["reward"] > steps[0]["reward"] + 0.05
    after, comparison = run.read("evaluation/after.json"), run.read("evaluation/comparison.json")
    assert {"reward", "reward/letters", "reward/length", "answer_tokens", "overlong"} == after["metrics"].keys()
    (pair,) = comparison["pairs"]
    assert comparison["metric"] == "reward"
    before = run.read("evaluation/before.json")["metrics"]["reward"]["value"]
    assert pair["difference"]["value"] == pytest.approx(after["metrics"]["reward"]["value"] - before)
    drawn = run.read_lines("rollouts.jsonl")
    assert [line["step"] for line in drawn] == [1, 3, 5, 7]
    assert all(len(line["answers"]) == 4 for line in drawn)
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert drawn[-1]["answers"][0]["text"][:2] in page or "⟨U+" in page


def test_the_table_at_the_end_has_a_row_for_each_part_of_the_reward(runs):
    run = runs["lora"]
    shown, value = run_table(run), run.read("evaluation/after.json")["metrics"]["reward/letters"]["value"]
    assert f"{value:.3f} [" in shown
    assert "letters" in shown
    assert "McNemar" not in shown


def test_answers_that_were_cut_off_teach_nothing_when_left_out(runs):
    """A random model ends no answer within six tokens: no step has anything to learn, none divides by zero."""
    steps = [line for line in runs["full"].read_lines("metrics.jsonl") if line["type"] == "step"]
    cut_off = [line for line in steps if line["overlong"] == 1.0]
    assert cut_off
    assert all(line["grad_norm"] == 0.0 for line in cut_off)


@pytest.mark.parametrize("after", [4, 5])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(runs, after, tiny_model, small_csv, tmp_path, monkeypatch):
    """A checkpoint stands between two sets of answers (step 4: asked for after step 3), and the next sets are drawn again the same."""
    config = settings(tiny_model, small_csv, tmp_path, "lora")
    folder = cut_short(config, monkeypatch, after)
    assert {p.name for p in (folder / "checkpoints").glob("step-*")} >= ({"step-4"} if after == 5 else set())
    run = finetune(config)
    assert weights(run.path) == weights(runs["lora"].path)
    assert log(run.path) == log(runs["lora"].path)
    assert (run.path / "rollouts.jsonl").read_bytes() == (runs["lora"].path / "rollouts.jsonl").read_bytes()


def answers(*texts: str) -> list[Written]:
    example = Example("train:1", (Message("user", "问"),), ("甲", "乙"), "", "f.csv", 1)
    return [Written(example, text, len(text) + 1) for text in texts]


def test_rewards_are_weighed_and_kept_apart():
    parts = (
        ScoreReward(),
        ScoreReward(metric="exact", weight=2.0),
        ScoreReward(metric="json"),
        FormatReward(pattern="[甲乙]", weight=0.5),
        LengthReward(free_tokens=2, most_tokens=4),
        FunctionReward(function="own_rewards:letters", weight=-1.0),
    )
    total, found = Rewards(parts, 100).score(answers("甲", "乙。", "{}ab"))
    assert {name: values.tolist() for name, values in found.items()} == {
        "label": [1, 0, 0], "exact": [1, 1, 0], "json": [0, 0, 0], "format": [1, 0, 0], "length": [0, -0.5, -1.0], "letters": [0, 0, 1],
    }  # fmt: skip
    assert total.tolist() == [1 + 2 + 0.5, 2 - 0.5, -1.0 - 1.0]
    twice = Rewards((ScoreReward(), ScoreReward()), 100)
    assert twice.names == ("label", "label2")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("one_short", "给了 1 个数|gave 1 numbers"),
        ("no_number", "nan"),
        ("broken", "ZeroDivisionError"),
        ("none", "none"),
        ("json:none", "json"),
    ],
)
def test_a_function_that_fails_is_named(name, shown):
    function = name if ":" in name else f"own_rewards:{name}"
    with pytest.raises(ConfigError, match=shown) as caught:
        Rewards((FunctionReward(function=function),), 100).score(answers("甲", "乙"))
    assert "objective.rewards[0]" in str(caught.value)


@LANGUAGES
@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"group": 1}, "objective.group"),
        ({"rewards": []}, "objective.rewards"),
        ({"rewards": [{"kind": "function", "function": "own_rewards"}]}, "function"),
        ({"rewards": [{"kind": "length", "free_tokens": 4, "most_tokens": 4}]}, "most_tokens"),
        ({"rewards": [{"kind": "model", "run": "nowhere"}]}, "nowhere"),
    ],
)
def test_what_cannot_be_rewarded_is_refused(change, shown, lang, tiny_model, small_csv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objective = {"kind": "grpo", "answer_tokens": 2} | change
    tree = {"model": str(tiny_model), "objective": objective, "data": {"train": str(small_csv)}, "train": {"max_steps": 1}, "name": "r"}
    Path("c.yaml").write_text(json.dumps(tree), encoding="utf-8")
    assert shown in refused("train", "c.yaml", lang=lang)


@pytest.mark.parametrize("name", ["nowhere:f", "own_rewards:broken", "own_rewards:no_number", "own_rewards:one_short"])
def test_a_function_that_fails_in_a_run_is_the_users_to_mend(name, tiny_model, small_csv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objective = {"kind": "grpo", "answer_tokens": 2, "rewards": [{"kind": "function", "function": name}]}
    tree = {"model": str(tiny_model), "objective": objective, "data": {"train": str(small_csv)}, "name": "r"}
    Path("c.yaml").write_text(json.dumps(tree), encoding="utf-8")
    result = command("train", "c.yaml")
    assert result.code == 2
    assert "error: objective.rewards[0]" in result.err
    assert "What to do: " in result.err
    assert "Traceback" not in result.err


def test_the_tools_of_chats_stand_in_the_prompts_that_are_answered(tmp_path):
    """The rows that SFT would learn begin with the same tokens; a model whose template has no place for tools rejects them by name."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    rows = [
        {"tools": [tool], "messages": [{"role": "user", "content": f"天气{i}？"}, {"role": "assistant", "content": "晴"}]} for i in range(8)
    ]
    data = tmp_path / "calls.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    tree = {"task": "generation", "objective": OBJECTIVE | {"answer_tokens": 2}, "data": {"train": str(data), "max_tokens": 900}}
    model = write_model(tmp_path / "calling", tied=True, template="qwen2_5")
    work = Workshop(RunConfig.model_validate(tree | {"model": str(model)}), Reporter(quiet=True))
    asked = asked_of(work.data, work.encoder, "train")
    assert [one.ids for one in asked] == [row.tokens[: row.trained.index(True)] for row in work.data.rows]
    assert all('"name": "weather"' in work.encoder.tokenizer.decode(list(one.ids)) for one in asked)
    plain = write_model(tmp_path / "plain", tied=True)
    with pytest.raises(DataError, match="tools"):
        Workshop(RunConfig.model_validate(tree | {"model": str(plain)}), Reporter(quiet=True))


def test_head_is_refused_and_so_is_what_has_no_effect():
    for tree in ({"method": "head"}, {"train": {"class_weights": "balanced"}}, {"train": {"best_by": "accuracy"}}):
        with pytest.raises(ValueError, match="grpo"):
            RunConfig.model_validate({"objective": "grpo", **tree})


def test_a_reward_model_rewards(tiny_model, tmp_path):
    """The number that it gives an answer is the one that its own evaluation gave."""
    rows = [{"prompt": f"第{i}题", "chosen": "好" * (1 + i % 3), "rejected": "坏" * (1 + i % 4)} for i in range(30)]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    tree = {
        "name": "rm", "runs": str(tmp_path), "model": {"path": str(tiny_model), "precision": "float32"}, "task": "preference",
        "objective": "reward", "method": "full", "data": {"train": str(data), "test_share": 0.2},
        "train": {"max_steps": 3, "batch_rows": 8},
    }  # fmt: skip
    run = finetune(RunConfig.model_validate(tree))
    lines = run.read_lines("evaluation/predictions-after.jsonl")
    config = GrpoObjective.model_validate({"rewards": [{"kind": "model", "run": str(run.path)}]})
    rewards = Rewards(config.rewards, 400)
    written = [Written(Example("x", (Message("user", line["text"]),), ("",), "", "f", 1), line["chosen"], 3) for line in lines]
    total, _ = rewards.score(written)
    assert total == pytest.approx([line["chosen_score"] for line in lines], abs=1e-4)
    assert len(np.unique(total)) > 1
