"""The input of a map: read lazily, in bounded memory, never past the decision (S46), and sent in
spans.

    input ── read ──▶ inbox ── a span ──▶ runtime

Plain containers are read by whoever waits for results. Any other iterable may block, and then
neither finished results nor a failure may wait for it: a thread reads it, in the caller's context.

How many in each, `pacing.py` says. What has been read is not kept back for a full span while a
worker is free.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Protocol

from andon._cancelled import Cancelled
from andon._engines.port import Call
from andon._plain import SCALARS
from andon._runtime.calls import may_travel_together
from andon._runtime.groups import Group
from andon._runtime.pacing import Pacing
from andon._runtime.sending import submit_items
from andon._runtime.tasks import Run, Task
from andon._runtime.wakeup import Wakeup
from andon._threads import start
from andon._worker.context import in_context
from andon.errors import AndonError, GroupClosedError
from andon.outcome import Outcome

_CONTAINERS = (list, tuple, range, str, bytes, dict, set, frozenset, deque)


class Source(Protocol):
    """An input that is read in spans, by the stream's thread."""

    def read(self, count: int) -> tuple[list[Any], bool]:
        """Up to `count` items, as many as come soon after the first; and whether it is at its
        end. Blocks."""

    def close(self) -> None:
        """Nobody reads any more: end a `read` that blocks."""


class Reading:
    """The lower half of a stream: what it reads and sends. `_popped` counts the results that the
    upper half has handed out, or has at its `front`; it is the sink of the tasks."""

    take: Callable[[Task, Outcome], None]
    take_run: Callable[[Task, Run], None]
    broken: Callable[[BaseException], None]

    def __init__(
        self,
        group: Group,
        fn: Callable[..., Any],
        items: Iterable[Any],
        *,
        star: bool,
        chunksize: int | None,
        buffersize: int | None,
        timeout: float | None,
        source: Source | None,
        wakeup: Wakeup | None,
    ) -> None:
        self._group = group
        # What the caller has now is what the items get, whoever sends them when.
        self._fn = in_context(fn, group.variables) if group.variables else fn
        self._star = star
        self._timeout = timeout
        self._items = iter(items)
        self._source = source
        if not may_travel_together(group.policy):
            chunksize = 1
        self._buffersize = buffersize
        self._weigh = group.runtime.capabilities.weigh
        self._freeze = group.runtime.capabilities.freeze
        self._inbox: list[Any] = []  # read, and not yet sent
        self._unsent = False  # some of it never will be: the group is over
        self._sending = threading.Lock()
        self._offsets: dict[int, int] = {}  # task → position of its item 0, less its index
        self._submitted = 0
        self._popped = 0
        self.front: deque[Any] = deque()
        self._spans = 0  # in flight
        self._whole_spans: set[int] = set()  # of these, those of several items, not yet split
        self._exhausted = False
        self._error: BaseException | None = None  # of the input, or of andon
        self._wakeup = Wakeup() if wakeup is None else wakeup
        self._room = Wakeup()
        self._reading = False
        self._closed = False
        self._leaves = False  # the body, with the last task
        self._thread: threading.Thread | None = None
        self._in_thread = wakeup is not None or not isinstance(items, _CONTAINERS)
        if self._in_thread:
            group.runtime.capabilities.foresee(fn)
        self._length = None if self._in_thread else len(items)  # type: ignore[arg-type]
        # Of these a span is cut, which is quicker than to iterate; and a range travels as such.
        cut = not self._in_thread and type(items) in (list, tuple, range)
        self._whole: Any = items if cut else None
        self._at = 0  # of it, what is to be read next
        self._pacing = Pacing(group, chunksize, self._length)

    def _begin(self) -> None:
        if self._in_thread:
            self._start_reader()
        else:
            self._fill()

    def _start_reader(self) -> None:
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run,
            args=(self._read_all,),
            name=f"{self._group.runtime.name}-reader",
            daemon=True,
        )
        try:
            start(self._thread)
        except RuntimeError:
            self._thread = None
            raise

    @property
    def all_sent(self) -> bool:
        """Is all input on its way to workers, or back?"""
        counted = self._length is not None and self._submitted >= self._length
        return counted or self._closed or (self._exhausted and not self._inbox)

    def leave_when_over(self) -> None:
        """Leave the body with the last task, whoever still takes results: no deadline passes after
        the last success."""
        self._leaves = True
        self._leave_if_over()

    def _leave_if_over(self) -> None:
        if self._leaves and self.all_sent and not self._spans:
            self._group.runtime.leave_body_soon(self._group)

    # Reading -------------------------------------------------------------------------------------

    def _room_for(self) -> int:
        """How many items may be read now."""
        if self._exhausted or self._nobody_asks():
            return 0
        waiting = self._submitted + len(self._inbox) - self._popped + len(self.front)
        if self._buffersize is not None:
            return self._buffersize - waiting
        pacing = self._pacing
        if self._spans >= pacing.at_most or len(self._whole_spans) >= pacing.at_most_whole:
            return 0
        return pacing.most_waiting() - waiting

    def _wants_more(self) -> bool:
        return self._room_for() > 0

    def _hungry(self) -> bool:
        """Is a worker free that could have what has been read?"""
        return (
            bool(self._inbox)
            and self._spans < self._pacing.slots
            and not self._pacing.fixed
            and not self._nobody_asks()
        )

    def _nobody_asks(self) -> bool:
        group = self._group
        return (
            self._closed
            or group.over  # left by a body that had lost interest: nothing will make room any more
            or group.reason is not None
            or group.runtime.crashed is not None
        )

    def _fill(self) -> None:
        """Read a container."""
        while (room := self._room_for()) > 0:
            count = min(self._pacing.next_span(self._submitted), room)
            try:
                items = self._take_up_to(count)
            except BaseException:
                self._exhausted = True  # the body's own error (S46)
                raise
            self._send(items)
            if len(items) < count:  # only now: else the last items would not be waited for
                self._exhausted = True
                self._whole, self._items = None, iter(())
                self._wakeup.notify()
                self._leave_if_over()

    def _take_up_to(self, count: int) -> Sequence[Any]:
        if self._whole is None:
            return list(islice(self._items, count))
        items: Sequence[Any] = self._whole[self._at : self._at + count]
        self._at += count
        return items

    def _read_all(self) -> None:
        """Read what may block, in a thread of its own."""
        read = self._read if self._source is None else self._read_source
        try:
            while not (self._exhausted or self._nobody_asks()):
                room = self._room_for()
                if room > 0:
                    read(room)
                elif self._hungry():
                    self._send_inbox()  # spans have become so short that what is left fills many
                self._room.wait(self._reader_has_news)
        except (Cancelled, AndonError) as stop:
            # The group stopped or closed while we read; the consumer is told by the group itself.
            if self._group.reason is None and not self._group.over:
                self._error = stop
        except BaseException as error:
            self._error = error
        self._wakeup.notify()
        self._items = iter(())

    def _reader_has_news(self) -> bool:
        return self._wants_more() or self._hungry() or self._exhausted or self._nobody_asks()

    def _read(self, room: int) -> None:
        """Up to `room` items, each of which may be long in coming."""
        count, inbox, pacing = 0, self._inbox, self._pacing
        self._reading = True
        try:
            for item in islice(self._items, room):
                count += 1
                # The input may go on and change what it has handed out, while that waits here for
                # others. (Where chunks of a size were asked for, it would do so anywhere.)
                now = False
                waits = bool(inbox) or pacing.chunk > 1
                if waits and type(item) not in SCALARS and not pacing.fixed:
                    frozen = self._freeze(item)
                    now = frozen is None
                    item = item if now else frozen
                inbox.append(item)
                if now or len(inbox) >= pacing.chunk or self._spans < pacing.slots:
                    self._reading = False
                    if now or len(inbox) >= pacing.chunk or self._hungry():
                        self._send_inbox()
                    self._reading = True
        finally:
            self._reading = False
        self._has_read(count < room)

    def _read_source(self, room: int) -> None:
        assert self._source is not None
        self._reading = True
        try:
            items, ended = self._source.read(min(self._pacing.chunk, room))
        finally:
            self._reading = False
        self._inbox += items
        self._send_inbox()
        self._has_read(ended)

    def _has_read(self, ended: bool) -> None:
        if ended:
            self._send_inbox()  # also where the consumer is just sending the last of it
            self._exhausted = True
            self._leave_if_over()
        elif self._buffersize is not None:
            self._send_inbox()  # there is no room for more to go with it

    # Sending -------------------------------------------------------------------------------------

    def _send_inbox(self) -> None:
        with self._sending:
            while self._inbox:
                count = self._pacing.chunk
                items = self._inbox[:count]
                del self._inbox[:count]
                if not self._send(items):
                    self._inbox.clear()
                    self._unsent = True

    def _send(self, items: Sequence[Any]) -> bool:
        """Send a span; False where the group began to stop, or was left, as we read. What ended
        before that is handed out first."""
        if items:
            seconds = self._pacing.expected(len(items))
            call = Call(
                self._fn,
                items=items,
                star=self._star,
                seconds=seconds,
                first=self._submitted,
                gathered=self._pacing.gathers,
            )
            try:
                submit_items(self._group, call, self._register, timeout=self._timeout)
            except (Cancelled, GroupClosedError):
                if self._group.reason is None and not self._group.over:
                    raise
                return False
        return True

    def _register(self, task: Task) -> Reading:
        self._offsets[task.id] = self._submitted - task.index
        self._submitted += task.size
        self._spans += 1
        if task.size > 1:
            self._whole_spans.add(task.id)
        self._pacing.sent(task.packed, self._weigh(task.packed) // task.size)
        return self

    def split(self, task: Task, part: Task) -> None:
        """A sink's method: the rest of a span is one of its own, behind an item that takes long."""
        self._offsets[part.id] = self._offsets[task.id]
        self._spans += 1
        self._whole_spans.discard(task.id)
        if part.size > 1:
            self._whole_spans.add(part.id)
        self._room.notify()
        self._tell()

    def over(self, task: Task) -> None:
        """A sink's method: a span is over, and there is room for another."""
        self._spans -= 1
        self._whole_spans.discard(task.id)
        del self._offsets[task.id]
        self._room.notify()
        self._tell()
        self._leave_if_over()

    def _tell(self) -> None:
        """There is news for the consumer; one who only gathers is left to sleep until workers may
        soon want more."""
        pacing = self._pacing
        few = 0 if self._exhausted else pacing.ahead - pacing.slots  # spans
        if not pacing.gathers or self._spans <= few:
            self._wakeup.notify()
