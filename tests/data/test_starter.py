"""What ``init`` writes is a config that loads, says what is in the data, and never turns 'no' into false."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from weitiao.config import load_config
from weitiao.data.starter import starter_config
from weitiao.errors import DataError
from weitiao.language import current, use


def written(path: Path, folder: Path) -> tuple[str, dict[str, Any]]:
    """The config's text and tree; that `weitiao train` would take it is checked here for all tests."""
    text = starter_config(path, "en")
    config = folder / "config.yaml"
    config.write_text(text, encoding="utf-8")
    load_config(config)
    return text, yaml.safe_load(text)


def test_a_gbk_file(tmp_path: Path) -> None:
    path = tmp_path / "no: 1.csv"
    text = '评论,标签\n好吃,010\n"好吃！",no\n难吃,yes\n一般,1e-4\n更难吃,yes\n只有一格\n,yes\n没标签,\n"长\n长长",yes\n'
    path.write_bytes(text.encode("gbk"))
    config, tree = written(path, tmp_path)
    assert tree == {
        "model": "builtin",
        "task": {"kind": "classification"},
        "data": {
            "train": str(path),
            "columns": {"text": "评论", "label": "标签"},
            "validation_share": 0.1,
            "test_share": 0.1,
            "max_tokens": 512,
            "shorten": "tail",
        },
        "method": {"kind": "lora", "rank": 8, "alpha": 16},
        "objective": {"kind": "sft"},
        "train": {"epochs": 3, "batch_rows": 32},
        "seed": 0,
    }
    comments = [line[2:] for line in config.splitlines() if line.startswith("# ") and "optim:" not in line]
    # 9 records; lengths 2 3 2 2 3 3 4 of the 7 that can be read and have text, sorted 2 2 2 3 3 3 4
    assert comments[1:] == [
        "encoding GB18030, 9 rows",
        "columns: 评论, 标签",
        "rows that cannot be read: 1",
        "  7: '1 fields, but the header has 2'",
        "rows without text: 1",
        "rows that repeat an earlier one: 1, with another label: 1",
        "length of the text in characters: min 2, 50 % 3, 90 % 3, 99 % 4, max 4",
        "4 labels:",
        "  'yes': 3",
        "  '010': 1",
        "  '1e-4': 1",
        "  'no': 1",
        "rows without a label: 1",
    ]
    listed = next(line for line in config.splitlines() if "labels: [" in line)
    assert yaml.safe_load(listed.strip()[2:])["task"]["labels"] == ["010", "1e-4", "no", "yes"]


def test_the_language_is_the_one_asked_for_and_only_here(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("一\n二", encoding="utf-8")
    use("en")
    try:
        assert "2 行" in starter_config(path, "zh")
        assert "2 rows" in starter_config(path, "en")
        with pytest.raises(DataError, match="文件不存在"):
            starter_config(tmp_path / "none.csv", "zh")
        assert current() == "en"
    finally:
        use(None)


def test_plain_text_is_pretraining(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("一\n二", encoding="utf-16")
    _, tree = written(path, tmp_path)
    assert tree["task"] == {"kind": "text"}
    assert tree["objective"] == {"kind": "pretrain"}
    assert tree["data"]["columns"] == {"text": "text"}


def test_names_in_the_file_cannot_break_the_yaml(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"a: b, {c}\n#",no\n' + '"一段比较长的文字","x\ny: [1]"\n' * 3 + '"另一段","{"\n' * 3, encoding="utf-8")
    config, tree = written(path, tmp_path)
    assert tree["data"]["columns"] == {"text": "a: b, {c}\n#", "label": "no"}
    assert "a guess by content" in config


@pytest.mark.parametrize("header", ["review,polarity", "content,polarity", "描述,极性", "text,review"])
def test_a_guess_is_marked(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n" + "".join(f"很长的第 {i} 句话,{i % 2}\n" for i in range(8)), encoding="utf-8")
    config, tree = written(path, tmp_path)
    text, label = header.split(",")
    assert tree["data"]["columns"] == {"text": text, "label": label}
    assert "a guess by content" in config


def test_a_column_that_never_repeats_is_no_label(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,id\n" + "".join(f"第 {i} 句话,{i}\n" for i in range(8)), encoding="utf-8")
    config, tree = written(path, tmp_path)
    assert tree["data"]["columns"] == {"text": "text"}
    assert "guess" not in config


def _rows(tmp_path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The `data` part of what is written for rows of JSON; marked as a guess."""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    config, tree = written(path, tmp_path)
    assert "a guess by content" in config
    return tree["data"]


def test_messages_without_their_answer_are_a_prompt(tmp_path: Path) -> None:
    """How OpenAI's evals write their samples; a list was taken for the text, of which no row can be trained on."""
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    rows = [{"input": asked, "ideal": answer, "note": "sum"} for answer in ("2", ["2", "two"], "two")]
    data = _rows(tmp_path, rows)
    assert (data["shape"], data["columns"]) == ("prompt_completion", {"prompt": "input", "answer": "ideal"})


def test_messages_of_any_name_are_a_chat(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
    data = _rows(tmp_path, [{"sample": turns}] * 3)
    assert (data["shape"], data["columns"]) == ("messages", {"messages": "sample"})


def test_an_output_that_never_repeats_is_an_answer(tmp_path: Path) -> None:
    """Rather than a label that each row has for itself, which leaves no room for a text beside the list of labels."""
    data = _rows(tmp_path, [{"input": f"{i}+1", "output": str(i + 1)} for i in range(20)])
    assert data["columns"] == {"prompt": "input", "answer": "output"}
    data = _rows(tmp_path, [{"input": f"{i}+1", "output": str(i % 2)} for i in range(20)])
    assert data["columns"] == {"text": "input", "label": "output"}


def test_measured_numbers_that_repeat_are_no_label(tmp_path: Path) -> None:
    """Temperatures by the hour: the prompts of a classification would list every one of them."""
    data = _rows(tmp_path, [{"hour": f"2026-01-{i // 24 + 1:02} {i % 24:02}:00", "degrees": i % 60} for i in range(150)])
    assert data["columns"] == {"text": "hour"}


def test_lists_are_no_text(tmp_path: Path) -> None:
    """The line of config that is suggested names a column of texts, however long the lists are."""
    rows = [{"words": ["a"] * 50, "note": f"n {i}"} for i in range(3)]
    assert _rows(tmp_path, rows)["columns"] == {"text": "note"}


def test_candidates(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text":"x","category":["a","b"],"output":"a"}\n', encoding="utf-8")
    assert written(path, tmp_path)[1]["data"]["columns"] == {"text": "text", "label": "output", "candidates": "category"}


def test_only_the_top_labels_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"t{i}-{j},l{i:02}\n" for i in range(23) for j in range(i + 1)), encoding="utf-8")
    config, _ = written(path, tmp_path)
    assert "23 labels:\n#   l22: 23\n" in config
    assert "#   l03: 4\n#   … and 3 more\n" in config
    assert "labels: [" not in config


@pytest.mark.parametrize(
    ("second", "third"), [("dev.csv", "test.csv"), ("Valid.jsonl", "测试集.tsv"), ("val.csv.gz", "test.json"), ("验证集.txt", "")]
)
def test_a_folder(tmp_path: Path, second: str, third: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.csv").write_text("text,label\na,1\n", encoding="utf-8")
    (folder / "README.md").write_text("x", encoding="utf-8")
    (folder / second).write_text("", encoding="utf-8")
    if third:
        (folder / third).write_text("", encoding="utf-8")
    data = written(folder, tmp_path)[1]["data"]
    assert data["train"] == str(folder / "train.csv")
    assert data["validation"] == str(folder / second)
    assert data.get("test") == (str(folder / third) if third else None)
    assert data.get("test_share") == (None if third else 0.1)
    assert "validation_share" not in data


def test_a_folder_that_leaves_it_open(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("text\na\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"reviews\.csv"):
        starter_config(tmp_path, "en")
    for name in ("train.csv", "train.tsv"):
        (tmp_path / name).write_text("text\na\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"several files look like train: train\.csv, train\.tsv"):
        starter_config(tmp_path, "en")


@pytest.mark.parametrize(("text", "expected"), [("很好的一本书", "zh"), ("a good book", "en")])
def test_the_prompt_is_in_the_language_of_the_texts(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(f"text,label\n{text} 1,a\n{text} 2,b\n", encoding="utf-8")
    config = tmp_path / "config.yaml"
    config.write_text(starter_config(path, "zh"), encoding="utf-8")
    task = load_config(config).task
    assert task.kind == "classification"
    assert task.language == expected


def test_no_learning_rate_is_written_so_that_each_method_gets_its_own(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,label\none,a\ntwo,b\n", encoding="utf-8")
    config = tmp_path / "config.yaml"
    config.write_text(starter_config(path, "en"), encoding="utf-8")
    assert load_config(config, ["method=head"]).learning_rate == load_config(None, ["method=head"]).learning_rate
