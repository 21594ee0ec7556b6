"""Chats → token ids, equal to the tokenizer's own chat template, except that text of a user can never become a control token.

The template is rendered (``weitiao.data.template``) from messages in which every spelling of a control token has been replaced
by private-use characters. The string is then cut at the control tokens, which only the template can have written; the pieces get their
original spelling back and are encoded with a tokenizer that knows no control tokens.
"""

import re
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, TypeVar

from tokenizers import Encoding

from weitiao.data.hidden import HiddenControls
from weitiao.data.plain_texts import Piece, PlainTexts
from weitiao.data.template import Renderer
from weitiao.errors import ModelError
from weitiao.language import t
from weitiao.records import Example, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from weitiao.model.plain_tokenizer import PlainTokenizer

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""For base models with ChatML's tokens but no template of their own."""

_Value = TypeVar("_Value")
_Result = TypeVar("_Result")
_PROBE = (Message("user", "甲 a\n乙  1."), Message("assistant", "丙 b"))
_PROBE_TOOL = {
    "type": "function",
    "function": {"name": "weitiao_probe", "description": "丁", "parameters": {"type": "object", "properties": {}}},
}


@dataclass(frozen=True, slots=True)
class Turns:
    """A whole chat to train on: its turns, the tools, and which turns (by place, all of the assistant) are trained."""

    messages: tuple[Message, ...]
    tools: tuple[Any, ...]
    trained: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EncodedTurns:
    """Ids of a whole chat. ``trained``, by position: the trained turns' content and end tokens. ``characters``: what they spell, without
    control tokens."""

    tokens: tuple[int, ...]
    trained: tuple[bool, ...]
    characters: int


class ChatEncoder:
    """Encodes chats and plain text with one tokenizer. Raises ModelError for a tokenizer that cannot be used so."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase | PlainTokenizer", where: str) -> None:
        self.tokenizer = tokenizer
        self.where = where
        added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
        self._control = added
        self._unspoken = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._pattern = re.compile("|".join(re.escape(token) for token in sorted(added, key=len, reverse=True)) or r"(?!)")
        self._plain = PlainTexts(tokenizer)
        self._tools_written: bool | None = None
        self.end_of_text: int = self._end_of_text()
        own = tokenizer.chat_template
        if isinstance(own, dict):  # several, by name
            own = own.get("default")
        if own is not None and not isinstance(own, str):
            remedy = t("检查 tokenizer_config.json", "check tokenizer_config.json")
            raise ModelError(where, t("chat_template 不是文本", "chat_template is no text"), remedy)
        chatml = CHATML if "<|im_start|>" in added and "<|im_end|>" in added else None
        self._template: str | None = own or chatml
        if self._template:
            self._renderer = Renderer(self._template, tokenizer.special_tokens_map, where)
            self._check_parity()
            self.end_of_answer: int = self._end_of_answer()

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """The spellings of the control tokens."""
        return tuple(self._control)

    @property
    def template(self) -> str:
        """The chat template in use. Raises ModelError when there is none."""
        if self._template:
            return self._template
        raise ModelError(
            self.where,
            t("分词器没有对话模板", "the tokenizer has no chat template"),
            t(
                "在 tokenizer_config.json 里写 chat_template，或换一个 Instruct 模型",
                "put a chat_template into tokenizer_config.json, or use an instruct model",
            ),
        )

    def hasten(self) -> None:
        """Before much text: look for a quicker way to the same ids."""
        self._plain.hasten()

    def with_tokenizer(self, tokenizer: "PlainTokenizer") -> "ChatEncoder":
        """The same with another object for the same tokenizer, such as one that can be sent to another process."""
        same = copy(self)
        same.tokenizer = tokenizer
        return same

    def text(self, text: str) -> tuple[int, ...]:
        """Ids of plain text; control tokens spelled in it stay text."""
        return self._plain.ids([text])[0]

    def spelled(self, ids: Sequence[int]) -> str:
        """The text of token ids without the special ones; others that were added to the vocabulary (Qwen: <tool_call>, <think>) are part
        of what a model says."""
        return str(self.tokenizer.decode([token for token in ids if token not in self._unspoken]))

    def texts(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of many plain texts, in parallel."""
        return self._plain.ids(texts)

    def prompts(self, examples: Sequence[Example]) -> list[tuple[int, ...]]:
        """Ids of examples' prompts, tools included, up to where the answer begins. Raises ModelError where the template takes no tools."""
        if any(example.tools for example in examples) and not self._takes_tools():
            remedy = t("换一个模板带 tools 的模型，或去掉 tools 列", "use a model whose template has tools, or leave the tools out")
            raise ModelError(self.where, _no_place_for_tools(), remedy)
        return self._encoded([self._cut(example.prompt, True, example.tools) for example in examples])

    def chats(self, chats: Sequence[Sequence[Message]], add_generation_prompt: bool = True) -> list[tuple[int, ...]]:
        """Ids of chats, up to where the assistant's answer starts if ``add_generation_prompt``."""
        return self._encoded([self._cut(chat, add_generation_prompt) for chat in chats])

    def _encoded(self, cut: Sequence[Sequence[str]]) -> list[tuple[int, ...]]:
        known = self._pieces(cut)
        return [self._joined(parts, known) for parts in cut]

    def chat_batches(
        self, batches: Iterable[Sequence[Sequence[Message]]], add_generation_prompt: bool = True
    ) -> Iterator[list[tuple[int, ...]]]:
        """The same for batch after batch: while one is tokenised, on all cores, the next one is written."""
        written = ([self._cut(chat, add_generation_prompt) for chat in batch] for batch in batches)
        for cut, known in self._encoding(written, self._pieces):
            yield [self._joined(parts, known) for parts in cut]

    def _pieces(self, cut: Sequence[Sequence[str]]) -> dict[str, tuple[int, ...]]:
        """The ids of each piece of text in some chats."""
        pieces = list(dict.fromkeys(piece for parts in cut for piece in parts[::2] if piece))
        return dict(zip(pieces, self.texts(pieces), strict=True))

    def _joined(self, parts: Sequence[str], known: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
        ids: list[int] = []
        for i, part in enumerate(parts):
            if i % 2:
                ids.append(self._control[part])
            elif part:
                ids.extend(known[part])
        return tuple(ids)

    def chat(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> tuple[int, ...]:
        """Ids of one chat."""
        return self.chats([messages], add_generation_prompt)[0]

    def whole_chats(self, chats: Sequence[Turns]) -> list[EncodedTurns | str]:
        """Ids of whole chats, equal to the template's, with the trained tokens marked; or why the template cannot write a chat.

        A trained turn begins where the chat up to it, with the header of an answer, ends, and goes to its end token. A token with
        characters of header and content both (Qwen2: an answer that begins with a line end) is content.
        """
        return next(self.whole_chat_batches([chats]))

    def whole_chat_batches(self, batches: Iterable[Sequence[Turns]]) -> Iterator[list[EncodedTurns | str]]:
        """The same for batch after batch: while one is tokenised, on all cores, the next one is written."""
        written = ([self._cut_turns(chat) for chat in batch] for batch in batches)
        for cut, known in self._encoding(written, self._marked_pieces):
            yield [parts if isinstance(parts, str) else self._joined_turns(parts, known) for parts in cut]

    def _marked_pieces(self, cut: "Sequence[list[_Part] | str]") -> dict[str, Piece]:
        """The tokens of each piece of text in some chats."""
        pieces = list(dict.fromkeys(part.text for parts in cut if not isinstance(parts, str) for part in parts if not part.is_control))
        return dict(zip(pieces, self._plain.pieces(pieces), strict=True))

    def _joined_turns(self, parts: "Sequence[_Part]", known: Mapping[str, Piece]) -> EncodedTurns:
        tokens: list[int] = []
        trained: list[bool] = []
        for part in parts:
            if part.is_control:
                tokens.append(self._control[part.text])
                trained.append(part.end > part.start)
            else:
                tokens.extend(known[part.text].ids)
                trained.extend(part.marks(known[part.text]))
        return EncodedTurns(tuple(tokens), tuple(trained), sum(part.end - part.start for part in parts if not part.is_control))

    def _encoding(self, values: Iterable[_Value], work: Callable[[_Value], _Result]) -> Iterator[tuple[_Value, _Result]]:
        """Each value with what ``work`` makes of it."""
        if self._plain.quick is None:
            return _one_ahead(values, work)
        return ((value, work(value)) for value in values)  # the quick way would wait for this thread at every text

    def _cut_turns(self, chat: Turns) -> "list[_Part] | str":
        """The parts of a rendered chat with the trained stretch of each, or why the template cannot write it."""
        if chat.tools and not self._takes_tools():
            return _no_place_for_tools()
        try:
            hidden = HiddenControls(self._pattern, self.where, chat.messages, chat.tools)
            rendered = self._render(hidden.messages, False, hidden.tools)
            spans = []
            for place in chat.trained:
                before = self._render(hidden.messages[:place], True, hidden.tools)
                if not rendered.startswith(before):
                    return t("对话模板不是一轮接一轮写的", "the chat template does not write turn after turn")
                end = rendered.find(self._end_text, len(before))
                spans.append((len(before), len(rendered) if end < 0 else end + len(self._end_text)))
        except ModelError as error:
            return error.cause
        parts = []
        start = 0
        for match in [*self._pattern.finditer(rendered), None]:
            end = len(rendered) if match is None else match.start()
            if end > start:
                parts.append(_part(rendered, start, end, spans, hidden.restored))
            if match is not None:
                inside = any(first <= end < last for first, last in spans)
                parts.append(_Part(match.group(), True, 0, int(inside)))
                start = match.end()
        if spans and rendered.find(self._end_text, spans[-1][0]) < 0:  # a template that ends its last turn with nothing
            parts.append(_Part(self._end_text, True, 0, 1))
        return parts

    @property
    def _end_text(self) -> str:
        """How the end token of an answer is spelled."""
        return next(text for text, number in self._control.items() if number == self.end_of_answer)

    def _takes_tools(self) -> bool:
        """Whether the template writes tools."""
        if self._tools_written is None:
            self._tools_written = "weitiao_probe" in self._render(_PROBE[:1], True, (_PROBE_TOOL,))
        return self._tools_written

    def shorten(self, text: str, keep_tokens: int, where: str) -> str:
        """The text without its ``where`` (tail, head or middle) so that about ``keep_tokens`` remain; cut between characters."""
        head, tail = self.measured([text])[0].kept(keep_tokens, where)
        return text[:head] + text[len(text) - tail :]

    def measured(self, texts: Sequence[str]) -> "list[Measured]":
        """How texts divide into tokens, in parallel."""
        return [Measured.of(len(text), encoding) for text, encoding in zip(texts, self._plain.encodings(texts), strict=True)]

    @property
    def decides(self) -> dict[str, Any]:
        """All that decides which ids a text or chat gets: equal for two encoders that give the same ids."""
        template = self._template or ""
        names = {name: token for name, token in self.tokenizer.special_tokens_map.items() if name in template}
        today = date.today().isoformat() if "strftime_now" in template else ""
        return {"rules": self._plain.rules, "controls": self._control, "template": template, "names": names, "today": today}

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool, tools: Sequence[Any] = ()) -> str:
        return self._renderer.render([message.as_dict() for message in messages], tools, add_generation_prompt)

    def _cut(self, messages: Sequence[Message], add_generation_prompt: bool, tools: Sequence[Any] = ()) -> list[str]:
        """Text pieces (even places) and control tokens (odd places) of a rendered chat, users' spellings of control tokens restored as
        text."""
        hidden = HiddenControls(self._pattern, self.where, messages, tools)
        rendered = self._render(hidden.messages, add_generation_prompt, hidden.tools)
        parts: list[str] = []
        end = 0
        for match in self._pattern.finditer(rendered):
            parts += [rendered[end : match.start()], match.group()]
            end = match.end()
        parts.append(rendered[end:])
        parts[::2] = [hidden.restored(part) for part in parts[::2]]
        return parts

    def _check_parity(self) -> None:
        """Cutting at control tokens gives the official ids, or the tokenizer adds something of its own between the pieces."""
        ours = self.chat(_PROBE, add_generation_prompt=False)
        official = self.tokenizer.encode(self._render(_PROBE, False), add_special_tokens=False)
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


@dataclass(frozen=True, slots=True)
class Measured:
    """Where the tokens of a text begin and end, in characters; those that cover none are left out, but counted in ``num_tokens``."""

    length: int
    num_tokens: int
    starts: Sequence[int]
    ends: Sequence[int]

    @classmethod
    def of(cls, length: int, encoding: Encoding) -> "Measured":
        """A text of so many characters."""
        covering = [(start, end) for start, end in encoding.offsets if end > start]
        return cls(length, len(encoding), array("I", (start for start, _ in covering)), array("I", (end for _, end in covering)))

    def kept(self, keep_tokens: int, where: str) -> tuple[int, int]:
        """How many characters stay at the beginning and at the end, so that about ``keep_tokens`` remain without the ``where``."""
        if keep_tokens <= 0:
            return 0, 0
        if len(self.ends) <= keep_tokens:
            return self.length, 0
        if where == "tail":
            return self.ends[keep_tokens - 1], 0
        if where == "head":
            return 0, self.length - self.starts[-keep_tokens]
        first = (keep_tokens + 1) // 2
        last = keep_tokens - first
        head = self.ends[first - 1]
        return head, min(self.length - self.starts[-last], self.length - head) if last else 0


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of text or a control token of a rendered chat; from ``start`` to ``end`` it is trained (a control token: if end > start)."""

    text: str
    is_control: bool
    start: int
    end: int

    def marks(self, piece: Piece) -> list[bool]:
        """Which of the text's tokens are trained: those with a character between ``start`` and ``end``."""
        return piece.marks(self.start, self.end) if self.end > self.start else [False] * len(piece.ids)


def _part(rendered: str, start: int, end: int, spans: Collection[tuple[int, int]], restored: Callable[[str], str]) -> _Part:
    """A piece of text between two control tokens, with the original spelling; at most one trained turn reaches into it."""
    text = restored(rendered[start:end])
    for first, last in spans:
        if first < end and last > start:
            return _Part(text, False, len(restored(rendered[start : max(start, first)])), len(restored(rendered[start : min(end, last)])))
    return _Part(text, False, 0, 0)


def _one_ahead(values: Iterable[_Value], work: Callable[[_Value], _Result]) -> Iterator[tuple[_Value, _Result]]:
    """Each value with what ``work`` makes of it, in a second thread, while the next value is made in this one."""
    with ThreadPoolExecutor(1) as worker:
        former: tuple[_Value, Future[_Result]] | None = None
        for value in values:
            current = value, worker.submit(work, value)
            if former is not None:
                yield former[0], former[1].result()
            former = current
        if former is not None:
            yield former[0], former[1].result()


def _no_place_for_tools() -> str:
    return t("模型的对话模板没有放 tools 的位置", "the model's chat template has no place for tools")
