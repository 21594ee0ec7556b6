"""Which texts are names of repositories, and which are paths."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weitiao.errors import ConfigError
from weitiao.hub.names import HubName, checked_revision, data_name, is_safe_path, model_name

QWEN = "Qwen/Qwen2-1.5B-Instruct"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (QWEN, HubName(QWEN)),
        (f"{QWEN}@v1.0", HubName(QWEN, None, "v1.0")),
        (f"ms://{QWEN}", HubName(QWEN, "modelscope")),
        (f"hf://{QWEN}@main", HubName(QWEN, "huggingface", "main")),
    ],
)
def test_a_model_by_name(text: str, meant: HubName) -> None:
    assert model_name(text) == meant
    assert str(meant) == text


@pytest.mark.parametrize("path", ["builtin", "./a/b", "../a/b", "/a/b", "~/a/b", "a", "a/b/c", "a/b/", "a/.b", "-a/b", "a/b c", "", "a//b"])
def test_a_path_is_no_name(path: str) -> None:
    assert model_name(path) is None


def test_a_path_that_exists_is_that_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Qwen").mkdir()
    assert model_name(QWEN) == HubName(QWEN)
    (tmp_path / QWEN).mkdir()
    assert model_name(QWEN) is None
    assert model_name(f"ms://{QWEN}") == HubName(QWEN, "modelscope")


@pytest.mark.parametrize(
    "text", ["ms://x", "hf://", "ms://../x", "hf://a/b/../c", "ms://a/b@/x", "ms://a--b/c", "hf://a/b@v/../..", "ms://a/b/x\0"]
)
def test_a_prefix_before_what_is_no_name_is_refused(text: str) -> None:
    for read in (model_name, lambda text: data_name(text, "data.train")):
        with pytest.raises(ConfigError):
            read(text)


def test_a_model_is_no_file() -> None:
    with pytest.raises(ConfigError):
        model_name("ms://a/b/model.safetensors")


def test_revisions_must_agree() -> None:
    assert model_name(QWEN, "v2") == HubName(QWEN, None, "v2")
    assert model_name(f"{QWEN}@v2", "v2") == HubName(QWEN, None, "v2")
    with pytest.raises(ConfigError):
        model_name(f"{QWEN}@v1", "v2")


@pytest.mark.parametrize("revision", ["..", "a/../b", "/a", "a/", "", "a b", "-a", "a" * 201, "a\\b"])
def test_a_revision_cannot_lead_out_of_a_cache(revision: str) -> None:
    with pytest.raises(ConfigError):
        checked_revision(revision)


def test_data_only_by_prefix() -> None:
    assert data_name("news/train.jsonl", "data.train") is None
    name = data_name("ms://swift/zh_cls_fudan-news@master/data/train.jsonl", "data.train")
    assert name == HubName("swift/zh_cls_fudan-news", "modelscope", "master", "data/train.jsonl")
    assert str(name) == "ms://swift/zh_cls_fudan-news@master/data/train.jsonl"


@given(st.text(st.sampled_from("a./\\:~ \0\n*é中-"), max_size=12))
def test_a_safe_path_stays_within_its_folder(path: str) -> None:
    if is_safe_path(path):
        assert os.path.realpath(os.path.join("/root/folder", path)).startswith("/root/folder/")
    for bad in (f"../{path}", f"/{path}", f"{path}/..", f"C:{path}", f"{path}\\x"):
        assert not is_safe_path(bad)
