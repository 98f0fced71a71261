"""The machine: `handle(event, now)` takes one event and says what is to be done.

It is the one decider (S1): users, timers, signals, workers and parent groups post events, and the
order in which they are taken settles every race. It knows no clock, thread or process.

    facades, timers ── events ──▶ ┌─────────┐ ── actions ──▶ runtime ──▶ engine
    engine          ── events ──▶ │ Machine │                        ──▶ futures
                                  └─────────┘

Built in three storeys: `moves` over the tables; on it `fates`, what a decision means for tasks and
an outcome for its group; on that, here, the events.

Invariants, checked by `check_invariants()`:
  I1  every item of every task has at most one outcome, and items of a task end in order (S4)
  I2  an attempt is live exactly while the engine has it; live attempts never exceed the slots
      that were there when they were sent
  I3  a group with a reason has a verdict, has no pending tasks, and neither changes (S5, S8)
  I4  no `Send` for a group that is stopping (S12)
  I5  the first action of a decision to cancel is `PullWord` (S6)
      (tests/core/test_explorer.py checks I4 and I5: they are about actions, not about state)
  I6  a closed group has no live and no pending task, and its counts add up (S4)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from andon._core import events as ev
from andon._core.actions import (
    Action,
    Look,
    Send,
)
from andon._core.fates import Fates
from andon._core.records import ANY, GroupRecord, StopCause, TaskRecord
from andon._core.table import GroupTrigger, TaskTrigger
from andon._core.timers import Timers
from andon.outcome import GroupState, ReasonKind, StoppedBy, TaskState

_LOOK_AGAIN = 0.001  # seconds; a shorter timeout must not make `Ticked` due for ever at one moment


class Machine(Fates):
    """All state of one pool. Feed it with `handle`; ask `wake_at` when to post `Ticked`."""

    def __init__(self, *, tracing: bool = False) -> None:
        super().__init__(tracing=tracing)
        self.slots = 0
        self.broken: Any = None
        self._timers = Timers(self._timer_counts, lambda: len(self._attempts) + len(self.groups))
        # When the next `Ticked` is due; None: never. Asked after every event, and so not wrapped.
        self.wake_at: Callable[[], float | None] = self._timers.next_at
        self._next_attempt = 1
        self._handlers = {
            ev.GroupOpened: self._group_opened,
            ev.Submitted: self._submitted,
            ev.Withdrawn: self._withdrawn,
            ev.BodyLeft: self._body_left,
            ev.StopAsked: self._stop_asked,
            ev.TaskCancelAsked: self._task_cancel_asked,
            ev.Ticked: self._ticked,
            ev.Broke: self._broke,
            ev.SlotsChanged: self._slots_changed,
            ev.Started: self._started,
            ev.Succeeded: self._succeeded,
            ev.Failed: self._failed,
            ev.Stopped: self._stopped,
            ev.AttemptEnded: self._attempt_ended,
            ev.GivenBack: self._given_back,
            ev.Died: self._died,
            ev.Cord: self._cord,
        }

    # The door ------------------------------------------------------------------------------------

    def handle(self, event: ev.Event, now: float) -> list[Action]:
        """Take one event; return what is to be done, in order."""
        self._now = now
        self._handlers[type(event)](event)  # type: ignore[operator]
        if self._ready:
            self._dispatch()
        # Not kept until the next one: what was decided holds results.
        out, self._out = self._out, []
        return out

    def is_wanted(self, group: int) -> bool:
        """Does a task of another group than this wait?"""
        return len(self._ready) > (group in self._ready)

    # Events of users, timers and parents ---------------------------------------------------------

    def _group_opened(self, e: ev.GroupOpened) -> None:
        group = GroupRecord(e.group, e.policy, e.grace, e.kill_after, e.deadline, stats=e.stats)
        self.groups[e.group] = group
        if e.deadline is not None:
            self._timers.arm(e.deadline, e.group, True)
        self._read_policy(group)

    def _submitted(self, e: ev.Submitted) -> None:
        group = self._open_group(e.group, e)
        task = TaskRecord(e.task, group, e.index, e.size, e.timeout)
        self._tasks[e.task] = task
        if self.broken is not None:
            self._decide(group, ReasonKind.FAILURE, str(self.broken), None, payload=self.broken)
        if group.stopping:
            self._never_started(task)
            self._close_if_over(group)
            return
        if not group.pending:
            self._ready[group.id] = group
        group.pending[task.id] = task
        if e.cancelled:
            self._cancel_waiting(task)

    def _withdrawn(self, e: ev.Withdrawn) -> None:
        group = self._open_group(e.group, e)
        group.stats.submitted -= e.size
        self._close_if_over(group)

    def _body_left(self, e: ev.BodyLeft) -> None:
        group = self._open_group(e.group, e)
        self._move_group(group, GroupTrigger.LEAVE)
        group.body_left = True
        self._close_if_over(group)

    def _stop_asked(self, e: ev.StopAsked) -> None:
        group = self.groups.get(e.group)
        if group is None:
            return  # it closed first: the order settles it
        self._decide(
            group, e.kind, e.message, e.source, soon=e.soon, grace=e.grace, kill_after=e.kill_after
        )
        self._close_if_over(group)

    def _task_cancel_asked(self, e: ev.TaskCancelAsked) -> None:
        task = self._tasks.get(e.task)
        if task is None:
            return  # its outcome came first
        group = task.group
        if e.item is not None and (e.item != task.lo or task.size > task.lo + 1):
            # Where all is stopped, this one is as well; a group that drains lets it run.
            if task.lo <= e.item < task.size and group.state is not GroupState.CANCELLING:
                self._cancel_item(task, e.item)
            return
        if task.state is TaskState.PENDING:
            self._cancel_waiting(task)
            return
        self._ask_stop(
            task,
            StopCause.OWNER,
            group.grace if e.grace is None else e.grace,
            group.kill_after if e.kill_after is None else e.kill_after,
        )

    def _ticked(self, e: ev.Ticked) -> None:
        while (at := self.wake_at()) is not None and at <= self._now:
            ident, is_group = self._timers.pop()
            if is_group:
                group = self.groups[ident]
                group.deadline = None
                self._decide(group, ReasonKind.DEADLINE, "the deadline has passed", None)
                self._close_if_over(group)
            else:
                task = self._attempts[ident]
                assert task.timeout is not None
                # The parent is not told of every start; it looks when it needs to know. `Started`
                # is the answer; without one the item has not begun, and cannot expire sooner.
                task.check_at = None
                self._watch(task, self._now + max(task.timeout, _LOOK_AGAIN))
                self._out.append(Look(ident))

    def _broke(self, e: ev.Broke) -> None:
        self.broken = e.payload
        for group in list(self.groups.values()):
            self._decide(group, ReasonKind.FAILURE, e.message, None, payload=e.payload)
            self._close_if_over(group)

    # Events of engines ---------------------------------------------------------------------------

    def _slots_changed(self, e: ev.SlotsChanged) -> None:
        self.slots = e.slots

    def _started(self, e: ev.Started) -> None:
        task = self._attempts.get(e.attempt)
        if task is None or e.index != task.lo or task.reported:
            return  # a look that came late
        self._move(task, TaskTrigger.START)
        if task.timeout is not None and task.stop_cause is None:
            expires = e.at + task.timeout
            if expires > self._now:
                self._watch(task, expires)
                return
            group = task.group
            self._ask_stop(task, StopCause.TIMEOUT, group.grace, group.kill_after)

    def _succeeded(self, e: ev.Succeeded) -> None:
        task = self._item(e.attempt, e.index, e)
        if not 1 <= e.count <= task.hi - task.lo:
            raise self._bug(task, f"{e}, but items {task.lo} to {task.hi} are with the engine")
        if task.state is TaskState.SENT:
            self._move(task, TaskTrigger.START)
        self._resolve(task, e.count, TaskState.SUCCEEDED, StoppedBy.RETURNED, True, e.payload)
        if e.last:
            self._release(task, e.attempt)

    def _failed(self, e: ev.Failed) -> None:
        task = self._item(e.attempt, e.index, e)
        if e.started and task.state is TaskState.SENT:
            self._move(task, TaskTrigger.START)
        self._resolve(
            task,
            1,
            TaskState.FAILED,
            StoppedBy.RETURNED,
            e.started,
            e.payload,
            message=e.message,
        )

    def _stopped(self, e: ev.Stopped) -> None:
        task = self._item(e.attempt, e.index, e)
        if task.stop_cause is None:
            # Whoever pulled a word or an order is known before its effect is (runtime: words first)
            raise self._bug(task, f"{e} of a task that nobody asked to stop")
        self._resolve_stop(task, e.by, e.started, e.payload)

    def _attempt_ended(self, e: ev.AttemptEnded) -> None:
        self._release(self._attempt(e.attempt, e), e.attempt)

    def _given_back(self, e: ev.GivenBack) -> None:
        task = self._attempts.get(e.attempt)
        if task is None or not task.lo < e.index <= task.hi:
            return  # it came late
        group = task.group
        if group.state is GroupState.CANCELLING or task.stop_cause is not None:
            return  # the end of the attempt says what becomes of them
        at = e.index - 1
        if e.index < task.hi and not group.stopping:  # else as above: they must not start (S12)
            rest = self._cut(task, e.index)
            # So many took long, and the rest may be like them; and two workers may want some.
            rest.step = min(e.index - task.begun_from, (rest.size - rest.lo + 1) // 2)
            self._queue_first(rest)
            self._cancel_items(rest)
        if at in task.cancels:  # the one that runs, and there is no other any more
            self._ask_stop(task, StopCause.ITEM, group.grace, group.kill_after)

    def _died(self, e: ev.Died) -> None:
        task = self._attempt(e.attempt, e)
        if not task.reported:
            if e.index is not None and e.index != task.lo:
                raise self._bug(task, f"{e}, but item {task.lo} is the next without an outcome")
            # Whoever pulled the cord by failing has failed, even if our kill was quicker than its
            # report: a group that failed shows a failure (S33).
            failing = task.failing == task.lo
            if e.ordered and task.stop_cause is not None and not failing:
                self._resolve_stop(task, StoppedBy.KILL, e.started, e.payload)
            elif e.started is not False or e.index is not None or failing:
                # It ran, or its arguments killed the worker, or nobody knows (S13): it failed.
                self._resolve(
                    task,
                    1,
                    TaskState.FAILED,
                    None,
                    e.started,
                    e.payload,
                    dead=True,
                    message=e.message,
                )
        self._release(task, e.attempt)

    def _cord(self, e: ev.Cord) -> None:
        group = self.groups.get(e.group)
        if group is None:
            return
        task = None if e.attempt is None else self._attempts.get(e.attempt)
        source = None
        if task is not None and task.group is group:
            item = task.lo if e.index is None else e.index
            source = task.index + item
            if e.kind is ReasonKind.FAILURE and item < task.hi:
                task.failing = item
                if task.cancel_from is None:
                    task.cancel_from = item + 1  # it failed before anything was asked of it (S3)
        failed = e.kind is ReasonKind.FAILURE
        self._decide(group, e.kind, e.message, source, ahead=failed)
        self._close_if_over(group)

    # Dispatching ---------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Fill the free slots, one task of each waiting group in turn."""
        ready, attempts = self._ready, self._attempts
        while ready and len(attempts) < self.slots:
            ident, group = ready.popitem(last=False)
            _, task = group.pending.popitem(last=False)
            if group.pending:
                ready[ident] = group
            if task.size - task.lo > task.step and task.timeout is None:
                rest = self._cut(task, task.lo + task.step)
                rest.step = min(2 * task.step, ANY)
                self._queue_first(rest)
            attempt = self._next_attempt
            self._next_attempt += 1
            self._move(task, TaskTrigger.SEND)
            task.attempt = attempt
            # With a timeout, one item at a time: an order given for an item that overran must
            # never reach the next one, which has only begun (S29).
            task.hi = task.size if task.timeout is None else task.lo + 1
            task.begun_from = task.lo
            attempts[attempt] = task
            group.live[attempt] = task
            fatal = group.first_failure_decides
            self._out.append(Send(attempt, task.id, group.id, task.lo, task.hi, fatal))
            if task.timeout is not None:
                self._watch(task, self._now + task.timeout)

    def _watch(self, task: TaskRecord, at: float) -> None:
        assert task.attempt is not None
        task.check_at = at
        self._timers.arm(at, task.attempt, False)

    def _timer_counts(self, at: float, ident: int, is_group: bool) -> bool:
        if is_group:
            group = self.groups.get(ident)
            return group is not None and group.deadline == at
        task = self._attempts.get(ident)
        return task is not None and task.check_at == at

    # Finding -------------------------------------------------------------------------------------

    def _open_group(self, ident: int, event: ev.Event) -> GroupRecord:
        group = self.groups.get(ident)
        if group is None:
            raise self._wrong(f"{event} for a group that is not open")
        return group

    def _attempt(self, ident: int, event: ev.Event) -> TaskRecord:
        task = self._attempts.get(ident)
        if task is None:
            raise self._wrong(f"{event} of an attempt that is over")
        return task

    def _item(self, ident: int, index: int, event: ev.Event) -> TaskRecord:
        task = self._attempts.get(ident) or self._attempt(ident, event)
        if index != task.lo or index >= task.hi:
            raise self._bug(task, f"{event}, but item {task.lo} of {task.size} is the next")
        return task

    def check_invariants(self) -> None:
        """Assert what the head of this file promises; for tests."""
        live = 0
        for group in self.groups.values():
            live += len(group.live)
            assert group.state is not GroupState.CLOSED
            assert (group.reason is None) == (group.verdict is None), "I3"
            assert group.reason is None or not group.pending, "I3"
            assert bool(group.pending) == (group.id in self._ready), "every waiting group is served"
            tasks = [*group.pending.values(), *group.live.values()]
            waiting = sum(t.size - t.lo for t in tasks)
            assert group.stats.done + waiting == group.stats.submitted, "I1"
            for attempt, task in group.live.items():
                assert task.attempt == attempt and self._attempts[attempt] is task, "I2"
                assert task.lo <= task.hi <= task.size, "I1"
            for task in group.pending.values():
                assert task.attempt is None and not task.over, "I2"
                assert task.stop_cause is None and task.cancel_from is None, "it is cancelled"
            if group.state is GroupState.CANCELLING:
                assert all(t.stop_cause or t.over for t in group.live.values()), "S12"
            assert not (group.body_left and not tasks), "I6: it should have closed"
        assert live == len(self._attempts), "I2"
        assert all(self.groups[ident] is group for ident, group in self._ready.items())
