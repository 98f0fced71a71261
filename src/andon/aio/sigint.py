"""Ctrl-C under `asyncio.run` (S32): its handler cancels the main task, and the second time raises
KeyboardInterrupt, wherever the main thread is. Not in code of ours that must not be left half-way.

While a scope of ours is open in the main thread, this one stands in for asyncio's, and calls it: at
once in user code and in the loop's, else when the gate is left. A handler that the program has set
itself is left alone, and Python's own one is the bridge's affair.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from functools import partial
from types import FrameType
from typing import Any

from andon._gate import RESPECTFUL, gate
from andon._runtime.handlers import is_of_asyncio
from andon.aio.members import interrupted


class StandIn:
    """`hold` and `release` pair up around each scope."""

    def __init__(self) -> None:
        self._holds = 0
        self._pending = 0
        self._theirs: Any = None
        self._run_is_over = False
        self._handler = self._on_sigint
        RESPECTFUL.append(self._handler)

    def hold(self) -> bool:
        """Stand in; False where there is nothing to stand in for."""
        if threading.current_thread() is not threading.main_thread():
            return False
        handler = signal.getsignal(signal.SIGINT)
        if self._holds and handler == self._handler:
            self._holds += 1
            return True
        if not is_of_asyncio(handler):
            return False
        self._theirs, self._holds, self._pending = handler, 1, 0
        self._run_is_over = False
        signal.signal(signal.SIGINT, self._handler)
        return True

    def release(self) -> None:
        """Only the main thread can put theirs back."""
        if interrupted() or (self._theirs is not None and _is_over(self._theirs)):
            # `run` was left, by a KeyboardInterrupt, or while a task of its loop had a scope open;
            # it would have put the default back.
            self._run_is_over = True
        self._holds = max(0, self._holds - 1)
        if (
            self._holds == 0
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) == self._handler
        ):
            back = signal.default_int_handler if self._run_is_over else self._theirs
            signal.signal(signal.SIGINT, back)
            self._theirs = None

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        if gate.depth:
            self._pending += 1
            gate.deferred = self._call_back
        else:
            self._theirs(signum, frame)

    def _call_back(self) -> None:
        while self._pending:
            self._pending -= 1
            self._theirs(signal.SIGINT, None)


def _is_over(handler: partial[Any]) -> bool:
    """Is the task over that asyncio's handler is there to cancel?"""
    task = handler.keywords.get("main_task")
    return isinstance(task, asyncio.Future) and task.done()


stand_in = StandIn()
