"""Calls to come: what the engine does when nothing happens for a while."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any

Handler = Callable[[], None]


class Timer:
    """One call to come; `cancel` it, or ask for another."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Handler) -> None:
        self.at = at
        self.call: Handler | None = call

    def cancel(self) -> None:
        """Never call."""
        self.call = None


class Timers:
    """A heap of them."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0

    def at(self, at: float, call: Handler) -> Timer:
        """Call this at that time."""
        timer = Timer(at, call)
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, timer))
        return timer

    def next_at(self) -> float:
        """When the first is due; infinity: none."""
        heap = self._heap
        while heap and heap[0][2].call is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def run(self, now: float) -> None:
        """Call those that are due."""
        while self.next_at() <= now:
            timer: Any = heapq.heappop(self._heap)[2]
            call, timer.call = timer.call, None
            call()
