"""A model folder's tokenizer without transformers (whose import loads torch): what `check` needs to count and show tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer

from weitiao import storage
from weitiao.errors import ModelError
from weitiao.language import t
from weitiao.model.limits import read_settings
from weitiao.model.load import ModelFolder, check_vocabulary, first_line
from weitiao.model.tokenizer_trial import require_harmless_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class PlainTokenizer:
    """The part of transformers' fast tokenizers that `ChatEncoder` uses, with the same results (a test compares them)."""

    def __init__(self, backend: Tokenizer, chat_template: Any, special_tokens: Mapping[str, str]) -> None:
        self.backend_tokenizer, self.chat_template = backend, chat_template
        self.special_tokens_map = dict(special_tokens)
        """The special tokens that have a name."""

    @classmethod
    def of(cls, folder: ModelFolder) -> "PlainTokenizer":
        """A model folder's tokenizer. Raises ModelError for files that cannot be read."""
        where = folder.path / "tokenizer.json"
        require_harmless_tokenizer(where)
        try:
            backend = Tokenizer.from_file(str(where))
        except Exception as error:  # the library raises bare Exception
            cause = t(f"分词器打不开：{first_line(error)}", f"the tokenizer cannot be opened: {first_line(error)}")
            raise ModelError(str(where), cause, t("重新下载分词器文件", "fetch the tokenizer files again")) from error
        backend.no_truncation()  # as transformers has it, whatever the file says
        backend.no_padding()
        check_vocabulary(folder, backend.get_vocab_size())
        path = folder.path / "tokenizer_config.json"
        settings = read_settings(path) if path.is_file() else {}
        template = folder.path / "chat_template.jinja"
        stated = settings.get("chat_template")
        if isinstance(stated, list):  # several, by name
            stated = next((one.get("template") for one in stated if isinstance(one, dict) and one.get("name") == "default"), None)
        named = {name: token for name in _NAMES if (token := _special(settings, name)) is not None}
        return cls(backend, _read_template(template) if template.is_file() else stated, named)

    @classmethod
    def like(cls, tokenizer: "PreTrainedTokenizerBase | PlainTokenizer") -> "PlainTokenizer":
        """The same as another one, without what it is made of: it can be sent to another process that knows no transformers."""
        return cls(tokenizer.backend_tokenizer, tokenizer.chat_template, tokenizer.special_tokens_map)

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Id → token of the control tokens."""
        return self.backend_tokenizer.get_added_tokens_decoder()

    @property
    def eos_token_id(self) -> int | None:
        """The end token's id."""
        token = self.special_tokens_map.get("eos_token")
        return None if token is None else self.backend_tokenizer.token_to_id(token)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, control tokens included."""
        return self.backend_tokenizer.decode(list(ids), skip_special_tokens=False)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Ids of a text; control tokens spelled in it become what they spell."""
        return self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids


def _special(settings: Mapping[str, Any], name: str) -> str | None:
    value = settings.get(name)
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _read_template(path: Path) -> str:
    try:
        return storage.read_text(path)
    except (OSError, ValueError) as error:
        raise ModelError(
            str(path), t(f"读不了：{error}", f"cannot be read: {error}"), t("重新下载这个文件", "fetch the file again")
        ) from None
