"""Linux: an epoll, woken by an eventfd, and holds of processes that are pidfds. The launcher is
the template (see `template.py`).
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from contextlib import suppress

assert sys.platform == "linux"

from andon._engines.local import descriptors
from andon._engines.local.channel import Reader, Writer, take
from andon._engines.local.timers import Handler
from andon._worker.signals import INTERRUPT_SIGNAL, STACK_SIGNAL

IN, OUT = select.EPOLLIN, select.EPOLLOUT


class Poller:
    """An epoll. Handlers are added and removed under the engine's lock; `wait` runs without."""

    reader, writer = Reader, Writer  # the ends of pipes that it can wait for

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
        if not ready:
            return []
        handlers = self._handlers
        return [h for fd, _ in ready if (h := handlers.get(fd)) is not None]

    def take(self, fd: int) -> bytes:
        """Some of what is there to read; empty: nothing now."""
        return take(fd)

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


class Hold:
    """A pidfd: what is done to it is done to that process, or to none."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def open(cls, pid: int) -> Hold:
        """Raises OSError where there is no descriptor left, or no such process."""
        with descriptors.guard:
            return cls(descriptors.keep(os.pidfd_open(pid)))

    def watch(self, poller: Poller, handler: Handler) -> None:
        """Call `handler` when it is dead."""
        poller.add(self._fd, handler)

    def unwatch(self, poller: Poller) -> None:
        """Not any more."""
        poller.remove(self._fd)

    def interrupt(self) -> None:
        """Step 2."""
        self._signal(INTERRUPT_SIGNAL)

    def ask_for_stack(self) -> None:
        """Have it dump its stacks from C."""
        self._signal(STACK_SIGNAL)

    def kill(self) -> None:
        """Step 3. The template kills its process group before it reaps it."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with suppress(OSError):
            signal.pidfd_send_signal(self._fd, number)

    def close(self) -> None:
        """Give up the descriptor."""
        descriptors.close(self._fd)
