"""The opponents and the probe on a tiny model: what is shown to the model, and what is measured."""

import json
from pathlib import Path

import numpy as np
import pytest

import weitiao.builtin
from weitiao import finetune, load_config
from weitiao.config import RunConfig
from weitiao.decide.opponents import judge_opponents
from weitiao.decide.probe import compare_passages, probe, probe_texts
from weitiao.decide.table import build_table, opponent_entries, run_entry
from weitiao.errors import DataError
from weitiao.progress import Reporter
from weitiao.records import Example, Passage
from weitiao.run import Run

QUIET = Reporter(quiet=True)


@pytest.fixture(scope="module")
def tiny(tiny_model: Path, small_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    overrides = [f"model={tiny_model}", f"data.train={small_csv}", "data.test_share=0.3", f"runs={tmp_path_factory.mktemp('runs')}"]
    return load_config(
        None,
        [
            *overrides,
            "train.max_steps=2",
            "train.batch_rows=8",
            "task.template={text}",
            "evaluate.before=false",
            "evaluate.baselines=false",
        ],
    )


@pytest.fixture(scope="module")
def head(tiny: RunConfig) -> Run:
    return finetune(tiny.model_copy(update={"name": "head", "method": load_config(None, ["method=head"]).method}), QUIET)


def test_every_opponent_is_judged_on_the_rows_of_a_run(tiny: RunConfig, head: Run, tmp_path: Path) -> None:
    result = judge_opponents(tiny, tmp_path, QUIET)
    names = [one["name"] for one in result["opponents"]]
    assert names == ["majority", "tfidf_logistic_regression", "tfidf_linear_svm", "zero_shot", "few_shot"]
    assert json.loads((tmp_path / "opponents.json").read_text()) == result
    few = result["opponents"][-1]
    assert few["shots"] == len(set(few["shown"])) >= 1
    assert all(name.startswith("train:") for name in few["shown"])
    table = build_table([*opponent_entries(tmp_path, result), run_entry(head)], 0)  # refuses rows that differ
    assert [row["name"] for row in table["rows"]] == [*names, "head"]
    assert table["n"] == head.read("evaluation/after.json")["n"]


def test_the_shots_stand_before_the_question_as_earlier_turns(tiny: RunConfig) -> None:
    from weitiao.decide.opponents import choose_shots, with_shots
    from weitiao.workshop import Workshop

    work = Workshop(tiny, QUIET)
    prompt = work.data.prompts["test"][0]
    shots = choose_shots(work.data.prompts["train"], work.data.task.labels, 10_000, 0)
    assert {shot.targets[0] for shot in shots} == set(work.data.task.labels)
    assert shots == choose_shots(work.data.prompts["train"], work.data.task.labels, 10_000, 0)
    shown = with_shots(work.encoder, prompt, shots[:2], 10_000)
    roles = [message.role for message in shown.example.prompt]
    assert roles[-5:] == ["user", "assistant", "user", "assistant", "user"]
    assert shown.example.prompt[-1] == prompt.example.prompt[-1]
    assert shown.ids[-10:] == prompt.ids[-10:]
    assert len(shown.ids) > len(prompt.ids)
    short = with_shots(work.encoder, prompt, shots[:2], len(prompt.ids))
    assert short.ids == prompt.ids
    assert short.example.meta == {"shots": 0}


def test_a_frozen_trunk_forgets_nothing(head: Run) -> None:
    value = probe(head.path, QUIET)
    assert json.loads((head.path / "evaluation" / "probe.json").read_text()) == value
    for language in ("zh", "en"):
        assert value["languages"][language]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 24}
        assert value["languages"][language]["before"]["value"] > 1


def test_a_full_training_at_a_high_rate_forgets(tiny: RunConfig) -> None:
    method, optim = load_config(None, ["method=full"]).method, load_config(None, ["optim.learning_rate=0.5"]).optim
    run = finetune(tiny.model_copy(update={"name": "full", "method": method, "optim": optim}), QUIET)
    change = probe(run.path, QUIET)["languages"]["zh"]["difference"]
    assert change["low"] > 0
    for name in ("report.html", "MODEL_CARD.md"):  # made again by the probe
        page = (run.path / name).read_text(encoding="utf-8")
        assert f"{change['value']:+.3f}" in page
        assert "weitiao probe" not in page


def test_bits_per_character_by_hand() -> None:
    def passage(language: str, characters: int) -> Passage:
        return Passage(Example("x", (), ("",), "", "", 1, meta={"language": language}), (), characters)

    before, after = np.array([2.0, 4.0, 8.0]) * np.log(2), np.array([3.0, 6.0, 8.0]) * np.log(2)
    found = compare_passages([passage("zh", 1), passage("zh", 3), passage("en", 4)], before, after)
    assert found["zh"]["before"]["value"] == pytest.approx(6 / 4)
    assert found["zh"]["after"]["value"] == pytest.approx(9 / 4)
    assert found["zh"]["difference"]["value"] == pytest.approx(3 / 4)
    assert found["en"]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 1}


def test_the_probe_has_both_languages_and_no_row_of_the_built_in_data() -> None:
    texts = probe_texts()
    assert [sum(one.meta["language"] == name for one in texts) for name in ("zh", "en")] == [24, 24]
    assert len({one.document for one in texts}) == 48
    rows = (Path(weitiao.builtin.__path__[0]) / "topic.jsonl").read_text(encoding="utf-8")
    assert not any(one.document[:20] in rows for one in texts)


def test_a_run_without_result_has_nothing_to_probe(head: Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text((head.path / "run.json").read_text())
    with pytest.raises(DataError, match=r"no result|还没有"):
        probe(tmp_path, QUIET)
