"""`ProcessPoolExecutor`: `concurrent.futures`' surface over one warm set of workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import ProcessPoolExecutor as _Standard
from contextvars import ContextVar
from contextvars import Token as Reset
from types import TracebackType
from typing import Any, TypeVar

from andon._gate import sheltered
from andon._results import streamed
from andon._runtime.endings import note_failures, raise_first
from andon._runtime.futures import Future
from andon._runtime.one_by_one import SubmittedOneByOne
from andon._runtime.options import check_callable, check_map, make_policy, positive_int, same
from andon._runtime.shared import SharedPool
from andon._runtime.surroundings import Env
from andon.errors import TaskCancelledError
from andon.outcome import ReasonKind, TraceEvent
from andon.policy import Policy
from andon.taskgroup import TaskGroup, submit_lone, submit_or_fail
from andon.token import Token

T = TypeVar("T")
_AT_ONCE = 0.0  # seconds


class ProcessPoolExecutor(SharedPool, _Standard):
    """A `concurrent.futures.Executor` whose running tasks can be cancelled.

    ```python
    with andon.ProcessPoolExecutor(8) as ex:
        future = ex.submit(work, 1)
        future.cancel()
    ```

    A submitted call stands alone: its failure cancels nothing, and a worker that dies fails its
    task alone. `map` stops its own items at the first failure. Three ways to have calls stop
    together: `with ex.group():` for those submitted in its body, `TaskGroup(pool=ex)`, and
    `fail_fast=True`, or a `policy`, for all that this executor is ever given: once one has failed,
    those that run are stopped, `submit` raises `TaskCancelledError`, and leaving the `with` raises
    the failure. The other arguments are those of `Pool` and `TaskGroup`; `workers` and
    `max_tasks_per_worker` may go by their names in the standard library: `max_workers`,
    `max_tasks_per_child`.

    What differs from `concurrent.futures.ProcessPoolExecutor`, on purpose:

    - `map`: the first failure, or a late result, stops the items that run, too (there, they go on
      to their end). Instead: a `submit` for each item, or `policy=andon.collect_all()`;
    - a worker that dies fails one task, with `WorkerDiedError`, a `BrokenProcessPool`, and is
      replaced (there, all that is pending fails, and the executor is of no more use);
    - `cancel()` of a future that runs stops it (there, it does nothing). Ask `running()` before;
    - Ctrl-C stops what runs, and workers print no tracebacks of it (there, they do);
    - workers never run `__main__`, and need no guard there.

    It *is* a `concurrent.futures.ProcessPoolExecutor`, for `isinstance` and type checkers; it has
    none of its code.
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
        fail_fast: bool = False,
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
        if fail_fast and policy is not None:
            raise ValueError(
                f"fail_fast=True is the policy andon.fail_fast(): give that, or policy={policy!r}"
            )
        positive_int("max_workers", max_workers)
        positive_int("max_tasks_per_child", max_tasks_per_child)
        super().__init__(
            deadline=deadline,
            timeout=timeout,
            grace=grace,
            kill_after=kill_after,
            token=token,
            policy=policy,
            lone=make_policy(policy) if fail_fast or policy is not None else None,
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
            env=env,
            contextvars=contextvars,
            reuse_interrupted=reuse_interrupted,
            engine=engine,
            strict=strict,
            trace=trace,
            name="andon-executor",
        )

    @property
    def _max_workers(self) -> int:
        """The one private name that other libraries ask an executor for (Dask does)."""
        return self._runtime.config.workers

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run `fn(*args, **kwargs)` in a worker; return its future at once.

        In the body of `with ex.group():` it belongs to that group, and raises `Cancelled` once
        that is stopping (its `with` absorbs it). Arguments that cannot be pickled fail the
        future. Raises `PoolClosedError` after `shutdown`; `TaskCancelledError` once the executor's
        own policy or token has stopped it.
        """
        self._check_running()
        check_callable(fn)
        group = _Group.of(self)
        if group is None:
            return submit_lone(self._loose, fn, args, kwargs, self._times[3], self._refusal)
        return submit_or_fail(group._entered().group, fn, args, kwargs, group._times[3])

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """The results as an iterator, in order. Leaving the loop over it stops what is left; if
        nobody ever asks for a result, all of it is run. `timeout`: seconds from this call until
        a result is late, which raises `TimeoutError` and stops the rest. With `buffersize` the
        input is read lazily, at most so far ahead; without, at once."""
        self._check_running()
        sizes = check_map(
            fn,
            *iterables,
            chunksize=positive_int("chunksize", chunksize, none=False),
            buffersize=buffersize,
        )
        end = None if timeout is None else time.monotonic() + timeout
        items: Any = zip(*iterables, strict=False)
        goes_on = buffersize is None  # all is submitted at once: as good as so many `submit`s
        if buffersize is None:
            items = list(items)
            sizes["buffersize"] = max(1, len(items))
        if self._policy is None and _is_replaced(self.submit):
            return SubmittedOneByOne(
                self.submit,
                fn,
                items,
                **sizes,
                end=end,
                callbacks=self._runtime.callbacks,
            ).results()
        return streamed(
            self._open_scope(),
            fn,
            items,
            end=end,
            star=True,
            timeout=self._times[3],
            **sizes,
            pool=self,
            goes_on=goes_on,
        )

    def group(
        self,
        *,
        policy: Policy | Callable[[], Policy] | None = None,
        deadline: float | None = None,
        timeout: float | None = None,
        grace: float | None = None,
        kill_after: float | None = None,
        token: Token | None = None,
        progress: Any = None,
        keep_outcomes: bool = True,
    ) -> TaskGroup:
        """A group for the calls that are submitted in its body, by code that need not know of it.

        ```python
        with ex.group():
            futures = [ex.submit(work, number) for number in range(10)]
        ```

        The first that fails stops the others, and leaving the `with`, which blocks until all are
        over, raises it bare. To the executor's other calls nothing happens. `submit` belongs to
        the group in the body itself and in what it calls, not in other threads. `with ... as tg`
        gives a `TaskGroup` on this executor, and the arguments are its; times that are left out
        are the executor's.
        """
        times = [
            own if given is None else given
            for given, own in zip((deadline, grace, kill_after, timeout), self._times, strict=True)
        ]
        return _Group(
            pool=self,
            policy=policy,
            deadline=times[0],
            grace=times[1],
            kill_after=times[2],
            timeout=times[3],
            token=token,
            progress=progress,
            keep_outcomes=keep_outcomes,
        )

    @sheltered
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work. `wait`: block until accepted work is over and the workers are gone;
        otherwise they end by themselves. `cancel_futures`: what has not begun never will."""
        self._closing = True
        if self._runtime.foreign:
            return
        if cancel_futures:
            self._runtime.stop_all(ReasonKind.SHUTDOWN, "shutdown", soon=True)
        if wait:
            self._shut_down(kill=False)
            return
        self._shut_down_elsewhere(kill=False)

    def terminate_workers(self) -> None:
        """Shut down at once: what waits never starts, what runs is interrupted, and killed where
        it does not end in `kill_after` seconds; then the workers end. Does not block; `shutdown()`
        waits for it. The futures of what was stopped raise `TaskCancelledError`."""
        self._end("the workers were terminated", kill=False)

    def kill_workers(self) -> None:
        """As `terminate_workers`, but what runs is killed."""
        self._end("the workers were killed", kill=True)

    @sheltered
    def _end(self, why: str, *, kill: bool) -> None:
        self._closing = True
        if not self._runtime.foreign:
            self._runtime.stop_all(ReasonKind.SHUTDOWN, why, kill=kill, grace=_AT_ONCE)
            self.shutdown(wait=False)

    @sheltered
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """`shutdown`; after a Ctrl-C, what runs is stopped and what waits never starts. Raises the
        first failure where the executor's own policy says that failures are raised."""
        super().__exit__(kind, error, trace)
        group = self._loose
        if not (group.mistake or (group.raises and group.failures)):
            return
        if error is None or (
            isinstance(error, TaskCancelledError) and error.reason is group.reason is not None
        ):
            raise_first(group, None, None)
        elif not group.owns_failure(error):
            note_failures(error, group, None)


def _is_replaced(submit: Any) -> bool:
    """Is it another `submit` than ours, a subclass's or one that was set on the executor?"""
    return getattr(submit, "__func__", None) is not ProcessPoolExecutor.submit


_innermost: ContextVar[_Group | None] = ContextVar("andon_executor_group", default=None)


class _Group(TaskGroup):
    """A `TaskGroup` that its executor's `submit` finds, and that raises its first failure bare
    (S44): code for the standard executor catches that."""

    _bare = True
    _outer: _Group | None = None
    _reset: Reset[_Group | None] | None = None

    @staticmethod
    def of(executor: ProcessPoolExecutor) -> _Group | None:
        """The innermost one of that executor, in whose body we are."""
        group = _innermost.get()
        while group is not None and (group._pool is not executor or group._entered().group.over):
            group = group._outer
        return group

    def __enter__(self) -> TaskGroup:
        super().__enter__()
        try:
            self._outer = _innermost.get()
            self._reset = _innermost.set(self)
        except BaseException as error:  # of a signal handler: nobody else would leave it
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    @sheltered
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if self._reset is not None:
            try:
                _innermost.reset(self._reset)
            except ValueError:  # left in another context than it was entered in
                pass
        return super().__exit__(kind, error, trace)
