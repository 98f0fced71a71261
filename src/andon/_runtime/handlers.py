"""The program's own signal handlers, held back while the main thread is inside the gate.

A handler runs between any two bytecodes of the main thread. One that raises (a time limit by
`signal.alarm`) would leave the machine between two states, and one that asks a pool for something
would find its own thread in the middle of it. So while the main thread is inside the gate, a note
is taken instead; the handler runs when the gate is left, and may do there what it likes.

Invariants
 1. Only handlers that are set from Python, and do not look at the gate themselves (`RESPECTFUL`);
    and of `_SELDOM` and real-time signals, those that were set when a pool was opened. Those for
    Ctrl-C that Python and asyncio set are left to whoever stands in for them.
 2. While the main thread waits inside the gate, they are in their places: see `gate.wait`.
 3. A handler that is interrupted by the error of another runs all the same.
"""

from __future__ import annotations

import signal
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from andon._gate import RESPECTFUL, gate
from andon._worker.signals import get_handler as _get
from andon._worker.signals import set_handler as _set

_SIGNALS = sorted(map(int, signal.valid_signals()))
# A program that goes on after these has no handler in Python: of errors of its own, or of none.
_SELDOM = {
    getattr(signal, f"SIG{name}", None)
    for name in ["ABRT", "BUS", "FPE", "ILL", "KILL", "PWR", "SEGV", "STKFLT", "STOP", "SYS"]
}
_USUAL = [number for number in _SIGNALS if number < 32 and number not in _SELDOM]

Handler = Callable[[int, FrameType | None], Any]


class Handlers:
    """Of the main thread, and called by it only."""

    def __init__(self) -> None:
        self._looked_at = _USUAL
        self._calm: tuple[Any, ...] = ()  # the handlers, when there was none to hold back any more
        # Those that are held back, or were: a handler that comes in between may be in here too, so
        # nothing is ever taken out.
        self._known: dict[int, Handler] = {}
        self._noted: deque[tuple[Handler, int, FrameType | None]] = deque()
        self._note: Handler = self._take_note

    def find(self) -> None:
        """A pool is opened. To look at all signals each time would take too long, and hardly
        anybody has a handler for some: from now on, for those for which there is one."""
        self._looked_at = [n for n in _SIGNALS if n in _USUAL or callable(_get(n))]

    def hold(self) -> None:
        """From now on notes are taken."""
        try:
            # Again and again: one that is not held back yet may come in between, and be in here.
            while (found := tuple(map(_get, numbers := self._looked_at))) != self._calm:
                calm = True
                for number, handler in zip(numbers, found, strict=True):
                    if callable(handler) and not self._is_seen_to(handler):
                        calm = False
                        self._known[number] = handler
                        _set(number, self._note)
                if calm:
                    self._calm = found
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """They are in their places again; what was noted runs now."""
        if self._known:
            for number, handler in list(self._known.items()):
                if _get(number) is self._note:
                    _set(number, handler)
        if self._noted:
            self._run()

    def any(self) -> bool:
        """Are there such handlers? Inside the gate."""
        return any(_get(number) is self._note for number in self._known)

    def _take_note(self, number: int, frame: FrameType | None) -> None:
        self._noted.append((self._known[number], number, frame))
        if not (gate.depth or gate.entering):
            self._run()

    def _run(self) -> None:
        try:
            while self._noted:
                handler, number, frame = self._noted.popleft()
                handler(number, frame)
        finally:
            if self._noted:
                self._run()

    def _is_seen_to(self, handler: Any) -> bool:
        return (
            handler is self._note
            or any(handler is each for each in RESPECTFUL)
            or handler is signal.default_int_handler
            or is_of_asyncio(handler)
        )


def is_of_asyncio(handler: Any) -> bool:
    """Is it the one by which `asyncio.run` takes Ctrl-C? (`andon.aio` sees to that.)"""
    runners: Any = sys.modules.get("asyncio.runners")
    return (
        runners is not None
        and isinstance(handler, partial)
        and isinstance(getattr(handler.func, "__self__", None), runners.Runner)
    )


handlers = Handlers()
