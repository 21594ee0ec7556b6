"""Chat templates: the same text as transformers', and no template can do more than write text, for a short time."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.version import Version
from templates_hostile import OVER, REFUSED
from tiny import TEMPLATES, write_tokenizer
from transformers import AutoTokenizer, __version__

from weitiao import language
from weitiao.data.template import Renderer
from weitiao.errors import ModelError

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
USER = [{"role": "user", "content": "你好"}]
QWEN_1_5 = TEMPLATES["qwen2"].replace("assistant.<", "assistant<")
WITH_DATE = "{{ bos_token }}" + TEMPLATES["qwen2"].replace("message['content']", "(message['content'] | trim)") + "{{ strftime_now('%Y') }}"
REASONING = (
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n ~ m.role ~ m['content'] }}"
    "{% if m.reasoning_content is defined %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m | tojson(indent=1, sort_keys=true) }}"
    "{% generation %}{{ dict(a=1) }}{% endgeneration %}{% if loop.last %}{% break %}{% endif %}{% endfor %}{{ eos_token }}"
)
OWN, FOREIGN = ("chatml", "qwen2", "qwen1.5"), ("qwen2_5", "dated", "reasoning")
ALL = TEMPLATES | {"qwen1.5": QWEN_1_5, "dated": WITH_DATE, "reasoning": REASONING}


@pytest.fixture(autouse=True)
def _english():
    language.use("en")
    yield
    language.use(None)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, None)
    return AutoTokenizer.from_pretrained(folder)


def chats(count: int) -> list[tuple[list[dict], list[dict]]]:
    """Chats with and without a system turn, tools, calls, reasoning and empty fields; texts of all sorts of characters."""
    draw = random.Random(7)
    pieces = [
        "",
        " ",
        "\n",
        "你好",
        "a",
        "</s>",
        "{{ x }}",
        "{% if %}",
        "'",
        '"',
        "\\",
        "\u2028",
        "😀",
        "<|im_end|>",
        "<|im_start|>",
        "\x00",
    ]

    def text() -> str:
        return "".join(draw.choices(pieces, k=draw.randint(0, 8)))

    made = []
    for _ in range(count):
        turns = [{"role": "system", "content": text()}] if draw.random() < 0.4 else []
        for _ in range(draw.randint(1, 3)):
            turns += [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]
            if draw.random() < 0.3:
                turns[-1][draw.choice(("reasoning", "thinking", "reasoning_content"))] = draw.choice((text(), None))
            if draw.random() < 0.2:
                turns[-1]["tool_calls"] = [{"type": "function", "function": {"name": "f", "arguments": {text(): [1, None, 2.5, text()]}}}]
                turns.append({"role": "tool", "content": text()})
        tools = [{"type": "function", "function": {"name": "f", "description": text()}}] if draw.random() < 0.3 else []
        made.append((turns, tools))
    return made


@pytest.mark.parametrize("name", ALL)
def test_equal_to_the_official_renderer_on_2000_chats(tokenizer, name):
    if name == "reasoning" and Version(__version__) < Version("5.21"):
        pytest.skip("transformers 5.20, the last one for Python 3.10, gives templates the reasoning under other names than 5.23 and we do")
    template = ALL[name].removesuffix("\n")
    tokenizer.bos_token, tokenizer.eos_token = "<|endoftext|>", "<|im_end|>"
    renderer = Renderer(template, tokenizer.special_tokens_map, "here")
    for number, (messages, tools) in enumerate(chats(2000)):
        end = number % 2 == 0
        options = {"tools": tools or None, "chat_template": template, "tokenize": False, "add_generation_prompt": end}
        assert renderer.render(messages, tools, end) == tokenizer.apply_chat_template(messages, **options), messages
    assert (renderer._process is None) == (name in OWN)


@pytest.mark.parametrize(
    "change", [("message['role']", "message.role"), ("'\\n'", "'\\n '"), ("{% endfor %}", "{% endfor %} "), ("first", "last")]
)
def test_what_only_looks_like_chatml_is_not_taken_for_it(change):
    template = TEMPLATES["qwen2"].replace(*change)
    assert template != TEMPLATES["qwen2"]
    renderer = Renderer(template, TOKENS, "here")
    renderer.render(USER, [], True)
    assert renderer._process is not None


LONG = ("a list of lists", "a power", "lipsum", "a macro that calls itself in two ways")
"""Each computes for two seconds; one such case is enough for the fast tests."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in OVER])
def test_a_template_that_takes_too_much_is_stopped(name):
    renderer = Renderer(OVER[name], TOKENS, "here")
    with pytest.raises(ModelError, match="the chat template cannot be used"):
        renderer.render(USER, [], True)
    start = time.perf_counter()
    with pytest.raises(ModelError):  # once is enough
        renderer.render(USER, [], True)
    assert time.perf_counter() - start < 0.1
    assert renderer._process is None


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_reaches_for_more_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="the chat template cannot be used"):
        Renderer(REFUSED[name], TOKENS, "here").render(USER, [], True)
    assert not list(tmp_path.iterdir())


def test_a_huge_template_is_not_even_read():
    with pytest.raises(ModelError, match="1,000,001 characters"):
        Renderer("x" * 1_000_001, TOKENS, "here")


def test_a_failure_for_one_chat_does_not_touch_the_next():
    renderer = Renderer("{{ messages[0]['content'] }}{{ messages[0]['absent'] + 1 if messages | length > 1 }}", TOKENS, "here")
    assert renderer.render(USER, [], True) == "你好"
    with pytest.raises(ModelError, match="absent"):
        renderer.render(USER * 2, [], True)
    assert renderer.render(USER, [], True) == "你好"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows bounds the time only")
def test_the_other_process_has_no_rights_and_no_secrets(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    probe = """
import socket, sys
from weitiao.data import template_worker
template_worker._give_up_rights()
for what in (lambda: open("/etc/passwd"), lambda: open("canary", "w"), lambda: socket.socket()):
    try: what()
    except OSError as error: print(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["24", "24", "24"]
    renderer = Renderer("{{ 1 }}", TOKENS, "here")
    renderer.render(USER, [], True)
    assert renderer._process is not None
    assert b"canary" not in Path(f"/proc/{renderer._process.pid}/environ").read_bytes()


def test_modules_beside_the_user_are_not_taken(tmp_path, monkeypatch):
    """A folder with a jinja2.py in it is no place to look for modules."""
    (tmp_path / "jinja2.py").write_text("open('CANARY', 'w')")
    (tmp_path / "json.py").write_text("open('CANARY', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert Renderer("{{ 1 }}", TOKENS, "here").render(USER, [], True) == "1"
    assert not (tmp_path / "CANARY").exists()


def test_the_other_process_ends_with_its_renderer():
    renderer = Renderer("{{ messages[0].content }}", TOKENS, "here")
    renderer.render(USER, [], True)
    first = renderer._process
    del renderer
    assert first is not None
    assert first.poll() is not None  # gone with its renderer
