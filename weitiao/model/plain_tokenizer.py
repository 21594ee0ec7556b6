"""A model folder's tokenizer without transformers (whose import loads torch): what `check` needs to count and show tokens."""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer

from weitiao.errors import ModelError
from weitiao.language import t
from weitiao.model.load import ModelFolder, check_vocabulary, first_line


class PlainTokenizer:
    """The part of transformers' fast tokenizers that `ChatEncoder` uses, with the same results (a test compares them). Raises ModelError
    for files that cannot be read."""

    def __init__(self, folder: ModelFolder) -> None:
        where = folder.path / "tokenizer.json"
        try:
            self.backend_tokenizer = Tokenizer.from_file(str(where))
        except Exception as error:  # the library raises bare Exception
            cause = t(f"分词器打不开：{first_line(error)}", f"the tokenizer cannot be opened: {first_line(error)}")
            raise ModelError(str(where), cause, t("重新下载分词器文件", "fetch the tokenizer files again")) from error
        check_vocabulary(folder, self.backend_tokenizer.get_vocab_size())
        self._settings = _read_settings(folder)
        template = folder.path / "chat_template.jinja"
        stated = self._settings.get("chat_template")
        if isinstance(stated, list):  # several, by name
            stated = next((entry["template"] for entry in stated if entry.get("name") == "default"), None)
        self.chat_template: str | None = template.read_text(encoding="utf-8") if template.is_file() else stated

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Id → token of the control tokens."""
        return self.backend_tokenizer.get_added_tokens_decoder()

    @property
    def eos_token_id(self) -> int | None:
        """The end token's id."""
        token = self._special("eos_token")
        return None if token is None else self.backend_tokenizer.token_to_id(token)

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """What the settings call the end token and the like."""
        names = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
        return {name: token for name in names if (token := self._special(name)) is not None}

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, control tokens included."""
        return self.backend_tokenizer.decode(list(ids), skip_special_tokens=False)

    def apply_chat_template(
        self,
        chat: list[dict[str, Any]],
        *,
        tools: list[Any] | None = None,
        chat_template: str,
        tokenize: bool,
        add_generation_prompt: bool = False,
        return_dict: bool = False,
    ) -> str | list[int]:
        """The chat as text, or as token ids."""
        assert not return_dict
        given = {
            "messages": chat,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **self.special_tokens_map,
        }
        rendered = _compiled(chat_template).render(given)
        return self.backend_tokenizer.encode(rendered, add_special_tokens=False).ids if tokenize else rendered

    def _special(self, name: str) -> str | None:
        value = self._settings.get(name)
        return value.get("content") if isinstance(value, dict) else value


def _read_settings(folder: ModelFolder) -> dict[str, Any]:
    path = folder.path / "tokenizer_config.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise ModelError(
            str(path), t(f"读不了：{error}", f"cannot be read: {error}"), t("重新下载这个文件", "fetch the file again")
        ) from None
    return value if isinstance(value, dict) else {}


@cache
def _compiled(template: str) -> Any:
    """A chat template, ready to be rendered."""
    return _environment().from_string(template)


def _environment() -> Any:
    """The sandbox in which transformers renders chat templates, with its settings."""
    import jinja2.ext
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment
