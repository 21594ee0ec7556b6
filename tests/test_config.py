"""Configurations: what is read, what is refused, and that the refusal says where, what and what to do, in Chinese and in English."""

import time
from pathlib import Path

import pytest
from commands import CHINESE, ENGLISH_SENTENCE
from hypothesis import given, settings
from hypothesis import strategies as st

from weitiao import language
from weitiao.config import RunConfig, build_config, load_config, parse_yaml
from weitiao.config_io import dump_yaml
from weitiao.config_methods import FullMethod, LoraMethod
from weitiao.config_tasks import ClassificationTask
from weitiao.errors import ConfigError

ROOT = Path(__file__).parent.parent


@pytest.fixture(params=["zh", "en"])
def lang(request: pytest.FixtureRequest):
    language.use(request.param)
    yield request.param
    language.use(None)


def fault(tmp_path: Path, text: str, *overrides: str) -> ConfigError:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert caught.value.where.startswith(str(path)) or caught.value.where in overrides
    assert caught.value.remedy
    return caught.value


WRONG_SETTINGS = [
    ("sed: 1", "sed", "seed"),
    ("data: {columns: {txt: a}}", "data.columns.txt", "text"),
    ("method: {kind: lora, rnak: 3}", "method.rnak", "rank"),
    ("method: {kind: full, rank: 3}", "method.rank", "kind"),
    ("task: {kind: text, labels: [a, b]}", "task.labels", "block_tokens"),
    ("task: clasification", "task.kind", "classification"),
    ("method: loar", "method.kind", "lora"),
    ("objective: sftt", "objective.kind", "sft"),
    ("task: [1]", "task", "[1]"),
    ("train: 3", "train", "3"),
    ("seed: -1", "seed", "-1"),
    ("seed: 1.5", "seed", "1.5"),
    ("seed: true", "seed", "true"),
    ("seed: '3'", "seed", '"3"'),
    ("seed: null", "seed", "null"),
    ("seed: 999999999999999999999999999999", "seed", "4294967296"),
    ("train: {epochs: true}", "train.epochs", "true"),
    ("train: {epochs: .inf}", "train.epochs", ".inf"),
    ("train: {best_by: acuracy}", "train.best_by", "accuracy"),
    ("optim: {learning_rate: 0}", "optim.learning_rate", "0"),
    ("optim: {learning_rate: high}", "optim.learning_rate", "high"),
    ("model: {precision: fp16}", "model.precision", "bfloat16"),
    ("model: [a]", "model", "['a']"),
    ("data: {train: [3]}", "data.train", "3"),
    ("data: {train: ''}", "data.train", '""'),
    ('data: {train: "a\\nb"}', "data.train", "a\\nb"),
    ('runs: "a\\0b"', "runs", "\\u0000"),
    ("data: {test_share: 1.0}", "data.test_share", "1.0"),
    ("data: {max_tokens: 4}", "data.max_tokens", "8"),
    ("evaluate: {before: maybe}", "evaluate.before", "maybe"),
    ("name: a/b", "name", "a/b"),
    ("name: " + "x" * 101, "name", "100"),
    ("task: {labels: [a]}", "task.labels", "2"),
    ("task: {labels: [a, a]}", "task", ""),
    ("task: {labels: [null, b]}", "task.labels.0", "null"),
    ("task: {template: hello}", "task", "{text}"),
    ("task: text", "task.kind", "pretrain"),
    ("{task: text, objective: pretrain, train: {best_by: accuracy}}", "train.best_by", "loss"),
    ("1: 2", "1", "1"),
]


@pytest.mark.parametrize(("text", "path", "shown"), WRONG_SETTINGS)
def test_a_wrong_setting_is_named_with_its_path_and_its_value(tmp_path: Path, lang: str, text: str, path: str, shown: str) -> None:
    error = fault(tmp_path, text)
    line = error.cause.splitlines()[1]
    assert path in line
    assert shown in line
    if lang == "zh":
        assert CHINESE.search(line), line
        assert not ENGLISH_SENTENCE.search(str(error)), str(error)
    else:
        assert not CHINESE.search(line), line


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    language.use("en")
    cause = fault(tmp_path, "sed: 1\ntrain: {epochs: x}\nmethod: {kind: lora, rank: 0}").cause
    assert cause.startswith("3 errors")


WRONG_YAML = [
    ("seed: 1\n\ttrain: 2", 2),
    ("seed: 1\nseed: 2", 2),
    ("data: {train: a, train: b}", 1),
    ("seed: 1\n  x: 2", 2),
    ("model: {path: x", 1),
    ("model: 'x", 1),
    ("x: *unknown", 1),
    ("seed: !!python/object/apply:os.system [echo]", 1),
    ("? [a]\n: 1", 1),
    ("seed: 1\n---\nseed: 2", 2),
    ("seed: 1\na: @x", 2),
    ("seed: 1\n\x01: 2", 2),
    ("seed: {{ x }}", 1),
    ('seed: "\\q"', 1),
]


@pytest.mark.parametrize(("text", "line"), WRONG_YAML)
def test_a_fault_of_yaml_is_named_with_its_line(tmp_path: Path, lang: str, text: str, line: int) -> None:
    error = fault(tmp_path, text)
    assert error.where.endswith(f":{line}")
    assert bool(CHINESE.search(error.cause.splitlines()[0])) == (lang == "zh")


@pytest.mark.usefixtures("lang")
@pytest.mark.parametrize("text", ["[1, 2]", "3", "word", "- seed: 1"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert "recipes/" in fault(tmp_path, text).remedy


@pytest.mark.usefixtures("lang")
@pytest.mark.parametrize("text", ["a: " + "[" * 3000, "seed: " + "9" * 5000, "seed: !!int x", "x: !!timestamp 2020-99-99"])
def test_hostile_values_end_as_an_error(tmp_path: Path, text: str) -> None:
    assert fault(tmp_path, text)


def test_a_bomb_of_aliases_neither_fills_memory_nor_the_screen(tmp_path: Path) -> None:
    """Eleven levels of nine references each are 31 thousand million values when written out."""
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    text = "\n".join(["a0: &a0 [x]", *levels, "seed: *a11", "task: {labels: *a11}"])
    started = time.perf_counter()
    error = fault(tmp_path, text)
    assert time.perf_counter() - started < 2
    assert len(str(error)) < 10_000


def test_a_list_that_holds_itself_is_refused(tmp_path: Path) -> None:
    assert "labels" in fault(tmp_path, "task: {labels: &a [x, *a]}").cause


def test_words_stay_words_and_numbers_become_numbers() -> None:
    text = "[yes, no, on, off, 010, 1_000, 1e-4, 1e5, +, -x, ., 0x1F, 0o17, 12:30, 2020-01-01, ~, '', 1., .5, -0]"
    values = [
        "yes",
        "no",
        "on",
        "off",
        "010",
        1000,
        1e-4,
        1e5,
        "+",
        "-x",
        ".",
        "0x1F",
        "0o17",
        "12:30",
        "2020-01-01",
        None,
        "",
        1.0,
        0.5,
        0,
    ]
    assert parse_yaml(text, "test") == values
    assert [type(v) for v in parse_yaml(text, "test")] == [type(v) for v in values]


def test_empty_sections_mean_their_defaults() -> None:
    tree = parse_yaml("model:\ntask:\ndata:\n  # train: mine.csv\n  columns:\nmethod:\ntrain:\n", "test")
    assert build_config(tree, "test") == RunConfig()


def test_short_forms() -> None:
    config = load_config(None, ["model=a/b", "method=full", "task=text", "objective=pretrain"])
    assert config.model.path == "a/b"
    assert (config.method.kind, config.task.kind, config.objective.kind) == ("full", "text", "pretrain")


def test_overrides() -> None:
    assert load_config(None, ["train.epochs=2", "train.epochs=5"]).train.epochs == 5
    assert load_config(None, ["method=lora", "method.rank=3"]).method == LoraMethod(rank=3)
    assert load_config(None, ["method=lora", "method.rank=3", "method.kind=full"]).method == FullMethod()
    assert load_config(None, ["task.labels=[yes, no]"]).task == ClassificationTask(labels=("yes", "no"))
    assert load_config(None, ["task.template=a=b {text}"]).task == ClassificationTask(template="a=b {text}")


def test_an_override_does_not_reach_through_an_alias(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data: {columns: &c {text: a}}\n", encoding="utf-8")
    assert load_config(path, ["data.columns.label=b"]).data.columns.model_dump(exclude_none=True) == {"text": "a", "label": "b"}


@pytest.mark.parametrize("override", ["train.epochs", "=3", "a..b=1", "train.=1", "train.epochs=[", "train.epochs=a: b: c"])
def test_what_is_no_override_is_refused(lang: str, override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert caught.value.where.startswith(override)
    assert bool(CHINESE.search(caught.value.cause)) == (lang == "zh")


@pytest.mark.usefixtures("lang")
@pytest.mark.parametrize("override", ["train=3", "train.epochs.x=1", "data.train.x=1", "method.kind.x=1", "seed=", "--seed=1"])
def test_an_override_that_does_not_fit_is_refused(override: str) -> None:
    with pytest.raises(ConfigError):
        load_config(None, [override])


@pytest.mark.usefixtures("lang")
def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("seed: 1")
    (tmp_path / "gbk.yaml").write_bytes("seed: 1\nname: 名字".encode("gbk"))
    (tmp_path / "large.yaml").write_bytes(b"#" * 10_000_001)
    with pytest.raises(ConfigError, match=r"train\.yaml"):
        load_config(tmp_path / "trian.yaml")
    with pytest.raises(ConfigError, match=r"gbk\.yaml:2.*UTF-8"):
        load_config(tmp_path / "gbk.yaml")
    with pytest.raises(ConfigError, match="10 MB"):
        load_config(tmp_path / "large.yaml")
    with pytest.raises(ConfigError):
        load_config(tmp_path)
    with pytest.raises(ConfigError):
        load_config(tmp_path / ("字" * 200 + ".yaml"))


def test_a_byte_order_mark_and_an_empty_file_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbfseed: 3\n")
    assert load_config(path).seed == 3
    path.write_bytes(b"")
    assert load_config(path) == RunConfig()


@pytest.mark.parametrize("path", sorted([*ROOT.glob("recipes/*.yaml"), *ROOT.glob("weitiao/builtin/*.yaml")]), ids=lambda p: p.name)
def test_every_recipe_loads_and_is_saved_the_same(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    saved = tmp_path / "config.yaml"
    saved.write_text(config.as_yaml(), encoding="utf-8")
    assert load_config(saved) == config


LABELS = [
    "yes",
    "010",
    "1e5",
    "1e-4",
    "0x1F",
    "null",
    "~",
    "true",
    "=",
    "a: b",
    "# c",
    "- d",
    "2020-01-01",
    "1_0",
    "[x]",
    "'",
    '"',
    "é",
    "标签",
    "\u2028x",
]


def test_labels_that_look_like_something_else_are_saved_as_text() -> None:
    config = RunConfig(task=ClassificationTask(labels=tuple(LABELS)))
    assert build_config(parse_yaml(config.as_yaml(), "saved"), "saved") == config


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12))
def test_any_text_is_saved_as_it_is(text: str) -> None:
    assert parse_yaml(dump_yaml({"a": text, "b": [text]}), "saved") == {"a": text, "b": [text]}


def test_labels_and_names_stay_what_the_user_wrote(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    text = "name: 010\ntask: {labels: [yes, no, 010, 1e-4, 1, true, 0.50]}\ndata: {train: 1e4, columns: {text: 1, label: 2}}\n"
    path.write_text(text, encoding="utf-8")
    config = load_config(path)
    assert isinstance(config.task, ClassificationTask)
    assert config.task.labels == ("yes", "no", "010", "1e-4", "1", "true", "0.50")
    assert (config.name, config.data.train, config.data.columns.text, config.data.columns.label) == ("010", "1e4", "1", "2")
    overridden = load_config(path, ["task.labels=[1, no, 1e-4]", "data.test=007.csv", "data.columns.label=3", "name=1"])
    assert isinstance(overridden.task, ClassificationTask)
    assert overridden.task.labels == ("1", "no", "1e-4")
    assert (overridden.data.test, overridden.data.columns.label, overridden.name) == ("007.csv", "3", "1")
    assert load_config(path, ["data.validation=null"]).data.validation is None  # nothing stays nothing
    assert parse_yaml(overridden.as_yaml(), "saved")["task"]["labels"] == ["1", "no", "1e-4"]
