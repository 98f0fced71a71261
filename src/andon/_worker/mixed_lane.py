"""The lane for small values of any type: strings, tuples, objects of the user's (see lane.py, whose
invariants hold here too).

    item ──(pickled?)──▶ call ──▶ value ── plain ──▶ marshal ─────────────┐
                                    └───── else ───▶ pickle, in a tuple ──┴──▶ the tray: its bytes,
                                                                               then where they end

Invariants
 1. Interrupts are raised while the item's call runs, and at no other moment (S17): not into
    pickling and unpickling, which may run user code, and not into a value on its way to the tray
    (S34).
 2. Arguments and value are dropped before the value counts, unless they are plain: a `__del__`
    that kills the worker kills it within its own item. So are large arguments that were lent.
 3. The row says UNPICKLING or PICKLING while user code may run for that, and until its call begins,
    that the item has not started (S13, S25). What was unpickled is followed by a look of its own
    at the stop word (S12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from time import monotonic_ns
from typing import Any

from andon._board.row import PHASE, PICKLING, RUNNING, STARTED_NS, UNPICKLING
from andon._board.tray import KIND, PICKLED, TrayView
from andon._buffers.lending import lent, settle
from andon._buffers.parcel import Parcel
from andon._gate import gate
from andon._plain import FORMAT, SCALARS, dumps, is_plain
from andon._worker.lane import Odd, until_next_look
from andon._worker.state import current


def run(
    fn: Callable[[Any], Any],
    items: Iterator[Any],
    unpickle: Callable[[Any], Any] | None,
    pickle: Callable[[Any], bytes | Parcel],
    view: TrayView,
    count: int,
    data: memoryview,
    quick: memoryview,
    word: int,
    seen: int,
    until: int,
) -> Odd | None:
    """As `lane.run`, of `count` items, the first of which is over; each is a pickle, where there is
    an `unpickle`. The places are `data`, and the tray's ends."""
    gate.user = False  # not yet: the first item is still to be unpickled
    cells, head, ends = current.cells, view.cells, view.ends
    at, end = 1, int(ends[0])
    last, few = min(len(ends), count) - 1, 1
    while at <= last:
        stop, before = min(few, last - at + 1) + at, monotonic_ns()
        cells[STARTED_NS] = before
        if before > until:
            return None
        for item in islice(items, stop - at):
            if unpickle is not None:
                cells[STARTED_NS] = 0
                cells[PHASE] = UNPICKLING
                try:
                    item = unpickle(item)
                except BaseException as error:
                    return Odd(error=error)
                cells[STARTED_NS] = monotonic_ns()
                cells[PHASE] = RUNNING
                if quick[word] != seen:
                    seen = quick[word]
                    if current.cut_short():
                        return None
            gate.user = True
            value = fn(item)
            gate.user = False
            body = None
            if unpickle is not None:
                item = None
            try:
                if type(value) in SCALARS or is_plain(value):
                    packed = dumps(value, FORMAT)
                else:
                    len(data)  # is it closed?
                    cells[PHASE] = PICKLING
                    body = pickle(value)
                    if type(body) is not bytes:
                        return Odd(value, body)
                    packed = dumps((..., body), FORMAT)
                    value = None
                    head[KIND] = PICKLED  # before the first of them counts
                begin, end = end, end + len(packed)
                data[begin:end] = packed
            except BaseException:  # no room, or closed, or it cannot be pickled
                return Odd(value, body)
            if body is not None:
                cells[PHASE] = RUNNING
            if lent:
                settle()
            ends[at] = end
            at += 1
            if quick[word] != seen:
                return None
        if at < stop:
            return None
        few = until_next_look(few, monotonic_ns() - before)
    return None
