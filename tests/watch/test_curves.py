"""Curves arrive whole at first, then only what is new; thinned without losing a peak; from the beginning when the file was cut."""

import itertools
import json

import numpy as np
import pytest
from runs_made import step, validation

from weitiao.watch import curves
from weitiao.watch.curves import read_curves, thin


def write(run, *lines, mode="a"):
    with (run / "metrics.jsonl").open(mode) as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def test_first_all_then_only_what_is_new(tmp_path):
    write(tmp_path, step(1), step(2), validation(2))
    first = read_curves(tmp_path, "", 100, True)
    assert first.series["train/loss"] == [(1.0, 3.0), (2.0, pytest.approx(2.1213, abs=1e-4))]
    assert first.series["validation/accuracy"] == [(2.0, 0.5)]
    assert first.last["train/step"] == 2
    assert not first.restart
    assert read_curves(tmp_path, first.cursor, 100, True).series == {}
    write(tmp_path, step(3, 9.0))
    second = read_curves(tmp_path, first.cursor, 100, True)
    assert second.series["train/loss"] == [(3.0, 9.0)]
    assert second.cursor != first.cursor


def test_half_a_line_waits_for_its_end(tmp_path):
    write(tmp_path, step(1))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"type": "step", "step": 2, "lo')
    first = read_curves(tmp_path, "", 100, True)
    assert [x for x, _ in first.series["train/loss"]] == [1.0]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('ss": 5.0}\n')
    assert read_curves(tmp_path, first.cursor, 100, True).series["train/loss"] == [(2.0, 5.0)]


def test_a_file_that_was_cut_starts_over(tmp_path):
    write(tmp_path, step(1), step(2), step(3))
    cursor = read_curves(tmp_path, "", 100, True).cursor
    write(tmp_path, step(1), step(2, 7.0), step(3, 6.0), step(4, 5.0), mode="w")  # a run that went on from step 1
    again = read_curves(tmp_path, cursor, 100, True)
    assert again.restart
    assert [x for x, _ in again.series["train/loss"]] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("cursor", ["x", "-", "99999999999999999999-00000000", "12-abc", "0-00000000", "1-", "５-00000000"])
def test_a_cursor_out_of_nowhere_starts_over(tmp_path, cursor):
    write(tmp_path, step(1))
    assert [x for x, _ in read_curves(tmp_path, cursor, 100, True).series["train/loss"]] == [1.0]


def test_what_is_no_line_of_a_run_is_passed_over(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        'nonsense\n[1]\n{"type": "step", "step": 1, "loss": 2.5}\n{"type": "step", "step": "x", "loss": NaN}\n{"step": 1e999}\n\n'
    )
    assert read_curves(tmp_path, "", 100, True).series == {"train/loss": [(1.0, 2.5)]}


def test_no_peak_is_lost():
    values = np.ones(10_000)
    values[1234], values[8765] = 50.0, -50.0
    kept = thin(values, 100)
    assert len(kept) <= 100
    assert {1234, 8765} <= set(kept.tolist())
    assert thin(values, 10_000).tolist() == list(range(10_000))


@pytest.mark.parametrize(("length", "most"), [(1000, 10), (1001, 10), (997, 600), (601, 600), (2000, 7)])
def test_of_each_portion_its_first_smallest_and_its_first_largest(length, most):
    values = np.random.default_rng(length).integers(0, 9, length).astype(float)  # most of them several times
    edges = np.linspace(0, length, most // 2 + 1).astype(int)
    expected = {int(a + pick(values[a:b])) for a, b in itertools.pairwise(edges) for pick in (np.argmin, np.argmax)}
    assert thin(values, most).tolist() == sorted(expected)


def test_of_what_only_grows_the_newest_value_is_told(tmp_path):
    write(tmp_path, step(1), step(2), validation(2))
    read = read_curves(tmp_path, "", 100, True)
    assert {"train/tokens": 1800.0, "train/seconds": 2.0, "train/step": 2.0}.items() <= read.last.items()
    assert not {"train/tokens", "train/seconds", "train/step", "train/epoch", "validation/n"} & read.series.keys()


@pytest.mark.parametrize(
    "odd", [{"type": None, "step": 4}, {"step": 4, "loss": 1.0}, {"type": "step", "step": 4, "note": "x"}, {"type": 5}]
)
def test_many_lines_read_as_columns_are_the_same_as_line_by_line(tmp_path, monkeypatch, odd):
    write(tmp_path, *[line for i in range(1, 200) for line in (step(i), validation(i))], odd)
    monkeypatch.setattr(curves, "FEW_BYTES", 0)
    columns = read_curves(tmp_path, "", 100, True)
    monkeypatch.setattr(curves, "FEW_BYTES", 10**9)
    assert read_curves(tmp_path, "", 100, True) == columns
    assert len(columns.series["train/loss"]) == 100


def test_a_large_file_among_many_is_sampled_evenly_with_all_validations(tmp_path):
    lines = [line for i in range(1, 3001) for line in ([step(i), validation(i)] if i % 100 == 0 else [step(i)])]
    write(tmp_path, *lines)
    read = read_curves(tmp_path, "", 200, exact=False)
    assert read.thinned
    steps = [x for x, _ in read.series["train/loss"]]
    assert 150 <= len(steps) <= 201
    assert max(np.diff(steps)) <= 3000 / 200 * 2 + 1
    assert len(read.series["validation/accuracy"]) == 30
    write(tmp_path, step(3001))
    assert [x for x, _ in read_curves(tmp_path, read.cursor, 200, exact=False).series["train/loss"]] == [3001.0]
