"""The curves: something grows, and the time and memory for each item should not.

Every point is measured in a process of its own, on a warm pool, and repeated where it is short.
"""

from __future__ import annotations

import contextvars
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import andon
from benchmarks.growth import machine
from benchmarks.speed.system import Peak
from benchmarks.speed.work import noop

Values = dict[str, float]
_LONG_ENOUGH = 0.5  # seconds of repeating
_MOST_REPEATS = 9
_MEMORY_SEEN = 2_000_000  # bytes; less than that says nothing: a page here, a reused block there


class Curve(NamedTuple):
    title: str
    grows: str  # what
    per: str  # what time and memory are of
    sizes: tuple[int, ...]
    measure: Callable[[int], Values]


def _repeated(once: Callable[[], Values]) -> Values:
    """The median of times, but for the first where there are others; and the memory of the first,
    as what it leaves free is used again by the others."""
    found: list[Values] = []
    begun = time.perf_counter()
    while len(found) < _MOST_REPEATS:
        gc.collect()
        found.append(once())
        if time.perf_counter() - begun > _LONG_ENOUGH:
            break
    times = [each["time"] for each in found]
    return {**found[0], "time": statistics.median(times[1:] or times)}


@contextmanager
def _pool(workers: int = 2) -> Iterator[andon.Pool]:
    with andon.Pool(workers) as pool:
        pool.map(noop, range(50 * workers))
        yield pool
        pool.close()
        pool.join()


def _measured(function: Callable[[], Any], count: int) -> Values:
    peak = Peak()
    begun = time.perf_counter()
    kept = function()
    seconds = time.perf_counter() - begun
    memory = peak.beyond_start
    del kept
    values = {"time": seconds / count}
    if memory >= _MEMORY_SEEN:
        values["memory"] = memory / count
    return values


def map_items(size: int) -> Values:
    with _pool() as pool:
        return _repeated(lambda: _measured(lambda: pool.map(noop, range(size)), size))


def imap_items(size: int) -> Values:
    """Its memory should not grow at all: it is that of the whole process, not per item."""

    def run() -> None:
        for _ in pool.imap(noop, (number for number in range(size))):
            pass

    with _pool() as pool:
        peak = Peak()
        found = _repeated(lambda: _measured(run, size))
        return {"time": found["time"], "whole": float(peak.highest)}


def pending(size: int) -> Values:
    def run() -> Any:
        with andon.TaskGroup(pool=pool) as group:
            futures = [group.submit(noop) for _ in range(size)]
        return group, futures

    with _pool() as pool:
        return _repeated(lambda: _measured(run, size))


def workers_map(size: int) -> Values:
    count = 50_000
    with _pool(size) as pool:
        found = _repeated(lambda: _measured(lambda: pool.map(noop, range(count)), count))
    return {"time": found["time"]}


def workers_submit(size: int) -> Values:
    count = 5_000

    def run() -> None:
        with andon.TaskGroup(pool=pool) as group:
            for _ in range(count):
                group.submit(noop)

    with _pool(size) as pool:
        return {"time": _repeated(lambda: _measured(run, count))["time"]}


def _opened(pool: andon.Pool, size: int) -> list[tuple[contextvars.Context, andon.TaskGroup]]:
    """Open on one pool at the same time, as if by that many threads."""
    opened = [(contextvars.Context(), andon.TaskGroup(pool=pool)) for _ in range(size)]
    for context, group in opened:
        context.run(group.__enter__)
    return opened


def _close(opened: list[tuple[contextvars.Context, andon.TaskGroup]]) -> None:
    for context, group in opened:
        context.run(group.__exit__, None, None, None)


def _wait(event: andon.Event) -> None:
    event.wait()


def groups(size: int) -> Values:
    """Tasks go to each in turn, ten at a time, and each gets enough for them to travel together:
    that a group of five tasks takes two frames says nothing of how many groups are open. All are
    there before the first begins, so that as many wait however many groups there are: what these
    cost, the curve `pending` tells."""
    count = 50_000

    def run() -> None:
        closed = andon.Event()
        with andon.TaskGroup(pool=pool) as both:
            both.submit(_wait, closed)
            both.submit(_wait, closed)
            futures = []
            for number in range(count):
                context, group = opened[number // 10 % size]
                futures.append(context.run(group.submit, noop))
            closed.set()
            for future in futures:
                future.result()

    with _pool() as pool:
        opened = _opened(pool, size)
        try:
            return {"time": _repeated(lambda: _measured(run, count))["time"]}
        finally:
            _close(opened)


def groups_open(size: int) -> Values:
    """Opening and closing them, with a task in each."""

    def run() -> Any:
        opened = _opened(pool, size)
        for context, group in opened:
            context.run(group.submit, noop)
        _close(opened)
        return opened

    with _pool() as pool:
        return _repeated(lambda: _measured(run, size))


def _powers(low: int, high: int) -> tuple[int, ...]:
    return tuple(10**power for power in range(low, high + 1))


_WORKERS = (1, 2, 4, 8, 16, 32, 64)
CURVES = {
    "map": Curve("`map` of no-ops", "items", "item", _powers(3, 7), map_items),
    "imap": Curve("`imap` of no-ops", "items", "item", _powers(3, 7), imap_items),
    "pending": Curve("futures that wait", "futures", "future", _powers(2, 5), pending),
    "workers-map": Curve("`map` of no-ops", "workers", "item", _WORKERS, workers_map),
    "workers-submit": Curve("single submits", "workers", "task", _WORKERS, workers_submit),
    "groups": Curve("groups open on one pool", "groups", "task", _powers(0, 3), groups),
    "groups-open": Curve("opening groups", "groups", "group", _powers(0, 3), groups_open),
    "machine-tasks": Curve(
        "the machine: tasks that wait", "tasks", "event", _powers(3, 7), machine.tasks
    ),
    "machine-workers": Curve(
        "the machine: workers", "workers", "event", _powers(1, 5), machine.workers
    ),
    "machine-groups": Curve(
        "the machine: open groups", "groups", "event", _powers(0, 5), machine.groups
    ),
    "machine-cancels": Curve(
        "the machine: a waiting task is cancelled", "groups", "cancel", _powers(1, 4),
        machine.cancels,
    ),
}
