"""Runs: what a worker does around a lane, in which the short items of a span follow each other.

a value ──▶ its lane begins ── lane.run, mixed_lane.run ──▶ it ends, and what lies in the tray
              ▲                                               is sent
              └───────────── a value of another type ─────────┘
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from andon import _wire
from andon._board import Board
from andon._board import row as _row
from andon._board.tray import EMPTY, FILLED, KIND, MIXED, NONE, PICKLED
from andon._buffers import lending
from andon._buffers.parcel import Parcel
from andon._pickling import loads
from andon._plain import FORMAT, dumps, is_plain, within
from andon._worker import lane, mixed_lane
from andon._worker.answers import Answers
from andon._worker.call import careful_call
from andon._worker.state import current

_SMALL = 4  # of one value: so many have room in the tray


class Runs(Answers):
    """The middle of the loop."""

    def _run_on(
        self,
        fn: Callable[[Any], Any],
        items: Iterator[Any],
        pickled: bool,
        held: list[Any],
        first: int,
        hi: int,
        started: float,
        fatal: int,
    ) -> tuple[int, bool]:
        """Item `first` has returned the value that is `held`: go on in its lane, and in another
        where that ends. `pickled`: each item is a pickle. Answers for all that ended; returns the
        next item's number, and whether the attempt is over."""
        self._check_self()
        cells, tray, word = self._cells, self._tray, Board.quick_index(current.slot)
        kind = MIXED if pickled else lane.kind_of(held[0])
        body: bytes | Parcel | None = None  # the value's, where it is pickled
        while True:
            seen = current.quick[word]  # before the look: an order after it changes this
            value, packed = held[0], b""
            if kind == MIXED:
                value = None
                kind, packed, body = self._pack(held, body)
                if kind == EMPTY:
                    break
            places = self._begin(kind, value, packed, first, hi)
            held[0] = body = None
            ended: list[Any] = [None, None]
            current.lane = places
            if not current.cut_short() and not current.used:
                look = current.quick, word, seen
                now, patience = time.monotonic_ns(), self._outbox.patience_ns
                # The next item may take as long as this one did: its value does not wait for that.
                until = 0 if now - started * 1e9 > patience else now + patience
                if packed:
                    how = loads if pickled else None, self._pickling.dumps
                    args = fn, items, *how, tray, hi - first, places, *look, until
                    ended = careful_call(mixed_lane.run, args, {})
                else:
                    run = lane.run_without_values if kind == NONE else lane.run
                    ended = careful_call(run, (fn, items, type(value), places, *look, until), {})
                self._check_self()  # before anything is pulled or written
            current.lane = None
            count = tray.count()
            index = first + count
            odd, error = ended
            ended.clear()
            if index == hi:
                error = None  # an interrupt that came behind the last item: too late (S34)
            elif odd is not None:
                error = odd.error
            begun = cells[_row.STARTED_NS] / 1e9
            if error is not None and fatal and not current.stopping():
                self._pull(error)  # before anything else (S11)
            all_told = error is None and odd is None
            tray.cells[FILLED] = count
            cells[_row.INDEX] = index - all_told  # then the next one has not begun
            over = all_told and (index == hi or current.cut_short())
            self._run_ended(int(tray.cells[KIND]), first, count, started, over)
            if all_told:
                return index, over
            first, started = index, begun
            held[1], error = error, None
            if odd is None:
                break
            held[0], body = odd.value, odd.body
            odd = None
            if held[1] is not None:
                end = _wire.LAST if first + 1 == hi else 0
                stage = _wire.STAGE_ARGUMENTS
                return first + 1, self._failure(held, first, None, stage, fatal, end)
            if first + 1 == hi or current.used or current.interrupted or current.cut_short():
                break
            kind = MIXED
        last = first + 1 == hi
        return first + 1, self._item_ended(held, first, started, fatal, last, body)

    def _begin(self, kind: int, value: Any, packed: bytes, first: int, hi: int) -> memoryview[Any]:
        """The lane's places, with the first value in its own."""
        self._flush()
        cells, tray = self._cells, self._tray
        if lending.lent:
            lending.settle()
        places = tray.begin(kind, current.attempt, first, hi - first)
        if packed:
            places[: len(packed)] = packed
            tray.ends[0] = len(packed)
        else:
            places[0] = 1 if value is None else value
        cells[_row.INDEX] = _row.IN_LANE
        cells[_row.STARTED_NS] = time.monotonic_ns()
        cells[_row.PHASE] = _row.RUNNING
        return places

    def _pack(
        self, held: list[Any], body: bytes | Parcel | None
    ) -> tuple[int, bytes, bytes | Parcel | None]:
        """What the lane for values of any type begins with: its kind, and the value as it lies
        there. EMPTY: that is too large for it, or cannot be pickled. And the pickle, if any."""
        if body is None:
            self._cells[_row.PHASE] = _row.PICKLING
            try:
                body = self._pickling.dumps(held[0])
            except BaseException:
                return EMPTY, b"", None  # whoever answers for it tries again, and tells of it
            if isinstance(body, Parcel) or len(body) > len(self._tray.data) // _SMALL:
                return EMPTY, b"", body
            if is_plain(held[0]):
                packed = dumps(held[0], FORMAT)
                if len(packed) <= len(self._tray.data):  # what is in it twice, is there twice
                    return MIXED, packed, None
        if isinstance(body, Parcel):
            return EMPTY, b"", body
        held[0] = None  # see invariant 1 of answers.py
        packed = within(body)
        return (
            (PICKLED, packed, body) if len(packed) <= len(self._tray.data) else (EMPTY, b"", body)
        )
