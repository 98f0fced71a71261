"""The bottom row of a terminal, kept apart from all that is printed.

Workers, what they start, and the program itself write to the terminal as they always do; nobody
asks them to go by way of us. So the terminal is told to scroll all rows but the last (DECSTBM), and
the bar stands there: nothing can tear it, and it tears nothing.

Every drawing is one write, tells the terminal the region anew (another program may have reset it),
and leaves the cursor where it was.
"""

from __future__ import annotations

import atexit
import os
import shutil
from typing import TextIO

_SAVE, _RESTORE = "\x1b7", "\x1b8"
_WHOLE = "\x1b[r"  # all rows scroll
_CLEAR = "\x1b[2K"
_MAKE_ROOM = "\x1bD\x1b[A"  # from the last row, one up, with all that is above: else stay
_FEWEST = 3  # rows; in fewer there is no bar


class BottomRow:
    """Between `open` and `close` the last row is ours. Not thread-safe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rows = 0  # of the terminal, as we last saw it; 0: the row is not ours

    @property
    def width(self) -> int:
        """The columns of the terminal, now."""
        return self._size().columns

    def open(self) -> None:
        """Take the row."""
        self._take(self._size().lines)
        atexit.register(self._give_back)

    def draw(self, text: str) -> None:
        """Show one line there, no wider than `width`."""
        rows = self._size().lines
        if rows != self._rows:
            self._give_back()
            self._take(rows)
        if self._rows:
            self._write(f"{_SAVE}{_region(rows)}{_go(rows)}{_CLEAR}{text}{_RESTORE}")

    def close(self, text: str) -> None:
        """Give the row back; leave one line of text where the cursor is, at the start of a line."""
        self._give_back()
        atexit.unregister(self._give_back)
        # Where somebody has left half a line, these go on to the next; else they stay on this one.
        self._write(f"{' ' * (self.width - 1)}\r{text}\x1b[K\n")

    def _take(self, rows: int) -> None:
        if rows >= _FEWEST:
            self._rows = rows
            self._write(f"{_MAKE_ROOM}{_SAVE}{_region(rows)}{_RESTORE}")

    def _give_back(self) -> None:
        rows, self._rows = self._rows, 0
        if rows:
            self._write(f"{_SAVE}{_WHOLE}{_go(rows)}{_CLEAR}{_RESTORE}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _size(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (AttributeError, OSError, ValueError):
            size = os.terminal_size((0, 0))
        known = shutil.get_terminal_size()
        return os.terminal_size((size.columns or known.columns, size.lines or known.lines))


def _region(rows: int) -> str:
    return f"\x1b[1;{rows - 1}r"


def _go(row: int) -> str:
    return f"\x1b[{row};1H"
