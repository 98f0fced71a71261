"""`map` and `imap`: one call, no object to manage."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from andon._results import Results, streamed
from andon._runtime.options import check_map, open_runtime
from andon._runtime.runtime import Runtime
from andon._runtime.scope import Scope, check_common, open_scope
from andon._runtime.surroundings import Env, Variables, check_variables
from andon.outcome import TraceEvent
from andon.policy import Policy
from andon.report.reporters import check_progress
from andon.report.watch import Watcher, watch
from andon.taskgroup import open_stream
from andon.token import Token

T = TypeVar("T")


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
    sizes = check_map(fn, items, *more, chunksize=chunksize, buffersize=buffersize)
    check_progress(progress)
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
                gathers=True,
                **sizes,
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
    sizes = check_map(fn, items, *more, chunksize=chunksize, buffersize=buffersize)
    check_progress(progress)
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
    options: dict[str, Any] = {"ordered": ordered, "timeout": times[3], **sizes}
    return streamed(
        _scope(runtime, times, policy, token, variables, keep_outcomes=False),
        fn,
        items,
        more,
        progress,
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
