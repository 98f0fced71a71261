"""The driver: the one thread of a pool. It can be stopped and started again, for forks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from andon._runtime.runtime import Runtime


_PAUSE_WITHIN = 2.0  # seconds


class Driver:
    """Runs `runtime.turn()` until told to stop.

    `pause` and `resume` exist for the `fork` start method: a process must not fork while threads
    of ours run in it, since the child would inherit the locks that they hold.
    """

    def __init__(self, runtime: Runtime, name: str) -> None:
        self._runtime = runtime
        self._name = name
        self._leave: list[bool] = []  # of the running thread: has an item once it should end
        self._thread: threading.Thread | None = None
        self._late: threading.Thread | None = None  # was told to end, and has not yet

    def start(self) -> None:
        """Start the thread; raises RuntimeError where there can be no more. One that was late to
        end is waited for, by the new one: only one thread pumps at a time."""
        self._leave = []
        self._thread = threading.Thread(
            target=self._loop, args=(self._leave, self._late), name=self._name, daemon=True
        )
        try:
            self._thread.start()
        except BaseException:
            self._thread = None
            raise

    def is_current(self) -> bool:
        """Is the calling thread the driver?"""
        return threading.current_thread() is self._thread

    def stop(self, within: float) -> None:
        """End the thread and wait for it; the engine's `pump` returns as soon as it is woken, but
        for a result whose unpickling hangs: hence the bound (S21)."""
        thread = self._thread
        if thread is None:
            return
        self._leave.append(True)
        self._runtime.wake()
        if thread is not threading.current_thread():
            thread.join(within)
        self._late = thread if thread.is_alive() else None
        self._thread = None

    def pause(self) -> bool:
        """Stop for a fork; False where there is nothing to pause."""
        if self._thread is None or self.is_current():
            return False
        self.stop(_PAUSE_WITHIN)
        return True

    def _loop(self, leave: list[bool], before: threading.Thread | None) -> None:
        runtime = self._runtime
        try:
            if before is not None:
                before.join()
            while not leave and runtime.crashed is None:
                runtime.turn()
        except BaseException as error:  # whatever it is, nobody may be left waiting for us
            runtime.crash(error)
