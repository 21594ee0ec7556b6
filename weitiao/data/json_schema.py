"""Whether an answer keeps to a JSON Schema, and the schema as a grammar to write by."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weitiao.data.read import check_file
from weitiao.errors import ConfigError
from weitiao.language import t

if TYPE_CHECKING:  # imported where it is needed: most runs have no schema
    from jsonschema.protocols import Validator

MOST_CHARACTERS = 200
_BLANKS = r"[ \n\t]{0,20}"  # without a bound a weak model writes blanks until it is cut off


@dataclass(frozen=True)
class Checker:
    """Checks texts against one schema."""

    validator: "Validator"

    def fault(self, text: str) -> str | None:
        """What is wrong with a text as such JSON; None: nothing."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return t("不是 JSON", "not JSON")
        from referencing.exceptions import Unresolvable

        try:
            found = next(iter(self.validator.iter_errors(value)), None)
        except RecursionError:
            return t("层次太深", "too deep")
        except Unresolvable as error:
            return t(f"模式里的 $ref 在这个文件里找不到：{error}", f"a $ref of the schema is not in its file: {error}")[:MOST_CHARACTERS]
        return None if found is None else f"{found.json_path}: {found.message}"[:MOST_CHARACTERS]


def load_checker(path: str) -> Checker:
    """The checker of a schema file. Raises DataError for no such file, ConfigError for one that is no JSON Schema."""
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for
    from jsonschema_specifications import REGISTRY

    check_file(Path(path))
    remedy = t("改正这个文件（json-schema.org）", "correct the file (json-schema.org)")
    try:
        schema = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"task.json_schema: {path}", t(f"不是 JSON：{error}", f"is not JSON: {error}"), remedy) from None
    try:
        kind = validator_for(schema)
        kind.check_schema(schema)
    except (SchemaError, AttributeError, TypeError) as error:
        cause = str(error).split("\n")[0]
        raise ConfigError(f"task.json_schema: {path}", t(f"不是 JSON Schema：{cause}", f"is no JSON Schema: {cause}"), remedy) from None
    return Checker(kind(schema, registry=REGISTRY))  # one that fetches nothing: a $ref must be in the file


def grammar_of(checker: Checker) -> str:
    """A schema in llguidance's form. Raises ConfigError where the package is missing or cannot follow the schema."""
    where = "evaluate.decoding.constrained"
    try:
        from llguidance import LLMatcher
    except ImportError:
        cause = t("按 JSON Schema 写答案需要 llguidance", "writing answers by a JSON Schema needs llguidance")
        raise ConfigError(where, cause, "pip install 'weitiao[json]'") from None
    schema: Any = checker.validator.schema
    if isinstance(schema, Mapping):
        grammar = LLMatcher.grammar_from_json_schema(dict(schema), overrides={"whitespace_pattern": _BLANKS})
        fault = LLMatcher.validate_grammar(grammar)
    else:
        fault = t("模式只是 true 或 false", "the schema is just true or false")
    if fault:
        cause = t(f"不能按这个模式限制答案：{fault}", f"answers cannot be held to this schema: {fault}")
        remedy = t("改写模式，或去掉 constrained（答案照样检查）", "rewrite the schema, or leave constrained out (answers are checked)")
        raise ConfigError(where, cause.replace("\n", " "), remedy)
    return str(grammar)
