"""Careless and hostile input at the command line: exit code 2, one message with place, value, cause and remedy, nothing left behind."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import change_json, command, copied, refused

from weitiao.data.folder import FILE_NAMES

LANGUAGES = pytest.mark.parametrize("lang", ["zh", "en"])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Path:
    """A working folder with a configuration for `good.csv`."""
    monkeypatch.chdir(tmp_path)
    write_rows("good.csv", rows())
    config = {"model": str(tiny_model), "data": {"train": "good.csv"}, "train": {"max_steps": 1}, "name": "r"}
    (tmp_path / "run.yaml").write_text(json.dumps(config), encoding="utf-8")
    return tmp_path


def rows(*labels: str) -> list[str]:
    return [f"第{i}条{label}消息,{label}" for label in labels or ("体育", "财经") for i in range(8)]


def write_rows(name: str, lines: list[str], header: str = "text,label") -> None:
    Path(name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


FILES: dict[str, tuple[str | bytes, str]] = {
    "empty.csv": ("", "empty.csv"),
    "header.csv": ("text,label\n", "header.csv"),
    "one_label.csv": ("text,label\n" + "\n".join(rows("体育")), "体育"),
    "columns.csv": ("a,b\n" + "\n".join(rows()), "data.columns.text"),
    "no_labels.csv": ("text,label\na,\nb,\n", "no_labels.csv:2"),
    "no_texts.csv": ('text,label\n"",a\n" ",b\n', "no_texts.csv:2"),
    "twice.csv": ("text,text,label\na,b,c\n", "text"),
    "binary.csv": (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", "binary.csv:"),
    "sheet.xlsx": (b"PK\x03\x04", ".xlsx"),
    "syntax.json": ('[{"text": "a", "label": }]', "syntax.json:1"),
    "object.json": ('{"text": 3}', "object.json"),
    "nan.jsonl": ('{"text": "a", "label": NaN}\n', "nan.jsonl:1"),
    "lines.jsonl": ("nope\n[1]\n", "lines.jsonl:1"),
    "cut.csv.gz": (b"\x1f\x8b\x08\x00\x00\x00", "cut.csv.gz"),
}


@pytest.mark.usefixtures("place")
@LANGUAGES
@pytest.mark.parametrize("name", FILES)
def test_a_data_file_that_cannot_be_used(name: str, lang: str) -> None:
    content, shown = FILES[name]
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert shown in refused("check", "run.yaml", f"data.train={name}", lang=lang)


@LANGUAGES
def test_a_path_that_is_no_data_file(place: Path, lang: str) -> None:
    (place / "folder.csv").mkdir()
    assert "good.csv" in refused("check", "run.yaml", "data.train=god.csv", lang=lang)
    for path in ("folder.csv", "/dev/zero", "字" * 200 + ".csv", "good.csv/x.csv"):
        assert path in refused("check", "run.yaml", f"data.train={path}", lang=lang)


@LANGUAGES
@pytest.mark.parametrize(
    ("overrides", "shown"),
    [
        (["data.columns.text=txt"], "'text'"),
        (["data.columns.text=label", "data.columns.label=label"], "'label'"),
        (["task.labels=[体育, 娱乐]"], "'财经'"),
        (["data.validation_share=0.6", "data.test_share=0.6"], "data.test_share"),
        (["data.train=builtin", "data.test=good.csv"], "data.test"),
    ],
)
@pytest.mark.usefixtures("place")
def test_settings_that_do_not_fit_the_data(overrides: list[str], shown: str, lang: str) -> None:
    assert shown in refused("check", "run.yaml", *overrides, lang=lang)


@pytest.mark.usefixtures("place")
@LANGUAGES
@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_label_that_training_has_not_seen_is_named_with_its_line(split: str, lang: str) -> None:
    write_rows("other.csv", ["甲,体育", "乙,娱乐"])
    message = refused("check", "run.yaml", f"data.{split}=other.csv", lang=lang)
    assert "other.csv:3" in message
    assert "娱乐" in message
    listed = refused("check", "run.yaml", f"data.{split}=other.csv", "task.labels=[体育, 财经, 娱乐]", lang=lang)
    assert "other.csv:3" in listed


@LANGUAGES
def test_wrong_input_leaves_no_run_folder(place: Path, lang: str) -> None:
    for wrong in ("data.train=nope.csv", "model=nope", "method=loar", "data.max_tokens=8"):
        refused("train", "run.yaml", wrong, "-q", lang=lang)
        assert not (place / "runs").exists()


@pytest.mark.usefixtures("place")
def test_bad_rows_are_counted_with_their_reasons() -> None:
    lines = [json.dumps({"text": row.split(",")[0], "label": row.split(",")[1]}, ensure_ascii=False) for row in rows()]
    bad = [
        "nope",
        "[1]",
        '{"text": null, "label": "体育"}',
        '{"text": "b"}',
        '{"text": "c", "label": ["体育"]}',
        '{"text": "\\ud800", "label": "体育"}',
    ]
    Path("mixed.jsonl").write_text("\n".join([*lines, *bad]) + "\n", encoding="utf-8")
    found = command("check", "run.yaml", "data.train=mixed.jsonl", "--json").json
    assert found["totals"] == {"rows_in": 22, "used": 16, "rejected": 6, "shortened": 0}
    assert [row["reason"] for row in found["rejected"]] == ["bad_row", "bad_row", "no_text", "no_label", "no_label", "bad_row"]
    shown = command("check", "run.yaml", "data.train=mixed.jsonl", lang="zh").out
    assert "mixed.jsonl:17  读不出来：不是合法的 JSON" in shown
    assert "bad_row" not in shown


@pytest.mark.usefixtures("place")
def test_texts_that_look_like_markup_are_shown_as_they_are() -> None:
    write_rows("markup.csv", [f"[red]第{i}[/red] [/],[/]" for i in range(8)] + [f"[b]{i},[red]x[/red]" for i in range(8)])
    out = command("check", "run.yaml", "data.train=markup.csv", "data.test_share=0").out
    assert "[/]" in out
    assert "[red]x[/red]" in out


@pytest.mark.usefixtures("place")
def test_control_characters_of_a_file_do_not_reach_the_terminal() -> None:
    write_rows("escape.csv", [f"\x1b[31m坏{i},a\x1b[0m" for i in range(8)] + [f"好{i},b" for i in range(8)])
    out = command("check", "run.yaml", "data.train=escape.csv").out
    assert "\x1b" not in out
    assert "a\\x1b[0m" in out
    write_rows("escape2.csv", ["好,\x1b[31m未见"])
    assert "\x1b" not in refused("check", "run.yaml", "data.test=escape2.csv")


def test_paths_with_spaces_and_chinese_and_dashes(place: Path) -> None:
    folder = place / "有 空格"
    folder.mkdir()
    write_rows("有 空格/数 据.csv", rows())
    write_rows("--weird.csv", rows())
    for path in ("有 空格/数 据.csv", "--weird.csv"):
        assert command("check", "run.yaml", f"data.train={path}", "--json").json["totals"]["used"] == 16
        assert command("init", "--force", "--out", folder / "配 置.yaml", "--", path).code == 0
        assert command("check", folder / "配 置.yaml", f"model={json.loads(Path('run.yaml').read_text())['model']}").code == 0
    assert "--" in refused("init", "--weird.csv")


@LANGUAGES
def test_init_writes_only_where_it_may(place: Path, lang: str) -> None:
    (place / "folder").mkdir()
    Path("taken.yaml").write_text("kept")
    for out in ("taken.yaml", "nowhere/a.yaml", "/proc/a.yaml"):
        assert out in refused("init", "good.csv", "--out", out, lang=lang)
    for out in ("folder", "/dev/null"):
        assert out in refused("init", "good.csv", "--out", out, "--force", lang=lang)
    assert Path("taken.yaml").read_text() == "kept"
    assert not Path("/dev/null").is_file()
    for source in ("nope.csv", "folder", "."):
        assert source in refused("init", source, "--out", "new.yaml", lang=lang)
    assert not Path("new.yaml").exists()
    assert "train" in FILE_NAMES


BROKEN_RUNS: dict[str, Callable[[Path], object]] = {
    "absent": lambda run: (run / "run.json").unlink(),
    "a list": lambda run: (run / "run.json").write_text("[]"),
    "no JSON": lambda run: (run / "run.json").write_text("{"),
    "not text": lambda run: (run / "run.json").write_bytes(b"\xff\x00"),
    "no config": lambda run: (run / "config.yaml").unlink(),
    "a config of another version": lambda run: (run / "config.yaml").write_text("nosuchkey: 1\n"),
    "no model": lambda _: None,
    "a card that is a list": lambda run: ((run / "model").mkdir(), (run / "model" / "weitiao.json").write_text("[]")),
    "a card without a task": lambda run: ((run / "model").mkdir(), (run / "model" / "weitiao.json").write_text("{}")),
}


@LANGUAGES
@pytest.mark.parametrize("name", BROKEN_RUNS)
def test_predict_and_evaluate_refuse_what_is_no_finished_run(place: Path, name: str, lang: str) -> None:
    run = place / "runs" / "r"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"state": "interrupted"}))
    (run / "config.yaml").write_bytes(Path("run.yaml").read_bytes())
    BROKEN_RUNS[name](run)
    for arguments in (["predict", run, "文本"], ["predict", run, "good.csv", "-q"], ["evaluate", run, "-q"]):
        assert str(run) in refused(*arguments, lang=lang)


@pytest.mark.usefixtures("place")
@LANGUAGES
@pytest.mark.parametrize("path", ["nope", ".", "good.csv", "字" * 200])
def test_what_is_no_run_folder_at_all(path: str, lang: str) -> None:
    for name in ("predict", "evaluate", "report"):
        assert path in refused(name, path, *(["文本"] if name == "predict" else []), lang=lang)


@LANGUAGES
def test_a_model_folder_that_cannot_be_used(place: Path, tiny_model: Path, lang: str) -> None:
    folder = copied(tiny_model, place / "model")
    change_json(folder / "config.json", auto_map={"AutoModel": "x.Y"})
    assert "auto_map" in refused("check", "run.yaml", "model=model", lang=lang)
    assert "auto_map" in refused("train", "run.yaml", "model=model", lang=lang)
    assert not (place / "runs").exists()
