"""A worker's tray: where the values of items that are over lie until they are sent.

Items of a span end faster than frames can be sent for them, and no finished result may be lost when
the worker dies in a later one (S45). So each value is laid into shared memory before the next item
begins, and goes on its way with many others; what a dead worker had not sent, its parent takes from
here. A tray holds either values of one plain type, side by side, or whole frames, end to end.

Invariants
 1. One writer: the worker. The parent reads a tray when its worker is dead, or at one item for
    so long that all it has written before can be seen.
 2. A value counts once the row's INDEX has passed its item, or FILLED says so; frames once FILLED
    says so: whatever moment the worker dies at, what counts is whole.
 3. What has been sent lies here until the next is laid: a task may have written into the pipe
    before it, so that nobody can read it there. Else the parent knows by the index, and passes
    over it.
"""

from __future__ import annotations

import sys
from typing import Any, Final

# The head, by index of 64-bit fields.
KIND, ATTEMPT, BASE, FILLED = range(4)
_HEAD = 4 * 8

TRAY_BYTES: Final = 32768 if sys.platform != "win32" else 2048  # there, memory counts when reserved
LANE: Final = (TRAY_BYTES - _HEAD) // 8  # values side by side

EMPTY, NONE, INT, FLOAT, FRAMES = range(5)


class TrayView:
    """A tray, field by field. `cells` is its head; `ints` and `floats` are its lanes."""

    __slots__ = ("area", "cells", "floats", "ints")

    def __init__(self, memory: memoryview) -> None:
        self.cells: memoryview = memory[:_HEAD].cast("Q")
        self.area: memoryview = memory[_HEAD:]
        self.ints: memoryview[Any] = self.area.cast("q")
        self.floats: memoryview[Any] = self.area.cast("d")

    def begin(self, kind: int, attempt: int, base: int) -> memoryview[Any] | None:
        """From now on it holds what this says, and what lay here before has been sent. The places
        for values side by side; None: of this kind they need none."""
        cells = self.cells
        cells[KIND] = EMPTY  # whoever looks between two of these lines finds nothing
        cells[ATTEMPT] = attempt
        cells[BASE] = base
        cells[FILLED] = 0
        cells[KIND] = kind
        return self.ints if kind == INT else self.floats if kind == FLOAT else None

    def clear(self) -> None:
        """For a new worker: what lies here is an earlier one's."""
        self.cells[KIND] = EMPTY

    def values(self, count: int) -> list[Any]:
        """The first `count` of the values side by side."""
        kind = self.cells[KIND]
        if kind == NONE:
            return [None] * count
        values: list[Any] = (self.ints if kind == INT else self.floats)[:count].tolist()
        return values

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

    def unsent(self, attempt: int, index: int) -> tuple[int, list[Any], bytes]:
        """What a dead worker had not sent of its attempt, with its row at that item: values from
        the first one's number on, or frames."""
        cells = self.cells
        kind, base, filled = int(cells[KIND]), int(cells[BASE]), int(cells[FILLED])
        if kind == EMPTY or kind > FRAMES or cells[ATTEMPT] != attempt:
            return base, [], b""
        count = filled or index - base
        values: list[Any] = []
        frames = b""
        if kind == FRAMES:
            frames = bytes(self.area[: min(filled, len(self.area))])
        elif 0 < count <= LANE or kind == NONE:
            values = self.values(count)
        if cells[KIND] != kind or cells[BASE] != base:
            return base, [], b""  # a living one has begun anew under our eyes: it has sent these
        return base, values, frames
