"""Model folders: what is accepted, and that everything else is refused before it is run, with a reason."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import CHINESE, change_json, copied
from safetensors.torch import load_file, save_file

from weitiao import language
from weitiao.config_data import ModelConfig
from weitiao.data.render import ChatEncoder
from weitiao.errors import ModelError
from weitiao.model.load import (
    check_folder,
    choose_device,
    choose_precision,
    find_model,
    load_causal,
    load_tokenizer,
    load_with_score_head,
)

CPU, FP32 = torch.device("cpu"), torch.float32


@pytest.fixture(params=["zh", "en"])
def lang(request: pytest.FixtureRequest):
    language.use(request.param)
    yield request.param
    language.use(None)


def refusal(folder: Path, lang: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        find_model(ModelConfig(path=str(folder)))
    assert caught.value.where.startswith(str(folder))
    assert bool(CHINESE.search(caught.value.cause)) == (lang == "zh")
    assert caught.value.remedy
    return caught.value


def with_header(header: bytes, data: bytes = b"") -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)


def with_index(index: object) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return edit


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def hollow_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_bytes(b"")
    os.truncate(path, 40_000_000_000)


def entry(**changes: object) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes}).encode()


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "safetensors"),
    "only a pickle": (pickled, "pytorch_model.bin"),
    "truncated": (truncated, "model.safetensors"),
    "four bytes": (lambda f: (f / "model.safetensors").write_bytes(b"1234"), "model.safetensors"),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "model.safetensors"),
    "huge header": (lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}"), "model.safetensors"),
    "header is a list": (with_header(b"[]"), "model.safetensors"),
    "header is no JSON": (with_header(b"{"), "model.safetensors"),
    "header is deep": (with_header(b"[" * 100_000), "model.safetensors"),
    "a negative length": (with_header(entry(shape=[-1]), b"1234"), "model.safetensors"),
    "a length in words": (with_header(entry(shape=["1"]), b"1234"), "model.safetensors"),
    "no offsets": (with_header(b'{"a": {}}'), "model.safetensors"),
    "data missing": (with_header(entry()), "model.safetensors"),
    "an index pointing outside": (with_index({"weight_map": {"a": "../x.safetensors"}}), "../x.safetensors"),
    "an index pointing to a pickle": (with_index({"weight_map": {"a": "x.bin"}}), "x.bin"),
    "an index naming what is absent": (with_index({"weight_map": {"a": "x.safetensors"}}), "x.safetensors"),
    "an index without a map": (with_index({"weight_map": ["a"]}), "index.json"),
    "an index that is a list": (with_index([]), "index.json"),
    "an empty index": (with_index({"weight_map": {}}), "safetensors"),
    "code in the folder": (lambda f: change_json(f / "config.json", auto_map={"AutoModel": "x.Y"}), "auto_map"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "config.json"),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json"),
    "config is no text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json"),
    "config says nothing": (lambda f: (f / "config.json").write_text("{}"), "architectures"),
    "another kind of model": (lambda f: change_json(f / "config.json", architectures=["BertModel"]), "BertModel"),
    "a pipe for a config": (lambda f: [(f / "config.json").unlink(), os.mkfifo(f / "config.json")], "config.json"),
    "a pipe beside": (lambda f: os.mkfifo(f / "notes"), "notes"),
    "a config of 40 GB": (lambda f: os.truncate(f / "config.json", 40_000_000_000), "40,000,000,000"),
    "a template of 40 GB": (hollow_template, "chat_template.jinja"),
    "10⁹ layers": (lambda f: change_json(f / "config.json", num_hidden_layers=10**9), "num_hidden_layers"),
    "NaN layers": (lambda f: change_json(f / "config.json", num_hidden_layers=float("nan")), "num_hidden_layers"),
    "100,001 tensors": (
        with_header(json.dumps({f"{i}": {"shape": [0], "data_offsets": [0, 0]} for i in range(100_001)}).encode()),
        "model.safetensors",
    ),
    "a wrong type": (lambda f: change_json(f / "config.json", architectures={"a": 1}), "architectures"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_folder_is_refused_without_torch(tmp_path: Path, tiny_model: Path, lang: str, name: str) -> None:
    edit, shown = SPOILED[name]
    folder = copied(tiny_model, tmp_path / "model")
    edit(folder)
    assert shown in str(refusal(folder, lang))


def test_what_is_no_folder_is_refused(tmp_path: Path, lang: str) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "absent", tmp_path / "file", tmp_path / ("字" * 200)):
        refusal(path, lang)


def test_a_sound_folder_is_counted(tiny_model: Path) -> None:
    folder = check_folder(tiny_model, "local")
    weights = load_file(tiny_model / "model.safetensors")
    assert folder.parameters == sum(weight.numel() for weight in weights.values())
    assert folder.architecture == "Qwen2ForCausalLM"
    assert folder.weights == ("model.safetensors",)


def test_shards_are_read_like_one_file(tmp_path: Path, tiny_model: Path) -> None:
    folder = copied(tiny_model, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found = check_folder(folder, "local")
    assert found.weights == ("a.safetensors", "b.safetensors")
    assert found.parameters == check_folder(tiny_model, "local").parameters
    loaded, whole = load_causal(found, CPU, FP32), load_causal(check_folder(tiny_model, "local"), CPU, FP32)
    for name, weight in whole.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)


def test_the_hash_covers_weights_configuration_and_tokenizer(tmp_path: Path, tiny_model: Path) -> None:
    former = check_folder(tiny_model, "local").sha256()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        folder = copied(tiny_model, tmp_path / name)
        path = folder / name
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if name.endswith("safetensors") else data + b"\n")
        assert check_folder(folder, "local").sha256() != former


@pytest.mark.parametrize("gone", ["model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight", "model.norm.weight"])
def test_a_model_with_a_weight_missing_is_refused_and_never_made_up(tmp_path: Path, tiny_model: Path, lang: str, gone: str) -> None:
    folder = copied(tiny_model, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    save_file({name: weight for name, weight in weights.items() if name != gone}, folder / "model.safetensors", metadata={"format": "pt"})
    for load in (load_causal, lambda *rest: load_with_score_head(rest[0], ("a", "b"), *rest[1:])):
        with pytest.raises(ModelError) as caught:
            load(check_folder(folder, "local"), CPU, FP32)
        assert gone in caught.value.cause
        assert bool(CHINESE.search(caught.value.cause)) == (lang == "zh")


def test_a_config_that_does_not_fit_the_weights_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    folder = copied(tiny_model, tmp_path / "model")
    size = json.loads((folder / "config.json").read_text())["intermediate_size"]
    change_json(folder / "config.json", intermediate_size=size * 2)
    with pytest.raises(ModelError, match="mlp"):
        load_causal(check_folder(folder, "local"), CPU, FP32)


def test_a_score_head_is_fresh_only_where_that_is_meant(tiny_model: Path) -> None:
    folder = check_folder(tiny_model, "local")
    torch.manual_seed(0)
    one = load_with_score_head(folder, ("a", "b", "c"), CPU, FP32)
    torch.manual_seed(0)
    two = load_with_score_head(folder, ("a", "b", "c"), CPU, FP32)
    assert one.score.weight.shape[0] == 3
    assert torch.equal(one.score.weight, two.score.weight)
    with pytest.raises(ModelError, match=r"score\.weight"):
        load_with_score_head(folder, ("a", "b", "c"), CPU, FP32, fresh=False)


@pytest.mark.usefixtures("lang")
def test_an_unknown_type_of_model_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    folder = copied(tiny_model, tmp_path / "model")
    change_json(folder / "config.json", model_type="nosuch")
    with pytest.raises(ModelError) as caught:
        load_causal(check_folder(folder, "local"), CPU, FP32)
    assert "\n" not in caught.value.cause


@pytest.mark.usefixtures("lang")
def test_a_tokenizer_that_does_not_open_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    folder = copied(tiny_model, tmp_path / "model")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load_tokenizer(check_folder(folder, "local"))


@pytest.mark.usefixtures("lang")
def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    folder = copied(tiny_model, tmp_path / "model")
    change_json(folder / "config.json", vocab_size=100)
    with pytest.raises(ModelError, match="100"):
        load_tokenizer(check_folder(folder, "local"))


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('no') }}", "{% if %}", "{{ ''.__class__.__mro__ }}", "hello", "{{ messages[0].role }}"]
)
@pytest.mark.usefixtures("lang")
def test_a_chat_template_that_is_of_no_use_is_refused(tmp_path: Path, tiny_model: Path, template: str) -> None:
    folder = copied(tiny_model, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError) as caught:
        ChatEncoder(load_tokenizer(check_folder(folder, "local")), str(folder))
    assert caught.value.where == str(folder)


def test_device_and_precision() -> None:
    assert choose_device(ModelConfig(device="cpu")) == CPU
    assert choose_precision(ModelConfig(precision="bfloat16"), CPU) == torch.bfloat16
    assert choose_precision(ModelConfig(precision="float32"), CPU) == torch.float32
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match=r"model\.device=cpu"):
            choose_device(ModelConfig(device="cuda"))
        assert choose_device(ModelConfig()) == CPU
