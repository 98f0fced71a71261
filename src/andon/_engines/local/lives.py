"""The processes of one engine: how each is started, what is told of it, and how it ends.

    _start ──▶ template ── born, failed, dying, exit, lost ──▶ attend ──▶ _not_born, _departed
    its pipes ── answers, end of file ──▶ _answered     (what becomes of its place: crew.py)
    its hold ── death ──▶ _see_death

Invariants
 1. What is read is read first, and taken note of later (`attend`), when it has been told that a
    word was pulled.
 2. A worker is gone when the template says that its whole tree is (S22); where that cannot tell,
    in a bounded time (S21).
 3. Every method is called under the engine's lock, and none blocks but `close`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from andon import _wire
from andon._board import Board, joined, own_board
from andon._engines.local import postmortem, system
from andon._engines.local.respawn import Budget
from andon._engines.local.settings import settings
from andon._engines.local.store import Store
from andon._engines.local.system import Hold, Launcher, Poller
from andon._engines.local.timers import Timers
from andon._engines.local.worker_process import State, WorkerProcess
from andon._engines.port import Config
from andon.errors import PoolBrokenError

EXIT_WITHIN = 2.0  # for the template to tell of a death that we see, or that it still dies
STARVED_WITHIN = 40.0  # the same, where it gets no core: more than the template itself waits
BIRTH_WITHIN = 30.0  # for the template to start a worker, on a very busy machine
HANG_UP_WITHIN = 1.0  # for a worker to die that has closed its answers
_HUNG_UP = (
    ", since the pipe of its answers was closed: by a task that closes all descriptors, or execs"
)


class Lives:
    """The lower storey of a crew."""

    def __init__(
        self,
        config: Config,
        poller: Poller,
        timers: Timers,
        inherit: Mapping[int, Any],
        store: Store,
        *,
        answered: Callable[[WorkerProcess], None],
        ended: Callable[[WorkerProcess, str], None],
        broke: Callable[[str, PoolBrokenError], None],
    ) -> None:
        self._config = config
        self._poller = poller
        self._timers = timers
        self._inherit = inherit
        self._store = store
        self._answered = answered  # there is something to read
        self._ended = ended  # a worker is gone; with a hint why
        self._broke = broke
        self._board: Board = own_board()
        self._oom_before = postmortem.oom_kills()
        self._messages: list[tuple[Any, ...]] = []
        self._past: list[WorkerProcess] = []  # gone; to be buried once all is told
        self._losses = Budget()  # of templates
        self._link: Launcher | None = None
        self._mourned = False  # the link is lost, and that was taken note of
        self.workers: dict[int, WorkerProcess] = {}
        self.leftover: set[int] = set()  # pids that would not die
        self.closing = False

    # What becomes of a worker's place: the crew's -----------------------------------------------

    def _vacate(self, worker: WorkerProcess) -> None:
        """It has a place no more."""
        raise NotImplementedError

    def _not_born(self, worker: WorkerProcess, why: str) -> None:
        """It could not be started."""
        raise NotImplementedError

    def _departed(self, worker: WorkerProcess, hint: str, *, unasked: bool) -> None:
        """It is gone; `unasked`: nobody ordered that, and no task answers for it."""
        raise NotImplementedError

    # Births -------------------------------------------------------------------------------------

    def connect(self, before_fork: Callable[[], None] | None = None) -> None:
        """Have a template; raises OSError."""
        self._mourned = False
        self._link = system.connect(self._config.start_method, self._inherit, before_fork)
        self._link.attach(self._poller, self._timers, self._news)

    def _can_start(self) -> bool:
        """Not between the end of a template and the note of it: with another one in its place,
        nobody would hear of what it had started."""
        return self._link is None or not self._link.lost or self._mourned

    def _start(self) -> WorkerProcess:
        """One more process; raises what is in the way, and then nothing of it is left."""
        link = self._link
        if link is None or link.lost:
            self._reconnect()
            link = self._link
            assert link is not None
        worker = WorkerProcess(self._board, self._poller)
        try:
            boards = [self._board, *(b for b in joined() if b is not self._board)]
            fds = [fd for board in boards for fd in (board.mem_fd, board.bell_fd)]
            fds += [self._store.fd, worker.results]
            self._poller.add(worker.reader.fd, partial(self._read, worker))
            self.workers[worker.serial] = worker
            self.send(worker, _wire.BOOT, (settings(self._config, worker.row_number, boards),))
            mine, worker.only_theirs, worker.link = worker.only_theirs, [], link
            link.launch(worker.serial, worker.theirs + fds, mine)
        except Exception:
            self._discard(worker)
            raise
        at = time.monotonic() + BIRTH_WITHIN
        worker.bound = self._timers.at(at, partial(self._overdue, worker))
        return worker

    def _reconnect(self) -> None:
        if self._config.start_method == "fork":
            # A fork here and now would inherit locks of threads that run; and what the user's
            # program held when the pool was opened is not there any more.
            raise RuntimeError("the process that forks this pool's workers is gone")
        if self._link is not None:
            self._link.close()
            self._link = None
        self.connect()

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

    # What comes from workers and the template ----------------------------------------------------

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
            worker.bound = self._timers.at(at, partial(self.kill, worker, _HUNG_UP))

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
                self._not_born(worker, message[3])
            elif message[0] == "dying":
                worker.dying = message[2]
                if worker.dead_at is not None:
                    self._bound_its_end(worker, EXIT_WITHIN)
            elif message[0] == "exit":
                self._gone(worker, message[2], message[3])

    # What goes to workers ------------------------------------------------------------------------

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

    def kill(self, worker: WorkerProcess, why: str = "") -> None:
        """SIGKILL; its process group follows. `why`: for those who did not ask for it."""
        if worker.dead_at is not None:
            return
        worker.why_killed = worker.why_killed or why
        if not worker.kill() and worker.link is not None:
            worker.link.kill(worker.serial)

    # Deaths --------------------------------------------------------------------------------------

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
        hint = postmortem.kill_hint(worker, self._oom_before)
        unasked = not (worker.expected or worker.killed or worker.begun)
        self._ended(worker, hint)
        self._discard(worker)
        self._departed(worker, hint, unasked=unasked)

    def _lost(self) -> None:
        """The template is gone: nobody reaps, nobody tells. What it started goes with it."""
        self._mourned = True
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

    # The end -------------------------------------------------------------------------------------

    def _break(self, message: str, error: PoolBrokenError | None = None) -> None:
        if not self.closing:
            self.closing = True
            self._broke(message, error or PoolBrokenError(message))

    def finish(self) -> None:
        """Nothing more will be launched: take back what waits for room."""
        for worker in list(self.workers.values()):
            if worker.link is not None and worker.link.drop(worker.serial):
                self._discard(worker)
                self._vacate(worker)
        if self._link is not None:
            self._link.finish()

    def close(self, within: float) -> list[int]:
        """When all are gone, or time is up: hang up. Returns the pids that remain."""
        remaining = set(self.leftover)
        for worker in list(self.workers.values()):
            if worker.pid is not None and worker.dead_at is None:
                remaining.add(worker.pid)
                worker.row_number = 0  # it may still write into its row: never used again
            remaining.update(worker.dying)
            self._discard(worker)
        if self._link is not None:
            link, self._link = self._link, None
            remaining.update(link.end(within))
        self._inherit = {}  # of use to nobody any more, and perhaps large
        self.bury()
        return sorted(pid for pid in remaining if system.exists(pid))
