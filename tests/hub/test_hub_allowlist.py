"""Which files of a repository are fetched, and what each must be."""

import os
from pathlib import Path

import pytest
from hub_servers import git_sha1, sha256

from weitiao.errors import HubError, ModelError
from weitiao.hub.allowlist import RepoFile, data_files, left_out, model_settings, refuse_links_out, refuse_unsafe_names, split_of, verify

MODEL = ["config.json", "tokenizer.json", "model.safetensors"]


def listed(*names: str) -> list[RepoFile]:
    return [RepoFile(name, 1) for name in names]


def test_of_a_model_only_what_is_read_is_fetched() -> None:
    extra = ["README.md", "modeling.py", "pytorch_model.bin", "sub/config.json", "tokenizer.model", "merges.txt", "LICENSE"]
    files = listed(*MODEL, *extra)
    chosen = model_settings(files, "x")
    assert [file.path for file in chosen] == ["config.json", "tokenizer.json", "merges.txt", "LICENSE"]
    assert left_out(files, chosen) == ["modeling.py", "pytorch_model.bin"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["config.json", "tokenizer.json", "pytorch_model.bin"], "pytorch_model.bin"),
        (["config.json", "tokenizer.json"], "safetensors"),
        (["config.json", "tokenizer.json", "sub/model.safetensors"], "safetensors"),
        (["config.json", "model.safetensors"], "tokenizer.json"),
        (["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"], "LoRA"),
    ],
)
def test_what_is_no_loadable_model_is_refused_with_the_reason(names: list[str], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        model_settings(listed(*names), "x")


def test_a_monstrous_tokenizer_is_refused() -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        model_settings([*listed("config.json", "model.safetensors"), RepoFile("tokenizer.json", 10**9)], "x")


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "a\\..\\x", "C:x", "a/\0", "", "a//b", "x."])
def test_a_listed_path_that_leads_out_is_refused(path: str) -> None:
    with pytest.raises(HubError):
        refuse_unsafe_names(listed("ok", path), "x")


def test_names_that_differ_only_in_case_are_refused() -> None:
    with pytest.raises(HubError):
        refuse_unsafe_names(listed("Config.json", "config.json"), "x")


def test_data_files() -> None:
    data = ["train.jsonl", "data/test.csv.gz", "dev.TSV"]
    other = ["dataset_infos.json", "README.md", "loader.py", ".hidden.json", ".git/x.json", "a.zip", "x.pkl", "requirements.txt"]
    assert [file.path for file in data_files(listed(*data, *other))] == data


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train.jsonl", "train"), ("data/train-00000-of-00001.jsonl", "train"), ("zh_test.csv", "test"), ("dev.json", "validation"),
        ("val.json", "validation"), ("test/part1.csv", "test"), ("training/dev.csv", "validation"), ("traintest.csv", None),
        ("train_test.csv", None), ("latest.csv", None), ("data.csv", None),
    ],
)  # fmt: skip
def test_splits_are_recognised_by_whole_words(path: str, split: str | None) -> None:
    assert split_of(path) == split


def test_size_and_hash_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    for file in (RepoFile("x", 3), RepoFile("x", 3, sha256(b"abc")), RepoFile("x", 3, None, git_sha1(b"abc"))):
        verify(path, file, "where")
    assert git_sha1(b"abc") == "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f"  # printf abc | git hash-object --stdin
    for file in (RepoFile("x", 4), RepoFile("x", 3, sha256(b"abd")), RepoFile("x", 3, None, git_sha1(b"abd"))):
        with pytest.raises(HubError):
            verify(path, file, "where")


def test_a_link_out_of_a_model_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "inside").write_text("x")
    os.symlink("inside", folder / "again")
    refuse_links_out(folder)
    (tmp_path / "secret").write_text("x")
    os.symlink("../secret", folder / "config.json")
    with pytest.raises(ModelError, match="secret"):
        refuse_links_out(folder)


def test_the_links_of_a_cache_are_its_own(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (tmp_path / "models--a--b" / "blobs").mkdir()
    (tmp_path / "models--a--b" / "blobs" / "e").write_text("x")
    os.symlink("../../blobs/e", snapshot / "config.json")
    refuse_links_out(snapshot)
    (tmp_path / "models--a--b" / "other").write_text("x")
    os.symlink("../../other", snapshot / "tokenizer.json")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        refuse_links_out(snapshot)
