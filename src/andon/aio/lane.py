"""A thread for what would block the loop: it is there only while there is something to do."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from andon._complaint import complain
from andon._threads import start


class Lane:
    """Runs jobs one after the other, in the order in which they were posted.

    Nobody closes it: the thread ends when nothing is left, and the next job starts another. What
    is to happen after a job is posted after it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._busy = False

    @property
    def busy(self) -> bool:
        """Is there a job that has not ended?"""
        return self._busy

    def post(self, job: Callable[[], object]) -> None:
        """Have it run; does not wait for that. Any thread."""
        with self._lock:
            self._jobs.append(job)
            if self._busy:
                return
            self._busy = True
        try:
            start(threading.Thread(target=self._run, name=self._name, daemon=True))
        except RuntimeError:  # there can be no more threads: a blocked loop is better than none
            self._run()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._busy = False
                    return
                job = self._jobs.popleft()
            try:
                job()
            except BaseException:  # a job tells its own errors; whatever this is, the rest goes on
                complain("a job of andon.aio raised")
            del job
