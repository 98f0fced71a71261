"""What runs in the workers. It imports little: every library's workers import it."""

from __future__ import annotations

from typing import Any

from benchmarks.stamps import Stamps

PAGE = 4096


def noop(item: Any = None) -> Any:
    """It gives back what it was given, so that results are values and can be told apart."""
    return item


def spin(count: int) -> None:
    """Work: a fixed amount of it, whoever else wants the core."""
    for _ in range(count):
        pass


def meet(path: str, index: int, workers: int) -> None:
    """Come back when so many tasks are at it at once: all workers are at work."""
    Stamps(path).meet(0, index, workers)


def touch(block: Any) -> int:
    """Read a byte of every page of it; how long it is."""
    view = memoryview(block).cast("B")
    return len(view) if sum(view[::PAGE]) >= 0 else 0


_blocks: dict[tuple[int, bool], Any] = {}


def make_block(size: int, numpy: bool) -> Any:
    """That many bytes: an array where numpy is installed. Each process makes one, and keeps it."""
    key = size, numpy
    if key not in _blocks:
        if numpy:
            import numpy as np

            _blocks[key] = np.ones(size // 8)
        else:
            _blocks[key] = b"\1" * size
    return _blocks[key]


def make_block_of(size_and_kind: tuple[int, bool]) -> Any:
    return make_block(*size_and_kind)


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


def make_ready(size: int, numpy: bool) -> None:
    make_block(size, numpy)
