"""A thread that listens at the lifeline: for the parent's end, and for orders (see `_wire`) where
signals cannot give them.

It needs the GIL, which a task in C code may hold: then the parent's end, an interrupt and the dump
of the stacks are noticed late, or not before the kill.
"""

from __future__ import annotations

import faulthandler
import os
from _thread import interrupt_main, start_new_thread
from collections.abc import Callable
from contextlib import suppress

from andon import _wire
from andon._worker.signals import INTERRUPT_SIGNAL


def obey(lifeline: int, stack: int, leave: Callable[[], None]) -> None:
    """Carry out orders that come there, in a thread; `leave` when the parent is gone (S20)."""

    def listen() -> None:
        while order := _read(lifeline):
            if order == _wire.INTERRUPT:
                # Runs the handler in the main thread, where it looks for itself (S17).
                interrupt_main(INTERRUPT_SIGNAL)
            elif order == _wire.DUMP_STACKS:
                with suppress(OSError, ValueError):
                    faulthandler.dump_traceback(stack, all_threads=True)
        leave()

    start_new_thread(listen, ())


def _read(fd: int) -> bytes:
    with suppress(OSError):
        return os.read(fd, 1)
    return b""
