"""One worker as the parent sees it: its descriptors, its state, and what it was given.

    BOOTING ──READY──▶ SPARE ──a slot──▶ INITIALISING ──▶ IDLE ⇄ BUSY ──▶ LEAVING ──exit──▶ gone
                         └────────(no initializer)─────────▶

A spare waits for the slot of one that is being stopped; it runs no initializer and no task before
that one is dead (S22, S51).
"""

from __future__ import annotations

import itertools
import time
import weakref
from enum import Enum
from typing import Any

from andon import _wire
from andon._board import Board
from andon._board.row import FLUSHING
from andon._board.tray import FRAMES
from andon._buffers import parcel
from andon._buffers.ring import Taker
from andon._engines.local import descriptors, packing
from andon._engines.local.frames import Frame
from andon._engines.local.ladder import Ladder
from andon._engines.local.system import Hold, Launcher, Poller
from andon._engines.local.timers import Timer
from andon._engines.port import Attempt

_serials = itertools.count(1)  # of the whole process: pools share templates
_KNOWN_COUNT, _KNOWN_BYTES = 64, 16 << 20  # then we look which functions nobody needs any more
_LONGEST_STACK = 1 << 16


class State(Enum):
    """Where a worker stands."""

    BOOTING = "booting"
    SPARE = "spare"
    INITIALISING = "initialising"
    IDLE = "idle"
    BUSY = "busy"
    LEAVING = "leaving"


class WorkerProcess:
    """Made before the process is; `close` when it is gone."""

    def __init__(self, board: Board, poller: Poller) -> None:
        self.serial = next(_serials)
        self.state = State.BOOTING
        self.made_at = time.monotonic()
        self.slot: Any = None
        self.link: Launcher | None = None  # to the template that has started it
        self.pid: int | None = None
        self.hold: Hold | None = None  # of the process
        # What it was given.
        self.attempt: Attempt | None = None
        self.next_index = 0  # of the attempt: items below it are answered
        self.items_done = 0
        self.ladder: Ladder | None = None
        self.known: dict[int, weakref.ref[packing.Function]] = {}
        self._known_bytes = 0
        self._ladder_told: tuple[float, float] | None = None  # what its row says
        # What has come back, not yet taken note of.
        self.fresh: list[Frame] = []
        self.last_read = False  # a LAST frame is among them
        self.held: Frame | None = None  # the last answer of one that leaves: told when it is gone
        self.final = False  # there is no other answer to come from it
        self.stack = bytearray()
        # Its end.
        self.doomed = False  # interrupted, or worse: will not be used again
        self.expected = False  # its death is no surprise
        self.killed = False  # by us, to stop its attempt
        self.why_killed = ""  # where that is not plain
        self.dead_at: float | None = None
        self.dying: tuple[int, ...] = ()  # pids of what it has left, and what still dies
        self.exitcode: int | None = None
        self.timer: Timer | None = None  # the ladder's next step, or the bound of its leaving
        self.bound: Timer | None = None  # of its death
        self.watch: Timer | None = None  # whether its span takes long

        fds: list[int] = []
        self.row_number = board.allot_row()
        try:
            for _ in range(4):
                fds += descriptors.pipe()
            results = descriptors.shared_memory()
        except OSError:
            descriptors.close(*fds)
            board.free_row(self.row_number)
            raise
        self.row = board.row(self.row_number)
        self.tray = board.tray(self.row_number)
        read, write, self.lifeline = fds[0], fds[3], fds[5]
        self.writer = poller.writer(fds[1], read)
        self.reader = poller.reader(fds[2])
        self._take = poller.take
        self.stack_fd = fds[6]
        self.theirs = [read, write, fds[4], fds[7]]  # requests, answers, lifeline, stack
        self.only_theirs = [write, fds[4], fds[7]]
        self.results = results  # the large ones
        parcel.results_by(self.serial, Taker(results).take)

    # Sending -------------------------------------------------------------------------------------

    def send(self, kind: int, meta: Any = (), body: bytes = b"") -> bool:
        """A request; False where some of it waits for room."""
        head = _wire.pack(kind, 0, 0, meta, len(body))
        return self.writer.write([head, body] if body else [head])

    def give(self, attempt: Attempt, flags: int = 0) -> bool:
        """Its next attempt; False where some of it waits for room."""
        parts: list[bytes] = []
        function: packing.Function = attempt.packed.function
        if function.id not in self.known:
            if len(self.known) > _KNOWN_COUNT or self._known_bytes > _KNOWN_BYTES:
                parts += self._forget()
            self.known[function.id] = weakref.ref(function)
            self._known_bytes += len(function.data)
            head = _wire.pack(_wire.FUNC, 0, 0, (function.id,), len(function.data))
            parts += (head, function.data)
        ladder = attempt.group.grace, attempt.group.kill_after
        if ladder != self._ladder_told:
            self._ladder_told = ladder
            self.row.set_ladder(*ladder)
        parts += packing.frame(attempt, flags)
        self.attempt = attempt
        self.next_index = attempt.lo
        self.state = State.BUSY
        self.last_read = False
        return self.writer.write(parts)

    def _forget(self) -> list[bytes]:
        gone = [ident for ident, ref in self.known.items() if ref() is None]
        for ident in gone:
            del self.known[ident]
        alive = [function for ref in self.known.values() if (function := ref()) is not None]
        self._known_bytes = sum(len(function.data) for function in alive)
        return [_wire.pack(_wire.FORGET, 0, 0, (ident,)) for ident in gone]

    # Reading -------------------------------------------------------------------------------------

    def unsent(self) -> list[Frame]:
        """What lies in its tray, as frames. Some may have been sent."""
        attempt = self.attempt
        if attempt is None or not self.begun:
            return []
        kind, first, count, body = self.tray.unsent(attempt.id)
        if kind == FRAMES:
            return self.reader.cut(body)
        if not 0 < count <= attempt.hi - first:
            return []
        at = self.row.started_at or time.monotonic()
        meta = first, at, at, count, kind
        return [(_wire.VALUES, 0, attempt.id, meta, body)]

    def read_stack(self) -> bool:
        """Collect the dump; True where some has come."""
        before = len(self.stack)
        while len(self.stack) < _LONGEST_STACK and (data := self._take(self.stack_fd)):
            self.stack += data
        return len(self.stack) > before

    @property
    def begun(self) -> bool:
        """Does its row speak of the attempt that it was given?"""
        return self.attempt is not None and self.row.attempt == self.attempt.id

    @property
    def token_use(self) -> tuple[bool, float | None]:
        """Has the running task used its token (S15), and until when does it hold stops back (S18)?
        One that has not begun does neither."""
        if not self.begun:
            return False, None
        ns = self.row.shield_until_ns
        return self.row.used, ns / 1e9 if ns else None

    @property
    def flushes(self) -> bool:
        """Was it asked to leave, and waits for others to read what it has put into queues?"""
        return self.state is State.LEAVING and self.row.phase == FLUSHING

    # Signals -------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Step 2."""
        if self.hold is not None:
            self.hold.interrupt()

    def ask_for_stack(self) -> None:
        """Have it dump its stacks."""
        if self.hold is not None:
            self.hold.ask_for_stack()

    def order(self, attempt: Attempt, level: int) -> None:
        """Tell it on its row that what it is at is to stop; ring the bell after that."""
        self.row.order(attempt.id, level)
        attempt.group.token._nudge()

    def ask_to_yield(self, attempt: Attempt) -> None:
        """Ask it on its row for what it has not begun of this."""
        self.row.ask_to_yield(attempt.id)
        attempt.group.token._nudge()

    def kill(self) -> bool:
        """Step 3, for it and its tree. False: no hold of it."""
        if self.hold is None:
            return False
        self.hold.kill()
        return True

    # The end -------------------------------------------------------------------------------------

    def cancel_timers(self) -> None:
        """No step of the ladder is to come, and no look at its span."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.watch is not None:
            self.watch.cancel()
            self.watch = None

    def forget_results(self) -> None:
        """All that it has answered was unpickled, or never will be."""
        parcel.results_by(self.serial, None)
        if self.results >= 0:
            descriptors.close(self.results)
        self.results = -1

    def close(self) -> None:
        """Give up the descriptors but that of the results, which may not have been unpickled yet.
        The lifeline's end kills whatever is there still."""
        self.writer.close()
        self.reader.close()
        descriptors.close(self.lifeline, self.stack_fd, *self.only_theirs)
        if self.hold is not None:
            self.hold.close()
            self.hold = None
        self.only_theirs = []

