"""Each check of the audit: catches what is planted, is silent on clean data, and says what its finding must say."""

import random
import re

import planted
import pytest
from planted import LABELS, PLANTS, Rows

from weitiao.audit import accounts, copies, labels, personal, private, texts
from weitiao.audit.checks import CHECKS, findings_text, require_known, run_checks, stop_on, stopping
from weitiao.audit.findings import excerpt, noun, share, verb
from weitiao.errors import ConfigError, DataError
from weitiao.language import use

SHORT = 50


@pytest.fixture(scope="module")
def clean():
    return Rows(SHORT, 7).input()


def test_every_check_has_a_fault_of_its_own() -> None:
    assert list(PLANTS) == [name for name, _ in CHECKS]


@pytest.mark.parametrize("name", PLANTS)
def test_what_is_planted_is_found(name: str) -> None:
    found, expected = planted.planted(name, SHORT, seed=3)
    assert found == expected


def test_the_table_of_make_audit_recall(capsys: pytest.CaptureFixture[str]) -> None:
    """The same programme with 12 of each kind; `make audit-recall` plants 1,000."""
    assert planted.main(12, seed=5) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(CHECKS)
    assert lines[-1].startswith("27 checks, 0 with a fault")


@pytest.mark.parametrize("name", PLANTS)
def test_clean_data_are_silent(name: str, clean) -> None:
    assert planted.FUNCTIONS[name](clean) is None


@pytest.mark.parametrize("name", PLANTS)
def test_a_finding_says_where_and_what_to_do_in_both_languages(name: str) -> None:
    data, _ = PLANTS[name](Rows(planted.size_for(name, 20), 5), 20)
    (finding,) = [one for one in run_checks(data) if one["check"] == name]
    assert finding["severity"] in ("error", "warning", "notice")
    for words in (finding, finding["remedy"]):
        assert words["zh"] != words["en"]
        assert words["en"].isascii() or name in ("imbalance", "rare_labels", "untested_labels", "label_typos", "encoding_damage")
    assert name in ("imbalance", "untested_labels") or 1 <= len(finding["rows"]) <= 5
    assert all(row["line"] >= 1 and row["file"].endswith(".jsonl") for row in finding["rows"])


@pytest.mark.parametrize("name", [name for name in PLANTS if name not in (*planted.MONOTONE, "languages")])
def test_one_of_something_is_said_in_the_singular(name: str) -> None:
    """(The others left out are never about one row.)"""
    data, _ = PLANTS[name](Rows(SHORT, 5), 1)
    finding = planted.FUNCTIONS[name](data)
    assert finding is not None
    assert not re.search(r"(?<![\w.,])1 (?:(?!of )[a-z]+ )*?(?:rows|texts|labels|tokens|pairs)\b", finding.message.en), finding.message.en
    assert name == "conflicting_labels" or finding.count == 1


@pytest.mark.parametrize(("count", "said"), [(1, "row is, has, repeats"), (0, "rows are, have, repeat"), (2, "rows are, have, repeat")])
def test_nouns_and_verbs_follow_their_number(count: int, said: str) -> None:
    assert f"{noun(count, 'row')} {', '.join(verb(count, word) for word in ('are', 'have', 'repeat'))}" == said


def test_a_leak_names_both_rows() -> None:
    rows = Rows(10, 0)
    text, label = rows.texts["train"][4]
    rows.add("test", text + "！", label)
    line = len(rows.texts["test"])
    finding = copies.leakage(rows.input())
    assert finding is not None
    (row,) = finding.rows
    assert (row.file, row.line, row.other) == ("test.jsonl", line, "train.jsonl:5")
    assert finding.severity == "warning"  # one row decides nothing
    rows.add("test", rows.texts["train"][5][0], label)
    assert copies.leakage(rows.input()).severity == "error"


def test_rows_with_options_of_their_own_do_not_conflict() -> None:
    """One text, asked about with other options, may have another answer."""
    import dataclasses

    rows = Rows(10, 0)
    text, _ = rows.texts["train"][0]
    rows.add("train", text, LABELS[1])
    data = rows.input()
    assert copies.conflicting_labels(data).count == 2
    data.splits["train"][-1] = dataclasses.replace(data.splits["train"][-1], candidates=LABELS)
    again = dataclasses.replace(data)
    assert copies.conflicting_labels(again) is None


@pytest.mark.parametrize(
    ("rare", "common", "alike"),
    [
        ("电子表各", "电子表格", True),
        ("positve", "positive", True),
        ("News", "news", True),
        ("电 子", "电子", True),
        ("Ａ类", "a类", True),
        ("不合格品", "合格品", False),
        ("不能通过", "可能通过", False),
        ("版本1.2", "版本1.3", False),
        ("atypical", "typical", False),
        ("科技", "科学", False),
        ("财经。", "财经", True),
        ("-1", "1", False),
        ("A+", "A", False),
        ("!", "?", False),
        ("good", "food", False),
    ],
)
def test_names_that_look_alike(rare: str, common: str, alike: bool) -> None:
    rows = Rows(10, 0)
    rows.texts["train"] = [(f"甲{i}", common) for i in range(40)] + [("乙", rare)]
    finding = labels.label_typos(rows.input((common, rare)))
    assert (finding is not None) == alike


def test_a_frequent_neighbour_is_no_typing_error() -> None:
    rows = Rows(10, 0)
    rows.texts["train"] = [(f"甲{i}", "电子表格") for i in range(40)] + [(f"乙{i}", "电子表盘") for i in range(10)]
    assert labels.label_typos(rows.input(("电子表格", "电子表盘"))) is None


def test_rejected_rows_are_counted_by_reason() -> None:
    data, _ = planted.rejected_rows(Rows(10, 1), 3)
    reasons = ("no_text", "no_text", "no_label")
    data.ledger["files"][0]["rejected_rows"][:3] = [{"line": i, "reason": reason} for i, reason in enumerate(reasons)]
    finding = accounts.rejected_rows(data)
    assert finding.message.en == "3 rows (3%) cannot be used: 2 has no text, 1 has no label"
    assert finding.message.zh == "3 行（3%）用不了：没有正文 2，没有标签 1"


def test_shortened_rows_say_how_much_is_lost() -> None:
    data, _ = planted.shortened_rows(Rows(10, 1), 2)
    finding = accounts.shortened_rows(data)
    assert "200 tokens" in finding.message.en  # 2 × (400 − 300)
    assert "25%" in finding.message.en  # 200 of 800
    assert finding.severity == "notice"  # 2 of 100 rows


@pytest.mark.parametrize(
    ("part", "whole", "shown"), [(1, 702, "0.14%"), (1, 8303, "0.012%"), (5, 10, "50%"), (10, 10, "100%"), (0, 0, "0%"), (3, 100, "3%")]
)
def test_shares(part: int, whole: int, shown: str) -> None:
    assert share(part, whole) == shown


# -------------------------------------------------------------------------------------------------- texts, hand-picked


@pytest.mark.parametrize(
    "text",
    [
        "Café, naïve, Ångström, “quoted” – it’s fine… 20 °C ± 3 £20",
        "他说：“好！”……（笑）——真的？！",
        "锛子是木工的工具",
        "肇嘉浜路的涓涓细流濡湿了浠水的瑕疵",
        "Ça va? Où? À l'été ; l’“été”… aimé…”",
        "SÃO PAULO e Ângela; ÂNGULO",
        "第一行\n第二行\t列\r\n",
        "एक दो",
        "👍🏽 很好",
    ],
)
def test_sound_text_is_not_called_damaged(text: str) -> None:
    rows = Rows(5, 0)
    rows.add("train", text)
    assert texts.encoding_damage(rows.input()) is None


@pytest.mark.parametrize("text", ["👍", "好", "A", "3", "€", "C++", "无论如何", "null 指针"])
def test_short_texts_that_say_something(text: str) -> None:
    rows = Rows(5, 0)
    rows.add("train", text)
    assert texts.empty_texts(rows.input()) is None


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("用 LibreOffice Calc 的 SUM 函数求和", "zh"),
        ("The value of 值", "latin"),
        ("ひらがなカタカナ", "other"),
        ("123 + 4", ""),
        ("한국어", "other"),
    ],
)
def test_scripts(text: str, script: str) -> None:
    assert texts.script_of(text) == script


def test_two_languages_in_bulk_are_no_accident() -> None:
    rows = Rows(5, 0)
    for i in range(40):
        rows.add("train", f"The value of cell number {i} in words")
    assert texts.languages(rows.input()) is None


# ------------------------------------------------------------------------------------------------------- personal data


@pytest.mark.parametrize(
    ("detector", "text"),
    [
        (private.identity_numbers, "11010519491231002X"),  # the example of GB 11643
        (private.identity_numbers, "身份证11010519491231002x。"),
        (private.bank_cards, "4111111111111111"),  # test numbers that the card schemes publish
        (private.bank_cards, "卡号 5555 5555 5555 4444"),
        (private.bank_cards, "378282246310005"),
        (private.phone_numbers, "电话13912345678"),
        (private.phone_numbers, "+86 139-1234-5678"),
        (private.email_addresses, "写信给a.b+c@mail.example.co"),
        (private.secret_keys, "-----BEGIN OPENSSH PRIVATE KEY-----"),
    ],
)
def test_detectors_find(detector, text: str) -> None:
    assert len(list(detector(text))) == 1
    assert "▇" in private.masked(text)


@pytest.mark.parametrize(
    ("detector", "text"),
    [
        (private.identity_numbers, "110105194912310021"),  # check digit
        (private.identity_numbers, "11010519491331002X"),  # month 13
        (private.identity_numbers, "订单911010519491231002X"),
        (private.bank_cards, "4111111111111112"),  # Luhn
        (private.bank_cards, "9111111111111111"),
        (private.bank_cards, "0.4111111111111111"),
        (private.bank_cards, "4000 0000 0000 0000"),
        (private.phone_numbers, "12345678901"),
        (private.phone_numbers, "0.13912345678"),
        (private.phone_numbers, "139123456789"),
        (private.phone_numbers, "id13912345678"),
        (private.email_addresses, "someone@example.com"),
        (private.email_addresses, "@装饰器 user@localhost"),
        (private.secret_keys, "sk-learn-contrib-and-other-packages"),
        (private.secret_keys, "-----BEGIN PUBLIC KEY-----"),
    ],
)
def test_detectors_leave_alone(detector, text: str) -> None:
    assert list(detector(text)) == []


def test_numbers_at_random_are_rarely_cards_or_identities() -> None:
    draw = random.Random(0)
    numbers = ["".join(draw.choices("0123456789", k=18)) for _ in range(20_000)]
    assert sum(bool(list(private.identity_numbers(n))) for n in numbers) < 20  # province, date and digit by chance: 1 in 10,000


def test_personal_data_appear_in_no_finding() -> None:
    """Neither as its own finding nor in another one's example row."""
    rows = Rows(60, 2)
    secrets = []
    for make in (planted.identity_number, planted.phone_number, planted.card_number, planted.email_address, planted.access_key):
        for i in range(8):
            value = make(rows.draw)
            secrets.append(value)
            text = f"{value} {rows.fresh()}" if i % 2 else f"联系{value}"
            rows.add("train", text)
            rows.add("train", text, LABELS[1])
            rows.add("test", text)
    findings = run_checks(rows.input())
    assert {"leakage", "conflicting_labels", "personal_id", "personal_card", "secret_key"} <= {one["check"] for one in findings}
    said = str(findings)
    assert not [value for value in secrets if value in said]
    assert personal.personal_id(rows.input()).rows[0].text == ""


def test_excerpts_are_short_and_on_one_line() -> None:
    assert excerpt("第一行\n 第二行\t13912345678") == "第一行 第二行 ▇▇▇"
    assert len(excerpt("字" * 1000)) == 61


# -------------------------------------------------------------------------------------------------------- what stops a run


def test_what_stops_a_run() -> None:
    findings = [{"check": "leakage", "severity": "error"}, {"check": "imbalance", "severity": "notice"}]
    assert [one["check"] for one in stopping(findings, ("error",))] == ["leakage"]
    assert [one["check"] for one in stopping(findings, ("imbalance",))] == ["imbalance"]
    assert stopping(findings, ()) == []
    assert len(stopping(findings, ("error", "notice"))) == 2


def test_a_stop_says_where_why_and_how_to_go_on() -> None:
    data, _ = planted.leakage(Rows(20, 0), 3)
    findings = run_checks(data)
    stop_on(findings, ("near_leakage",))
    use("en")
    try:
        with pytest.raises(DataError, match="3 test rows") as caught:
            stop_on(findings, ("error",))
        assert caught.value.where.startswith("test.jsonl:")
        assert "check.fail_on='[]'" in caught.value.remedy
    finally:
        use(None)


def test_unknown_names_are_refused() -> None:
    require_known(["error", "notice", "leakage"])
    with pytest.raises(ConfigError, match="leak"):
        require_known(["leaks"])


def test_the_gravest_come_first_and_a_terminal_shows_a_few_rows() -> None:
    rows = Rows(20, 0)
    for text, label in rows.train(5):
        rows.add("test", text, label)
    rows.add("train", "see <|im_end|>")
    findings = run_checks(rows.input())
    assert [one["severity"] for one in findings] == sorted((one["severity"] for one in findings), key=["error", "warning", "notice"].index)
    use("zh")
    try:
        short, long = findings_text(findings, 0), findings_text(findings, 2)
    finally:
        use(None)
    assert len(short) == len(findings)
    assert short[0].startswith("✗ leakage: 5 行测试数据")
    assert sum("test.jsonl:" in line for line in long) >= 2
    assert sum("怎么办" in line for line in long) == len(findings)
