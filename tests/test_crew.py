"""Work shared by several processes: the results in order, faults raised where they belong, nothing left running."""

import os
from collections.abc import Callable

import psutil
import pytest

from weitiao.crew import shared


def squares(job: int) -> Callable[[int], tuple[int, int]]:
    """Adds ``job`` to squares and says which process did it."""

    def portion(number: int) -> tuple[int, int]:
        print("a library that prints is no answer")
        return number * number + job, os.getpid()

    return portion


def fragile(owner: int) -> Callable[[int], int]:
    """Cannot do 3 at all; any other process than the owner dies of 5."""

    def portion(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        if number == 5 and os.getpid() != owner:
            os._exit(9)
        return number

    return portion


def unready(owner: int) -> Callable[[int], int]:
    """Begins only in the process that asks."""
    if os.getpid() != owner:
        raise RuntimeError("not here")
    return abs


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def test_results_come_in_order_from_several_processes() -> None:
    before = children()
    found = list(shared(squares, 1, range(40), 2))
    assert [value for value, _ in found] == [number * number + 1 for number in range(40)]
    assert 1 <= len({process for _, process in found} - {os.getpid()}) <= 2
    assert children() == before


def test_a_portion_that_fails_or_kills_its_process_is_done_here() -> None:
    assert list(shared(fragile, os.getpid(), [1, 2, 5, 4, 6, 7], 2)) == [1, 2, 5, 4, 6, 7]
    with pytest.raises(ValueError, match="three"):
        list(shared(fragile, os.getpid(), [1, 2, 3], 2))


def test_processes_that_cannot_begin_leave_the_work_here() -> None:
    assert list(shared(unready, os.getpid(), [-1, -2], 2)) == [1, 2]


def test_nothing_runs_on_when_the_results_are_no_longer_wanted() -> None:
    before = children()
    results = shared(squares, 0, range(200), 2)
    next(results)
    results.close()
    assert children() == before


def test_what_cannot_be_sent_is_an_error_at_once() -> None:
    before = children()
    with pytest.raises(Exception, match="pickle"):
        next(shared(lambda _: abs, 0, [1], 2))
    assert children() == before
