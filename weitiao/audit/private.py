"""Personal data and secrets in a text: where they stand, found by form and check digit. What is found is counted, never shown.

Chinese identity numbers: GB 11643-1999 (province, date, check digit of ISO 7064 MOD 11-2). Bank cards: ISO/IEC 7812-1 (prefix, length,
Luhn).
"""

import re
from collections.abc import Callable, Iterator
from datetime import date

Span = tuple[int, int]

_PROVINCES = frozenset(
    str(code) for codes in ((11, 16), (21, 24), (31, 38), (41, 47), (50, 55), (61, 66), (71, 72), (81, 84)) for code in range(*codes)
)
_ID = re.compile(r"(?<![0-9A-Za-z])[1-8]\d{16}[0-9Xx](?![0-9A-Za-z])", re.ASCII)
_PHONE = re.compile(r"(?<![\w.])(?:\+?86[- ]?)?1[3-9]\d(?:\d{8}|([- ])\d{4}\1\d{4})(?![\w])(?!\.\d)", re.ASCII)
_CARD = re.compile(r"(?<![\w.-])[2-6]\d{3}(?:\d{9,15}|([- ])\d{4}\1\d{4}\1\d{1,7})(?![\w-])(?!\.\d)", re.ASCII)
_CARD_FORMS = re.compile(
    r"62\d{14,17}|4\d{12}|4\d{15}|5[1-5]\d{14}|(?:222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}|35\d{14}|6011\d{12}|65\d{14}"
)
_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![\w-])", re.ASCII
)
_NOBODY = re.compile(r"@(?:.+\.)?(?:example\.(?:com|org|net|edu|cn)|(?:.+\.)?(?:example|invalid|test|localhost))$", re.IGNORECASE)
"""Addresses that belong to no one (RFC 2606)."""
_SECRET = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"
    r"|(?<![\w-])(?:(?:AKIA|ASIA)[0-9A-Z]{16}|LTAI[0-9A-Za-z]{12,26}|AKID[0-9A-Za-z]{32}|gh[pousr]_[0-9A-Za-z]{36}|github_pat_\w{60,90}"
    r"|glpat-[\w-]{20}|xox[abprs]-[0-9A-Za-z-]{20,}|AIza[\w-]{35}|hf_[0-9A-Za-z]{30,40}|sk-(?:proj-|ant-)?(?=[\w-]*\d)(?=[\w-]*[A-Za-z])"
    r"[\w-]{20,})(?![\w-])",
    re.ASCII,
)


_DIGITS = re.compile(r"\d{4}", re.ASCII)
"""What every number has that is looked for here: a quick look spares the other patterns nearly all texts."""
_SIGNS = ("-----BEGIN ", "AKIA", "ASIA", "LTAI", "AKID", "gh", "glpat-", "xox", "AIza", "hf_", "sk-")
"""What every key has."""


def identity_numbers(text: str) -> Iterator[Span]:
    """Chinese identity numbers with a province, a date and a check digit that are right."""
    if not _DIGITS.search(text):
        return iter(())
    return (match.span() for match in _ID.finditer(text) if _is_identity(match[0]))


def phone_numbers(text: str) -> Iterator[Span]:
    """Mobile phone numbers of mainland China: 11 digits, alone or grouped 3-4-4, with or without +86."""
    if not _DIGITS.search(text):
        return iter(())
    return (match.span() for match in _PHONE.finditer(text))


def bank_cards(text: str) -> Iterator[Span]:
    """Numbers with the prefix and length of a card scheme and a right Luhn digit, digits together or in groups of four."""
    for match in _CARD.finditer(text) if _DIGITS.search(text) else ():
        digits = re.sub("[- ]", "", match[0])
        if _CARD_FORMS.fullmatch(digits) and _is_luhn(digits) and len(set(digits)) > 1 and not _is_identity(digits):
            yield match.span()


def email_addresses(text: str) -> Iterator[Span]:
    """E-mail addresses, but for the domains that are kept for examples."""
    if "@" in text:
        yield from (match.span() for match in _EMAIL.finditer(text) if not _NOBODY.search(match[0]))


def secret_keys(text: str) -> Iterator[Span]:
    """Private keys (PEM) and access keys whose form says which service issued them."""
    if not any(sign in text for sign in _SIGNS):
        return iter(())
    return (match.span() for match in _SECRET.finditer(text))


DETECTORS: tuple[Callable[[str], Iterator[Span]], ...] = (identity_numbers, phone_numbers, bank_cards, email_addresses, secret_keys)


def masked(text: str) -> str:
    """The text with everything that the detectors find replaced by ▇▇▇."""
    spans = sorted(span for detect in DETECTORS for span in detect(text))
    parts, end = [], 0
    for start, stop in spans:
        if start >= end:
            parts += [text[end:start], "▇▇▇"]
        end = max(end, stop)
    return "".join(parts) + text[end:]


def _is_identity(number: str) -> bool:
    if len(number) != 18 or number[:2] not in _PROVINCES:
        return False
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * pow(2, 17 - i, 11) for i, digit in enumerate(number[:17]))
    return 1900 <= born.year <= 2099 and "10X98765432"[total % 11] == number[17].upper()


def _is_luhn(digits: str) -> bool:
    total = 0
    for i, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + i % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0
