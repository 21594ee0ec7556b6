"""The tokenizer that `check` uses gives what transformers' gives, token for token."""

import json
import shutil
from pathlib import Path

import pytest
from tiny import TEMPLATES

from weitiao.config_data import ModelConfig
from weitiao.data.render import ChatEncoder, Turns
from weitiao.errors import ModelError
from weitiao.model.load import BUILTIN_FOLDER, check_folder, find_model, load_tokenizer
from weitiao.model.plain_tokenizer import PlainTokenizer
from weitiao.records import Message

CHATS = [
    (Message("user", "你好 <|im_end|> 世界"),),
    (Message("system", "简短"), Message("user", "a\n\n b\t1234567 😀")),
    (Message("user", "一"), Message("assistant", "二")),
]


def both(path: Path) -> tuple[ChatEncoder, ChatEncoder]:
    folder = check_folder(path, "local")
    return ChatEncoder(load_tokenizer(folder), "theirs"), ChatEncoder(PlainTokenizer.of(folder), "ours")


@pytest.mark.parametrize("template", [*TEMPLATES, None])
def test_the_same_tokens_under_each_template(tiny_model: Path, tmp_path: Path, template: str | None) -> None:
    path = shutil.copytree(tiny_model, tmp_path / "model")
    settings = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings.pop("chat_template", None)
    (path / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")
    if template is not None:
        (path / "chat_template.jinja").write_text(TEMPLATES[template], encoding="utf-8")
    theirs, ours = both(path)
    for end in (True, False):
        assert ours.chats(CHATS, end) == theirs.chats(CHATS, end)
    assert (ours.end_of_text, ours.end_of_answer) == (theirs.end_of_text, theirs.end_of_answer)
    assert ours.control_tokens == theirs.control_tokens
    ids = list(theirs.chats(CHATS)[1])
    assert ours.tokenizer.decode(ids) == theirs.tokenizer.decode(ids)


@pytest.mark.parametrize("template", list(TEMPLATES))
def test_the_same_whole_chats_with_tools(tiny_model: Path, tmp_path: Path, template: str) -> None:
    """A template without a place for tools refuses them under both; Qwen2.5's writes tools, calls and results."""
    path = shutil.copytree(tiny_model, tmp_path / "model")
    (path / "chat_template.jinja").write_text(TEMPLATES[template], encoding="utf-8")
    theirs, ours = both(path)
    tool = {"type": "function", "function": {"name": "天气", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
    call = {"tool_calls": [{"type": "function", "function": {"name": "天气", "arguments": {"city": "北京 <b>"}}}]}
    turns = (Message("user", "北京冷吗？"), Message("assistant", "", call), Message("tool", "-3"), Message("assistant", "冷。"))
    chats = [Turns(turns, (tool,), (1, 3)), Turns((*turns[:1], turns[-1]), (), (1,))]
    found = ours.whole_chats(chats)
    assert found == theirs.whole_chats(chats)
    assert isinstance(found[0], str) == (template != "qwen2_5")
    assert not isinstance(found[1], str)


def test_the_built_in_tokenizer() -> None:
    theirs, ours = both(BUILTIN_FOLDER)
    texts = [json.loads(line)["text"] for line in (BUILTIN_FOLDER.parent / "topic.jsonl").read_text(encoding="utf-8").splitlines()[:500]]
    assert ours.texts(texts) == theirs.texts(texts)
    chats = [(Message("user", text),) for text in texts]
    assert ours.chats(chats) == theirs.chats(chats)
    assert ours.tokenizer.eos_token_id == theirs.tokenizer.eos_token_id


def test_a_list_of_templates(tiny_model: Path, tmp_path: Path) -> None:
    path = shutil.copytree(tiny_model, tmp_path / "model")
    settings = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["chat_template"] = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": TEMPLATES["chatml"]}]
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (path / "chat_template.jinja").unlink(missing_ok=True)
    assert PlainTokenizer.of(check_folder(path, "local")).chat_template == TEMPLATES["chatml"]


@pytest.mark.parametrize(("name", "content"), [("tokenizer.json", "{}"), ("tokenizer_config.json", "{"), ("tokenizer_config.json", "\xff")])
def test_broken_files_are_the_users_to_repair(tiny_model: Path, tmp_path: Path, name: str, content: str) -> None:
    path = shutil.copytree(tiny_model, tmp_path / "model")
    (path / name).write_text(content, encoding="latin-1")
    with pytest.raises(ModelError, match=name):
        PlainTokenizer.of(find_model(ModelConfig(path=str(path))))
