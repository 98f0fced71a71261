"""Work on its way to the machine, and orders about it: what facades call to submit and to cancel.

    submit        a span of a map, or a call of its own ─────────────▶ machine
    submit_call   a single call ──▶ (others wait: `calls.py`) ──▶ machine

Invariants
 1. Pickling is done in the submitting thread, before the lock (S28).
 2. Numbers within a group are given in the order of submission.
 3. That a body is left is told when no call waits any more, so no group closes before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from andon._core import events as ev
from andon._engines.port import Call
from andon._gate import gate
from andon._runtime.calls import Bundle
from andon._runtime.futures import Future
from andon._runtime.groups import Group
from andon._runtime.performing import Performer
from andon._runtime.tasks import Sink, Task
from andon._worker.context import in_context
from andon.errors import PoolClosedError, WrongProcessError


class Submitter(Performer):
    """The middle storey of a runtime."""

    foreign = False  # we are in a forked child: nothing here is ours (S38)
    closing = False
    _ids = 0

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
        with gate:
            with self._lock:
                self._check_usable()
                group.check()  # a stop may have come while we pickled (S14)
                while group.calls:
                    self._hand_over_next(group)
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
            with self._lock:
                self._check_usable()
                group.check()
                calls = group.calls
                group.stats.submitted += 1
                calls.add(future)
                if calls.ahead is None:
                    self._hand_over_next(group)
            if self._notices:
                self._deliver()
        return future

    def pack(self, group: Group, call: Call) -> Any:
        """Pickle a call, for `submit` (S28)."""
        if group.variables:
            call.fn = in_context(call.fn, group.variables)
        return self._caps.pack(call)

    def cancel_task(self, task: Task) -> None:
        """Stop one task (S35)."""
        self._check_own()
        with gate:
            with self._lock:
                self._take(ev.TaskCancelAsked(task.id))
            self._deliver()

    def cancel_call(self, future: Future[Any], group: Group) -> None:
        """Stop one call, and none that travels with it (S35)."""
        self._check_own()
        with gate:
            with self._lock:
                task = future._task
                if task is None and future._group is not None:  # it waits: alone, from now on
                    group.calls.drop(future)
                    task = self._new_task(
                        group, 1, future._call, future._packed, future._timeout
                    )
                    task.sink = future._bind(task)
                    self._hand_over(task, counted=True)
                if task is not None:
                    task.asked.add(future._item)
                    self._take(ev.TaskCancelAsked(task.id, item=future._item))
            self._deliver()

    def leave_body(self, group: Group) -> None:
        """The body adds nothing more; accepted work goes on. Idempotent."""
        self._check_own()
        with gate:
            with self._lock:
                if not group.body_left:
                    group.body_left = True
                    self._leave_if_done(group)
            self._deliver()

    # Under the lock ------------------------------------------------------------------------------

    def _new_task(
        self, group: Group, size: int, call: Call | None, packed: Any, timeout: float | None
    ) -> Task:
        self._ids += 1
        index = group.next_index
        group.next_index += size
        return Task(self._ids, group, index, size, call, packed, timeout)

    def _hand_over(self, task: Task, *, counted: bool = False) -> None:
        self._tasks[task.id] = task
        self._take(
            ev.Submitted(task.group.id, task.id, task.index, task.size, task.timeout, counted)
        )

    def _hand_over_next(self, group: Group) -> None:
        packed, futures = group.calls.next()
        if len(futures) == 1:
            (future,) = futures
            task = self._new_task(group, 1, future._call, packed, future._timeout)
            task.sink = future._bind(task)
        else:
            task = self._new_task(group, len(futures), None, packed, None)
            task.calls = [future._call for future in futures]
            task.sink = Bundle(group.calls, futures).bind(task)
        group.calls.ahead = task
        self._hand_over(task, counted=True)
        self._leave_if_done(group)

    def _no_longer_ahead(self, task: Task) -> None:
        group = task.group
        if group.calls.ahead is task:
            group.calls.ahead = None
            if group.calls:
                self._hand_over_next(group)

    def _give_up_calls(self, group: Group) -> None:
        futures = group.calls.all()
        if futures:
            task = self._new_task(group, len(futures), None, None, None)
            task.calls = [future._call for future in futures]
            task.sink = Bundle(group.calls, futures).bind(task)
            self._hand_over(task, counted=True)
            self._leave_if_done(group)

    def _leave_if_done(self, group: Group) -> None:
        if group.body_left and not group.calls and not group.leaving_told:
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
