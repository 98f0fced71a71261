"""`TaskGroup` for asyncio: process tasks, and asyncio tasks beside them, that share one fate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from contextvars import Context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, TypeVar, overload

from andon._engines.port import Call
from andon._runtime.options import check_callable, check_map
from andon.aio.futures import Future
from andon.aio.scope import LoopScope
from andon.aio.streams import Bell, Feed, Results, in_step
from andon.outcome import Outcome, ReasonKind
from andon.taskgroup import open_stream
from andon.token import check_reason

P = ParamSpec("P")
T = TypeVar("T")


class TaskGroup(LoopScope):
    """A set of process tasks, and of asyncio tasks beside them, that share one fate.

    ```python
    async with andon.aio.TaskGroup(workers=4) as tg:
        tg.create_task(serve())
        print(await tg.run(work, 7))
    ```

    The arguments, and what can be read afterwards, are those of `andon.TaskGroup`. The first task
    that fails, in a process or in the loop, stops all others: those in processes by the ladder,
    those in the loop, the body among them, by `cancel()`. Leaving waits until every worker involved
    is idle or gone, and every asyncio task over; then it raises an `ExceptionGroup` of all
    failures. The loop is not blocked meanwhile.

    A cancellation from outside (`asyncio.timeout`, an `asyncio.TaskGroup`, Ctrl-C under
    `asyncio.run`) stops everything likewise, and leaves as `CancelledError` when all is over; where
    there are failures, those are raised. A second Ctrl-C kills. All methods but `cancel` are for
    the thread of the loop in which the group was entered.
    """

    _shown = "andon.aio.TaskGroup"
    _how = "async with andon.aio.TaskGroup() as tg: ..."

    async def __aenter__(self) -> TaskGroup:
        """Open the group; workers of its own are opened in a thread. Being cancelled meanwhile
        closes them again. (Under the start method `fork` it is the loop's thread that forks.)"""
        await self._enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Wait for all tasks, or stop them where the body raised; then raise what failed."""
        try:
            return await self._leave(error)
        finally:
            del error

    if not TYPE_CHECKING:  # type checkers say so themselves

        def __enter__(self, *exc: object) -> NoReturn:
            """Refuse a plain `with`."""
            raise TypeError(
                "an andon.aio.TaskGroup is entered by `async with`; outside of asyncio there is "
                "andon.TaskGroup"
            )

        __exit__ = __enter__

    # The body's operations -----------------------------------------------------------------------

    async def run(
        self,
        fn: Callable[P, T],
        /,
        *args: Any,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> T:
        """Run `fn(*args, **kwargs)` in a worker; the value, or the task's own error raised.

        `timeout`: seconds from the start of the call. Being cancelled stops the task, and ends,
        with `CancelledError`, when it is over. Large arguments, and objects of unknown size, are
        pickled in a thread: do not change them meanwhile. Raises `Cancelled` once the group is
        stopping, `GroupClosedError` after it, `SerializationError` where the arguments cannot be
        pickled.
        """
        check_callable(fn)
        limit = self._limit(timeout)
        self._check()
        future: Future[T] = self._future(fn)
        self._sender.send_soon(future, Call(fn, args, kwargs), limit)
        return await future

    def submit(
        self,
        fn: Callable[P, T],
        /,
        *args: Any,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Future[T]:
        """As `run`, but returns an awaitable future at once. The arguments are pickled here and
        now, in the loop's thread: later changes to them are not seen. For large ones, use `run`.
        """
        check_callable(fn)
        limit = self._limit(timeout)
        self._check()
        future: Future[T] = self._future(fn)
        self._sender.send(future, Call(fn, args, kwargs), limit)
        return future

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """Start an asyncio task beside the process tasks; return it.

        Its failure stops the group, and it is cancelled when the group stops. Leaving the group
        waits for it. Raises `Cancelled` once the group is stopping, and closes the coroutine.
        """
        try:
            self._check()
        except BaseException:
            coro.close()
            raise
        return self._members.create(coro, name, context, self._sibling_over)

    def map(
        self,
        fn: Callable[..., T],
        items: Iterable[Any] | AsyncIterable[Any],
        /,
        *more: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> AsyncIterator[T]:
        """Run `fn` for each item; iterate over the results (`async for`) in the items' order.

        The input, an async iterable or a plain one, is read lazily, in bounded memory: at most
        `buffersize` items ahead of the results that you took. A thread reads plain ones, and
        pickles; async ones are read in the loop. Work begins at once; results that nobody asks for
        are computed all the same before the group is left. Leaving the loop over it stops nothing:
        what is under way is waited for (`cancel` stops it). Once the group is stopping, the
        iterator hands out the finished results at its front, then raises `Cancelled`.
        """
        results: Results[T] = self._stream(
            fn, items, more, timeout=timeout, chunksize=chunksize, buffersize=buffersize
        )
        self._streams = [each for each in self._streams if not each.started]
        self._streams.append(results)
        return results

    @overload
    def imap(
        self,
        fn: Callable[..., T],
        items: Iterable[Any] | AsyncIterable[Any],
        /,
        *more: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = ...,
        return_outcomes: Literal[False] = ...,
        timeout: float | None = ...,
        chunksize: int | None = ...,
        buffersize: int | None = ...,
    ) -> AsyncIterator[T]: ...

    @overload
    def imap(
        self,
        fn: Callable[..., T],
        items: Iterable[Any] | AsyncIterable[Any],
        /,
        *more: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = ...,
        return_outcomes: Literal[True],
        timeout: float | None = ...,
        chunksize: int | None = ...,
        buffersize: int | None = ...,
    ) -> AsyncIterator[Outcome]: ...

    def imap(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any] | AsyncIterable[Any],
        /,
        *more: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = False,
        return_outcomes: bool = False,
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> AsyncIterator[Any]:
        """As `map`, but results come as they end, unless `ordered`.

        With `return_outcomes`, every item that was handed over yields its `Outcome`. A stop
        cancels the body and the siblings in this wait as in any other; those who iterate on after
        that `CancelledError` get the outcomes of the stopped and the never started ones too, then
        `Cancelled`. They are all in the group's `outcomes` afterwards.
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
        """Stop the group, quietly: the `async with` then raises nothing but real failures.

        Returns at once, from any thread or callback. Idempotent; the first reason wins.
        """
        check_reason(reason)
        self._entered()
        self._order((ReasonKind.CANCEL, reason, None))

    # Inside --------------------------------------------------------------------------------------

    def _stream(
        self,
        fn: Callable[..., Any],
        items: Any,
        more: tuple[Any, ...],
        *,
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
        **options: Any,
    ) -> Results[Any]:
        self._check()
        group = self._entered().group
        plain = [each for each in (items, *more) if not isinstance(each, AsyncIterable)]
        options |= check_map(fn, *plain, chunksize=chunksize, buffersize=buffersize)
        limit = self._limit(timeout)
        bell, feed = Bell(self._mailbox), None
        if len(plain) <= len(more):
            star = bool(more)
            source = in_step((items, *more)) if star else items
            items, more = (), ()
            feed = Feed(self._loop, self._mailbox, source, self._wake)
            options |= {"source": feed, "star": star}
        stream = open_stream(group, fn, items, more, timeout=limit, wakeup=bell, **options)
        results: Results[Any] = Results(
            group, stream, feed, bell, self._wake, self._sender.packing, self._kept.wait
        )
        kept = self._kept()
        kept.maps = [each for each in kept.maps if not (each.ended and each.exhausted)]
        kept.maps.append(results)
        return results
