"""Many short items in one go: where values are of one plain type, an item costs little more than
its call, a look at the stop word, and a place in the tray. (For values of other types, or of more
than one, see mixed_lane.py.)

Invariants
 1. Before an item begins, the values of all before it lie in the tray, and by that the board says
    which item it is (S45).
 2. The stop word, and whatever else may have been ordered, is looked at right before each call,
    after the board has named the item (S12, S13).
 3. An item that has used its token ends the run: so the next one begins with a clean row. Its own
    value finds the places closed, and is told by itself.
 4. The clock is looked at before each item, or, where they are short, every few. So the row may say
    of one that it began when one shortly before it did.
 5. A copy of the worker that a task has forked off, and that comes back from it, finds the places
    closed too: it writes nothing, and calls for no further item.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from time import monotonic_ns
from typing import Any

from andon._board import tray
from andon._board.row import STARTED_NS
from andon._buffers.parcel import Parcel
from andon._worker.state import current

_KINDS: dict[type, int] = {int: tray.INT, type(None): tray.NONE, float: tray.FLOAT}
_MANY = 1024  # items, from one look at the clock to the next
_SHORTLY_NS, _LONG_NS = 250_000, 2_000_000  # that they take
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


def kind_of(value: Any) -> int:
    """The lane for values of this type."""
    kind = _KINDS.get(type(value), tray.MIXED)
    return tray.MIXED if kind == tray.INT and not _LEAST <= value <= _MOST else kind


def starred(fn: Callable[..., Any]) -> Callable[[Any], Any]:
    """`fn(*item)`, for a run that calls with one argument."""
    return lambda item: fn(*item)


def called(fn: Callable[..., Any]) -> Callable[[Any], Any]:
    """The same where an item is both kinds of arguments."""
    return lambda item: fn(*item[0], **item[1])


def until_next_look(few: int, took_ns: int) -> int:
    """How many items it is to the next look at the clock, when so many took so long. Where one is
    not short, it is one: so the row says when it began, and its value is told in time."""
    if took_ns < _SHORTLY_NS:
        return min(2 * few, _MANY)
    return few if took_ns < _LONG_NS else 1


class Odd:
    """What a lane has not taken: a value, or, where it is pickled already, that; or an item whose
    unpickling has raised this error."""

    __slots__ = ("body", "error", "value")

    def __init__(
        self,
        value: Any = None,
        body: bytes | Parcel | None = None,
        error: BaseException | None = None,
    ) -> None:
        self.value = value
        self.body = body
        self.error = error


def run(
    fn: Callable[[Any], Any],
    items: Iterator[Any],
    kind: type,
    places: memoryview[Any],
    quick: memoryview,
    word: int,
    seen: int,
    until: int,
) -> Odd | None:
    """Call for one item after the other; the first one's value goes to place 1.

    Ends with the items; or before the next one, where there is cause to look closer: the half at
    `word` is not what was `seen`; at the time `until`; at the end of the places. A value that they
    do not take is returned.
    """
    at, few = 1, 1
    last = len(places) - 1
    while at <= last:
        stop, before = min(few, last - at + 1) + at, monotonic_ns()
        current.cells[STARTED_NS] = before
        if before > until:
            return None
        for item in islice(items, stop - at):
            value = fn(item)
            if type(value) is not kind:
                return Odd(value)
            try:
                places[at] = value
            except ValueError:  # an integer of more than 64 bits, or they are closed
                return Odd(value)
            at += 1
            if quick[word] != seen:
                return None
        if at < stop:
            return None
        few = until_next_look(few, monotonic_ns() - before)
    return None


def run_without_values(
    fn: Callable[[Any], Any],
    items: Iterator[Any],
    kind: type,
    places: memoryview[Any],
    quick: memoryview,
    word: int,
    seen: int,
    until: int,
) -> Odd | None:
    """The same where they return None: the one place says how many have."""
    at, few = 1, 1
    while True:
        stop, before = few + at, monotonic_ns()
        current.cells[STARTED_NS] = before
        if before > until:
            return None
        for item in islice(items, few):
            value = fn(item)
            if value is not None:
                return Odd(value)
            at += 1
            try:
                places[0] = at
            except ValueError:  # closed
                return Odd(None)
            if quick[word] != seen:
                return None
        if at < stop:
            return None
        few = until_next_look(few, monotonic_ns() - before)


def _after_fork_in_child() -> None:
    current.is_copied()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
