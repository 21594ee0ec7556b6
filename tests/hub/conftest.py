"""Both hubs on loopback, their clients pointed there with empty caches."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_servers import Hubs


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hubs]:
    served = Hubs.start(tmp_path / "caches", monkeypatch)
    yield served
    for server in served.servers.values():
        server.close()


@pytest.fixture(scope="session")
def model_files(tiny_model: Path) -> dict[str, bytes]:
    """A small model as a repository, with what repositories have beside it."""
    files = {path.name: path.read_bytes() for path in sorted(tiny_model.iterdir())}
    return {"README.md": b"# tiny", "training_args.bin": b"\x80\x04pickle", "modeling_x.py": b"raise SystemExit", **files}
