"""The built-in base model is what its card says: plain, small, and innocent of the test split."""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

from weitiao.model.load import BUILTIN_FOLDER

LARGEST_BYTES = 20_000_000


def test_plain_transformers_loads_it_and_it_knows_some_chinese() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BUILTIN_FOLDER)
    model = AutoModelForCausalLM.from_pretrained(BUILTIN_FOLDER, dtype=torch.float32)
    assert isinstance(model, Qwen2ForCausalLM)

    def nats_per_token(text: str) -> float:
        ids = tokenizer("<|endoftext|>" + text, return_tensors="pt").input_ids
        return model(ids, labels=ids).loss.item()

    written = "将光标置于文档中要插入文件的位置。"  # a sentence in the style of its text; shuffled, it must be far less likely
    assert nats_per_token(written) + 1 < nats_per_token("".join(sorted(written)))


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in BUILTIN_FOLDER.iterdir()) <= LARGEST_BYTES + 100_000  # 20 MB of model, and the cards
    assert (BUILTIN_FOLDER / "model.safetensors").stat().st_size <= LARGEST_BYTES


def test_no_dev_or_test_row_was_found_in_its_text_and_the_check_can_find() -> None:
    leakage = json.loads((BUILTIN_FOLDER / "leakage.json").read_text(encoding="utf-8"))
    for split, rows in (("dev", 953), ("test", 702)):
        assert leakage[split]["rows"] == rows
        assert [leakage[split][way] for way in ("line", "substring", "across", "near")] == [0, 0, 0, 0]
    planted = leakage["planted"]
    assert planted["found"] == planted["verbatim"] > 0
    assert planted["edited_found"] == planted["edited"] > 0


def test_every_source_names_its_licence_and_notice_names_every_package() -> None:
    sources = json.loads((BUILTIN_FOLDER / "sources.json").read_text(encoding="utf-8"))
    notice = (Path(__file__).parent.parent / "NOTICE").read_text(encoding="utf-8")
    rows = {cells[1].strip(): cells for line in notice.splitlines() if line.startswith("| ") and len(cells := line.split("|")) == 5}
    assert sources
    for licence in {source["licence"] for source in sources}:
        own = [source for source in sources if source["licence"] == licence]
        _, _, characters, packages, _ = rows[licence]
        assert int(characters.replace(",", "")) == sum(source["train_characters"] for source in own), licence
        assert all(source["package"] in packages for source in own), licence
    assert f"{sum(source['train_characters'] for source in sources):,} characters in all" in notice.replace("\n", " ")
