"""Rows that are too long keep instruction, options, header, answer and end token; chats lose their oldest exchanges, then document text."""

import dataclasses
from typing import Any

import pytest
from tiny import TEMPLATES, script, write_tokenizer
from transformers import AutoTokenizer

from weitiao.config_data import DataConfig, ModelConfig
from weitiao.config_tasks import GenerationTask
from weitiao.data.render import ChatEncoder
from weitiao.model.load import find_model, load_tokenizer
from weitiao.records import Example, Message
from weitiao.tasks.generation import EncodedChat, encode_chats


@pytest.fixture(scope="module")
def builtin() -> ChatEncoder:
    return ChatEncoder(load_tokenizer(find_model(ModelConfig())), "builtin")


@pytest.mark.parametrize("where", ["tail", "head", "middle"])
def test_news_of_thousands_of_tokens_at_384(builtin: ChatEncoder, where: Any) -> None:
    """The shape of zh_cls_fudan-news; what must stay is looked for in the decoded text."""
    bench = script("bench/shortening.py")
    task, examples = bench.rows(builtin, 40, seed=1)
    prompts = task.encode_prompts(builtin, examples, 384, DataConfig(shorten=where))
    before, after = bench.TEMPLATE.split("{text}")
    header = "<|im_end|>\n<|im_start|>assistant\n"
    for example, prompt, row in zip(examples, prompts, task.encode_rows(builtin, prompts), strict=True):
        assert len(row.tokens) <= 384
        text = builtin.tokenizer.decode(list(row.tokens), clean_up_tokenization_spaces=False)
        start, end = text.index(before) + len(before), text.index(after.replace("{labels}", "、".join(example.candidates)) + header)
        document = text[start:end]
        assert text[end:].endswith(f"{header}{example.targets[0]}<|im_end|>")
        half = len(document) // 3
        assert where == "head" or example.document.startswith(document[:half])
        assert where == "tail" or example.document.endswith(document[-half:])
        assert prompt.was_shortened
        assert len(document) > 100
        trained = [token for token, is_trained in zip(row.tokens, row.trained, strict=True) if is_trained]
        assert builtin.tokenizer.decode(trained) == f"{example.targets[0]}<|im_end|>"


def test_the_table_of_the_peers_rules(builtin: ChatEncoder) -> None:
    """Where the document stands before the options and the answer, each of the rules loses what the table in the docs says."""
    table = script("bench/shortening.py").measure(builtin, 10, 384, seed=1)
    assert table["weitiao"] == dict.fromkeys(("instruction", "options", "header", "answer", "end", "all"), 1.0)
    assert table["LLaMA-Factory"] == {"instruction": 1.0, "options": 0.0, "header": 0.0, "answer": 1.0, "end": 1.0, "all": 0.0}
    assert table["ms-swift (left)"]["instruction"] == 0.0
    assert table["ms-swift (left)"]["options"] == 1.0
    assert table["ms-swift (delete, default)"]["answer"] == 0.0
    assert table["TRL, Axolotl, ms-swift (right), tutorial"]["answer"] == 0.0


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ChatEncoder:
    folder = tmp_path_factory.mktemp("chatml")
    write_tokenizer(folder, TEMPLATES["chatml"])
    return ChatEncoder(AutoTokenizer.from_pretrained(folder, local_files_only=True), str(folder))


def chat(*turns: str, system: str = "", place: tuple[int, int] | None = None) -> Example:
    """User and assistant in turn; the last one is the answer."""
    messages = [Message("user" if i % 2 == 0 else "assistant", turn) for i, turn in enumerate(turns)]
    head = [Message("system", system)] if system else []
    user = messages[-2].content
    place = (0, len(user)) if place is None else place
    return Example("train:1", (*head, *messages[:-1]), (turns[-1],), user[slice(*place)], "a", 1, place=place)


def shortened(encoder: ChatEncoder, example: Example, most: int, train_on: Any = "all", where: Any = "tail") -> EncodedChat | str:
    (result,) = encode_chats(encoder, [example], most, GenerationTask(train_on=train_on), DataConfig(shorten=where))
    return result


def trained_text(encoder: ChatEncoder, result: EncodedChat) -> str:
    row = result.encoded
    return encoder.tokenizer.decode([token for token, is_trained in zip(row.tokens, row.trained, strict=True) if is_trained])


def test_all_turns_or_the_last_are_trained(encoder: ChatEncoder) -> None:
    example = chat("甲", "乙", "丙", "丁")
    both, last = (shortened(encoder, example, 999, which) for which in ("all", "last"))
    assert isinstance(both, EncodedChat)
    assert isinstance(last, EncodedChat)
    assert trained_text(encoder, both) == "乙<|im_end|>丁<|im_end|>"
    assert trained_text(encoder, last) == "丁<|im_end|>"
    assert (both.passage.characters, last.passage.characters) == (2, 1)
    assert both.encoded.tokens == last.encoded.tokens


def test_turns_that_the_data_marks_are_not_trained(encoder: ChatEncoder) -> None:
    example = chat("甲", "乙", "丙", "丁")
    marked = dataclasses.replace(
        example, prompt=(example.prompt[0], dataclasses.replace(example.prompt[1], trained=False), example.prompt[2])
    )
    assert trained_text(encoder, shortened(encoder, marked, 999)) == "丁<|im_end|>"


def test_the_oldest_exchanges_go_first_and_whole(encoder: ChatEncoder) -> None:
    long = "很长的一段话" * 10
    example = chat(long, "一", long, "二", "短", "三", system="系统")
    whole = shortened(encoder, example, 9999)
    assert isinstance(whole, EncodedChat)
    result = shortened(encoder, example, len(whole.encoded.tokens) - 1)
    assert isinstance(result, EncodedChat)
    assert [turn.content for turn in result.passage.example.turns] == ["系统", long, "二", "短", "三"]
    assert trained_text(encoder, result) == "二<|im_end|>三<|im_end|>"
    assert result.tokens_before == len(whole.encoded.tokens)
    least = shortened(encoder, example, len(encoder.chat((Message("system", "系统"), Message("user", "短")))) + len(encoder.text("三")) + 2)
    assert isinstance(least, EncodedChat)
    assert [turn.content for turn in least.passage.example.turns] == ["系统", "短", "三"]


@pytest.mark.parametrize(("where", "kept"), [("tail", "0123"), ("head", "6789")])
def test_only_the_document_of_the_last_turn_is_shortened(encoder: ChatEncoder, where: str, kept: str) -> None:
    document = "0123456789" * 30
    document = document[:-6] + "456789" if where == "head" else document
    instruction = "翻译：\n"
    example = chat("早", "好", instruction + document, "答案", place=(len(instruction), len(instruction) + len(document)))
    result = shortened(encoder, example, 60, where=where)
    assert isinstance(result, EncodedChat)
    assert len(result.encoded.tokens) <= 60
    user = result.passage.example.prompt[-1].content
    assert user.startswith(instruction)
    left = user.removeprefix(instruction)
    assert left.startswith(kept) if where == "tail" else left.endswith(kept)
    assert 4 < len(left) < len(document)
    assert trained_text(encoder, result) == "答案<|im_end|>"


def test_what_cannot_be_shortened_is_rejected(encoder: ChatEncoder) -> None:
    assert shortened(encoder, chat("问" * 99, "答"), 30, where="none") == "too_long"
    assert shortened(encoder, chat("问", "答" * 99), 30) == "too_long"  # never the answer
    fixed = chat("指令" * 60, "答")
    (result,) = encode_chats(
        encoder, [Example(fixed.id, fixed.prompt, fixed.targets, "", "a", 1)], 30, GenerationTask(), DataConfig()
    )  # an instruction without a document
    assert result == "too_long"
