"""A short form of the fuzz programme: some files of every format and shape, the same at every run."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weitiao.language import use

from formats import Fuzz  # isort: skip


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Fuzz:
    return Fuzz(tmp_path_factory.mktemp("fuzz"))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**64))
def test_no_traceback_and_every_row_booked(fuzz: Fuzz, seed: int) -> None:
    use("en")
    try:
        fuzz.one(seed)
    finally:
        use(None)


def test_a_file_that_can_be_read_is_read(fuzz: Fuzz) -> None:
    """The programme is no use if it is refused everything."""
    for seed in range(40):
        fuzz.one(seed)
    assert fuzz.outcomes["read"] >= 8
    assert fuzz.rows["rows_in"] == fuzz.rows["used"] + fuzz.rows["rejected"]
