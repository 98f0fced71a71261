"""`Future`: a `concurrent.futures.Future` of a task that can be stopped while it runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, InvalidStateError
from concurrent.futures import Future as _Future
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from andon._complaint import complain
from andon._runtime.future_lock import FutureLock, Waiters
from andon._runtime.wakeup import Wakeup
from andon.errors import TaskCancelledError
from andon.outcome import Outcome, TaskState

if TYPE_CHECKING:
    from andon._engines.port import Call
    from andon._runtime.groups import Group
    from andon._runtime.tasks import Run, Task

T = TypeVar("T")
_CANCELLED = (CANCELLED, CANCELLED_AND_NOTIFIED)
_OVER = (*_CANCELLED, FINISHED)

# Held while a future gets its lock, and while one that has none is told its end: so whoever makes
# one finds a future that is over, or is told. Nothing is called or made under it: no finalizer may
# come in between, and wait there for the runtime's lock, whose holder waits for this one.
_making = threading.RLock()


def _after_fork_in_child() -> None:
    global _making
    _making = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Future(_Future[T], Generic[T]):
    """The result of one task, now or later; made by `submit`, never by users.

    It is a `concurrent.futures.Future`, so `wait`, `as_completed` and `asyncio.wrap_future` take
    it. What differs: `cancel()` stops a task that runs, and callbacks run on a thread of their
    own, after the task is really over (S47).
    """

    # There may be a hundred thousand of them: what few ever need is made when it is needed.
    _task: Task | None = None  # once the machine has it, as its item:
    _item = 0
    _index = 0  # its number within the group
    _dropped = False  # waits no more, though it may stand in the queue
    _left = False  # its submission is left to who drives
    _stored = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _cancelled_error: TaskCancelledError | None = None
    _made: FutureLock | None = None
    _waking: Wakeup | None = None

    def __init__(
        self, group: Group, call: Call, packed: Any = None, timeout: float | None = None
    ) -> None:
        # All that the standard class sets here has a default above, or comes with the lock.
        self._group: Group | None = group  # until it is over
        self._call: Call | None = call
        self._packed = packed
        self._timeout = timeout

    @property
    def _condition(self) -> FutureLock:  # type: ignore[override]
        """What the standard class and its functions lock it by."""
        made = self._made
        if made is None:
            made = FutureLock()
            vars(self)  # that there is a dict is seen to before
            with _making:
                if self._made is None:
                    self._made = made
                made = self._made
        return made

    @property
    def _waiters(self) -> Waiters:  # type: ignore[override]
        return self._condition.waiters

    @property
    def _done_callbacks(self) -> list[Callable[[_Future[Any]], object]]:
        return self._condition.callbacks

    def cancel(self) -> bool:
        """Ask that this one task stop, running or not; its group goes on (S35).

        Returns at once: False where the task is over already, else True. A task that waits is
        cancelled on return; one that was given to a worker is so a moment later, if it has not
        begun; a running one is stopped by the ladder, and may still succeed or fail (S34).
        `result()`, `wait()` or a callback tell when it is over. Raises nothing but
        `WrongProcessError`, in a forked child.
        """
        group = self._group
        if self._stored in _CANCELLED:
            return True
        if group is None:
            return False
        group.runtime.cancel_call(self, group)
        return not self.done() or self.cancelled()

    def cancelled(self) -> bool:
        """True where a stop has ended the task."""
        return self._stored in _CANCELLED

    def done(self) -> bool:
        """True where the task is over, however it ended."""
        return self._stored in _OVER

    def running(self) -> bool:
        """True while the task's function runs in a worker. Does not block."""
        return not self.done() and self._runs()

    def _runs(self) -> bool:
        group, task = self._group, self._task
        return (
            group is not None and task is not None and group.runtime.is_running(task, self._item)
        )

    @property
    def _state(self) -> str:
        # Nobody tells the parent that a task begins: who asks looks at the board. Not so the
        # standard class's own methods and functions, which hold the future's lock: they only
        # want to know whether it is over, and must not wait for the runtime's lock.
        state, group = self._stored, self._group
        if state != PENDING or group is None or group.runtime.foreign:
            return state
        made = self._made
        if made is not None and made._is_owned():
            return state
        return RUNNING if self._runs() else state

    @_state.setter
    def _state(self, state: str) -> None:
        self._stored = state

    def __repr__(self) -> str:
        text = super().__repr__()
        return text.replace("=pending", "=running", 1) if self._state == RUNNING else text

    def __reduce__(self) -> NoReturn:
        raise TypeError("a future stays in its process: pass its result, or submit what needs it")

    def result(self, timeout: float | None = None) -> T:
        """The task's value; blocks up to `timeout` seconds (None: until it is over).

        Raises the task's own error; `TaskCancelledError` where a stop ended it; `TimeoutError`
        when the time is up, which changes nothing for the task.
        """
        try:
            if self._stored != FINISHED:
                self._wait(timeout)
            if self._stored == FINISHED and self._exception is None:
                return self._result  # type: ignore[no-any-return]
            return super().result(0)
        except CancelledError:
            if self._stored not in _CANCELLED:
                raise  # the task's own
            raise self._cancelled() from None
        finally:
            del self  # or the error's traceback would lead back here, and keep both alive

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The task's error, or None; blocks and raises as `result` does."""
        try:
            self._wait(timeout)
            return super().exception(0)
        except CancelledError:
            if self._stored not in _CANCELLED:
                raise  # the task's own
            raise self._cancelled() from None
        finally:
            del self

    def _wait(self, timeout: float | None) -> None:
        # Not on the condition that the standard class would wait on: see `wakeup`.
        if not self.done():
            group = self._group
            if group is None:  # it is just being told
                self._wakeup().wait(self.done, timeout)
            else:
                group.runtime.wait(self._wakeup(), self.done, timeout)

    def _wakeup(self) -> Wakeup:
        wakeup = self._waking
        if wakeup is None:
            made: Wakeup = vars(self).setdefault("_waking", Wakeup())
            return made
        return wakeup

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
        task.group.calls.measured(task.packed, run.ended_at - run.started_at)

    def over(self, task: Task) -> None:
        """A sink's method; `take` has said it all."""

    def split(self, task: Task, part: Task) -> None:
        """A sink's method; one call cannot be split."""

    def broken(self, error: BaseException) -> None:
        """andon itself failed; a sink's method."""
        if not self.done():
            self._fail(error)

    def _bind(self, task: Task) -> Future[T]:
        self._task = task
        return self

    def _succeed(self, value: Any) -> None:
        with _making:
            made = self._made
            if made is None and self._stored not in _OVER:
                self._result = value
                self._stored = FINISHED
        if made is not None:
            try:
                self.set_result(value)
            except InvalidStateError:  # the user has set it himself: that stands
                pass
        self._let_go()

    def _fail(self, error: BaseException) -> None:
        with _making:
            made = self._made
            if made is None and self._stored not in _OVER:
                self._exception = error
                self._stored = FINISHED
        if made is not None:
            try:
                self.set_exception(error)
            except InvalidStateError:
                pass
        self._let_go()

    def _let_go(self) -> None:
        self._group = self._task = self._call = self._packed = None
        if self._waking is not None:
            self._waking.notify()

    def _stop(self, error: TaskCancelledError) -> None:
        with _making:
            made = self._made
            if made is None and self._stored not in _OVER:
                self._cancelled_error = error
                self._stored = CANCELLED_AND_NOTIFIED
        if made is not None:
            self._stop_locked(error)
        self._let_go()

    def _stop_locked(self, error: TaskCancelledError) -> None:
        with self._condition:
            told = self._stored in _OVER  # by the user himself
            if not told:
                self._cancelled_error = error
                self._state = CANCELLED_AND_NOTIFIED
                for waiter in self._waiters:
                    waiter.add_cancelled(self)
                self._condition.notify_all()
        if not told:
            self._invoke_callbacks()

    def _invoke_callbacks(self) -> None:
        lock = self._condition
        callbacks, lock.callbacks = lock.callbacks, []
        if callbacks:
            group = self._group
            run = _Callbacks(self, callbacks)
            if group is None:
                run()
            else:
                group.runtime.callbacks.run(run)

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
                complain("a done callback of %r raised", self._future)
