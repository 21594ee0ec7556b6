"""Pages that ask as they are told, in time that is only counted."""

import heapq

import pytest

from weitiao.watch.pace import MOST_A_SECOND, SHORTEST_SECONDS, Pace


def asked(pages: int, until: float, pace: Pace, since: float = 0.0) -> list[float]:
    """When so many pages ask, each again after what it was told."""
    waiting, times = [(since + i / pages, str(i)) for i in range(pages)], []
    heapq.heapify(waiting)
    while waiting[0][0] < until:
        now, page = heapq.heappop(waiting)
        times.append(now)
        heapq.heappush(waiting, (now + pace.seconds(page, now), page))
    return times


@pytest.mark.parametrize("pages", [1, 10, 24])
def test_few_pages_ask_every_three_seconds(pages: int) -> None:
    assert len(asked(pages, 60.0, Pace())) == pytest.approx(pages * 60 / SHORTEST_SECONDS, abs=pages)


@pytest.mark.parametrize("pages", [64, 300])
def test_many_pages_together_ask_no_more_than_a_server_answers_at_once(pages: int) -> None:
    late = [moment for moment in asked(pages, 600.0, Pace()) if moment > 300]
    assert len(late) / 300 == pytest.approx(MOST_A_SECOND, rel=0.15)


def test_when_pages_close_the_others_ask_often_again() -> None:
    pace = Pace()
    asked(64, 120.0, pace)
    asked(2, 180.0, pace, since=121.0)
    assert pace.seconds("0", 181.0) == SHORTEST_SECONDS
