"""Tasks and single calls on their way into the machine: the part of that under the lock.

    a task of its own ─────────────────────────────────────────────▶ machine
    a call ──▶ does another of its group wait, or are enough under way?
                 ├── no ───────────────────────────────────────────▶ machine
                 └── yes ──▶ calls.py ── one is sent, or back; or after a moment ──▶ machine

Invariants
 1. Numbers within a group are given in the order of submission.
 2. That a body is left is told when no call waits any more, nor is on its way: so no group closes
    before.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from andon._core import events as ev
from andon._engines.port import Call
from andon._runtime.calls import Bundle, Waiting
from andon._runtime.flow import HELD
from andon._runtime.futures import Future
from andon._runtime.groups import Group
from andon._runtime.performing import Performer
from andon._runtime.room import TO_SUBMIT, check_room
from andon._runtime.tasks import Sink, Task
from andon.errors import PoolClosedError, WrongProcessError

_AROUND = ("unpickling", "pickling", "sending")  # what a worker does for a call, beside it


class Handing(Performer):
    """The storey of a runtime above `Performer`."""

    foreign = False  # we are in a forked child: nothing here is ours (S38)
    closing = False
    _ids = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._held: deque[tuple[float, int]] = deque()  # groups, after when to look at them
        self.waiting = Waiting()

    def _add_call(self, future: Future[Any], group: Group) -> None:
        """It has been pickled; raises where its group, or the pool, takes no more."""
        calls = group.calls
        if calls.ahead is None:
            check_room(TO_SUBMIT)
        # What a finalizer does in here waits for us: it neither overtakes the call, nor is the
        # group left between the look and the hand-over.
        within, calls.handing = calls.handing, True
        try:
            self._check_usable()
            group.check()
            alone = calls.may_go() and not (calls or within)
            future._index = group.next_index
            group.next_index += 1
            self._count(group, 1)
            task = None
            try:
                if alone:
                    task = self._task_of(group, future._packed, [future])
                    self._hand_over(task, ahead=True)
                else:
                    calls.add(future)
            except BaseException:
                self._withdraw(group, 1, task)
                raise
        finally:
            calls.handing = within
            if not within and (calls.late or calls or group.body_left):  # hardly ever
                self._cancel_late(group)

    def _add_task(
        self,
        group: Group,
        size: int,
        call: Call,
        packed: Any,
        timeout: float | None,
        sink: Callable[[Task], Sink],
    ) -> Task:
        """One of its own, behind the calls that wait; as `_add_call`, for the same reasons."""
        calls = group.calls
        within, calls.handing = calls.handing, True
        try:
            self._check_usable()
            group.check()  # a stop may have come while we pickled (S14)
            self._count(group, size)
            task = None
            try:
                if not within:
                    self._hand_over_waiting(group, every=True)
                self._ids += 1
                index = group.next_index
                group.next_index += size
                task = Task(self._ids, group, index, size, call, packed, timeout)
                task.sink = sink(task)
                self._hand_over(task)
            except BaseException:
                self._withdraw(group, size, task)
                raise
        finally:
            calls.handing = within
            if not within:
                self._cancel_late(group)
        return task

    def _count(self, group: Group, size: int) -> None:
        """From here on the group stays open for so many more."""
        stats = group.stats
        stats.submitted += size
        if stats.closed:  # a finalizer has stopped it since, or we are in one, while it closes
            stats.submitted -= size
            group.check()

    def _withdraw(self, group: Group, size: int, task: Task | None) -> None:
        """So many were counted and do not come, since there is no room for them; but where the
        machine has their task, they do."""
        if task is None or task.id not in self._tasks:
            self._take(ev.Withdrawn(group.id, size))

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

    def _hand_over(self, task: Task, *, ahead: bool = False, cancelled: bool = False) -> None:
        """Its items are in the group's counts. `ahead`: the next single calls wait for it."""
        group = task.group
        event = ev.Submitted(group.id, task.id, task.index, task.size, task.timeout, cancelled)
        self._tasks[task.id] = task
        if ahead:
            group.calls.ahead = task
        self._take(event)

    def _hand_over_calls(self, group: Group) -> None:
        """The next of those that wait, where none of them waits in the machine."""
        calls = group.calls
        if calls.handing:
            return  # it is done further out: by our caller, or whom a finalizer has interrupted
        calls.handing = True
        try:
            self._hand_over_waiting(group)
        finally:
            calls.handing = False
        self._cancel_late(group)

    def _hand_over_waiting(self, group: Group, every: bool = False) -> None:
        """As many as may go, or `every` one; between the lines that say so (`handing`)."""
        calls = group.calls
        while calls and (every or calls.may_go()):
            packed, futures = calls.next()
            if futures:
                self._hand_over(self._task_of(group, packed, futures), ahead=True)

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
                    self._hand_over(task, cancelled=True)
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
            if task.timeout is None:  # else it travels alone, and none is held behind it
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
            self._hand_over(self._task_of(group, None, futures))
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
        if self.foreign or self.closing or self.crashed is not None:  # hardly ever
            self._check_own()
            self.check_crash()
            raise PoolClosedError("Pool not running: it has been closed")
