"""The usual shared events, as pools whose tasks have one: see `measures.check`."""

from __future__ import annotations

import multiprocessing
from typing import Any

from benchmarks.speed.pools import MultiprocessingPool
from benchmarks.speed.work import cost_of_event, hand_down


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
