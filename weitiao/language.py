"""Chinese or English: both texts stand side by side where they are used, so neither can be forgotten."""

import errno
import locale
import os
import re
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


_SYSTEM_CAUSES = {
    errno.ENOENT: "不存在",
    errno.EACCES: "没有权限",
    errno.EPERM: "没有权限",
    errno.EROFS: "所在的文件系统只读",
    errno.ENOSPC: "磁盘已满",
    errno.EDQUOT: "超出磁盘配额",
    errno.EFBIG: "文件大小超出限制",
    errno.EISDIR: "是文件夹，不是文件",
    errno.ENOTDIR: "路径中间有一段不是文件夹",
    errno.EEXIST: "已经存在",
    errno.ENAMETOOLONG: "名字太长",
    errno.ELOOP: "符号链接循环",
    errno.EIO: "读写出错（磁盘故障？）",
    errno.EMFILE: "打开的文件太多",
    errno.EINVAL: "名字里有不允许的字符",
}


def system_cause(error: OSError) -> str:
    """What the operating system says went wrong (its own words, which are English, only where we have none)."""
    english = error.strerror or str(error) or type(error).__name__
    return t(_SYSTEM_CAUSES.get(error.errno or 0, english), english)


_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Text from outside as it may go to a terminal: control characters, which could move the cursor or recolour, are written as escapes."""
    return _INVISIBLE.sub(lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}", text)
