"""Work on its way to the machine, and orders about it: what facades call to submit and to cancel.

    submit        a span of a map, or a call of its own ─────────────▶ machine
    submit_call   a single call ──▶ (others wait: `calls.py`) ──▶ machine

Invariants
 1. Pickling is done in the submitting thread, before the lock (S28).
 2. Numbers within a group are given in the order of submission.
 3. That a body is left is told when no call waits any more, so no group closes before.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from andon._cancelled import Cancelled
from andon._core import events as ev
from andon._engines.port import Call
from andon._gate import gate
from andon._locks import inside
from andon._runtime.calls import Bundle, Waiting
from andon._runtime.flow import HELD
from andon._runtime.futures import Future
from andon._runtime.groups import Group
from andon._runtime.performing import Performer
from andon._runtime.room import TO_STOP, TO_SUBMIT, check_room, has_room
from andon._runtime.tasks import Sink, Task
from andon._worker.context import in_context
from andon.errors import GroupClosedError, PoolClosedError, TaskCancelledError, WrongProcessError

_AROUND = ("unpickling", "pickling", "sending")  # what a worker does for a call, beside it


class Submitter(Performer):
    """The middle storey of a runtime."""

    foreign = False  # we are in a forked child: nothing here is ours (S38)
    closing = False
    _ids = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._left: deque[Callable[[], None]] = deque()  # calls of finalizers
        self._held: deque[tuple[float, int]] = deque()  # groups, after when to look at them
        self.waiting = Waiting()

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
                self._check_usable()
                group.check()  # a stop may have come while we pickled (S14)
                self._hand_over_calls(group, every=True)
                task = self._new_task(group, size, call, packed, timeout)
                task.sink = sink(task)
                self._hand_over(task)
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
        calls = group.calls
        with self._lock:
            # Whatever a finalizer does in here, it waits; so the group is not left meanwhile.
            within, calls.handing = calls.handing, True
            try:
                self._check_usable()
                group.check()
                if calls.ahead is None:
                    check_room(TO_SUBMIT)
                alone = calls.may_go() and not (calls or within)
                future._index = group.next_index
                group.next_index += 1
                if alone:
                    group.stats.submitted += 1
                    calls.ahead = task = self._task_of(group, future._packed, [future])
                    self._hand_over(task, counted=True)
                else:
                    calls.add(future)  # if there is no room for that, nothing was submitted
                    group.stats.submitted += 1
            finally:
                calls.handing = within
                if not within:
                    self._cancel_late(group)
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

    # Under the lock ------------------------------------------------------------------------------

    def _new_task(
        self, group: Group, size: int, call: Call | None, packed: Any, timeout: float | None
    ) -> Task:
        self._ids += 1
        index = group.next_index
        group.next_index += size
        return Task(self._ids, group, index, size, call, packed, timeout)

    def _task_of(self, group: Group, packed: Any, futures: list[Future[Any]]) -> Task:
        """Of one single call, or of several that travel together; they have their numbers."""
        self._ids += 1
        first = futures[0]
        if len(futures) == 1:
            index, timeout = first._index, first._timeout
            task = Task(self._ids, group, index, 1, first._call, packed, timeout)
            task.sink = first._bind(task)
        else:
            task = Task(self._ids, group, first._index, len(futures), None, packed, None)
            task.calls = [future._call for future in futures]
            task.sink = Bundle(group.calls, futures).bind(task)
        return task

    def _hand_over(self, task: Task, *, counted: bool = False, cancelled: bool = False) -> None:
        self._tasks[task.id] = task
        self._take(
            ev.Submitted(
                task.group.id, task.id, task.index, task.size, task.timeout, counted, cancelled
            )
        )

    def _hand_over_calls(self, group: Group, every: bool = False) -> None:
        """The next of those that wait, where none of them waits in the machine; or `every` one."""
        calls = group.calls
        if calls.handing:
            return  # it is done further out: by our caller, or whom a finalizer has interrupted
        calls.handing = True
        try:
            while calls and (every or calls.may_go()):
                packed, futures = calls.next()
                if futures:
                    calls.ahead = task = self._task_of(group, packed, futures)
                    self._hand_over(task, counted=True)
        finally:
            calls.handing = False
        self._cancel_late(group)

    def _cancel_late(self, group: Group) -> None:
        calls = group.calls
        while calls.late:
            future = calls.late.popleft()
            task = future._task
            if task is None and future._group is not None:  # it waits
                calls.handing = True
                try:
                    calls.drop(future)
                    task = self._task_of(group, future._packed, [future])
                    task.asked.add(0)
                    self._hand_over(task, counted=True, cancelled=True)
                finally:
                    calls.handing = False
            elif task is not None:
                task = task.part(future._item)
                task.asked.add(future._item)
                self._take(ev.TaskCancelAsked(task.id, item=future._item))
        self._go_on(group)
        self._leave_if_done(group)

    def _go_on(self, group: Group) -> None:
        calls = group.calls
        if calls and calls.ahead is None:
            if calls.flow.full():
                self._hold(group)
            else:
                self._hand_over_calls(group)

    def _call_sent(self, task: Task) -> None:
        calls = task.group.calls
        if calls.ahead is task:
            calls.ahead = None
            calls.flow.sent(task.id, time.monotonic())
            self._go_on(task.group)

    def _call_back(self, task: Task) -> None:
        calls = task.group.calls
        if calls.ahead is task:
            calls.ahead = None
        elif not calls.flow.back(task.id):
            return
        self._go_on(task.group)

    def _hold(self, group: Group) -> None:
        """Its calls wait for those under way; who drives looks at these in a moment."""
        if not group.calls.held:
            group.calls.held = True
            at = time.monotonic() + HELD
            self._held.append((at, group.id))
            if at < self._sleeps_until:
                self._sleeps_until = at
                self._caps.wake()

    def _look_at_held(self, now: float) -> None:
        while self._held and self._held[0][0] <= now:
            _, ident = self._held.popleft()
            group = self._groups.get(ident)
            if group is not None:
                group.calls.held = False
                if group.calls:
                    group.calls.flow.look(now, self._busy_since)
                    self._go_on(group)

    def _busy_since(self, at: float) -> set[int]:
        """The tasks that are at an item that began before that time, or at its arguments or its
        result."""
        found = set()
        for row in self._engine.look():
            if row.phase in _AROUND or (row.started_at is not None and row.started_at < at):
                task = self._by_attempt.get(row.attempt or 0)
                if task is not None:
                    found.add(task.id)
        return found

    def _give_up_calls(self, group: Group) -> None:
        for futures in group.calls.all():
            self._hand_over(self._task_of(group, None, futures), counted=True)
        self._leave_if_done(group)

    def _leave_if_done(self, group: Group) -> None:
        calls = group.calls
        if group.body_left and not (calls or calls.handing or group.leaving_told):
            group.leaving_told = True
            self._take(ev.BodyLeft(group.id))

    # Checks --------------------------------------------------------------------------------------

    def _check_own(self) -> None:
        # Before the lock: another thread may have held it when this process was forked (S38).
        if self.foreign:
            raise WrongProcessError(
                "this pool belongs to the process that opened it, and this is a forked child; "
                "open a pool here instead"
            )

    def _check_usable(self) -> None:
        self._check_own()
        self.check_crash()
        if self.closing:
            raise PoolClosedError("Pool not running: it has been closed")

