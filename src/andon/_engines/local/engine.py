"""The local engine: worker processes on this machine, behind the port's six methods.

    submit ──▶ idle worker's pipe, or the queue          (the calling thread, under the lock)
    stop   ──▶ orders on the board, signals              (the calling thread, under the lock)
    pump   ──▶ wait │ read │ (let them tell, Rang) │ take note, ladders, dispatch
                      lock                           lock
                    │ unpickle │ post │ bury, staff, where there is cause
                                        lock

Invariants
 1. Where what was read may follow from a word that was pulled, it is taken note of only after
    `Rang` has been posted: whoever pulled it is still seen with its attempt when the runtime looks
    (S11).
 2. An attempt's last answer is posted when its worker is idle again, or gone (S5).
 3. Victims get their signals inside `stop`, before anything else is done there.
 4. Nothing blocks, and no user code runs, under the lock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from andon._board import LONGEST, POLL_SECONDS, joined, own_board
from andon._board.row import RUNNING
from andon._core.events import AttemptEnded, Broke, Event, GivenBack
from andon._engines.cpus import cpu_count
from andon._engines.local import inbox, system
from andon._engines.local.climber import Climber
from andon._engines.local.crew import Crew
from andon._engines.local.frames import Frame
from andon._engines.local.handed_down import pack_initializer
from andon._engines.local.hunger import Hunger
from andon._engines.local.ledger import Ledger
from andon._engines.local.lone import Lone
from andon._engines.local.overdue import Overdue
from andon._engines.local.packing import Packer
from andon._engines.local.store import Store
from andon._engines.local.timers import Timers
from andon._engines.local.worker_process import State, WorkerProcess
from andon._engines.payloads import Rang
from andon._engines.port import Attempt, Capabilities, Config, Row
from andon._pickling import foresee, take_main
from andon._worker import linger
from andon.errors import PoolBrokenError

RETIRE_WITHIN = 0.5  # for idle workers, when the pool closes


class LocalEngine:
    """One pool's engine. Making one has no effects; `open` starts it."""

    def __init__(self) -> None:
        self._queue: dict[int, Attempt] = {}  # in order
        # The one used last is used first: it is warm. The ledger's, too: the same list, always.
        self._idle: list[WorkerProcess] = []
        self._lone = Lone()
        self._deaf = False  # a board has no bell here: we look every POLL_SECONDS
        self._waiting = False
        self._wakes_at = math.inf  # while it waits: the next timer that it knows of
        self._opened = self._closing = self._broken = False

    # The port ------------------------------------------------------------------------------------

    def open(self, post: Callable[[list[Any]], None], config: Config) -> Capabilities:
        """Starts a template, and workers where `prestart` says so. Raises OSError where the system
        has no process or descriptor left, SerializationError for the initializer."""
        self._post = post
        self._config = config
        main: dict[str, Any] | None = {} if config.start_method == "fork" else None
        self._store = Store()
        try:
            self._packer = Packer(self._store, main)
            inherit: dict[int, Any] = {}
            init_body = pack_initializer(config, self._packer, inherit)
            self._poller = system.Poller()
        except BaseException:
            self._store.close()
            raise
        try:
            self._timers = Timers()
            self._ledger = Ledger(
                self._poller,
                self._timers,
                self._lone,
                self._idle,
                self._next,
                config.max_tasks_per_worker,
            )
            self._overdue = Overdue(self._timers, self._ledger.fresh, self._is_wanted)
            self._hunger = Hunger(self._timers, self._overdue.ask)
            self._crew = Crew(
                config,
                self._poller,
                self._timers,
                init_body,
                inherit,
                self._store,
                demand=self._queue.__len__,
                answered=self._ledger.collect,
                idle=self._next,
                ended=self._ledger.ended,
                broke=self._broke,
            )
            self._ledger.crew = self._crew
            self._climber = Climber(
                self._crew, self._poller, self._timers, reuse=config.reuse_interrupted
            )
            own_board()
            boards = joined()
            self._deaf = any(board.bell_fd < 0 for board in boards)
            for board in boards:
                if board.bell_fd >= 0:
                    self._poller.add(board.bell_fd, self._hear, edge=True)
            self._crew.connect(None if main is None else partial(take_main, main))
        except BaseException:
            self._poller.close()
            self._store.close()
            raise
        self._opened = True
        if config.prestart:
            self._crew.grow(config.workers)
            self._crew.staff(time.monotonic(), eager=True)
        return Capabilities(
            slots=config.workers,  # what waits, waits in the machine: there it can be cancelled
            can_kill=True,
            can_interrupt=True,
            token_latency=POLL_SECONDS if self._deaf else 0.0,
            pack=self._packer.pack,
            wake=self._poller.wake,
            weigh=Packer.weigh,
            # A worker that is to do so many tasks does no more of them.
            bundle=Packer.bundle if config.max_tasks_per_worker is None else None,
            pace=Packer.pace,
            cores=cpu_count(),
            freeze=self._packer.freeze,
            foresee=foresee,
            preparing=self._crew.preparing,
            dismiss=self._dismiss,
            leaving=self._crew.leaving,
            linger=self._lone.linger,
        )

    def submit(self, attempt: Attempt) -> None:
        """An idle worker gets it from this very thread."""
        if self._closing or self._broken:
            self._ledger.out.append(AttemptEnded(attempt.id))
            self._nudge()
            return
        while self._idle:
            worker = self._idle.pop()
            if not worker.expected:  # to die: its template is gone
                self._give(worker, attempt)
                if self._waiting and self._timers.next_at() < self._wakes_at:
                    self._nudge()
                return
        self._queue[attempt.id] = attempt
        self._crew.staff(time.monotonic())
        self._nudge()  # a worker may be late, and have timers

    def stop(
        self,
        group: int | None,
        attempt: int | None,
        grace: float,
        kill_after: float,
        *,
        soon: bool = False,
    ) -> list[int]:
        """Signals are sent here; the later steps are timers."""
        now = time.monotonic()
        for worker in self._crew.workers.values():
            a = worker.attempt
            if a is None or not (a.id == attempt or a.group.id == group):
                continue
            if soon:
                self._overdue.ask(worker, a)
            else:
                a.group.stopping = a.group.stopping or a.group.id == group
                self._climber.stop(worker, now, grace, kill_after)
        if attempt is not None and not soon:
            own_board().ring()
        gone = [a.id for a in self._queue.values() if a.id == attempt or a.group.id == group]
        for ident in gone:
            del self._queue[ident]
        self._nudge()
        return gone

    def look(self) -> list[Row]:
        """One row per live worker: also of one that is at work before the news of its birth, which
        comes by another way than its answers."""
        workers = self._crew.workers.values()
        return [_row(w, pid) for w in workers if (pid := w.pid or w.row.pid)]

    def at(self, row: int) -> tuple[int, int] | None:
        """It may have pulled its cord before the news of its birth, too."""
        for worker in self._crew.workers.values():
            attempt = worker.attempt
            if worker.row_number == row and attempt is not None:
                return attempt.id, _item(worker, attempt)
        return None

    def pump(self, timeout: float | None) -> None:
        """See the head of this file."""
        with self._config.lock:
            timeout = self._patience(timeout)
            self._waiting = timeout != 0
        handlers = self._lone.wait(self._poller, timeout)
        with self._config.lock:
            self._waiting = False
            for handle in handlers:
                handle()
            rang, self._ledger.rang = self._ledger.rang or self._deaf, False
            out = [] if rang else self._take_note()
        if rang:
            self._let_tell()
            self._post([Rang()])
            with self._config.lock:
                out = self._take_note()
        if out:
            self._post(inbox.decode(out))
        if self._queue or self._ledger.spent or self._crew.changes:
            with self._config.lock:  # somebody may wait for what was posted, for nothing of this
                self._crew.bury()
                self._ledger.dismiss_spent()
                self._crew.staff(time.monotonic())

    def close(self, within: float) -> Sequence[int]:
        """Idle workers are asked to leave, all others killed; what they were at is posted."""
        if not self._opened or self._closing:
            return []
        deadline = time.monotonic() + within
        crew = self._crew
        with self._config.lock:
            self._closing = crew.closing = True
            self._ledger.out += [AttemptEnded(ident) for ident in self._queue]
            self._queue.clear()
            self._idle.clear()
            crew.finish()
            for worker in crew.workers.values():
                if worker.state is State.IDLE:
                    crew.retire(worker)
                elif worker.state is not State.LEAVING or worker.attempt is not None:
                    worker.expected = worker.killed = True
                    crew.kill(worker)
            self._timers.at(
                time.monotonic() + min(RETIRE_WITHIN, within / 2), self._kill_all
            )
        while crew.workers and time.monotonic() < deadline:
            self.pump(deadline - time.monotonic())
        self.pump(0)
        with self._config.lock:
            self._opened = False
            self._store.close()
            left = crew.close(max(0.1, min(1.0, deadline - time.monotonic())))
            self._poller.close()
        return left

    def _dismiss(self) -> None:
        self._crew.dismissed = True
        while self._idle:
            self._ledger.retire(self._idle.pop())
        if self._waiting and self._timers.next_at() < self._wakes_at:
            self._nudge()  # of the bounds of their leaving

    # Waiting -------------------------------------------------------------------------------------

    def _patience(self, timeout: float | None) -> float | None:
        if self._ledger.out or self._ledger.read:
            return 0.0
        if self._idle and not self._queue:
            self._hunger.felt(self._idle)
        if self._deaf:
            timeout = POLL_SECONDS if timeout is None else min(timeout, POLL_SECONDS)
        self._wakes_at = at = self._timers.next_at()
        if at != math.inf:
            left = max(0.0, at - time.monotonic())
            timeout = left if timeout is None else min(timeout, left)
        return None if timeout is None else min(timeout, LONGEST)

    def _nudge(self) -> None:
        """There is news for `pump`, from another thread."""
        if self._waiting:
            self._waiting = False
            self._poller.wake()

    def _is_wanted(self, group: int) -> bool:
        """Does a task of another group wait for a worker, here or in the machine?"""
        here = any(attempt.group.id != group for attempt in self._queue.values())
        return here or self._config.wanted(group)

    def _hear(self) -> None:
        self._ledger.rang = True

    def _let_tell(self) -> None:
        """Have those tell what they have to whose word has woken us, perhaps on their own core: the
        one that has failed, and those that unwind. What they tell is then seen to all at once. Not
        where a task may need a signal of ours to stop."""
        with self._config.lock:
            if self._deaf or any(
                worker.begun and worker.row.phase == RUNNING and not worker.row.used
                for worker in self._crew.workers.values()
            ):
                return
        linger.give_way()
        handlers = self._poller.wait(0)
        with self._config.lock:
            for handle in handlers:
                handle()
            self._ledger.rang = False

    # Taking note ---------------------------------------------------------------------------------

    def _take_note(self) -> list[Frame | Event]:
        ledger = self._ledger
        ledger.take()
        self._crew.attend()
        self._timers.run(time.monotonic())
        ledger.take()  # of those whose death was found just now
        out, ledger.out = ledger.out + self._overdue.given_back(), []
        return out

    def _broke(self, message: str, error: PoolBrokenError) -> None:
        self._broken = True
        self._ledger.out.append(Broke(message, error))
        self._ledger.out += [AttemptEnded(ident) for ident in self._queue]
        self._queue.clear()

    # Dispatch ------------------------------------------------------------------------------------

    def _next(self, worker: WorkerProcess) -> None:
        """A worker is free."""
        if self._queue:
            ident = next(iter(self._queue))
            self._give(worker, self._queue.pop(ident))
        elif self._closing:
            self._crew.retire(worker)
        elif worker.known:
            self._idle.append(worker)
        else:
            self._idle.insert(0, worker)  # it has loaded no function yet, nor any module for one

    def _give(self, worker: WorkerProcess, attempt: Attempt) -> None:
        limit = self._config.max_tasks_per_worker
        if limit is not None and attempt.hi - attempt.lo > limit - worker.items_done:
            # None of its items is cancelled alone: with a limit, single calls travel alone.
            attempt.hi = attempt.lo + limit - worker.items_done
            self._ledger.out.append(GivenBack(attempt.id, attempt.hi))
            self._nudge()
        alone = not self._queue and len(self._crew.workers) == len(self._idle) + 1
        if not worker.give(attempt, self._lone.given(attempt, alone=alone)):
            self._crew.wait_for_room(worker)
        if attempt.hi - attempt.lo > 1:
            self._overdue.watch(worker, attempt)
        self._hunger.given(worker, attempt)

    def _kill_all(self) -> None:
        for worker in self._crew.workers.values():
            self._crew.kill(worker)


def _row(worker: WorkerProcess, pid: int) -> Row:
    row, attempt = worker.row, worker.attempt
    used, shield = worker.token_use
    return Row(
        row=worker.row_number,
        pid=pid,
        attempt=None if attempt is None else attempt.id,
        index=row.index if attempt is None else _item(worker, attempt),
        phase=row.phase_name,
        started_at=row.started_at if worker.begun else None,
        used_token=used,
        shield_until=shield,
        stopping=worker.ladder is not None,
    )


def _item(worker: WorkerProcess, attempt: Attempt) -> int:
    """Which one of its attempt it is at."""
    index = worker.row.index
    return index if attempt.lo <= index < attempt.hi else attempt.lo
