"""When to look again: deadlines of groups, timeouts of attempts."""

from __future__ import annotations

import heapq
from collections.abc import Callable

_SLACK = 64


class Timers:
    """A heap of (at, seq, id, is it a group's). Entries are never taken out when they lose their
    meaning: `valid` tells which still count, and stale ones are passed over."""

    def __init__(
        self, valid: Callable[[float, int, bool], bool], living: Callable[[], int]
    ) -> None:
        self._valid = valid
        self._living = living  # how many can have one that counts
        self._heap: list[tuple[float, int, int, bool]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def arm(self, at: float, ident: int, is_group: bool) -> None:
        """Look at this attempt, or group, at that time."""
        if len(self._heap) > _SLACK + 4 * self._living():
            # Short tasks with long timeouts leave stale timers behind; they must not pile up.
            self._heap = [t for t in self._heap if self._valid(t[0], t[2], t[3])]
            heapq.heapify(self._heap)
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, ident, is_group))

    def next_at(self) -> float | None:
        """When the first one is due; None: never."""
        heap = self._heap
        while heap and not self._valid(heap[0][0], heap[0][2], heap[0][3]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop(self) -> tuple[int, bool]:
        """The first one: whose it is, and whether that is a group."""
        _, _, ident, is_group = heapq.heappop(self._heap)
        return ident, is_group
