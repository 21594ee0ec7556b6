"""Control tokens that users' texts spell, hidden from a chat template and from the cutting of what it wrote."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from weitiao.errors import ModelError
from weitiao.language import t
from weitiao.records import Message


class HiddenControls:
    """A chat and its tools with every spelling of a control token replaced by a numbered mark, and the way back.

    The mark is a private-use character that nothing in the chat holds. Raises ModelError when none is left.
    """

    def __init__(self, pattern: re.Pattern[str], where: str, messages: Sequence[Message], tools: Sequence[Any]) -> None:
        self._pattern, self._where = pattern, where
        self._spelled: list[str] = []
        self._mark = ""
        self.messages: tuple[Message, ...] = tuple(messages)
        self.tools: tuple[Any, ...] = tuple(tools)
        texts = [m.content for m in messages]
        if tools or any(m.fields for m in messages):
            texts += _strings([[m.fields for m in messages], list(tools)])
        if any(map(pattern.search, texts)):
            self._mark = self._free_character(texts)
            self.messages = tuple(replace(m, content=self._hidden(m.content), fields=self._hidden(m.fields)) for m in messages)
            self.tools = tuple(self._hidden(list(tools)))

    def restored(self, text: str) -> str:
        """The original spelling. From left to right, so that marks pair up as they were written: the digit in "…M3M1M4M…" is the user's."""
        return re.sub(f"{self._mark}(\\d+){self._mark}", lambda found: self._spelled[int(found[1])], text) if self._mark else text

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._pattern.sub(self._number, value)
        if isinstance(value, dict):
            return {self._hidden(key): self._hidden(item) for key, item in value.items()}
        return [self._hidden(item) for item in value] if isinstance(value, (list, tuple)) else value

    def _number(self, found: re.Match[str]) -> str:
        self._spelled.append(found.group())
        return f"{self._mark}{len(self._spelled) - 1}{self._mark}"

    def _free_character(self, texts: Sequence[str]) -> str:
        used = set().union(*texts)
        free = next((chr(code) for code in range(0xE000, 0xF900) if chr(code) not in used), None)
        if free is None:
            cause = t("文本占满了私用区字符", "the text uses every private-use character")
            raise ModelError(self._where, cause, t("清理这段文本", "clean the text"))
        return free


def _strings(value: Any) -> Iterator[str]:
    """Every text in nested lists and objects, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (str(key), *_strings(item))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
