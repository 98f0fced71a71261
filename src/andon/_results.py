"""The iterators of `imap` and its kin, which may be taken from, and closed, by several threads.

    Stream ── front ──▶ generator, which leaves the scope at its end ──▶ Results ──▶ threads
"""

from __future__ import annotations

import math
import sys
import time
from _thread import get_ident
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, TypeVar, cast

from andon._cancelled import Cancelled
from andon._gate import sheltered
from andon._runtime.scope import Scope
from andon._runtime.streams import Stream
from andon._runtime.wakeup import Wakeup
from andon.outcome import ReasonKind
from andon.report.watch import Watcher, watch
from andon.taskgroup import open_stream

T = TypeVar("T")
_PATIENCE = 1.0  # seconds; who leaves an iterator says so, unless a signal's handler raises there


@sheltered
def streamed(
    scope: Scope,
    fn: Callable[..., Any],
    items: Iterable[Any],
    more: tuple[Iterable[Any], ...] = (),
    progress: Any = None,
    end: float | None = None,
    pool: object = None,
    goes_on: bool = False,
    **options: Any,
) -> Results[Any]:
    """A scope's results as an iterator that leaves the scope when it ends or is dropped.

    `end`: the monotonic time from which on waiting for a result raises `TimeoutError`. `pool` is
    kept alive as long. `goes_on`: dropped before anyone has asked for a result, nothing stops.
    """
    try:
        stream = open_stream(scope.group, fn, items, more, **options)
        results = _results(scope, stream, progress, end, pool, goes_on)
        if scope.timed:
            stream.leave_when_over()
        next(results)  # it stands in its `try` now: dropping it leaves the scope
    except BaseException as error:
        scope.leave(error, None)
        raise
    return Results(stream, results)


class Results(Iterator[T]):
    """The results of a map that is under way; made by `imap` and its kin.

    Dropping it, closing it, or leaving the loop over it stops what is left, and waits for that.
    Several threads may take results, in turn. Where one closes it while another waits for a result,
    that one gets a `TaskCancelledError`.
    """

    def __init__(self, stream: Stream, results: Generator[Any, float | None, None]) -> None:
        self._stream = stream
        self._results = results
        self._queue: deque[int] = deque()  # threads that found another in there, in order
        self._left = Wakeup()

    def __iter__(self) -> Results[T]:
        return self

    def __next__(self) -> T:
        if not self._queue:
            try:
                return cast(T, next(self._results))
            except ValueError as error:
                if not self._is_taken(error):
                    raise
            finally:
                if self._queue:
                    self._left.notify()
        return cast(T, self._in_turn(self._results.__next__))

    def next(self, timeout: float | None = None) -> T:
        """The next result; `multiprocessing.TimeoutError` where none comes in `timeout` seconds.
        That changes nothing, nor does what a signal handler raises meanwhile: one may ask again."""
        if timeout is None:
            return next(self)
        until = time.monotonic() + timeout
        result = self._in_turn(partial(self._results.send, until), until)
        if result is _LATE:
            from multiprocessing import TimeoutError as Late  # heavy

            raise Late
        if type(result) is _Instead:
            result.throw()
        return cast(T, result)

    def close(self) -> None:
        """Stop what is left; blocks until that is over."""
        try:
            self._results.close()
        except ValueError as error:
            if not self._is_taken(error):
                raise
            group = self._stream._group
            group.runtime.stop(group, ReasonKind.CANCEL, "its iterator was closed")
            self._in_turn(self._results.close)
        finally:
            if self._queue:
                self._left.notify()

    def _is_taken(self, error: ValueError) -> bool:
        """Does it say that another thread is in there? It is not raised in there, then."""
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            return False
        results: Any = self._results
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame is not results.gi_frame:
            frame = frame.f_back
        return frame is None and not self._stream._group.runtime.foreign

    def _in_turn(self, call: Callable[[], Any], until: float = math.inf) -> Any:
        """Wait for who is in there, and who came before us, and call; `_LATE` where that is too
        late. (A lock would cost each result more than all the rest of its way.)"""
        results: Any = self._results
        queue, me = self._queue, get_ident()  # a signal handler of ours does not wait for us

        def may() -> bool:
            return queue[0] == me and not results.gi_running

        try:
            while True:
                if me not in queue:
                    queue.append(me)
                first = queue[0]
                if first == me:
                    try:
                        return call()
                    except ValueError as error:
                        if not self._is_taken(error):
                            raise
                patience = until - time.monotonic()
                if patience <= 0:
                    return _LATE
                in_time = self._left.wait(may, min(patience, _PATIENCE))
                gone = not in_time and patience > _PATIENCE and not results.gi_running
                if gone and first == queue[0] != me:
                    # A Ctrl-C has taken it away, and it has left its place in the queue behind.
                    with suppress(ValueError):
                        queue.remove(first)
        finally:
            with suppress(ValueError):
                queue.remove(me)
            self._left.notify()


class _Instead:
    """In the place of a result that somebody has waited for until a time: it did not come, or the
    wait raised this."""

    def __init__(self, error: BaseException | None = None) -> None:
        self._error = error

    def throw(self) -> None:
        """Raise it, and forget it."""
        error, self._error = self._error, None
        assert error is not None
        try:
            raise error
        finally:
            del error


_LATE = _Instead()


def _results(
    scope: Scope, stream: Stream, progress: Any, end: float | None, pool: object, goes_on: bool
) -> Generator[Any, float | None, None]:
    """It may be sent the time until which somebody waits: then it goes on where no result has come
    by then, or the wait raised something."""
    watcher: Watcher | None = None
    try:
        try:
            watcher = watch(scope.group, progress)
            until = yield None
            try:
                while True:
                    while until is not None and (instead := _waited(stream, until)) is not None:
                        until = yield instead
                    if not stream.advance(_left(end)):
                        break
                    while stream.front:
                        until = yield stream.front.popleft()  # we keep nothing of it
            except Cancelled as stop:
                if stop.token is scope.group.token:
                    # Nobody but us leads to what ends while the group stops (S45).
                    while stream.bring_left():
                        while stream.front:
                            yield stream.front.popleft()
                raise
        except BaseException as error:
            if goes_on and not stream.started and isinstance(error, GeneratorExit):
                scope.let_go(stream.let_go)
                raise
            try:
                stream.close()
            finally:
                absorbed = scope.leave(error, None)
            if not absorbed:
                raise
        else:
            scope.leave(None, None)
    finally:
        if watcher is not None:
            watcher.close()


def _waited(stream: Stream, until: float) -> _Instead | None:
    """None: there is something to tell."""
    try:
        return None if stream.wait(_left(until)) else _LATE
    except BaseException as error:  # of a signal handler
        return _Instead(error)


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())
