"""A map in flight: lazily read input, spans of items, and results in order or as they end.

The input is read in bounded memory and never past the decision (S46). Plain containers are read by
whoever waits for results. Any other iterable may block, and then neither finished results nor a
failure may wait for it: a thread reads it, in the caller's context.

Items travel in spans; a span is transport only, each item has its own outcome (S45). Spans grow
until one takes about `_SPAN_SECONDS`, by the time that the items were measured to take, so that
short items cost little and a long one never holds up many.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from andon._cancelled import Cancelled
from andon._engines.port import Call
from andon._runtime.groups import Group
from andon._runtime.sending import submit_items
from andon._runtime.tasks import Task
from andon._runtime.wakeup import Wakeup
from andon._worker.context import in_context
from andon.errors import AndonError
from andon.outcome import Outcome, TaskState

_SPAN_SECONDS = 0.005
_LONGEST_SPAN = 512
_SPANS_AHEAD = 3  # per worker: one runs, one waits, one is being read
_WAITING = 4  # results that nobody has taken, in multiples of the spans ahead
_CONTAINERS = (list, tuple, range, str, bytes, dict, set, frozenset, deque)


class Source(Protocol):
    """An input that is read in spans, by the stream's thread."""

    def read(self, count: int) -> tuple[list[Any], bool]:
        """Up to `count` items, as many as come soon after the first; and whether it is at its
        end. Blocks."""

    def close(self) -> None:
        """Nobody reads any more: end a `read` that blocks."""


class Stream(Iterator[Any]):
    """The results of `fn` over `items`, as an iterator; see `TaskGroup.map` for what users see.

    `ordered`: in the order of the input; otherwise as they end. `as_outcomes`: yields `Outcome`s,
    those of stopped items too, instead of values. `source` is read instead of `items`. `wakeup` is
    notified of all that a consumer who must not block wants to know: it asks `ready`, and takes.
    A thread reads what may block, and all input where the consumer must not.
    """

    def __init__(
        self,
        group: Group,
        fn: Callable[..., Any],
        items: Iterable[Any],
        *,
        star: bool = False,
        ordered: bool = True,
        as_outcomes: bool = False,
        chunksize: int | None = None,
        buffersize: int | None = None,
        timeout: float | None = None,
        source: Source | None = None,
        wakeup: Wakeup | None = None,
    ) -> None:
        self._group = group
        # What the caller has now is what the items get, whoever sends them when.
        self._fn = in_context(fn, group.variables) if group.variables else fn
        self._star = star
        self._ordered = ordered
        self._as_outcomes = as_outcomes
        self._timeout = timeout
        self._items = iter(items)
        self._source = source
        policy = group.policy
        collects = policy.failures_only and not policy.raises
        if not policy.first_failure_decides and not collects:
            # It may drain, and then nothing new starts: not even the rest of a span.
            chunksize = 1
        self._fixed = chunksize
        self._buffersize = buffersize
        self._slots = group.runtime.capabilities.slots
        self._chunk = chunksize or 1
        self._offsets: dict[int, int] = {}  # task → position of its item 0, less its index
        self._ready: dict[int, Outcome] = {}  # ordered: by position
        self._done: deque[Outcome] = deque()  # unordered
        self._submitted = 0
        self._resolved = 0
        self._taken = 0
        self._spans = 0  # in flight
        self._exhausted = False
        self._error: BaseException | None = None  # of the input, or of andon
        self._wakeup = Wakeup() if wakeup is None else wakeup
        self._room = Wakeup()
        self._reading = False
        self._closed = False
        self.started = False  # has anybody asked for a result?
        group.on_stopping.append(self._on_stopping)
        # Set in the order of delivery: what ended before the decision is handed out before it.
        self._told = group.reason is not None
        self._thread: threading.Thread | None = None
        if wakeup is not None or not isinstance(items, _CONTAINERS):
            context = contextvars.copy_context()
            self._thread = threading.Thread(
                target=context.run,
                args=(self._read_all,),
                name=f"{group.runtime.name}-reader",
                daemon=True,
            )
            self._thread.start()
        else:
            self._fill()

    # The consumer's side -------------------------------------------------------------------------

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        return self.next(None)

    def next(self, timeout: float | None = None) -> Any:
        """The next result; blocks up to `timeout` seconds, then raises `TimeoutError`."""
        if not self.wait(timeout):
            raise TimeoutError("no result was ready in time")
        return self.take_next()

    def take_next(self) -> Any:
        """The result that is `ready`, or the error or end that is there instead; never blocks."""
        stopping = self._stopping()  # before the last look: what ended before that, is there
        outcome = self._pop()
        if outcome is None:
            if self._error is not None:
                raise self._error
            if stopping:
                self._group.runtime.check_crash()
                self._group.raise_cancelled()
            raise StopIteration
        self._taken += 1
        self._room.notify()
        if self._as_outcomes:
            return outcome
        if outcome.state is TaskState.SUCCEEDED:
            return outcome.value
        if self._group.reason is None and outcome.state is TaskState.FAILED:
            return outcome.error  # the policy collects failures: it stands in the value's place
        self._group.raise_cancelled()

    def wait(self, timeout: float | None) -> bool:
        """Block until `next` has something to tell, a result, an error or the end; False after
        `timeout` seconds."""
        self._group.runtime.check_wait()
        self.started = True
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._thread is None and self._error is None:
                try:
                    self._fill()
                except BaseException as error:  # of the input: for `next` to raise
                    self._error = error
            if self.ready():
                return True
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._wakeup.wait(self._has_news, left):
                return False

    def drain(self) -> None:
        """Read and run everything, keeping no results: nobody will ask for them."""
        for _ in self:
            pass

    def close(self) -> None:
        """Read no more input; what was submitted goes its way."""
        self._closed = True
        if self._source is not None:
            self._source.close()
        self._room.notify()
        thread = self._thread
        if thread is not None and not self._reading:
            thread.join(1.0)

    def __del__(self) -> None:
        self._closed = True
        room = getattr(self, "_room", None)
        if room is not None:
            room.notify()

    def _pop(self) -> Outcome | None:
        if self._ordered:
            return self._ready.pop(self._taken, None)
        try:
            return self._done.popleft()
        except IndexError:
            return None

    def _has_news(self) -> bool:
        return self.ready() or (self._thread is None and self._wants_more())

    def ready(self) -> bool:
        """Is there something to tell: a result, an error or the end?"""
        ready = self._taken in self._ready if self._ordered else bool(self._done)
        return ready or self._error is not None or self._stopping() or self._is_over()

    def _stopping(self) -> bool:
        """Is the group stopping, so that nothing more will be handed out?"""
        group = self._group
        if group.runtime.crashed is not None:
            return True
        if not self._told or not group.told:
            return False
        return not self._as_outcomes or self._resolved == self._submitted

    def _is_over(self) -> bool:
        return self._exhausted and self._taken == self._submitted

    # The reader's side ---------------------------------------------------------------------------

    def _wants_more(self) -> bool:
        if self._exhausted or self._closed or self._group.reason is not None:
            return False
        waiting = self._submitted - self._taken
        if self._buffersize is not None:
            return waiting < self._buffersize
        ahead = _SPANS_AHEAD * self._slots
        return self._spans < ahead and waiting < _WAITING * ahead * self._chunk

    def _fill(self) -> None:
        try:
            while self._wants_more():
                self._submit_span()
        except Cancelled:
            if self._group.reason is None:
                raise
            # The group began to stop as we read. What ended before that is handed out first.

    def _submit_span(self) -> None:
        count = self._chunk
        if self._buffersize is not None:
            count = max(1, min(count, self._buffersize - (self._submitted - self._taken)))
        self._reading = True
        try:
            items, ended = self._read(count)
        except BaseException:
            # The body's own error (S46). A reading thread leaves it for the consumer, who must not
            # find the input merely exhausted before that.
            self._exhausted = self._thread is None
            raise
        finally:
            self._reading = False
        if items:
            self._send(items)
        if ended:  # only now: else the last items would not be waited for
            self._exhausted = True
            self._wakeup.notify()

    def _read(self, count: int) -> tuple[list[Any], bool]:
        """Up to `count` items, and whether the input is at its end. What comes slowly is sent on
        as it comes, not when a span is full."""
        if self._source is not None:
            return self._source.read(count)
        items: list[Any] = []
        enough = time.monotonic() + _SPAN_SECONDS
        for item in self._items:
            items.append(item)
            if len(items) >= count or time.monotonic() > enough:
                return items, False
        return items, True

    def _send(self, items: list[Any]) -> None:
        call = Call(self._fn, items=items, star=self._star)
        submit_items(self._group, call, self._register, timeout=self._timeout)

    def _register(self, task: Task) -> Stream:
        self._offsets[task.id] = self._submitted - task.index
        self._submitted += task.size
        self._spans += 1
        return self

    def _read_all(self) -> None:
        try:
            while not (self._exhausted or self._nobody_asks()):
                self._fill()
                self._room.wait(self._reader_has_news)
        except (Cancelled, AndonError) as stop:
            # The group stopped or closed while we read; the consumer is told by the group itself.
            if self._group.reason is None and not self._group.closed:
                self._error = stop
        except BaseException as error:
            self._error = error
        self._wakeup.notify()
        self._items = iter(())

    def _reader_has_news(self) -> bool:
        return self._wants_more() or self._exhausted or self._nobody_asks()

    def _nobody_asks(self) -> bool:
        group = self._group
        return (
            self._closed
            or group.over  # left by a body that had lost interest: nothing will make room any more
            or group.reason is not None
            or group.runtime.crashed is not None
        )

    # The sink's side: called at delivery, by one thread at a time --------------------------------

    def take(self, task: Task, outcome: Outcome) -> None:
        """One item is over."""
        self._resolved += 1
        if self._ordered:
            self._ready[outcome.index + self._offsets[task.id]] = outcome
        else:
            self._done.append(outcome)
        if self._fixed is None and outcome.started_at is not None and outcome.ended_at is not None:
            self._adapt(outcome.ended_at - outcome.started_at)
        self._wakeup.notify()

    def over(self, task: Task) -> None:
        """A span is over: there is room for another."""
        self._spans -= 1
        del self._offsets[task.id]
        self._room.notify()
        self._wakeup.notify()

    def broken(self, error: BaseException) -> None:
        """andon itself failed."""
        self._error = error
        self._wakeup.notify()

    def _on_stopping(self) -> None:
        self._told = True
        self._wakeup.notify()
        self._room.notify()

    def _adapt(self, seconds: float) -> None:
        fits = int(_SPAN_SECONDS / seconds) if seconds > 0 else _LONGEST_SPAN
        if fits < self._chunk:
            self._chunk = max(1, fits)
        else:  # grow by doubling, so that one short item among long ones does no harm
            self._chunk = min(self._chunk * 2, fits, _LONGEST_SPAN)
