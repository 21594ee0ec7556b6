"""The rows that other projects document, typed anew from their public documentation: each is read as that project means it, or refused
with the cause and what to do. (The formats: LLaMA-Factory `data/README.md`, ms-swift `Custom-dataset.md`, TRL `dataset_formats`, Axolotl
`dataset-formats`, OpenAI's fine-tuning guide, SQuAD's and zh_cls_fudan-news' cards.)
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weitiao.config import build_config
from weitiao.data.examples import load_dataset
from weitiao.errors import DataError
from weitiao.language import use
from weitiao.records import Example


@pytest.fixture(autouse=True)
def _english() -> Iterator[None]:
    use("en")
    yield
    use(None)


def read(path: Path, task: str, **data: Any) -> list[Example]:
    """All rows as training rows."""
    objective = {"classification": "sft", "text": "pretrain", "preference": "dpo"}.get(task, "sft")
    shares = {"train": str(path), "validation_share": 0.0, "test_share": 0.0}
    return list(load_dataset(build_config({"task": task, "objective": objective, "data": shares | data}, "test")).splits["train"])


def written(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def said(example: Example) -> list[str]:
    """Every turn, its role's first letter before it."""
    return [f"{turn.role[0]}: {turn.content}" for turn in example.turns]


def turns(*said: str, key: str = "role", text: str = "content", **names: str) -> list[dict[str, str]]:
    """Messages from "u: …", "a: …", "s: …"."""
    roles = {"s": "system", "u": "user", "a": "assistant"} | names
    return [{key: roles[one[0]], text: one[3:]} for one in said]


SHAREGPT = {"key": "from", "text": "value", "u": "human", "a": "gpt", "f": "function_call", "o": "observation"}
SKY = turns("u: What color is the sky?")
BLUE, GREEN = turns("a: It is blue."), turns("a: It is green.")
WEATHER = ["s: You are a useful and harmless assistant", "u: Tell me tomorrow's weather", "a: Tomorrow's weather will be sunny"]
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_current_weather", "arguments": '{"location": "San Francisco"}'}}
TOOL = {"type": "function", "function": {"name": "get_current_weather", "parameters": {"type": "object", "properties": {}}}}

CHATS: dict[str, tuple[Any, list[str]]] = {
    "alpaca": (
        {"instruction": "Give three tips for staying healthy.", "input": "", "output": "Eat well, move, sleep."},
        ["u: Give three tips for staying healthy.", "a: Eat well, move, sleep."],
    ),
    "alpaca, all fields (LLaMA-Factory)": (
        {"instruction": "Add", "input": "1 and 2", "output": "3", "system": "Be brief.", "history": [["Hi", "Hello"], ["Fine?", "Yes"]]},
        ["s: Be brief.", "u: Hi", "a: Hello", "u: Fine?", "a: Yes", "u: Add\n1 and 2", "a: 3"],
    ),
    "sharegpt (LLaMA-Factory)": (
        {
            "conversations": turns("u: Hi", "a: Hello", "u: Fine?", "a: Yes", **SHAREGPT),
            "system": "Be brief.",
        },
        ["s: Be brief.", "u: Hi", "a: Hello", "u: Fine?", "a: Yes"],
    ),
    "sharegpt (ms-swift)": (
        {"system": "Be brief.", "conversation": [{"human": "Hi", "assistant": "Hello"}, {"human": "Fine?", "assistant": "Yes"}]},
        ["s: Be brief.", "u: Hi", "a: Hello", "u: Fine?", "a: Yes"],
    ),
    "query, response (ms-swift)": (
        {"system": "Be brief.", "query": "Fine?", "response": "Yes", "history": [["Hi", "Hello"]]},
        ["s: Be brief.", "u: Hi", "a: Hello", "u: Fine?", "a: Yes"],
    ),
    "messages (OpenAI, ms-swift, TRL)": ({"messages": turns(*WEATHER)}, WEATHER),
    "chat_template (Axolotl)": ({"conversations": turns("u: Hi", "a: Hello")}, ["u: Hi", "a: Hello"]),
    "prompt, completion (TRL)": ({"prompt": "The sky is", "completion": " blue."}, ["u: The sky is", "a:  blue."]),
    "prompt, completion, conversational (TRL)": ({"prompt": SKY, "completion": BLUE}, ["u: What color is the sky?", "a: It is blue."]),
    "a preference for its better answer (ms-swift)": ({"messages": turns(*WEATHER), "rejected_response": "I don't know"}, WEATHER),
}


@pytest.mark.parametrize("name", CHATS)
def test_chats(name: str, tmp_path: Path) -> None:
    row, expected = CHATS[name]
    (example,) = read(written(tmp_path, row), "generation")
    assert said(example) == expected


@pytest.mark.parametrize(("key", "no", "yes"), [("weight", 0, 1), ("loss", False, True), ("train", False, True)])
def test_turns_marked_as_not_to_be_learned(key: str, no: Any, yes: Any, tmp_path: Path) -> None:
    """OpenAI's `weight`, ms-swift's `loss`, Axolotl's `train`."""
    first, second, third = ([{**turn, key: mark} if turn["role"] == "assistant" else turn for turn in turns("u: one", "a: two")]
                            for mark in (no, yes, no))  # fmt: skip
    (example,) = read(written(tmp_path, {"messages": [*first, *second, *third]}), "generation")
    assert said(example) == ["u: one", "a: two", "u: one", "a: two"]  # nothing after the last learned answer changes the training
    assert [turn.trained for turn in example.turns] == [True, False, True, True]
    assert all(key not in turn.fields for turn in example.turns)
    for bad, why in ((first, "every answer is marked as not to be trained"), ([first[0], {**first[1], key: 0.5}], "none of 0, 1")):
        with pytest.raises(DataError, match=why):
            read(written(tmp_path, {"messages": bad}), "generation")


def test_openai_tool_calls(tmp_path: Path) -> None:
    messages = [
        *turns("u: What is the weather in San Francisco?"),
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees"},
        *turns("a: 21 degrees."),
    ]
    (example,) = read(written(tmp_path, {"messages": messages, "tools": [TOOL]}), "generation")
    assert said(example) == ["u: What is the weather in San Francisco?", "a: ", "t: 21 degrees", "a: 21 degrees."]
    assert example.prompt[1].fields == {"tool_calls": [CALL]}
    assert example.prompt[2].fields == {"tool_call_id": "call_1"}
    assert example.tools == (TOOL,)


def test_openai_row_that_ends_with_the_call(tmp_path: Path) -> None:
    messages = [*turns("u: What is the weather in San Francisco?"), {"role": "assistant", "tool_calls": [CALL]}]
    (example,) = read(written(tmp_path, {"messages": messages, "parallel_tool_calls": False, "tools": [TOOL]}), "generation")
    assert (example.targets, example.fields) == (("",), {"tool_calls": [CALL]})


def test_sharegpt_tool_call(tmp_path: Path) -> None:
    chat = turns("u: Weather?", 'f: {"name": "weather", "arguments": {"city": "Paris"}}', 'o: {"t": 21}', "a: 21.", **SHAREGPT)
    (example,) = read(written(tmp_path, {"conversations": chat, "tools": json.dumps([TOOL])}), "generation")
    assert said(example) == ["u: Weather?", "a: ", 't: {"t": 21}', "a: 21."]
    assert example.prompt[1].fields["tool_calls"][0]["function"] == {"name": "weather", "arguments": {"city": "Paris"}}
    assert example.tools == (TOOL,)


PAIRS: dict[str, tuple[Any, list[str], str]] = {
    "alpaca (LLaMA-Factory)": (
        {"instruction": "Add", "input": "1 and 2", "chosen": "3", "rejected": "4"},
        ["u: Add\n1 and 2", "a: 3"],
        "4",
    ),
    "sharegpt (LLaMA-Factory)": (
        {
            "conversations": turns("u: Hi", "a: Hello", "u: Fine?", **SHAREGPT),
            "chosen": {"from": "gpt", "value": "Yes"},
            "rejected": {"from": "gpt", "value": "Why?"},
        },
        ["u: Hi", "a: Hello", "u: Fine?", "a: Yes"],
        "Why?",
    ),
    "rejected_response (ms-swift)": ({"messages": turns(*WEATHER), "rejected_response": "I don't know"}, WEATHER, "I don't know"),
    "explicit prompt (TRL)": (
        {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
        ["u: The sky is", "a:  blue."],
        " green.",
    ),
    "explicit prompt, conversational (TRL)": (
        {"prompt": SKY, "chosen": BLUE, "rejected": GREEN},
        ["u: What color is the sky?", "a: It is blue."],
        "It is green.",
    ),
    "implicit prompt, conversational (TRL)": (
        {"chosen": SKY + BLUE, "rejected": SKY + GREEN},
        ["u: What color is the sky?", "a: It is blue."],
        "It is green.",
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_preferences(name: str, tmp_path: Path) -> None:
    row, expected, rejected = PAIRS[name]
    (example,) = read(written(tmp_path, row), "preference")
    assert said(example) == expected
    assert example.rejected == (rejected,)


def test_squad(tmp_path: Path) -> None:
    context = "Architecturally, the school has a Catholic character. Atop the Main Building's gold dome is a statue of the Virgin Mary."
    answers = {"text": ["the Main Building"], "answer_start": [58]}
    row = {"id": "1", "title": "Notre_Dame", "context": context, "question": "What is below the statue?", "answers": answers}
    (example,) = read(written(tmp_path, row), "qa")
    assert example.document == context
    assert "What is below the statue?" in example.prompt[-1].content
    assert example.targets == ("the Main Building",)


@pytest.mark.parametrize(
    "category", ["Sports,Politics,Art", ["Sports", "Politics", "Art"], '["Sports", "Politics", "Art"]', "Sports、Politics、Art"]
)
def test_fudan_news(category: Any, tmp_path: Path) -> None:
    rows = [{"text": f"第{i}届运动会开幕", "category": category, "output": ("Sports", "Art")[i % 2]} for i in range(4)]
    examples = read(written(tmp_path, *rows), "classification")
    assert [example.targets[0] for example in examples] == ["Sports", "Art", "Sports", "Art"]
    assert {example.candidates for example in examples} == {("Sports", "Politics", "Art")}


def test_language_modelling(tmp_path: Path) -> None:
    """TRL's and LLaMA-Factory's pre-training rows."""
    examples = read(written(tmp_path, {"text": "The sky is blue."}, {"text": "So is the sea."}), "text")
    assert [example.targets[0] for example in examples] == ["The sky is blue.", "So is the sea."]


ENTRIES: dict[str, tuple[dict[str, Any], Any, str, list[str]]] = {
    "alpaca": (
        {"columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}},
        {"instruction": "Add", "input": "1 and 2", "output": "3", "system": "Be brief.", "history": [["Hi", "Hello"]]},
        "generation",
        ["s: Be brief.", "u: Hi", "a: Hello", "u: Add\n1 and 2", "a: 3"],
    ),
    "sharegpt": (
        {"formatting": "sharegpt", "columns": {"messages": "conversations", "system": "system", "tools": "tools"}},
        {"conversations": turns("u: Hi", "a: Hello", **SHAREGPT), "system": "Be brief.", "tools": ""},
        "generation",
        ["s: Be brief.", "u: Hi", "a: Hello"],
    ),
    "openai": (
        {
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {
                "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system",
            },
        },
        {"messages": turns(*WEATHER)},
        "generation",
        WEATHER,
    ),
    "alpaca, ranking": (
        {"ranking": True, "columns": {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}},
        {"instruction": "Add", "input": "1 and 2", "chosen": "3", "rejected": "4"},
        "preference",
        ["u: Add\n1 and 2", "a: 3"],
    ),
    "sharegpt, ranking": (
        {
            "formatting": "sharegpt",
            "ranking": True,
            "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
        },
        {
            "conversations": turns("u: Fine?", **SHAREGPT),
            "chosen": {"from": "gpt", "value": "Yes"},
            "rejected": {"from": "gpt", "value": "Why?"},
        },
        "preference",
        ["u: Fine?", "a: Yes"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_of_dataset_info(name: str, tmp_path: Path) -> None:
    entry, row, task, expected = ENTRIES[name]
    (tmp_path / "data.json").write_text(json.dumps([row]), encoding="utf-8")
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": "data.json"} | entry}), encoding="utf-8")
    (example,) = read(Path(f"{tmp_path}/dataset_info.json#mine"), task)
    assert said(example) == expected


REFUSED: dict[str, tuple[list[Any], str, str, str]] = {
    "KTO (LLaMA-Factory)": (
        [{"instruction": "Add 1 and 2", "input": "", "output": "4", "kto_tag": False}],
        "generation",
        "'kto_tag' says of each answer whether it is good",
        "keep the good rows only",
    ),
    "unpaired preference (TRL)": (
        [
            {"prompt": "The sky is", "completion": " blue.", "label": True},
            {"prompt": "The sky is", "completion": " green.", "label": False},
        ],
        "generation",
        "'label' says of each answer whether it is good",
        "make pairs of chosen and rejected",
    ),
    "KTO (ms-swift)": (
        [{"messages": turns(*WEATHER), "label": False}],
        "preference",
        "'label' says of each answer whether it is good",
        "keep the good rows only",
    ),
    "input_output (Axolotl)": (
        [{"segments": [{"label": True, "text": "<s>Hello\n"}, {"label": False, "text": "hi there!"}]}],
        "generation",
        "no shape of chats is recognised",
        "rewrite the segments as messages",
    ),
    "tokenised rows (Axolotl)": (
        [{"input_ids": [271, 299], "attention_mask": [1, 1], "labels": [271, -100]}],
        "generation",
        "no shape of chats is recognised",
        "give the texts that they were made of",
    ),
    "preference without a prompt (TRL)": (
        [{"chosen": "The sky is blue.", "rejected": "The sky is green."}],
        "preference",
        "no row can be trained on",
        "correct these rows",
    ),
    "prompts only (TRL, GRPO in ms-swift)": ([{"messages": SKY}], "generation", "has no answer", "correct these rows"),
    "pre-training as messages (ms-swift)": ([{"messages": turns("a: I love music")}], "generation", "has no prompt", "correct these rows"),
    "pictures (ms-swift)": (
        [{"messages": [{"role": "user", "content": [{"type": "image", "image": "x.jpg"}]}, *BLUE]}],
        "generation",
        "content that is not text",
        "correct these rows",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_says_so_and_what_to_do(name: str, tmp_path: Path) -> None:
    rows, task, cause, remedy = REFUSED[name]
    with pytest.raises(DataError) as caught:
        read(written(tmp_path, *rows), task)
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy


def test_marked_answers_are_learned_when_the_config_says_so(tmp_path: Path) -> None:
    row = {"instruction": "Add 1 and 2", "input": "", "output": "4", "kto_tag": False}
    (example,) = read(written(tmp_path, row), "generation", columns={"prompt": "instruction", "answer": "output"})
    assert said(example) == ["u: Add 1 and 2", "a: 4"]


def test_several_worse_answers_are_no_pair(tmp_path: Path) -> None:
    rows = [{"messages": turns(*WEATHER), "rejected_response": value} for value in (["No", "Nope"], "", "I don't know")]
    assert len(read(written(tmp_path, *rows), "preference")) == 1
