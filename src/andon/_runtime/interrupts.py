"""Ctrl-C (S32): workers ignore SIGINT, the parent alone decides.

While a pool or a scope of ours is open that the main thread has opened, our handler stands in for
Python's default one (never for a handler that the program has set). In user code it raises
`KeyboardInterrupt` as ever; inside library code, where an exception could leave a lock held or the
machine between two states, it leaves a note and wakes the drivers, and the scope raises once all is
over. The second Ctrl-C kills at once.

Invariants:
 1. Whatever is opened, waited for or closed in the main thread is so inside the gate; and the few
    functions that lead there without fail are `sheltered`: an interrupt that comes between their
    call and the gate would else leave a scope without closing it.
 2. A note is taken once, and in the main thread: by the scope that ends, or where the gate is left.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Protocol

from andon._cancelled import Cancelled
from andon._gate import RESPECTFUL, SHELTERED, gate
from andon._runtime import registry
from andon._threads import start
from andon._worker.signals import get_handler

_MOMENT = 0.01  # seconds


def _interrupt_main() -> None:
    """By a real signal: it ends a system call that the main thread waits in, as a key does."""
    main = threading.main_thread()
    if not main.is_alive():
        return
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)  # to the process: there it wakes who sleeps
    elif main.ident is not None:
        signal.pthread_kill(main.ident, signal.SIGINT)


class Driven(Protocol):
    """A pool whose events the main thread waits for."""

    def wake(self) -> None:
        """End that wait."""


class InterruptBridge:
    """`hold` and `release` pair up around each pool, `enter` and `leave` around each scope."""

    def __init__(self) -> None:
        self.count = 0  # since the outermost scope was entered
        self.pending = False
        self._depth = 0
        self._holds = 0
        self.handler = self._on_sigint
        RESPECTFUL.append(self.handler)
        self.driven: Driven | None = None  # user code in the main thread waits, and drives it

    def hold(self) -> bool:
        """Stand in for the default handler; False where this is not the main thread."""
        if not gate.on_main():
            return False
        self._holds += 1
        if get_handler(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self.handler)
        return True

    def release(self) -> None:
        """From any thread; but only the main one can put the default handler back."""
        self._holds = max(0, self._holds - 1)
        if (
            self._holds == 0
            and gate.on_main()
            and get_handler(signal.SIGINT) is self.handler
        ):
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def enter(self, count: int = 0) -> bool:
        """A scope opens, after so many interrupts; False where this is not the main thread."""
        if not self.hold():
            return False
        self.count = max(self.count, count) if self._depth else count
        self._depth += 1
        return True

    def leave(self) -> bool:
        """A scope is over. Was there a Ctrl-C that has not been raised yet? It is the caller's."""
        self._depth = max(0, self._depth - 1)
        self.release()
        return self.consume()

    def forget(self) -> None:
        """In a forked child: what is open is its parent's."""
        self._depth = self._holds = 0
        self.pending = False
        self.driven = None

    def consume(self) -> bool:
        """Take the note; it is the main thread's, and any other leaves it there."""
        if not gate.on_main():
            return False
        pending, self.pending = self.pending, False
        return pending

    def again(self) -> None:
        """Ctrl-C once more, in a moment: raised here and now, it would vanish with an iterator that
        is being dropped. A program that has come to its end by then neither waits nor hears of it:
        there the key came too late."""
        timer = threading.Timer(_MOMENT, _interrupt_main)
        timer.daemon = True
        with suppress(RuntimeError):  # no thread can be had, or the program is over
            start(timer)

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        if self._depth:
            self.count += 1
        inside = gate.depth or gate.entering
        if not inside and (frame is None or frame.f_code not in SHELTERED):
            if self._depth and self.count > 1:
                self._tell()
            raise KeyboardInterrupt
        if gate.user and self.pending:  # an unpickling that we drive into takes its time
            gate.user = False
            raise KeyboardInterrupt
        self.pending = True
        gate.deferred = self.raise_pending
        if self.driven is None or (self._depth and self.count > 1):
            self._tell()
        else:
            self.driven.wake()  # it ends its wait, and raises this there

    def _tell(self) -> None:
        for runtime in registry.runtimes():
            runtime.interrupt(max(1, self.count))

    def raise_pending(self) -> None:
        """Raise what has been noted, if anything has."""
        if self.consume():
            # What leaves the gate may be the stop that the key has led to: no second story (S32).
            if isinstance(sys.exc_info()[1], Cancelled):
                raise KeyboardInterrupt from None
            raise KeyboardInterrupt


bridge = InterruptBridge()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=bridge.forget)
