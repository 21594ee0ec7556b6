"""The built-in model's pre-training text: what the filter must drop and what the check must still find."""

from __future__ import annotations

import importlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[1] / "tools"
PARTS = ("单元格", "幻灯片", "工作表", "页眉", "脚注", "图表", "公式", "宏", "段落", "打印区域", "数据透视表", "字符样式")


@pytest.fixture(scope="module")
def corpus() -> Any:
    """The tool as a module; ``tools`` holds scripts, not a package."""
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module("builtin_corpus")
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def sources(corpus: Any) -> Any:
    return sys.modules[corpus.Source.__module__]


def row(number: int) -> str:
    """A made-up paragraph of about 50 characters that no other number shares 5-grams of its middle with."""
    first, second = PARTS[number % 12], PARTS[(number // 12) % 12]
    digits = "".join("甲乙丙丁戊己庚辛壬癸"[int(d)] + "号" for d in f"{number * 7919 % 100000:05d}")
    return f"要把{first}与{second}一起调整，请在{digits}对话框里选择{digits[::-1]}选项，再按「{second}{first}」按钮确认。"


def test_normalisation_ignores_width_case_space_and_punctuation(corpus: Any) -> None:
    for same in (corpus.normalise, corpus.squash):
        assert same("＝ＳＵＭ（Ａ1）， 求和。") == same("=sum(a1)求 和") == "suma1求和"


def test_filter_drops_rows_and_edited_rows_only(corpus: Any) -> None:
    rows = [row(n) for n in range(40)]
    protected = corpus.RowFilter(rows)
    for text in rows:
        middle = len(text) // 2
        assert protected.matches(text)
        assert protected.matches(f"请注意：{text[:middle]}某{text[middle + 1 :]}详见下文。")
    assert not protected.matches("在文档中插入一张图片，然后调整它的大小和位置。")


def test_short_rows_count_only_as_whole_paragraphs(corpus: Any) -> None:
    protected = corpus.RowFilter(["打开对话框"])
    assert protected.matches("打开 对话框。")
    assert not protected.matches("要打开对话框，请点击按钮。")
    assert corpus.find_rows(["打开对话框"], ["要打开对话框，请点击按钮。"]) == [set()]
    assert corpus.find_rows(["打开对话框"], ["标题\n打开对话框。"]) == [{"line"}]


def test_check_finds_what_is_planted_and_nothing_else(corpus: Any) -> None:
    rows = [row(n) for n in range(60)]
    clean = [f"第 {n} 篇文档讲的是别的事情。\n与这些段落无关。" for n in range(30)]
    assert corpus.find_rows(rows, clean) == [set()] * 60
    chosen, planted = corpus.plant([*rows, *(row(n) for n in range(60, 220))], clean)
    found = corpus.find_rows(chosen, planted)
    assert len(chosen) == 200
    assert all("substring" in ways for ways in found[::2])
    assert all(ways == {"near"} for ways in found[1::2])


def test_check_sees_a_row_broken_over_two_lines(corpus: Any) -> None:
    text = row(1)
    assert "across" in corpus.find_rows([text], [text[:20] + "\n" + text[20:]])[0]


def test_check_reports_a_leak_in_a_file(corpus: Any, tmp_path: Path) -> None:
    topic = [{"text": row(n), "split": "dev" if n % 2 else "test"} for n in range(500)]
    corpus.write_documents(tmp_path / "train.jsonl", [("别的内容\u2028" + row(3), "a"), ("无关的文字", "b")])
    corpus.check(tmp_path / "train.jsonl", topic, tmp_path / "leakage.json")
    report = json.loads((tmp_path / "leakage.json").read_text(encoding="utf-8"))
    assert report["dev"]["substring"] == report["dev"]["near"] == 1
    assert report["dev"]["examples"] == [row(3)]
    assert report["test"]["near"] == report["test"]["line"] == 0


def test_pages_are_told_by_the_rows_they_hold(corpus: Any) -> None:
    splits = {corpus.normalise(row(1)): "dev", corpus.normalise(row(2)): "test", "短行": "dev"}
    assert corpus.page_splits([row(1)[:15], row(1)[15:], "无关"], splits) == {"dev": 1}
    assert corpus.page_splits(["短行", row(2)], splits) == {"dev": 1, "test": 1}
    assert not corpus.page_splits(["含有短行的段落"], splits)


def test_html_keeps_reading_order_and_drops_navigation(sources: Any) -> None:
    page = (
        "<html><head><title>脚注</title><script>x</script></head><body><nav><div>目录</div></nav><h1>脚注</h1>"
        "<p>在<b>页面</b>\n底部。</p><pre>a = 1<br/>b = 2</pre><footer><p>x</p></footer></body></html>"
    )
    assert sources.read_html(page.encode()) == [["脚注", "在页面底部。", "a = 1", "b = 2"]]


def test_catalogue_strings_lose_accelerators_and_markup(sources: Any) -> None:
    messages = [b"header", "打印(~P)...\0复数".encode(), "<b>另存为</b> %PRODUCTNAME".encode(), b"English"]
    offset = 28 + 8 * len(messages)
    table = b"".join(struct.pack("<2I", len(m), offset + sum(len(x) + 1 for x in messages[:i])) for i, m in enumerate(messages))
    data = struct.pack("<7I", 0x950412DE, 0, len(messages), 28, 28, 0, 0) + table + b"\0".join(messages) + b"\0"
    assert sources.read_mo(data) == [["打印...", "另存为 LibreOffice"]]
