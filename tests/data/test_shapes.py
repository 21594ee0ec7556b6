"""The samples in the peers' documented shapes: recognised, read, booked; what is ambiguous or meant for another task stops with the line
that settles it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weitiao.config import build_config, load_config
from weitiao.data.chats import Chat, Tags, read_chat
from weitiao.data.columns import Columns
from weitiao.data.examples import load_dataset
from weitiao.data.read import read_rows
from weitiao.data.shapes import Layout, find_layout
from weitiao.data.sources import find_sources
from weitiao.data.starter import starter_config
from weitiao.errors import ConfigError, DataError
from weitiao.language import use
from weitiao.records import Message, Row

SAMPLES = Path(__file__).parent / "samples"
EXPECTED = json.loads((SAMPLES / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    use("en")
    yield
    use(None)


def rows_of(path: Path) -> list[Row]:
    return [row for row in read_rows(path) if isinstance(row, Row)]


def layout_of(path: Path) -> tuple[list[Row], Layout]:
    rows = rows_of(path)
    return rows, find_layout(list(dict.fromkeys(name for row in rows for name in row.values)), rows, None, {})


def chats(name: str) -> list[Chat | str]:
    rows, layout = layout_of(SAMPLES / name)
    return [read_chat(row.values, layout.shape, layout.columns, Tags()) for row in rows]


def said(chat: Chat | str) -> list[tuple[str, str]]:
    assert isinstance(chat, Chat), chat
    return [(turn.role, turn.content) for turn in chat.turns]


def layout(names: list[str], task: Any = "generation", shape: str | None = None, **wanted: str) -> Layout:
    sample = [Row("a.jsonl", line, {name: f"{name} {line}" for name in names}) for line in (1, 2, 3, 4)]
    return find_layout(names, sample, task, wanted, shape, 4)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_sample_is_recognised_and_every_row_booked(name: str, tmp_path: Path) -> None:
    """As `init` and a run see it: the config that `init` writes is the one that reads the file, no row is lost."""
    rows, found = layout_of(SAMPLES / name)
    want = EXPECTED[name]
    assert (found.task, found.shape, len(rows)) == (want["task"], want["shape"], want["rows"])
    config = tmp_path / "c.yaml"
    config.write_text(starter_config(SAMPLES / name, "en"), encoding="utf-8")
    dataset = load_dataset(load_config(config, ["data.validation_share=0", "data.test_share=0"]))
    assert len(dataset.splits["train"]) == want["used"]
    for example in dataset.splits["train"]:
        dataset.ledger.use("train", example.file)
    totals = dataset.ledger.as_dict()["totals"]
    assert (totals["rows_in"], totals["used"], totals["rejected"]) == (want["rows"], want["used"], want["rows"] - want["used"])


def test_alpaca() -> None:
    first, second, empty = chats("alpaca.json")
    assert said(first) == [
        ("system", "你是翻译。"), ("user", "翻译：谢谢。"), ("assistant", "Thank you."),
        ("user", "把下面的句子翻译成英文。\n早上好。"), ("assistant", "Good morning."),
    ]  # fmt: skip
    assert isinstance(first, Chat)
    assert first.document == (13, 17)  # the input; the instruction (12 characters and a line end) is never shortened
    assert said(second) == [("user", "说出三种颜色。"), ("assistant", "红、黄、蓝。")]
    assert isinstance(second, Chat)
    assert second.document is None
    assert empty == "no_answer"


def test_sharegpt_with_a_function_call() -> None:
    plain, call, unanswered, unknown = chats("sharegpt.json")
    assert said(plain)[0] == ("system", "简短回答。")
    assert [role for role, _ in said(plain)] == ["system", "user", "assistant", "user", "assistant"]
    assert isinstance(call, Chat)
    wanted = {"type": "function", "function": {"name": "weather", "arguments": {"city": "北京"}}}
    assert call.turns[1] == Message("assistant", "", {"tool_calls": [wanted]})
    assert call.turns[2] == Message("tool", '{"t": 21}')
    assert call.tools[0]["name"] == "weather"
    assert unanswered == "no_answer"
    assert unknown == "bad_chat: unknown role 'moderator'"


def test_messages_keep_tools_and_calls() -> None:
    plain, call, parts, picture = chats("messages.jsonl")
    assert said(plain)[0] == ("system", "You are Clippy.")
    assert isinstance(call, Chat)
    assert call.turns[1].fields["tool_calls"][0]["function"]["name"] == "get_weather"
    assert call.turns[2].fields == {"tool_call_id": "c1"}
    assert call.tools[0]["function"]["parameters"]["required"] == ["city"]
    assert said(parts) == [("user", "2+2?"), ("assistant", "4")]
    assert picture == "bad_chat: content that is not text"


def test_question_answers() -> None:
    first, second, third, unanswerable = chats("question_answers.jsonl")
    assert said(first) == [("user", "黄河全长约 5464 公里。\n\n黄河有多长？"), ("assistant", "约 5464 公里")]
    assert isinstance(first, Chat)
    assert first.answers == ("约 5464 公里", "5464 公里")
    assert first.document == (0, 14)  # the context: 14 characters
    assert [said(chat)[-1][1] for chat in (second, third)] == ["东海", "山东"]
    assert unanswerable == "no_answer"


@pytest.mark.parametrize(
    ("name", "turns"),
    [
        ("preference.jsonl", [("user", "写一句问候。"), ("assistant", "你好，很高兴见到你！")]),
        ("preference_messages.jsonl", [("user", "What color is the sky?"), ("assistant", "It is blue.")]),
        ("preference_turns.json", [("user", "推荐一本书"), ("assistant", "《论语》。")]),
        (
            "query_response.jsonl",
            [("system", "你是数学老师"), ("user", "你好"), ("assistant", "你好！"), ("user", "1+1=?"), ("assistant", "等于 2")],
        ),
        ("prompt_completion.jsonl", [("user", "The sky is"), ("assistant", " blue.")]),
    ],
)  # fmt: skip
def test_what_a_first_row_says(name: str, turns: list[tuple[str, str]]) -> None:
    assert said(chats(name)[0]) == turns


def test_prompts_as_messages_and_a_prompt_that_is_empty() -> None:
    _, listed, empty = chats("prompt_completion.jsonl")
    assert said(listed) == [("user", "What color is the sky?"), ("assistant", "It is blue.")]
    assert empty == "no_prompt"


@pytest.mark.parametrize(
    ("names", "shape"),
    [
        (["id", "messages"], "messages"),
        (["conversations", "chosen", "rejected"], "preference_turns"),  # holds the columns of sharegpt and of bare preferences
        (["instruction", "input", "chosen", "rejected"], "preference"),
        (["instruction", "input", "output", "text"], "alpaca"),
        (["instruction", "context", "response", "category"], "alpaca"),
        (["question", "answer"], "question_answers"),
        (["问题", "答案"], "question_answers"),
        (["Prompt", "Completion"], "prompt_completion"),
        (["prompt", "prompt_id", "messages"], "messages"),
    ],
)
def test_the_priority_of_shapes(names: list[str], shape: str) -> None:
    assert layout(names).shape == shape


def test_two_shapes_stop_with_three_rows_and_the_line() -> None:
    with pytest.raises(DataError) as caught:
        layout(["messages", "prompt", "completion"])
    assert caught.value.cause.count("\n") == 3
    assert "messages, prompt_completion" in caught.value.cause
    assert caught.value.remedy.endswith("data.shape: messages")
    assert layout(["messages", "prompt", "completion"], shape="prompt_completion").columns == Columns(prompt="prompt", answer="completion")


def test_two_columns_for_one_field_stop_with_the_line() -> None:
    with pytest.raises(DataError) as caught:
        layout(["instruction", "output", "response"])
    assert "2 columns could be answer: 'output', 'response'" in caught.value.cause
    assert caught.value.remedy.endswith("data.columns.answer: output")
    assert layout(["instruction", "output", "response"], answer="response").columns.answer == "response"


def test_columns_of_any_name_through_the_config() -> None:
    assert layout(["q", "a"], prompt="q", answer="a") == Layout("generation", "prompt_completion", Columns(prompt="q", answer="a"))
    found = layout(["q", "d", "a"], prompt="q", input="d", answer="a")
    assert found == Layout("generation", "alpaca", Columns(prompt="q", input="d", answer="a"))
    with pytest.raises(DataError) as caught:
        layout(["q", "a"])
    assert caught.value.remedy.endswith("data.columns: {prompt: q, answer: a}")


def test_chats_under_another_task_stop_with_the_line() -> None:
    with pytest.raises(DataError) as caught:
        layout(["instruction", "input", "output", "text"], task="classification")
    assert "the 4 rows are chats (shape alpaca: input, instruction, output), but the task is classification" in caught.value.cause
    assert caught.value.remedy.startswith("train on their answers: task.kind: generation")
    with pytest.raises(DataError, match=r"task.kind: preference with objective.kind: dpo"):
        layout(["prompt", "chosen", "rejected"], task="classification")
    # a label of its own beside a chat, and columns that the config names, are what they say
    assert layout(["query", "response", "label"], task="classification").columns == Columns("query", "label")
    named = layout(["instruction", "input", "output"], task="classification", text="input", label="output")
    assert named == Layout("classification", "label", Columns("input", "output"))


def test_settings_without_effect_are_refused() -> None:
    for tree in (
        {"data": {"columns": {"prompt": "q"}}},
        {"data": {"shape": "alpaca"}},
        {"task": "generation", "data": {"columns": {"label": "q"}}},
        {"task": "generation", "method": "head"},
        {"task": "generation", "train": {"best_by": "accuracy"}},
    ):
        with pytest.raises(ConfigError):
            build_config(tree, "test")


def entry(name: str, **changes: Any) -> Any:
    config = build_config({"task": "generation", "data": {"train": f"{SAMPLES}/dataset_info.json#{name}", **changes}}, "test")
    return load_dataset(config.model_copy(update={"data": config.data.model_copy(update={"validation_share": 0.0, "test_share": 0.0})}))


def test_an_entry_of_dataset_info() -> None:
    (renamed,) = entry("renamed").splits["train"]
    assert [turn.content for turn in renamed.turns] == ["你好", "你好", "把句子变短。\n这是一个很长很长的句子。", "很长的句子。"]
    assert renamed.document == "这是一个很长很长的句子。"
    (tagged,) = entry("tagged").splits["train"]
    assert [(turn.role, turn.content) for turn in tagged.turns] == [("user", "你好"), ("assistant", "你好！")]
    (ranked,) = entry("ranked").splits["train"]
    assert ranked.targets == ("《论语》。",)
    assert len(entry("alpaca").splits["train"]) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rename", r"no such entry(?s:.*)did you mean 'renamed'"),
        ("hub", "hf_hub_url: a data set on a hub"),
        ("script", "scripts are never run here"),
        ("pictures", r"columns\.images: is not supported here"),
    ],
)
def test_an_entry_that_cannot_be_read(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        entry(name)


def test_a_folder_gives_the_splits(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("dev", 2)):
        rows = "".join(f'{{"query": "{split} {i}", "response": "r"}}\n' for i in range(count))
        (tmp_path / f"{split}.jsonl").write_text(rows, encoding="utf-8")
    config = build_config({"task": "generation", "data": {"train": str(tmp_path), "test_share": 0.34}}, "test")
    assert [(Path(s.path).name, s.split) for s in find_sources(config.data)] == [("train.jsonl", None), ("dev.jsonl", "validation")]
    splits = load_dataset(config).splits
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 4, "validation": 2, "test": 2}
    named = build_config({"task": "generation", "data": {"train": str(tmp_path), "validation": "other.jsonl", "test_share": 0}}, "test")
    assert [s.path for s in find_sources(named.data)][1:] == ["other.jsonl"]


def loaded(path: Path) -> list[tuple[str, str]]:
    data = {"train": str(path), "validation_share": 0, "test_share": 0}
    config = build_config({"task": "text", "objective": "pretrain", "data": data}, "test")
    return [(example.id, example.document) for example in load_dataset(config).splits["train"]]


def test_a_file_of_many_rows_is_parsed_twice_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "段 {i}"}}\n' + "broken\n" * (i % 3 == 0) for i in range(20)), encoding="utf-8")
    at_once = loaded(path)
    monkeypatch.setattr("weitiao.data.examples.KEPT_ROWS", 3)
    monkeypatch.setattr("weitiao.data.rows.IN_MEMORY_BYTES", 64)  # and what they say goes to a file
    assert loaded(path) == at_once
    assert [document for _, document in at_once] == [f"段 {i}" for i in range(20)]


def test_rows_that_share_a_line_have_ids_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a"}, {"text": "b"},\n {"text": "c"}, {"text": "d"}]', encoding="utf-8")
    assert [name for name, _ in loaded(path)] == ["train:1", "train:1.2", "train:2", "train:2.2"]
