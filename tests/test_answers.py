"""Question answering and written answers from file to report: trained, answered before and after, scored, compared, predicted."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from commands import command, refused
from tiny import script

from weitiao.config import build_config
from weitiao.data.examples import load_dataset
from weitiao.finetune import finetune
from weitiao.inference import evaluate
from weitiao.run import Run

PLACES = ("北京", "上海", "广州", "成都")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 questions on passages of a few words; each fourth has no answer there."""
    draw = random.Random(0)
    rows = []
    for i in range(40):
        place = draw.choice(PLACES)
        answers = {"text": [], "answer_start": []} if i % 4 == 3 else {"text": [place, f"在{place}"], "answer_start": [4, 3]}
        rows.append({"context": f"第{i}次会在{place}开。", "question": "谁来了？" if i % 4 == 3 else "在哪里开？", "answers": answers})
    return write_lines(tmp_path_factory.mktemp("qa") / "qa.jsonl", rows)


def settings(model: Path, data: Path, runs: Path, **changes: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "model": str(model), "data": {"train": str(data), "test_share": 0.2}, "runs": str(runs), "name": "r",
        "train": {"max_steps": 2, "batch_rows": 8}, "optim": {"learning_rate": 0.01, "warmup_share": 0.0},
        "evaluate": {"decoding": {"max_new_tokens": 8}},
    }  # fmt: skip
    return tree | changes


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, questions: Path) -> Run:
    task = {"kind": "qa", "unanswerable": "无法回答"}
    return finetune(build_config(settings(tiny_model, questions, tmp_path_factory.mktemp("runs"), task=task), "test"))


def test_a_run_on_questions(answered: Run) -> None:
    before, after, comparison = (answered.read(f"evaluation/{name}.json") for name in ("before", "after", "comparison"))
    assert after["task"] == "qa"
    assert list(after["metrics"])[:3] == ["f1", "exact_match", "rouge_l"]
    assert {"abstention_recall", "answered_f1", "loss"} <= after["metrics"].keys()
    assert after["written"]["n"] == after["n"] == 8
    assert after["metrics"]["loss"]["value"] < before["metrics"]["loss"]["value"]
    assert comparison["metric"] == "f1"
    assert [pair["metric"] for pair in comparison["pairs"]] == ["f1", "exact_match", "rouge_l"]
    rows = answered.read_lines("evaluation/predictions-after.jsonl")
    assert after["metrics"]["f1"]["value"] == pytest.approx(sum(row["scores"]["f1"] for row in rows) / len(rows))
    assert after["cut_off_rate"]["value"] == sum(row["cut_off"] for row in rows) / len(rows)
    assert all({"prompt", "answers", "prediction", "confidence"} <= row.keys() for row in rows)
    assert any(row["answers"] == ["无法回答"] for row in rows)
    assert "只回答：无法回答" in rows[0]["prompt"]
    json.dumps(after, allow_nan=False)


def test_judged_again_it_is_the_same(answered: Run) -> None:
    again = evaluate(answered.path).evaluation["metrics"]
    after = answered.read("evaluation/after.json")["metrics"]
    assert again.keys() == after.keys()
    for name, metric in after.items():
        assert math.isclose(again[name]["value"], metric["value"], rel_tol=1e-5), name


def test_predict_answers_questions(answered: Run, tmp_path: Path) -> None:
    one = command("predict", answered.path, "在哪里开？", "--context", "会在北京开。", "--json")
    assert one.code == 0, one.err
    assert one.json["text"].endswith("短文：会在北京开。\n问题：在哪里开？")
    assert {"prediction", "cut_off", "shortened", "confidence"} <= one.json.keys()
    file = write_lines(
        tmp_path / "new.jsonl",
        [{"context": "会在上海开。", "question": "在哪里开？", "prediction": "own"}, {"context": "", "question": "谁？"}, {"question": ""}],
    )
    told = command("predict", answered.path, file, "-o", tmp_path / "out.jsonl", "--json")
    assert told.json["rows"] == 3
    assert told.json["failed"] == 2
    first, no_context, no_question = map(json.loads, (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    assert first["prediction_input"] == "own"
    assert isinstance(first["prediction"], str)
    assert no_context["error"] == "has no passage"
    assert no_question["error"] == "has no prompt"
    assert "has no column 'question'" in refused(
        "predict", answered.path, write_lines(tmp_path / "o.jsonl", [{"q": "谁？", "context": "我"}])
    )
    assert "--context" in refused("predict", answered.path, file, "--context", "会")


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Run:
    """A run on JSON extraction, from messages, with a schema and a metric of the user's own."""
    folder = tmp_path_factory.mktemp("json")
    rows = []
    for i in range(20):
        right = json.dumps({"place": PLACES[i % 4], "number": i}, ensure_ascii=False)
        wrong = '{"place": 1}' if i == 7 else right
        turns = [{"role": "user", "content": f"第{i}次在{PLACES[i % 4]}"}, {"role": "assistant", "content": wrong}]
        rows.append({"messages": turns})
    schema = {"type": "object", "properties": {"place": {"type": "string"}, "number": {"type": "integer"}}, "required": ["place"]}
    (folder / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    (folder / "own_scores.py").write_text(
        "def brevity(prompts, answers, references):\n    return [1 / (1 + len(a)) for a in answers]\n"
        "def raises(prompts, answers, references):\n    return [1 / 0 for a in answers]\n"
        "def nan(prompts, answers, references):\n    return [float('nan')] * len(answers)\n"
        "def short(prompts, answers, references):\n    return [1.0]\n"
        "def words(prompts, answers, references):\n    return ['good'] * len(answers)\n"
    )
    data = write_lines(folder / "data.jsonl", rows)
    task = {"kind": "generation", "json_schema": str(folder / "schema.json")}
    evaluate_as = {"decoding": {"max_new_tokens": 6}, "metrics": ["own_scores:brevity"], "answers": 3}
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    try:
        return finetune(build_config(settings(tiny_model, data, folder, task=task, evaluate=evaluate_as), "test"))
    finally:
        patch.undo()


def test_a_run_on_json(extracted: Run) -> None:
    after = extracted.read("evaluation/after.json")
    assert list(after["metrics"])[:5] == ["field_f1", "exact_match", "json_valid", "rouge_l", "schema_valid"]
    assert {"brevity", "chrf", "bleu", "answer_tokens", "length_ratio", "loss"} <= after["metrics"].keys()
    assert after["metrics"]["json_valid"]["n"] == 3
    assert after["metrics"]["loss"]["n"] == 4
    assert "brevity" in {pair["metric"] for pair in extracted.read("evaluation/comparison.json")["pairs"]}
    (rejected,) = [row for file in extracted.read("data/ledger.json")["files"] for row in file["rejected_rows"]]
    assert (rejected["line"], rejected["reason"]) == (8, "bad_answer")
    assert "$.place" in rejected["detail"]


def test_answers_held_to_the_schema(extracted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six tokens are not enough for this JSON, so nothing is valid; held to the schema and with room, all of it is, in `predict` too."""
    monkeypatch.chdir(extracted.path.parent)
    assert extracted.read("evaluation/after.json")["metrics"]["schema_valid"]["value"] == 0
    config, schema = extracted.path / "config.yaml", tmp_path / "bounded.json"
    properties = {"place": {"type": "string", "maxLength": 4}, "number": {"type": "integer", "minimum": 0, "maximum": 99}}
    schema.write_text(json.dumps({"type": "object", "properties": properties, "required": ["place"], "additionalProperties": False}))
    held = "evaluate.decoding={constrained: true, max_new_tokens: 200, temperature: 1}"
    command("train", config, "name=held", f"runs={tmp_path}", f"task.json_schema={schema}", held)
    after = json.loads((tmp_path / "held" / "evaluation" / "after.json").read_text())
    assert after["metrics"]["schema_valid"]["value"] == 1
    assert after["written"]["decoding"]["constrained"] is True
    written = command("predict", tmp_path / "held", "第3次在北京").out
    assert set(json.loads(written)) <= {"place", "number"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own_scores:raises", "ZeroDivisionError: division by zero (own_scores.py:4)"),
        ("own_scores:nan", "gave nan for row 1"),
        ("own_scores:short", "gave 1 numbers for 2 rows"),
        ("own_scores:words", "gave 'good' for row 1"),
        ("own_scores:absent", "has no function absent"),
        ("no_such_scores:f", "ModuleNotFoundError"),
        ("os.path.join", "module:function"),
    ],
)
def test_a_wrong_metric_stops_before_training(
    extracted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(extracted.path.parent)
    message = refused("train", extracted.path / "config.yaml", "name=other", f"runs={tmp_path}", f"evaluate.metrics=[{name}]")
    assert said in message
    assert not list(tmp_path.iterdir())


def test_predict_continues_chats(extracted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chat may end with the user, or with an answer that is not looked at."""
    monkeypatch.chdir(extracted.path.parent)
    asked = [{"role": "user", "content": "第3次在北京"}]
    rows = [{"messages": asked}, {"messages": [*asked, {"role": "assistant", "content": "x"}]}, {"messages": []}]
    command("predict", extracted.path, write_lines(tmp_path / "new.jsonl", rows), "-o", tmp_path / "out.jsonl")
    open_chat, answered_chat, empty = map(json.loads, (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    assert open_chat["prediction"] == answered_chat["prediction"]
    assert empty["error"] == "has no prompt"


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    """A configuration that says nothing."""
    path = tmp_path / "blank.yaml"
    path.write_text("seed: 0\n")
    return path


def test_bad_input_of_questions(tmp_path: Path, tiny_model: Path, blank: Path) -> None:
    """Nothing to train on: one error each that names the rows' fault."""
    faults = {
        "has no answer": {"context": "文", "question": "谁？", "answers": ""},
        "set task.unanswerable": {"context": "文", "question": "谁？", "answers": {"text": []}},
        "has no passage": {"context": " ", "question": "谁？", "answers": ["我"]},
        "has no prompt": {"context": "文", "question": "", "answers": ["我"]},
    }
    for said, row in faults.items():
        data = write_lines(tmp_path / "bad.jsonl", [row] * 3)
        message = refused("train", blank, "task=qa", f"data.train={data}", f"model={tiny_model}", f"runs={tmp_path / 'runs'}")
        assert "no row can be trained on" in message
        assert f"bad.jsonl:1  {said}" in message or said in message
    ends_with_user = write_lines(tmp_path / "open.jsonl", [{"messages": [{"role": "user", "content": "你好"}]}] * 3)
    message = refused("train", blank, "task=generation", f"data.train={ends_with_user}", f"model={tiny_model}", f"runs={tmp_path / 'runs'}")
    assert "open.jsonl:1  has no answer" in message
    message = refused("train", blank, "task=qa", f"data.train={ends_with_user}", f"model={tiny_model}", f"runs={tmp_path / 'runs'}")
    assert "task.kind: generation" in message
    assert "没有一行能用来训练" in refused("train", blank, "task=qa", f"data.train={data}", f"model={tiny_model}", lang="zh")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("schema", "said"),
    [("{", "is not JSON"), ('{"type": "thing"}', "is no JSON Schema"), ("[]", "is no JSON Schema"), (None, "no such file")],
)
def test_a_schema_that_is_none(tmp_path: Path, tiny_model: Path, questions: Path, blank: Path, schema: str | None, said: str) -> None:
    path = tmp_path / "s.json"
    if schema is not None:
        path.write_text(schema)
    task = f"task={{kind: generation, json_schema: {path}}}"
    assert said in refused("train", blank, task, f"data.train={questions}", f"model={tiny_model}", f"runs={tmp_path / 'runs'}")


@pytest.mark.parametrize(
    "tree",
    [
        {"task": {"kind": "qa", "template": "{context}"}},
        {"task": {"kind": "qa"}, "method": "head"},
        {"task": "classification", "evaluate": {"answers": 3}},
        {"task": {"kind": "text"}, "objective": "pretrain", "evaluate": {"metrics": ["a:b"]}},
        {"task": "qa", "evaluate": {"metrics": ["a.b"]}},
        {"task": "qa", "evaluate": {"decoding": {"top_p": 0}}},
        {"task": "qa", "evaluate": {"decoding": {"constrained": True}}},
        {"task": "generation", "evaluate": {"decoding": {"constrained": True}}},
    ],
)
def test_settings_without_effect_or_sense(tree: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="test"):
        build_config(tree, "test")


def test_the_report_shows_answers_side_by_side(answered: Run, extracted: Run) -> None:
    page = (answered.path / "report.html").read_text(encoding="utf-8")
    rows = answered.read_lines("evaluation/predictions-after.jsonl")
    assert "问答" in page or "question answering" in page
    for row in rows[:1]:
        assert row["answers"][0] in page
        assert row["prompt"].split("\n")[-1] in page
    for title in ("token F1", "ROUGE-L", "permutation test", "Some from all over the test rows"):
        zh = {"token F1": "词元 F1", "permutation test": "置换检验", "Some from all over the test rows": "各处抽的几条"}.get(title, title)
        assert title in page or zh in page, title
    card = (extracted.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "field F1" in card or "字段 F1" in card
    assert "brevity" in card


def test_the_built_in_questions_are_made_by_their_rule() -> None:
    """The files in the package are what the tool writes; every answer stands in its passage, and no answer where there is none."""
    tool = script("tools/builtin_questions.py")
    topics = [json.loads(line) for line in (tool.BUILTIN / "topic.jsonl").read_text(encoding="utf-8").splitlines()]
    made = {"questions": tool.lines(tool.questions(topics)), "extraction": tool.lines(tool.extractions(topics))}
    for name, content in made.items():
        assert (tool.BUILTIN / f"{name}.jsonl").read_text(encoding="utf-8") == content, name
    questions = [json.loads(line) for line in made["questions"].splitlines()]
    assert all(answer in row["context"] for row in questions for answer in row["answers"])
    assert 0.15 < sum(not row["answers"] for row in questions) / len(questions) < 0.25
    one = {"text": "要打印文件，请选择「文件 - 打印」，再点击「确定」。", "split": "train"}
    (asked,) = [
        row
        for row in tool.questions([one, {"text": "「甲」和「乙」。", "split": "train"}])
        if row["context"] == one["text"] and row["answers"]
    ]
    assert (asked["question"], asked["answers"]) == ("要打印文件，应该选择什么？", ["文件 - 打印"])
    (found,) = tool.extractions([one])
    assert json.loads(found["completion"]) == {"menus": [["文件", "打印"]], "names": ["确定"]}


def test_builtin_data_of_each_task() -> None:
    for task, rows in (
        ("qa", {"train": 1359, "validation": 222, "test": 149}),
        ("generation", {"train": 1254, "validation": 205, "test": 149}),
    ):
        tree = {"task": {"kind": "qa", "unanswerable": "无法回答"} if task == "qa" else task}
        dataset = load_dataset(build_config(tree, "test"))
        assert {split: len(examples) for split, examples in dataset.splits.items()} == rows
