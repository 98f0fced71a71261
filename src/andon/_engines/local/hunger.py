"""Workers that idle, beside others that have many items before them: these are asked for some.

    idle ── HUNGRY ──▶ the fullest are asked to yield (see overdue.py) ──▶ what they give back
                                                                           is sent to the idle

Between two tasks every worker idles for a moment, until the parent has sent the next; so only those
count that have been given nothing for a while.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

from andon._engines.local.timers import Timer, Timers
from andon._engines.local.worker_process import WorkerProcess
from andon._engines.port import Attempt

HUNGRY = 0.001  # seconds
_WORTH = 0.002  # seconds of work before one that is asked for some: to yield takes as long


class Hunger:
    """Of one engine. `ask` has a worker yield soon."""

    def __init__(self, timers: Timers, ask: Callable[[WorkerProcess, Attempt], None]) -> None:
        self._timers = timers
        self._ask = ask
        self._spans: dict[WorkerProcess, Attempt] = {}  # that were given, and may be over
        self._hungry: list[WorkerProcess] = []  # idle since the timer was set
        self._timer: Timer | None = None

    def given(self, worker: WorkerProcess, attempt: Attempt) -> None:
        """A worker was given something."""
        if self._timer is not None and worker in self._hungry:
            self._hungry.remove(worker)
            if not self._hungry:
                self._timer.cancel()
                self._timer = None
        if attempt.hi - attempt.lo > 1:
            self._spans[worker] = attempt

    def felt(self, idle: list[WorkerProcess]) -> None:
        """These are idle and there is nothing to give them, and we are about to wait."""
        spans = self._spans
        if self._timer is not None or not spans:
            return
        for worker in [w for w, attempt in spans.items() if _is_over(w, attempt)]:
            del spans[worker]
        if any(_left(worker, attempt) for worker, attempt in spans.items()):
            self._hungry = list(idle)
            self._timer = self._timers.at(time.monotonic() + HUNGRY, partial(self._now, idle))

    def _now(self, idle: list[WorkerProcess]) -> None:
        self._timer = None
        hungry = sum(worker in idle for worker in self._hungry)  # some may have died meanwhile
        left = {worker: _left(worker, attempt) for worker, attempt in self._spans.items()}
        fullest = sorted(filter(left.get, left), key=left.__getitem__, reverse=True)
        for worker in fullest[:hungry]:
            attempt = self._spans.pop(worker)  # asked once
            self._ask(worker, attempt)


def _is_over(worker: WorkerProcess, attempt: Attempt) -> bool:
    return worker.attempt is not attempt or worker.dead_at is not None


def _left(worker: WorkerProcess, attempt: Attempt) -> float:
    """Seconds of work that it has before it and could give away; 0: none worth it."""
    if _is_over(worker, attempt) or worker.ladder is not None:
        return 0.0
    at = max(attempt.lo, worker.row.index) if worker.begun else attempt.lo
    items = attempt.hi - at - 1
    if items <= 0:
        return 0.0
    seconds = attempt.packed.seconds
    if not seconds:
        return math.inf  # nobody knows
    return items * seconds if items * seconds > _WORTH else 0.0
