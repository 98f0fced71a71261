"""What `concurrent.futures` locks a future by, and waits on: both bear to be interrupted.

`wait`, `as_completed` and the standard class lock futures in Python code. What a signal handler
raises there, between two bytecodes, leaves a plain `Condition` locked for ever, and the `Event` of
who waits as well (S51 has the figures); the driver of the pool, and every other caller, would hang
on it. So a future's lock knows which frame holds it: once that has been left, by whatever way,
nobody holds it any more. And who waits is given an event that has no lock.

Invariants
 1. A hold is taken, inherited and given up by one call of C code each: whenever an exception comes,
    nobody holds the lock, or a frame that can be looked for.
 2. No lock of ours is held while others are waited for, or anything is called: a finalizer that
    comes in between, in any number of threads, finds each lock free or held by who goes on.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from _thread import get_ident
from types import FrameType
from typing import Any

from andon._runtime.wakeup import Wakeup

_append, _remove = list.append, list.remove
_SHORTEST, _LONGEST = 0.0001, 0.01  # seconds, between two looks at a lock that is held


_Hold = tuple[int, FrameType]  # by a thread, in the frame that is to give it back


class FutureLock:
    """In place of the `threading.Condition` of a `concurrent.futures.Future`; also who waits for
    that, and its callbacks."""

    __slots__ = ("_again", "_holds", "_notified", "_wakeup", "callbacks", "waiters")

    def __init__(self) -> None:
        # Who has it, under None; and under a hold that was found left, who has inherited it.
        self._holds: dict[_Hold | None, _Hold] = {}
        self._again = 0  # times that the holder has taken it once more
        self._notified = 0
        self._wakeup: Wakeup | None = None
        self.waiters = Waiters()
        self.callbacks: list[Any] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As a reentrant lock's."""
        frame = sys._getframe(1)
        if frame.f_code.co_name == "__enter__":  # its caller's `with` gives it back
            frame = frame.f_back or frame
        mine = get_ident(), frame
        return self._holds.setdefault(None, mine) is mine or self._wait_for(mine, blocking, timeout)

    def release(self, *_: object) -> None:
        """As a reentrant lock's."""
        hold = self._holds.get(None)
        if len(self._holds) > 1:
            hold = self._hold()
        if hold is None or hold[0] != get_ident():
            raise RuntimeError("cannot release un-acquired lock")
        if self._again:
            self._again -= 1
        else:
            self._holds.clear()

    def __enter__(self) -> bool:
        mine = get_ident(), sys._getframe(1)
        return self._holds.setdefault(None, mine) is mine or self._wait_for(mine, True, -1)

    __exit__ = release

    def _is_owned(self) -> bool:
        hold = self._hold()
        return hold is not None and hold[0] == get_ident()

    def wait(self, timeout: float | None = None) -> bool:
        """As a condition's."""
        hold, again, before = self._hold(), self._again, self._notified
        if hold is None or hold[0] != get_ident():
            raise RuntimeError("cannot wait on un-acquired lock")
        if self._wakeup is None:
            self._wakeup = Wakeup()
        self._again = 0
        self._holds.clear()
        try:
            return self._wakeup.wait(lambda: self._notified != before, timeout)
        finally:
            if self._holds.setdefault(None, hold) is not hold:
                self._wait_for(hold, True, -1)
            self._again = again

    def notify_all(self) -> None:
        """As a condition's."""
        self._notified += 1
        if self._wakeup is not None:
            self._wakeup.notify()

    def _hold(self) -> _Hold | None:
        hold = self._holds.get(None)
        while hold is not None and (heir := self._holds.get(hold)) is not None:
            hold = heir
        return hold

    def _wait_for(self, mine: _Hold, blocking: bool, timeout: float) -> bool:
        end = time.monotonic() + timeout if timeout >= 0 else math.inf
        pause = _SHORTEST
        while True:
            hold = self._holds.setdefault(None, mine)
            while hold is not mine and (heir := self._holds.get(hold)) is not None:
                hold = heir
            if hold is not mine and _is_left(hold):
                if self._holds.setdefault(hold, mine) is not mine:
                    continue
                if self._hold() is not mine:  # the heir of that was quicker, and has given it back
                    self._holds.pop(hold, None)
                    continue
                hold = mine
            if hold is mine:
                self._again = 0
                return True
            if hold[0] == mine[0]:
                self._again += 1
                return True
            if not blocking or time.monotonic() >= end:
                return False
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)


def _is_left(hold: _Hold) -> bool:
    """Has the frame that was to give it back come to its end without that?"""
    thread, holder = hold
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame is holder:
            return False
        frame = frame.f_back
    return True


class Waiters(list[Any]):
    """Those that `concurrent.futures` puts to a future, each with an event."""

    def append(self, waiter: Any) -> None:
        """Nobody waits for it yet: it is only just being put."""
        if type(getattr(waiter, "event", None)) is threading.Event:
            waiter.event = _Event()
        _append(self, waiter)

    def remove(self, waiter: Any) -> None:
        """It may not be there: an interrupted `wait` has put it to some futures, and not to all."""
        if waiter in self:
            _remove(self, waiter)


class _Event:
    """A `threading.Event` without a lock."""

    __slots__ = ("_is_set", "_wakeup")

    def __init__(self) -> None:
        self._is_set = False
        self._wakeup = Wakeup()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._wakeup.notify()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        return self._wakeup.wait(self.is_set, timeout)
