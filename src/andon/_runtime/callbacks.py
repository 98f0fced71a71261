"""The thread that runs done callbacks, so that none of them can hold up the driver (S47)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress

from andon._complaint import complain
from andon._threads import start


class CallbackThread:
    """Runs what it is given, in order. The thread starts with the first callback."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # No lock: a finalizer may come anywhere in here, and in two pools at once.
        self._to_start = [True]  # whoever takes that, starts the thread
        self._thread: threading.Thread | None = None
        self._closed = False

    def put(self, run: Callable[[], None]) -> bool:
        """Hand one over; False where it is closed or cannot start: then the caller runs it."""
        if self._closed or not (self._thread or self._start()):
            return False
        self._queue.put(run)
        self._run_late()
        return True

    def run(self, callback: Callable[[], None]) -> None:
        """Have the thread run it; where there is none any more, the caller does."""
        if not self.put(callback):
            _call(callback)

    def then(self, callback: Callable[[], None]) -> None:
        """Behind all that it was given until now; here, where that was nothing."""
        if self._thread is None and self._queue.empty():
            _call(callback)
        else:
            self.run(callback)

    def is_current(self) -> bool:
        """Is the calling thread the one that runs them?"""
        return self._thread is not None and threading.current_thread() is self._thread

    def close(self, within: float) -> None:
        """Run what is left, then end the thread; waits up to `within` seconds for it."""
        self._closed = True
        thread = self._thread
        self._queue.put(None)
        if thread is None:
            self._run_all()  # where it could not start, there may be some that came meanwhile
        elif thread is not threading.current_thread():  # a callback may close the pool
            thread.join(within)

    def _start(self) -> bool:
        try:
            self._to_start.pop()
        except IndexError:  # somebody is at it
            return True
        thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
        try:
            start(thread)
        except RuntimeError:  # there can be no more: the caller does it
            self._to_start.append(True)
            self._run_all()  # what has come meanwhile
            return False
        self._thread = thread
        return True

    def _loop(self) -> None:
        self._thread = threading.current_thread()
        while (run := self._queue.get()) is not None:
            _call(run)
            del run
        self._run_all()

    def _run_late(self) -> None:
        if self._closed:  # meanwhile: perhaps the thread has ended
            self._run_all()

    def _run_all(self) -> None:
        ends = False
        with suppress(queue.Empty):
            while True:
                run = self._queue.get_nowait()
                if run is None:
                    ends = True
                else:
                    _call(run)
        if ends:  # that is for the thread
            self._queue.put(None)


def _call(callback: Callable[[], None]) -> None:
    try:
        callback()
    except BaseException:  # a callback's SystemExit must not end the thread of all others
        complain("a callback raised")
