"""Who takes part besides the libraries: the ideal, and the usual shared events."""

from __future__ import annotations

import heapq
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.speed.pools import MultiprocessingPool, Pool
from benchmarks.speed.work import cost_of_event, hand_down


class Ideal(Pool):
    """No pool: forks that know from the start which items are theirs, and send nothing.

    Each item goes to the first that is free, in the order of the items, by their known lengths:
    what a pool would reach that costs nothing, but cannot look ahead either.
    """

    module = "os"

    def open(self, initializer: Any = None, initargs: tuple[Any, ...] = ()) -> None:
        pass

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return fn(*args)

    def together(self, fn: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
        return []

    def map(self, fn: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        return [fn(item) for item in items]

    def timed_map(self, fn: Callable[..., Any], items: list[int]) -> float:
        shares: list[list[int]] = [[] for _ in range(self.workers)]
        free = [(0, worker) for worker in range(self.workers)]
        for item in items:
            at, worker = heapq.heappop(free)
            shares[worker].append(item)
            heapq.heappush(free, (at + item, worker))
        begun = time.perf_counter()
        pids = []
        for share in shares:
            pid = os.fork()
            if not pid:
                try:
                    for item in share:
                        fn(item)
                finally:
                    os._exit(0)
            pids.append(pid)
        for pid in pids:
            os.waitpid(pid, 0)
        return time.perf_counter() - begun

    def close(self) -> None:
        pass


class SharedEvent(MultiprocessingPool):
    """`multiprocessing.Event`, handed down at the start."""

    cost = staticmethod(cost_of_event)

    def open(self, initializer: Any = None, initargs: tuple[Any, ...] = ()) -> None:
        super().open(hand_down, (self.make_event(),))

    def make_event(self) -> Any:
        return self.context.Event()


class ManagersEvent(SharedEvent):
    """`multiprocessing.Manager().Event()`: a process more, and a round trip per look."""

    def make_event(self) -> Any:
        self.manager = multiprocessing.Manager()
        return self.manager.Event()

    def close(self) -> None:
        super().close()
        self.manager.shutdown()
