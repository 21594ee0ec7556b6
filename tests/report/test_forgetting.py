"""What `weitiao probe` measured stands in the report and the model card; what it does not cover still is said."""

from pathlib import Path

import pytest
from fixtures_run import make_run, write

from weitiao import language
from weitiao.report.build import build_pages

PROBE = {
    "zh": {
        "before": {"value": 3.6710, "low": 3.501, "high": 3.842, "n": 24},
        "after": {"value": 3.7450, "low": 3.581, "high": 3.918, "n": 24},
        "difference": {"value": 0.0740, "low": 0.052, "high": 0.097, "n": 24},
    },
    "en": {
        "before": {"value": 2.101, "low": 2.002, "high": 2.203, "n": 23},
        "after": {"value": 2.099, "low": 1.998, "high": 2.204, "n": 23},
        "difference": {"value": -0.002, "low": -0.013, "high": 0.008, "n": 23},
    },
}


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_what_was_measured_is_shown_with_its_intervals(tmp_path: Path, lang: language.Language) -> None:
    run = make_run(tmp_path / "run")
    command = "weitiao probe"
    assert command in build_pages(run, lang).read_text(encoding="utf-8")
    write(run / "evaluation/probe.json", {"schema": 1, "languages": PROBE})
    shown, card = build_pages(run, lang).read_text(encoding="utf-8"), (run / "MODEL_CARD.md").read_text(encoding="utf-8")
    intervals = ("[3.501,\u00a03.842]", "[3.581,\u00a03.918]", "[+0.052,\u00a0+0.097]", "[−0.013,\u00a0+0.008]")
    for figure in ("3.671", "3.745", "+0.074", "−0.002", *intervals):
        assert figure in shown
        assert figure.replace("[", "\\[").replace("]", "\\]").replace("\u00a0", " ") in card
    assert '<td class="num" data-k="{}"><span><span>23</span>'.format({"zh": "文本数 n", "en": "Texts, n"}[lang]) in shown
    assert command not in shown
    assert command not in card
    assert {"zh": "遗忘只在通用文本上测量了", "en": "Forgetting was measured on general texts only"}[lang] in shown


def test_a_damaged_file_leaves_the_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "evaluation/probe.json").write_text('{"languages": [1', encoding="utf-8")
    assert "evaluation/probe.json" in build_pages(run, "en").read_text(encoding="utf-8")
    write(run / "evaluation/probe.json", {"languages": {"zh": {"before": "much"}, "en": 3}})
    assert "</html>" in build_pages(run, "en").read_text(encoding="utf-8")
