"""How many of a group's single calls are with workers at once: of the briefest, one.

    a call ──▶ is none under way, or are calls not brief? ── yes ──▶ machine ──▶ an idle worker
                  └── no ──▶ it waits until one is back, and travels with those behind it

To wake a worker for one brief call costs both sides far more than the call itself, and one worker
does the briefest faster than anybody submits them. So the others are left asleep while calls are
brief, and leave the submitter its core. That is so where workers are many; where they are few, a
long call among brief ones is never late. Nor is any that travels alone.

What is under way may take long after all: after `HELD` seconds we look, and what is at a long call
does not count any more; nor is any held, until some more have been brief: the more, the more often
that was so. A call may be brief, and its arguments or its result take long: the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container

HARDLY_ANY = 4  # workers: so few are never left asleep
HELD = 0.001  # seconds; then we look at what is under way
_PATIENCE = 0.01  # seconds; so long something may be on its way to a worker that gets no core
_BRIEF = 50e-6  # seconds of a call, on the average
_LATELY = 32  # calls, of which that is the average
_AGAIN, _LONGEST_AGAIN = 8, 128  # calls after a long one, before any is held; doubles each time
_CALM = 1000  # calls; then it is halved
_SUBMITTING = 10e-6  # seconds from one call to the next, as fast as they come: one worker more


class Flow:
    """One group's. `holds`: calls of it may travel together, and workers are many; else none is
    ever held."""

    __slots__ = (
        "_again", "_at_once", "_calm", "_free", "_holds", "_measured", "_seconds", "_under_way",
    )  # fmt: skip

    def __init__(self, holds: bool) -> None:
        self._holds = holds
        self._under_way: dict[int, float] = {}  # tasks, and since when: in this order
        self._at_once: float = math.inf
        self._measured = 0  # calls, up to `_LATELY`
        self._seconds = 0.0  # that they took, on the average
        self._free = 0  # calls to come, before any is held
        self._again = _AGAIN
        self._calm = 0  # calls, since that was halved

    def full(self) -> bool:
        """Is the next call to wait, although a worker may be idle?"""
        return len(self._under_way) >= self._at_once

    def sent(self, task: int, now: float) -> None:
        """A worker has it."""
        self._under_way[task] = now

    def back(self, task: int) -> bool:
        """It is over; False where it did not count."""
        return self._under_way.pop(task, None) is not None

    def measured(self, seconds: float, count: int) -> None:
        """So many calls have taken so long each."""
        if not self._holds:
            return
        self._measured = lately = min(self._measured + count, _LATELY)
        self._seconds += (seconds - self._seconds) * min(1.0, count / lately)
        self._free = max(0, self._free - count)
        self._calm += count
        if self._calm >= _CALM:
            self._calm, self._again = 0, max(_AGAIN, self._again // 2)
        if lately == _LATELY and self._seconds <= _BRIEF and not self._free:
            self._at_once = 1 + self._seconds // _SUBMITTING
        else:
            self._at_once = math.inf

    def look(self, now: float, busy: Callable[[float], Container[int]]) -> None:
        """What is at a long call counts no more. `busy` tells which tasks are at a call that began
        before that time, or at the arguments or the result of one."""
        at = now - HELD
        late = [task for task, since in self._under_way.items() if since <= at]
        if not late:
            return
        long = busy(at)
        if any(task in long for task in late):
            self._free, self._calm = self._again, 0
            self._again = min(2 * self._again, _LONGEST_AGAIN)
        for task in late:
            if task in long or self._under_way[task] <= now - _PATIENCE:
                del self._under_way[task]
                self._free = max(self._free, _AGAIN)
                self._at_once = math.inf
