"""The account of rows: each row that came in was used or rejected, and whoever asks can see which, where and why."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from weitiao.data.read import file_sha256
from weitiao.errors import RunError
from weitiao.language import t
from weitiao.records import SplitName


@dataclass(slots=True)
class _Account:
    """One file in one split."""

    used: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list)
    shortened: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def rows_in(self) -> int:
        return self.used + len(self.rejected)


def describe_reason(key: str, detail: str = "") -> str:
    """Why a row was rejected, for people."""
    words = {
        "bad_row": t("读不出来", "cannot be read"),
        "no_text": t("没有正文", "has no text"),
        "no_label": t("没有标签", "has no label"),
        "no_prompt": t("没有提问", "has no prompt"),
        "no_answer": t("没有回答", "has no answer"),
        "no_context": t("没有原文", "has no passage"),
        "answer_cut": t("太长，答案所在的原文要被截掉", "is too long, and what holds the answer would be cut off"),
        "bad_answer": t("回答不合 JSON Schema", "its answer does not keep to the JSON Schema"),
        "bad_chat": t("不是能用的对话", "is no usable chat"),
        "no_rejected": t("没有较差的回答（rejected）", "has no worse answer (rejected)"),
        "same_answers": t("两个回答相同", "has the same answer twice"),
        "bad_pair": t("两个回答不能比较", "its two answers cannot be compared"),
        "label_not_in_candidates": t("标签不在本行的候选中", "its label is not among its candidates"),
        "too_long": t("太长", "is too long"),
        "over_limit": t("超出 data.limit", "is beyond data.limit"),
        "duplicate": t("重复", "is a duplicate"),
    }.get(key, key)
    return words + (t(f"：{detail}", f": {detail}") if detail else "")


class Ledger:
    """Counts per file and split: rows in = used + rejected; shortened rows are some of the used ones.

    A reader that tells the ledger what came in (``enter``: per file, the split may not be known yet) gets it checked against
    what was booked (``use``, ``reject``). ``sha256`` hashes a file when it first appears.
    """

    def __init__(self, sha256: Callable[[Path], str] = file_sha256) -> None:
        self._sha256 = sha256
        self._hashes: dict[str, str] = {}
        self._entered: dict[str, int] = {}
        self._accounts: dict[tuple[SplitName, str], _Account] = {}

    def enter(self, file: str, rows: int = 1) -> None:
        """Rows came in from ``file``, each of which must be used or rejected in some split."""
        self._see(file)
        self._entered[file] = self._entered.get(file, 0) + rows

    def use(self, split: SplitName, file: str, rows: int = 1) -> None:
        """A row, or several, are used."""
        self._account(split, file).used += rows

    def reject(self, split: SplitName, file: str, line: int, reason: str) -> None:
        """One row is left out. ``reason`` is a key that programs can rely on ("bad_row", "no_text", "no_label",
        "label_not_in_candidates", …), or such a key, a colon, a space and details for people."""
        self._account(split, file).rejected.append((line, reason))

    def shorten(self, split: SplitName, file: str, line: int, tokens_before: int, tokens_after: int) -> None:
        """The document of a used row was shortened. Raises ``RunError`` if the row got no shorter. In a JSON list several rows may share a
        line."""
        if tokens_after >= tokens_before:
            what = t("截短的账目不对", "a wrong entry for shortening")
            raise RunError(f"{file}:{line}: {what}: {tokens_before} → {tokens_after}")
        self._account(split, file).shortened.append((line, tokens_before, tokens_after))

    def rejections(self, most: int) -> list[str]:
        """The first rejected rows, a line each, for people."""
        rows = [(file, line, reason) for (_, file), account in self._accounts.items() for line, reason in account.rejected]
        shown = [f"{file}:{line}  {describe_reason(*reason.partition(': ')[::2])}" for file, line, reason in rows[:most]]
        return shown + ([t(f"…共 {len(rows)} 行", f"… {len(rows)} rows in all")] if len(rows) > most else [])

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file that rows came in from."""
        return dict(self._hashes)

    def check(self) -> None:
        """Raise ``RunError`` unless each file's rows in = used + rejected, and its shortened rows are among the used ones."""
        booked = dict.fromkeys(self._entered, 0)
        for (split, file), account in self._accounts.items():
            booked[file] = booked.get(file, 0) + account.rows_in
            if len(account.shortened) > account.used:
                what = t("有截短的行没有被使用", "a shortened row is not among the used ones")
                raise RunError(f"{file} ({split}): {what}")
        for file, rows in booked.items():
            rows_in = self._entered.get(file, 0)
            if self._entered and rows_in != rows:
                what = t("行数对不上：读入 {}，使用加剔除 {}", "the rows do not add up: {} came in, {} used or rejected")
                raise RunError(f"{file}: {what.format(rows_in, rows)}")

    def as_dict(self) -> dict[str, Any]:
        """What ``data/ledger.json`` holds, rows by line; a rejected row has a "detail" where one was given. Checks first."""
        self.check()
        files = [
            {
                "path": file,
                "split": split,
                "sha256": self._hashes[file],
                "rows_in": account.rows_in,
                "used": account.used,
                "rejected": len(account.rejected),
                "shortened": len(account.shortened),
                "rejected_rows": [
                    {"line": line, "reason": key} | ({"detail": detail} if detail else {})
                    for line, (key, _, detail) in sorted((line, reason.partition(": ")) for line, reason in account.rejected)
                ],
                "shortened_rows": [
                    {"line": line, "tokens_before": before, "tokens_after": after} for line, before, after in sorted(account.shortened)
                ],
            }
            for (split, file), account in self._accounts.items()
        ]
        accounts = self._accounts.values()
        totals = {
            "rows_in": sum(account.rows_in for account in accounts),
            "used": sum(account.used for account in accounts),
            "rejected": sum(len(account.rejected) for account in accounts),
            "shortened": sum(len(account.shortened) for account in accounts),
        }
        return {"files": files, "totals": totals}

    def state(self) -> dict[str, Any]:
        """All that was told so far, as JSON holds it."""
        accounts = [[split, file, asdict(account)] for (split, file), account in self._accounts.items()]
        return {"hashes": self._hashes, "entered": self._entered, "accounts": accounts}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Ledger":
        """A ledger that was told what ``state`` holds."""
        ledger = cls()
        ledger._hashes, ledger._entered = state["hashes"], state["entered"]
        for split, file, told in state["accounts"]:
            rejected = [(line, reason) for line, reason in told["rejected"]]
            shortened = [(line, before, after) for line, before, after in told["shortened"]]
            ledger._accounts[split, file] = _Account(told["used"], rejected, shortened)
        return ledger

    def _see(self, file: str) -> None:
        if file not in self._hashes:
            self._hashes[file] = self._sha256(Path(file))

    def _account(self, split: SplitName, file: str) -> _Account:
        self._see(file)
        return self._accounts.setdefault((split, file), _Account())
