"""What a scope keeps alive, and for how long: as long as its loop is open."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import ref

from andon.aio.futures import Future
from andon.aio.streams import Results

_LONG = 86400.0  # seconds; when the timer rings, it is set again


class Kept:
    """What asyncio tasks wait for. asyncio itself holds them weakly: whatever a task waits for must
    hold it, and must be held.

    By a pool it must not be, nor by a scope that the program may hold: when a loop is closed, what
    waited in it is to be collected, and the scope with it be left. So the loop holds it, by a timer
    that closing the loop drops.
    """

    __slots__ = ("__weakref__", "behind", "change", "futures", "maps", "timer", "waiters")

    def __init__(self) -> None:
        self.timer: asyncio.TimerHandle | None = None
        self.change: asyncio.Future[None] | None = None  # what the leaving body waits for
        self.futures: set[Future[Any]] = set()  # that are not over
        self.maps: list[Results[Any]] = []  # that may still read
        self.waiters: set[asyncio.Future[None]] = set()  # of whoever asks a map for a result
        self.behind: object = None  # the scope itself, where its body was closed and siblings run

    def hold(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop hold it, until `timer` is cancelled."""
        self.timer = loop.call_later(_LONG, self.hold, loop)


class Keeper:
    """A scope's way to it; it is gone when the loop is, or the scope was left."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        kept = Kept()
        self._kept = ref(kept)
        kept.hold(loop)

    def __call__(self) -> Kept:
        return self._kept() or Kept()  # an empty one: nobody waits any more

    async def wait(self, waiter: asyncio.Future[None]) -> None:
        """Wait for it; whoever does is kept."""
        waiters = self().waiters
        waiters.add(waiter)
        try:
            await waiter
        finally:
            waiters.discard(waiter)

    def close(self) -> None:
        """The scope was left."""
        kept = self._kept()
        if kept is not None and kept.timer is not None:
            kept.timer.cancel()
