"""In which order a name is looked for, what is pinned, and what is said when it is nowhere."""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import command, refused
from hub_servers import Hubs, Repository
from huggingface_hub import constants
from openpyxl import Workbook

from weitiao import language
from weitiao.config import RunConfig, build_config, load_config
from weitiao.config_data import ModelConfig
from weitiao.data.examples import load_dataset, load_split
from weitiao.data.folder import one_name, shards_of
from weitiao.errors import ConfigError, DataError, HubError, NetworkError
from weitiao.hub.fetch import fetch_model
from weitiao.hub.names import HubName
from weitiao.hub.resolve import localise, localise_file, localise_model
from weitiao.progress import Reporter

NAME, COMMIT = "Qwen/Tiny", "c" * 40
ROWS = b'{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'


def model(**settings: object) -> ModelConfig:
    return ModelConfig.model_validate({"path": NAME} | settings)


def data(**settings: object) -> RunConfig:
    return build_config({"data": settings}, "test")


def test_the_preferred_hub_then_the_other_with_a_message(
    hubs: Hubs, model_files: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    hubs.serve("huggingface", "model", NAME, model_files)
    language.use("en")
    found = localise_model(model(), Reporter())
    assert found.path == str(hubs.snapshot("huggingface", "model", NAME))
    said = capsys.readouterr().err
    assert "ModelScope Qwen/Tiny: no such model" in said
    assert "asking Hugging Face instead" in said
    language.use(None)


@pytest.mark.parametrize("hub", ["modelscope", "huggingface"])
def test_the_preferred_hub_is_asked_first(hubs: Hubs, model_files: dict[str, bytes], hub: str) -> None:
    for other in hubs.servers:
        hubs.serve(other, "model", NAME, model_files)
    found = localise_model(model(hub=hub))
    assert found.path == str(hubs.snapshot(hub, "model", NAME))  # type: ignore[arg-type]
    (silent,) = (server for other, server in hubs.servers.items() if other != hub)
    assert silent.requests == []


def test_a_prefix_never_leads_to_the_other_hub(hubs: Hubs, model_files: dict[str, bytes]) -> None:
    hubs.serve("huggingface", "model", NAME, model_files)
    with pytest.raises(HubError):
        localise_model(model(path=f"ms://{NAME}"))
    assert hubs.servers["huggingface"].requests == []


@pytest.mark.parametrize("hub", ["modelscope", "huggingface"])
def test_the_caches_are_looked_in_without_a_request(hubs: Hubs, model_files: dict[str, bytes], hub: str) -> None:
    hubs.serve(hub, "model", NAME, model_files)  # type: ignore[arg-type]
    snapshot = fetch_model(hub, HubName(NAME), Reporter(quiet=True))  # type: ignore[arg-type]
    for server in hubs.servers.values():
        server.requests.clear()
    for settings in ({}, {"revision": COMMIT}, {"offline": True}, {"offline": True, "revision": COMMIT}):
        assert localise_model(model(**settings)).path == str(snapshot.folder)
    assert hubs.requests() == []


def test_what_another_program_left_in_a_cache_is_used_if_it_is_whole(hubs: Hubs, model_files: dict[str, bytes]) -> None:
    older = hubs.caches["modelscope"] / "hub" / "models" / "Qwen" / "Qwen2-0___5B"
    older.mkdir(parents=True)
    for name, content in model_files.items():
        (older / name).write_bytes(content)
    settings = model(path="Qwen/Qwen2-0.5B", offline=True)
    assert localise_model(settings).path == str(older)
    (older / "tokenizer.json").unlink()
    with pytest.raises(Exception, match=r"tokenizer\.json"):
        localise_model(settings)


def test_offline_the_answer_comes_at_once(hubs: Hubs, monkeypatch: pytest.MonkeyPatch) -> None:
    for settings, variable in (({"offline": True}, False), ({}, True)):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", variable)
        begun = time.perf_counter()
        with pytest.raises(HubError) as caught:
            localise_model(model(**settings))
        assert time.perf_counter() - begun < 1
        assert "weitiao download" in caught.value.remedy
        assert str(hubs.caches["modelscope"]) in caught.value.cause
    assert hubs.requests() == []


def test_a_dead_network_is_noticed_without_the_clients_retries(hubs: Hubs) -> None:
    for server in hubs.servers.values():
        server.close()
    begun = time.perf_counter()
    with pytest.raises(NetworkError) as caught:
        localise_model(model())
    assert time.perf_counter() - begun < 1
    assert caught.value.exit_code == 1
    assert all(title in str(caught.value) for title in ("ModelScope", "Hugging Face"))


def test_what_is_run_is_local_and_what_is_kept_is_pinned(hubs: Hubs, model_files: dict[str, bytes]) -> None:
    hubs.serve("modelscope", "model", NAME, model_files)
    hubs.serve("modelscope", "dataset", "a/news", {"train.jsonl": ROWS, "dev.jsonl": ROWS, "test.jsonl": ROWS, "notes.csv": b"a,b"})
    inputs = localise(build_config({"model": NAME, "data": {"train": "ms://a/news"}}, "test"))
    folder = hubs.snapshot("modelscope", "dataset", "a/news")
    assert inputs.config.model.path == str(hubs.snapshot("modelscope", "model", NAME))
    assert inputs.config.data.model_dump() | {
        "train": str(folder / "train.jsonl"), "validation": str(folder / "dev.jsonl"), "test": str(folder / "test.jsonl"),
    } == inputs.config.data.model_dump()  # fmt: skip
    assert (inputs.pinned.model.path, inputs.pinned.model.revision) == (f"ms://{NAME}", COMMIT)
    assert inputs.pinned.data.validation == f"ms://a/news@{COMMIT}/dev.jsonl"
    assert inputs.sources["test"] == {"source": "modelscope", "id": "a/news", "revision": COMMIT, "file": "test.jsonl"}
    for server in hubs.servers.values():
        server.close()
    again = localise(build_config({"model": {"offline": True}} | {}, "test").model_copy(update={"data": inputs.pinned.data}))
    assert again.config.data == inputs.config.data
    assert inputs.pinned.with_absolute_paths().model.path == f"ms://{NAME}"
    assert inputs.pinned.with_absolute_paths().data == inputs.pinned.data


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        (["data.jsonl"], "data.jsonl", None),
        (["data.jsonl", "test.jsonl"], "data.jsonl", "test.jsonl"),
        (["x/train.jsonl"], "x/train.jsonl", None),
    ],
)
def test_the_only_file_without_a_split_s_name_is_for_training(hubs: Hubs, names: list[str], train: str, test: str | None) -> None:
    hubs.serve("modelscope", "dataset", "a/news", dict.fromkeys(names, ROWS))
    inputs = localise(data(train="ms://a/news"))
    assert inputs.sources["train"]["file"] == train
    assert inputs.sources.get("test", {}).get("file") == test


def test_splits_that_are_given_are_kept(hubs: Hubs, small_csv: Path) -> None:
    hubs.serve("huggingface", "dataset", "a/news", {"train.jsonl": ROWS, "test.jsonl": ROWS})
    inputs = localise(data(train="hf://a/news", test=str(small_csv)))
    assert inputs.config.data.test == str(small_csv)
    assert inputs.pinned.data.train == f"hf://a/news@{COMMIT}/train.jsonl"
    alone = localise(data(train=str(small_csv), test="hf://a/news"))
    assert alone.config.data.test == str(hubs.snapshot("huggingface", "dataset", "a/news") / "test.jsonl")
    assert alone.config.data.validation is None


def test_one_file_does_not_pass_for_the_data_set(hubs: Hubs) -> None:
    """A cache that holds one file of several must not settle which file is meant."""
    hubs.serve("modelscope", "dataset", "a/news", {"a.jsonl": ROWS, "b.jsonl": ROWS})
    assert localise(data(train="ms://a/news/b.jsonl")).config.data.train.endswith("b.jsonl")
    with pytest.raises(DataError, match=r"a\.jsonl"):
        localise(data(train="ms://a/news"))


def test_a_sheet_of_a_workbook_on_a_hub(hubs: Hubs) -> None:
    """A hub knows the file; which sheet of it is read stays in the configuration that runs and in the one that is kept."""
    content = io.BytesIO()
    book = Workbook()
    book.active.append(["text", "label"])
    sheet = book.create_sheet("二")
    for row in (["text", "label"], ["好", "x"], ["坏", "y"], ["好吗", "x"], ["坏吗", "y"]):
        sheet.append(row)
    book.save(content)
    hubs.serve("modelscope", "dataset", "a/news", {"news.xlsx": content.getvalue()})
    inputs = localise(data(train="ms://a/news/news.xlsx#二", validation_share=0.0, test_share=0.0))
    assert inputs.config.data.train == str(hubs.snapshot("modelscope", "dataset", "a/news") / "news.xlsx") + "#二"
    assert inputs.pinned.data.train == f"ms://a/news@{COMMIT}/news.xlsx#二"
    dataset = load_dataset(inputs.config)
    assert [example.document for example in dataset.splits["train"]] == ["好", "坏", "好吗", "坏吗"]
    assert inputs.data_source(dataset.splits["train"][0].file)["file"] == "news.xlsx"


def test_local_folders_and_entries_are_left_alone(hubs: Hubs, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(ROWS)
    (tmp_path / "dataset_info.json").write_text('{"news": {"file_name": "train.jsonl"}}')
    for train in (str(tmp_path), f"{tmp_path}/dataset_info.json#news"):
        inputs = localise(data(train=train))
        assert (inputs.config.data.train, inputs.pinned.with_absolute_paths().data.train, inputs.sources) == (train, train, {})
    assert hubs.requests() == []


def shards(count: int, split: str = "train") -> dict[str, bytes]:
    """Files of two rows each, none like another."""
    rows = [[{"text": f"第{i}个文件第{j}行{'甲乙丙丁'[i]}{split}", "label": "xy"[j]} for j in range(2)] for i in range(count)]
    written = ["".join(json.dumps(row) + "\n" for row in part).encode() for part in rows]
    return {f"data/{split}-{i:05}-of-{count:05}.jsonl": part for i, part in enumerate(written)}


@pytest.mark.parametrize("hub", ["modelscope", "huggingface"])
def test_shards_are_read_as_the_one_file_that_they_are(hubs: Hubs, hub: str) -> None:
    prefix = {"modelscope": "ms://", "huggingface": "hf://"}[hub]
    hubs.serve(hub, "dataset", "a/news", {**shards(3), **shards(2, "test"), "data/validation-00000-of-00001.jsonl": ROWS})
    inputs = localise(data(train=f"{prefix}a/news"))
    folder = hubs.snapshot(hub, "dataset", "a/news") / "data"
    assert inputs.config.data.train == str(folder / "train-all-of-00003.jsonl")
    assert inputs.pinned.data.test == f"{prefix}a/news@{COMMIT}/data/test-all-of-00002.jsonl"
    assert inputs.config.data.validation == str(folder / "validation-00000-of-00001.jsonl")
    dataset = load_dataset(inputs.config)
    assert {split: len(examples) for split, examples in dataset.splits.items()} == {"train": 6, "validation": 2, "test": 4}
    files = [example.file for example in dataset.splits["train"]]
    assert sorted(set(files)) == [str(folder / f"train-{i:05}-of-00003.jsonl") for i in range(3)]
    assert inputs.data_source(files[-1])["file"] == "data/train-all-of-00003.jsonl"
    for server in hubs.servers.values():
        server.close()
    again = localise(inputs.pinned.model_copy(update={"model": ModelConfig(offline=True)}))
    assert again.config.data == inputs.config.data


def test_shards_of_which_one_is_missing_are_refused(hubs: Hubs) -> None:
    files = shards(3)
    del files["data/train-00001-of-00003.jsonl"]
    hubs.serve("huggingface", "dataset", "a/news", files)
    for name in ("hf://a/news", "hf://a/news/data/train-all-of-00003.jsonl"):
        with pytest.raises(DataError, match="train-00002-of-00003"):
            localise(data(train=name))


def test_shards_in_a_folder_by_their_one_name(tmp_path: Path) -> None:
    for name, content in shards(2).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    config = data(train=str(tmp_path / "data" / "train-all-of-00002.jsonl"), validation_share=0.0, test_share=0.0)
    assert len(load_dataset(config).splits["train"]) == 4
    (tmp_path / "data" / "train-00001-of-00002.jsonl").unlink()
    with pytest.raises(DataError, match="train-00001-of-00002"):
        load_dataset(config)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("a/train-all-of-00002.jsonl.gz", ["a/train-00000-of-00002.jsonl.gz", "a/train-00001-of-00002.jsonl.gz"]),
        ("train.jsonl", ["train.jsonl"]),
        ("train-all-of-00002/x.jsonl", ["train-all-of-00002/x.jsonl"]),
    ],
)
def test_one_name_for_all_shards(name: str, files: list[str]) -> None:
    assert shards_of(name) == files
    assert one_name(files) == (name if len(files) > 1 else None)
    assert one_name(["train-00000-of-00002.csv", "train-00000-of-00002.json"]) is None


def test_init_looks_at_a_data_set_on_a_hub(hubs: Hubs, tmp_path: Path) -> None:
    hubs.serve("modelscope", "dataset", "a/news", {**shards(2), **shards(1, "test")})
    result = command("init", "ms://a/news", "--out", tmp_path / "news.yaml", "--json")
    assert result.code == 0, result.err
    written = (tmp_path / "news.yaml").read_text(encoding="utf-8")
    assert "  train: 'ms://a/news'\n" in written
    assert "# written by weitiao init from 'ms://a/news'\n" in written
    assert "validation_share: 0.1" in written
    assert "test_share" not in written
    dataset = load_dataset(localise(load_config(tmp_path / "news.yaml", ())).config)
    assert len(dataset.splits["test"]) == 2
    assert len(dataset.splits["train"]) + len(dataset.splits["validation"]) == 4
    assert "no such data set" in refused("init", "ms://a/other")


def test_one_more_file_of_a_hub_for_evaluate(hubs: Hubs) -> None:
    hubs.serve("modelscope", "dataset", "a/news", {**shards(2), **shards(2, "test"), "more.jsonl": ROWS})
    folder = hubs.snapshot("modelscope", "dataset", "a/news")
    config, quiet = data(), Reporter(quiet=True)
    assert localise_file(config, "ms://a/news", quiet) == str(folder / "data" / "test-all-of-00002.jsonl")
    assert len(load_split(config, localise_file(config, "ms://a/news", quiet), None).splits["test"]) == 4
    assert localise_file(config, "ms://a/news/more.jsonl", quiet) == str(folder / "more.jsonl")
    assert localise_file(config, "local.jsonl", quiet) == "local.jsonl"


def test_a_link_out_of_a_cache_is_not_followed(hubs: Hubs, tmp_path: Path) -> None:
    folder = hubs.snapshot("huggingface", "dataset", "a/news")
    folder.mkdir(parents=True)
    (folder.parent.parent / "refs").mkdir()
    (folder.parent.parent / "refs" / "main").write_text(COMMIT)
    (folder / "train.jsonl").write_bytes(ROWS)
    settings = data(train="hf://a/news").model_copy(update={"model": ModelConfig(offline=True)})
    assert localise(settings).config.data.train == str(folder / "train.jsonl")
    (folder / "train.jsonl").unlink()
    (tmp_path / "secret.jsonl").write_bytes(ROWS)
    (folder / "train.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(HubError):
        localise(settings)


def test_a_revision_needs_a_hub() -> None:
    with pytest.raises(ConfigError, match=r"model\.revision"):
        localise_model(ModelConfig(path="builtin", revision="main"))


def test_the_command_fetches_and_copies(hubs: Hubs, model_files: dict[str, bytes], tmp_path: Path) -> None:
    hubs.serve("modelscope", "model", NAME, model_files)
    result = command("download", NAME, "--to", tmp_path / "copy", "--json")
    assert result.code == 0, result.err
    assert result.json | {"source": "modelscope", "id": NAME, "revision": COMMIT, "folder": str(tmp_path / "copy")} == result.json
    assert result.json["bytes"] == sum(file["bytes"] for file in result.json["files"])
    weights = tmp_path / "copy" / "model.safetensors"
    assert weights.read_bytes() == model_files["model.safetensors"]
    assert not weights.is_symlink()
    assert localise_model(ModelConfig(path=str(tmp_path / "copy"))).path == str(tmp_path / "copy")
    assert "--to" in refused("download", NAME, "--to", tmp_path / "copy")


def test_the_command_asks_the_hub_for_what_is_new(hubs: Hubs, model_files: dict[str, bytes]) -> None:
    repository = hubs.serve("modelscope", "model", NAME, dict(model_files))
    assert command("download", NAME, "--json").json["revision"] == COMMIT
    repository.commit = "d" * 40
    assert command("download", NAME, "--json").json["revision"] == "d" * 40
    assert localise_model(model()).path == str(hubs.snapshot("modelscope", "model", NAME, "d" * 40))
    assert command("download", NAME, "--revision", COMMIT, "--json").code == 2  # the server has it no more


def test_the_command_fetches_data(hubs: Hubs) -> None:
    hubs.serve("huggingface", "dataset", "a/news", {"a.jsonl": ROWS, "b.csv": b"text,label\na,x\n", "x.py": b"raise", "README.md": b""})
    result = command("download", "a/news", "--data", "--hub", "huggingface", "--json")
    assert [file["path"] for file in result.json["files"]] == ["a.jsonl", "b.csv"]
    assert "x.py" in result.err


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("download", "builtin"), ("download", "./x"), ("download", "ms://x"), ("download", NAME, "--hub", "x"),
        ("download", NAME, "--revision", "../x"), ("download", f"ms://{NAME}"), ("download", "a/b", "--data"), ("download", "x", "--data"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("hubs")
def test_what_the_command_refuses(arguments: tuple[str, ...], lang: language.Language) -> None:
    refused(*arguments, "--quiet", lang=lang)


def change(repository: Repository, name: str, **settings: object) -> None:
    repository.files[name] = json.dumps(json.loads(repository.files[name]) | settings).encode()


BAD: dict[str, Callable[[Repository], object]] = {
    "hash": lambda r: r.listed.update({"tokenizer.json": {"Sha256": "0" * 64, "blobId": "0" * 40}}),
    "size": lambda r: r.listed.update({"model.safetensors": {"Size": 10**6, "size": 10**6}}),
    "path": lambda r: r.files.update({"../x": b""}),
    "pickle": lambda r: r.files.update({"pytorch_model.bin": r.files.pop("model.safetensors")}),
    "code": lambda r: change(r, "config.json", auto_map={"AutoModel": "x.Y"}),
    "no tokenizer": lambda r: r.files.pop("tokenizer.json"),
    "gone": lambda r: r.faults.update({"config.json": ["404…"]}),
    "login": lambda r: r.faults.update({"": ["401…"]}),
}


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_repository_is_one_clear_error_in_either_language(
    hubs: Hubs, model_files: dict[str, bytes], bad: str, lang: language.Language
) -> None:
    for hub in hubs.servers:
        BAD[bad](hubs.serve(hub, "model", NAME, dict(model_files)))
        refused("download", NAME, "--hub", hub, "--quiet", lang=lang)


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_a_broken_network_has_exit_code_1(hubs: Hubs, lang: language.Language) -> None:
    for server in hubs.servers.values():
        server.close()
    result = command("download", f"ms://{NAME}", "--json", lang=lang)
    assert result.code == 1
    assert result.json["error"]["type"] == "NetworkError"
    assert "Traceback" not in result.err
