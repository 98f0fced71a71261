"""joblib on andon: `import andon.joblib`, then `joblib.parallel_config(backend="andon")`.

Everything built on joblib runs on andon's workers then, scikit-learn included. One call of
`Parallel` is one group of tasks: its first failure stops the rest of it at once, with all that the
tasks have started.

Invariants
 1. One instance serves one `Parallel` at a time. joblib shares that of `parallel_config`; where it
    is taken, `configure` falls back to a twin.
 2. joblib hears of each batch once, except of those that a failure has stopped: of that failure
    it hears instead (S44).
 3. No error leaves `submit`: joblib calls it from a callback too, where an error would be lost.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

try:
    import joblib
    from joblib.parallel import (
        AutoBatchingMixin,
        FallbackToBackend,
        ParallelBackendBase,
        SequentialBackend,
    )
except ImportError as error:
    raise ImportError(
        "andon.joblib needs joblib 1.3 or newer, which is not part of andon: pip install joblib"
    ) from error

from andon._cancelled import Cancelled
from andon._gate import sheltered
from andon._runtime.groups import Group
from andon._runtime.options import seconds, seconds_or, start_method
from andon._runtime.scope import Scope
from andon.errors import TaskCancelledError
from andon.outcome import ReasonKind, StoppedBy
from andon.pool import Pool
from andon.taskgroup import submit_call

__all__ = ["AndonBackend", "close_idle"]

_IDLE = 300.0  # seconds that workers stay warm after a call, as joblib's own do
_ALL = -1  # a backend that is asked for by name is asked for to run in parallel


class AndonBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """The joblib backend "andon".

    ```python
    with joblib.parallel_config(backend="andon", n_jobs=4):
        joblib.Parallel()(joblib.delayed(work)(x) for x in range(100))
    ```

    `start_method`, `grace` and `kill_after` are those of `andon.TaskGroup`; `idle_worker_timeout`
    is how many seconds workers stay warm for the next call (300). All of them may be given to
    `parallel_config`. Without `n_jobs`, all CPUs are used. Arrays travel as pickles, not as
    memory maps: `max_nbytes`, `mmap_mode` and `temp_folder` mean nothing here.
    """

    default_n_jobs = _ALL
    supports_inner_max_num_threads = True
    supports_retrieve_callback = True  # and with it generators, and timeouts
    uses_threads = False
    supports_sharedmem = False

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        *,
        start_method: str | None = None,
        grace: float | None = None,
        kill_after: float | None = None,
        idle_worker_timeout: float | None = None,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._options: dict[str, Any] = {
            "start_method": start_method,
            "grace": grace,
            "kill_after": kill_after,
            "idle_worker_timeout": seconds("idle_worker_timeout", idle_worker_timeout),
        }
        self._taking = threading.Lock()
        self._warm: _Warm | None = None
        self._idle = _IDLE
        self._scope: Scope | None = None

    # What joblib asks before it begins -----------------------------------------------------------

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers that means. -1 and None: all CPUs; -2: all but one."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            n_jobs = _ALL
        if n_jobs < 0:
            n_jobs = max(joblib.cpu_count() + 1 + n_jobs, 1)
        return n_jobs

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: Any = None,
        require: Any = None,
        idle_worker_timeout: float | None = None,
        **_: Any,
    ) -> int:
        """Take a pool for one `Parallel`; what memory maps would need is left aside."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        options = dict(self._options)
        idle = seconds_or("idle_worker_timeout", idle_worker_timeout, _IDLE)
        idle = seconds_or("idle_worker_timeout", options.pop("idle_worker_timeout"), idle)
        options["start_method"] = start_method(options["start_method"], None, drop_in=False)
        with self._taking:
            if self._warm is not None:
                raise FallbackToBackend(self._twin())
            env = tuple(sorted(self._prepare_worker_env(n_jobs=n_jobs).items()))
            self._warm, self._idle = _lease((n_jobs, env, *options.items())), idle
        self.parallel = parallel
        return n_jobs

    def _twin(self) -> AndonBackend:
        return type(self)(self.nesting_level, self.inner_max_num_threads, **self._options)

    # A call --------------------------------------------------------------------------------------

    def start_call(self) -> None:
        """A call begins: a group of its own."""
        assert self._warm is not None
        self._scope = self._warm.pool._open_scope()

    def submit(self, func: Callable[[], Any], callback: Any = None) -> Future[Any]:
        """Run a batch in a worker."""
        scope = self._scope
        assert scope is not None
        try:
            future: Future[Any] = submit_call(scope.group, func, (), {}, None)
        except Cancelled as stop:
            if stop.token is not scope.group.token:
                raise
            future = Future()
            if _failure_is_told(scope.group):
                return future
            future.set_exception(_refusal(scope.group))
        except Exception as error:
            future = Future()
            future.set_exception(error)
        if callback is not None:
            future.add_done_callback(partial(_tell, scope.group, callback))
        return future

    apply_async = submit  # its name before joblib 1.4

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The results of a batch that is over, or its error. Does not block."""
        return out.result()

    @sheltered
    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop what runs, and drop what waits; blocks until that is over, bounded."""
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.abandon(sys.exception() or GeneratorExit())

    @sheltered
    def stop_call(self) -> None:
        """The call is over: all of its batches are, or it was aborted."""
        scope, self._scope = self._scope, None
        if scope is None:
            return
        if scope.group.stats.done < scope.group.stats.submitted:
            scope.abandon(GeneratorExit())
        else:
            scope.leave(None, None)

    def terminate(self) -> None:
        """Give the pool back; it stays warm for the next call."""
        self.stop_call()
        warm, self._warm = self._warm, None
        if warm is not None:
            _give_back(warm, self._idle)
        self.reset_batch_stats()


def _tell(group: Group, callback: Callable[[Any], object], future: Future[Any]) -> None:
    """A batch is over: joblib hears of it, unless it was stopped by a failure (invariant 2)."""
    if not (future.cancelled() and _failure_is_told(group)):
        callback(future)


def _failure_is_told(group: Group) -> bool:
    """Is it a batch that has stopped the others? Then its own callback says so."""
    return group.broken is None and (
        group.reason is not None and group.reason.kind is ReasonKind.FAILURE
    )


def _refusal(group: Group) -> BaseException:
    """Why a group takes no more batches."""
    return group.broken or TaskCancelledError(
        f"the call takes no more tasks ({group.reason})",
        reason=group.reason,
        started=False,
        stopped_by=StoppedBy.NEVER_STARTED,
    )


# Warm pools --------------------------------------------------------------------------------------

_lock = threading.RLock()  # a generator may be collected while the same thread holds it
_warm: list[_Warm] = []


class _Warm:
    """A pool that calls of the same wishes share: one after the other, or at once."""

    def __init__(self, key: tuple[Any, ...]) -> None:
        workers, env, *options = key
        self.key = key
        self.users = 0
        self.timer: threading.Timer | None = None
        self.pool = Pool(
            workers=workers,
            env=dict(env),
            **dict(options),
        )

    @property
    def usable(self) -> bool:
        """Can it still take work?"""
        runtime = self.pool._runtime
        return not (runtime.closing or runtime.crashed or self.pool._loose.broken)

    def doze(self, seconds: float) -> None:
        """Nobody uses it: end it, unless somebody does within so many seconds."""
        self.timer = threading.Timer(seconds, self._expired)
        self.timer.daemon = True
        self.timer.start()

    def wake(self) -> None:
        """Somebody uses it again."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _expired(self) -> None:
        with _lock:
            if self.users or self not in _warm:
                return
            _warm.remove(self)
        self.pool.terminate()


def _lease(key: tuple[Any, ...]) -> _Warm:
    """A pool for one call; workers of idle ones that are of no use now are ended first."""
    with _lock:
        found = [w for w in _warm if w.key == key and w.usable]
        if not found:
            _end_idle()
            found = [_Warm(key)]
            _warm.append(found[0])
        found[0].wake()
        found[0].users += 1
        return found[0]


def _give_back(warm: _Warm, idle: float) -> None:
    with _lock:
        warm.users -= 1
        if warm.users or warm not in _warm:
            return
        # Forks hold the program's globals as they were, which is not what a later call expects.
        if idle and warm.usable and warm.pool._runtime.config.start_method != "fork":
            warm.doze(idle)
            return
        _warm.remove(warm)
    warm.pool.terminate()


def close_idle() -> None:
    """End the workers that are kept warm for the next call. Blocks until they are gone, bounded;
    those of a call under way stay."""
    with _lock:
        _end_idle()


def _end_idle() -> None:
    for warm in [w for w in _warm if not w.users]:
        _warm.remove(warm)
        warm.wake()
        warm.pool.terminate()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    _warm.clear()  # they are the parent's (S38)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

joblib.register_parallel_backend("andon", AndonBackend)
