"""How often open pages ask what is new: often while they are few, less often the more there are, so that a training loses little."""

import threading
import time

SHORTEST_SECONDS, MOST_A_SECOND = 3.0, 8.0
"""Between two questions of a page; and questions of all pages together."""


class Pace:
    """Knows which pages asked lately."""

    def __init__(self) -> None:
        self._lock, self._seen, self._told = threading.Lock(), dict[str, float](), SHORTEST_SECONDS

    def seconds(self, page: str, now: float | None = None) -> float:
        """After how many seconds a page that asks now should ask again. ``page``: a name of its own; ``now``: a clock's seconds
        (time.monotonic)."""
        now = time.monotonic() if now is None else now
        with self._lock:
            self._seen[page] = now
            since = now - 2 * self._told  # who missed a turn is gone
            self._seen = {name: moment for name, moment in self._seen.items() if moment >= since}
            self._told = max(SHORTEST_SECONDS, len(self._seen) / MOST_A_SECOND)
            return self._told
