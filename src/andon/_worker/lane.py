"""Many short items in one go: where values are of one plain type, an item costs little more than
its call, a look at the stop word, and a place in the tray.

Invariants
 1. Before an item begins, the values of all before it lie in the tray, and the row says so (S45).
 2. The stop word, and whatever else may have been ordered, is looked at right before each call,
    after the row has named the item (S12, S13).
 3. An item that has used its token ends the run: so the next one begins with a clean row.
 4. The clock is looked at every few items only. So where many are short, the row may say of one
    that it began when one shortly before it did.
 5. A copy of the worker that a task has forked off, and that comes back from it, writes nothing
    and calls for no further item.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from time import monotonic_ns
from typing import Any

from andon._board import tray
from andon._board.row import INDEX, ORDER_COUNT, STARTED_NS
from andon._worker.state import current

_KINDS: dict[type, int] = {int: tray.INT, type(None): tray.NONE, float: tray.FLOAT}
_LOOK_EVERY = 8  # items
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_copied = False  # looked at after each item: the system is slow to tell us our pid


def kind_of(value: Any) -> int:
    """The lane for values of this type; EMPTY: none."""
    kind = _KINDS.get(type(value), tray.EMPTY)
    return tray.EMPTY if kind == tray.INT and not _LEAST <= value <= _MOST else kind


def starred(fn: Callable[..., Any]) -> Callable[[Any], Any]:
    """`fn(*item)`, for a run that calls with one argument."""
    return lambda item: fn(*item)


def run(
    fn: Callable[[Any], Any],
    items: Iterator[Any],
    kind: type,
    lane: memoryview[Any] | None,
    index: int,
    at: int,
    cells: memoryview,
    words: memoryview,
    slot: int,
    clear: int,
    orders: int,
    until: int,
) -> tuple[Any] | None:
    """Call for one item after the other, the first of which is number `index`, whose value goes to
    place `at` of the lane (None: nothing need be kept of a None).

    Ends with the items; or before the next one, where there is cause to look closer: a stop, an
    order, the time `until`, the lane's end. A value that the lane cannot hold is returned.
    """
    last = len(lane) - _LOOK_EVERY if lane is not None else 1
    state = current
    while True:
        before = index
        for item in islice(items, _LOOK_EVERY):
            value = fn(item)
            if type(value) is not kind or _copied:
                return (value,)
            if lane is not None:
                try:
                    lane[at] = value
                except ValueError:  # an integer of more than 64 bits
                    return (value,)
                at += 1
            index += 1
            cells[INDEX] = index
            if words[slot] != clear or cells[ORDER_COUNT] != orders or state.used:
                return None
        if index - before < _LOOK_EVERY:
            return None
        cells[STARTED_NS] = now = monotonic_ns()
        if now > until or at > last:
            return None


def own() -> None:
    """This process is a worker, and no copy of one."""
    global _copied
    _copied = False


def _after_fork_in_child() -> None:
    global _copied
    _copied = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
