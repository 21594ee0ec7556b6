"""Chat templates, which are foreign code: plain ChatML is written by a few lines of our own, every other template is rendered by another
process that may compute for seconds only, in little memory, and opens nothing."""

import json
import os
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weitiao.crew import stop
from weitiao.errors import ModelError
from weitiao.language import t

_WORKER = Path(__file__).with_name("template_worker.py")
_SECONDS_ON_WINDOWS = 10.0
LARGEST_TEMPLATE_CHARACTERS = 1_000_000
"""The longest published ones have some 20,000."""
_KEPT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TZ")
"""All of the environment that the other process gets: what an interpreter needs to start, and the time zone. No keys, no tokens."""

_DEFAULT_SYSTEM = (
    "{%if loop.first and messages[0]['role'] != 'system'%}{{'<|im_start|>system\nSYSTEM<|im_end|>\n'}}{%endif%}",
    r"(?P<system>[^'\\<{]*)",
)
_CHATML = (
    "{%for message in messages%}OPTIONAL"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{%endfor%}{%if add_generation_prompt%}{{'<|im_start|>assistant\n'}}{%endif%}"
)
_PLAIN = re.compile(
    re.escape(_CHATML).replace("OPTIONAL", "(?:" + re.escape(_DEFAULT_SYSTEM[0]).replace("SYSTEM", _DEFAULT_SYSTEM[1]) + ")?")
)


class Renderer:
    """Writes chats as one template does, with the tokenizer's special tokens (name → text)."""

    def __init__(self, template: str, special_tokens: Mapping[str, str], where: str) -> None:
        self.template, self.special_tokens, self.where = template, dict(special_tokens), where
        self._plain = _PLAIN.fullmatch(_without_spelling(template))
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._broken: ModelError | None = None
        if len(template) > LARGEST_TEMPLATE_CHARACTERS:
            n = len(template)
            raise self._refusal(t(f"对话模板有 {n:,} 个字符", f"the chat template has {n:,} characters"))

    def __reduce__(self) -> tuple[type["Renderer"], tuple[str, Mapping[str, str], str]]:
        return Renderer, (self.template, self.special_tokens, self.where)

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any], add_generation_prompt: bool) -> str:
        """The chat as the template writes it, with the header of an answer at its end if ``add_generation_prompt``.

        Raises ModelError for a template that fails, or that goes over a limit: after that one for every chat.
        """
        if self._broken:
            raise self._broken
        if self._plain:
            return self._chatml(messages, add_generation_prompt)
        turns = [_as_transformers_has_it(message) for message in messages]
        values = {"messages": turns, "tools": tools or None, "documents": None, "add_generation_prompt": add_generation_prompt}
        most = 1_000_000 + 20 * sum(len(str(part)) for part in (*messages, *tools))
        request = {"template": self.template, "values": values | self.special_tokens, "most_characters": most}
        answer = self._ask(json.dumps(request, default=lambda value: f"<{type(value).__name__}>").encode() + b"\n")
        if "text" in answer:
            return str(answer["text"])
        if "error" in answer:
            raise self._refusal(t(f"对话模板不能用：{answer['error']}", f"the chat template cannot be used: {answer['error']}"))
        over = {
            "characters": t(f"写出的内容超过 {most:,} 个字符", f"it writes more than {most:,} characters"),
            "memory": t("用了太多内存", "it takes too much memory"),
            "seconds": t("计算太久或崩溃", "it computes for too long, or crashes"),
        }[answer["limit"]]
        self._broken = self._refusal(t(f"对话模板不能用：{over}", f"the chat template cannot be used: {over}"))
        raise self._broken

    def _chatml(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool) -> str:
        assert self._plain is not None
        system = self._plain["system"]
        has_own = system is None or not messages or messages[0]["role"] == "system"
        written = "" if has_own else f"<|im_start|>system\n{system}<|im_end|>\n"
        written += "".join(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages)
        return written + ("<|im_start|>assistant\n" if add_generation_prompt else "")

    def _ask(self, request: bytes) -> dict[str, Any]:
        """One question to the other process, which is started when needed; one that dies has gone over a limit."""
        process = self._worker()
        assert process.stdin is not None
        assert process.stdout is not None
        watch = threading.Timer(_SECONDS_ON_WINDOWS, process.kill) if sys.platform == "win32" else None
        try:
            if watch:
                watch.start()
            process.stdin.write(request)
            process.stdin.flush()
            line = process.stdout.readline()
            answer: dict[str, Any] = json.loads(line)
        except (BrokenPipeError, ValueError):  # it is gone, perhaps in the middle of its answer
            answer = {"limit": "seconds"}
        except BaseException:
            self._process = None  # the next answer would be that to this question
            stop(process)
            raise
        finally:
            if watch:
                watch.cancel()
        if "limit" in answer:
            self._process = None
            stop(process)
        return answer

    def _worker(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._owner != os.getpid():  # a fork must not share it
            places = json.dumps([place for place in sys.path if os.path.isabs(place)])
            environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_WORKER), places], env=environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            self._owner = os.getpid()
            weakref.finalize(self, stop, self._process)
        return self._process

    def _refusal(self, cause: str) -> ModelError:
        remedy = t(
            "检查 chat_template；没有 system 角色的模板不要设 task.system",
            "check chat_template; for a template without a system role leave task.system out",
        )
        return ModelError(self.where, cause, remedy)


_REASONING = ("reasoning_content", "thinking", "reasoning")


def _as_transformers_has_it(message: Mapping[str, Any]) -> dict[str, Any]:
    """A turn without empty fields, its reasoning under each name that templates know it by."""
    turn = {key: value for key, value in message.items() if value is not None}
    reasoning = next((turn[name] for name in _REASONING if name in turn), None)
    return turn if reasoning is None else {"thinking": reasoning, **turn, "reasoning_content": reasoning}


def _without_spelling(template: str) -> str:
    """A template without what changes nothing: blanks inside the brackets of tags, line ends written as ``\\n``, a line end at its end."""
    text = re.sub(r"(\{[{%])\s+", r"\1", template.removesuffix("\n"))
    return re.sub(r"\s+([%}]\})", r"\1", text).replace("\\n", "\n")
