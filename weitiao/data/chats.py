"""A row of any chat shape → the turns of one chat, or a question with its answers, or the reason why there is none."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from weitiao.data.columns import Columns
from weitiao.data.json_rows import forbidden
from weitiao.language import t
from weitiao.records import Message, Role

ROLES: Mapping[str, str] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "function_call": "function_call",
    "tool_call": "function_call",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}
"""What the formats in use call the roles; a ``function_call`` is a turn of the assistant that holds the call as JSON."""


@dataclass(frozen=True, slots=True)
class Tags:
    """What a list of turns calls its parts. Empty: either of the usual ones (role or from, content or value)."""

    role: str = ""
    content: str = ""
    roles: Mapping[str, str] = field(default_factory=lambda: ROLES)


@dataclass(frozen=True, slots=True)
class Chat:
    """The turns of a chat up to the last answer, the answer's alternatives (the first is the last turn's content) and the tools.

    ``document``: where in the last user's turn the text stands that may be shortened (start, end); None: nothing may be.
    """

    turns: tuple[Message, ...]
    answers: tuple[str, ...]
    tools: tuple[Any, ...] = ()
    document: tuple[int, int] | None = None
    rejected: str = ""
    """The worse answer of a preference."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the passage that it is about (empty: none) and its good answers (none: the passage does not hold the answer)."""

    question: str
    passage: str
    answers: tuple[str, ...]


class _Unusable(Exception):
    """Why a row gives no chat, in the ledger's words."""


def read_chat(values: Mapping[str, Any], shape: str, columns: Columns, tags: Tags) -> Chat | str:
    """The chat of a row, or why there is none: "no_prompt", "no_answer", or "bad_chat: " and details for people."""
    cells = {use: values.get(column) for use, column in columns.in_use}
    try:
        listed = "messages" in cells or shape == "preference_messages"
        return _checked(_from_turns(cells, tags) if listed else _from_pair(cells, shape, tags))
    except _Unusable as reason:
        return str(reason)


def read_prompt(values: Mapping[str, Any], shape: str, columns: Columns, tags: Tags) -> Chat | str:
    """As :func:`read_chat` for a row whose answer is still to be written: a placeholder stands as the last turn, whatever the row holds."""
    answer = Message("assistant", "…")
    if columns.messages is None and shape != "preference_messages":
        return read_chat({**values, str(columns.chosen or columns.answer): answer.content}, shape, columns, tags)
    cells = {use: values.get(column) for use, column in columns.as_dict().items() if column is not None}
    try:
        turns = _turns(cells["messages"], tags) if "messages" in cells else _answer_turns(cells["chosen"], tags)
        turns = turns[:-1] if turns and turns[-1].role == "assistant" else turns
        return _checked(
            Chat((*_system(cells, turns), *turns, answer), (answer.content,), _tools(cells.get("tools")), _last_user_text(turns))
        )
    except _Unusable as reason:
        return str(reason)


def read_question(values: Mapping[str, Any], shape: str, columns: Columns, answered: bool = True) -> Question | str:
    """The question of a row (``answered``: with its answers), or why there is none: "no_prompt", "no_context", "no_answer", or "bad_chat: "
    and details for people. An empty passage is a fault where the columns are those of SQuAD."""
    try:
        question, passage = _text(values.get(columns.prompt or "")), _text(values.get(columns.input or ""))
        if not question.strip():
            return "no_prompt"
        if columns.input is not None and shape == "question_answers" and not passage.strip():
            return "no_context"
        given = values.get(columns.answer or "") if answered else []
        return Question(question, passage, () if _is_empty_list(given) else _answers(given))
    except _Unusable as reason:
        return str(reason)


def _is_empty_list(value: object) -> bool:
    """Whether a cell says that there is no answer: a list without entries, or SQuAD's object with one; an empty cell says nothing."""
    value = _parsed(value) if isinstance(value, str) and value.strip()[:1] in ("[", "{") else value
    listed = value.get("text") if isinstance(value, dict) else value
    return isinstance(listed, (list, tuple)) and not listed


def read_pair(values: Mapping[str, Any], shape: str, columns: Columns, tags: Tags) -> Chat | str:
    """The chat of a preference with its better answer, the worse one beside it; or why there is none: as :func:`read_chat` says,
    "no_rejected", "same_answers", or "bad_pair: " and details for people."""
    better = read_chat(values, shape, columns, tags)
    if isinstance(better, str):
        return better
    worse = _worse(better, values, shape, columns, tags)
    if isinstance(worse, str):
        return "no_rejected" if worse == "no_answer" else worse
    if worse.turns[:-1] != better.turns[:-1]:
        return "bad_pair: " + t("两个回答之前的对话不同", "the turns before the two answers differ")
    if any("tool_calls" in chat.turns[-1].fields for chat in (better, worse)):
        return "bad_pair: " + t("回答是函数调用，不是文字", "an answer is a function call, not text")
    if worse.answers[0] == better.answers[0]:
        return "same_answers"
    return replace(better, rejected=worse.answers[0])


def _worse(better: Chat, values: Mapping[str, Any], shape: str, columns: Columns, tags: Tags) -> Chat | str:
    """The same chat with the worse answer. Without a column of better ones, the better one is the chat's last turn."""
    rejected = values.get(str(columns.rejected))
    if columns.chosen is not None:
        return read_chat({**values, columns.chosen: rejected}, shape, columns, tags)
    try:
        (answer,) = _answers(rejected)
    except (_Unusable, ValueError) as reason:
        return str(reason) if isinstance(reason, _Unusable) else "bad_pair: " + t("不止一个较差的回答", "more than one worse answer")
    return replace(better, turns=(*better.turns[:-1], Message("assistant", answer)), answers=(answer,))


def _from_turns(cells: Mapping[str, Any], tags: Tags) -> Chat:
    """Lists of messages; of a preference the chosen answer is the last turn."""
    turns = _turns(cells["messages"], tags) if "messages" in cells else []
    if "chosen" in cells:
        chosen = _answer_turns(cells["chosen"], tags)
        turns = chosen if chosen and chosen[0].role in ("system", "user") else [*turns, *chosen]
    else:
        turns = _until_trained(turns)
    answers = (turns[-1].content,) if turns else ()
    return Chat((*_system(cells, turns), *turns), answers, _tools(cells.get("tools")), _last_user_text(turns))


def _until_trained(turns: list[Message]) -> list[Message]:
    """The turns up to the last answer that is learned: what comes after it changes nothing in the training."""
    answers = [turn.trained for turn in turns if turn.role == "assistant"]
    if answers and not any(answers):
        raise _Unusable("bad_chat: " + t("每个回答都标着不训练", "every answer is marked as not to be trained"))
    while turns and turns[-1].role == "assistant" and not turns[-1].trained:
        turns = turns[:-1]
        while turns and turns[-1].role != "assistant":
            turns = turns[:-1]
    return turns


def _from_pair(cells: Mapping[str, Any], shape: str, tags: Tags) -> Chat:
    """A prompt and an answer, in a column each, with what stands before and beside them."""
    prompt, answer = cells["prompt"], cells["chosen"] if "chosen" in cells else cells["answer"]
    given = _listed(prompt)
    user, document = ([], None) if given is not None else _user_turn(cells, shape)
    turns = [*_history(cells.get("history"), tags), *(_turns(given, tags) if given is not None else user)]
    listed = _listed(answer) if _holds_messages(answer) else None
    if listed is not None:
        last = _answer_turns(listed, tags)
        turns = last if last and last[0].role in ("system", "user") else [*turns, *last]
        answers: tuple[str, ...] = (turns[-1].content,) if turns else ()
    else:
        answers = _answers(answer)
        turns.append(Message("assistant", answers[0]))
    document = _last_user_text(turns) if given is not None or listed is not None else document
    return Chat((*_system(cells, turns), *turns), answers, _tools(cells.get("tools")), document)


def _user_turn(cells: Mapping[str, Any], shape: str) -> tuple[list[Message], tuple[int, int] | None]:
    """The user's text and where its document is: the input or the context where there is such a column, else all of it."""
    prompt, more = _text(cells["prompt"]), _text(cells.get("input"))
    if "input" not in cells:
        return ([Message("user", prompt)] if prompt.strip() else []), (0, len(prompt))
    if not more.strip():
        return ([Message("user", prompt)] if prompt.strip() else []), None
    if shape == "question_answers":  # a text to read, then the question
        return [Message("user", f"{more}\n\n{prompt}")], (0, len(more))
    head = f"{prompt}\n" if prompt.strip() else ""
    return [Message("user", head + more)], (len(head), len(head) + len(more))


def _text(value: object) -> str:
    """A cell as text; numbers as written, nothing for an empty cell."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _Unusable("bad_chat: " + t(f"该是文字的地方是 {type(value).__name__}", f"a {type(value).__name__} where text should be"))
    return str(value)


def _listed(value: object) -> Sequence[Any] | None:
    """A list, also one written as JSON (in a CSV cell); None for anything else."""
    if isinstance(value, (list, tuple)):
        return value
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return None
    parsed = _parsed(value)
    return parsed if isinstance(parsed, list) and parsed and all(isinstance(item, dict) for item in parsed) else None


def _parsed(text: str) -> Any:
    """The JSON value that a text is; None for no JSON, or JSON that no row may hold."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return None if forbidden(value) else value


def _holds_messages(value: object) -> bool:
    listed = _listed([value] if isinstance(value, dict) else value)
    return bool(listed) and all(isinstance(item, dict) and item.keys() & {"role", "from"} for item in listed or ())


def _turns(value: object, tags: Tags) -> list[Message]:
    listed = _listed(value)
    if listed is None:
        raise _Unusable("bad_chat: " + t("不是消息的列表", "not a list of messages"))
    return [turn for item in listed for turn in _messages(item, tags)]


def _messages(item: object, tags: Tags) -> list[Message]:
    """One turn, or an exchange whose roles are its keys, as ms-swift writes ShareGPT."""
    if isinstance(item, dict) and not tags.role and {"human", "assistant"} == item.keys():
        return [Message("user", _text(item["human"])), Message("assistant", _text(item["assistant"]))]
    return [_message(item, tags)]


def _answer_turns(value: object, tags: Tags) -> list[Message]:
    """A chosen answer: a text, one message, or a list of them."""
    if isinstance(value, dict):
        return [_message(value, tags)]
    return _turns(value, tags) if _listed(value) is not None else [Message("assistant", _text(value))]


def _message(item: object, tags: Tags) -> Message:
    if not isinstance(item, dict):
        raise _Unusable("bad_chat: " + t("有一条消息不是对象", "a message is no object"))
    role_key = tags.role or ("role" if "role" in item else "from")
    content_key = tags.content or ("content" if "content" in item else "value")
    name = str(item.get(role_key, "")).strip()
    role = tags.roles.get(name) or tags.roles.get(name.casefold())
    if role is None:
        raise _Unusable("bad_chat: " + t(f"不认识的角色 {name[:40]!r}", f"unknown role {name[:40]!r}"))
    content = _content(item.get(content_key))
    if role == "function_call":
        return Message("assistant", "", {"tool_calls": _calls(content)}, _is_trained(item))
    fields = {key: value for key, value in item.items() if key not in (role_key, content_key, *_MARKS) and value is not None}
    return Message(_ROLES[role], content, fields, _is_trained(item))


_MARKS = ("weight", "loss", "train")
"""Keys of a message that say whether it is learned: OpenAI's, ms-swift's, Axolotl's."""


def _is_trained(item: Mapping[str, Any]) -> bool:
    marks = {key: item[key] for key in _MARKS if item.get(key) is not None}
    for key, value in marks.items():
        if value not in (0, 1):  # True and False too
            raise _Unusable("bad_chat: " + t(f"{key}: {value!r} 不是 0、1、true、false", f"{key}: {value!r} is none of 0, 1, true, false"))
    return all(marks.values())


_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


def _content(value: object) -> str:
    """A message's content: a text, or OpenAI's list of text parts; pictures and sound are refused, not dropped."""
    if not isinstance(value, list):
        return _text(value)
    parts = [part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else None for part in value]
    if any(not isinstance(part, str) for part in parts):
        raise _Unusable("bad_chat: " + t("有不是文字的内容", "content that is not text"))
    return "".join(part for part in parts if isinstance(part, str))


def _calls(text: str) -> list[dict[str, Any]]:
    """The calls that a function-call turn writes as JSON: one object or a list of them."""
    parsed = _parsed(text)
    calls = parsed if isinstance(parsed, list) else [parsed]
    if not calls or not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        raise _Unusable("bad_chat: " + t("函数调用不是带 name 的 JSON", "a function call that is no JSON with a name"))
    return [{"type": "function", "function": {"name": call["name"], "arguments": call.get("arguments", {})}} for call in calls]


def _history(value: object, tags: Tags) -> list[Message]:
    """Earlier turns: pairs of question and answer, or messages."""
    if value is None or value == "":
        return []
    listed = _parsed(value) if isinstance(value, str) else value
    if not isinstance(listed, (list, tuple)):
        raise _Unusable("bad_chat: " + t("history 不是列表", "history is no list"))
    turns: list[Message] = []
    for item in listed:
        if isinstance(item, dict):
            turns.append(_message(item, tags))
        elif isinstance(item, (list, tuple)) and len(item) == 2:
            turns += [Message("user", _text(item[0])), Message("assistant", _text(item[1]))]
        else:
            raise _Unusable("bad_chat: " + t("history 里有一项不是一问一答", "an item of history is no pair of question and answer"))
    return turns


def _answers(value: object) -> tuple[str, ...]:
    """The answer and its alternatives: a text, a list of texts, or SQuAD's object {text: [...]}. An empty one is none."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        parsed = _parsed(value)
        value = parsed if isinstance(parsed, dict) and "text" in parsed else value
    if isinstance(value, dict):
        value = value.get("text")
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    texts = [_text(item.get("text") if isinstance(item, dict) else item) for item in items]
    found = tuple(dict.fromkeys(text for text in texts if text.strip()))
    if not found:
        raise _Unusable("no_answer")
    return found


def _system(cells: Mapping[str, Any], turns: Sequence[Message]) -> tuple[Message, ...]:
    """The system column as a first turn."""
    text = _text(cells.get("system"))
    if not text.strip():
        return ()
    if turns and turns[0].role == "system":
        raise _Unusable("bad_chat: " + t("有两个系统提示", "two system prompts"))
    return (Message("system", text),)


def _tools(value: object) -> tuple[Any, ...]:
    """The tools as they are: a list, or a list (or one object) written as JSON."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    parsed = _parsed(value) if isinstance(value, str) else value
    tools = [parsed] if isinstance(parsed, dict) else parsed
    if not isinstance(tools, (list, tuple)) or not all(isinstance(tool, dict) for tool in tools):
        raise _Unusable("bad_chat: " + t("tools 不是对象的列表", "tools is no list of objects"))
    return tuple(tools)


def _last_user_text(turns: Sequence[Message]) -> tuple[int, int] | None:
    last = next((turn for turn in reversed(turns) if turn.role == "user"), None)
    return None if last is None else (0, len(last.content))


def _checked(chat: Chat) -> Chat:
    """The chat if it can be trained on. A system prompt only at the beginning, a user's text somewhere, an answer at the end."""
    if not chat.turns or chat.turns[-1].role != "assistant":
        raise _Unusable("no_answer")
    if not any(turn.role == "user" and turn.content.strip() for turn in chat.turns):
        raise _Unusable("no_prompt")
    if any(turn.role == "system" for turn in chat.turns[1:]):
        raise _Unusable("bad_chat: " + t("系统提示不在开头", "a system prompt that is not at the beginning"))
    if any(turn.role == "assistant" and not turn.content.strip() and not turn.fields.get("tool_calls") for turn in chat.turns):
        raise _Unusable("no_answer")
    return chat
