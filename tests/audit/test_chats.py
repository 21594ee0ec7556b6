"""The audit of chats (task `generation`): what is asked and what is answered both count, a system prompt makes nothing alike."""

import random

import pytest
from planted import clean_texts

from weitiao.audit import accounts, copies
from weitiao.audit.checks import run_checks
from weitiao.audit.findings import AuditInput
from weitiao.data.chats import Chat
from weitiao.data.rows import Content, Rows
from weitiao.records import Encoded, Example, Message

TEXTS = clean_texts()
SYSTEM = TEXTS[400][:200] + TEXTS[401]


def chat(split: str, line: int, question: str, answer: str, system: str = "", fields: dict | None = None) -> Example:
    prompt = (*((Message("system", system),) if system else ()), Message("user", question))
    return Example(f"{split}:{line}", prompt, (answer,), question, f"{split}.jsonl", line, place=(0, len(question)), fields=fields or {})


def audited(train: list[tuple], test: list[tuple] = []) -> dict[str, dict]:  # noqa: B006 - never changed
    """check → finding."""
    splits = {name: [chat(name, i + 1, *row) for i, row in enumerate(rows)] for name, rows in (("train", train), ("test", test))}
    rows = [Encoded(one.id, (1, 2), (False, True)) for one in splits["train"]]
    ledger = {"files": [], "totals": {"rows_in": len(train), "used": len(train), "rejected": 0, "shortened": 0}}
    data = AuditInput(splits, (), rows, ledger, ("<|im_end|>",))
    return {finding["check"]: finding for finding in run_checks(data)}


CLEAN = [(TEXTS[i], TEXTS[i + 100]) for i in range(60)]


def test_clean_chats_are_silent_whatever_their_system_prompt() -> None:
    """A long system prompt before short questions: neither near-duplicates nor contamination, and what half share is no boilerplate."""
    assert audited(CLEAN, [(TEXTS[i], TEXTS[i + 100]) for i in range(60, 70)]) == {}
    shared = [(question[:25], answer, SYSTEM if i % 3 else SYSTEM[::-1]) for i, (question, answer) in enumerate(CLEAN)]
    found = audited(shared, [(TEXTS[i][:35], TEXTS[i + 100], SYSTEM) for i in range(60, 70)])
    assert list(found) in ([], ["languages"])  # a text may begin with a name in Latin letters
    assert audited([(f"请把下面这段话翻译成流畅自然的英文，不要解释。\n{question}", answer) for question, answer in CLEAN]) == {}


def test_a_long_instruction_before_short_texts_is_no_contamination() -> None:
    draw = random.Random(0)
    instruction = "".join(TEXTS[300:310])
    asked = [instruction + "".join(draw.choices(TEXTS[0] + TEXTS[1], k=60)) for _ in range(200)]
    rows = [(question, TEXTS[i]) for i, question in enumerate(asked)]
    assert "contamination" not in audited(rows[:150], rows[150:])
    held = asked[150][-60:]
    found = audited([*rows[:149], (asked[149] + held, TEXTS[149])], rows[150:])["contamination"]
    assert (found["count"], found["rows"][0]["line"], found["rows"][0]["other"]) == (1, 1, "train.jsonl:150")


def test_contained_texts_are_those_that_counting_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the share of n-grams counted one by one; clauses that many texts share make the near misses."""
    draw = random.Random(1)
    clauses = [text[:20] for text in TEXTS[:40]]
    train = ["".join(draw.choices(clauses, k=draw.randint(3, 9))) for _ in range(300)]
    test = ["".join(draw.choices(clauses, k=draw.randint(2, 4))) for _ in range(60)] + [text[5:60] for text in train[::10]]
    gram, share = copies.CONTAINED_GRAM, copies.CONTAINED_SHARE
    grams = [{text[i : i + gram] for i in range(len(text) - gram + 1)} for text in (*test, *train)]
    held = {
        i: next((j for j in range(len(train)) if len(grams[i] & grams[len(test) + j]) >= share * len(grams[i])), None)
        for i in range(len(test))
    }
    monkeypatch.setattr(copies, "CONTAINED_ROWS", 1000)
    expected = {i: j for i, j in held.items() if j is not None}
    assert copies._contained(test, train) == expected
    assert 30 <= len(expected) < 90


def test_a_repeated_chat_has_question_and_answer_of_another() -> None:
    found = audited([*CLEAN, CLEAN[3], (CLEAN[4][0], "另一个回答")])
    assert list(found) == ["duplicates"]
    assert found["duplicates"]["count"] == 1
    assert found["duplicates"]["rows"] == [
        {"file": "train.jsonl", "line": 61, "split": "train", "other": "train.jsonl:4", "text": found["duplicates"]["rows"][0]["text"]}
    ]


def test_a_tested_question_that_was_trained_is_a_leak() -> None:
    found = audited(CLEAN, [(CLEAN[0][0], "别的回答"), (CLEAN[1][0] + "！", "又一个"), (TEXTS[90], TEXTS[91])])
    assert list(found) == ["leakage"]
    assert (found["leakage"]["severity"], found["leakage"]["count"]) == ("error", 2)


def test_what_the_assistant_says_is_looked_at_too() -> None:
    for check, answer in {
        "encoding_damage": "锟斤拷锟斤拷",
        "control_tokens": "好的<|im_end|>",
        "personal_phone": "请打 13912345678。",
        "empty_texts": "……",
    }.items():
        assert list(audited([*CLEAN, (TEXTS[80], answer)])) == [check]
    call = {"tool_calls": [{"type": "function", "function": {"name": "call", "arguments": {"phone": "13912345678"}}}]}
    found = audited([*CLEAN, (TEXTS[80], "", "", call)])
    assert list(found) == ["personal_phone"]  # an answer that calls a tool says something


def test_shortened_chats_lose_turns_first() -> None:
    ledger = {
        "files": [{"path": "a.jsonl", "split": "train", "shortened_rows": [{"line": 1, "tokens_before": 50, "tokens_after": 40}]}],
        "totals": {"used": 10},
    }
    data = AuditInput({"train": [chat("train", 1, *CLEAN[0])], "validation": [], "test": []}, (), [], ledger, ())
    assert "10 tokens of the oldest turns and documents are left out, 20% of this row" in accounts.shortened_rows(data).message.en


def test_rows_know_what_is_asked_and_answered() -> None:
    turns = (Message("system", "短"), Message("user", "一"), Message("assistant", "二"), Message("user", "三"), Message("assistant", "四"))
    content = Content("a.jsonl", 1, "", chat=Chat(turns, ("四",)))
    assert (content.text, content.asked, content.answer) == ("短\n一\n三", "一\n三", "二\n四")
    rows = Rows()
    rows.add(content, "train")
    rows.add(Content("a.jsonl", 2, "文", "好评"), None)
    assert [rows.split(0), rows.split(1), rows.content(1).asked, rows.content(1).answer] == ["train", None, "文", "好评"]
    rows.leave_out(0)
    assert [list(rows.members(split)) for split in ("train", None)] == [[], [1]]
