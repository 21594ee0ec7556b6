"""The audit's findings in the report and the model card."""

import json
from pathlib import Path

import pytest
from fixtures_run import make_run

from weitiao.report.build import build_report
from weitiao.report.card import build_model_card

FINDING = {
    "check": "leakage",
    "severity": "error",
    "count": 3,
    "zh": "3 行测试数据原样出现在训练数据里",
    "en": "3 test rows also stand in the training data",
    "remedy": {"zh": "用 data.deduplicate=exact", "en": "use data.deduplicate=exact"},
    "rows": [{"file": "test.csv", "line": 7, "split": "test", "text": "<script>x</script>", "other": "train.csv:2"}],
}


@pytest.mark.parametrize(
    ("language", "said"), [("zh", ("错误", "3 行测试数据", "怎么办：用 data")), ("en", ("error", "3 test rows", "use data"))]
)
def test_a_finding_is_shown_with_its_rows_and_remedy(tmp_path: Path, language: str, said: tuple[str, ...]) -> None:
    run = make_run(tmp_path / "run")
    path = run / "data" / "audit.json"
    audit = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(audit | {"findings": [FINDING, "只是一句话"]}, ensure_ascii=False), encoding="utf-8")
    page = build_report(run, language).read_text(encoding="utf-8")
    for words in (*said, "test.csv:7 = train.csv:2", "&lt;script&gt;", "只是一句话"):
        assert words in page, words
    assert "<script" not in page
    assert said[1] in build_model_card(run, language).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("language", "said"), [("zh", ("话题（看了 6,391 段", "单元格、公式")), ("en", ("(6,391 training texts", "单元格, 公式"))]
)
def test_the_topics_are_listed_with_their_shares(tmp_path: Path, language: str, said: tuple[str, ...]) -> None:
    run = make_run(tmp_path / "run")
    page = build_report(run, language).read_text(encoding="utf-8")
    for words in (*said, "40", "放映&lt;幻灯片&gt;。", "t.csv:3"):
        assert words in page, words
    path = run / "data" / "audit.json"
    audit = json.loads(path.read_text(encoding="utf-8"))
    for broken in ({"topics": []}, {"topics": [{"words": 3}, "x"]}, "x", None):
        path.write_text(json.dumps(audit | {"topics": broken}), encoding="utf-8")
        assert said[1] not in build_report(run, language).read_text(encoding="utf-8")
