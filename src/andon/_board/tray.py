"""A worker's tray: where the values of items that are over lie until they are sent.

Items of a span end faster than frames can be sent for them, and no finished result may be lost when
the worker dies in a later one (S45). So each value is laid into shared memory before the next item
begins, and goes on its way with many others; what a dead worker had not sent, its parent takes from
here. A tray holds values of one plain type, side by side; or small values of any type, end to end;
or whole frames, end to end.

Of small values of any type, plain ones lie as they are (MIXED says that all are plain), any other
as its pickle (PICKLED: some may be); see `_plain.py`.

Invariants
 1. One writer: the worker. The parent reads a tray when its worker is dead, or at one item for
    so long that all it has written before can be seen.
 2. A value counts from the moment at which it is there: until then its place holds the tray's
    mark, 63 bits that were drawn at random, so that no value is taken for it. Where there is
    nothing to lay, of a None, and of frames, FILLED says what counts; of values end to end, the
    last of the `ends` that is not zero. So whatever moment the worker dies at, what counts is
    whole, and says which item it was at (see `Row.index`).
 3. What has been sent lies here until the next is laid: a task may have written into the pipe
    before it, so that nobody can read it there. Else the parent knows by the index, and passes
    over it.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final

from andon import _plain

# The head, by index of 64-bit fields.
KIND, ATTEMPT, BASE, FILLED, PLACES, MARK = range(6)
_HEAD = 6 * 8
_CELL = 8

# A full lane goes through an empty pipe in one write. On Windows memory counts when reserved.
TRAY_BYTES: Final = 61440 if sys.platform != "win32" else 2048
LANE: Final = (TRAY_BYTES - _HEAD) // _CELL  # values side by side
ENDS: Final = LANE // 2  # values end to end: a quarter of the tray says where each of them ends

EMPTY, NONE, INT, FLOAT, FRAMES, MIXED, PICKLED = range(7)
_SIDE_BY_SIDE, _END_TO_END = (INT, FLOAT), (MIXED, PICKLED)


class TrayView:
    """A tray, field by field. `cells` is its head; `ints` and `floats` are its lanes; `ends` and
    `data` its lane for small values of any type."""

    __slots__ = ("_blank", "area", "cells", "data", "ends", "floats", "ints")

    def __init__(self, memory: memoryview) -> None:
        self.cells: memoryview = memory[:_HEAD].cast("Q")
        self.area: memoryview = memory[_HEAD:]
        self.ints: memoryview[Any] = self.area.cast("q")
        self.floats: memoryview[Any] = self.area.cast("d")
        self.ends: memoryview = self.area[: 4 * ENDS].cast("I")
        self.data: memoryview = self.area[4 * ENDS :]
        self._blank: memoryview | None = None  # places that hold the mark

    def begin(self, kind: int, attempt: int, base: int, items: int = 0) -> memoryview[Any]:
        """From now on it holds what this says, and what lay here before has been sent. The places
        for values side by side, of up to so many items; for Nones the one that says how many;
        the `data` for values end to end."""
        cells = self.cells
        cells[KIND] = EMPTY  # whoever looks between two of these lines finds nothing
        cells[ATTEMPT] = attempt
        cells[BASE] = base
        cells[FILLED] = 0
        if kind in _END_TO_END:
            cells[PLACES] = items = min(items, ENDS)
            self.area[: 4 * items] = bytes(4 * items)
        elif kind in _SIDE_BY_SIDE:
            if self._blank is None:
                mark = int.from_bytes(os.urandom(_CELL)) >> 1
                self._blank = memoryview(mark.to_bytes(_CELL, sys.byteorder) * LANE)
                cells[MARK] = mark
            cells[PLACES] = items = min(items, LANE)
            self.area[: items * _CELL] = self._blank[: items * _CELL]
        cells[KIND] = kind
        if kind == NONE:
            return self.cells[FILLED : FILLED + 1]
        if kind in _END_TO_END:
            return self.data[:]
        return (self.ints if kind == INT else self.floats)[:items]

    def clear(self) -> None:
        """For a new worker: what lies here is an earlier one's."""
        self.cells[KIND] = EMPTY

    def count(self) -> int:
        """How many values lie here; of frames, bytes."""
        cells, kind = self.cells, self.cells[KIND]
        if cells[FILLED] or kind not in (*_SIDE_BY_SIDE, *_END_TO_END):
            return int(cells[FILLED])
        places, mark, most = self.ints, int(cells[MARK]), LANE
        if kind in _END_TO_END:
            places, mark, most = self.ends, 0, ENDS
        low, high = 0, min(int(cells[PLACES]), most)
        while low < high:
            middle = (low + high) // 2
            if places[middle] == mark:
                high = middle
            else:
                low = middle + 1
        return low

    def reached(self) -> int:
        """The number of the item behind the last that lies here: it has begun, or will next."""
        cells = self.cells
        while True:
            base, kind = cells[BASE], cells[KIND]
            item = int(base) + self.count()
            if base == cells[BASE] and kind == cells[KIND]:
                return item  # else a living worker has begun it anew under our eyes

    def raw(self, count: int) -> bytes:
        """The first `count` of the values, for `values`."""
        kind = self.cells[KIND]
        if kind == NONE:
            return b""
        if kind in _END_TO_END:
            end = int(self.ends[count - 1]) if count else 0
            return _plain.listed(count, (self.data[:end],))
        return bytes(self.area[: count * _CELL])

    def put(self, parts: tuple[bytes, ...]) -> bool:
        """Lay a frame behind the others; False where there is no room."""
        cells = self.cells
        at = end = int(cells[FILLED])
        for part in parts:
            end += len(part)
        if end > len(self.area):
            return False
        for part in parts:
            self.area[at : at + len(part)] = part
            at += len(part)
        cells[FILLED] = end
        return True

    def unsent(self, attempt: int) -> tuple[int, int, int, bytes]:
        """What a dead worker had not sent of its attempt: the kind, the first one's number, how
        many, and the values as they lie here, or frames."""
        cells = self.cells
        kind, base = int(cells[KIND]), int(cells[BASE])
        if kind == EMPTY or kind > PICKLED or cells[ATTEMPT] != attempt:
            return EMPTY, 0, 0, b""
        count = self.count()
        if kind == FRAMES:
            body = bytes(self.area[: min(count, len(self.area))])
        else:
            body = self.raw(count)
        if cells[KIND] != kind or cells[BASE] != base:
            return EMPTY, 0, 0, b""  # a living one has begun anew under our eyes: these are sent
        return kind, base, count, body


def values(kind: int, count: int, body: bytes) -> list[Any]:
    """The values that lay in a tray; of PICKLED, some may still be pickles."""
    if kind == NONE:
        return [None] * count
    if kind in _END_TO_END:
        return _plain.loads(body)
    found: list[Any] = memoryview(body).cast("q" if kind == INT else "d").tolist()
    return found
