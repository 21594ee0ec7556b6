"""The fault programmes in short; `make faults` runs them in full."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import programmes
import pytest
from harness import Scene
from outside import HOW

MEMORY = Path("/dev/shm")
"""A file system in memory: the faults are made above it, and a thousand fsyncs of a real disk would only take time."""
ENOUGH_BYTES = 4_000_000_000
"""Containers often have 64 MB there."""


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    has_room = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES
    with tempfile.TemporaryDirectory(dir=MEMORY if has_room else None) as folder:
        yield Scene(Path(folder))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "faults"), [("kill", 20), ("damage", 100), ("power", 100), ("term", 5), ("nan", 20), ("hostile", 200)])
def test_programme(scene: Scene, name: str, faults: int) -> None:
    programme, _ = programmes.PROGRAMMES[name]
    tally = programme(scene, faults, seed=1)
    print(tally)
    assert tally.faults >= faults
    assert tally.failures == []


@pytest.mark.slow
def test_each_call_to_the_disk_fails_once(scene: Scene) -> None:
    tally = programmes.disk_errors(scene, 300, seed=1)
    print(tally)
    assert 200 < tally.faults < 300  # every call
    assert tally.notes["ended with 0"] > 30  # a save that fails does not end the run
    assert tally.notes["ended with 1"] > 10  # a record that cannot be written does
    assert tally.failures == []


@pytest.mark.slow
def test_faults_from_outside(scene: Scene) -> None:
    """One of each: too small, filled, read-only or emptied meanwhile, no room for the token cache, out of inodes, a limit on files."""
    tally = programmes.outside(scene, 7, seed=1)
    print(tally)
    if not tally.faults:
        pytest.skip("no file system can be mounted here")
    assert sum(tally.notes.values()) == 7
    assert {note.split(":")[0] for note in tally.notes} == set(HOW)
    assert tally.failures == []
