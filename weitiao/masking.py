"""The user's tokens and keys: what is shown, logged or recorded has stars in their place."""

import os
import re
from functools import cache
from typing import Any

HIDDEN = "***"
_NAMES = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH(?!OR)", re.IGNORECASE)
_SHORTEST = 8
"""A shorter value of such a variable is rather a word (`AUTH=basic`) than a secret; replacing it would spoil texts."""
_FORMS = re.compile(
    r"(?P<kept>[a-z][a-z0-9+.-]{2,}:/{1,2})[^\s/@'\"]+(?=@)"  # user:password@ of a URL, also as a path writes it
    r"|(?P<query>[?&][\w-]*(?:token|key|secret|password|signature|credential)=)[^&\s'\"]+"
    r"|(?P<header>\b(?:authorization\s*[:=]\s*(?:bearer|basic)?|bearer)\s+)(?=[\w.~+/=-]*\d)[\w.~+/=-]{8,}"
    r"|(?<![A-Za-z0-9])(?:hf_[0-9A-Za-z]{16,}|gh[pousr]_[0-9A-Za-z]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{16,}"
    r"|sk-(?=[\w-]*\d)[\w-]{20,}|(?:AKIA|ASIA)[0-9A-Z]{16}|LTAI[0-9A-Za-z]{12,26}|AIza[\w-]{30,}|ms-[0-9a-f]{8}-[0-9a-f-]{20,})",
    re.IGNORECASE,
)
_OWN = re.compile(r"https?://(?:127\.0\.0\.1|localhost|\[::1\]):\d+/\S*")
"""The address of the user's own page (`weitiao watch`) holds its key on purpose."""


def masked(text: str) -> str:
    """A text without the values of the environment's tokens and keys, passwords in URLs and headers, and what has the form of a key."""
    for value in _environment():
        text = text.replace(value, HIDDEN)
    own = {match.group(): f"\x00{number}\x00" for number, match in enumerate(_OWN.finditer(text))}
    for address, mark in own.items():
        text = text.replace(address, mark)
    text = _FORMS.sub(_hide, text)
    for address, mark in own.items():
        text = text.replace(mark, address)
    return text


def masked_values(value: Any) -> Any:
    """The same for every text in lists and objects, keys left as they are."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: masked_values(item) for key, item in value.items()}
    return [masked_values(item) for item in value] if isinstance(value, (list, tuple)) else value


def _hide(found: re.Match[str]) -> str:
    return (found["kept"] or found["query"] or found["header"] or "") + HIDDEN


def _environment() -> list[str]:
    """The secret values of the environment, the longest first."""
    values = {value for name, value in os.environ.items() if _is_secret(name) and len(value) >= _SHORTEST and not _is_place(value)}
    return sorted(values, key=len, reverse=True)


@cache
def _is_secret(name: str) -> bool:
    return _NAMES.search(name) is not None


def _is_place(value: str) -> bool:
    """A path, or the address of a service (`SSH_AUTH_SOCK`): needed in messages."""
    return value.startswith(("/", "~", "./")) or value.lower() in ("true", "false")
