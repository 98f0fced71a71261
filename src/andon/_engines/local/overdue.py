"""Spans that take long: where some item is long, none of the others may wait for it.

    given ─┬─ 2.5 times what it should take ─────────────────────────┬─▶ asked to yield
           └─ nobody knows: OVERDUE ─▶ a look ─┬─ an item is long ───┤          │ SETTLED
                                ▲              │                     │          ▼
                                │              │     others wait ────┘    what it has not begun
                                │              │          ▲               is given back, what it has
                                └──────────────┴─ _PAUSE ─┘               ended told from its tray

A worker looks for the order to yield before it begins each item. Once the order has settled, what
it has not begun by then it never will in this attempt; nobody need wait for it to say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from andon._core.events import Event, GivenBack
from andon._engines.local.frames import Frame
from andon._engines.local.timers import Timers
from andon._engines.local.worker_process import WorkerProcess
from andon._engines.port import Attempt

OVERDUE = 0.02  # seconds, at least
_TIMES = 2.5  # what a span should take
_LONG = 0.005  # seconds: an item that runs for less is not called long
_PAUSE = 0.1  # seconds, at most, between two looks: others may have come who want the worker
SETTLED = 0.002  # then whatever a worker has read or written before an order has been seen


class Overdue:
    """Watches the spans of one engine. `tell` takes frames that were found in a tray; `wanted`
    says whether others than this group wait for a worker."""

    def __init__(
        self,
        timers: Timers,
        tell: Callable[[WorkerProcess, list[Frame]], None],
        wanted: Callable[[int], bool],
    ) -> None:
        self._timers = timers
        self._tell = tell
        self._wanted = wanted
        self._given_back: list[Event] = []

    def watch(self, worker: WorkerProcess, attempt: Attempt) -> None:
        """The worker was given this attempt, of several items."""
        items, seconds = attempt.hi - attempt.lo, attempt.packed.seconds
        if seconds:
            after = max(OVERDUE, _TIMES * items * seconds)
            self._call(worker, partial(self._ask, worker, attempt, after), after)
        else:
            since = time.monotonic()
            self._call(worker, partial(self._look, worker, attempt, since), OVERDUE)

    def ask(self, worker: WorkerProcess, attempt: Attempt) -> None:
        """Have it begin no more than it has, and say where it is, soon."""
        if worker.watch is not None:
            worker.watch.cancel()
        self._ask(worker, attempt, SETTLED)

    def given_back(self) -> list[Event]:
        """What is to be told behind the answers for what was begun."""
        events, self._given_back = self._given_back, []
        return events

    def _look(
        self, worker: WorkerProcess, attempt: Attempt, since: float, again: bool = False
    ) -> None:
        """Nobody knew how long its items take. Is one of them long, or are there only many?"""
        wanted = again and self._wanted(attempt.group.id)
        if not wanted and worker.attempt is attempt and worker.begun and worker.row.started_ns:
            began, at = worker.row.started_ns / 1e9, worker.row.index
            seconds = (began - since) / max(1, at - attempt.lo)  # of those that are over
            if at > attempt.lo and time.monotonic() - began <= max(_LONG, _TIMES * seconds):
                after = min(max(OVERDUE, _TIMES * (attempt.hi - at) * seconds), _PAUSE)
                self._call(worker, partial(self._look, worker, attempt, since, True), after)
                return
        self._ask(worker, attempt, OVERDUE)

    def _ask(self, worker: WorkerProcess, attempt: Attempt, after: float) -> None:
        if worker.attempt is not attempt or worker.dead_at is not None:
            return
        if worker.begun and worker.row.started_ns:
            worker.ask_to_yield(attempt)
            self._call(worker, partial(self._take_back, worker, attempt), SETTLED)
        else:  # the first item is there to be run, however long its arguments take
            self._call(worker, partial(self._ask, worker, attempt, 2 * after), 2 * after)

    def _take_back(self, worker: WorkerProcess, attempt: Attempt) -> None:
        if worker.attempt is not attempt or worker.dead_at is not None or worker.last_read:
            return
        at = worker.row.index
        if not worker.begun or not attempt.lo <= at < attempt.hi:
            return
        frames = worker.unsent()
        if frames and frames[0][3][0] > worker.next_index:
            # What it had sent before has come since we looked at its pipe, and is read first.
            self._call(worker, partial(self._take_back, worker, attempt), SETTLED)
            return
        if frames:
            self._tell(worker, frames)
        attempt.hi = at + 1
        self._given_back.append(GivenBack(attempt.id, attempt.hi))

    def _call(self, worker: WorkerProcess, call: Callable[[], None], after: float) -> None:
        worker.watch = self._timers.at(time.monotonic() + after, call)
