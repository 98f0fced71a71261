"""Work on its way to the machine, and orders about it: what facades call to submit and to cancel.

    submit        a span of a map, or a call of its own ──┐
    submit_call   a single call ──────────────────────────┼── lock ──▶ handing.py ──▶ machine
    cancel, leave the body ───────────────────────────────┘

Invariants
 1. Pickling is done in the submitting thread, before the lock (S28).
 2. A finalizer that finds the lock taken never waits for it: who drives makes its call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from andon._cancelled import Cancelled
from andon._core import events as ev
from andon._engines.port import Call
from andon._gate import gate
from andon._locks import inside
from andon._runtime.futures import Future
from andon._runtime.groups import Group
from andon._runtime.handing import Handing
from andon._runtime.room import TO_STOP, TO_SUBMIT, check_room, has_room
from andon._runtime.tasks import Sink, Task
from andon._worker.context import in_context
from andon.errors import GroupClosedError, TaskCancelledError


class Submitter(Handing):
    """The storey of a runtime above `Handing`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._left: deque[Callable[[], None]] = deque()  # calls of finalizers

    def submit(
        self,
        group: Group,
        call: Call,
        sink: Callable[[Task], Sink],
        *,
        size: int = 1,
        timeout: float | None = None,
        packed: Any = None,
    ) -> Task:
        """Pickle in this thread (S28), unless it is `packed` by now; then hand the task over.
        Never waits for a worker."""
        group.check()
        self._check_usable()
        if packed is None:
            packed = self.pack(group, call)
        check_room(TO_SUBMIT)
        with gate:
            with self._lock:
                task = self._add_task(group, size, call, packed, timeout, sink)
            self._deliver()
        return task

    def submit_call(
        self, group: Group, call: Call, timeout: float | None = None
    ) -> Future[Any]:
        """A single call: as `submit`, but while others of its group wait, it does so with them."""
        group.check()
        self._check_usable()
        future: Future[Any] = Future(group, call, self.pack(group, call), timeout)
        with gate:
            future._left = True  # before somebody else may have it
            if not self._must_leave(self._add_late, future, group):
                future._left = False
                self._add(future, group)
        return future

    def _add(self, future: Future[Any], group: Group) -> None:
        try:
            with self._lock:
                self._add_call(future, group)
        finally:
            if self._notices:
                if has_room():
                    self._deliver()
                else:
                    self.wake()

    def _add_late(self, future: Future[Any], group: Group) -> None:
        try:
            self._add(future, group)
        except BaseException as error:
            if group.reason is not None and isinstance(error, Cancelled | GroupClosedError):
                why = f"the group takes no more calls ({group.reason})"
                future._stop(TaskCancelledError(why, reason=group.reason, started=False))
            else:
                future.broken(error)
        future._left = False

    def pack(self, group: Group, call: Call) -> Any:
        """Pickle a call, for `submit` (S28)."""
        if group.variables:
            call.fn = in_context(call.fn, group.variables)
        return self._caps.pack(call)

    def cancel_task(self, task: Task) -> None:
        """Stop one task (S35)."""
        self._check_own()
        check_room(TO_STOP)
        with gate:
            if self._must_leave(self.cancel_task, task):
                return
            with self._lock:
                self._take(ev.TaskCancelAsked(task.id))
            self._deliver()

    def cancel_call(self, future: Future[Any], group: Group) -> None:
        """Stop one call, and none that travels with it (S35)."""
        self._check_own()
        check_room(TO_STOP)
        with gate:
            if self._must_leave(self.cancel_call, future, group, after=future._left):
                return
            with self._lock:
                group.calls.late.append(future)
                if not group.calls.handing:
                    self._cancel_late(group)
            self._deliver()

    def leave_body(self, group: Group) -> None:
        """The body adds nothing more; accepted work goes on. Idempotent."""
        self._check_own()
        check_room(TO_STOP)
        with gate:
            if self._must_leave(self.leave_body, group):
                return
            with self._lock:
                if not group.body_left:
                    group.body_left = True
                    self._leave_if_done(group)
            self._deliver()

    def leave_body_soon(self, group: Group) -> None:
        """As `leave_body`, where anything is delivered: who drives makes the call."""
        self._left.append(partial(self.leave_body, group))
        self.wake()

    def _must_leave(
        self, call: Callable[..., None], *args: Any, after: bool = False, **kwargs: Any
    ) -> bool:
        """Is this a finalizer that must not wait for the lock? Then who drives makes the call;
        also where it is to come `after` one that was left to it."""
        if not after:
            if self._lock.acquire(blocking=False):
                self._lock.release()
                return False
            if not inside():
                return False
        self._left.append(partial(call, *args, **kwargs))
        self.wake()
        return True

    def _make_calls_left(self) -> None:
        while self._left:
            self._left.popleft()()
