"""`weitiao compare` from end to end on a tiny model: the processes of its runs are calls in this one."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import command, refused

from weitiao import finetune, language, load_config
from weitiao.decide import members
from weitiao.decide.compare import ladder, title_of
from weitiao.decide.members import Member, Outcome
from weitiao.errors import ConfigError, RunError
from weitiao.progress import Reporter

pytestmark = pytest.mark.slow  # whole runs of the program


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs and calls in this process; the names of the runs that were made."""
    made: list[str] = []

    def train(one: Member, _quiet: bool) -> Outcome:
        if one.run is None:
            made.append(str(one.config.name))
            if one.config.method.kind == "full":
                return Outcome(1, {"error": {"message": "out of memory"}})
            finetune(one.config, Reporter(quiet=True))
        return Outcome(0, {})

    def call(*words: str) -> dict[str, Any]:
        result = command(*words, "--json")
        language.use("en")
        assert result.code == 0, result.err
        return result.json

    monkeypatch.setattr(members, "train", train)
    monkeypatch.setattr(members, "call", call)
    return made


@pytest.fixture
def config(tiny_model: Path, small_csv: Path, tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    settings = {
        "model": str(tiny_model), "data": {"train": str(small_csv), "test_share": 0.3}, "runs": str(tmp_path / "runs"),
        "task": {"template": "{text}"}, "train": {"max_steps": 2, "batch_rows": 8},
    }  # fmt: skip
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def test_one_configuration_with_every_method(config: Path, here: list[str], tmp_path: Path) -> None:
    table = command("compare", config, "--ranks", "2,4", "--out", tmp_path / "out", "--json", "-q").json
    kinds = [(row["kind"], row["title"]["en"]) for row in table["rows"]]
    assert [title for kind, title in kinds if kind == "tuned"] == ["head", "LoRA, rank 2", "LoRA, rank 4"]
    assert [kind for kind, _ in kinds[:5]] == ["baseline"] * 3 + ["base"] * 2
    assert table["failed"] == [{"title": {"zh": "全参数", "en": "full"}, "reason": "out of memory"}]
    tuned = [row for row in table["rows"] if row["kind"] == "tuned"]
    assert all(row["forgetting"]["zh"]["difference"]["n"] == 24 for row in tuned)
    assert tuned[0]["forgetting"]["zh"]["difference"]["value"] == 0.0
    assert tuned[2]["trained_parameters"] == 2 * tuned[1]["trained_parameters"]
    assert all(row["train_seconds"] > 0 and row["peak_memory_bytes"] > 1e6 and row["size_bytes"] > 0 for row in tuned)
    assert (tmp_path / "out" / "compare.json").is_file()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "LoRA, rank 4" in page
    assert "out of memory" in page
    before = len(here)
    shown = command("compare", config, "--ranks", "2,4", "--out", tmp_path / "out", "-q", lang="zh").out
    assert here[before:] == [name for name in here if name.startswith("full")][:1]  # only what failed is tried again
    assert "建议：" in shown
    assert "遗忘 zh" in shown


def test_existing_runs_and_those_that_may_not_be_ranked(config: Path, tmp_path: Path) -> None:
    def run(name: str, *overrides: str) -> Path:
        quick = ["evaluate.before=false", "evaluate.baselines=false", "method=head"]
        return finetune(load_config(config, [f"name={name}", *quick, *overrides]), Reporter(quiet=True)).path

    one, other, elsewhere = run("one"), run("other", "optim.learning_rate=0.01"), run("elsewhere", "seed=7")
    table = command("compare", one, other, "--out", tmp_path / "out", "--json").json
    assert {row["name"] for row in table["rows"]} == {"one", "other"}
    message = refused("compare", one, elsewhere)
    assert "its test rows are not those of" in message
    assert "in common" in message
    assert "nothing to be compared with" in refused("compare", one)
    assert "do not mix" in refused("compare", one, other, "seed=1")
    unjudged = run("unjudged", "evaluate.after=false")
    assert "weitiao evaluate RUN --save" in refused("compare", one, unjudged)
    assert command("evaluate", unjudged, "--save", "--json").code == 0
    assert "judged on its test rows already" in refused("evaluate", unjudged, "--save")
    assert command("compare", one, unjudged, "--json", "--out", tmp_path / "later").json["n"] == table["n"]


def test_a_test_score_measured_later_is_compared_with_all_that_was_judged_before(config: Path) -> None:
    late = finetune(load_config(config, ["name=late", "method=head", "evaluate.after=false"]), Reporter(quiet=True)).path
    at_once = finetune(load_config(config, ["name=at_once", "method=head"]), Reporter(quiet=True)).path
    assert command("evaluate", late, "--save", "--json").code == 0
    compared = [(run / "evaluation" / "comparison.json").read_text(encoding="utf-8") for run in (late, at_once)]
    assert compared[0] == compared[1]


def test_a_method_keeps_its_own_settings_and_the_others_take_their_defaults() -> None:
    config = load_config(None, ["method.kind=lora", "method.rank=6", "method.alpha=12", "optim.learning_rate=1e-2"])
    found = ladder(config, ("head", "lora", "full"), (3, 6))
    assert [one.method.kind for one in found] == ["head", "lora", "lora", "full"]
    assert [one.optim.learning_rate for one in found] == [None, 1e-2, 1e-2, None]
    assert [one.method.alpha for one in found[1:3]] == [6.0, 12.0]
    assert title_of(found[1])["en"] == "LoRA, rank 3"


@pytest.mark.parametrize(
    ("task", "objective", "kinds"),
    [
        ("classification", "sft", ["head", "lora"]), ("classification", "grpo", ["lora"]), ("text", "pretrain", ["head", "lora"]),
        ("generation", "sft", ["lora"]), ("qa", "sft", ["lora"]),
        ("preference", "dpo", ["lora"]), ("preference", "reward", ["head", "lora"]),
    ],
)  # fmt: skip
def test_only_methods_that_fit_are_compared(task: str, objective: str, kinds: list[str]) -> None:
    config = load_config(None, [f"task={task}", f"objective={objective}", "method=lora", "data.train=x"])
    assert [one.method.kind for one in ladder(config, ("head", "lora"), ())] == kinds


def test_what_cannot_be_understood_is_the_users_mistake(config: Path) -> None:
    assert "unknown" in refused("compare", config, "--methods", "lora,qlora")
    assert "no list of positive whole numbers" in refused("compare", config, "--ranks", "4,x")
    with pytest.raises(ConfigError):
        load_config(Path("absent.yaml"))


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises((RunError, Exception), match=r"run\.json"):
        members.call("probe", str(tmp_path))
