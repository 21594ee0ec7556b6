"""Answers held to a JSON Schema: an untrained model, which writes noise when it may, writes nothing but valid JSON (jsonschema says so)."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from weitiao.config import ModelConfig
from weitiao.config_decoding import DecodingConfig
from weitiao.data.json_schema import grammar_of, load_checker
from weitiao.data.render import ChatEncoder
from weitiao.errors import ConfigError
from weitiao.evaluate.generate import choose_tokens, generate
from weitiao.evaluate.grammar import Grammar
from weitiao.model.heads import output_matrix
from weitiao.model.load import find_model, load_tokenizer

SCHEMA = {
    "type": "object",
    "properties": {
        "地点": {"enum": ["北京", "上海", "New York"]},
        "数": {"type": "integer", "minimum": 0, "maximum": 99},
        "人": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
    },
    "required": ["地点", "数", "人"],
    "additionalProperties": False,
}
DRAWN = DecodingConfig(max_new_tokens=400, temperature=1.0)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> nn.Module:
    return tiny.load(tiny_model)


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> ChatEncoder:
    return ChatEncoder(load_tokenizer(find_model(ModelConfig(path=str(tiny_model)))), "tiny")


def checker(folder: Path, schema: Any) -> Any:
    (folder / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    return load_checker(str(folder / "schema.json"))


@pytest.mark.parametrize("decoding", [DRAWN, DRAWN.model_copy(update={"top_k": 20, "top_p": 0.9})], ids=["all", "top"])
def test_noise_becomes_valid_json(tmp_path: Path, model: nn.Module, encoder: ChatEncoder, decoding: DecodingConfig) -> None:
    prompts = [row.tokens for row in tiny.text_rows((3, 40, 9, 17, 28))]
    ends, valid = {encoder.end_of_answer, encoder.end_of_text}, checker(tmp_path, SCHEMA)
    grammar = Grammar.of(valid, encoder, len(output_matrix(model)), ends)
    free = [answer for group in generate(model, prompts, ends, decoding, 0, 100_000, samples=8) for answer in group]
    held = [answer for group in generate(model, prompts, ends, decoding, 0, 100_000, samples=8, grammar=grammar) for answer in group]
    assert all(valid.fault(encoder.spelled(answer.content)) is not None for answer in free)
    assert all(answer.ended for answer in held)
    assert [valid.fault(encoder.spelled(answer.content)) for answer in held] == [None] * 40
    assert len({answer.tokens for answer in held}) > 30  # each row follows its own answer
    (one,) = generate(model, prompts[:1], ends, decoding, 0, 1, grammar=grammar)  # alone in its batch
    assert one[0].tokens == held[0].tokens


def test_the_probability_is_the_models_own() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0]])
    chosen, logs = choose_tokens(logits, torch.tensor([0.5]), DecodingConfig(), torch.tensor([[False, True, True]]))
    assert chosen.tolist() == [1]
    assert logs.item() == pytest.approx(logits.log_softmax(-1)[0, 1].item())


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array", "uniqueItems": True}, 'Unimplemented keys: ["uniqueItems"]'),
        ({"type": "string", "pattern": "(?=a)b"}, "look-ahead"),
        (True, "just true or false"),
    ],
)
def test_a_schema_that_cannot_be_followed(tmp_path: Path, schema: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.decoding\.constrained") as raised:
        grammar_of(checker(tmp_path, schema))
    assert said in str(raised.value)


def test_a_missing_package_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ConfigError, match=r"weitiao\[json\]"):
        grammar_of(checker(tmp_path, SCHEMA))
