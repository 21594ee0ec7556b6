"""Which language messages are in, and what may reach a terminal."""

import errno

import pytest

from weitiao import language
from weitiao.errors import (
    ConfigError,
    DataError,
    DiskSpaceError,
    ModelError,
    NonFiniteError,
    OutOfMemoryError,
    RunError,
    UsageError,
    UserError,
    WeitiaoError,
)
from weitiao.language import system_cause, t, visible


@pytest.fixture(autouse=True)
def _no_locale(monkeypatch: pytest.MonkeyPatch):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    yield
    language.use(None)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.GB18030"}, "zh"),
        ({"LANG": "ZH_TW"}, "zh"),
        ({"LANG": "C"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_US"}, "en"),
        ({"LANG": "en_US", "LC_ALL": "zh_CN"}, "zh"),
        ({"LANG": "zh_CN", "LC_ALL": ""}, "zh"),
    ],
)
def test_the_first_variable_that_is_set_decides(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language.current() == expected


def test_a_chosen_language_wins_until_it_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    language.use("en")
    assert t("中", "en") == "en"
    language.use(None)
    assert t("中", "en") == "中"


def test_what_the_system_says_has_chinese_words() -> None:
    language.use("zh")
    assert system_cause(OSError(errno.ENOSPC, "No space left on device")) == "磁盘已满"
    assert system_cause(OSError(errno.EROFS, "Read-only file system")) == "所在的文件系统只读"
    assert system_cause(OSError(errno.ENOTTY, "Not a typewriter")) == "Not a typewriter"
    language.use("en")
    assert system_cause(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"
    assert system_cause(OSError("bare")) == "bare"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("文本\n\ttext é 😀", "文本\n\ttext é 😀"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\rb\x08\x00\x7f\x9b", "a\\x0db\\x08\\x00\\x7f\\x9b"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
    ],
)
def test_control_characters_are_shown_not_obeyed(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("kind", "standard", "code"),
    [
        (UsageError, ValueError, 2),
        (ConfigError, ValueError, 2),
        (DataError, ValueError, 2),
        (ModelError, ValueError, 2),
        (DiskSpaceError, OSError, 2),
        (RunError, Exception, 1),
        (NonFiniteError, ArithmeticError, 1),
        (OutOfMemoryError, MemoryError, 1),
    ],
)
def test_each_error_is_also_a_standard_one_and_has_its_exit_code(kind: type[WeitiaoError], standard: type[Exception], code: int) -> None:
    assert issubclass(kind, standard)
    assert issubclass(kind, WeitiaoError)
    assert kind.exit_code == code
    assert issubclass(kind, UserError) == (code == 2)


def test_a_users_error_reads_where_cause_remedy() -> None:
    language.use("zh")
    assert str(DataError("a.csv:3", "原因", "办法")) == "a.csv:3: 原因\n  怎么办: 办法"
    language.use("en")
    error = DataError("a.csv:3", "cause", "remedy")
    assert str(error) == "a.csv:3: cause\n  What to do: remedy"
    assert (error.where, error.cause, error.remedy) == ("a.csv:3", "cause", "remedy")
