"""The gate: when an asynchronous exception may be raised into the main thread, and when not.

Two signal handlers consult it: the stop ladder's interrupt in a worker (S17), and Ctrl-C in the
parent (S32). Both run between two bytecodes of the main thread, wherever it is.

Invariants:
 1. `depth` > 0: library code runs on the main thread; nothing may be raised into it. A handler
    that has something to raise leaves it in `deferred` instead.
 2. `user`: user code runs inside of ours, and bears it: a task's (set and cleared by the worker's
    careful call), or an unpickling in a caller who drives.
 3. `deferred` is called, and forgotten, when `depth` falls to 0: a clean point, where nothing of
    the library's is half done. It looks again whether there is still something to raise.
 4. The program's own handlers, which know nothing of it, are held back by `shelter` from the
    outermost entry to the outermost exit.
 5. Other threads pass through: handlers run on the main thread only.

Counting is safe against the handlers, since they leave `depth` as they find it, and CPython runs
none between the read and the write of `depth += 1` (it does so at calls, returns and jumps back).
"""

from __future__ import annotations

import os
import threading
from _thread import get_ident
from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

# Signal handlers that look at the gate themselves.
RESPECTFUL: list[Callable[..., Any]] = []
# Functions whose own frame is no place for what a handler raises: for either, and for the interrupt
# alone, which is sent again.
SHELTERED: set[CodeType] = set()
PASSED_OVER: set[CodeType] = set()


def sheltered(function: F) -> F:
    """Mark a function that comes to the gate at once: what is to be raised can wait for that, and
    raised before, it would tear the gate, or leave a scope without closing it."""
    SHELTERED.add(function.__code__)
    return passed_over(function)


def passed_over(function: F) -> F:
    """Mark a function in whose own frame nothing waits, and in which no interrupt is raised."""
    PASSED_OVER.add(function.__code__)
    return function


class Shelter(Protocol):
    """Holds back the handlers that do not."""

    def hold(self) -> None:
        """From now on."""

    def release(self) -> None:
        """No more; and have run what came meanwhile."""


class Gate:
    """`with gate:` around library code that must not be left half-way."""

    __slots__ = ("_main", "deferred", "depth", "entering", "shelter", "user")

    def __init__(self) -> None:
        self.depth = 0
        self.entering = 0  # outermost entries, on the stack, that are about to raise it
        self.shelter: Shelter | None = None  # since a pool was opened here
        self.user = False
        self.deferred: Callable[[], None] | None = None
        self._main = threading.main_thread().ident

    @sheltered
    def __enter__(self) -> None:
        if get_ident() != self._main:
            return
        shelter = self.shelter
        if self.depth or shelter is None:
            self.depth += 1
            return
        # A handler that ran between the two, and was in here itself, would have released them all.
        self.entering += 1
        try:
            shelter.hold()
            self.depth += 1
        except BaseException:
            self.entering -= 1
            shelter.release()
            raise
        self.entering -= 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if get_ident() == self._main:
            self.depth -= 1
            if self.depth == 0:
                try:
                    if self.shelter is not None:
                        self.shelter.release()
                finally:
                    if self.deferred is not None:
                        self.run_deferred()

    def wait(self, wait: Callable[[], T]) -> T:
        """Call what waits, and bears that a handler raises: while it does, perhaps inside the gate,
        the program's own handlers run."""
        shelter = self.shelter
        if not self.depth or shelter is None or get_ident() != self._main:
            return wait()
        try:
            shelter.release()
            return wait()
        finally:
            _hold_again(shelter)

    def run_deferred(self) -> None:
        """Raise what was held back, if there is still cause to."""
        deferred, self.deferred = self.deferred, None
        if deferred is not None:
            deferred()

    def on_main(self) -> bool:
        """Whether the caller is the main thread."""
        return get_ident() == self._main

    def reset(self) -> None:
        """In a new worker: whatever the code that forked it was in, it is not in it any more."""
        self.depth = self.entering = 0
        self.user = False
        self.deferred = None
        self.shelter = None
        self._main = get_ident()

    def after_fork(self) -> None:
        """In a forked child, whose only thread is the main one now, the one that forked.

        If it was the main one before, it goes on inside the same `with` blocks.
        """
        if get_ident() != self._main:
            self.reset()


def _hold_again(shelter: Shelter) -> None:
    """Whatever the handlers raise that come in between: what follows is inside the gate."""
    raised: BaseException | None = None
    while True:
        try:
            shelter.hold()
            break
        except BaseException as error:
            raised = error
    if raised is not None:
        raise raised


gate = Gate()


class _Uninterrupted:
    """`with uninterrupted:` around bounded work in an exit handler: a Ctrl-C there would be no more
    than a complaint on the terminal, with the work half done."""

    _before: Any = None

    def __enter__(self) -> None:
        import signal  # a worker has it anyway, and nobody else comes here in a hurry

        if gate.on_main():
            self._before = signal.signal(signal.SIGINT, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        import signal

        if gate.on_main() and self._before is not None:
            signal.signal(signal.SIGINT, self._before)


uninterrupted = _Uninterrupted()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=gate.after_fork)
