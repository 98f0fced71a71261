"""`map` and `imap`: one call, no object to manage."""

from __future__ import annotations

import operator
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextvars import ContextVar
from functools import partial
from types import FrameType
from typing import Any, TypeVar

from andon._cancelled import Cancelled
from andon._runtime.options import check_callable, open_runtime
from andon._runtime.runtime import Runtime
from andon._runtime.scope import Scope, check_common, open_scope
from andon._runtime.streams import Stream
from andon._runtime.surroundings import Env, Variables, check_variables
from andon.outcome import ReasonKind, TraceEvent
from andon.policy import Policy
from andon.report.watch import Watcher, watch
from andon.taskgroup import open_stream
from andon.token import Token

T = TypeVar("T")
R = TypeVar("R")
_PATIENCE = 1.0  # seconds; who leaves an iterator says so, unless a signal's handler raises there


def map(  # it is what it is called everywhere
    fn: Callable[..., T],
    items: Iterable[Any],
    /,
    *more: Iterable[Any],
    workers: int | None = None,
    policy: Policy | Callable[[], Policy] | None = None,
    deadline: float | None = None,
    timeout: float | None = None,
    grace: float | None = None,
    kill_after: float | None = None,
    token: Token | None = None,
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
    max_tasks_per_worker: int | None = None,
    start_method: str | None = None,
    mp_context: Any = None,
    env: Env | None = None,
    contextvars: Iterable[ContextVar[Any]] | None = None,
    reuse_interrupted: bool = False,
    engine: Any = None,
    strict: bool = False,
    trace: Callable[[TraceEvent], object] | None = None,
    chunksize: int | None = None,
    buffersize: int | None = None,
    progress: Any = None,
) -> list[T]:
    """Run `fn` for each item in worker processes; return the results as a list, in order.

    ```python
    squares = andon.map(square, range(100), workers=8)
    ```

    Blocks until all is over. The first failure stops the rest and is raised bare, with the
    worker's traceback as its cause. With `policy=andon.collect_all()` nothing stops, and failed
    items have their exception in the list. Several iterables are taken in step, as by the built-in
    `map`. The other arguments are those of `TaskGroup`; `deadline` raises `GroupTimeoutError`.
    """
    check_callable(fn)
    times = check_common(deadline, grace, kill_after, timeout, policy, token)
    variables = check_variables(contextvars)
    total = operator.length_hint(items, -1) if not more else -1
    runtime = partial(
        open_runtime,
        workers=workers,
        initializer=initializer,
        initargs=initargs,
        max_tasks_per_worker=max_tasks_per_worker,
        start_method_=start_method,
        mp_context=mp_context,
        env=env,
        reuse_interrupted=reuse_interrupted,
        engine=engine,
        strict=strict,
        trace=trace,
        most=total if total > 0 else None,
        name="andon-map",
    )
    scope = _scope(runtime, times, policy, token, variables, keep_outcomes=True)
    watcher: Watcher | None = None
    results: list[T] = []
    try:
        try:
            watcher = watch(scope.group, progress, total if total >= 0 else None)
            stream = open_stream(
                scope.group,
                fn,
                items,
                more,
                timeout=times[3],
                chunksize=chunksize,
                buffersize=buffersize,
            )
            results = stream.take_all()
        except BaseException as error:
            if not scope.leave(error, None):
                raise
        else:
            scope.leave(None, None)
    finally:
        if watcher is not None:
            watcher.close()
    return results


def imap(
    fn: Callable[..., T],
    items: Iterable[Any],
    /,
    *more: Iterable[Any],
    ordered: bool = True,
    workers: int | None = None,
    policy: Policy | Callable[[], Policy] | None = None,
    deadline: float | None = None,
    timeout: float | None = None,
    grace: float | None = None,
    kill_after: float | None = None,
    token: Token | None = None,
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
    max_tasks_per_worker: int | None = None,
    start_method: str | None = None,
    mp_context: Any = None,
    env: Env | None = None,
    contextvars: Iterable[ContextVar[Any]] | None = None,
    reuse_interrupted: bool = False,
    engine: Any = None,
    strict: bool = False,
    trace: Callable[[TraceEvent], object] | None = None,
    chunksize: int | None = None,
    buffersize: int | None = None,
    progress: Any = None,
) -> Results[T]:
    """Run `fn` for each item of a stream that may never end; iterate over the results.

    ```python
    for line in andon.imap(parse, open("big.log"), workers=8):
        print(line)
    ```

    The input is read lazily, in bounded memory. Work begins at the call.
    Leaving the loop stops what is left, and waits for it. The first failure stops the rest: the
    finished results before it in order are handed out, then it is raised bare. `ordered=False`
    hands results out as they end. The other arguments are those of `TaskGroup`.
    """
    check_callable(fn)
    times = check_common(deadline, grace, kill_after, timeout, policy, token)
    variables = check_variables(contextvars)
    runtime = partial(
        open_runtime,
        workers=workers,
        initializer=initializer,
        initargs=initargs,
        max_tasks_per_worker=max_tasks_per_worker,
        start_method_=start_method,
        mp_context=mp_context,
        env=env,
        reuse_interrupted=reuse_interrupted,
        engine=engine,
        strict=strict,
        trace=trace,
        name="andon-imap",
    )
    options: dict[str, Any] = {"chunksize": chunksize, "buffersize": buffersize}
    return streamed(
        _scope(runtime, times, policy, token, variables, keep_outcomes=False),
        fn,
        items,
        more,
        progress,
        ordered=ordered,
        timeout=times[3],
        **options,
    )


def _scope(
    runtime: Callable[[], Runtime],
    times: tuple[float | None, ...],
    policy: Any,
    token: Token | None,
    variables: Variables,
    *,
    keep_outcomes: bool,
) -> Scope:
    return open_scope(
        runtime,
        policy=policy,
        deadline=times[0],
        grace=times[1],
        kill_after=times[2],
        token=token,
        keep_outcomes=keep_outcomes,
        bare=True,
        lexical=False,
        variables=variables,
    )


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

    _left: threading.Event | None = None  # made by the first thread that finds another in there

    def __init__(self, stream: Stream, results: Generator[T, None, None]) -> None:
        self._stream = stream
        self._results = results

    def __iter__(self) -> Results[T]:
        return self

    def __next__(self) -> T:
        try:
            return next(self._results)
        except ValueError as error:
            if not self._is_taken(error):
                raise
        finally:
            if self._left is not None:
                self._left.set()
        return self._in_turn(self._results.__next__)

    def next(self, timeout: float | None = None) -> T:
        """The next result; `multiprocessing.TimeoutError` where none comes in `timeout` seconds,
        which changes nothing: one may ask again."""
        if timeout is not None and not self._stream.wait(timeout):
            from multiprocessing import TimeoutError as Late  # heavy

            raise Late
        return next(self)

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
            if self._left is not None:
                self._left.set()

    def _is_taken(self, error: ValueError) -> bool:
        """Does it say that another thread is in there? It is not raised in there, then."""
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            return False
        results: Any = self._results
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame is not results.gi_frame:
            frame = frame.f_back
        return frame is None and not self._stream._group.runtime.foreign

    def _in_turn(self, call: Callable[[], R]) -> R:
        """Wait for who is in there, and call.

        A lock would cost each result more than all the rest of its way.
        """
        left: threading.Event = vars(self).setdefault("_left", threading.Event())  # atomic
        while True:
            left.clear()  # before we look, so that whom we find in there sets it after
            taken = False
            try:
                return call()
            except ValueError as error:
                taken = self._is_taken(error)
                if not taken:
                    raise
            finally:
                if not taken:
                    left.set()
            left.wait(_PATIENCE)


def _results(
    scope: Scope, stream: Stream, progress: Any, end: float | None, pool: object, goes_on: bool
) -> Generator[Any, None, None]:
    watcher: Watcher | None = None
    try:
        try:
            watcher = watch(scope.group, progress)
            yield None
            try:
                while stream.advance(None if end is None else max(0.0, end - time.monotonic())):
                    while stream.front:
                        yield stream.front.popleft()  # nothing of ours keeps what is handed out
            except Cancelled as stop:
                if stop.token is scope.group.token:
                    # Nobody but us leads to what ends while the group stops (S45).
                    yield from stream.leftover()
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
