"""What every `TaskGroup` has, under threads and under asyncio: its arguments, how it opens its
scope, and what there is to read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from andon._runtime.groups import Elsewhere
from andon._runtime.options import open_runtime, seconds
from andon._runtime.runtime import Runtime
from andon._runtime.scope import Scope, check_common, open_scope
from andon._runtime.surroundings import Env, check_variables
from andon.outcome import Outcome, Reason, TraceEvent, Verdict
from andon.policy import Policy, Stats, as_of_now
from andon.report.reporters import check_progress
from andon.report.watch import Watcher, watch
from andon.token import Token

if TYPE_CHECKING:
    from andon.executor import ProcessPoolExecutor
    from andon.pool import Pool


class Grouping:
    """Base of the `TaskGroup`s; `_scope` is there once the group was entered."""

    _bare = False  # what it raises: an ExceptionGroup (S43), or the first failure
    _shown = "andon.TaskGroup"
    _how = "with andon.TaskGroup() as tg: ..."

    def __init__(
        self,
        *,
        workers: int | None = None,
        pool: Pool | ProcessPoolExecutor | None = None,
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
        progress: Any = None,
        keep_outcomes: bool = True,
        name: str | None = None,
    ) -> None:
        self._times = check_common(deadline, grace, kill_after, timeout, policy, token)
        check_progress(progress)
        self._policy = policy
        self._variables = check_variables(contextvars)
        self._token = token
        self._pool = pool
        self._progress = progress
        self._keep_outcomes = bool(keep_outcomes)
        self._options: dict[str, Any] = {
            "workers": workers,
            "initializer": initializer,
            "initargs": initargs,
            "max_tasks_per_worker": max_tasks_per_worker,
            "start_method_": start_method,
            "mp_context": mp_context,
            "env": env,
            "reuse_interrupted": reuse_interrupted,
            "engine": engine,
            "strict": strict,
            "trace": trace,
        }
        if pool is not None:
            given = [k.rstrip("_") for k, v in self._options.items() if v not in (None, (), False)]
            if given:
                raise ValueError(
                    "a group on a pool uses the pool's workers: "
                    f"give {', '.join(given)} to the pool instead"
                )
            if not hasattr(pool, "_runtime"):
                raise TypeError(
                    f"pool must be an andon.Pool or an andon.ProcessPoolExecutor, not {pool!r}"
                )
        self.name = name or "andon"
        self._scope: Scope | None = None
        self._watcher: Watcher | None = None
        self._streams: list[Any] = []  # maps that nobody has begun to iterate

    # What there is to read -----------------------------------------------------------------------

    @property
    def token(self) -> Token:
        """What the tasks read to learn that they should stop."""
        return self._entered().group.token

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The outcomes that there are, in order of submission; readable afterwards too (S45)."""
        return self._entered().group.outcomes

    @property
    def reason(self) -> Reason | None:
        """Why the group stopped; None while nothing stopped it."""
        return self._entered().group.reason

    @property
    def verdict(self) -> Verdict | None:
        """`ok`, `failed` or `cancelled`; None until it is decided."""
        return self._entered().group.verdict

    @property
    def stats(self) -> Stats:
        """Counts of tasks, by outcome: those of this moment."""
        return as_of_now(self._entered().group.stats)

    def __reduce__(self) -> tuple[Any, ...]:
        return Elsewhere, ()

    def __repr__(self) -> str:
        if self._scope is None:
            return f"<{self._shown} not entered>"
        group = self._scope.group
        state = "closed" if group.closed else "stopping" if group.reason is not None else "open"
        stats = group.stats
        return f"<{self._shown} {state}, {stats.done} of {stats.submitted} tasks done>"

    # Inside --------------------------------------------------------------------------------------

    def _check_unused(self) -> None:
        if self._scope is not None:
            raise RuntimeError("a TaskGroup is used once; make a new one")

    def _open(self, **how: Any) -> Scope:
        """Open the scope, and whoever watches it. `how`: how a `Scope` stands in its thread."""
        deadline, grace, kill_after, _ = self._times
        links: tuple[Token, ...] = ()
        variables = self._variables
        runtime: Runtime | Callable[[], Runtime]
        if self._pool is None:
            runtime = partial(open_runtime, **self._options, name=self.name)
        else:
            self._pool._check_running()
            runtime = self._pool._runtime
            links = self._pool._links
            variables += self._pool._variables
        self._scope = scope = open_scope(
            runtime,
            policy=self._policy,
            deadline=deadline,
            grace=grace,
            kill_after=kill_after,
            token=self._token,
            links=links,
            keep_outcomes=self._keep_outcomes,
            bare=self._bare,
            variables=variables,
            **how,
        )
        try:
            self._watcher = watch(scope.group, self._progress)
        except BaseException as error:
            scope.abandon(error)
            raise
        return scope

    def _entered(self) -> Scope:
        if self._scope is None:
            raise RuntimeError(f"enter the group first: {self._how}")
        return self._scope

    def _limit(self, timeout: float | None) -> float | None:
        """A task's timeout: its own, or the group's."""
        limit = seconds("timeout", timeout, zero=False)
        return self._times[3] if limit is None else limit


Grouping.__init__.__qualname__ = "TaskGroup"  # what Python says of wrong arguments
