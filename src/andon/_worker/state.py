"""What runs now in this process: written by the loop, read by checkpoints and by the interrupt.

There is one `current` in every process, also in the parent, where no task ever runs in it.

Invariants:
 1. `attempt` is the running item's attempt; NOTHING (no attempt's number) between items.
 2. `seen` is what the quick half of the group's word says where the fast checkpoint is armed (see
    checkpoint.py), else nothing that it may say.
 3. `used` on the board never lags behind `used` here: it is written there first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from andon import _board
from andon._board import Board, RowView
from andon._board.board import REST
from andon._board.row import (
    FIELDS,
    ORDER_ATTEMPT,
    ORDER_LEVEL,
    SHIELD_UNTIL_NS,
    USED,
    YIELD,
)
from andon._cancelled import Cancelled, come_from
from andon._worker import checkpoint

NOTHING: Final = -1

BY_TOKEN: Final = "token"
BY_INTERRUPT: Final = "interrupt"


class State:
    """The running task of this process."""

    __slots__ = (
        "attempt",
        "board",
        "body_hook",
        "cells",
        "clear",
        "index",
        "interrupted",
        "lane",
        "level",
        "make_token",
        "pid",
        "quick",
        "row",
        "seen",
        "shield_depth",
        "shield_until_ns",
        "slot",
        "token",
        "told",
        "used",
        "words",
    )

    def __init__(self) -> None:
        self.make_token: Callable[[Board, int, int], Any] | None = None  # set by the floor above
        self.reset()

    def reset(self) -> None:
        """As in a new process; a worker inherits its launcher's state."""
        self.board: Board | None = None
        self.row: RowView | None = None
        # Of the board, once there is one.
        self.words: memoryview = memoryview(bytearray(8)).cast("Q")
        self.quick: memoryview = memoryview(bytearray(8)).cast("I")
        self.cells: memoryview = memoryview(bytearray(8 * FIELDS)).cast("Q")
        self.told = self.cells  # where a task says what the ladder is to know of it
        self.slot = -1  # no token's
        self.clear = 0
        self.attempt: int = NOTHING
        self.index = 0
        self.used = True
        self.seen = -1
        checkpoint.disarm()
        self.interrupted = False
        self.lane: memoryview | None = None  # where the values of a run lie (see lane.py)
        self.shield_until_ns = 0
        self.shield_depth = 0
        self.token: Any = None
        self.pid = 0  # of the worker; 0: this process is none
        self.level = 0  # how many workers deep
        # Set by the floors above while groups are open, to find the one whose body runs.
        self.body_hook: Callable[[], Any] | None = None

    # A task's life, called by the loop with no user code running ----------------------------------

    def sit(self, board: Board, row: int) -> None:
        """This process is now the worker of that row."""
        self.board = board
        self.row = board.row(row)
        self.words = board.words
        self.quick = board.quick
        self.cells = self.told = self.row.cells

    def begin(self, attempt: int, slot: int, clear: int, index: int) -> None:
        """An item is about to run; the board's row is the loop's to write."""
        self.disarm()
        self.slot = slot
        self.clear = clear
        self.index = index
        self.used = False
        self.interrupted = False
        self.shield_until_ns = 0
        self.shield_depth = 0
        self.token = None
        self.attempt = attempt

    def end(self) -> None:
        """It is over."""
        self.attempt = NOTHING
        self.disarm()
        self.slot = -1
        self.used = True
        self.shield_until_ns = 0
        self.shield_depth = 0
        self.token = None

    # Questions -----------------------------------------------------------------------------------

    def stopping(self) -> bool:
        """Whether the running task should stop: its group's word, or an order for it alone."""
        return (
            self.words[self.slot] & REST != self.clear or self.cells[ORDER_ATTEMPT] == self.attempt
        ) and self.attempt != NOTHING

    def cut_short(self) -> bool:
        """Whether nothing more of this attempt should begin: it should stop, or its parent wants
        the rest of its span back."""
        return self.cells[YIELD] == self.attempt or self.stopping()

    def interrupt_ordered(self) -> bool:
        """Whether the ladder is at step 2 for this very attempt (S17)."""
        return bool(self.cells[ORDER_ATTEMPT] == self.attempt and self.cells[ORDER_LEVEL] >= 2)

    def shielded(self) -> bool:
        """Whether a shield holds stops back now (S18)."""
        return self.shield_until_ns > 0 and time.monotonic_ns() < self.shield_until_ns

    # Acts ----------------------------------------------------------------------------------------

    def use(self) -> None:
        """The task has used its token: it is trusted to stop by itself, for its grace (S15)."""
        if not self.used:
            self.told[USED] = 1
            self.used = True
            self.close_lane()

    def is_copied(self) -> None:
        """A task has forked, and this is the child: the row is the worker's, which may run the next
        task by now."""
        self.told = memoryview(bytearray(8 * FIELDS)).cast("Q")
        self.close_lane()

    def close_lane(self) -> None:
        """The running item ends its run, if it is in one."""
        if self.lane is not None:
            self.lane.release()

    def arm(self) -> bool:
        """Let checkpoints take the fast path from now on; False where the task is stopping."""
        at = Board.quick_index(self.slot)
        seen = self.quick[at]  # before the look: an order after it changes this
        if self.stopping():
            return False
        if self.body_hook is None and self.board is not None:
            self.seen = seen
            checkpoint.arm(self.quick, at, seen)
        return True

    def disarm(self) -> None:
        """They look closer again."""
        self.seen = -1
        checkpoint.disarm()

    def shield(self, until_ns: int) -> None:
        """Hold interrupts back until then; 0: no longer."""
        self.told[SHIELD_UNTIL_NS] = until_ns
        self.shield_until_ns = until_ns

    def cancelled(self, by: str) -> Cancelled:
        """The running task's own `Cancelled`, marked with its attempt and the rung."""
        return come_from(_Stop((self.attempt, by, self.board, self.slot, self.clear)))

    def mark_of(self, exc: BaseException) -> str | None:
        """On which rung this `Cancelled` was raised, if it is the running task's own (S16)."""
        if issubclass(type(exc), Cancelled):  # isinstance() would ask the error, too
            source = getattr(exc, "_source", None)
            if type(source) is _Stop and source[0] == self.attempt:
                return source[1]
        return None

    def reason(self) -> str:
        """Why the running task should stop, as text."""
        return _reason(self.board, self.slot, self.clear)

    def own_token(self) -> Any:
        """The running task's token, made when first asked for; None where no task runs."""
        if self.token is None and self.attempt != NOTHING and self.board is not None:
            assert self.make_token is not None
            self.token = self.make_token(self.board, self.slot, self.clear)
        return self.token


class _Stop(tuple[int, str, Board | None, int, int]):
    """Where the `Cancelled` of an attempt comes from: the attempt, the rung, and its word."""

    __slots__ = ()

    def reason(self) -> str:
        return _reason(*self[2:])

    def token(self) -> Any:
        attempt, _, board, slot, clear = self
        if current.make_token is None or board is None:
            return None
        if attempt == current.attempt:
            return current.own_token()
        return current.make_token(board, slot, clear)


def _reason(board: Board | None, slot: int, clear: int) -> str:
    pulled = board.read(slot, clear) if board is not None else None
    if pulled is None:
        return "this task was told to stop"
    return reason_text(pulled.kind, pulled.message)


_REASONS = {
    _board.KIND_FAILURE: "a task failed",
    _board.KIND_BODY: "the body of the group raised",
    _board.KIND_CANCEL: "cancelled",
    _board.KIND_DEADLINE: "the deadline of the group has passed",
    _board.KIND_INTERRUPT: "interrupted (Ctrl-C)",
    _board.KIND_SHUTDOWN: "the pool was shut down",
    _board.KIND_PARENT: "the outer group is stopping",
    _board.KIND_SUPERSEDED: "no longer needed",
}


def reason_text(kind: int, message: str) -> str:
    """A reason's code and message as one text; a cancel's message is its own text."""
    if kind == _board.KIND_CANCEL and message:
        return message
    words = _REASONS.get(kind, "the group is over")
    return f"{words}: {message}" if message else words


current: Final = State()
