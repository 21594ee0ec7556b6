"""Chinese or English: both texts stand side by side where they are used, so neither can be forgotten."""

import locale
import os
from contextvars import ContextVar
from typing import Literal

Language = Literal["zh", "en"]


def from_environment() -> Language:
    """The language of the user's locale: Chinese if the first locale variable that is set names it, else English."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(variable)
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    name = locale.getlocale()[0] or ""  # Windows and macOS do not set the variables
    return "zh" if name.lower().startswith(("zh", "chinese")) else "en"


_current: ContextVar[Language | None] = ContextVar("language", default=None)


def current() -> Language:
    """The language in force: the one set by :func:`use`, else the locale's."""
    return _current.get() or from_environment()


def use(language: Language | None) -> None:
    """Set the language of all messages from here on; ``None`` goes back to the locale."""
    _current.set(language)


def t(zh: str, en: str) -> str:
    """One message in the language in force."""
    return zh if current() == "zh" else en
