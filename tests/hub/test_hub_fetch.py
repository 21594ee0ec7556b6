"""Fetching with the real clients from loopback servers: the right bytes, or one clear refusal and nothing that passes for whole."""

import json
from pathlib import Path

import pytest
from hub_servers import Hubs, Repository, sha256, wait_for_an_answer

from weitiao.errors import DataError, HubError, ModelError, NetworkError, WeitiaoError
from weitiao.hub import cache
from weitiao.hub.fetch import fetch_data, fetch_model
from weitiao.hub.names import Hub, HubName
from weitiao.progress import Reporter

QUIET = Reporter(quiet=True)
NAME = HubName("Qwen/Tiny")
BOTH: tuple[Hub, ...] = ("modelscope", "huggingface")
WEIGHTS = "model.safetensors"


@pytest.fixture(params=BOTH)
def hub(request: pytest.FixtureRequest) -> Hub:
    return request.param


@pytest.fixture
def repository(hubs: Hubs, hub: Hub, model_files: dict[str, bytes]) -> Repository:
    return hubs.serve(hub, "model", NAME.id, dict(model_files))


def refused(hub: Hub, kind: type[WeitiaoError], said: str) -> WeitiaoError:
    """Fetching fails so, no whole snapshot is found afterwards, and no file has another size than it should."""
    with pytest.raises(kind) as caught:
        fetch_model(hub, NAME, QUIET)
    assert said in str(caught.value)
    assert not any(snapshot.files for snapshot in cache.find(hub, "model", NAME))
    return caught.value


def test_a_model_arrives_whole_and_pinned(hubs: Hubs, hub: Hub, repository: Repository) -> None:
    snapshot = fetch_model(hub, NAME, QUIET)
    assert snapshot.revision == repository.commit
    assert snapshot.folder == hubs.snapshot(hub, "model", NAME.id)
    names = {path.name for path in snapshot.folder.iterdir() if not path.name.startswith(".")}
    assert names == set(repository.files) - {"README.md", "training_args.bin", "modeling_x.py"} == set(snapshot.files)
    assert all((snapshot.folder / name).read_bytes() == repository.files[name] for name in names)
    asked = " ".join(path for _, path, _ in hubs.servers[hub].requests)
    assert ".py" not in asked
    assert ".bin" not in asked
    found = cache.find(hub, "model", NAME)
    assert found[0] == snapshot
    assert cache.find(hub, "model", HubName(NAME.id, None, repository.commit))[0].folder == snapshot.folder
    assert not cache.find(hub, "model", HubName(NAME.id, None, "v9"))


@pytest.mark.parametrize(
    ("entries", "pinned"),
    [
        ([("a" * 40, 1), ("b" * 40, 3), ("a" * 40, 2)], "b" * 40),  # the commit of the file that changed last
        ([("a" * 40, 1), ("a" * 40, 1)], "a" * 40),
        ([("a" * 40, 1), ("b" * 40, 1)], "master"),  # in the same second: not settled
        ([("a" * 40, 1), ("", 0)], "master"),
        ([("", None)], "master"),
        ([("../x", 1)], "master"),
    ],
)
def test_what_a_branch_of_modelscope_is_pinned_to(entries: list[tuple[str, int | None]], pinned: str) -> None:
    from weitiao.hub.modelscope import _commit

    blobs = [{"Revision": revision, "CommittedDate": date} for revision, date in entries]
    assert _commit("master", blobs) == pinned
    assert _commit("c" * 40, blobs) == "c" * 40


@pytest.mark.usefixtures("repository")
def test_what_is_here_is_not_fetched_again(hubs: Hubs, hub: Hub) -> None:
    fetch_model(hub, NAME, QUIET)
    before = len(hubs.requests())
    fetch_model(hub, NAME, QUIET)
    assert not any("/cdn/" in path for path in hubs.requests()[before:])


def assert_resumed(asked: list[str | None], repository: Repository) -> None:
    """One request, from within the last chunk before the half of the file that had come."""
    (span,) = asked
    assert span is not None
    half, start = len(repository.files[WEIGHTS]) // 2, int(span.removeprefix("bytes=").removesuffix("-"))
    assert half - 4096 < start <= half


@pytest.mark.parametrize("fault", ["truncate", "stall", "500"])
def test_what_breaks_off_is_resumed_within_one_download(
    hubs: Hubs, hub: Hub, repository: Repository, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "stall":
        wait_for_an_answer(1.0, monkeypatch)
    repository.faults[WEIGHTS] = [fault]
    snapshot = fetch_model(hub, NAME, QUIET)
    assert (snapshot.folder / WEIGHTS).read_bytes() == repository.files[WEIGHTS]
    asked = [span for method, path, span in hubs.servers[hub].requests if method == "GET" and "/cdn/" in path]
    if fault == "500":
        assert asked == [None, None]
    else:
        assert_resumed(asked[1:], repository)
        assert asked[0] is None


def test_what_broke_off_is_resumed_by_the_next_run(hubs: Hubs, hub: Hub, repository: Repository) -> None:
    repository.faults[WEIGHTS] = ["truncate", "500…"]
    refused(hub, NetworkError, "broke off")
    repository.faults.clear()
    hubs.servers[hub].requests.clear()
    snapshot = fetch_model(hub, NAME, QUIET)
    assert (snapshot.folder / WEIGHTS).read_bytes() == repository.files[WEIGHTS]
    asked = [span for method, path, span in hubs.servers[hub].requests if method == "GET" and "/cdn/" in path]
    assert_resumed(asked, repository)


@pytest.mark.parametrize("fault", ["500…", "stall…"])
@pytest.mark.usefixtures("hubs")
def test_a_network_that_fails_is_no_fault_of_the_input(
    hub: Hub, repository: Repository, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weitiao.hub.huggingface.PAUSES_SECONDS", ())
    wait_for_an_answer(0.3, monkeypatch)
    repository.faults[WEIGHTS] = [fault]
    assert refused(hub, NetworkError, "broke off").exit_code == 1


def test_a_listing_that_fails_once_is_asked_for_again(hub: Hub, repository: Repository) -> None:
    repository.faults[""] = ["500"]
    assert fetch_model(hub, NAME, QUIET).revision == repository.commit


@pytest.mark.usefixtures("hubs")
def test_a_server_that_only_fails(hub: Hub, repository: Repository) -> None:
    repository.faults[""] = ["500…"]
    refused(hub, NetworkError, "broke off")


@pytest.mark.parametrize("answer", [b"<html>please log in</html>", b"[1, 2]", b'{"Data": {"Files": [7]}, "siblings": 7}'])
def test_an_answer_that_is_none_of_a_hub(hubs: Hubs, hub: Hub, answer: bytes) -> None:
    hubs.servers[hub].portal = answer
    assert refused(hub, NetworkError, "").exit_code == 1


def test_no_server(hubs: Hubs, hub: Hub) -> None:
    hubs.servers[hub].close()
    refused(hub, NetworkError, "cannot be reached")


@pytest.mark.usefixtures("hubs")
def test_no_such_model(hub: Hub) -> None:
    assert refused(hub, HubError, "no such model").exit_code == 2


@pytest.mark.usefixtures("repository")
def test_no_such_revision(hub: Hub) -> None:
    with pytest.raises(HubError, match="v9"):
        fetch_model(hub, HubName(NAME.id, None, "v9"), QUIET)


@pytest.mark.usefixtures("repository")
def test_a_model_behind_a_login(hubs: Hubs, hub: Hub) -> None:
    hubs.servers[hub].token = "secret"
    assert refused(hub, HubError, "login").exit_code == 2


@pytest.mark.usefixtures("hubs")
def test_a_file_that_is_listed_but_gone(hub: Hub, repository: Repository) -> None:
    repository.faults["config.json"] = ["404…"]
    refused(hub, HubError, "no such")


@pytest.mark.parametrize("name", ["tokenizer.json", WEIGHTS])
def test_another_content_than_listed(hubs: Hubs, hub: Hub, repository: Repository, name: str) -> None:
    changed = {"Sha256": "0" * 64, "sha256": "0" * 64, "blobId": "0" * 40}
    repository.listed[name] = changed
    refused(hub, HubError, "hash")
    assert not (hubs.snapshot(hub, "model", NAME.id) / name).exists()


@pytest.mark.parametrize("name", ["tokenizer.json", WEIGHTS])
@pytest.mark.parametrize("difference", [-7, 7])
def test_another_size_than_listed(hubs: Hubs, hub: Hub, repository: Repository, name: str, difference: int) -> None:
    size = len(repository.files[name]) + difference
    repository.listed[name] = {"Size": size, "size": size}
    refused(hub, HubError, "size")
    assert not (hubs.snapshot(hub, "model", NAME.id) / name).exists()


def test_a_path_that_leads_out(hubs: Hubs, hub: Hub, repository: Repository) -> None:
    repository.files["../../../x.json"] = b"{}"
    refused(hub, HubError, "../../../x.json")
    assert not any("FilePath" in path or "/resolve/" in path for path in hubs.requests())


def test_only_pickles(hubs: Hubs, hub: Hub, repository: Repository) -> None:
    repository.files["pytorch_model.bin"] = repository.files.pop(WEIGHTS)
    refused(hub, ModelError, "pickle")
    assert not any("FilePath" in path or "/resolve/" in path for path in hubs.requests())


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_that_wants_its_own_code_is_refused_before_its_weights(hubs: Hubs, hub: Hub, repository: Repository, name: str) -> None:
    settings = json.loads(repository.files[name]) | {"nested": {"auto_map": {"AutoModel": "modeling_x.Model"}}}
    repository.files[name] = json.dumps(settings).encode()
    refused(hub, ModelError, "auto_map")
    assert not any("/cdn/" in path for path in hubs.requests())


@pytest.mark.usefixtures("hubs")
def test_weights_that_are_no_safetensors(hub: Hub, repository: Repository) -> None:
    repository.files[WEIGHTS] = b"\x80\x04" + bytes(100)
    refused(hub, ModelError, "safetensors")


@pytest.mark.usefixtures("hubs")
def test_shards_by_their_index(hub: Hub, repository: Repository) -> None:
    data = repository.files.pop(WEIGHTS)
    repository.files["model-00001-of-00001.safetensors"] = data
    repository.files["other.safetensors"] = b"not named by the index"
    repository.files["model.safetensors.index.json"] = b'{"weight_map": {"a": "model-00001-of-00001.safetensors"}}'
    snapshot = fetch_model(hub, NAME, QUIET)
    assert "model-00001-of-00001.safetensors" in snapshot.files
    assert "other.safetensors" not in snapshot.files
    repository.files["model.safetensors.index.json"] = b'{"weight_map": {"a": "../x.safetensors"}}'
    repository.commit = "d" * 40
    refused_at_new = pytest.raises(ModelError, match=r"\.\./x\.safetensors")
    with refused_at_new:
        fetch_model(hub, NAME, QUIET)


@pytest.mark.usefixtures("hubs")
def test_a_new_commit_does_not_touch_the_old_snapshot(hub: Hub, repository: Repository, model_files: dict[str, bytes]) -> None:
    first = fetch_model(hub, NAME, QUIET)
    former = sha256((first.folder / "generation_config.json").read_bytes())
    repository.files = {**repository.files, "generation_config.json": b'{"new": 1}'}
    repository.commit = "d" * 40
    second = fetch_model(hub, NAME, QUIET)
    assert (second.revision, first.revision) == ("d" * 40, "c" * 40)
    assert sha256((first.folder / "generation_config.json").read_bytes()) == former
    assert cache.find(hub, "model", NAME)[0] == second
    repository.commit, repository.files = "c" * 40, dict(model_files)
    fetch_model(hub, HubName(NAME.id, None, "c" * 40), QUIET)
    assert cache.find(hub, "model", NAME)[0].revision == "d" * 40  # asking for an old commit does not make it the newest
    assert len([one for one in cache.find(hub, "model", NAME) if one.files]) == 1
    assert cache.find(hub, "model", HubName(NAME.id, None, "c" * 40))[0].folder == first.folder


@pytest.mark.usefixtures("repository")
def test_a_snapshot_that_lost_a_file_is_not_whole(hub: Hub) -> None:
    snapshot = fetch_model(hub, NAME, QUIET)
    (snapshot.folder / WEIGHTS).unlink()
    assert not any(found.files for found in cache.find(hub, "model", NAME))
    assert (fetch_model(hub, NAME, QUIET).folder / WEIGHTS).is_file()


def test_progress_adds_up(hub: Hub, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr("weitiao.progress.Bar.advance", lambda _, amount=1: told.append(amount))
    repository.faults[WEIGHTS] = ["truncate", "500"]
    fetch_model(hub, NAME, QUIET)
    assert sum(told) == len(repository.files[WEIGHTS])


DATA = {"train.jsonl": b'{"text": "a"}\n', "test.jsonl": b'{"text": "b"}\n', "README.md": b"#", "x.py": b"raise"}


def test_the_files_of_a_data_set(hubs: Hubs, hub: Hub) -> None:
    hubs.serve(hub, "dataset", "swift/news", dict(DATA))
    snapshot = fetch_data(hub, HubName("swift/news"), ["train"], QUIET)
    assert snapshot.files == ("train.jsonl",)
    assert (snapshot.folder / "train.jsonl").read_bytes() == DATA["train.jsonl"]
    assert cache.offered(snapshot) == ("train.jsonl", "test.jsonl")
    whole = fetch_data(hub, HubName("swift/news"), [], QUIET)
    assert whole.files == ("train.jsonl", "test.jsonl")
    one = fetch_data(hub, HubName("swift/news", None, None, "test.jsonl"), ["train"], QUIET)
    assert one.files == ("test.jsonl",)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.jsonl": b"{}", "b.jsonl": b"{}"}, "/a.jsonl"),
        ({"test.jsonl": b"{}"}, "/test.jsonl"),
        ({"train-1.csv": b"a", "train-2.csv": b"b"}, "/train-1.csv"),
        ({"loader.py": b"raise", "README.md": b"#"}, "no data file"),
    ],
)
def test_data_files_whose_names_do_not_tell(hubs: Hubs, hub: Hub, files: dict[str, bytes], said: str) -> None:
    hubs.serve(hub, "dataset", "swift/news", files)
    with pytest.raises(DataError) as caught:
        fetch_data(hub, HubName("swift/news", hub), ["train"], QUIET)
    assert said in str(caught.value)


@pytest.mark.usefixtures("hubs")
def test_the_files_can_be_used_by_the_hub_s_own_client(hub: Hub, repository: Repository) -> None:
    folder = fetch_model(hub, NAME, QUIET).folder
    assert own_client(hub, repository.commit) == folder


def own_client(hub: Hub, commit: str) -> Path:
    """Where the hub's own library finds the snapshot offline."""
    if hub == "huggingface":
        from huggingface_hub import constants, scan_cache_dir, snapshot_download

        assert not scan_cache_dir(constants.HF_HUB_CACHE).warnings
        return Path(snapshot_download(NAME.id, local_files_only=True))
    from modelscope_hub import HubApi

    return HubApi().download_repo(NAME.id, "model", revision=commit, local_files_only=True)
