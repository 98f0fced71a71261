"""One small file of shared memory, in which all processes of one measurement leave their times.

CLOCK_MONOTONIC is the same clock in every process, so a stamp is a 64-bit number of nanoseconds,
written by whoever it happened to; 0 means "not yet". A measurement has a file of its own: what a
process writes that was thought to be dead goes nowhere.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable

# Of the measurement.
WATCHING = 0  # 1 when the watcher has hold of every sibling
RAISED = 1  # by the failing task, right before it raises
EXCEPTION = 2  # by the caller, when the exception has left the recipe
FIRST = 3  # by the caller, when it has the first result of the next group
SET = 4  # by the bare byte's setter
# Of each sibling, from 1 up.
_SIBLINGS, _STRIDE = 16, 8
PID, CHILD, READY, END, DEATH, CHILD_DEATH = range(6)
# Of those that meet, in two rounds: before the failure, and after the next first result.
_MEETINGS, MOST = 512, 32
BEFORE, AFTER = 0, 1
SIZE = 8 * (_MEETINGS + 2 * MOST)

GIVE_UP = 60.0  # seconds that a task waits for the others before it fails itself


class Stamps:
    """The file, mapped."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR)
        try:
            self.cells = memoryview(mmap.mmap(fd, SIZE)).cast("q")
        finally:
            os.close(fd)

    @staticmethod
    def create(path: str) -> Stamps:
        with open(path, "xb") as f:
            f.write(bytes(SIZE))
        return Stamps(path)

    def of(self, sibling: int, what: int) -> int:
        return self.cells[cell(sibling, what)]

    def end_of(self, sibling: int) -> int:
        """Its own stamp or its death, what came first; 0: neither."""
        ends = [t for t in (self.of(sibling, END), self.of(sibling, DEATH)) if t]
        return min(ends, default=0)

    def meet(self, when: int, index: int, workers: int) -> None:
        """Come back when this many tasks are at it at once: so none can be in another's worker."""
        start = _MEETINGS + when * MOST
        self.cells[start + index] = time.monotonic_ns()
        wait(lambda: all(self.cells[start : start + workers]), 0.0002)

    def met(self, when: int, workers: int) -> int:
        """When the last one came."""
        start = _MEETINGS + when * MOST
        times = self.cells[start : start + workers].tolist()
        return max(times) if all(times) else 0


def cell(sibling: int, what: int) -> int:
    return _SIBLINGS + sibling * _STRIDE + what


def wait(true: Callable[[], object], every: float) -> None:
    deadline = time.monotonic() + GIVE_UP
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("the others did not come")
        time.sleep(every)
