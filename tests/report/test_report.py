"""The report: true words, safe text, the same bytes, nothing from outside, and a page for every kind of unfinished run."""

import ast
import base64
import hashlib
import html
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fixtures_run import LABELS, make_failed_run, make_run, make_text_run, metric_lines, pair, write, write_lines

import weitiao.report
from weitiao import language
from weitiao.errors import DataError
from weitiao.report.build import build_report

PACKAGE = Path(weitiao.report.__file__).parent
CJK = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def page_of(run: Path, lang: language.Language = "en") -> str:
    return build_report(run, lang).read_text(encoding="utf-8")


class Reader(HTMLParser):
    """What a reader sees: text without style sheet; also the tags, to check that they nest."""

    VOID = frozenset({"meta", "input", "br", "link", "img", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.extend((tag, name, value or "") for name, value in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.extend((tag, name, value or "") for name, value in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and data.strip():
            self.texts.append(data.strip().replace("\u00a0", " "))


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def headline(page: str) -> str:
    block = re.search(r'<div class="headline.*?</div>', page, re.S)
    assert block is not None
    return html.unescape(re.sub(r"<[^>]+>", " ", block[0])).replace("\u00a0", " ")


def test_the_page_is_self_contained_small_and_has_no_script(finished: Path) -> None:
    page = page_of(finished)
    reader = read(page)
    assert not re.search(r"https?://", page)
    assert reader.tags.isdisjoint({"script", "link", "img", "iframe", "object", "base", "form"})
    links = [value for _, name, value in reader.attributes if name in ("src", "href", "xlink:href", "action", "srcset")]
    assert links
    assert all(value.startswith("#") for value in links)
    assert not [name for _, name, _ in reader.attributes if name.startswith("on") or name == "style"]
    assert "url(" not in page
    assert "@import" not in page
    assert len(page.encode()) < 400_000


def test_the_style_sheet_has_the_hash_that_the_policy_admits(finished: Path) -> None:
    page = page_of(finished)
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src &#39;none&#39;; style-src &#39;sha256-{digest}&#39;" in page.replace("'", "&#39;")


def test_every_link_inside_the_page_has_its_target(finished: Path) -> None:
    reader = read(page_of(finished))
    ids = [value for _, name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    named = {value for _, name, value in reader.attributes if name in ("aria-labelledby", "for")}
    assert named | {value[1:] for _, name, value in reader.attributes if name == "href"} <= set(ids)


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_the_same_folder_gives_the_same_bytes(run: Path, tmp_path: Path, lang: language.Language) -> None:
    first = build_report(run, lang).read_bytes()
    assert build_report(run, lang).read_bytes() == first
    elsewhere = Path(shutil.copytree(run, tmp_path / "other" / "run"))
    assert build_report(elsewhere, lang).read_bytes() == first
    assert [path.name for path in run.iterdir() if path.name.endswith(".tmp")] == []


def test_the_language_is_that_of_the_config_and_does_not_leak(run: Path) -> None:
    language.use("en")
    try:
        assert '<html lang="zh-CN">' in build_report(run).read_text(encoding="utf-8")
        assert language.current() == "en"
        (run / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
        assert '<html lang="en">' in build_report(run).read_text(encoding="utf-8")
    finally:
        language.use(None)


def test_charts_are_well_formed_and_draw_only_numbers(finished: Path) -> None:
    charts = re.findall(r"<svg.*?</svg>", page_of(finished), re.S)
    assert len(charts) > 10
    for chart in charts:
        root = ElementTree.fromstring(chart)
        for element in root.iter():
            assert not {"nan", "inf", "None"} & set(
                re.findall(r"[A-Za-z]+", element.get("d", "") + element.get("x", "") + element.get("y", ""))
            )


# What people wrote never becomes markup.

NASTY = "<script>alert(1)</script>\"'&<img src=x onerror=y>\x00\x07\x1b[31m\u202eevil\ud800 {{ 7*7 }} ]]>-->"


def test_text_of_the_run_never_becomes_markup(run: Path) -> None:
    def spoil(value: Any) -> Any:
        if isinstance(value, str):
            return value + NASTY
        if isinstance(value, list):
            return [spoil(item) for item in value]
        return {key + NASTY if CJK.search(key) else key: spoil(item) for key, item in value.items()} if isinstance(value, dict) else value

    for path in [*run.rglob("*.json"), *run.rglob("*predictions*.jsonl")]:
        lines = path.read_text(encoding="utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text(encoding="utf-8")]
        path.write_text("\n".join(json.dumps(spoil(json.loads(line))) for line in lines), encoding="utf-8")
    (run / "config.yaml").write_text("name: '" + NASTY.replace("'", "''").replace("\ud800", "") + "'\n", encoding="utf-8")
    page = page_of(run)
    reader = read(page)
    assert reader.tags.isdisjoint({"script", "img"})
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page)
    assert "<script>alert(1)</script>" in " ".join(reader.texts)
    assert "{{ 7*7 }}" in " ".join(reader.texts)
    assert "␀␇␛[31m⟨U+202E⟩evil⟨U+D800⟩" in " ".join(reader.texts)
    for chart in re.findall(r"<svg.*?</svg>", page, re.S):
        ElementTree.fromstring(chart)


def test_a_long_text_is_cut_and_unfolds(run: Path) -> None:
    rows = [{"id": "test:9", "file": "a.csv", "text": "甲" * 300 + "乙" * 1700 + "丙" * 50, "label": "公式", "prediction": "图表",
             "probability": 0.9, "probabilities": {"公式": 0.1, "图表": 0.9}, "correct": False, "loss": 2.3}]  # fmt: skip
    write_lines(run / "evaluation/predictions-after.jsonl", rows)
    page = page_of(run)
    assert "甲" * 300 + "…</p>" in page
    assert "show 1,700 more characters" in page
    assert "50 more characters are in the predictions file" in page
    assert "丙" not in page
    assert "a.csv:9" in page


# The headline holds what the folder says, and no more.


def set_pair(run: Path, b: str, value: float, half: float, p: float) -> None:
    comparison = json.loads((run / "evaluation/comparison.json").read_text(encoding="utf-8"))
    comparison["pairs"] = [one for one in comparison["pairs"] if one["b"] != b] + [pair(b, value, half, p)]
    write(run / "evaluation/comparison.json", comparison)


@pytest.mark.parametrize(
    ("value", "half", "p", "zh", "en"),
    [
        (0.058, 0.02, 0.0001, "高于最好的基线", "This is higher than the best baseline"),
        (-0.058, 0.02, 0.0001, "低于最好的基线", "This is lower than the best baseline"),
        (0.01, 0.02, 0.4, "没有看出差别", "No difference shown against the best baseline"),
        (-0.01, 0.02, 0.4, "没有看出差别", "No difference shown against the best baseline"),
        (0.01, 0.02, 0.01, "不一致，不能下结论", "disagree: undecided"),
        (0.03, 0.02, 0.2, "不一致，不能下结论", "disagree: undecided"),
    ],
)
def test_the_words_fit_the_difference_to_the_baseline(run: Path, value: float, half: float, p: float, zh: str, en: str) -> None:
    set_pair(run, "tfidf_logistic_regression", value, half, p)
    words = headline(page_of(run, "en"))
    assert en in words
    assert sum(one in words for one in ("is higher than", "is lower than", "No difference shown", "undecided")) == 1
    assert zh in headline(page_of(run, "zh"))


@pytest.mark.parametrize(
    ("value", "half", "p", "zh", "en"),
    [
        (0.7, 0.03, 1e-30, "训练使准确率从", "Training raised accuracy from"),
        (-0.2, 0.03, 1e-30, "降到", "Training lowered accuracy from"),
        (0.01, 0.03, 0.6, "没有看出训练的作用", "No difference shown by training"),
    ],
)
def test_the_words_fit_the_difference_to_before(run: Path, value: float, half: float, p: float, zh: str, en: str) -> None:
    set_pair(run, "before", value, half, p)
    assert en in headline(page_of(run, "en"))
    assert zh in headline(page_of(run, "zh"))


def test_an_untested_difference_is_called_untested(run: Path) -> None:
    (run / "evaluation/comparison.json").unlink()
    words = headline(page_of(run))
    assert "The difference was not tested." in words
    assert "raised" not in words
    assert "higher" not in words


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_every_number_of_the_headline_is_in_the_folder(finished: Path, lang: language.Language) -> None:
    words = headline(page_of(finished, lang)).replace("−", "-")
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    words = re.sub(r"(\d) × 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda m: f"{m[1]}e{m[2].translate(raised)}", words)
    known = [n for path in finished.rglob("evaluation/*.json") for n in numbers_in(json.loads(path.read_text(encoding="utf-8")))]
    shown = re.findall(r"(?<![\w-])[+-]?\d[\d,]*\.?\d*(?:e-?\d+)?", words)
    assert len(shown) > 12
    for text in shown:
        value = float(text.rstrip(",").replace(",", "").lstrip("+"))
        tolerance = 0.0005 if "e" not in text else abs(value) * 0.05
        assert any(abs(value - one) <= tolerance * 1.001 for one in known), text


# Unfinished runs and absent files.


def test_a_failed_run_says_so_first(tmp_path: Path) -> None:
    run = make_failed_run(tmp_path / "failed")
    words = headline(page_of(run))
    assert words.split()[:3] == ["This", "run", "failed"]
    assert "NonFiniteError: step 41: loss is nan (train.csv:77)" in words
    assert "Nothing was evaluated" in words
    page = page_of(run)
    assert "metrics.jsonl:" in page
    assert "was skipped" in page
    assert "Without a finite value: 1 of 41" in page


def test_an_interrupted_run_says_so(run: Path) -> None:
    manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
    write(run / "run.json", {**manifest, "state": "interrupted"})
    assert "中断" in headline(page_of(run, "zh"))
    assert '<div class="headline open">' in page_of(run)


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_a_text_run_shows_bits_per_character(tmp_path: Path, lang: language.Language) -> None:
    run = make_text_run(tmp_path / "text")
    lines = [line for line in metric_lines(300, text=True) if line["type"] == "validation"]
    best = [line for line in lines if line["best"]][-1]
    words = headline(page_of(run, lang))
    assert f"{lines[0]['bits_per_character']:.3f}" in words
    assert f"{best['bits_per_character']:.3f}" in words
    assert "n = 120" in words


FILES = [path.relative_to("/x").as_posix() for path in map(Path, (
    "/x/config.yaml", "/x/run.json", "/x/metrics.jsonl", "/x/data/ledger.json", "/x/data/audit.json", "/x/evaluation/before.json",
    "/x/evaluation/after.json", "/x/evaluation/baselines.json", "/x/evaluation/comparison.json",
    "/x/evaluation/predictions-before.jsonl", "/x/evaluation/predictions-after.jsonl"))]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_any_file_may_be_absent_empty_or_broken(run: Path, name: str) -> None:
    (run / name).unlink()
    assert f"<code>{name}</code> absent" in page_of(run)
    (run / name).write_text("{}", encoding="utf-8")
    read(page_of(run))
    (run / name).write_bytes(b'{"metrics": [1, {"a": \xff')
    assert f"<code>{name}" in page_of(run)


@pytest.mark.parametrize("name", FILES)
def test_only_one_file_is_enough(finished: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(finished / name, tmp_path / name)
    read(page_of(tmp_path))


def test_values_of_the_wrong_kind_do_not_break_the_page(run: Path) -> None:
    for name in ("metrics.jsonl", "evaluation/predictions-before.jsonl", "evaluation/predictions-after.jsonl"):
        (run / name).unlink()  # only to be quick
    for name in [*FILES[3:9], "run.json"]:
        value = json.loads((run / name).read_text(encoding="utf-8"))
        for wrong in (3, "x", [None], {"a": None}, [{"b": 1}]):
            write(run / name, {**dict.fromkeys(value, wrong)})
            read(page_of(run))


def test_a_folder_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run"):
        build_report(tmp_path)
    with pytest.raises(DataError):
        build_report(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_an_account_that_does_not_add_up_is_called_so(run: Path) -> None:
    ledger = json.loads((run / "data/ledger.json").read_text(encoding="utf-8"))
    assert "do not trust this account" not in page_of(run)
    ledger["files"][0]["used"] -= 1
    write(run / "data/ledger.json", ledger)
    assert "train.csv: the parts do not add up" in page_of(run)


def test_rows_are_listed_with_file_line_and_full_counts(finished: Path) -> None:
    page = page_of(finished)
    assert "39 rows in all; the first 20 are here, all of them are in data/ledger.json." in page
    assert page.count("→ 512") == 20
    assert "train.csv:101" in page
    assert "9 rows in all." in page


# Both languages are whole.


def calls_of_t() -> Iterator[tuple[str, str, str]]:
    """(place, zh, en) of every t(…) in the package; expressions inside f-strings are left out."""

    def literal(node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        assert isinstance(node, ast.JoinedStr), ast.dump(node)
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "" for part in node.values)

    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "t":
                yield f"{path.name}:{node.lineno}", literal(node.args[0]), literal(node.args[1])
    pattern = re.compile(r"\bt\((\"[^\"]*\"|'[^']*'), (\"[^\"]*\"|'[^']*')\)")
    for path in (PACKAGE / "templates").glob("*.html.j2"):
        content = path.read_text(encoding="utf-8")
        found = pattern.findall(content)
        assert len(found) == len(re.findall(r"(?<![\w.])t\(", content))
        yield from ((path.name, zh[1:-1], en[1:-1]) for zh, en in found)


def test_every_message_stands_in_both_languages() -> None:
    calls = list(calls_of_t())
    assert len(calls) > 200
    for place, zh, en in calls:
        assert not CJK.search(en), (place, en)
        assert bool(re.search(r"[A-Za-z]{3}", en)) <= bool(CJK.search(zh) or "McNemar" in zh), (place, zh, en)
        assert zh.count("%s") + zh.count("%d") == en.count("%s") + en.count("%d"), (place, zh, en)
        assert not re.search(r"[\u4e00-\u9fff][,;:?(]", zh), (place, zh)


def test_templates_hold_no_words_of_their_own() -> None:
    for path in (PACKAGE / "templates").glob("*.html.j2"):
        content = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|<[^>]*>", " ", path.read_text(encoding="utf-8"), flags=re.S)
        assert set(re.findall(r"[A-Za-z]{2,}", content)) <= {"SHA", "McNemar", "DOCTYPE"}, path.name
        assert not CJK.search(content), path.name


@pytest.mark.parametrize("make", [make_run, make_text_run, make_failed_run])
def test_a_chinese_page_has_no_english_sentence(tmp_path: Path, make: Any) -> None:
    run = make(tmp_path / "run")
    (run / "run.json").write_text(
        (run / "run.json").read_text(encoding="utf-8").replace("step 41: loss is nan", "第 41 步"), encoding="utf-8"
    )
    names = ("Intel(R) Xeon(R) Platinum 8369B", "weitiao train config.yaml name=run-again")
    for text in read(page_of(run, "zh")).texts:
        if CJK.search(text) or text in names or "\n" in text:
            continue
        assert not re.search(r"[a-z]+ [a-z]+ [a-z]+", text), text


def test_an_english_page_has_only_the_data_in_chinese(finished: Path) -> None:
    data = {*LABELS, "单元格, 公式", "幻灯片", "标签是空的", "没有文字", "训练集与测试集有 3 行文字完全相同。", "电子表格<|im_end|>"}
    for text in read(page_of(finished, "en")).texts:
        quoted = any(phrase in text for phrase in ("。", "<|im_start|>", *data))
        assert quoted or not CJK.search(text) or "…" in text, text


@pytest.mark.parametrize("copied", [0, 4_100_000_000])
def test_a_copy_for_a_checkpoint_is_told_beside_the_estimate(run: Path, copied: int) -> None:
    """The error counts it on both sides, so the page has to say what it is about."""
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    peaks = {"predicted_peak_bytes": 17_700_000_000, "measured_peak_bytes": 17_400_000_000}
    record["estimate"] = peaks | {"copied_bytes": copied, "error": 0.25}
    write(run / "run.json", record)
    page = page_of(run)
    assert "16.5 GiB (and a copy of 3.8 GiB for a checkpoint) estimated, 16.2 GiB measured (+25 %)" in page or not copied
    assert "16.5 GiB estimated, 16.2 GiB measured (+25 %)" in page or copied
