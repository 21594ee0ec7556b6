"""JSON and JSON Lines text to (line, values), or (line, what is wrong) for a row that must not be used.

``json`` of the standard library parses; this file stops what it lets through (NaN, 1e999, a key twice, NUL, lone surrogates, any
depth) and knows the line on which each row of a JSON list starts.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from weitiao.errors import DataError
from weitiao.language import t

MAX_DEPTH = 100


class _BadValue(ValueError):
    """Well-formed to Python's parser, yet no JSON value that a row may hold."""


class WrittenNumber(float):
    """A number that remembers how it was written: the label 1e-4 stays "1e-4"."""

    def __new__(cls, text: str) -> "WrittenNumber":
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str

    def __str__(self) -> str:
        return self.text


def _finite(text: str) -> float:
    value = WrittenNumber(text)
    if not math.isfinite(value):
        raise _BadValue(t(f"数值 {text} 不是有限数", f"the number {text} is not finite"))
    return value


def _no_constant(text: str) -> NoReturn:
    raise _BadValue(t(f"{text} 不是 JSON 数值", f"{text} is not a JSON number"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        key = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise _BadValue(t(f"键 {key!r} 出现了两次", f"the key {key!r} occurs twice"))
    return values


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant, object_pairs_hook=_object)
_FORBIDDEN = re.compile("[\0\ud800-\udfff]")
_SPACE = re.compile(r"[ \t\n\r]*")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]|[^\s\[\]{}",:]+', re.DOTALL)


def json_lines(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """One object per line; blank lines are no rows."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, _checked(_DECODER.decode(line), line)
        except json.JSONDecodeError as error:
            yield number, _syntax(error.colno, error.msg)
        except (ValueError, RecursionError) as error:
            yield number, _fault(error)


def json_list(file: str, text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The objects of a JSON list, or of the one list inside a JSON object; one object per line counts as JSON Lines (CLUE).

    Raises ``DataError`` where the syntax is broken: unlike in JSON Lines there is no next line to go on with.
    """
    first, _, rest = text.strip().partition("\n")
    if first.startswith("{") and first.rstrip().endswith("}") and rest.lstrip().startswith("{"):
        yield from json_lines(text.split("\n"))
        return
    at = _next(text, 0)
    if at == len(text):
        return
    inside = text[at] != "["
    at = counted = _list_in_object(file, text, at) if inside else at
    line, at = 1 + text.count("\n", 0, at), _next(text, at + 1)
    closed = text.startswith("]", at)
    while not closed:
        line, counted = line + text.count("\n", counted, at), at
        values, at = _item(file, text, at)
        yield line, values
        at = _next(text, at)
        closed = text.startswith("]", at)
        if not closed:
            at = _expect(file, text, at, ",")
    if not inside:
        _expect_end(file, text, at + 1)


_KINDS = {"list": ("列表", "list"), "str": ("文字", "string"), "bool": ("布尔值", "boolean"), "NoneType": ("null", "null")}


def _checked(value: object, source: str) -> dict[str, Any] | str:
    if not isinstance(value, dict):
        chinese, english = _KINDS.get(type(value).__name__, ("数字", "number"))
        return t(f"不是 JSON 对象（而是{chinese}）", f"not a JSON object (but a {english})")
    if "\\u" not in source and source.count("[") + source.count("{") <= MAX_DEPTH:
        return value  # neither a forbidden character nor too deep: the usual row is not walked
    return forbidden(value) or value


def forbidden(value: object) -> str | None:
    """What no row may hold: NUL, a lone surrogate, more than :data:`MAX_DEPTH` levels; None if there is none of it."""
    stack: list[tuple[object, int]] = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if isinstance(item, str) and (found := _FORBIDDEN.search(item)):
            if found[0] == "\0":
                return t("含有 NUL 字符", "holds a NUL character")
            return t("含有不成对的代理字符", "holds a lone surrogate")
        if isinstance(item, (dict, list)):
            if depth > MAX_DEPTH:
                return _fault(RecursionError())
            children = (*item, *item.values()) if isinstance(item, dict) else item
            stack.extend((child, depth + 1) for child in children)
    return None


def _fault(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return t(f"嵌套超过 {MAX_DEPTH} 层", f"nested deeper than {MAX_DEPTH} levels")
    return str(error)


_SYNTAX_FAULTS = (
    ("Expecting value", "这里缺少一个值"),
    ("Expecting property name", "键要用双引号括起来"),
    ("Expecting ", "这里缺少标点（逗号、冒号或括号）"),
    ("Unterminated", "引号或括号没有闭合"),
    ("Invalid control character", "字符串里有未转义的换行或控制字符"),
    ("Invalid", "反斜杠转义不对"),
    ("Extra data", "后面还有多余的内容"),
    ("Illegal trailing comma", "最后一项后面多了逗号"),
)


def _syntax(column: int, cause: str) -> str:
    chinese = next((zh for start, zh in _SYNTAX_FAULTS if cause.startswith(start)), "语法不对")
    return t(f"不是合法的 JSON：第 {column} 列，{chinese}", f"not valid JSON: column {column}, {cause}")


def _item(file: str, text: str, at: int) -> tuple[dict[str, Any] | str, int]:
    """(the row at ``at`` or what is wrong with it, where it ends)."""
    try:
        value, end = _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise _broken(file, text, error.pos, error.msg) from error
    except (ValueError, RecursionError) as error:
        return _fault(error), _end_of_value(file, text, at)
    return _checked(value, text[at:end]), end


def _list_in_object(file: str, text: str, at: int) -> int:
    """Where the one list of rows inside a top-level object starts: the only list of objects, else the only list."""
    lists: dict[str, int] = {}
    at = _expect(file, text, at, "{")
    closed = text.startswith("}", at)
    while not closed:
        end = _end_of_value(file, text, at)
        key, at = text[at:end], _expect(file, text, _next(text, end), ":")
        if text.startswith("[", at):
            lists[key] = at
        at = _next(text, _end_of_value(file, text, at))
        closed = text.startswith("}", at)
        if not closed:
            at = _expect(file, text, at, ",")
    _expect_end(file, text, at + 1)
    found = [start for start in lists.values() if text.startswith("{", _next(text, start + 1))] or list(lists.values())
    if len(found) == 1:
        return found[0]
    cause = t("这个 JSON 对象里没有列表", "the JSON object holds no list")
    if found:
        number = len(found)
        cause = t(f"这个 JSON 对象里有 {number} 个列表，应当只有一个", f"the JSON object holds {number} lists instead of one")
    remedy = t("把数据存成一个列表 [{…}, {…}]，或 JSON Lines", "save one list of rows, or JSON Lines")
    raise DataError(file, f"{cause} ({', '.join(lists)})" if found else cause, remedy)


def _next(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _expect(file: str, text: str, at: int, character: str) -> int:
    """The place after ``character`` and the space that follows it."""
    if not text.startswith(character, at):
        raise _broken(file, text, at, f"Expecting {character!r}")
    return _next(text, at + 1)


def _expect_end(file: str, text: str, at: int) -> None:
    if (at := _next(text, at)) < len(text):
        raise _broken(file, text, at, "Extra data")


def _end_of_value(file: str, text: str, at: int) -> int:
    """The end of the JSON value at ``at``, by its brackets alone and so at any depth."""
    depth = 0
    for token in _TOKEN.finditer(text, at):
        depth += (token[0] in ("[", "{")) - (token[0] in ("]", "}"))
        if depth <= 0:
            return token.end()
    raise _broken(file, text, len(text), "Unterminated value")


def _broken(file: str, text: str, at: int, cause: str) -> DataError:
    remedy = t("修好这一行，或改存成 JSON Lines（坏行只丢一行）", "repair it, or save as JSON Lines (a bad line costs one row)")
    return DataError(f"{file}:{1 + text.count(chr(10), 0, at)}", _syntax(at - text.rfind("\n", 0, at), cause), remedy)
