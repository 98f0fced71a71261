"""How many deaths are too many (S42), and how long to wait before the next try; pure.

What counts: a worker that dies with no task in its hands, or while it boots or initialises, and
one that cannot be started at all. A death under a task is that task's outcome (S25) and has a
bound of its own: the number of tasks.
"""

from __future__ import annotations

from collections import deque

PER_SLOT = 5
WINDOW = 60.0
FIRST_WAIT = 0.05
LONGEST_WAIT = 1.0


class Budget:
    """One slot's deaths of late."""

    __slots__ = ("_deaths", "_limit", "_starts_failed", "_window")

    def __init__(self, limit: int = PER_SLOT, window: float = WINDOW) -> None:
        self._limit = limit
        self._window = window
        self._deaths: deque[float] = deque()
        self._starts_failed = 0

    def note(self, now: float) -> bool:
        """One more; True where that is one too many."""
        deaths = self._deaths
        deaths.append(now)
        while deaths and deaths[0] <= now - self._window:
            deaths.popleft()
        return self.is_spent

    @property
    def is_spent(self) -> bool:
        """Were there too many of late?"""
        return len(self._deaths) > self._limit

    @property
    def tries(self) -> int:
        """How many there were of late."""
        return len(self._deaths)

    def wait(self) -> float:
        """Seconds until the next try after one that could not start: it doubles, to a bound."""
        self._starts_failed += 1
        return float(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (self._starts_failed - 1)))

    def started(self) -> None:
        """A start has worked."""
        self._starts_failed = 0
