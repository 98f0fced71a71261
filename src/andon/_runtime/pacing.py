"""How many items of a map travel in a span, and how many spans are under way.

    measured seconds of an item ──▶ Pacing ──▶ items of the next span, spans that may be under way

Items travel in spans; a span is transport only, each item has its own outcome (S45). Spans grow
until one takes `_SHORT` seconds, by the time that the items were measured to take, so that short
items cost little and a long one never holds up many. The longer a map runs, or is known to run,
the longer they may take, up to `_LONG`, or `_SHARED` where other groups use the same workers; where
the number of the items is known, they become shorter again toward its end, so that all workers come
to it together. A map begins at the pace of the last one of its function.
"""

from __future__ import annotations

import time
from typing import Any

from andon._engines.port import Capabilities, Pace
from andon._runtime.groups import Group

_SHORT, _LONG = 0.005, 0.1  # seconds that a span takes
_SHARED = 0.02  # the most, where tasks of other groups may wait for the workers
_SHORTEST = 0.0002  # seconds; with many workers spans of short items would be shorter
_PART = 0.05  # of the time that a map has run: so much a span may take
_SHARES = 1.5  # of each worker in what is left: one of them is the next span
_FIRST = 0.001  # seconds of the first spans, where it is known what an item took before
_GROWTH = 8
_LEAST = 0.002  # seconds; shares are not made shorter than that
_SPAN_BYTES = 4 << 20  # of large items or results, so that few of them are on their way at a time
_WAITING_BYTES = 32 << 20  # of results that nobody has taken; but a few in any case
_LONGEST_SPAN = 32768  # items
MOST_WAITING = 65536  # items, however many workers and however short they are
_SPANS_AHEAD = 3  # per worker: one runs, one waits, one is being read
_LARGE, _LARGE_AHEAD = 1 << 20, 2  # bytes of an item; spans per worker
_WAITING = 4  # results that nobody has taken, in multiples of the spans ahead
_BRIEF = 20e-6  # seconds of an item for which it is not worth it to wake more workers than cores
_FEW = 6  # spans


class Pacing:
    """One map's. `length`: its items, where that is known."""

    def __init__(self, group: Group, chunksize: int | None, length: int | None) -> None:
        capabilities: Capabilities = group.runtime.capabilities
        self._group = group
        self.fixed = chunksize is not None  # the caller has decided
        self._length = length
        self.slots = capabilities.slots
        self.chunk = chunksize or 1
        self.ahead = _SPANS_AHEAD * self.slots  # spans
        self._few = int(min(self.ahead, max(_FEW, _SPANS_AHEAD * capabilities.cores)))
        # Spans under way at most: as long as nobody knows how long items take, there are few in
        # each. And those that can be split: where it is not worth it to wake more workers than
        # there are cores; should an item take long after all, those behind it go to idle workers.
        self.at_most = self.ahead if self.fixed else max(self.slots, self._few)
        self.at_most_whole = self.ahead
        self.gathers = False  # nobody wants a result before the last
        self._item_size = self._result_size = 0  # bytes of one, lately; 0: not large
        self._pace_of = capabilities.pace
        self._pace: Pace | None = None
        self._began = time.monotonic()
        self._seconds = 0.0  # of an item lately, or in an earlier map; 0: not known
        self._measured = False  # in this one

    def expected(self, items: int) -> float:
        """Seconds that so many should take; 0: nobody knows. Those of an earlier map may have been
        others: an idle worker shall not trust in that."""
        return self._seconds * items if self._measured else 0.0

    def sent(self, packed: Any, size: int) -> None:
        """So many bytes are large in an item that was sent."""
        self._item_size = size
        if not self.fixed:
            self._pace = self._pace_of(packed)  # not always its own: what cannot travel is told of
            if self._pace.seconds and not self._seconds:
                self.chunk = max(self.chunk, int(_FIRST / self._pace.seconds / _GROWTH))
                self._fit(self._pace.seconds)

    def measured(self, seconds: float, size: int | None = None) -> None:
        """So long has an item taken; so many bytes are large in its result."""
        if size is not None:
            self._result_size = size
        if not self.fixed:
            self._measured = True
            if self._pace is not None:
                self._pace.seconds = seconds
            self._fit(seconds)

    def _fit(self, seconds: float) -> None:
        self._seconds = seconds
        longest = self._longest(seconds)
        fits = int(self._may_take() / seconds) if seconds > 0 else longest
        size = max(self._item_size, self._result_size)
        fits = min(fits, longest, _SPAN_BYTES // size if size else fits)
        if fits < self.chunk:
            self.chunk = max(1, fits)
        else:  # grow step by step, so that one short item among long ones does no harm
            self.chunk = min(self.chunk * _GROWTH, fits)
        brief = 0 < seconds < _BRIEF and self._length is not None
        # What lies ready longer is in no cache any more when a worker reads it.
        self.at_most = _LARGE_AHEAD * self.slots if self._item_size > _LARGE else self.ahead
        self.at_most_whole = self._few if brief else self.ahead

    def _longest(self, seconds: float) -> int:
        """Items of a span. As many as may wait are shared out among the spans that are ahead,
        unless these would be too short to be worth it; who gathers keeps all results anyway."""
        if self.gathers:
            return _LONGEST_SPAN
        share = MOST_WAITING // self.ahead
        worth = int(_SHORTEST / seconds) if seconds > 0 else 1
        return max(1, min(_LONGEST_SPAN, max(share, worth)))

    def _may_take(self) -> float:
        """Seconds, of a span."""
        most = _LONG if self._group.runtime.is_alone(self._group) else _SHARED
        if self._length is not None:
            return most
        return min(most, max(_SHORT, _PART * (time.monotonic() - self._began)))

    def next_span(self, submitted: int) -> int:
        """Items of it, when so many of the map have been sent: a chunk, or less toward the end."""
        if self._length is None or self.fixed:
            return self.chunk
        share = int((self._length - submitted) / (_SHARES * self.slots))
        least = int(_LEAST / self._seconds) if self._seconds > 0 else 1
        if not self._measured:
            # So that all are read, and idle workers can ask for what waits behind a long one.
            least = min(least, -(-self._length // min(self.slots, self._few - 1)))
        return min(self.chunk, max(share, least, 1))

    def most_waiting(self) -> int:
        """Items that may be on their way or wait to be taken."""
        most = _WAITING * self.ahead * self.chunk
        if not self.gathers:
            most = min(most, MOST_WAITING)
        if self._result_size:
            most = min(most, max(self.ahead, _WAITING_BYTES // self._result_size))
        return most
