"""What the engine waits for: descriptors, each with a function to call, and timers."""

from __future__ import annotations

import heapq
import math
import os
import select
import threading
from collections.abc import Callable
from typing import Any

from andon._engines.local import descriptors

Handler = Callable[[], None]
IN, OUT = select.EPOLLIN, select.EPOLLOUT


class Poller:
    """An epoll. Handlers are added and removed under the engine's lock; `wait` runs without."""

    def __init__(self) -> None:
        with descriptors.guard:
            self._epoll = descriptors.keep(select.epoll())
            self._wake_fd = descriptors.keep(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self._handlers: dict[int, Handler] = {}
        # Reentrant: the handler of Ctrl-C wakes, and may come in the middle of a wake.
        self._wake_lock = threading.RLock()
        self._open = True
        self.add(self._wake_fd, self._woken)

    def add(self, fd: int, handler: Handler, *, edge: bool = False) -> None:
        """Call `handler` when there is something to read (`edge`: whenever more has come)."""
        known = fd in self._handlers
        self._handlers[fd] = handler
        if not known:
            self._epoll.register(fd, IN | (select.EPOLLET if edge else 0))

    def writable(self, fd: int, handler: Handler | None) -> None:
        """Call `handler` while there is room to write; None: not any more."""
        if handler is not None:
            if fd not in self._handlers:
                self._handlers[fd] = handler
                self._epoll.register(fd, OUT)
        elif self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def also_writable(self, fd: int, on: bool) -> None:
        """For one that is read: call its handler also when there is room to write."""
        self._epoll.modify(fd, IN | (OUT if on else 0))

    def remove(self, fd: int) -> None:
        """Before the descriptor is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def wait(self, timeout: float | None) -> list[Handler]:
        """What is to be called now. At most `timeout` seconds, rounded up to milliseconds."""
        ready = self._epoll.poll(-1 if timeout is None else timeout)
        handlers = self._handlers
        return [h for fd, _ in ready if (h := handlers.get(fd)) is not None]

    def wake(self) -> None:
        """End a `wait`, from any thread, also when closed; never blocks."""
        with self._wake_lock:
            if self._open:
                os.eventfd_write(self._wake_fd, 1)

    def _woken(self) -> None:
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Give up the descriptors."""
        with self._wake_lock:
            self._open = False
            descriptors.close(self._wake_fd, self._epoll)
        self._handlers.clear()


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
