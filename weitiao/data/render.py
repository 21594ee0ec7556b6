"""Chats → token ids, equal to the tokenizer's own chat template, except that text of a user can never become a control token.

The template is rendered by transformers (in its Jinja sandbox) from messages in which every spelling of a control token has been replaced
by private-use characters. The string is then cut at the control tokens, which only the template can have written; the pieces get their
original spelling back and are encoded with a tokenizer that knows no control tokens.
"""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from weitiao.errors import ModelError
from weitiao.language import t
from weitiao.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from weitiao.model.plain_tokenizer import PlainTokenizer

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""For base models with ChatML's tokens but no template of their own."""

_PROBE = (Message("user", "甲 a\n乙  1."), Message("assistant", "丙 b"))


class ChatEncoder:
    """Encodes chats and plain text with one tokenizer. Raises ModelError for a tokenizer that cannot be used so."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase | PlainTokenizer", where: str) -> None:
        self.tokenizer = tokenizer
        self.where = where
        added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
        self._control = added
        self._pattern = re.compile("|".join(re.escape(token) for token in sorted(added, key=len, reverse=True)) or r"(?!)")
        self._plain = _without_added_tokens(tokenizer)
        self._pieces: dict[str, tuple[int, ...]] = {}
        self.end_of_text: int = self._end_of_text()
        self._has_template = bool(tokenizer.chat_template)
        self._chatml = "<|im_start|>" in added and "<|im_end|>" in added
        if self._has_template or self._chatml:
            self._check_parity()
            self.end_of_answer: int = self._end_of_answer()

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """The spellings of the control tokens."""
        return tuple(self._control)

    @property
    def template(self) -> str:
        """The chat template in use. Raises ModelError when there is none."""
        if self._has_template:
            return str(self.tokenizer.chat_template)
        if self._chatml:
            return CHATML
        raise ModelError(
            self.where,
            t("分词器没有对话模板", "the tokenizer has no chat template"),
            t(
                "在 tokenizer_config.json 里写 chat_template，或换一个 Instruct 模型",
                "put a chat_template into tokenizer_config.json, or use an instruct model",
            ),
        )

    def text(self, text: str) -> tuple[int, ...]:
        """Ids of plain text; control tokens spelled in it stay text."""
        return tuple(self._plain.encode(text, add_special_tokens=False).ids)

    def texts(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of many plain texts, in parallel."""
        return [tuple(e.ids) for e in self._plain.encode_batch_fast(list(texts), add_special_tokens=False)]

    def chats(self, chats: Sequence[Sequence[Message]], add_generation_prompt: bool = True) -> list[tuple[int, ...]]:
        """Ids of chats, up to where the assistant's answer starts if ``add_generation_prompt``."""
        cut = [self._cut(chat, add_generation_prompt) for chat in chats]
        missing = list({piece for parts in cut for piece in parts[::2] if piece and piece not in self._pieces})
        fresh = dict(zip(missing, self.texts(missing), strict=True))
        for piece in missing:
            if len(piece) <= 64:  # the template's own pieces come back in every chat; users' texts rarely do
                self._pieces[piece] = fresh[piece]
        known = self._pieces | fresh
        result = []
        for parts in cut:
            ids: list[int] = []
            for i, part in enumerate(parts):
                if i % 2:
                    ids.append(self._control[part])
                elif part:
                    ids.extend(known[part])
            result.append(tuple(ids))
        return result

    def chat(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> tuple[int, ...]:
        """Ids of one chat."""
        return self.chats([messages], add_generation_prompt)[0]

    def shorten(self, text: str, keep_tokens: int, where: str) -> str:
        """The text without its ``where`` (tail, head or middle) so that about ``keep_tokens`` remain; cut between characters."""
        offsets = [offset for offset in self._plain.encode(text, add_special_tokens=False).offsets if offset[1] > offset[0]]
        if keep_tokens <= 0:
            return ""
        if len(offsets) <= keep_tokens:
            return text
        if where == "tail":
            return text[: offsets[keep_tokens - 1][1]]
        if where == "head":
            return text[offsets[-keep_tokens][0] :]
        first = (keep_tokens + 1) // 2
        last = keep_tokens - first
        return text[: offsets[first - 1][1]] + (text[offsets[-last][0] :] if last else "")

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        chat = [{"role": m.role, "content": m.content} for m in messages]
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    chat, chat_template=self.template, tokenize=False, add_generation_prompt=add_generation_prompt
                )
            )
        except ModelError:
            raise
        except Exception as error:  # jinja2 raises whatever the template makes it raise
            raise ModelError(
                self.where,
                t(f"对话模板不能用：{error}", f"the chat template cannot be used: {error}"),
                t(
                    "检查 chat_template；没有 system 角色的模板不要设 task.system",
                    "check chat_template; for a template without a system role leave task.system out",
                ),
            ) from None

    def _cut(self, messages: Sequence[Message], add_generation_prompt: bool) -> list[str]:
        """Text pieces (even places) and control tokens (odd places) of a rendered chat, users' spellings of control tokens restored as
        text."""
        spelled: list[str] = []
        mark = self._free_character(messages) if any(self._pattern.search(m.content) for m in messages) else ""

        def hide(match: re.Match[str]) -> str:
            spelled.append(match.group())
            return f"{mark}{len(spelled) - 1}{mark}"

        def restore(match: re.Match[str]) -> str:
            return spelled[int(match[1])]

        rendered = self._render([Message(m.role, self._pattern.sub(hide, m.content)) for m in messages], add_generation_prompt)
        parts: list[str] = []
        end = 0
        for match in self._pattern.finditer(rendered):
            parts += [rendered[end : match.start()], match.group()]
            end = match.end()
        parts.append(rendered[end:])
        if spelled:
            # From left to right, so that marks pair up as they were written: the digit in "…M3M1M4M…" is the user's.
            parts[::2] = [re.sub(f"{mark}(\\d+){mark}", restore, part) for part in parts[::2]]
        return parts

    def _free_character(self, messages: Sequence[Message]) -> str:
        """A private-use character that no message holds."""
        used = set().union(*(m.content for m in messages))
        free = next((chr(code) for code in range(0xE000, 0xF900) if chr(code) not in used), None)
        if free is None:
            raise ModelError(
                self.where, t("文本占满了私用区字符", "the text uses every private-use character"), t("清理这段文本", "clean the text")
            )
        return free

    def _check_parity(self) -> None:
        """Cutting at control tokens gives the official ids, or the tokenizer adds something of its own between the pieces."""
        chat = [{"role": m.role, "content": m.content} for m in _PROBE]
        ours = self.chat(_PROBE, add_generation_prompt=False)  # first: it says what is wrong with a template that fails
        official = self.tokenizer.apply_chat_template(chat, chat_template=self.template, tokenize=True, return_dict=False)
        if list(official) != list(ours):
            raise ModelError(
                self.where,
                t(
                    "分词器在控制符之间另加内容，不能安全地编码用户文本",
                    "the tokenizer adds something between control tokens; users' texts cannot be encoded safely",
                ),
                t("请用字节级 BPE 分词器的模型（如 Qwen2）", "use a model with a byte-level BPE tokenizer, such as Qwen2"),
            )

    def _end_of_answer(self) -> int:
        """The control token with which the template ends an assistant's turn; the end-of-text token if it ends it with none."""
        parts = self._cut(_PROBE, add_generation_prompt=False)
        place = max((i for i in range(0, len(parts), 2) if _PROBE[1].content in parts[i]), default=None)
        if place is None or not any(_PROBE[0].content in part for part in parts[::2]):
            raise ModelError(
                self.where,
                t("对话模板没有写出消息的内容", "the chat template leaves out what the messages say"),
                t("检查 chat_template", "check chat_template"),
            )
        after = parts[place].split(_PROBE[1].content)[1]
        return self._control[parts[place + 1]] if place + 1 < len(parts) and not after.strip() else self.end_of_text

    def _end_of_text(self) -> int:
        """`<|endoftext|>` where it exists (Qwen's base and instruct models), else the tokenizer's end token."""
        number = self._control.get("<|endoftext|>", self.tokenizer.eos_token_id)
        if number is None:
            raise ModelError(
                self.where,
                t("分词器没有结束符", "the tokenizer has no end token"),
                t("在 tokenizer_config.json 里写 eos_token", "put an eos_token into tokenizer_config.json"),
            )
        return int(number)


def _without_added_tokens(tokenizer: "PreTrainedTokenizerBase | PlainTokenizer") -> Tokenizer:
    """The same tokenizer, knowing no control tokens, padding, truncation or post-processing."""
    tree = json.loads(tokenizer.backend_tokenizer.to_str())
    tree["added_tokens"] = []
    tree["padding"] = tree["truncation"] = None
    if (tree.get("post_processor") or {}).get("type") != "ByteLevel":
        tree["post_processor"] = None
    return Tokenizer.from_str(json.dumps(tree))
