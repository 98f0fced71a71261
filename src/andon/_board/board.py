"""A board: shared memory with stop words, rows and trays, and its bell.

Invariants:
 1. A word's value is `generation << 32` while clear, and `generation << 32 | row << 4 | kind`
    once pulled. It never goes back (S10); its slot's next user gets the next generation.
 2. So a token is stopped iff its word differs from the clear value that it was born with: a
    stale one reads as stopped, never as someone else's.
 3. No lock anywhere: a process that dies, or is killed, at any point leaves the board whole.
 4. Words and rows are allotted only by the process that hung the board.

Freed slots are used again only when every fresh one has been, first freed first: a token that
outlives its maker's object keeps its meaning for as long as it can.
"""

from __future__ import annotations

import itertools
import mmap
import os
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from andon._board.bell import make_bell, ring, wait_any
from andon._board.row import NOTES, ROW_BYTES, ROWS, RowView
from andon._board.tray import TRAY_BYTES, TrayView

WORDS = 65536
_WORD_BYTES = WORDS * 8
# A word, from its low end: the reason's code (4 bits), the row of who pulled (12), a count of
# nudges (16), which use it is (32).
REST = (1 << 64) - 1 - 0xFFFF0000  # all but the nudges
_LITTLE = sys.byteorder == "little"
_NUDGES = 1 if _LITTLE else 2  # which quarter
_QUICK = 0 if _LITTLE else 1  # which half: all but which use it is
_TRAYS = _WORD_BYTES + (ROWS + NOTES) * ROW_BYTES  # where they begin
_NOTED = _TRAYS + ROWS * TRAY_BYTES  # where it stands which note a word has
_OWNED = _NOTED + WORDS * 2  # and which word had a note last
_SIZE = _OWNED + NOTES * 2  # only pages that are touched count
_SAID_WITHIN = 0.2  # seconds: behind a pull, unless who pulled has died in between


class Pulled(tuple[int, int, str]):
    """What a pulled word says: the reason's code, the row of who pulled it (0: no worker of this
    board), and the message where one was left. A stale token's says nothing but zeros."""

    __slots__ = ()  # no NamedTuple: to make one takes 1 ms of every fresh worker's start

    @property
    def kind(self) -> int:
        return self[0]

    @property
    def message(self) -> str:
        return self[2]


class Board:
    """One process's board; others join it. `words` are the stop words, `memory` all its bytes.

    `quick` are the words in halves: the one at `quick_index` changes when the word is pulled, and
    when whoever runs under it should look closer at his row (`nudge`).
    """

    __slots__ = (
        "__weakref__",
        "_free_notes",
        "_free_rows",
        "_free_words",
        "_fresh_notes",
        "_fresh_rows",
        "_fresh_words",
        "_mmap",
        "_noted",
        "_owned",
        "_quarters",
        "bell_fd",
        "ident",
        "maker",
        "mem_fd",
        "memory",
        "quick",
        "words",
    )

    def __init__(self, ident: str, mem_fd: int, bell_fd: int, maker: int | None) -> None:
        self.ident = ident
        self.mem_fd = mem_fd
        self.bell_fd = bell_fd
        self.maker = maker
        if sys.platform == "win32":
            self._mmap = mmap.mmap(-1, _SIZE, tagname=f"andon-{ident}")
        elif sys.version_info >= (3, 13):
            # Else it keeps a copy of the descriptor, low down, where tasks may close it.
            self._mmap = mmap.mmap(mem_fd, _SIZE, trackfd=False)
        else:
            self._mmap = mmap.mmap(mem_fd, _SIZE)
        self.memory = memoryview(self._mmap)
        self.words: memoryview = self.memory[:_WORD_BYTES].cast("Q")
        self.quick: memoryview = self.memory[:_WORD_BYTES].cast("I")
        self._quarters: memoryview = self.memory[:_WORD_BYTES].cast("H")
        self._noted: memoryview = self.memory[_NOTED:_OWNED].cast("H")
        self._owned: memoryview = self.memory[_OWNED:].cast("H")
        # list, deque and count are atomic under the interpreter's lock. A lock of our own here
        # could be held when a collected token frees its word in the same thread.
        self._fresh_words = itertools.count()
        self._free_words: deque[int] = deque()
        self._fresh_notes = itertools.count()
        self._free_notes: list[int] = []  # last freed first: no more are touched than must be
        self._fresh_rows = itertools.count(1)
        self._free_rows: deque[int] = deque()

    @classmethod
    def create(cls) -> Board:
        """Hang a new board."""
        ident = f"{os.getpid():x}-{os.urandom(8).hex()}"
        fds: list[int] = []
        try:
            fds.append(_make_memory())
            if fds[0] >= 0:
                os.ftruncate(fds[0], _SIZE)
            fds.append(make_bell())
            return cls(ident, fds[0], fds[1], os.getpid())
        except BaseException:  # there are too few descriptors, or too little memory
            for fd in fds:
                if fd >= 0:
                    os.close(fd)
            raise

    @classmethod
    def join(cls, ident: str, mem_fd: int, bell_fd: int) -> Board:
        """Read and pull on another process's board; takes over the descriptors."""
        return cls(ident, mem_fd, bell_fd, None)

    @property
    def owned(self) -> bool:
        """Whether this very process hung it; false in a forked child."""
        return self.maker == os.getpid()

    def close(self) -> None:
        """Give up descriptors and memory; its tokens and rows must not be used after that."""
        for fd in (self.mem_fd, self.bell_fd):
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)
        self.mem_fd = self.bell_fd = -1
        with suppress(BufferError):  # a row is still in use: the memory goes with the last one
            self.words.release()
            self.quick.release()
            self._quarters.release()
            self._noted.release()
            self._owned.release()
            self.memory.release()
            self._mmap.close()

    # Words ---------------------------------------------------------------------------------------

    def allot_word(self) -> tuple[int, int]:
        """A word of one's own: its slot, and the value that means clear."""
        slot = next(self._fresh_words)
        if slot >= WORDS:
            try:
                slot = self._free_words.popleft()
            except IndexError:
                raise RuntimeError(
                    f"{WORDS} tokens, events and groups are in use in this process; "
                    "drop some before making more"
                ) from None
        clear = ((int(self.words[slot]) >> 32) + 1) << 32
        note = self._allot_note()
        self._noted[slot] = note
        self._owned[note] = slot
        self.words[slot] = clear
        return slot, clear

    def _allot_note(self) -> int:
        try:
            return self._free_notes.pop()
        except IndexError:
            return next(self._fresh_notes) % NOTES

    def free_word(self, slot: int) -> None:
        """Its maker needs it no more."""
        self._free_notes.append(self._noted[slot])
        self._free_words.append(slot)

    def is_clear(self, slot: int, clear: int) -> bool:
        """Has nobody pulled it?"""
        return bool(self.words[slot] & REST == clear)

    @staticmethod
    def quick_index(slot: int) -> int:
        """Where in `quick` to look at this word."""
        return slot * 2 + _QUICK

    def nudge(self, slot: int) -> None:
        """Have those who run under this word look closer at their rows. By one thread at a time; a
        pull at the same moment stands. Nobody misses it who looks before the next 65535."""
        at = slot * 4 + _NUDGES
        self._quarters[at] = (self._quarters[at] + 1) % 65536

    def pull(
        self, slot: int, clear: int, kind_code: int, row: RowView | None = None, message: str = ""
    ) -> bool:
        """Stop everyone who reads this word; True where it was not yet stopped.

        `row`: the puller's, if he has one; his `message` goes there, else to the word's note: each
        word has one of its own, as long as it is in use.
        """
        if not self.is_clear(slot, clear):
            return False
        if row is not None:
            self._say(slot, clear, row, message)
        elif message:
            self._write_note(slot, clear, message)
        number = 0 if row is None else row.number
        self.words[slot] = clear | number << 4 | kind_code
        self.ring()
        return True

    def pull_first(self, slot: int, clear: int, kind_code: int, row: RowView) -> bool:
        """The same for someone in a hurry: at once, and `explain` is to follow. Whoever asks for
        the message in between waits for it; whoever sleeps is woken then."""
        if self.words[slot] & REST != clear:
            return False
        self.words[slot] = clear | row.number << 4 | kind_code
        return True

    def explain(self, slot: int, clear: int, row: RowView, message: str) -> None:
        """Say why the word has been pulled."""
        self._say(slot, clear, row, message)
        self.ring()

    def _say(self, slot: int, clear: int, row: RowView, message: str) -> None:
        if row.says:
            self._lay_by(row)
        row.write_cord(slot, clear, message, row.number)

    def puller(self, slot: int, clear: int) -> tuple[int, int] | None:
        """The reason's code, and the row of who pulled the word; None while it is clear. A stale
        token's says nothing but zeros."""
        value = int(self.words[slot]) & REST
        if value == clear:
            return None
        if value >> 32 != clear >> 32:
            return 0, 0
        return value & 0xF, value >> 4 & 0xFFF

    def read(self, slot: int, clear: int, *, wait: bool = True) -> Pulled | None:
        """What the word says; None while it is clear. A message that is to come is waited for; or
        else, without `wait`, the word is clear as long."""
        found = self.puller(slot, clear)
        if found is None:
            return None
        kind, row = found
        if not kind:
            return Pulled((0, 0, ""))
        message = self._said(slot, clear, row)
        if message is None and row and self._may_note(slot):
            if not wait:
                return None
            self.wait(lambda: self._said(slot, clear, row) is not None, _SAID_WITHIN)
            message = self._said(slot, clear, row)
        return Pulled((kind, row, message or ""))

    def _said(self, slot: int, clear: int, row: int) -> str | None:
        """What has been said of this word: in the row of who pulled it, or else in its note."""
        message = self.row(row).read_cord(slot, clear, row) if row else None
        if message is None:
            message = self._note(slot).read_cord(slot, clear, row)
        return message

    def _note(self, slot: int) -> RowView:
        return self.row(ROWS + self._noted[slot])

    def _may_note(self, slot: int) -> bool:
        """Does the note not say anything of another word, which has it now?"""
        owner = self._owned[self._noted[slot]]
        return bool(owner == slot or self._note(slot).cord[0] != owner)

    def _write_note(self, slot: int, clear: int, message: str, row: int = 0) -> None:
        if self._may_note(slot):
            self._note(slot).write_cord(slot, clear, message, row)

    def _lay_by(self, row: RowView) -> None:
        """What this row has said goes to the note of the word that it was said of."""
        slot, clear = row.cord
        message = row.read_cord(slot, clear, row.number)
        if message is not None and self.words[slot] & REST & ~0xF == clear | row.number << 4:
            self._write_note(slot, clear, message, row.number)

    # Rows ----------------------------------------------------------------------------------------

    def allot_row(self) -> int:
        """A wiped row for a new worker."""
        number = next(self._fresh_rows)
        if number >= ROWS:
            try:
                number = self._free_rows.popleft()
            except IndexError:
                raise RuntimeError(
                    f"{ROWS - 1} workers are in use in this process; close some pools"
                ) from None
        row = self.row(number)
        if row.says:
            self._lay_by(row)
        row.wipe()
        self.tray(number).clear()
        return number

    def free_row(self, number: int) -> None:
        """Its worker is dead and reaped, and its row has been read."""
        self._free_rows.append(number)

    def row(self, number: int) -> RowView:
        """A view of a row."""
        start = self.row_offset(number)
        return RowView(number, self.memory[start : start + ROW_BYTES], self._tray(number))

    def tray(self, number: int) -> TrayView:
        """A view of the tray beside a row."""
        return TrayView(self._tray(number))

    def _tray(self, number: int) -> memoryview:
        start = _TRAYS + number * TRAY_BYTES
        return self.memory[start : start + TRAY_BYTES]

    @staticmethod
    def row_offset(number: int) -> int:
        """Where in `memory` a row starts."""
        return _WORD_BYTES + number * ROW_BYTES

    # The bell ------------------------------------------------------------------------------------

    def ring(self) -> None:
        """Make everyone who waits on this board look again."""
        ring(self.bell_fd)

    def wait(self, stopped: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until `stopped()`, asked again at every ring; False after `timeout` seconds."""
        return wait_any((self,), stopped, timeout)


def _make_memory() -> int:
    """The descriptor of new shared memory; it has no name, so it cannot be left behind (S20)."""
    fd = -1  # on Windows it has a name, which goes with the last process that has it open
    if sys.platform == "linux":
        try:
            fd = os.memfd_create("andon-board", os.MFD_CLOEXEC)
        except OSError:
            pass
    if fd < 0 and sys.platform != "win32":
        fd = _unlinked_file()
    return fd


def _unlinked_file() -> int:
    import tempfile  # 13 ms, and hardly ever needed

    fd, path = tempfile.mkstemp(prefix="andon-")
    os.unlink(path)
    return fd
