"""`TaskGroup`: the scope. It is left only when all of its work is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, TypeVar, overload

from andon._cancelled import Cancelled
from andon._engines.port import Call
from andon._gate import sheltered
from andon._grouping import Grouping
from andon._runtime.futures import Future
from andon._runtime.groups import Group
from andon._runtime.options import check_callable, check_map
from andon._runtime.sending import submit_failure
from andon._runtime.streams import Stream
from andon.errors import (
    GroupClosedError,
    PoolBrokenError,
    PoolClosedError,
    SerializationError,
    TaskCancelledError,
    anew,
)
from andon.outcome import Outcome, ReasonKind, StoppedBy
from andon.token import check_reason

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


class TaskGroup(Grouping):
    """A set of tasks that share one fate, in worker processes.

    ```python
    with andon.TaskGroup(workers=4) as tg:
        a = tg.submit(load, "a.csv")
        b = tg.submit(load, "b.csv", timeout=30)
    print(a.result(), b.result())
    ```

    The first task that fails stops all others: those that wait never start, those that run are
    stopped by the ladder (token, then an exception raised inside them, then a kill), with all that
    they started. Leaving the `with` blocks until every worker involved is idle or gone, then
    raises an `ExceptionGroup` of all failures. Finished results stay readable.

    `workers`: how many processes (None: the usable CPUs); or `pool`: an open `Pool` or
    `ProcessPoolExecutor` to run on. `deadline`: seconds from entering until the group is stopped.
    `timeout`: seconds for each task, from the start of its call. `grace`: seconds that a task
    which uses its token gets before it is interrupted (5). `kill_after`: seconds from the
    interrupt to the kill (2). `policy`: `fail_fast()` (default) or `collect_all()`. `token`: an
    `andon.Event` that stops the group when set. `contextvars`: context variables whose values
    travel with each task. `initializer`, `initargs`, `env` (environment variables of the workers),
    `max_tasks_per_worker`, `start_method`, `mp_context`, `reuse_interrupted` and `engine` are for
    a group with workers of its own; `strict` refuses an engine that cannot kill. `trace`: a
    function that is called with each `TraceEvent`. `progress`: True, or a callable that takes
    snapshots. `keep_outcomes=False` is for endless streams: `outcomes` then stays empty.
    """

    def __enter__(self) -> TaskGroup:
        """Open the group. Starts no worker yet; does not block."""
        self._check_unused()
        self._open()
        return self

    @sheltered
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Wait for all tasks, or stop them where the body raised; then raise what failed."""
        scope = self._scope or self._entered()
        try:
            if error is None:
                error = self._drain_streams()
                absorbed = scope.leave(error, self)
                if error is not None and not absorbed:
                    raise error
                return absorbed
            return scope.leave(error, self)
        finally:
            self._streams.clear()
            if self._watcher is not None:
                self._watcher.close()

    if not TYPE_CHECKING:  # type checkers say so themselves

        def __aenter__(self, *exc: object) -> NoReturn:
            """Refuse an `async with`."""
            raise TypeError(
                "an andon.TaskGroup is entered by `with`; for `async with` there is "
                "andon.aio.TaskGroup, which does not block the loop"
            )

        __aexit__ = __aenter__

    # The body's operations -----------------------------------------------------------------------

    def submit(
        self,
        fn: Callable[P, T],
        /,
        *args: Any,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Future[T]:
        """Run `fn(*args, **kwargs)` in a worker; return its future at once.

        `timeout`: seconds from the start of the call. Raises `Cancelled` once the group is
        stopping (the `with` absorbs it), `GroupClosedError` after it, `SerializationError` where
        the arguments cannot be pickled.
        """
        check_callable(fn)
        return submit_call(self._entered().group, fn, args, kwargs, self._limit(timeout))

    def map(
        self,
        fn: Callable[..., T],
        items: Iterable[Any],
        /,
        *more: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Run `fn` for each item; iterate over the results in the order of the items.

        The input is read lazily, in bounded memory: at most `buffersize` items ahead of the results
        that you took. Work begins at once. Where nobody has asked for a result when the body ends,
        all of the input is read and run before the group is left, an endless one until a stop or a
        deadline; else what was not read by then is never run. Leaving the loop over it stops
        nothing: what is under way is waited for (`cancel` stops it). `timeout` is for each item.
        Once the group is stopping, the iterator hands out the finished results at its front, then
        raises `Cancelled`. One thread at a time may take results.
        """
        stream = self._stream(
            fn, items, more, timeout=timeout, chunksize=chunksize, buffersize=buffersize
        )
        self._streams = [s for s in self._streams if not s.started]
        self._streams.append(stream)
        return stream

    @overload
    def imap(
        self,
        fn: Callable[..., T],
        items: Iterable[Any],
        /,
        *more: Iterable[Any],
        ordered: bool = ...,
        return_outcomes: Literal[False] = ...,
        timeout: float | None = ...,
        chunksize: int | None = ...,
        buffersize: int | None = ...,
    ) -> Iterator[T]: ...

    @overload
    def imap(
        self,
        fn: Callable[..., T],
        items: Iterable[Any],
        /,
        *more: Iterable[Any],
        ordered: bool = ...,
        return_outcomes: Literal[True],
        timeout: float | None = ...,
        chunksize: int | None = ...,
        buffersize: int | None = ...,
    ) -> Iterator[Outcome]: ...

    def imap(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any],
        /,
        *more: Iterable[Any],
        ordered: bool = False,
        return_outcomes: bool = False,
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """As `map`, but results come as they end, unless `ordered`.

        With `return_outcomes`, every item that was read yields its `Outcome`, also the stopped and
        the never started ones after a stop; then `Cancelled` is raised.
        """
        return self._stream(
            fn,
            items,
            more,
            ordered=ordered,
            as_outcomes=return_outcomes,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
        )

    def cancel(self, reason: str = "") -> None:
        """Stop the group, quietly: the `with` then raises nothing but real failures.

        Returns at once, from any thread or callback. Idempotent; the first reason wins.
        """
        check_reason(reason)
        group = self._entered().group
        group.runtime.stop(group, ReasonKind.CANCEL, reason)

    # Inside --------------------------------------------------------------------------------------

    def _stream(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any],
        more: tuple[Iterable[Any], ...],
        *,
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
        **options: Any,
    ) -> Stream:
        group = self._entered().group
        sizes = check_map(fn, items, *more, chunksize=chunksize, buffersize=buffersize)
        limit = self._limit(timeout)
        group.check()
        return open_stream(group, fn, items, more, timeout=limit, **sizes, **options)

    @sheltered
    def _drain_streams(self) -> BaseException | None:
        try:
            for stream in self._streams:
                if not (stream.started or self._entered().runtime.foreign):
                    stream.drain()
        except BaseException as error:
            return error
        return None


def submit_call(
    group: Group,
    fn: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    timeout: float | None,
) -> Future[T]:
    """One call, one task, one future: what every `submit` comes down to."""
    return group.runtime.submit_call(group, Call(fn, args, kwargs), timeout)


def submit_lone(
    group: Group,
    fn: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    timeout: float | None,
    refusal: str,
) -> Future[T]:
    """A call that stands alone. There is no `with` that would absorb a `Cancelled` of its group
    (S14, S16): where that was stopped, by a broken pool, a token or its policy, the call is
    refused; and where its pool closed meanwhile, with that `refusal`."""
    try:
        return submit_or_fail(group, fn, args, kwargs, timeout)
    except Cancelled as stop:
        if stop.token is not group.token:
            raise
        reason = group.reason
    except (GroupClosedError, PoolClosedError):
        reason = group.reason
    if reason is None or reason.kind is ReasonKind.SHUTDOWN:
        raise PoolClosedError(refusal)
    broken = group.broken
    if isinstance(broken, PoolBrokenError):
        raise anew(broken)
    raise TaskCancelledError(
        f"the pool takes no more calls ({reason})",
        reason=reason,
        started=False,
        stopped_by=StoppedBy.NEVER_STARTED,
    ) from next((o.error for o in group.failures), group.mistake)


def submit_or_fail(
    group: Group,
    fn: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    timeout: float | None,
) -> Future[T]:
    """As `submit_call`, but what cannot be pickled fails as a task of the group (S28), since that
    is where code for the standard pools looks for it."""
    try:
        return submit_call(group, fn, args, kwargs, timeout)
    except SerializationError as error:
        call = Call(fn, args, kwargs)
        future: Future[T] = Future(group, call)
        submit_failure(group, error, call, future._bind)
        return future


def open_stream(
    group: Group,
    fn: Callable[..., Any],
    items: Iterable[Any],
    more: tuple[Iterable[Any], ...] = (),
    *,
    star: bool = False,
    kind: type[Stream] = Stream,
    **options: Any,
) -> Stream:
    """Begin a map, whose arguments were checked (`check_map`): what every map comes down to."""
    if more:
        items, star = zip(items, *more, strict=False), True
    return kind(group, fn, items, star=star, **options)
