"""Which workers there are: slots, their workers, successors in advance, and respawns.

Invariants
 1. A slot's worker is replaced only when it and its whole tree are gone (S22). A spare may boot
    before, but gets a slot, and with it the initializer, only then (S51).
 2. There are never more slots than the pool's workers, nor more spares than doomed workers were.
 3. Every death that nobody ordered and no task answers for, and every start that fails, is noted
    in its slot's budget; one too many ends the pool (S42). But where only starts fail, and other
    workers are there, these go on, and the slot is tried again while work waits.
 4. Every method is called under the engine's lock, and none blocks.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from andon import _board, _wire
from andon._engines.local import postmortem
from andon._engines.local.lives import Lives
from andon._engines.local.respawn import WINDOW, Budget
from andon._engines.local.store import Store
from andon._engines.local.system import Poller
from andon._engines.local.timers import Timer, Timers
from andon._engines.local.worker_process import State, WorkerProcess
from andon._engines.port import Config
from andon._traceback import show
from andon._words import as_text
from andon.errors import InitializerError, PoolBrokenError, RemoteTraceback

# A pool whose workers were stopped is most often closed next, or given work next. Only if neither
# comes at once are its workers replaced in advance.
# A start that collides with the deaths that it prepares for holds those up; a task that unwinds in
# this time needs no successor in advance.
REPLACE_AFTER = 0.015
SPARE_FOR = 5.0  # seconds that a spare is kept which nobody needs after all
AT_ONCE = max(2, os.cpu_count() or 1)  # workers that boot before the first has booted
BOOT_ALONE = 1.0  # seconds: a first worker that takes longer to boot holds up nobody
HEAD_START = 0.005  # seconds: a first task that comes later, or takes longer, holds up nobody
_TO_TELL = 0.0005  # seconds until who waits for its result has it
_PREPARING = (State.BOOTING, State.INITIALISING)


class Slot:
    """A place for one worker."""

    __slots__ = ("budget", "fill_at", "index", "worker")

    def __init__(self, index: int) -> None:
        self.index = index
        self.worker: WorkerProcess | None = None
        self.budget = Budget()
        self.fill_at = 0.0  # a start has failed: not before

    @property
    def is_promising(self) -> bool:
        """May a worker be started for it though no work waits?"""
        return self.fill_at == 0.0 or not self.budget.is_spent


class Crew(Lives):
    """The workers of one engine."""

    def __init__(
        self,
        config: Config,
        poller: Poller,
        timers: Timers,
        init_body: bytes | None,
        inherit: Mapping[int, Any],
        store: Store,
        *,
        demand: Callable[[], int],
        answered: Callable[[WorkerProcess], None],
        idle: Callable[[WorkerProcess], None],
        ended: Callable[[WorkerProcess, str], None],
        broke: Callable[[str, PoolBrokenError], None],
    ) -> None:
        super().__init__(
            config, poller, timers, inherit, store, answered=answered, ended=ended, broke=broke
        )
        self._init_body = init_body
        self._demand = demand  # attempts that wait for a worker
        self._idle = idle  # a worker is free
        self._fill_timer: Timer | None = None
        self._spares_timer: Timer | None = None
        self._vacant: list[Slot] = []
        self._cut_short = False  # more were to be started than may boot at once
        self._head_start = 0.0  # until when those wait for the first task (0: none has booted)
        self.slots: list[Slot] = []
        self.spares: list[WorkerProcess] = []
        self.dismissed = False  # who leaves is replaced only when work comes

    # Slots ---------------------------------------------------------------------------------------

    def grow(self, count: int) -> None:
        """Have at least this many slots, as the pool's workers allow."""
        while len(self.slots) < min(count, self._config.workers):
            slot = Slot(len(self.slots))
            self.slots.append(slot)
            self._vacant.append(slot)

    @property
    def changes(self) -> bool:
        """Is there somebody to bury, or a slot to fill? Safe without the lock."""
        return bool(self._past or self._vacant)

    def staff(self, now: float, *, eager: bool = False) -> None:
        """Fill vacant slots: with spares, or with new workers where work waits (or `eager`)."""
        wanted = self._demand()
        if self.closing or (self.dismissed and not wanted):
            return
        if wanted:
            coming = len(self._vacant) + sum(
                s.worker is not None and s.worker.state in _PREPARING
                for s in self.slots
            )
            if wanted > coming:
                self.grow(len(self.slots) + wanted - coming)
        held_back, self._cut_short = self._cut_short, False
        eager = eager or held_back
        if not self._vacant:
            return
        later: list[Slot] = []
        room = self._room(now, head_start=held_back and not wanted)
        for slot in self._vacant:
            if self.spares:
                self._seat(self.spares.pop(0), slot)
            elif not (wanted > 0 or (eager and slot.is_promising)) or now < slot.fill_at:
                later.append(slot)
            elif room <= 0:
                later.append(slot)
                self._cut_short = eager
            elif self._launch(slot):
                room -= 1
            else:
                later.append(slot)
        self._vacant = later
        if not wanted:
            later = [slot for slot in later if slot.is_promising]
        if later:
            soonest = self._head_start if self._head_start > now else now + REPLACE_AFTER
            at = max(soonest, min(slot.fill_at for slot in later))
            if self._fill_timer is None or self._fill_timer.at > at:
                if self._fill_timer is not None:
                    self._fill_timer.cancel()
                self._fill_timer = self._timers.at(at, self._fill)

    def _room(self, now: float, *, head_start: bool) -> float:
        """How many may be started now: until one has booted, only as many as there are CPUs, so
        that the first is there soon. The last is there no later. And none during its head start."""
        room: float = AT_ONCE
        for worker in self.workers.values():
            if worker.state is not State.BOOTING or now - worker.made_at >= BOOT_ALONE:
                return 0 if head_start and now < self._head_start_ends(now) else math.inf
            room -= 1
        return room

    def _head_start_ends(self, now: float) -> float:
        """The first worker has booted, and no task waits for another. The first one to come has the
        cores to itself, for a moment: to start the others takes them for much longer."""
        if not self._head_start:
            self._head_start = now + HEAD_START
        elif any(worker.items_done for worker in self.workers.values()):
            self._head_start = min(self._head_start, now + _TO_TELL)
        return self._head_start

    def _fill(self) -> None:
        self._fill_timer = None
        self.staff(time.monotonic(), eager=True)

    def _seat(self, worker: WorkerProcess, slot: Slot) -> None:
        slot.worker, worker.slot = worker, slot
        if worker.state is State.SPARE:
            self._begin(worker)

    def _vacate(self, worker: WorkerProcess) -> None:
        if worker.slot is not None:
            worker.slot.worker = None
            self._vacant.append(worker.slot)
            worker.slot = None
        elif worker in self.spares:
            self.spares.remove(worker)

    def _free(self, worker: WorkerProcess) -> None:
        worker.state = State.IDLE
        self._idle(worker)

    # Spares --------------------------------------------------------------------------------------

    def doom(self, worker: WorkerProcess) -> None:
        """This one will not be used again: prepare its successor, if it takes a while."""
        worker.doomed = True
        if self._spares_timer is None:
            self._spares_timer = self._timers.at(
                time.monotonic() + REPLACE_AFTER, self._prepare_spares
            )

    def _prepare_spares(self) -> None:
        self._spares_timer = None
        missing = sum(w.doomed for w in self.workers.values()) - len(self.spares)
        for _ in range(missing):
            if not self._launch(None):
                return

    def spared(self) -> None:
        """A worker survived after all; so a spare may be one too many."""
        if self.spares:
            self._timers.at(time.monotonic() + SPARE_FOR, self._trim)

    def _trim(self) -> None:
        surplus = len(self.spares) - sum(w.doomed for w in self.workers.values())
        for worker in [w for w in self.spares if w.state is State.SPARE][: max(0, surplus)]:
            self.spares.remove(worker)
            self.retire(worker)

    # Births, and how workers prepare -------------------------------------------------------------

    def _launch(self, slot: Slot | None) -> bool:
        """Start a worker for this slot, or as a spare; False where that failed, or is to wait."""
        if self.closing or not self._can_start():
            return False
        try:
            worker = self._start()
        except Exception as exc:
            self._start_failed(slot, str(exc) or repr(exc))
            return False
        if slot is None:
            self.spares.append(worker)
        else:
            slot.worker, worker.slot = worker, slot
        return True

    def _not_born(self, worker: WorkerProcess, why: str) -> None:
        slot = worker.slot
        self._vacate(worker)
        self._start_failed(slot, why)

    def _start_failed(self, slot: Slot | None, why: str) -> None:
        if slot is None or self.closing:
            return
        now = time.monotonic()
        if self._config.start_method == "fork" and self._link is not None and self._link.lost:
            self._break(f"no worker can be started: {why}")
        elif slot.budget.note(now) and not self._has_workers():
            self._break(f"no worker could be started, in {slot.budget.tries} tries: {why}")
        else:
            slot.fill_at = now + slot.budget.wait()

    def _has_workers(self) -> bool:
        workers = [slot.worker for slot in self.slots]
        there = State.INITIALISING, State.IDLE, State.BUSY
        return any(w is not None and w.state in there for w in workers)

    def ready(self, worker: WorkerProcess) -> None:
        """It has booted."""
        if worker.state is not State.BOOTING:
            return
        if worker.slot is None:
            worker.state = State.SPARE
            return
        worker.slot.budget.started()
        self._begin(worker)

    def _begin(self, worker: WorkerProcess) -> None:
        """Booted and in a slot: initialise, or work."""
        if self._init_body is None:
            self._free(worker)
        else:
            worker.state = State.INITIALISING
            self.send(worker, _wire.INIT, (), self._init_body)

    def preparing(self) -> bool:
        """Has a worker in a slot the initializer still to run? Safe without the lock."""
        if self._init_body is None or self.closing:
            return False
        workers = [slot.worker for slot in self.slots]
        return self._cut_short or any(w is not None and w.state in _PREPARING for w in workers)

    def leaving(self) -> bool:
        """Are some under way, having been asked to, and not in vain? Safe without the lock."""
        workers = [slot.worker for slot in self.slots]
        return not self.closing and any(
            w is not None and w.state is State.LEAVING and w.timer is not None for w in workers
        )

    def initialised(self, worker: WorkerProcess) -> None:
        """Its initializer has returned."""
        if worker.state is State.INITIALISING:
            self._free(worker)

    def not_initialised(self, worker: WorkerProcess, meta: Any) -> None:
        """Its initializer has raised, and would again (S42)."""
        kind, text, trace = meta
        worker.expected = True
        told = as_text(kind, text)
        message = f"the initializer raised {told}"
        error = InitializerError(message, original=told)
        error.__cause__ = RemoteTraceback(partial(show, trace))
        self._break(message, error)

    # Deaths --------------------------------------------------------------------------------------

    def _departed(self, worker: WorkerProcess, hint: str, *, unasked: bool) -> None:
        slot = worker.slot
        self._vacate(worker)
        if not unasked or slot is None or self.closing:
            return
        if slot.budget.note(worker.dead_at or time.monotonic()):
            phase = worker.row.phase
            told = postmortem.tell(worker, None if phase == _board.IDLE else phase, hint)
            times = f"{slot.budget.tries} times in {WINDOW:.0f} s, with no task to blame"
            self._break(f"workers die again and again ({times}): {told}")
