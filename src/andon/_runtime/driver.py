"""Who drives a pool: waits for what its workers tell, and sees it through (`runtime.turn`).

    driver thread ──┐
                    ├──▶ the seat ──▶ turn ──▶ turn ──▶ …
    waiting caller ─┘

One thread at a time has the seat. A caller who waits for a result and drives meanwhile spares two
hops from thread to thread, which cost more than a short call itself. So the driver thread leaves
the seat to callers while they do nothing but call, wait, call, wait, and takes it again when they
no longer do, or leave something under way.

Invariants
 1. Only who has the seat drives; whoever has it at the end of a wait gives it up.
 2. The seat is free for no more than a lease while anything is under way, or anybody waits.
 3. Nothing may be raised into a turn. So the main thread drives inside the gate, and not at all
    where the program has signal handlers of its own, which are not to be held back for so long; nor
    on Windows, where nobody who waits takes a Ctrl-C; nor does anyone deep down in a recursion.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from _thread import get_ident
from collections.abc import Callable
from typing import TYPE_CHECKING

from andon._gate import gate
from andon._runtime.handlers import handlers
from andon._runtime.interrupts import bridge
from andon._runtime.room import has_much_room
from andon._runtime.wakeup import LATE, SOON, Wakeup
from andon._threads import start

if TYPE_CHECKING:
    from andon._runtime.runtime import Runtime


_PAUSE_WITHIN = 2.0  # seconds
# Seconds; then the driver looks whether callers still drive, and each look is in their way. So a
# lease is twice as long as the one before that was used.
_LEASE, _LONGEST_LEASE = 0.001, 0.008
_IN_TURN = 3  # waits, one after the other and nothing beside them, until callers may drive
_NOBODY = 0


class Driver:
    """Runs `runtime.turn()` until told to stop, in a thread of its own or a caller's.

    `pause` and `resume` exist for the `fork` start method: a process must not fork while threads
    of ours run in it, since the child would inherit the locks that they hold.
    """

    def __init__(self, runtime: Runtime, name: str) -> None:
        self._runtime = runtime
        self._name = name
        self._leave: list[bool] = []  # of the running thread: has an item once it should end
        self._thread: threading.Thread | None = None
        self._late: threading.Thread | None = None  # was told to end, and has not yet
        self._seat = threading.Lock()
        self._owner = _NOBODY
        self._open = False  # may callers drive?
        self._waiting: dict[int, None] = {}  # the threads of callers
        self._waits = 0  # in a row, with nothing beside them
        self._drives = 0  # waits that drove
        self._called = False  # the driver thread is to take the seat
        self._call = Wakeup()
        self._bell = _Bell(self)

    def start(self) -> None:
        """Start the thread; raises RuntimeError where there can be no more. One that was late to
        end is waited for, by the new one: only one thread pumps at a time."""
        self._leave = []
        self._thread = threading.Thread(
            target=self._loop, args=(self._leave, self._late), name=self._name, daemon=True
        )
        self._open = True
        try:
            start(self._thread)
        except BaseException:
            self._thread = None
            self._open = False
            raise

    def is_current(self) -> bool:
        """Does the calling thread drive?"""
        return self._owner == get_ident()

    def stop(self, within: float) -> None:
        """End the thread and wait for it, and for a caller who drives; the engine's `pump` returns
        as soon as it is woken, but for a result whose unpickling hangs: hence the bound (S21)."""
        thread = self._thread
        if thread is None:
            return
        self._open = False
        self._leave.append(True)
        self._runtime.wake()
        self._call_driver()
        end = time.monotonic() + within
        if thread is not threading.current_thread():
            try:
                thread.join(within)
            except RuntimeError:  # another thread is just starting it: it finds that it is to leave
                pass
        if not self.is_current() and self._seat.acquire(timeout=max(0.0, end - time.monotonic())):
            self._seat.release()
        self._late = thread if thread.is_alive() else None
        self._thread = None

    def pause(self) -> bool:
        """Stop for a fork; False where there is nothing to pause."""
        if self._thread is None or self.is_current():
            return False
        self.stop(_PAUSE_WITHIN)
        return True

    # The caller's side ---------------------------------------------------------------------------

    def wait(self, wakeup: Wakeup, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """As `wakeup.wait`, which is what it comes to where somebody else drives."""
        me = get_ident()
        deadline = None if timeout is None else time.monotonic() + timeout
        self._waiting[me] = None
        try:
            if self._open and not self._seat.locked():
                self._drive(wakeup, ready, deadline)
                if gate.deferred is not None and gate.depth == 0 and gate.on_main():
                    gate.run_deferred()
                if gate.depth == 0 and ready():  # inside, handlers are to have their turn
                    return True
                if deadline is not None:
                    timeout = max(0.0, deadline - time.monotonic())
            return gate.wait(lambda: wakeup.wait(ready, timeout))
        finally:
            self._waiting.pop(me, None)

    def _drive(self, wakeup: Wakeup, ready: Callable[[], bool], deadline: float | None) -> None:
        with gate:
            on_main = gate.on_main()
            if on_main and (sys.platform == "win32" or handlers.any()):
                return
            # Who wants to be back in time does not unpickle what is not its own.
            if deadline is not None and self._runtime.is_busy(beside=1):
                return
            if not has_much_room() or not self._seat.acquire(False):
                return
            self._owner = get_ident()
            self._drives += 1
            # Where user code waits, a Ctrl-C ends the wait, and is raised when the gate is left.
            mine = on_main and gate.depth == 1
            if mine:
                bridge.driven = self._runtime
            runtime, pause = self._runtime, SOON if on_main else math.inf
            try:
                lingers = True
                while not ready() and self._open and not (mine and gate.deferred is not None):
                    left = pause
                    if deadline is not None:
                        left = min(left, deadline - time.monotonic())
                        if left <= 0:
                            return
                    wakeup.ring(self._bell)
                    if ready():
                        return
                    if lingers:
                        runtime.capabilities.linger()
                        lingers = False
                    runtime.turn(None if left == math.inf else left)
                    if on_main:
                        pause = min(2 * pause, LATE)  # see wakeup.py
            except BaseException as error:
                runtime.crash(error)
            finally:
                wakeup.forget(self._bell)
                if mine:
                    bridge.driven = None
                self._owner = _NOBODY
                self._seat.release()
                if len(self._waiting) > 1 or runtime.is_busy():
                    self._call_driver()

    def _call_driver(self) -> None:
        self._called = True
        self._call.notify()

    # The thread's side ---------------------------------------------------------------------------

    def _loop(self, leave: list[bool], before: threading.Thread | None) -> None:
        runtime = self._runtime
        try:
            if before is not None:
                before.join()
            while not leave and runtime.crashed is None:
                with self._seat:
                    if leave:  # told while a caller drove, whom the wake has reached
                        break
                    self._owner = get_ident()
                    try:
                        self._one_turn()
                    finally:
                        self._owner = _NOBODY
                if self._waits >= _IN_TURN:
                    self._rest(leave)
        except BaseException as error:  # whatever it is, nobody may be left waiting for us
            runtime.crash(error)

    def _one_turn(self) -> None:
        waited = len(self._waiting)
        self._runtime.turn()
        if not self._runtime.is_busy():
            # A call and a wait, and nothing else is under way: or does nobody wait?
            self._waits = self._waits + 1 if waited == 1 else 0

    def _rest(self, leave: list[bool]) -> None:
        """Leave the seat to callers, as long as one drives in every lease."""
        self._called = False
        drives, lease = -1, _LEASE
        while not (leave or self._called) and drives != self._drives:
            drives = self._drives
            self._call.wait(self._is_called, lease)
            lease = min(2 * lease, _LONGEST_LEASE)
            if not self._waiting and self._runtime.is_busy():
                break  # whoever drove has left it under way
        self._waits = 0

    def _is_called(self) -> bool:
        return self._called


class _Bell:
    """Stands among the waiters of a wakeup for a caller who drives: what wakes it is an event that
    another thread has brought about."""

    __slots__ = ("_driver",)

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def release(self) -> None:
        """As a waiter's lock."""
        if not self._driver.is_current():
            self._driver._runtime.wake()
