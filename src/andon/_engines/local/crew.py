"""Which workers there are: slots, their workers, successors in advance, and respawns.

Invariants
 1. A slot's worker is replaced only when it and its whole tree are gone (S22). A spare may boot
    before, but gets a slot, and with it the initializer, only then (S51).
 2. There are never more slots than the pool's workers, nor more spares than doomed workers were.
 3. Every death that nobody ordered and no task answers for, and every start that fails, is noted
    in its slot's budget; one too many ends the pool (S42).
 4. Every method is called under the engine's lock, and none blocks.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from andon import _board, _wire
from andon._board import Board, joined, own_board
from andon._engines.local import postmortem, system
from andon._engines.local.respawn import WINDOW, Budget
from andon._engines.local.store import Store
from andon._engines.local.system import Hold, Launcher, Poller
from andon._engines.local.timers import Timer, Timers
from andon._engines.local.worker_process import State, WorkerProcess
from andon._engines.port import Config
from andon._traceback import show
from andon._worker import records, warned
from andon._worker.state import current
from andon.errors import InitializerError, PoolBrokenError, RemoteTraceback

# A pool whose workers were stopped is most often closed next, or given work next. Only if neither
# comes at once are its workers replaced in advance.
# A start that collides with the deaths that it prepares for holds those up; a task that unwinds in
# this time needs no successor in advance.
REPLACE_AFTER = 0.015
SPARE_FOR = 5.0  # seconds that a spare is kept which nobody needs after all
EXIT_WITHIN = 2.0  # for the template to tell of a death that we see, or that it still dies
STARVED_WITHIN = 40.0  # the same, where it gets no core: more than the template itself waits
BIRTH_WITHIN = 30.0  # for the template to start a worker, on a very busy machine
HANG_UP_WITHIN = 1.0  # for a worker to die that has closed its answers
AT_ONCE = max(2, os.cpu_count() or 1)  # workers that boot before the first has booted
BOOT_ALONE = 1.0  # seconds: a first worker that takes longer to boot holds up nobody
_PREPARING = (State.BOOTING, State.INITIALISING)


class Slot:
    """A place for one worker."""

    __slots__ = ("budget", "fill_at", "index", "worker")

    def __init__(self, index: int) -> None:
        self.index = index
        self.worker: WorkerProcess | None = None
        self.budget = Budget()
        self.fill_at = 0.0  # a start has failed: not before


class Crew:
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
        self._config = config
        self._poller = poller
        self._timers = timers
        self._init_body = init_body
        self._inherit = inherit
        self._store = store
        self._demand = demand  # attempts that wait for a worker
        self._answered = answered  # there is something to read
        self._idle = idle  # a worker is free
        self._ended = ended  # a worker is gone; with a hint why
        self._broke = broke
        self._board: Board = own_board()
        self._oom_before = postmortem.oom_kills()
        self._messages: list[tuple[Any, ...]] = []
        self._past: list[WorkerProcess] = []  # gone; to be buried once all is told
        self._fill_timer: Timer | None = None
        self._spares_timer: Timer | None = None
        self._vacant: list[Slot] = []
        self._cut_short = False  # more were to be started than may boot at once
        self._losses = Budget()  # of templates
        self._link: Launcher | None = None
        self.workers: dict[int, WorkerProcess] = {}
        self.slots: list[Slot] = []
        self.spares: list[WorkerProcess] = []
        self.leftover: set[int] = set()  # pids that would not die
        self.dismissed = False  # who leaves is replaced only when work comes
        self.closing = False

    def connect(self, before_fork: Callable[[], None] | None = None) -> None:
        """Have a template; raises OSError."""
        self._link = system.connect(self._config.start_method, self._inherit, before_fork)
        self._link.attach(self._poller, self._timers, self._news)

    # Slots ---------------------------------------------------------------------------------------

    def grow(self, count: int) -> None:
        """Have at least this many slots, as the pool's workers allow."""
        while len(self.slots) < min(count, self._config.workers):
            slot = Slot(len(self.slots))
            self.slots.append(slot)
            self._vacant.append(slot)

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
        eager, self._cut_short = eager or self._cut_short, False
        if not self._vacant:
            return
        later: list[Slot] = []
        room = self._room(now)
        for slot in self._vacant:
            if self.spares:
                self._seat(self.spares.pop(0), slot)
            elif not (wanted > 0 or eager) or now < slot.fill_at:
                later.append(slot)
            elif room <= 0:
                later.append(slot)
                self._cut_short = eager
            elif self._launch(slot):
                room -= 1
            else:
                later.append(slot)
        self._vacant = later
        if later:
            at = max(now + REPLACE_AFTER, min(slot.fill_at for slot in later))
            if self._fill_timer is None or self._fill_timer.at > at:
                if self._fill_timer is not None:
                    self._fill_timer.cancel()
                self._fill_timer = self._timers.at(at, self._fill)

    def _room(self, now: float) -> float:
        """How many may be started now: until one has booted, only as many as there are CPUs, so
        that the first is there soon. The last is there no later."""
        room: float = AT_ONCE
        for worker in self.workers.values():
            if worker.state is not State.BOOTING or now - worker.made_at >= BOOT_ALONE:
                return math.inf
            room -= 1
        return room

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

    # Births --------------------------------------------------------------------------------------

    def _launch(self, slot: Slot | None) -> bool:
        """Start a worker for this slot, or as a spare; False where that failed."""
        if self.closing:
            return False
        worker = None
        try:
            link = self._link
            if link is None or link.lost:
                self._reconnect()
                link = self._link
                assert link is not None
            worker = WorkerProcess(self._board, self._poller)
            boards = [self._board, *(b for b in joined() if b is not self._board)]
            fds = [fd for board in boards for fd in (board.mem_fd, board.bell_fd)]
            fds += [self._store.fd, worker.results]
            self._poller.add(worker.reader.fd, partial(self._read, worker))
            self.workers[worker.serial] = worker
            self.send(worker, _wire.BOOT, (self._settings(worker, boards),))
            mine, worker.only_theirs, worker.link = worker.only_theirs, [], link
            link.launch(worker.serial, worker.theirs + fds, mine)
            at = time.monotonic() + BIRTH_WITHIN
            worker.bound = self._timers.at(at, partial(self._overdue, worker))
        except Exception as exc:
            if worker is not None:
                self._discard(worker)
            self._start_failed(slot, str(exc) or repr(exc))
            return False
        if slot is None:
            self.spares.append(worker)
        else:
            slot.worker, worker.slot = worker, slot
        return True

    def _reconnect(self) -> None:
        if self._config.start_method == "fork":
            # A fork here and now would inherit locks of threads that run; and what the user's
            # program held when the pool was opened is not there any more.
            raise RuntimeError("the process that forks this pool's workers is gone")
        if self._link is not None:
            self._link.close()
            self._link = None
        self.connect()

    def _settings(self, worker: WorkerProcess, boards: list[Board]) -> dict[str, Any]:
        try:
            cwd = os.getcwd()
        except OSError:
            cwd = ""
        return {
            "sys_path": [p for p in sys.path if type(p) is str],
            "cwd": cwd,
            "environ": _environment(self._config.env),
            "warnings": warned.filters(),
            "logging": records.snapshot(),
            "argv": [str(arg) for arg in sys.argv],
            "row": worker.row_number,
            "boards": [board.ident for board in boards],
            "level": current.level + 1,
            "start_method": self._config.start_method,
            "reuse_interrupted": self._config.reuse_interrupted,
        }

    def _start_failed(self, slot: Slot | None, why: str) -> None:
        if slot is None or self.closing:
            return
        now = time.monotonic()
        if self._config.start_method == "fork" and self._link is not None and self._link.lost:
            self._break(f"no worker can be started: {why}")
        elif slot.budget.note(now):
            self._break(f"no worker could be started, in {slot.budget.tries} tries: {why}")
        else:
            slot.fill_at = now + slot.budget.wait()

    def _break(self, message: str, error: PoolBrokenError | None = None) -> None:
        if not self.closing:
            self.closing = True
            self._broke(message, error or PoolBrokenError(message))

    # What comes from workers and the template ----------------------------------------------------
    # Read first; taken note of later (`attend`), when it has been told that a word was pulled.

    def _read(self, worker: WorkerProcess) -> None:
        if worker.serial not in self.workers:
            return
        self._answered(worker)
        if worker.reader.closed:
            self._poller.remove(worker.reader.fd)
            self._hung_up(worker)

    def _hung_up(self, worker: WorkerProcess) -> None:
        """It has closed its answers: most likely it is dying."""
        if worker.dead_at is None and worker.bound is None:
            at = time.monotonic() + HANG_UP_WITHIN
            worker.bound = self._timers.at(at, partial(self.kill, worker))

    def _news(self) -> None:
        link = self._link
        if link is None:
            return
        for message, hold in link.receive():
            self._messages.append((*message, hold) if message[0] == "born" else message)
            if message[0] == "exit" and message[1] in self.workers:
                self._see_death(self.workers[message[1]])
        if link.lost:
            self._messages.append(("lost",))

    def _see_death(self, worker: WorkerProcess) -> None:
        """It is dead: all that it has ever written is there to be read (S27)."""
        if worker.dead_at is not None or worker.serial not in self.workers:
            return
        worker.dead_at = time.monotonic()
        if worker.hold is not None:
            worker.hold.unwatch(self._poller)
        self._answered(worker)
        worker.read_stack()
        self._poller.remove(worker.reader.fd)
        told = worker.link is not None and not worker.link.lost
        self._bound_its_end(worker, EXIT_WITHIN if told else 0)

    def _bound_its_end(self, worker: WorkerProcess, within: float) -> None:
        if worker.bound is not None:
            worker.bound.cancel()
        worker.bound = self._timers.at(time.monotonic() + within, partial(self._untold, worker))

    def _untold(self, worker: WorkerProcess) -> None:
        """The template has not told of its end: it hangs, unless it only has no core."""
        if worker.dead_at is not None and worker.link is not None and worker.link.starves():
            if time.monotonic() < worker.dead_at + STARVED_WITHIN:
                self._bound_its_end(worker, EXIT_WITHIN)
                return
        self._gone(worker, None, ())

    def attend(self) -> None:
        """Take note of what the template has told."""
        messages, self._messages = self._messages, []
        for message in messages:
            if message[0] == "lost":
                self._lost()
                continue
            worker = self.workers.get(message[1])
            if message[0] == "born":
                self._born(worker, message[2], message[3])
            elif worker is None:
                continue
            elif message[0] == "failed":
                self._discard(worker)
                slot = worker.slot
                self._vacate(worker)
                self._start_failed(slot, message[3])
            elif message[0] == "dying":
                if worker.dead_at is not None:
                    self._bound_its_end(worker, EXIT_WITHIN)
            elif message[0] == "exit":
                self._gone(worker, message[2], message[3])

    def _born(self, worker: WorkerProcess | None, pid: int, hold: Hold | None) -> None:
        if worker is None:
            if hold is not None:
                hold.close()
            return
        worker.pid = pid
        if worker.bound is not None:
            worker.bound.cancel()
            worker.bound = None
        if hold is None:
            try:
                assert worker.link is not None
                hold = worker.link.hold(pid)
            except OSError:
                self.kill(worker)  # without a hold of it we could never stop it
                return
        worker.hold = hold
        hold.watch(self._poller, partial(self._see_death, worker))
        if self.closing:
            self.kill(worker)
        elif worker.reader.closed:  # before we knew whom to kill for it
            self._hung_up(worker)

    def _overdue(self, worker: WorkerProcess) -> None:
        """The template hangs, or was stopped: its end is told as any other's (S21)."""
        if worker.serial in self.workers and worker.pid is None and worker.link is not None:
            worker.link.overdue(worker.serial)

    def ready(self, worker: WorkerProcess) -> None:
        """It has booted."""
        if worker.state is not State.BOOTING:
            return
        if worker.slot is None:
            worker.state = State.SPARE
            return
        worker.slot.budget.started()
        self._begin(worker)

    def initialised(self, worker: WorkerProcess) -> None:
        """Its initializer has returned."""
        if worker.state is State.INITIALISING:
            self._free(worker)

    def not_initialised(self, worker: WorkerProcess, meta: Any) -> None:
        """Its initializer has raised, and would again (S42)."""
        kind, text, trace = meta
        worker.expected = True
        told = f"{kind}: {text}" if text else kind
        message = f"the initializer raised {told}"
        error = InitializerError(message, original=told)
        error.__cause__ = RemoteTraceback(partial(show, trace))
        self._break(message, error)

    # Deaths --------------------------------------------------------------------------------------

    def send(self, worker: WorkerProcess, kind: int, meta: Any = (), body: bytes = b"") -> None:
        """A request beside the attempts."""
        if not worker.send(kind, meta, body):
            self.wait_for_room(worker)

    def wait_for_room(self, worker: WorkerProcess) -> None:
        """The rest of a request goes when the worker has read some."""
        self._poller.writable(worker.writer.fd, partial(self._flush, worker))

    def _flush(self, worker: WorkerProcess) -> None:
        if worker.serial in self.workers and worker.writer.flush():
            self._poller.writable(worker.writer.fd, None)

    def retire(self, worker: WorkerProcess) -> None:
        """Ask an idle one to leave."""
        worker.state = State.LEAVING
        worker.expected = True
        self.send(worker, _wire.RETIRE)

    def finish(self) -> None:
        """Nothing more will be launched: take back what waits for room."""
        for worker in list(self.workers.values()):
            if worker.link is not None and worker.link.drop(worker.serial):
                self._discard(worker)
                self._vacate(worker)
        if self._link is not None:
            self._link.finish()

    def kill(self, worker: WorkerProcess) -> None:
        """SIGKILL; its process group follows."""
        if worker.dead_at is None and not worker.kill() and worker.link is not None:
            worker.link.kill(worker.serial)

    def _lost(self) -> None:
        """The template is gone: nobody reaps, nobody tells. What it started goes with it."""
        orphans = []
        for worker in list(self.workers.values()):
            worker.expected = True
            if worker.dead_at is not None or worker.pid is None:
                self._gone(worker, None, ())  # what there may be of it, its lifeline kills
            else:
                orphans.append(worker.pid)
        if self._link is not None:
            self._link.bury(orphans)
        for worker in self.workers.values():
            worker.kill()
        if self._config.start_method == "fork":
            self._break("the process that forks this pool's workers was killed")
        elif self._losses.note(time.monotonic()):
            self._break("the process that starts this pool's workers dies again and again")

    def _gone(
        self, worker: WorkerProcess, exitcode: int | None, leftover: tuple[int, ...]
    ) -> None:
        """It and its whole tree are gone, as far as anyone can tell."""
        if worker.serial not in self.workers:
            return
        self._answered(worker)
        worker.read_stack()
        worker.exitcode = exitcode
        self.leftover.update(leftover)
        if worker.dead_at is None:
            worker.dead_at = time.monotonic()
        hint = postmortem.oom_hint(exitcode, self._oom_before)
        slot, answers_for = worker.slot, worker.expected or worker.killed or worker.begun
        self._ended(worker, hint)
        self._discard(worker)
        self._vacate(worker)
        if not answers_for and slot is not None and not self.closing:
            if slot.budget.note(worker.dead_at):
                phase = worker.row.phase
                told = postmortem.tell(worker, None if phase == _board.IDLE else phase, hint)
                times = f"{slot.budget.tries} times in {WINDOW:.0f} s, with no task to blame"
                self._break(f"workers die again and again ({times}): {told}")

    def _discard(self, worker: WorkerProcess) -> None:
        """Forget a worker that is gone, or never was."""
        self.workers.pop(worker.serial, None)
        worker.cancel_timers()
        if worker.bound is not None:
            worker.bound.cancel()
        if worker.link is not None:
            worker.link.drop(worker.serial)
        self._past.append(worker)

    def bury(self) -> None:
        """What the rows of dead workers said, and what they had answered, has been told: give up
        what is left of them."""
        for worker in self._past:
            for fd in (worker.reader.fd, worker.writer.fd, worker.stack_fd):
                self._poller.remove(fd)
            if worker.hold is not None:
                worker.hold.unwatch(self._poller)
            worker.close()
            worker.forget_results()
            if worker.row_number:
                self._board.free_row(worker.row_number)
        self._past.clear()

    def close(self, within: float) -> list[int]:
        """When all are gone, or time is up: hang up. Returns the pids that remain."""
        remaining = set(self.leftover)
        for worker in list(self.workers.values()):
            if worker.pid is not None and worker.dead_at is None:
                remaining.add(worker.pid)
                worker.row_number = 0  # it may still write into its row: never used again
            self._discard(worker)
        if self._link is not None:
            link, self._link = self._link, None
            remaining.update(link.end(within))
        self._inherit = {}  # of use to nobody any more, and perhaps large
        self.bury()
        return sorted(pid for pid in remaining if system.exists(pid))


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """As it is now, with these changes; other threads may change it meanwhile."""
    while True:
        try:
            found = dict(os.environ)
        except (KeyError, RuntimeError):
            continue
        for name, value in changes.items():
            found.pop(name, None)
            if value is not None:
                found[name] = value
        return found
