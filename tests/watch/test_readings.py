"""What several readers ask for first is read once while the file stays as it is; what is kept is bounded."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from runs_made import step, validation

from weitiao.watch import readings
from weitiao.watch.curves import read_curves
from weitiao.watch.readings import Readings


@pytest.fixture
def times_read(monkeypatch):
    """The cursors of every reading of a file."""
    read = []
    monkeypatch.setattr(readings, "read_curves", lambda run, cursor, *rest: read.append(cursor) or read_curves(run, cursor, *rest))
    return read


def make(root, name, steps=30):
    run = root / name
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps(step(i)) + "\n" + json.dumps(validation(i)) + "\n" for i in range(1, steps + 1)))
    return run


def add(run, number):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(step(number)) + "\n")


def test_a_file_is_read_once_until_it_grows(tmp_path, times_read):
    run, kept = make(tmp_path, "one"), Readings()
    first = kept.of({"1": (run, "")}, 600)
    assert json.loads(first)["1"] == json.loads(json.dumps(read_curves(run, "", 600, True).as_dict()))
    assert kept.of({"1": (run, "")}, 600) == first
    assert times_read == [""]
    add(run, 31)
    assert json.loads(kept.of({"1": (run, "")}, 600))["1"]["last"]["train/step"] == 31
    assert times_read == ["", ""]
    assert len(json.loads(kept.of({"1": (run, "")}, 10))["1"]["series"]["train/loss"]) <= 10  # not the one of 600 points
    cursor = json.loads(first)["1"]["cursor"]
    assert json.loads(kept.of({"1": (run, cursor)}, 600))["1"]["series"]["train/loss"] == [[31, step(31)["loss"]]]


def test_a_file_of_the_same_size_in_its_place_is_read(tmp_path):
    run, kept = make(tmp_path, "one"), Readings()
    kept.of({"1": (run, "")}, 600)
    text, status = (run / "metrics.jsonl").read_text(), (run / "metrics.jsonl").stat()
    (run / "other").write_text(text.replace('"loss": 3.0', '"loss": 9.0', 1))
    os.utime(run / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(run / "other", run / "metrics.jsonl")
    assert json.loads(kept.of({"1": (run, "")}, 600))["1"]["series"]["train/loss"][0] == [1, 9]


def test_a_link_in_its_place_is_not_followed(tmp_path):
    run, kept = make(tmp_path, "one"), Readings()
    assert json.loads(kept.of({"1": (run, "")}, 600))["1"]["series"]
    os.replace(run / "metrics.jsonl", tmp_path / "elsewhere")
    (run / "metrics.jsonl").symlink_to(tmp_path / "elsewhere")
    assert json.loads(kept.of({"1": (run, "")}, 600))["1"]["series"] == {}


def test_what_is_kept_is_bounded_and_what_was_asked_for_longest_ago_goes_first(tmp_path, times_read):
    runs = {str(i): (make(tmp_path, f"run-{i}"), "") for i in range(4)}
    most = int(3.5 * len(Readings().of({"0": runs["0"]}, 600)))
    kept = Readings(most_bytes=most)
    read_anew = lambda run: times_read.clear() or (kept.of({run: runs[run]}, 600) and len(times_read))
    kept.of(runs, 600)
    assert most / 2 < kept.kept_bytes <= most  # of 1, 2 and 3
    assert [read_anew(run) for run in ("1", "0", "1", "2")] == [0, 1, 0, 1]  # 0 took the place of 2, 2 that of 3
    for number in range(31, 36):
        add(runs["1"][0], number)
        assert read_anew("1") == 1
    assert kept.kept_bytes <= most
    assert [read_anew(run) for run in ("0", "2", "3")] == [0, 0, 1]  # a run that grows takes one place


def test_who_asks_at_the_same_time_waits_for_the_one_reading(tmp_path, monkeypatch):
    run, kept, read = make(tmp_path, "one"), Readings(), []
    monkeypatch.setattr(readings, "read_curves", lambda *given: read.append(1) or time.sleep(0.2) or read_curves(*given))
    with ThreadPoolExecutor(4) as pool:
        answers = set(pool.map(lambda _: kept.of({"1": (run, "")}, 600), range(4)))
    assert (len(read), len(answers)) == (1, 1)


def test_much_at_once_is_sampled_and_little_is_exact(tmp_path, monkeypatch):
    runs = {str(i): (make(tmp_path, f"run-{i}", 1000), "") for i in range(2)}
    size = (runs["0"][0] / "metrics.jsonl").stat().st_size
    monkeypatch.setattr(readings, "EXACT_BYTES", 2 * size - 1)
    assert size > 250_000  # a small file is always read whole
    kept = Readings()
    assert [part["thinned"] for part in json.loads(kept.of(runs, 600)).values()] == [True, True]
    assert not json.loads(kept.of({"0": runs["0"]}, 600))["0"]["thinned"]
