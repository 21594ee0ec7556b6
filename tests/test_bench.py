"""The bench's own arithmetic, and that its sides get the rows that a run trains on."""

import json
import sys
from pathlib import Path

import pytest
from tiny import sft_rows

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import cases
    import ours
    import run

    yield cases, ours, run
    for name in ("cases", "estimate", "growth", "ours", "run", "worker"):
        sys.modules.pop(name, None)


def test_ratios_are_of_rounds_and_losses_are_compared(bench):
    _, _, run = bench
    row = run.ROWS["sft-full"]
    ours = {"seconds": [1.0, 2.0, 4.0], "peak_bytes": 100, "loss0": 2.0, "last": {}}
    peer = {"seconds": [5.0, 8.0, 8.0], "peak_bytes": 400, "loss0": 2.001, "last": {}}
    result = {"sides": {"ours": ours, "trl-full": peer}}
    run.judge(result, row)
    assert peer["ratio"] == {"median": 4.0, "least": 2.0, "most": 5.0}
    assert peer["memory_ratio"] == 0.25
    assert peer["first_loss_agrees"]
    peer["loss0"] = 2.1
    run.judge(result, row)
    assert not peer["first_loss_agrees"]


def test_our_side_takes_the_rows_as_they_come(bench):
    _, ours, _ = bench
    plan = ours.InOrder(sft_rows([9, 4, 7, 5, 6]), 2, 1000, 2.0, None, 0)
    ids = [sorted(name for batch in step for name in batch.ids) for step in plan.steps()]
    assert ids == [["row:0", "row:1"], ["row:2", "row:3"], ["row:4"]] * 2


def test_rows_end_with_the_answer_and_its_end_token(bench):
    cases, _, _ = bench
    texts, gold = cases.builtin_texts(3)
    case = cases.supervised("builtin", texts, gold, None)
    labels = tuple(sorted(set(gold)))
    prompts, answers = cases.prompts("builtin", texts, labels, None, 1024)
    for row, size, prompt, label in zip(case["rows"], case["answers"], prompts, gold, strict=True):
        assert row == prompt + answers[labels.index(label)]
        assert size == len(row) - len(prompt)
    lengths = [len(row) for row in cases.long_rows("builtin", 200, 3, 500, 1000)["rows"]]
    assert 450 < sum(lengths) / 200 < 550
    assert len(cases.INTENTS) == len(set(cases.INTENTS)) == 77


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_pictures_of_growth_show_the_results(language):
    """A picture in the docs is the one that the results give, with every point of every line in both of its charts: time, memory."""
    import growth

    axes = json.loads(max((BENCH / "results").glob("*-growth.json")).read_text(encoding="utf-8"))["axes"]
    drawn = growth.picture(axes, language)
    assert drawn == (growth.IMAGES / f"growth-{language}.svg").read_text(encoding="utf-8")
    points = [len(line) for lines in axes.values() for line in lines.values()]
    assert points == [len(growth.GROWTHS[axis].at) for axis, lines in axes.items() for _ in lines]
    assert drawn.count("<circle") == 2 * sum(points)


@pytest.mark.usefixtures("bench")
def test_rows_of_growth_share_what_is_asked_for():
    import growth

    first, *others = growth.rows_of("builtin", 4, 32, shared=24)["rows"]
    assert all(row[:24] == first[:24] and row[24:] != first[24:] and len(row) == 32 for row in others)
