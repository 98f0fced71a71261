"""Workers on the stop ladder: the steps that are due are taken, and the next ones timed.

    stop ──▶ Ladder (ladder.py: which step is due when) ──▶ an order on the row, a signal, a dump,
                         ▲                                  a kill
                         └── timer, or the dump has come
"""

from __future__ import annotations

import math
import time
from functools import partial

from andon._board import KIND_FAILURE
from andon._engines.local import system
from andon._engines.local.crew import Crew
from andon._engines.local.ladder import Ladder, Step
from andon._engines.local.timers import Timers
from andon._engines.local.worker_process import State, WorkerProcess
from andon._engines.port import Attempt
from andon._worker import children

# Before each item of a lane the word is looked at, and most are over in microseconds. An interrupt
# would stop them no sooner, and cost the worker.
IN_LANE = 0.002
# At least, for a worker that has pulled the cord to tell the whole story of its failure; longer
# where the group has more time for its ladder.
TELL_WITHIN = 2.0
_UNTOLD = (
    ": the task had failed, and stopped its group, but its error took too long to come; the reason "
    "of the group says what it was"
)


class Climber:
    """One engine's. `reuse`: who was interrupted is used again (S51)."""

    def __init__(
        self, crew: Crew, poller: system.Poller, timers: Timers, *, reuse: bool
    ) -> None:
        self._crew = crew
        self._poller = poller
        self._timers = timers
        self._reuse = reuse

    def stop(self, worker: WorkerProcess, now: float, grace: float, kill_after: float) -> None:
        """Stop what it is at, or stop that sooner than it was to be (S9)."""
        attempt = worker.attempt
        if attempt is None or worker.last_read or worker.dead_at is not None:
            return
        if worker.state is State.LEAVING:
            if grace + kill_after == 0:
                self._crew.kill(worker)
            return
        if worker.ladder is None and _tells(worker, attempt):
            # It is what stops the group, and its error is on the way, however brutal the stop.
            at = now + max(TELL_WITHIN, grace + kill_after)
            if worker.timer is None or at < worker.timer.at:
                if worker.timer is not None:
                    worker.timer.cancel()
                worker.timer = self._timers.at(at, partial(self._silence, worker))
            return
        if worker.ladder is None:
            moment = IN_LANE if worker.begun and worker.row.in_lane else 0.0
            worker.ladder = Ladder(now, grace, kill_after, moment)
            worker.order(attempt, int(Step.TOKEN))
        else:
            worker.ladder.harden(now, grace, kill_after)
        self._climb(worker, now)

    def _climb(self, worker: WorkerProcess, now: float) -> None:
        """Take the steps that are due; ask again when the next may be."""
        ladder, attempt = worker.ladder, worker.attempt
        if ladder is None or attempt is None or worker.dead_at is not None:
            return
        used, shield = worker.token_use
        if ladder.step is Step.DUMP and now >= ladder.next_at(used, shield):
            if _is_cut(worker.stack) and worker.pid is not None and children.wants_core(worker.pid):
                ladder.dump_waits(now)
        while (at := ladder.next_at(used, shield)) <= now:
            step = ladder.due(now, used, shield)
            if step is Step.INTERRUPT:
                worker.order(attempt, int(step))
                worker.interrupt()
                if not worker.doomed and not self._reuse:
                    self._crew.doom(worker)
            elif step is Step.DUMP:
                worker.read_stack()
                worker.stack.clear()  # of a dump that came too late
                worker.ask_for_stack()
                self._poller.add(worker.stack_fd, partial(self._dumped, worker), edge=True)
                self._crew.doom(worker)
            elif step is Step.KILL:
                worker.killed = True
                self._crew.kill(worker)
        worker.cancel_timers()
        if at != math.inf:
            worker.timer = self._timers.at(at, partial(self._climb_on, worker))

    def _climb_on(self, worker: WorkerProcess) -> None:
        self._climb(worker, time.monotonic())

    def _dumped(self, worker: WorkerProcess) -> None:
        if worker.serial in self._crew.workers and worker.read_stack():
            if worker.ladder is not None:
                worker.ladder.dump_came(time.monotonic())
                self._climb_on(worker)

    def _silence(self, worker: WorkerProcess) -> None:
        worker.killed = True
        self._crew.kill(worker, _UNTOLD)


def _is_cut(stack: bytearray) -> bool:
    """Has no frame come yet, or half a line?"""
    return not stack.endswith(b"\n") or stack.endswith(b":\n")  # "Thread 0x… (most recent …):"


def _tells(worker: WorkerProcess, attempt: Attempt) -> bool:
    """Has this very worker pulled its group's word, since its task failed (S11)?"""
    return attempt.group.token._puller() == (KIND_FAILURE, worker.row_number)
