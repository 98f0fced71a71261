"""`ProcessPoolExecutor`: `concurrent.futures`' surface over one warm set of workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any, TypeVar

from andon._runtime.futures import Future
from andon._runtime.interrupts import sheltered
from andon._runtime.options import check_callable, same
from andon._runtime.shared import SharedPool
from andon.mapping import streamed
from andon.outcome import ReasonKind, TraceEvent
from andon.policy import Policy
from andon.taskgroup import submit_lone
from andon.token import Token

T = TypeVar("T")


class ProcessPoolExecutor(SharedPool, Executor):
    """A `concurrent.futures.Executor` whose running tasks can be cancelled.

    ```python
    with andon.ProcessPoolExecutor(8) as ex:
        future = ex.submit(work, 1)
        future.cancel()
    ```

    A submitted call stands alone: its failure cancels nothing, and a worker that dies fails its
    task alone. `map` stops its own items at the first failure.
    """

    _refusal = "cannot schedule new futures after shutdown"
    _exit_kills = False

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        workers: int | None = None,
        max_tasks_per_child: int | None = None,
        max_tasks_per_worker: int | None = None,
        start_method: str | None = None,
        policy: Policy | Callable[[], Policy] | None = None,
        deadline: float | None = None,
        timeout: float | None = None,
        grace: float | None = None,
        kill_after: float | None = None,
        token: Token | None = None,
        reuse_interrupted: bool = False,
        engine: Any = None,
        strict: bool = False,
        trace: Callable[[TraceEvent], object] | None = None,
    ) -> None:
        super().__init__(
            deadline=deadline,
            timeout=timeout,
            grace=grace,
            kill_after=kill_after,
            token=token,
            policy=policy,
            workers=same("workers", workers, "max_workers", max_workers),
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_worker=same(
                "max_tasks_per_worker",
                max_tasks_per_worker,
                "max_tasks_per_child",
                max_tasks_per_child,
            ),
            start_method_=start_method,
            mp_context=mp_context,
            reuse_interrupted=reuse_interrupted,
            engine=engine,
            strict=strict,
            trace=trace,
            name="andon-executor",
        )

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run `fn(*args, **kwargs)` in a worker; return its future at once."""
        self._check_running()
        check_callable(fn)
        return submit_lone(self._loose, fn, args, kwargs, self._times[3])

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """The results as an iterator, in order. `timeout`: seconds from this call until a result
        is late, which raises `TimeoutError` and stops the rest. With `buffersize` the input is
        read lazily, at most so far ahead; without, at once."""
        self._check_running()
        check_callable(fn)
        end = None if timeout is None else time.monotonic() + timeout
        items: Any = zip(*iterables, strict=False)
        if buffersize is None:
            items = list(items)
            buffersize = max(1, len(items))
        return streamed(
            self._open_scope(),
            fn,
            items,
            end=end,
            star=True,
            timeout=self._times[3],
            chunksize=chunksize,
            buffersize=buffersize,
            pool=self,
        )

    @sheltered
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work. `wait`: block until accepted work is over and the workers are gone;
        otherwise they end by themselves. `cancel_futures`: what has not begun never will."""
        self._closing = True
        if self._runtime.foreign:
            return
        if cancel_futures:
            self._runtime.stop(self._loose, ReasonKind.SHUTDOWN, "shutdown", soon=True)
        if wait:
            self._shut_down(kill=False)
        else:
            threading.Thread(
                target=self._shut_down, kwargs={"kill": False}, name="andon-shutdown", daemon=True
            ).start()
