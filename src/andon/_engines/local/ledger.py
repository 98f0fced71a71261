"""What the workers of one engine have said, and what becomes of it.

    a worker's pipe, or its tray ── collect, fresh ──▶ frames ── take ──▶ out: frames and events
                                                                 │
                                                                 └──▶ the worker: idle, spent, gone

Every method is called under the engine's lock, and none blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from andon import _wire
from andon._core.events import AttemptEnded, Event
from andon._engines.local import postmortem
from andon._engines.local.crew import Crew
from andon._engines.local.frames import Frame
from andon._engines.local.ladder import Step
from andon._engines.local.lone import Lone
from andon._engines.local.system import Poller
from andon._engines.local.timers import Timers
from andon._engines.local.worker_process import State, WorkerProcess
from andon._engines.payloads import Told

LEAVE_WITHIN = 2.0  # seconds, for a worker that has unwound, or was asked to leave

_GARBLED = ", since a task has written into the pipe of its answers"
_OF_ATTEMPTS = range(_wire.VALUE, _wire.VALUES + 1)
# Where nobody has heard the bell: a task may have closed it.
_TELLS_OF_A_WORD = (_wire.FAILURE, _wire.STOPPED)


class Ledger:
    """`crew` is to be set before anything is read. Workers that are free go to `free`; those that
    die leave `idle`, the engine's list of them."""

    crew: Crew

    def __init__(
        self,
        poller: Poller,
        timers: Timers,
        lone: Lone,
        idle: list[WorkerProcess],
        free: Callable[[WorkerProcess], None],
        max_tasks: int | None,
    ) -> None:
        self.out: list[Frame | Event] = []
        self.rang = False  # a word may have been pulled
        self.read: list[WorkerProcess] = []  # have fresh frames
        self.spent: list[WorkerProcess] = []  # are to be told to leave
        self._poller = poller
        self._timers = timers
        self._lone = lone
        self._idle = idle
        self._free = free
        self._max_tasks = max_tasks

    # Reading -------------------------------------------------------------------------------------

    def collect(self, worker: WorkerProcess) -> None:
        """A worker has written, or died."""
        if worker.dead_at is None:
            frames = worker.reader.read()
        else:
            frames = worker.reader.drain() + worker.unsent()
            if worker in self._idle:
                self._idle.remove(worker)
            if worker.attempt is not None or not worker.expected:
                self.rang = True  # it may have pulled a word before it died
        if frames:
            self.fresh(worker, frames)
        if worker.reader.broken:  # a task wrote into our pipe
            self.crew.kill(worker, _GARBLED)

    def fresh(self, worker: WorkerProcess, frames: list[Frame]) -> None:
        """These are its answers, from its pipe or its tray."""
        if not worker.fresh:
            self.read.append(worker)
        worker.fresh += frames
        attempt = worker.attempt
        for kind, flags, _, _, _ in frames:
            if flags & _wire.LAST:
                worker.last_read = True
            if kind in _TELLS_OF_A_WORD and (attempt is None or not attempt.group.stopping):
                self.rang = True  # else that is known

    # Taking note ---------------------------------------------------------------------------------

    def take(self) -> None:
        """Of all that was read."""
        while self.read:
            self._take_from(self.read.pop(0))

    def _take_from(self, worker: WorkerProcess) -> None:
        frames, worker.fresh = worker.fresh, []
        worker.last_read = False
        for frame in frames:
            try:
                self._take(worker, frame)
            except (TypeError, ValueError, IndexError):  # no frame of ours: a task wrote it
                worker.reader.closed = True
                self._poller.remove(worker.reader.fd)
                self.crew.kill(worker, _GARBLED)
                return

    def _take(self, worker: WorkerProcess, frame: Frame) -> None:
        kind, flags, ident, meta, body = frame
        if kind not in _OF_ATTEMPTS:
            self._take_other(worker, frame)
        elif worker.attempt is not None and worker.attempt.id == ident:
            if kind != _wire.DONE:
                index, count = int(meta[0]), int(meta[3]) if kind == _wire.VALUES else 1
                known = worker.next_index - index
                if known < 0 or (0 < known < count and kind != _wire.VALUES):
                    raise ValueError(f"item {index} is told of before {worker.next_index}")
                if count <= known:  # found in its tray before: that it is the last may be news
                    kind = _wire.DONE
                    frame = kind, flags, ident, (), b""
                else:
                    worker.next_index = index + count
                    if known:
                        frame = kind, flags, ident, (*meta, known), body
            if flags & _wire.RETIRING:
                self._leaves(worker, frame)
                return
            if kind != _wire.DONE:
                self.out.append(frame)
            if flags & _wire.LAST:
                self._finished(worker, spent=bool(flags & _wire.SPENT))

    def _take_other(self, worker: WorkerProcess, frame: Frame) -> None:
        kind, _, ident, meta, body = frame
        if kind == _wire.READY:
            self.crew.ready(worker)
        elif kind == _wire.INITED:
            self.crew.initialised(worker)
        elif kind == _wire.INITFAIL:
            self.crew.not_initialised(worker, meta)
        else:
            self.out.append(Told(kind, ident, int(meta[0]), bytes(body or b""), worker.row))

    def _finished(self, worker: WorkerProcess, *, spent: bool) -> None:
        """Its attempt is over, and it is there for the next; or it is `spent` (S51): nothing of the
        task is left, and it may go by itself (S5)."""
        attempt = worker.attempt
        assert attempt is not None
        self.out.append(AttemptEnded(attempt.id))
        worker.attempt = None
        self._lone.over()
        worker.items_done += worker.next_index - attempt.lo
        worker.cancel_timers()
        worker.ladder = None
        if worker.killed or worker.dead_at is not None or worker.reader.closed:
            return  # our kill is on its way, or it has hung up
        limit = self._max_tasks
        if spent or (limit is not None and worker.items_done >= limit):
            worker.state = State.LEAVING
            worker.expected = True
            self.spent.append(worker)
            self._bound_leaving(worker)
            self.crew.doom(worker)
            return
        if worker.doomed:
            worker.doomed = False
            self.crew.spared()
        worker.state = State.IDLE
        self._free(worker)

    def _leaves(self, worker: WorkerProcess, frame: Frame) -> None:
        """It has answered and exits, and what its task has left behind goes with it: told when all
        that is gone (S5, S20)."""
        worker.held = frame if frame[0] != _wire.DONE else None
        worker.final = worker.expected = True
        worker.state = State.LEAVING
        worker.cancel_timers()
        self.crew.doom(worker)
        self._bound_leaving(worker)

    def dismiss_spent(self) -> None:
        """Those that are to go are told so."""
        while self.spent:
            worker = self.spent.pop()
            if worker.serial in self.crew.workers:  # else it has died, and is buried
                self.crew.retire(worker)

    def retire(self, worker: WorkerProcess) -> None:
        """Ask it to leave. What it has put into queues may take what it takes to go out."""
        self.crew.retire(worker)
        self._bound_leaving(worker)

    def _bound_leaving(self, worker: WorkerProcess) -> None:
        at = time.monotonic() + LEAVE_WITHIN
        worker.timer = self._timers.at(at, partial(self._overstays, worker))

    def _overstays(self, worker: WorkerProcess) -> None:
        worker.timer = None
        if worker.flushes:
            self._bound_leaving(worker)
        else:
            self.crew.kill(worker)

    def ended(self, worker: WorkerProcess, hint: str) -> None:
        """It is gone (the crew says so): what becomes of its attempt?"""
        if worker.fresh:
            self._take_from(worker)
        if worker in self.read:
            self.read.remove(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        attempt, worker.state = worker.attempt, State.LEAVING
        if attempt is None:
            return
        self._lone.over()
        if worker.final:
            if worker.held is not None:
                self.out.append(worker.held)
            self.out.append(AttemptEnded(attempt.id))
        else:
            asked = worker.ladder is not None and worker.ladder.step >= Step.DUMP
            ordered = (worker.killed or asked) and postmortem.by_our_kill(
                worker.exitcode, asked=asked
            )
            self.out += postmortem.died(worker, time.monotonic(), ordered, hint)
