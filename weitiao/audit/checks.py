"""All checks of the audit, and what stops a run. A new check is one function and one name here."""

from collections.abc import Callable, Sequence
from typing import Any

from weitiao.audit import accounts, copies, labels, personal, texts, topics
from weitiao.audit.findings import SEVERITIES, AuditInput, Finding
from weitiao.errors import ConfigError, DataError
from weitiao.language import current, t

CHECKS: tuple[tuple[str, Callable[[AuditInput], Finding | None]], ...] = (
    ("leakage", copies.leakage),
    ("near_leakage", copies.near_leakage),
    ("contamination", copies.contamination),
    ("leakage_validation", copies.leakage_validation),
    ("duplicates", copies.duplicates),
    ("near_duplicates", copies.near_duplicates),
    ("conflicting_labels", copies.conflicting_labels),
    ("label_typos", labels.label_typos),
    ("rare_labels", labels.rare_labels),
    ("untested_labels", labels.untested_labels),
    ("imbalance", labels.imbalance),
    ("untrained_rows", accounts.untrained_rows),
    ("rejected_rows", accounts.rejected_rows),
    ("shortened_rows", accounts.shortened_rows),
    ("empty_texts", texts.empty_texts),
    ("encoding_damage", texts.encoding_damage),
    ("control_tokens", texts.control_tokens),
    ("boilerplate", texts.boilerplate),
    ("languages", texts.languages),
    ("low_diversity", texts.low_diversity),
    ("dominant_topic", topics.dominant_topic),
    ("untrained_topics", topics.untrained_topics),
    ("secret_key", personal.secret_key),
    ("personal_id", personal.personal_id),
    ("personal_card", personal.personal_card),
    ("personal_phone", personal.personal_phone),
    ("personal_email", personal.personal_email),
)
"""Name and function of each check; a function gives its finding, or None where there is nothing to say."""

MARKS = {"error": "✗", "warning": "!", "notice": "·"}


def run_checks(data: AuditInput) -> list[dict[str, Any]]:
    """The findings of all checks, as ``data/audit.json`` holds them, the gravest first."""
    found = [finding.as_dict(name) for name, check in CHECKS if (finding := check(data))]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding["severity"]))


def require_known(fail_on: Sequence[str]) -> None:
    """Raise ConfigError for an entry of ``check.fail_on`` that is neither a severity nor the name of a check."""
    known = [*SEVERITIES, *(name for name, _ in CHECKS)]
    for name in fail_on:
        if name not in known:
            cause = t(f"没有叫 {name!r} 的检查或级别", f"no check and no severity is called {name!r}")
            raise ConfigError("check.fail_on", cause, t(f"可用：{'、'.join(known)}", f"use any of: {', '.join(known)}"))


def stopping(findings: Sequence[dict[str, Any]], fail_on: Sequence[str]) -> list[dict[str, Any]]:
    """The findings that stop a run."""
    return [finding for finding in findings if finding["check"] in fail_on or finding["severity"] in fail_on]


def stop_on(findings: Sequence[dict[str, Any]], fail_on: Sequence[str]) -> None:
    """Raise DataError where a finding is one that stops a run."""
    stops = stopping(findings, fail_on)
    if stops:
        first = stops[0]
        row = next(iter(first["rows"]), None)
        where = f"{row['file']}:{row['line']}" if row else first["check"]
        lines = [finding[current()] for finding in stops]
        remedy = first["remedy"][current()] + t(
            f"；明知如此仍要训练：check.fail_on='[]'（现在：{', '.join(fail_on)}）",
            f"; to train all the same: check.fail_on='[]' (now: {', '.join(fail_on)})",
        )
        raise DataError(where, t("数据检查不通过：", "the data audit stops this run: ") + "\n  ".join(lines), remedy)


def findings_text(findings: Sequence[dict[str, Any]], most_rows: int) -> list[str]:
    """The findings for a terminal: a line each, then (for ``check``) a few rows and what to do."""
    lines = []
    for finding in findings:
        lines.append(f"{MARKS[finding['severity']]} {finding['check']}: {finding[current()]}")
        if most_rows:
            for row in finding["rows"][:most_rows]:
                other = f" = {row['other']}" if "other" in row else ""
                lines.append(f"    {row['file']}:{row['line']}{other}  {row.get('text', '')}".rstrip())
            lines.append("    " + t("怎么办：", "what to do: ") + finding["remedy"][current()])
    return lines
