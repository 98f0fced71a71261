"""`Future`: a `concurrent.futures.Future` of a task that can be stopped while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures import Future as _Future
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from andon._runtime.wakeup import Wakeup
from andon.errors import TaskCancelledError
from andon.outcome import Outcome, TaskState

if TYPE_CHECKING:
    from andon._runtime.tasks import Run, Task

T = TypeVar("T")
_log = logging.getLogger("andon")


class Future(_Future[T], Generic[T]):
    """The result of one task, now or later; made by `submit`, never by users.

    It is a `concurrent.futures.Future`, so `wait`, `as_completed` and `asyncio.wrap_future` take
    it. What differs: `cancel()` stops a task that runs, and callbacks run on a thread of their
    own, after the task is really over (S47).
    """

    def __init__(self, task: Task) -> None:
        self._task: Task | None = task
        super().__init__()
        self._wakeup = Wakeup()
        self._cancelled_error: TaskCancelledError | None = None

    def cancel(self) -> bool:
        """Ask that this one task stop, running or not; its group goes on (S35).

        Returns at once: False where the task is over already, else True. A task that has not begun
        is cancelled on return; a running one is stopped by the ladder, and may still succeed or
        fail (S34): `result()`, `wait()` or a callback tell when it is over. Raises nothing but
        `WrongProcessError`, in a forked child.
        """
        with self._condition:
            task = self._task
            if self._state in (CANCELLED, CANCELLED_AND_NOTIFIED):
                return True
        if task is None:
            return False
        task.cancel()
        return not self.done() or self.cancelled()

    def running(self) -> bool:
        """True while the task's function runs in a worker. Does not block."""
        task = self._task
        return task is not None and not self.done() and task.is_running()

    @property
    def _state(self) -> str:
        # Nobody tells the parent that a task begins: who asks looks at the board. Not so the
        # standard class's own methods and functions, which hold the future's lock: they only
        # want to know whether it is over, and must not wait for the runtime's lock.
        state, task = self._stored, self._task
        if state == PENDING and task is not None and not self._condition._is_owned():  # type: ignore[attr-defined]
            return RUNNING if task.is_ours() and task.is_running() else state
        return state

    @_state.setter
    def _state(self, state: str) -> None:
        self._stored = state

    def __repr__(self) -> str:
        text = super().__repr__()
        return text.replace("=pending", "=running", 1) if self._state == RUNNING else text

    def result(self, timeout: float | None = None) -> T:
        """The task's value; blocks up to `timeout` seconds (None: until it is over).

        Raises the task's own error; `TaskCancelledError` where a stop ended it; `TimeoutError`
        when the time is up, which changes nothing for the task.
        """
        try:
            self._wait(timeout)
            return super().result(0)
        except CancelledError:
            raise self._cancelled() from None
        finally:
            del self  # or the error's traceback would lead back here, and keep both alive

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The task's error, or None; blocks and raises as `result` does."""
        try:
            self._wait(timeout)
            return super().exception(0)
        except CancelledError:
            raise self._cancelled() from None
        finally:
            del self

    def _wait(self, timeout: float | None) -> None:
        # Not on the condition that the standard class would wait on: see `wakeup`.
        if not self.done():
            task = self._task
            if task is None:  # it is just being told
                self._wakeup.wait(self.done, timeout)
            else:
                task.wait(self._wakeup, self.done, timeout)

    def _cancelled(self) -> BaseException:
        return self._cancelled_error or TaskCancelledError("the task was cancelled")

    # What the runtime calls, once, when the task is over -----------------------------------------

    def take(self, task: Task, outcome: Outcome) -> None:
        """The outcome; a sink's method."""
        error = error_of(task, outcome)
        if outcome.state is TaskState.CANCELLED and isinstance(error, TaskCancelledError):
            self._stop(error)
        else:
            self._fail(error)

    def take_run(self, task: Task, run: Run) -> None:
        """The value; a sink's method."""
        self._succeed(run.values[0])

    def over(self, task: Task) -> None:
        """A sink's method; `take` has said it all."""

    def split(self, task: Task, part: Task) -> None:
        """A sink's method; one call cannot be split."""

    def broken(self, error: BaseException) -> None:
        """andon itself failed; a sink's method."""
        if not self.done():
            self._fail(error)

    def _succeed(self, value: Any) -> None:
        self.set_result(value)
        self._task = None
        self._wakeup.notify()

    def _fail(self, error: BaseException) -> None:
        self.set_exception(error)
        self._task = None
        self._wakeup.notify()

    def _stop(self, error: TaskCancelledError) -> None:
        with self._condition:
            self._cancelled_error = error
            self._state = CANCELLED_AND_NOTIFIED
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        self._invoke_callbacks()
        self._task = None
        self._wakeup.notify()

    def _invoke_callbacks(self) -> None:
        callbacks: list[Callable[[_Future[Any]], object]] = self._done_callbacks
        self._done_callbacks: list[Callable[[_Future[Any]], object]] = []
        if callbacks:
            task = self._task
            run = _Callbacks(self, callbacks)
            if task is None:
                run()
            else:
                task.run_callbacks(run)

    def set_running_or_notify_cancel(self) -> bool:
        """As in the standard class; andon itself does not need it."""
        with self._condition:
            if self._state == PENDING:
                self._state = RUNNING
            return self._state in (RUNNING, FINISHED)


def error_of(task: Task, outcome: Outcome) -> BaseException:
    """What who asks for the result of a task that did not succeed is told instead."""
    broken = task.group.broken
    if broken is not None and outcome.started is False:
        return broken  # nobody cancelled it: the pool gave up (S42)
    assert outcome.error is not None
    return outcome.error


class _Callbacks:
    """All callbacks of one future; each is run, whatever the others do (S47)."""

    __slots__ = ("_callbacks", "_future")

    def __init__(
        self, future: Future[Any], callbacks: list[Callable[[_Future[Any]], object]]
    ) -> None:
        self._future = future
        self._callbacks = callbacks

    def __call__(self) -> None:
        for callback in self._callbacks:
            try:
                callback(self._future)
            except BaseException:  # a callback's SystemExit must not end the thread of all others
                _log.exception("a done callback of %r raised", self._future)
