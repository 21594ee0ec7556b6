"""Personal data and secrets in the texts: how many rows and where, never what."""

from collections.abc import Callable, Iterator

from weitiao.audit import private
from weitiao.audit.findings import AuditInput, Finding, Severity, Words, noun, places, verb

_REMEDY = Words(
    "确认你有权用它们训练：模型可能把它们背出来。不需要就在数据里删去或替换成占位符",
    "make sure that you may train on them: a model can recite them. Where they are not needed, delete or replace them in the data",
)


def personal_id(data: AuditInput) -> Finding | None:
    """Chinese identity numbers."""
    return _rows_with(data, private.identity_numbers, "warning", Words("身份证号", "a Chinese identity number"), _REMEDY)


def personal_phone(data: AuditInput) -> Finding | None:
    """Mobile phone numbers."""
    return _rows_with(data, private.phone_numbers, "warning", Words("手机号", "a mobile phone number"), _REMEDY)


def personal_card(data: AuditInput) -> Finding | None:
    """Bank card numbers."""
    return _rows_with(data, private.bank_cards, "warning", Words("银行卡号", "a bank card number"), _REMEDY)


def personal_email(data: AuditInput) -> Finding | None:
    """E-mail addresses."""
    return _rows_with(data, private.email_addresses, "notice", Words("电子邮箱", "an e-mail address"), _REMEDY)


def secret_key(data: AuditInput) -> Finding | None:
    """Private keys and access keys."""
    remedy = Words(
        "先到签发它的服务那里作废，再从数据里删去：删掉文件里的字并不能收回它",
        "revoke it at the service that issued it, then delete it from the data: deleting alone does not take it back",
    )
    return _rows_with(data, private.secret_keys, "warning", Words("私钥或访问密钥", "a private key or access key"), remedy)


def _rows_with(
    data: AuditInput, detect: Callable[[str], Iterator[private.Span]], severity: Severity, what: Words, remedy: Words
) -> Finding | None:
    found = [item for item in data.items if any(next(detect(text), None) for text in (item.written, "" if item.is_chat else item.label))]
    if not found:
        return None
    n = len(found)
    message = Words(f"{n} 行含有{what.zh}（内容不显示）", f"{n} {noun(n, 'row')} {verb(n, 'hold')} {what.en} (not shown)")
    return Finding(severity, n, message, remedy, places(found, show=False))
