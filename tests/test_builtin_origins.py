"""The third stage's text: where a paragraph stood is told, and what the model is judged on stays out."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[1] / "tools"
TEST_ROW = "在打印对话框中选择一个打印范围，然后点击确定按钮开始打印当前电子表格。"
DEV_ROW = "将演示文稿另存为模板后，可以在新建幻灯片时使用其中的母版和背景样式。"
PAGES = {
    "libreoffice-help-zh-cn": {
        "help/text/scalc/01/print.html": ["打印表格", TEST_ROW, "这一页的其余内容也不能用来训练模型。"],
        "help/text/scalc/01/sum.html": [
            "求和函数",
            "返回一个区域内所有数字的总和，空单元格不算在内。",
            f"请注意：{TEST_ROW[:12]}某{TEST_ROW[13:]}",
        ],
        "help/text/shared/01/open.html": ["打开文件", "从本机或网络中打开一个文件。"],
    },
    "libreoffice-help-zh-tw": {"help/text/scalc/01/print.html": ["列印表格", "译文不同的同一页也要整页扣下来。"]},
    "libreoffice-l10n-zh-cn": {"zh_CN/LC_MESSAGES/sw.mo": ["插入尾注", "是", DEV_ROW], "zh_CN/LC_MESSAGES/sd.mo": ["插入尾注"]},
    "gimp-data": {"zh_CN/LC_MESSAGES/gimp20.mo": ["画笔工具箱里的每一种画笔都有自己的大小与角度"] * 30},
}


@pytest.fixture
def origins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The tool over the made-up packages above."""
    monkeypatch.syspath_prepend(str(TOOLS))
    tool = importlib.import_module("builtin_origins")
    wanted = {source.package: source for source in tool.SOURCES if source.package in PAGES and source.kind in ("html", "mo")}
    monkeypatch.setattr(tool, "SOURCES", tuple(wanted.values()))
    monkeypatch.setattr(tool.Origins, "documents", lambda _, source: iter(PAGES[source.package].items()))
    made = tool.Origins([{"text": TEST_ROW, "split": "test"}, {"text": DEV_ROW, "split": "dev"}], tmp_path)
    for source in tool.SOURCES:
        made.add(source)
    return made


def texts(origins: Any) -> set[str]:
    return {text for text, _ in [*origins.train, *origins.heldout]}


def test_each_paragraph_ends_with_its_program_and_page(origins: Any) -> None:
    assert "返回一个区域内所有数字的总和，空单元格不算在内。\n出处：LibreOffice Calc《求和函数》" in texts(origins)
    assert "求和函数\n出处：LibreOffice Calc" in texts(origins)  # a title does not tell itself
    assert "从本机或网络中打开一个文件。\n出处：LibreOffice《打开文件》" in texts(origins)
    assert {"插入尾注\n出处：LibreOffice Writer", "插入尾注\n出处：LibreOffice Impress"} <= texts(origins)


def test_pages_with_a_protected_row_and_paragraphs_like_one_are_left_out(origins: Any) -> None:
    together = "".join(texts(origins))
    assert origins.withheld == {"scalc/01/print.html"}
    for absent in (TEST_ROW, TEST_ROW[13:], DEV_ROW, "其余内容", "译文不同"):
        assert absent not in together


def test_short_strings_and_repeats_are_left_out_and_other_packages_joined(origins: Any) -> None:
    assert not any(text.startswith("是\n") for text in texts(origins))
    gimp = [text for text in texts(origins) if text.endswith("出处：gimp-data")]
    assert len(gimp) == 1  # all of its pieces are the same
    assert len(gimp[0]) >= 200


def test_a_piece_has_every_paragraph_once(origins: Any) -> None:
    tool = sys.modules[type(origins).__module__]
    paragraphs = [f"第{number}段，{'很长' * number}" for number in range(60)]
    pieces = list(tool.pieces(paragraphs))
    assert "\n".join(pieces).split("\n") == paragraphs
    assert all(len(piece) >= tool.PIECE for piece in pieces[:-1])
