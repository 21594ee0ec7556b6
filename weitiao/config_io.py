"""Settings as text: YAML in and out, ``key=value`` overrides, and the faults that pydantic finds, said in the user's language.

Knows the shape of a configuration only through the pydantic model that it is given. All faults are reported at once, each with its path,
value and what to write instead.
"""

import difflib
import json
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from weitiao.errors import ConfigError
from weitiao.language import system_cause, t

Model = TypeVar("Model", bound=BaseModel)
LARGEST_FILE_BYTES = 10_000_000
SHOWN_CHARACTERS = 80

_INTEGER = r"[-+]?(?:0|[1-9][0-9_]*)"
_SCALARS = (
    ("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    ("tag:yaml.org,2002:int", re.compile(rf"^{_INTEGER}$"), "-+0123456789"),
    ("tag:yaml.org,2002:float", re.compile(rf"^(?:{_INTEGER}(?:\.[0-9]*)?|[-+]?\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"), "-+0123456789."),
    ("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL)$"), "~nN"),
    ("tag:yaml.org,2002:merge", re.compile(r"^<<$"), "<"),
)
"""YAML 1.2's core without octal and hexadecimal numbers."""


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    table = {"": [("tag:yaml.org,2002:null", re.compile(r"^$"))]}
    for tag, pattern, firsts in _SCALARS:
        for first in firsts:
            table.setdefault(first, []).append((tag, pattern))
    return table


AS_WRITTEN = frozenset(
    (
        *("labels", "text", "label", "candidates", "prompt", "input", "answer", "history", "system", "messages", "tools", "chosen"),
        *("rejected", "template", "name", "path", "train", "validation", "test", "runs", "targets"),
    )
)
"""Keys whose values are text: there also 1, true and 1e-4 stay what the user wrote."""


def _keep_text(node: yaml.Node) -> None:
    """Make a plain word, or those of a list, text, but not what stands for nothing; groups of settings stay as they are."""
    for word in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if isinstance(word, yaml.ScalarNode) and word.tag in _NOT_TEXT:
            word.tag = "tag:yaml.org,2002:str"


_NOT_TEXT = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float"))


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core: `yes`, `no`, `on`, `off` and `010` stay what the user wrote, `1e-4` is a number, a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    t("键必须是一个词，不能是列表或一组设置", "a key must be a word, not a list or a mapping"),
                    key_node.start_mark,
                )
            key = str(key_node.value)
            if key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, t(f"键 {key!r} 写了两次", f"key {key!r} is given twice"), key_node.start_mark
                )
            seen.add(key)
            if key in AS_WRITTEN:
                _keep_text(value_node)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 (PyYAML's own rules) or :class:`_Loader` would read as something else than text."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the same value twice is written twice
        return True


_Loader.yaml_implicit_resolvers = _resolvers()
_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, ()), *_Loader.yaml_implicit_resolvers.get(first, ())]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def dump_yaml(tree: Mapping[str, Any]) -> str:
    """A tree as YAML that :func:`parse_yaml` reads back the same."""
    return yaml.dump(dict(tree), Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=120)


def parse_yaml(text: str, where: str, as_written: bool = False) -> Any:
    """One YAML document. ``where`` names it in errors; ``as_written``: a value whose key is in :data:`AS_WRITTEN`. Raises ConfigError with
    the line of the fault."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if as_written and node is not None:
                _keep_text(node)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        place, cause = _yaml_fault(error, text, where)
    except RecursionError:
        place, cause = where, t("嵌套太深", "nested too deep")
    except (ValueError, TypeError, KeyError) as error:  # a tag that does not fit its value: !!int x
        place, cause = where, t("有一个值与它的类型标记不符", f"a value does not fit its tag: {error}")
    raise ConfigError(place, t(f"不是合法的 YAML：{cause}", f"not valid YAML: {cause}"), t("改正这里", "correct it"))


_YAML_FAULTS = (
    (r"found character '\\t'", "用了制表符（Tab）缩进；YAML 只能用空格"),
    (r"found character", "出现了不能这样开头的字符（特殊字符开头的文字要加引号）"),
    (r"mapping values are not allowed", "这里不能再出现“: ”（文字里有冒号要加引号；或者缩进不对）"),
    (r"could not find expected ':'", "键后面缺少冒号"),
    (r"expected <block end>|did not find expected", "缩进没有对齐，或括号、引号没有闭合"),
    (r"expected ',' or", "方括号或花括号没有闭合，或缺少逗号"),
    (r"found unexpected end of stream", "引号没有闭合"),
    (r"found undefined alias", "用了没有定义的别名（*名字）"),
    (r"could not determine a constructor", "用了不支持的类型标记（!…）"),
    (r"but found another document", "有多个文档（---）；只能有一个"),
    (r"expected the node content|found unknown escape", "值不完整或转义不对"),
)


def _yaml_fault(error: yaml.YAMLError, text: str, where: str) -> tuple[str, str]:
    """(place, cause) of a syntax fault, with the line itself."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"{where}:{line}", t(
            f"含有不允许的字符 U+{error.character:04X}", f"a character that is not allowed: U+{error.character:04X}"
        )
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return where, t("语法不对", str(error))
    line, problem = error.problem_mark.line, error.problem or ""
    own = any("\u4e00" <= character <= "\u9fff" for character in problem)
    chinese = problem if own else next((zh for pattern, zh in _YAML_FAULTS if re.search(pattern, problem)), "语法不对")
    lines = text.splitlines()
    shown = f"\n  {_cut(lines[line].strip())}" if line < len(lines) and lines[line].strip() else ""
    return f"{where}:{line + 1}", t(chinese, problem) + shown


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _shown(value: object) -> str:
    """A value as YAML would have it, cut; nested values and aliases are never written out in full, as they may be without end."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return _cut(json.dumps(value, ensure_ascii=False))
    return _REPR.repr(value)


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = SHOWN_CHARACTERS
_REPR.maxlevel = _REPR.maxlist = _REPR.maxdict = 3


def read_tree(path: Path | None, overrides: Sequence[str], short_forms: Mapping[str, str]) -> dict[Any, Any]:
    """The settings of a file (None: none) with overrides applied, unchecked. ``short_forms``: which field a bare word stands for, by
    top-level key. Raises ConfigError."""
    tree: Any = {}
    if path is not None:
        tree = parse_yaml(_read(path), str(path))
        if tree is None:
            tree = {}
        if not isinstance(tree, dict):
            cause = t(f"不是一组 键: 值（而是 {_shown(tree)}）", f"not a mapping of keys to values (but {_shown(tree)})")
            raise ConfigError(
                str(path),
                cause,
                t("参考 recipes/ 里的例子，或用 weitiao init 生成", "see the examples in recipes/, or make one with weitiao init"),
            )
    for override in overrides:
        _apply_override(tree, override, short_forms)
    return dict(tree)


def _read(path: Path) -> str:
    where = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
        if len(data) > LARGEST_FILE_BYTES:
            limit = LARGEST_FILE_BYTES // 1_000_000
            raise ConfigError(where, t(f"超过 {limit} MB", f"larger than {limit} MB"), t("这不是配置文件", "this is no configuration"))
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        names = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=1)
        if near:
            remedy = t(f"是不是 {path.parent / near[0]}？", f"did you mean {path.parent / near[0]}?")
        else:
            remedy = t("检查路径，或用 weitiao init 数据文件 生成一份", "check the path, or make one with: weitiao init DATA")
        raise ConfigError(where, t("没有这个文件", "no such file"), remedy) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{where}:{line}", t("不是 UTF-8", "not UTF-8"), t("把文件另存为 UTF-8", "save the file as UTF-8")) from None
    except OSError as error:
        cause = system_cause(error)
        raise ConfigError(where, t(f"读不了：{cause}", f"cannot be read: {cause}"), t("给出一个 YAML 文件", "give a YAML file")) from None


def _apply_override(tree: dict[Any, Any], override: str, short_forms: Mapping[str, str]) -> None:
    """Set one ``a.b.c=value`` in the tree, the value read as YAML."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            override, t("不是 键=值 的形式", "not of the form key=value"), t("例如 train.epochs=3", "for example train.epochs=3")
        )
    value = parse_yaml(text, override, as_written=keys[-1] in AS_WRITTEN)
    if isinstance(value, dict) and value and all(inner is None for inner in value.values()):
        value = text  # task.template={text}: places in a template, which YAML would take for a mapping
    node = tree
    for depth, key in enumerate(keys[:-1]):
        child = node.get(key)
        if isinstance(child, str) and depth == 0 and key in short_forms:
            child = {short_forms[key]: child}
        if child is None:
            child = {}
        if not isinstance(child, dict):
            shown = ".".join(keys[: depth + 1])
            raise ConfigError(
                override, t(f"{shown} 不是一组设置", f"{shown} is not a group of settings"), t("检查键的路径", "check the key's path")
            )
        node[key] = dict(child)  # a copy: YAML aliases share one object
        node = node[key]
    if keys[-1] == "kind" and node.get("kind") not in (None, value):
        node.clear()  # another variant: the fields of the former one do not belong to it
    node[keys[-1]] = value


def check_tree(model: type[Model], tree: Mapping[Any, Any], where: str) -> Model:
    """The tree as an object of ``model``. Raises ConfigError that lists every fault at once."""
    try:
        return model.model_validate(dict(tree))
    except ValidationError as error:
        faults = error.errors(include_url=False)
        inner = {fault["loc"][:-1] for fault in faults}  # a list with a wrong entry is also reported as too short
        lines = [_explain(model, fault) for fault in faults if fault["type"] != "too_short" or fault["loc"] not in inner]
        count = len(lines)
        listing = "".join(f"\n  - {line}" for line in lines)
        raise ConfigError(
            where,
            t(f"配置里有 {count} 处错误：{listing}", f"{count} error{'s' * (count > 1)} in the configuration:{listing}"),
            t("按上面逐条改正；全部设置见 weitiao schema", "correct them as said above; every setting: weitiao schema"),
        ) from None


def _variants(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field may hold."""
    if get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation  # Python 3.10 takes tuple[int, ...] for a type
    for part in get_args(annotation):
        yield from _variants(part)


def _walk(model: type[BaseModel], location: Sequence[str | int]) -> tuple[str, type[BaseModel] | None]:
    """The path of a fault as the user writes it (pydantic adds the tags of unions), and the model that the last step is a key of."""
    part: type[BaseModel] | None = model
    owner: type[BaseModel] | None = model
    tags: dict[Any, type[BaseModel]] = {}
    shown = []
    for step in location:
        if step in tags:
            part, tags = tags[step], {}
            continue
        shown.append(str(step))
        owner, field = part, part.model_fields.get(str(step)) if part else None
        found = list(_variants(field.annotation)) if field else []
        part = found[0] if len(found) == 1 else None
        tags = {variant.model_fields["kind"].default: variant for variant in found} if len(found) > 1 else {}
    return ".".join(shown), owner


def _did_you_mean(given: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(given, known, n=1)
    return t(f"，是不是 {near[0]}？", f"; did you mean {near[0]}?") if near else ""


def _explain(model: type[BaseModel], fault: Mapping[str, Any]) -> str:
    """One line for one fault: path, value, cause, remedy."""
    path, owner = _walk(model, fault["loc"])
    kind, context, value = fault["type"], fault.get("ctx", {}), fault.get("input")
    if kind == "extra_forbidden":
        known = list(owner.model_fields) if owner else []
        hint = _did_you_mean(path.rpartition(".")[2], known)
        return t(f"{path}：没有这个键{hint}（可用：{', '.join(known)}）", f"{path}: no such key{hint} (known: {', '.join(known)})")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        given = _cut(str(context.get("tag", t("（缺）", "(missing)"))))
        names = re.findall(r"'(\w+)'", str(context.get("expected_tags", "")))
        hint = _did_you_mean(given, names)
        known_names = ", ".join(names)
        return t(
            f"{path}.kind：不认识 {given}{hint}（可用：{known_names}）", f"{path}.kind: {given} is unknown{hint} (known: {known_names})"
        )
    if kind == "literal_error" and isinstance(value, str):
        hint = _did_you_mean(value, re.findall(r"'(\w+)'", str(context.get("expected", ""))))
    else:
        hint = ""
    message = _pydantic_message(kind, context, str(fault["msg"])) + hint
    if not path:
        return message
    return f"{path}: {message}" if isinstance(value, dict) and kind == "value_error" else f"{path} = {_shown(value)}: {message}"


_CHINESE = {
    "greater_than": "必须大于 {gt}",
    "greater_than_equal": "必须不小于 {ge}",
    "less_than": "必须小于 {lt}",
    "less_than_equal": "必须不大于 {le}",
    "literal_error": "只能是 {expected}",
    "int_parsing": "必须是整数",
    "int_parsing_size": "数字太长",
    "int_type": "必须是整数",
    "int_from_float": "必须是整数",
    "float_parsing": "必须是数字",
    "float_type": "必须是数字",
    "finite_number": "必须是有限的数字",
    "bool_parsing": "必须是 true 或 false",
    "bool_type": "必须是 true 或 false",
    "string_type": "必须是文字（像 1、true 这样的值请加引号）",
    "string_unicode": "含有不成对的代理字符",
    "string_too_short": "不能为空",
    "string_too_long": "太长（最多 {max_length} 个字符）",
    "string_pattern_mismatch": "只能用字母、数字、_、. 和 -",
    "too_short": "至少要有 {min_length} 项",
    "too_long": "最多 {max_length} 项",
    "tuple_type": "必须是列表",
    "dict_type": "必须是一组设置",
    "model_type": "必须是一组设置",
    "model_attributes_type": "必须是一组设置",
    "invalid_key": "键必须是文字",
    "recursion_loop": "引用了自己",
}


def _pydantic_message(kind: str, context: Mapping[str, Any], english: str) -> str:
    """What pydantic found; its own messages are English, those of our validators (``value_error``) are in the user's language already."""
    if kind in ("value_error", "assertion_error"):
        return english.partition(", ")[2]
    filled = {name: str(value).replace(" or ", "、").replace(", ", "、") for name, value in context.items()}
    english = {"string_pattern_mismatch": "only letters, digits, _, . and - are possible"}.get(kind, english)
    return t(_CHINESE.get(kind, "不是这里可用的值").format(**filled), english)
