"""One worker's row on the board.

Invariants:
 1. One writer a field: the worker writes its row; the ORDER fields, GRACE_NS, KILL_AFTER_NS and
    HEARD (bytes of log records and warnings that the parent is done with) are the parent's.
 2. An order counts only where ORDER_ATTEMPT is the attempt that runs: one for an attempt that is
    over says nothing to the next (S17).
 3. The cord's text carries the word that it belongs to, so nobody takes it for another's.

Whoever pulls a word without a row of its own leaves its reason in the word's note: a row, behind
the workers', of which only the text is used. What a worker has said last stands in its own row, so
that of two that pull at once neither garbles the other's; before it says another thing, or the row
gets another worker, that goes to the note of its word.
"""

from __future__ import annotations

import sys

from andon._board.tray import TrayView

ROWS = 4096  # of workers, row 0 being nobody's; a stop word has 12 bits for one
# Rows behind those: one for each word that is in use, and on Windows, where memory counts that
# nobody has touched, for as many as most programs have; there two may share one.
NOTES = 65536 if sys.platform != "win32" else 4096
ROW_BYTES = 1024
FIELDS = 18
TEXT_BYTES = ROW_BYTES - FIELDS * 8

# The fields, by index.
ATTEMPT = 0
PHASE = 1
INDEX = 2
STARTED_NS = 3
USED = 4
SHIELD_UNTIL_NS = 5
ORDER_ATTEMPT = 6
ORDER_LEVEL = 7
PID = 8
TASKS_DONE = 9
CORD_SLOT = 10
CORD_CLEAR = 11
CORD_LEN = 12
GRACE_NS = 13
KILL_AFTER_NS = 14
HEARD = 15
YIELD = 16
CORD_ROW = 17

IN_LANE = (1 << 64) - 1  # as INDEX: its items end too fast for it, and the tray says how many have

_LONGEST = 1e9  # seconds; what is longer is for ever

# The phases.
IDLE, BOOTING, INITIALISING, UNPICKLING, RUNNING, PICKLING, SENDING, FLUSHING = range(8)
PHASES = (
    "idle",
    "booting",
    "initialising",
    "unpickling",
    "running",
    "pickling",
    "sending",
    "flushing",
)


class RowView:
    """A row, field by field; `cells` are its bare 64-bit fields, for those in a hurry."""

    __slots__ = ("_text", "_tray", "cells", "number")

    def __init__(self, number: int, memory: memoryview, tray: memoryview) -> None:
        self.number = number
        self._tray = tray
        self.cells: memoryview = memory[: FIELDS * 8].cast("Q")
        self._text: memoryview = memory[FIELDS * 8 :]

    @property
    def attempt(self) -> int:
        """The attempt that it began last, and may have ended; 0: none yet."""
        return int(self.cells[ATTEMPT])

    @property
    def phase(self) -> int:
        """What it is doing: one of the phases above."""
        return int(self.cells[PHASE])

    @property
    def phase_name(self) -> str:
        """The same as a word."""
        phase = self.phase
        return PHASES[phase] if phase < len(PHASES) else f"phase {phase}"

    @property
    def index(self) -> int:
        """The item of its attempt."""
        while (index := int(self.cells[INDEX])) == IN_LANE:
            index = TrayView(self._tray).reached()
            if self.cells[INDEX] == IN_LANE:
                break  # else it has just left the lane
        return index

    @property
    def in_lane(self) -> bool:
        """Are its items, short ones, in a lane?"""
        return bool(self.cells[INDEX] == IN_LANE)

    @property
    def started_ns(self) -> int:
        """When the item's call began, on the monotonic clock; 0: it has not."""
        return int(self.cells[STARTED_NS])

    @property
    def started_at(self) -> float | None:
        """The same in seconds."""
        ns = self.started_ns
        return ns / 1e9 if ns else None

    @property
    def used(self) -> bool:
        """Whether the item has used its token (S15)."""
        return bool(self.cells[USED])

    @property
    def shield_until_ns(self) -> int:
        """Until when a shield holds interrupts back, on the monotonic clock; 0: no shield."""
        return int(self.cells[SHIELD_UNTIL_NS])

    @property
    def order_attempt(self) -> int:
        """Which attempt the parent has told to stop."""
        return int(self.cells[ORDER_ATTEMPT])

    @property
    def order_level(self) -> int:
        """How: 1 by token, 2 by interrupt."""
        return int(self.cells[ORDER_LEVEL])

    @property
    def pid(self) -> int:
        """The worker's; 0: it has not booted."""
        return int(self.cells[PID])

    @property
    def tasks_done(self) -> int:
        """How many items it has ended."""
        return int(self.cells[TASKS_DONE])

    def order(self, attempt: int, level: int) -> None:
        """The parent tells an attempt to stop; nudge its group's word after it, and ring the bell.
        Only hardens (S9)."""
        cells = self.cells
        if cells[ORDER_ATTEMPT] != attempt:
            # In this order nobody ever sees the new attempt with the old one's level.
            cells[ORDER_LEVEL] = 0
            cells[ORDER_ATTEMPT] = attempt
        if level > cells[ORDER_LEVEL]:
            cells[ORDER_LEVEL] = level

    def ask_to_yield(self, attempt: int) -> None:
        """The parent wants back what this attempt has not begun; nudge its group's word after it.
        Sooner or later it is seen."""
        self.cells[YIELD] = attempt

    def set_ladder(self, grace: float, kill_after: float) -> None:
        """The parent tells how long the ladder of the next attempt's group would take (S37)."""
        self.cells[GRACE_NS] = int(min(grace, _LONGEST) * 1e9)
        self.cells[KILL_AFTER_NS] = int(min(kill_after, _LONGEST) * 1e9)

    @property
    def ladder(self) -> tuple[float, float]:
        """The grace and the time to the kill of the running attempt's group, in seconds."""
        return self.cells[GRACE_NS] / 1e9, self.cells[KILL_AFTER_NS] / 1e9

    def write_cord(self, slot: int, clear: int, message: str, row: int) -> None:
        """Say why the word at `slot` is pulled; `row`: of who pulls it."""
        data = message[: TEXT_BYTES + 1].encode("utf-8", "replace")
        if len(data) > TEXT_BYTES:
            data = data[: TEXT_BYTES - 3].decode("utf-8", "ignore").encode() + "…".encode()
        cells = self.cells
        cells[CORD_CLEAR] = 0  # no word's
        self._text[: len(data)] = data
        cells[CORD_SLOT] = slot
        cells[CORD_ROW] = row
        cells[CORD_LEN] = len(data)
        cells[CORD_CLEAR] = clear

    def read_cord(self, slot: int, clear: int, row: int) -> str | None:
        """What the puller of this word, whose row that is, has said of it; None where this is
        nothing, or another's."""
        cells = self.cells
        length = min(int(cells[CORD_LEN]), TEXT_BYTES)
        if cells[CORD_CLEAR] != clear or cells[CORD_SLOT] != slot or cells[CORD_ROW] != row:
            return None
        text = bytes(self._text[:length]).decode("utf-8", "replace")
        # It may have been overwritten under our eyes.
        if cells[CORD_CLEAR] != clear or cells[CORD_SLOT] != slot or cells[CORD_LEN] != length:
            return None
        return text

    @property
    def says(self) -> bool:
        """Has anything been said here?"""
        return bool(self.cells[CORD_CLEAR])

    @property
    def cord(self) -> tuple[int, int]:
        """The word that the text belongs to: its slot, and the value that means clear."""
        return int(self.cells[CORD_SLOT]), int(self.cells[CORD_CLEAR])

    def wipe(self) -> None:
        """Make the row ready for its next worker."""
        for field in range(FIELDS):
            self.cells[field] = 0
