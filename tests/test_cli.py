"""The command line: what it prints where, in which language, with which exit code; what it does when it is interrupted or cannot write."""

import csv
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from commands import CHINESE, ENGLISH_SENTENCE, command, refused

from weitiao import __version__
from weitiao.interrupts import INTERRUPTED

pytestmark = pytest.mark.slow  # whole runs of the program

story = importlib.import_module("weitiao.finetune")  # the module; `weitiao.finetune` is the function
LANGUAGES = pytest.mark.parametrize("lang", ["zh", "en"])
WEITIAO = [sys.executable, "-m", "weitiao"]


def configuration(folder: Path, model: Path, data: Path, **more: object) -> Path:
    path = folder / "run.yaml"
    tree = {
        "name": "r",
        "runs": str(folder / "runs"),
        "model": {"path": str(model), "device": "cpu"},
        "data": {"train": str(data)},
        "train": {"max_steps": 2, "batch_rows": 8},
        "evaluate": {"before": False, "baselines": False},
    }
    path.write_text(json.dumps(tree | more), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, small_csv: Path) -> Path:
    """A finished run of two steps, made by the command itself."""
    folder = tmp_path_factory.mktemp("cli")
    result = command("train", configuration(folder, tiny_model, small_csv), "--json", "-q")
    assert result.code == 0, result.err
    assert result.err == ""  # no warning of any library either
    assert result.json["state"] == "finished"
    return Path(result.json["run"])


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path, small_csv: Path) -> Path:
    return configuration(tmp_path, tiny_model, small_csv)


# ------------------------------------------------------------------------------------------------------------ usage and help


@LANGUAGES
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["trian"], "train"),
        (["train"], "config"),
        (["train", "--jso", "x"], "--json"),
        (["train", "--nothing", "x"], "--nothing"),
        (["predict", "a", "b", "c", "d"], "c d"),
        (["predict", "a", "b", "--out"], "--out"),
        (["train", "--quiet=3", "x"], "--quiet"),
        (["check", "--lang", "fr", "x"], "'fr'"),
        (["check", "x", "--lang"], "--lang"),
    ],
)
def test_a_command_line_that_cannot_be_understood(arguments: list[str], shown: str, lang: str) -> None:
    assert shown in refused(*arguments, lang=lang)
    result = command(*arguments, "--json", lang=lang)
    if arguments[-1] not in ("--out", "--lang"):  # they take the next word as their value
        assert result.code == 2
        assert result.json["error"]["type"] == "UsageError"
        assert set(result.json["error"]) == {"type", "message", "where", "cause", "remedy"}


@LANGUAGES
@pytest.mark.parametrize("name", ["", "demo", "init", "check", "train", "evaluate", "predict", "report", "schema"])
def test_help_is_in_one_language(name: str, lang: str) -> None:
    """The texts of the commands are settled when the program starts, so the language is given to a program of its own."""
    code = f"import sys; sys.argv = ['weitiao', '--lang', '{lang}', *sys.argv[1:]]; from weitiao.cli import main; main()"
    if name in ("", "train"):  # two of them say whether it works; the rest are checked in process
        environment = os.environ | {"COLUMNS": "200", "LANG": "C.UTF-8"}
        out = subprocess.run([sys.executable, "-c", code, *name.split(), "--help"], capture_output=True, text=True, env=environment).stdout
        assert bool(CHINESE.search(out)) == (lang == "zh")
        assert bool(ENGLISH_SENTENCE.search(out)) == (lang == "en"), out
    result = command(*name.split(), "--help", lang=lang)
    assert result.code == 0
    assert ("选项" in result.out) == (lang == "zh")
    assert ("Usage:" in result.out) == (lang == "en")


def test_lang_may_stand_anywhere_but_not_among_texts() -> None:
    assert command("check", "nope.yaml", "--lang", "zh").err.startswith("错误")
    assert command("check", "--lang=zh", "nope.yaml").err.startswith("错误")
    assert "--lang" in command("check", "--", "--lang").err


def test_version_and_schema() -> None:
    assert command("--version").out == f"{__version__}\n"
    assert json.loads(command("schema").out)["title"] == "RunConfig"


def test_no_command_shows_the_help() -> None:
    result = command()
    assert result.code == 2
    assert "train" in result.out
    assert "Traceback" not in result.err


def test_help_is_quick_and_neither_it_nor_check_imports_torch(config: Path) -> None:
    heavy = "[name for name in ('torch', 'transformers', 'peft', 'sklearn', 'pydantic', 'yaml') if name in sys.modules]"
    help_code = f"import sys; from weitiao.commands.line import run_command; run_command(['--help']); assert not {heavy}, {heavy}"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", help_code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert seconds < 0.3  # processor time, as other work on the machine does not add to it; measured: 0.20
    check_code = (
        f"import sys; from weitiao.commands.line import run_command; assert run_command(['check', {str(config)!r}]) == 0; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check_code], check=True, capture_output=True)


# ------------------------------------------------------------------------------------------------------------ results


def test_the_table_after_training_is_in_the_users_language(config: Path) -> None:
    result = command("train", config, "name=zh", lang="zh")
    assert result.code == 0
    assert "训练后（lora）" in result.out
    assert "report.html" in result.out
    assert not ENGLISH_SENTENCE.search(result.out), result.out
    assert not ENGLISH_SENTENCE.search(result.err), result.err


def test_check_says_the_same_to_people_and_to_programs(config: Path) -> None:
    found = command("check", config, "--json").json
    assert found["totals"] == {"rows_in": 62, "used": 60, "rejected": 2, "shortened": 0}
    shown = command("check", config, lang="zh").out
    assert "读入 62 行，可用 60，拒绝 2" in shown


def test_a_run_name_that_is_taken(run: Path) -> None:
    assert "name=" in refused("train", run.parent.parent / "run.yaml", "-q", lang="zh")
    assert json.loads((run / "run.json").read_text())["state"] == "finished"


@LANGUAGES
@pytest.mark.parametrize("runs", ["news.csv", "news.csv/runs", "/proc/runs", "字" * 200])
def test_a_place_that_cannot_hold_runs(config: Path, runs: str, lang: str) -> None:
    (config.parent / "news.csv").write_text("")
    place = runs if runs.startswith("/") else str(config.parent / runs)
    assert "runs=" in refused("train", config, f"runs={place}", "-q", lang=lang)


@LANGUAGES
def test_too_little_disk_space(config: Path, monkeypatch: pytest.MonkeyPatch, lang: str) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    assert "runs=" in refused("train", config, "-q", lang=lang)
    assert not (config.parent / "runs").exists()


# ------------------------------------------------------------------------------------------------------------ failure


@pytest.mark.parametrize(
    ("error", "code", "state"),
    [
        (KeyboardInterrupt(), INTERRUPTED, "interrupted"),
        (OSError(28, "No space left on device"), 1, "failed"),
        (ValueError("bug"), 1, "failed"),
    ],
)
def test_a_run_that_ends_early_says_so(config: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, state: str) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(story, "publish", fails)
    result = command("train", config, "--json", "-q", lang="zh")
    assert result.code == code
    assert result.json["error"]["type"] == type(error).__name__
    assert CHINESE.search(result.json["error"]["message"])
    assert ("已中断" in result.err or "错误" in result.err) == (state == "failed")  # whoever stops trials reads it in the JSON
    assert ("Traceback" in result.err) == isinstance(error, ValueError)  # a defect of ours is shown in full
    record = json.loads((config.parent / "runs" / "r" / "run.json").read_text())
    assert (record["state"], record["error"]["type"]) == (state, type(error).__name__)
    assert not (config.parent / "runs" / "r" / "model").exists()
    refused("predict", config.parent / "runs" / "r", "文本", lang="zh")


def test_a_disk_that_is_too_full_for_run_json_does_not_hide_what_went_wrong(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def fails(*_: object) -> None:
        monkeypatch.setattr(story.Run, "update", full)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(story, "publish", fails)
    result = command("train", config, "-q", "--json")
    assert "Input/output" in result.json["error"]["message"]
    assert json.loads((config.parent / "runs" / "r" / "run.json").read_text())["state"] == "running"


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_while_training(config: Path, times: int) -> None:
    """The real signal, once and by an impatient user."""
    # A shell that starts a job in the background lets it ignore Ctrl-C; undo that, should the tests run so.
    child = subprocess.Popen(
        [*WEITIAO, "train", str(config), "train.epochs=5000", "train.max_steps=5000", "train.validate_every=5000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    run = config.parent / "runs" / "r"
    deadline = time.monotonic() + 300
    while not (run / "metrics.jsonl").is_file() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    for _ in range(times):
        child.send_signal(signal.SIGINT)
        time.sleep(0.02)
    out, err = child.communicate(timeout=300)
    assert child.returncode == INTERRUPTED, err
    assert out == b""
    assert b"Traceback" not in err
    assert json.loads((run / "run.json").read_text())["state"] == "interrupted"
    assert not (run / "model").exists()


# ------------------------------------------------------------------------------------------------------------ predict


def test_predict_one_text(run: Path) -> None:
    found = command("predict", run, "股票大涨", "--json").json
    assert found["label"] in found["probabilities"]
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert found["probability"] == max(found["probabilities"].values())
    assert command("predict", run, "股票大涨").out.startswith(found["label"])


@pytest.mark.parametrize(
    "text", ["x" * 20_000, "坏\x1b[31m字\x7f", "<|im_end|>\n<|im_start|>system", "[red]x[/red] [/]", "字" * 300, "见 说明.txt"]
)
def test_predict_takes_any_text(run: Path, text: str) -> None:
    found = command("predict", run, "--json", "--", text).json
    assert found["text"] == text
    assert found["shortened"] == (len(text) >= 300)


@LANGUAGES
@pytest.mark.parametrize("text", ["", " \n", "\udcff\udc80", "nope.csv"])
def test_predict_refuses_what_is_no_text(run: Path, text: str, lang: str) -> None:
    refused("predict", run, "--", text, lang=lang)
    result = command("predict", run, "--json", "--", text, lang=lang)
    assert result.json["error"]["type"] == "DataError"


def test_predict_a_file_keeps_every_row_in_its_place(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    lines = [
        '{"text": "股票", "prediction": "mine", "error": "mine"}',
        "nope",
        '{"text": ""}',
        '{"text": 42}',
        '{"text": "\\ud800"}',
        '{"text": ["a"]}',
    ]
    source.write_text("\n".join(lines), encoding="utf-8")
    out = tmp_path / "out.jsonl"
    result = command("predict", run, source, "--out", out, "--json", "-q")
    assert result.json == {"rows": 6, "failed": 4, "out": str(out)}
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert ["error" in row for row in rows] == [False, True, True, False, True, True]
    assert (rows[0]["prediction_input"], rows[0]["error_input"]) == ("mine", "mine")
    assert rows[0]["prediction"] != "mine"
    printed = command("predict", run, source, "-q").out
    assert printed == out.read_text(encoding="utf-8")


def test_predictions_as_csv_hold_no_formulas(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text('text\n"=HYPERLINK(""http://x"")"\n@a\n', encoding="utf-8")
    assert command("predict", run, source, "--out", tmp_path / "out.csv", "-q").code == 0
    data = (tmp_path / "out.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(data.decode("utf-8-sig").splitlines()))
    assert [row["text"] for row in rows] == ['\'=HYPERLINK("http://x")', "'@a"]


@LANGUAGES
def test_predict_writes_only_where_it_may(run: Path, small_csv: Path, tmp_path: Path, lang: str) -> None:
    source = tmp_path / "news.csv"
    shutil.copy(small_csv, source)
    (tmp_path / "folder.csv").mkdir()
    for out in ("news.csv", "out.xlsx", "nowhere/out.csv", "folder.csv", "/dev/null", "/proc/out.csv"):
        assert Path(out).name in refused("predict", run, source, "-q", "--out", tmp_path / out, lang=lang)
    assert source.read_bytes() == small_csv.read_bytes()


@LANGUAGES
def test_evaluate_and_report(run: Path, small_csv: Path, tmp_path: Path, lang: str) -> None:
    assert command("evaluate", run, "--json", "-q", lang=lang).json["metrics"]["accuracy"]["n"] == 6
    assert command("evaluate", run, "--data", small_csv, "-q", lang=lang).code == 0
    assert Path(command("report", run, "--json", lang=lang).json["report"]).is_file()
    other = tmp_path / "other.csv"
    other.write_text("text,label\n甲,娱乐\n", encoding="utf-8")
    assert "other.csv:2" in refused("evaluate", run, "--data", other, "-q", lang=lang)
    other.write_text("text,label\n甲,\n", encoding="utf-8")
    assert "other.csv:2" in refused("evaluate", run, "--data", other, "-q", lang=lang)


def test_labels_that_look_like_markup_are_shown(tmp_path: Path, tiny_model: Path) -> None:
    data = tmp_path / "markup.csv"
    data.write_text("text,label\n" + "".join(f"[b]第{i},[/]\n第{i}条[/b],[red]x[/red]\n" for i in range(10)), encoding="utf-8")
    config = configuration(tmp_path, tiny_model, data, task={"kind": "classification"})
    assert command("train", config, "-q").code == 0
    shown = command("evaluate", tmp_path / "runs" / "r", "-q").out
    assert "[/]" in shown
    assert "[red]x[/red]" in shown


# ------------------------------------------------------------------------------------------------------------ streams


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, b"no such file"),
        ({"LANG": "zh_CN.GB18030", "PYTHONIOENCODING": "gb18030"}, "没有这个文件".encode("gb18030")),
        ({"LANG": "zh_CN.UTF-8", "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}, b"\\u6ca1\\u6709"),
    ],
)
def test_any_encoding_of_the_streams_will_do(environment: dict[str, str], shown: bytes, tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in ("LC_ALL", "LC_MESSAGES", "LANG", "PYTHONUTF8")}
    result = subprocess.run([*WEITIAO, "check", "无.yaml", "--json"], capture_output=True, env=clean | environment, cwd=tmp_path)
    assert result.returncode == 2
    assert shown in result.stderr
    assert b"\x1b" not in result.stderr
    assert "yaml" in json.loads(result.stdout.decode(environment.get("PYTHONIOENCODING", "utf-8")))["error"]["where"]


@pytest.mark.parametrize("redirection", ["| head -1", "| true", ">&-", "2>&1 >/dev/null | true"])
def test_a_reader_that_leaves_early_is_no_error(config: Path, redirection: str) -> None:
    line = f"{sys.executable} -m weitiao check {config} {redirection}; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "0"
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr
