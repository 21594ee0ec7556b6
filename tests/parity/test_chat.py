"""Token for token: ChatEncoder against transformers' apply_chat_template; and what a user writes never becomes a control token.

Not tested: tools and tool calls, which no task here renders.
"""

import random
import unicodedata

import pytest
from tiny import TEMPLATES, write_tokenizer
from transformers import AutoTokenizer

from weitiao.data.render import ChatEncoder
from weitiao.errors import ModelError
from weitiao.records import Message

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
