"""`Future`: a process task that can be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Generic, Protocol, TypeVar
from weakref import ref

from andon._runtime.futures import error_of
from andon._runtime.tasks import Run, Task
from andon.aio.mailbox import Mailbox
from andon.errors import TaskCancelledError
from andon.outcome import Outcome, StoppedBy, TaskState

T = TypeVar("T")
Callback = Callable[["Future[Any]"], object]


class Orders(Protocol):
    """What a future needs of its group."""

    def stop_task(self, task: Task) -> None:
        """Stop this task alone; never blocks."""

    def cancelled_again(self) -> None:
        """Who awaits it was cancelled once more, while its task is being stopped."""

    def forget(self, future: Future[Any]) -> None:
        """It is over."""


class Future(Generic[T]):
    """The result of one process task, now or later; made by `TaskGroup.submit`, never by users.

    `await future` gives the task's value, or raises its own error, or `TaskCancelledError` where a
    stop has ended it. Whoever is cancelled while awaiting it stops the task, and goes on, with
    `asyncio.CancelledError`, when the task is over. `asyncio.gather`, `wait`, `wait_for`, `shield`
    and `as_completed` take it. It belongs to one event loop: use it in that loop's thread.
    """

    # Invariants:
    #  1. Its sink is told from any thread, once; all else happens in the loop's.
    #  2. `_unsent` has one element until the call is handed over or given up, by whoever takes it.
    #  3. `_cancel_asked` is set before `_task` is looked at by `cancel`, and looked at after
    #     `_task` is set by whoever sends: so a cancel is never lost between the two.

    def __init__(
        self, loop: asyncio.AbstractEventLoop, mailbox: Mailbox, orders: Orders, name: str
    ) -> None:
        self.sink = Sink(self, mailbox)
        self._loop = loop
        self._orders = orders
        self._name = name
        self._unsent = [True]
        self._task: Task | None = None
        self._cancel_asked = False
        self._done = False
        self._cancelled = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._callbacks: list[tuple[Callback, Context]] = []

    # What users call -----------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, T]:
        if not self._done:
            yield from self._wait().__await__()
        return self.result()

    def cancel(self) -> bool:
        """Ask that this one task stop, running or not; its group goes on (S35).

        Returns at once: False where the task is over already, else True. What runs is stopped by
        the ladder, and may still succeed or fail (S34): awaiting it tells when it is over.
        """
        if self._done:
            return False
        if not self._cancel_asked:
            self._cancel_asked = True
            if self._claim():
                self._give_up()
            elif self._task is not None:
                self._orders.stop_task(self._task)
        return True

    def done(self) -> bool:
        """Is the task over?"""
        return self._done

    def cancelled(self) -> bool:
        """Was it ended by a stop?"""
        return self._cancelled

    def result(self) -> T:
        """The value, or the error raised; `asyncio.InvalidStateError` while it is not over."""
        error = self.exception() if not self._cancelled else self._error
        try:
            if error is not None:
                raise error
            return self._value  # type: ignore[no-any-return]
        finally:
            del self, error  # or the error's traceback would lead back here, and keep both alive

    def exception(self) -> BaseException | None:
        """The error, or None; raises where the task was cancelled or is not over."""
        if not self._done:
            raise asyncio.InvalidStateError(f"{self!r} is not over: await it")
        if self._cancelled:
            assert self._error is not None
            raise self._error
        return self._error

    def add_done_callback(self, fn: Callback, *, context: Context | None = None) -> None:
        """Have the loop call `fn(future)` when the task is over."""
        context = copy_context() if context is None else context
        if self._done:
            self._loop.call_soon(fn, self, context=context)
        else:
            self._callbacks.append((fn, context))

    def remove_done_callback(self, fn: Callback) -> int:
        """Forget all calls of `fn`; how many there were."""
        kept = [(each, context) for each, context in self._callbacks if each != fn]
        removed = len(self._callbacks) - len(kept)
        self._callbacks = kept
        return removed

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it belongs to."""
        return self._loop

    def __repr__(self) -> str:
        if not self._done:
            state = "stopping" if self._cancel_asked else "pending"
        elif self._cancelled:
            state = "cancelled"
        else:
            state = "finished" if self._error is None else f"raised {type(self._error).__name__}"
        return f"<andon.aio.Future of {self._name} {state}>"

    async def _wait(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                f"{self!r} belongs to another event loop; await it there, for instance by "
                "asyncio.run_coroutine_threadsafe()"
            )
        stopped: asyncio.CancelledError | None = None
        while not self._done:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError as error:
                # The first one stops the task; but the wait ends with the task (S5), so that who
                # is cancelled never goes on beside what it has left.
                if stopped is None:
                    stopped = error
                    self.cancel()
                else:
                    self._orders.cancelled_again()
        if stopped is not None:
            try:
                raise stopped
            finally:
                del stopped

    # What the group calls ------------------------------------------------------------------------

    def _claim(self) -> bool:
        try:
            return self._unsent.pop()
        except IndexError:
            return False

    def _bind(self, task: Task) -> Sink:
        self._task = task
        return self.sink

    def _sent(self) -> None:
        if self._cancel_asked and self._task is not None:
            self._orders.stop_task(self._task)

    def _give_up(self) -> None:
        """It was never handed over, and will not be."""
        error = TaskCancelledError(
            f"{self._name} was cancelled before it was handed over",
            started=False,
            stopped_by=StoppedBy.NEVER_STARTED,
        )
        self._settle(None, error, cancelled=True)

    def _settle(self, value: Any, error: BaseException | None, *, cancelled: bool = False) -> None:
        if self._done:
            return
        self._done = True
        self._value, self._error, self._cancelled = value, error, cancelled
        self._task = None
        self._orders.forget(self)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        callbacks, self._callbacks = self._callbacks, []
        for fn, context in callbacks:
            self._loop.call_soon(fn, self, context=context)


class Sink:
    """What the runtime tells of a future's task; a future that nobody holds is told nothing."""

    __slots__ = ("_future", "_mailbox")

    def __init__(self, future: Future[Any], mailbox: Mailbox) -> None:
        self._future = ref(future)  # see `weakly`
        self._mailbox = mailbox

    def take(self, task: Task, outcome: Outcome) -> None:
        """It has not succeeded. Any thread."""
        error = error_of(task, outcome)
        cancelled = outcome.state is TaskState.CANCELLED and error is outcome.error
        self._settle(None, error, cancelled)

    def take_run(self, task: Task, run: Run) -> None:
        """It has. Any thread."""
        self._settle(run.values[0], None, False)

    def over(self, task: Task) -> None:
        """`take` has said it all."""

    def split(self, task: Task, part: Task) -> None:
        """A lone call has no rest."""

    def broken(self, error: BaseException) -> None:
        """andon itself failed, or the call could not be handed over. Any thread."""
        self._settle(None, error, False)

    def _settle(self, value: Any, error: BaseException | None, cancelled: bool) -> None:
        future = self._future()
        if future is not None:
            self._mailbox.post(partial(future._settle, value, error, cancelled=cancelled))
