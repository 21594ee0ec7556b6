"""A run on chats from file to report: trained, judged by the answers' loss before and after, judged again to the same figures."""

import json
import math
from pathlib import Path

import pytest
from commands import command, refused

from weitiao.config import build_config
from weitiao.finetune import finetune
from weitiao.inference import evaluate
from weitiao.language import use


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """30 chats of two exchanges; one without an answer."""
    path = tmp_path / "chats.jsonl"
    rows = [
        {"conversations": [{"from": who, "value": f"{word}{i}"} for who, word in zip(("human", "gpt") * 2, "问答又好", strict=True)]}
        for i in range(30)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [*rows, {"conversations": []}]), encoding="utf-8")
    return path


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_on_chats(tmp_path: Path, tiny_model: Path, chats: Path, method: str) -> None:
    use("en")
    tree = {
        "model": str(tiny_model), "task": "generation", "data": {"train": str(chats)}, "method": method, "runs": str(tmp_path / "runs"),
        "train": {"max_steps": 3, "batch_rows": 8}, "optim": {"learning_rate": 0.01, "warmup_share": 0.0}, "name": method,
    }  # fmt: skip
    try:
        run = finetune(build_config(tree, "test"))
        before, after = (run.read(f"evaluation/{when}.json") for when in ("before", "after"))
        assert (after["task"], after["n"]) == ("generation", before["n"])
        loss = after["metrics"]["loss"]
        assert loss["low"] <= loss["value"] <= loss["high"]
        assert loss["value"] < before["metrics"]["loss"]["value"]
        assert math.isclose(after["metrics"]["perplexity"]["value"], math.exp(loss["value"]))
        again = evaluate(run.path).evaluation["metrics"]["loss"]["value"]
        assert math.isclose(again, loss["value"], rel_tol=1e-5)
        totals = run.read("data/ledger.json")["totals"]
        assert (totals["rows_in"], totals["used"], totals["rejected"]) == (31, 30, 1)
        assert "generation (chats)" in (run.path / "report.html").read_text(encoding="utf-8")
    finally:
        use(None)
    answer = command("predict", str(run.path), "你好 ", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["text"] == "你好 "


def test_check_and_init_of_chats(tmp_path: Path, tiny_model: Path, chats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("init", str(chats), "-o", "c.yaml", "--json").code == 0
    result = command("check", "c.yaml", f"model={tiny_model}", "--json")
    assert result.code == 0, result.err
    assert result.json["totals"] == {"rows_in": 31, "used": 30, "rejected": 1, "shortened": 0}
    assert result.json["rejected"][0]["reason"] == "no_answer"
    assert result.json["example"]["answer"].startswith("好")
    message = refused("check", "c.yaml", f"model={tiny_model}", "task=classification", "data.shape=null", "data.columns={}")
    assert "task.kind: generation" in message
