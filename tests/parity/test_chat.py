"""Token for token: ChatEncoder against transformers' apply_chat_template; and what a user writes never becomes a control token.

Tools and tool calls are tested with Qwen2.5's template, the one here that writes them.
"""

import random
import unicodedata
from itertools import groupby
from operator import itemgetter

import pytest
from tiny import TEMPLATES, write_tokenizer
from transformers import AutoTokenizer

from weitiao.data.render import CHATML, ChatEncoder, EncodedTurns, Turns
from weitiao.errors import ModelError
from weitiao.records import Example, Message
from weitiao.tasks.generation import with_calls_written

CONTROLS = ("<|im_end|>", "<|im_start|>", "<|endoftext|>")
ALPHABET = (
    *"ab Z19.,!?'\"\\{}%<>|_/*#", " ", "  ", "\n", "\n\n", "\r\n", "\t", "\u3000", "\u00a0", "\u200b", "\ufeff", "\x00", "\x7f",
    "你好", "微调", "的", "，", "。", "é", "e\u0301", "ﬁ", "Å", "ö", "Ж", "ع", "ह", "한", "が", "か\u3099",
    "😀", "👩‍👩‍👧", "🇨🇳", "𝒳", "\ue000", "\uf8ff", "\U000f0000", "'s", "'LL",
    "<|", "|>", "im_end", "<|im_end", "im_start|>", "{{ x }}", "{% if %}", "system\n", "assistant\n",
)  # fmt: skip
STRIPPING = TEMPLATES["qwen2"].replace("message['content']", "(message['content'] | trim)")
DOUBLING = TEMPLATES["chatml"].replace("message['content']", "message['content'] + '\n' + message['content']")


def make_encoder(folder, template: str | None) -> ChatEncoder:
    write_tokenizer(folder, template)
    return ChatEncoder(AutoTokenizer.from_pretrained(folder), str(folder))


@pytest.fixture(scope="module", params=["qwen2", "qwen2_5", "chatml", "stripping", "doubling"])
def encoder(request, tmp_path_factory) -> ChatEncoder:
    template = {"stripping": STRIPPING, "doubling": DOUBLING}.get(request.param) or TEMPLATES[request.param]
    return make_encoder(tmp_path_factory.mktemp(request.param), template)


def chats(count: int, seed: int, controls: bool = False) -> list[tuple[Message, ...]]:
    """Chats of one to three exchanges, with and without a system prompt, of texts that are empty, all white, or anything."""
    draw = random.Random(seed)

    def text() -> str:
        kind = draw.random()
        if kind < 0.08:
            return ""
        if kind < 0.16:
            return "".join(draw.choices((" ", "\n", "\t", "\u3000"), k=draw.randint(1, 4)))
        if kind < 0.3:  # any code points but the halves of surrogate pairs
            codes = (draw.randrange(0x20, 0x30000) for _ in range(draw.randint(1, 12)))
            return "".join(chr(c) for c in codes if not 0xD800 <= c < 0xE000)
        return "".join(draw.choices(ALPHABET + CONTROLS * (8 if controls else 0), k=draw.randint(1, 14)))

    made = []
    for _ in range(count):
        turns = [Message("system", text())] if draw.random() < 0.4 else []
        for _ in range(draw.randint(1, 3)):
            turns += [Message("user", text()), Message("assistant", text())]
        made.append(tuple(turns[:-1] if draw.random() < 0.7 else turns))
    return made


def official(encoder: ChatEncoder, chat, prompt: bool) -> tuple[int, ...]:
    messages = [{"role": m.role, "content": m.content} for m in chat]
    options = {"chat_template": encoder.template, "add_generation_prompt": prompt}
    return tuple(encoder.tokenizer.apply_chat_template(messages, return_dict=False, **options))


def check_equal(encoder: ChatEncoder, count: int) -> None:
    added = encoder.tokenizer.get_added_vocab()
    made = [chat for chat in chats(count, seed=1) if not any(token in m.content for m in chat for token in added)]
    assert len(made) >= 0.99 * count
    for prompt in (True, False):
        for chat, ids in zip(made, encoder.chats(made, add_generation_prompt=prompt), strict=True):
            assert ids == official(encoder, chat, prompt), chat


def check_controls(encoder: ChatEncoder, count: int) -> None:
    """Beside each chat with spelled control tokens, a harmless one of the same shape says how many the template writes; the text
    comes back whole."""
    control = set(encoder.tokenizer.added_tokens_decoder)
    for chat in chats(count, seed=2, controls=True):
        ids = encoder.chat(chat)
        harmless = official(encoder, [Message(m.role, "x") for m in chat], prompt=True)
        assert [i for i in ids if i in control] == [i for i in harmless if i in control], chat
        messages = [{"role": m.role, "content": m.content} for m in chat]
        options = {"chat_template": encoder.template, "tokenize": False, "add_generation_prompt": True}
        rendered = encoder.tokenizer.apply_chat_template(messages, **options)
        decoded = encoder.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert decoded == unicodedata.normalize("NFC", rendered), chat


def test_ids_equal_the_official_ones(encoder):
    check_equal(encoder, 600)


def test_spelled_control_tokens_stay_text(encoder):
    check_controls(encoder, 300)


def test_many_spelled_tokens_with_digits_between(encoder):
    """Twelve and more in one message, with digits around them, which are what the placeholders count with."""
    draw = random.Random(3)
    for _ in range(100):
        content = "".join(draw.choice((*CONTROLS, *"0123456789")) for _ in range(60))
        ids = encoder.chat([Message("user", content)])
        assert content in encoder.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)


def test_private_use_characters_beside_spelled_tokens(encoder):
    """What looks like the first free placeholder, written by the user."""
    for used in ("\ue000", "\ue000\ue001", "\ue001"):
        content = "".join(f"{c}0{c}" for c in used) + "<|im_end|>" + "".join(f"{c}0{c}" for c in used)
        ids = encoder.chat([Message("user", content)])
        assert content in encoder.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)


def test_no_private_use_character_left(encoder):
    every = "".join(map(chr, range(0xE000, 0xF900)))
    assert every in encoder.tokenizer.decode(list(encoder.chat([Message("user", every)])))  # nothing to hide, nothing needed
    with pytest.raises(ModelError):
        encoder.chat([Message("user", every + "<|im_end|>")])


def test_plain_text_has_no_control_tokens(encoder):
    text = "".join(CONTROLS)
    ids = encoder.text(text)
    assert not set(ids) & set(encoder.tokenizer.added_tokens_decoder)
    assert encoder.texts([text]) == [ids]
    assert encoder.tokenizer.decode(list(ids)) == text


def test_end_of_answer(encoder):
    assert encoder.tokenizer.convert_ids_to_tokens([encoder.end_of_answer, encoder.end_of_text]) == ["<|im_end|>", "<|endoftext|>"]


def test_qwen2_by_hand(tmp_path):
    encoder = make_encoder(tmp_path, TEMPLATES["qwen2"])
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    expected = f"{system}<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n"
    assert encoder.tokenizer.decode(list(encoder.chat([Message("user", "你好")]))) == expected


def test_without_a_template_chatml_is_used(tmp_path):
    encoder = make_encoder(tmp_path, None)
    expected = "<|im_start|>user\n甲<|im_end|>\n<|im_start|>assistant\n"
    assert encoder.tokenizer.decode(list(encoder.chat([Message("user", "甲")]))) == expected


def test_a_template_that_fails_is_a_model_error(tmp_path):
    with pytest.raises(ModelError, match="no system role"):
        make_encoder(tmp_path, "{{ raise_exception('no system role') }}")


# ------------------------------------------------------------------------------------------------------- whole chats with trained turns

GENERATION = CHATML.replace(
    "'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}",
    "'<|im_start|>' + message['role'] + '\n' }}{% if message['role'] == 'assistant' %}{% generation %}"
    "{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}",
)
"""ChatML with transformers' own marks around what the assistant says: the oracle of the trained positions."""
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "查天气 <|im_end|>",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "北京 <|im_start|>"}}}


def whole(encoder: ChatEncoder, chat: tuple[Message, ...], tools: tuple = (), last_only: bool = False) -> EncodedTurns:
    places = [i for i, message in enumerate(chat) if message.role == "assistant"]
    (result,) = encoder.whole_chats([Turns(chat, tools, tuple(places[-1:] if last_only else places))])
    assert isinstance(result, EncodedTurns), result
    return result


def finished(count: int, seed: int, controls: bool = False) -> list[tuple[Message, ...]]:
    """Chats that end with an answer."""
    return [chat for chat in chats(count, seed, controls) if chat[-1].role == "assistant"]


def test_whole_chats_equal_the_official_ids(encoder):
    added = encoder.tokenizer.get_added_vocab()
    for chat in finished(400, seed=5):
        if not any(token in m.content for m in chat for token in added):
            assert whole(encoder, chat).tokens == official(encoder, chat, prompt=False), chat


def test_trained_positions_equal_those_of_generation_marks(tmp_path):
    assert "generation" in GENERATION
    encoder = make_encoder(tmp_path, TEMPLATES["chatml"])
    added = encoder.tokenizer.get_added_vocab()
    made = [chat for chat in finished(400, seed=6) if not any(token in m.content for m in chat for token in added)]
    assert len(made) > 80
    for chat in made:
        messages = [{"role": m.role, "content": m.content} for m in chat]
        options = {"chat_template": GENERATION, "return_dict": True, "return_assistant_tokens_mask": True}
        oracle = encoder.tokenizer.apply_chat_template(messages, **options)
        ours = whole(encoder, chat)
        assert list(ours.tokens) == oracle["input_ids"]
        assert list(map(int, ours.trained)) == oracle["assistant_masks"], chat


def test_trained_tokens_spell_the_answers_even_with_spelled_control_tokens(encoder):
    end = encoder.end_of_answer
    for chat in finished(200, seed=7, controls=True):
        for last_only in (False, True):
            row = whole(encoder, chat, last_only=last_only)
            trained = [token for token, is_trained in zip(row.tokens, row.trained, strict=True) if is_trained]
            answers = [m.content for m in chat if m.role == "assistant"][-1 if last_only else 0 :]
            assert trained.count(end) == len(answers)
            assert trained[-1] == end
            assert sum(token in set(encoder.tokenizer.added_tokens_decoder) for token in trained) == len(answers)


def test_trained_text_by_hand(tmp_path):
    encoder = make_encoder(tmp_path, TEMPLATES["qwen2"])
    chat = (Message("user", "甲"), Message("assistant", "乙 <|im_end|>"), Message("user", "丙"), Message("assistant", "丁"))
    row = whole(encoder, chat)
    groups = groupby(zip(row.tokens, row.trained, strict=True), itemgetter(1))
    stretches = [[token for token, _ in group] for is_trained, group in groups if is_trained]
    assert [encoder.tokenizer.decode(ids) for ids in stretches] == ["乙 <|im_end|><|im_end|>", "丁<|im_end|>"]
    assert row.characters == len("乙 <|im_end|>") + len("丁")


@pytest.fixture(scope="module")
def calling(tmp_path_factory) -> ChatEncoder:
    return make_encoder(tmp_path_factory.mktemp("calling"), TEMPLATES["qwen2_5"])


def test_tools_and_calls_equal_the_official_ids(calling):
    harmless = {"type": "function", "function": {"name": "weather", "arguments": {"city": "北京"}}}
    tool = {**WEATHER, "function": {**WEATHER["function"], "description": "查天气"}}
    chat = (
        Message("system", "简短"), Message("user", "天气？"), Message("assistant", "", {"tool_calls": [harmless]}),
        Message("tool", '{"t": 21}'), Message("assistant", "21 度。"),
    )  # fmt: skip
    row = whole(calling, chat, (tool,))
    messages = [m.as_dict() for m in chat]
    expected = calling.tokenizer.apply_chat_template(messages, tools=[tool], return_dict=False)
    assert list(row.tokens) == list(expected)
    trained = calling.tokenizer.decode([token for token, is_trained in zip(row.tokens, row.trained, strict=True) if is_trained])
    # Qwen2.5 writes no line end before a call without text
    assert trained == '<tool_call>\n{"name": "weather", "arguments": {"city": "北京"}}\n</tool_call><|im_end|>21 度。<|im_end|>'


def test_an_answer_is_compared_with_the_call_that_the_template_writes(tmp_path):
    """Qwen2.5's <tool_call> is an added token that is not special: what a model says with it is shown, and is what rewards look for."""
    write_tokenizer(tmp_path, TEMPLATES["qwen2_5"])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens(["<tool_call>", "</tool_call>"])
    encoder = ChatEncoder(tokenizer, str(tmp_path))
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "北京"}}}
    ask = Example("test:1", (Message("user", "天气？"),), ("",), "天气？", "f", 1, fields={"tool_calls": [call]}, tools=(WEATHER,))
    plain = Example("test:2", (Message("user", "你好"),), ("好",), "你好", "f", 2)
    shown = with_calls_written(encoder, [plain, ask])
    assert shown[0] == plain
    assert shown[1].targets == ('<tool_call>\n{"name": "weather", "arguments": {"city": "北京"}}\n</tool_call>',)
    ids = tokenizer.encode(shown[1].targets[0] + "<|im_end|>")
    assert tokenizer.convert_tokens_to_ids("<tool_call>") in ids
    assert encoder.spelled(ids) == shown[1].targets[0]


def test_control_tokens_spelled_in_tools_stay_text(calling):
    chat = (Message("user", "天气？"), Message("assistant", "", {"tool_calls": [CALL]}))
    control = calling.tokenizer.added_tokens_decoder
    row = whole(calling, chat, (WEATHER,))
    spelled = calling.tokenizer.decode(list(row.tokens), clean_up_tokenization_spaces=False)
    assert "查天气 <|im_end|>" in spelled
    assert "北京 <|im_start|>" in spelled
    starts = [token for token in row.tokens if control.get(token) and control[token].content == "<|im_start|>"]
    assert len(starts) == 3  # system, user, assistant


def test_tools_without_a_place_in_the_template_are_said(tmp_path):
    encoder = make_encoder(tmp_path, TEMPLATES["chatml"])
    (reason,) = encoder.whole_chats([Turns((Message("user", "a"), Message("assistant", "b")), (WEATHER,), (1,))])
    assert isinstance(reason, str)
    assert "tools" in reason


def test_a_prompt_holds_its_tools_as_the_training_row_does(calling, tmp_path):
    """What evaluation, rollouts and reward models are asked begins as the row that SFT learns; without a place for tools it is refused."""
    chat = (Message("system", "简短"), Message("user", "天气？"), Message("assistant", "晴"))
    example = Example("train:1", chat[:-1], ("晴",), "天气？", "f", 1, tools=(WEATHER,))
    row = whole(calling, chat, (WEATHER,))
    (ids,) = calling.prompts([example])
    assert ids == row.tokens[: row.trained.index(True)]
    assert "weather" in calling.tokenizer.decode(list(ids))
    with pytest.raises(ModelError, match="tools"):
        make_encoder(tmp_path, TEMPLATES["chatml"]).prompts([example])


def test_a_template_that_does_not_write_turn_after_turn_is_said(tmp_path):
    newest_first = TEMPLATES["chatml"].replace("for message in messages", "for message in messages | reverse")
    encoder = make_encoder(tmp_path, newest_first)
    (reason,) = encoder.whole_chats([Turns((Message("user", "a"), Message("assistant", "b")), (), (1,))])
    assert isinstance(reason, str)
