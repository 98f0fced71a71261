"""A wait that may be interrupted between any two bytecodes and leaves nothing locked.

`threading.Condition` and `threading.Event` share a lock between the waiter and the one who wakes
it; an exception that a signal raises in the waiter at the wrong moment leaves that lock held, and
the waker, here the driver of a whole pool, would hang on it for ever (S51 has the figures). Here
each waiter parks on a lock of its own, and the waker only ever releases.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

from andon._gate import gate

_SLICE = 0.05
# A signal that comes right before the main thread begins to wait does not end the wait, and its
# handler would run only then. So the main thread first waits for SOON seconds, then twice as long,
# and so on, up to LATE: a key that was missed is noticed soon (S32).
SOON, LATE = 0.02, 1.0


class _Waiter(Protocol):
    """A lock that somebody waits for, or what does as one."""

    def release(self) -> None:
        """Wake it."""


class Wakeup:
    """Wakes whoever waits for a condition that others make true."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        # A dict: to leave it raises nothing, whoever was quicker; a
        # Ctrl-C while an error is handled would show two tracebacks (S32).
        self._waiters: dict[_Waiter, None] = {}

    def wait(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Block until `ready()` or `timeout` seconds are over; return what `ready()` says.

        Whoever makes `ready()` true calls `notify` afterwards.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not ready():
            left = -1.0
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return ready()
            parked = threading.Lock()
            parked.acquire()
            self._waiters[parked] = None
            try:
                if not ready():  # else it became true before we stood in the queue
                    _park(parked, ready, min(left, threading.TIMEOUT_MAX))
            finally:
                self._waiters.pop(parked, None)  # most often the waker has taken it
        return True

    def ring(self, bell: _Waiter) -> None:
        """Have this released, once, at the next `notify`."""
        self._waiters[bell] = None

    def forget(self, bell: _Waiter) -> None:
        """Not any more."""
        self._waiters.pop(bell, None)

    def notify(self) -> None:
        """Wake all waiters; never blocks."""
        waiters = self._waiters
        while waiters:
            try:
                parked, _ = waiters.popitem()
            except KeyError:  # another thread took the last one
                return
            # Only the waiter and the one waker that took it from the queue know this lock.
            parked.release()


def _park(parked: threading.Lock, ready: Callable[[], bool], seconds: float) -> None:
    """Wait for the lock; below 0: for ever."""
    if sys.platform == "win32":
        # Who waits for a lock takes no Ctrl-C there (S32): so nobody waits for long.
        pause, most = _SLICE, _SLICE
    elif gate.on_main():
        pause, most = SOON, LATE
    else:
        parked.acquire(True, seconds)
        return
    deadline = math.inf if seconds < 0 else time.monotonic() + seconds
    while not parked.acquire(True, min(pause, max(0.0, deadline - time.monotonic()))):
        if ready() or time.monotonic() >= deadline:
            return
        pause = min(2 * pause, most)
