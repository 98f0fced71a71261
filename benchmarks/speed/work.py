"""What runs in the workers. It imports little: every library's workers import it."""

from __future__ import annotations

from itertools import repeat
from typing import Any

from benchmarks.stamps import Stamps

PAGE = 4096


def noop(item: Any = None) -> Any:
    """It gives back what it was given, so that results are values and can be told apart."""
    return item


def string(number: int) -> str:
    """A short one."""
    return str(number)


def pair(number: int) -> tuple[int, str]:
    """A tuple."""
    return number, "short"


def spin(count: int) -> None:
    """Work: a fixed amount of it, whoever else wants the core. It makes no objects: how fast those
    are made hangs on where in memory they lie, by up to a tenth, for as long as a process lives."""
    for _ in repeat(None, count):
        pass


def meet(path: str, index: int, workers: int) -> None:
    """Come back when so many tasks are at it at once: all workers are at work."""
    Stamps(path).meet(0, index, workers)


def touch(block: Any) -> int:
    """Read a byte of every page of it; how long it is."""
    view = memoryview(block).cast("B")
    return len(view) if sum(view[::PAGE]) >= 0 else 0


_KINDS = 64  # of blocks, of one process
_base: Any = None  # what the arrays of this process are parts of
_made = 0


def make_array(size: int) -> Any:
    """That many bytes, as an array: a new one each time, and other numbers than in the one before;
    but over little more memory than one, so that making it costs next to nothing."""
    import numpy as np

    global _base, _made
    words = size // 8
    if _base is None or len(_base) != words + _KINDS:
        _base = np.arange(float(words + _KINDS))
    _made += 1
    return _base[_made % _KINDS :][:words]


def make_bytes(size: int) -> bytes:
    """The same where there is no numpy: new bytes, which cost a copy."""
    return b"\1" * size


def make_ready(make: Any, size: int) -> None:
    """So that the first one is no part of the time."""
    make(size)


def cost_of(check: Any, repeats: int = 200, number: int = 1000) -> float:
    """Nanoseconds of one call, the loop around it included: the median of many repeats, so that
    those in which another process had the core do not count."""
    import statistics
    import timeit

    check()
    timer = timeit.Timer("check()", globals={"check": check})
    return statistics.median(timer.repeat(repeats, number)) / number * 1e9


def cost_of_andon(path: str, index: int, workers: int) -> float:
    """Of `andon.check()` in a task, while so many do the same."""
    import andon

    meet(path, index, workers)
    return cost_of(andon.check)


_event: Any = None


def hand_down(event: Any) -> None:
    """The initializer of the usual recipe."""
    global _event
    _event = event


def cost_of_event(path: str, index: int, workers: int, repeats: int = 50) -> float:
    """Of the event's `is_set()` in a task, while so many do the same."""
    meet(path, index, workers)
    return cost_of(_event.is_set, repeats, 100)
