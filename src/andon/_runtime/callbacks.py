"""The thread that runs done callbacks, so that none of them can hold up the driver (S47)."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

_log = logging.getLogger("andon")


class CallbackThread:
    """Runs what it is given, in order. The thread starts with the first callback."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def put(self, run: Callable[[], None]) -> bool:
        """Hand one over; False where it is closed or cannot start: then the caller runs it."""
        with self._lock:
            if self._closed:
                return False
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # there can be no more: the caller does it
                    self._thread = None
                    return False
            self._queue.put(run)
        return True

    def run(self, callback: Callable[[], None]) -> None:
        """Have the thread run it; where there is none any more, the caller does."""
        if not self.put(callback):
            _call(callback)

    def is_current(self) -> bool:
        """Is the calling thread the one that runs them?"""
        return threading.current_thread() is self._thread

    def close(self, within: float) -> None:
        """Run what is left, then end the thread; waits up to `within` seconds for it."""
        with self._lock:
            self._closed = True
            thread = self._thread
            if thread is None:
                return
            self._queue.put(None)
        if thread is not threading.current_thread():  # a callback may close the pool
            thread.join(within)

    def _loop(self) -> None:
        while (run := self._queue.get()) is not None:
            _call(run)
            del run


def _call(callback: Callable[[], None]) -> None:
    try:
        callback()
    except BaseException:  # a callback's SystemExit must not end the thread of all others
        _log.exception("a callback raised")
