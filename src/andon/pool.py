"""`Pool`: `multiprocessing.Pool`'s surface over one warm set of workers."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, NoReturn, TypeVar
from weakref import WeakSet

from andon._async_result import AsyncResult
from andon._gate import sheltered
from andon._results import Results, streamed
from andon._runtime.collector import Collector
from andon._runtime.finishing import FinishingStream
from andon._runtime.futures import Future
from andon._runtime.options import (
    check_callable,
    check_map,
    make_policy,
    positive_int,
    same,
    tuple_of,
)
from andon._runtime.shared import SharedPool
from andon._runtime.surroundings import Env
from andon._threads import leave_to
from andon.errors import InternalError
from andon.outcome import TraceEvent
from andon.policy import Policy
from andon.taskgroup import open_stream, submit_lone
from andon.token import Token

T = TypeVar("T")


class Pool(SharedPool, multiprocessing.pool.Pool):
    """A warm pool for many groups; its methods are those of `multiprocessing.Pool`.

    ```python
    with andon.Pool(8) as pool:
        print(pool.map(work, range(100)))
        with andon.TaskGroup(pool=pool) as tg:
            tg.submit(work, 1)
    ```

    Code for the standard pool runs unchanged, but for these differences, which are on purpose:

    | | here | for the old behaviour |
    |--|--|--|
    | an item of a `map` or `imap` fails | the rest of that call stops | `andon.collect_all()` |
    | the loop over an `imap` is left | what is left stops | take all results |
    | a worker dies | its task fails, it is replaced | (there the result never comes) |
    | Ctrl-C | stops what runs, with one traceback | |
    | `__main__` | is not run again in workers | an `initializer` |

    Leaving the `with` terminates, as in `multiprocessing`. `workers`, `max_tasks_per_worker` and
    `mp_context` may go by their names there: `processes`, `maxtasksperchild`, `context`. A pool
    *is* a `multiprocessing.pool.Pool`, for `isinstance` and type checkers; it has none of its code.
    The other arguments are those of `TaskGroup`.
    """

    _refusal = "Pool not running"
    _exit_kills = True
    _terminated = False

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        workers: int | None = None,
        max_tasks_per_worker: int | None = None,
        start_method: str | None = None,
        mp_context: Any = None,
        policy: Policy | Callable[[], Policy] | None = None,
        deadline: float | None = None,
        timeout: float | None = None,
        grace: float | None = None,
        kill_after: float | None = None,
        token: Token | None = None,
        env: Env | None = None,
        contextvars: Iterable[ContextVar[Any]] | None = None,
        reuse_interrupted: bool = False,
        engine: Any = None,
        strict: bool = False,
        trace: Callable[[TraceEvent], object] | None = None,
    ) -> None:
        positive_int("processes", processes)
        try:
            positive_int("maxtasksperchild", maxtasksperchild)
        except TypeError as error:  # a ValueError in the standard pool
            raise ValueError(str(error)) from None
        self._maps: WeakSet[FinishingStream] = WeakSet()  # in flight
        super().__init__(
            deadline=deadline,
            timeout=timeout,
            grace=grace,
            kill_after=kill_after,
            token=token,
            policy=policy,
            workers=same("workers", workers, "processes", processes),
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_worker=same(
                "max_tasks_per_worker", max_tasks_per_worker, "maxtasksperchild", maxtasksperchild
            ),
            start_method_=start_method,
            mp_context=same("mp_context", mp_context, "context", context),
            env=env,
            contextvars=contextvars,
            reuse_interrupted=reuse_interrupted,
            engine=engine,
            strict=strict,
            trace=trace,
            prestart=True,
            name="andon-pool",
        )

    @property
    def _processes(self) -> int:
        """The one private name that other libraries ask a pool for (Dask does)."""
        return self._runtime.config.workers

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Any = None) -> T:
        """Run `func(*args, **kwds)` in a worker; block for its result."""
        return self._submit(func, args, kwds).result()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Any = None,
        callback: Callable[[T], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult[T]:
        """As `apply`, but returns an `AsyncResult` at once."""
        result: AsyncResult[T] = AsyncResult(self, callback, error_callback)
        result._source = future = self._submit(func, args, kwds)
        if not result._called:
            future.add_done_callback(lambda _: result._tell())
        return result

    def map(
        self, func: Callable[..., T], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[T]:
        """The results of `func` over the items, as a list; the first failure stops the rest, and
        is raised."""
        return self._map(func, iterable, chunksize, star=False)

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[T]:
        """As `map`, with each item unpacked into arguments."""
        return self._map(func, iterable, chunksize, star=True)

    def map_async(  # type: ignore[override]
        self,
        func: Callable[..., T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[T]], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult[list[T]]:
        """As `map`, but returns an `AsyncResult` at once; the input is read at once too."""
        return self._map_async(func, iterable, chunksize, callback, error_callback, star=False)

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult[list[T]]:
        """As `starmap`, but returns an `AsyncResult` at once."""
        return self._map_async(func, iterable, chunksize, callback, error_callback, star=True)

    def imap(  # type: ignore[override]
        self,
        func: Callable[..., T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
    ) -> Results[T]:
        """The results as an iterator, in order; the input is read lazily. Leaving the loop over it
        stops what is left."""
        return self._imap(func, iterable, chunksize, buffersize, ordered=True)

    def imap_unordered(  # type: ignore[override]
        self,
        func: Callable[..., T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
    ) -> Results[T]:
        """The results as an iterator, as they end. Leaving the loop over it stops what is left."""
        return self._imap(func, iterable, chunksize, buffersize, ordered=False)

    def close(self) -> None:
        """Take no more work; what was accepted goes on, then the workers leave. Does not block.
        What is left of an `imap`'s input is read from now on, whoever takes its results."""
        closed, self._closing = self._closing, True
        if closed or self._runtime.foreign:
            return
        for stream in list(self._maps):
            stream.finish()
        runtime = self._runtime
        if len(runtime._groups) == 1 and not runtime.capabilities.preparing():
            runtime.dismiss()  # they leave while we see to the rest
        leave_to("andon-closer", self._wind_up)

    @sheltered
    def terminate(self) -> None:
        """Kill what runs, drop what waits, and end the workers. Bounded."""
        self._closing = self._terminated = True
        self._shut_down(kill=True)

    @sheltered
    def join(self) -> None:
        """Block until all accepted work is over and the workers are gone; `close` comes first.
        Maps and groups that other threads have open are waited for, too, until they are left; a
        Ctrl-C, or another thread's `terminate`, ends that."""
        if not self._closing:
            raise ValueError("Pool is still running: call close() or terminate() before join()")
        self._shut_down(kill=False)

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    @sheltered
    def __exit__(self, *exc_info: Any) -> None:
        """As `terminate`."""
        self._terminated = True
        super().__exit__(*exc_info)

    def __del__(self) -> None:
        """A finalizer sees to what is left: see `SharedPool`."""

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        kind = type(self)
        return (
            f"<{kind.__module__}.{kind.__qualname__} state={self._state} "
            f"pool_size={self._processes}>"
        )

    # Inside --------------------------------------------------------------------------------------

    @property
    def _state(self) -> str:
        if self._terminated:
            return multiprocessing.pool.TERMINATE
        return multiprocessing.pool.CLOSE if self._closing else multiprocessing.pool.RUN

    def _wind_up(self) -> None:
        """After `close`: see the open groups out, then the workers."""
        with suppress(InternalError):  # told to those who wait for its tasks
            self._shut_down(kill=False)

    def _finish(self) -> None:
        for stream in list(self._maps):
            stream.wait_read()
        self._runtime.wait_prepared(self._loose)  # initializers run, whether or not there is work
        self._runtime.wait_left(self._loose)

    def _submit(self, fn: Callable[..., T], args: Iterable[Any], kwds: Any) -> Future[T]:
        self._check_running()
        check_callable(fn)
        args = tuple_of("args", args, text=True)
        if kwds is not None and not hasattr(kwds, "keys"):
            raise TypeError(f"kwds must be a dict of arguments by name, not {kwds!r}")
        return submit_lone(self._loose, fn, args, dict(kwds or {}), self._times[3], self._refusal)

    def _map(
        self, fn: Callable[..., T], iterable: Iterable[Any], chunksize: int | None, *, star: bool
    ) -> list[T]:
        self._check_running()
        sizes = check_map(fn, iterable, chunksize=chunksize)
        scope = self._open_scope(keep_outcomes=True)
        results: list[T] = []
        try:
            results = open_stream(
                scope.group,
                fn,
                iterable,
                star=star,
                timeout=self._times[3],
                gathers=True,
                **sizes,
            ).take_all()
        except BaseException as error:
            if not scope.leave(error, None):
                raise
        else:
            scope.leave(None, None)
        return results

    def _map_async(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callable[[list[T]], Any] | None,
        error_callback: Callable[[BaseException], Any] | None,
        *,
        star: bool,
    ) -> AsyncResult[list[T]]:
        self._check_running()
        size = check_map(fn, iterable, chunksize=chunksize)["chunksize"]
        items = list(iterable)
        if size is None:
            size = max(1, -(-len(items) // (4 * self._runtime.config.workers)))
        result: AsyncResult[list[T]] = AsyncResult(self, callback, error_callback)
        result._source = collector = Collector(
            self._open_group(make_policy(self._policy), self._times[0]),
            fn,
            items,
            star=star,
            chunksize=size,
            timeout=self._times[3],
            on_done=result._tell,
        )
        collector.start()
        return result

    def _imap(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Any],
        chunksize: int | None,
        buffersize: int | None,
        *,
        ordered: bool,
    ) -> Results[T]:
        self._check_running()
        sizes = check_map(fn, iterable, chunksize=chunksize, buffersize=buffersize)
        results = streamed(
            self._open_scope(),
            fn,
            iterable,
            kind=FinishingStream,
            ordered=ordered,
            timeout=self._times[3],
            **sizes,
            pool=self,
            goes_on=True,
        )
        assert isinstance(results._stream, FinishingStream)
        self._maps.add(results._stream)
        return results
