"""The machine: `handle(event, now)` takes one event and says what is to be done.

It is the one decider (S1): users, timers, signals, workers and parent groups post events, and the
order in which they are taken settles every race. It knows no clock, thread or process.

    facades, timers ── events ──▶ ┌─────────┐ ── actions ──▶ runtime ──▶ engine
    engine          ── events ──▶ │ Machine │                        ──▶ futures
                                  └─────────┘

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

import heapq
from collections import OrderedDict, deque
from typing import Any

from andon._core import events as ev
from andon._core.actions import (
    Action,
    GroupClosed,
    GroupStopping,
    Look,
    PullWord,
    Resolve,
    Send,
    StopAttempt,
    StopGroup,
    TaskOver,
    Trace,
)
from andon._core.records import GroupRecord, StopCause, TaskRecord
from andon._core.table import GROUP_TABLE, TASK_TABLE, GroupTrigger, TaskTrigger
from andon.errors import InternalError
from andon.outcome import GroupState, Reason, ReasonKind, StoppedBy, TaskState, Verdict
from andon.policy import Decision

_VERDICTS = {
    ReasonKind.FAILURE: Verdict.FAILED,
    ReasonKind.BODY: Verdict.FAILED,
    ReasonKind.DEADLINE: Verdict.FAILED,
    ReasonKind.CANCEL: Verdict.CANCELLED,
    ReasonKind.INTERRUPT: Verdict.CANCELLED,
    ReasonKind.SHUTDOWN: Verdict.CANCELLED,
    ReasonKind.PARENT: Verdict.CANCELLED,
    ReasonKind.SUPERSEDED: Verdict.CANCELLED,
}
_STORY_LENGTH = 1000
_LOOK_AGAIN = 0.001  # seconds; a shorter timeout must not make `Ticked` due for ever at one moment


class Machine:
    """All state of one pool. Feed it with `handle`; ask `wake_at` when to post `Ticked`."""

    def __init__(self, *, tracing: bool = False) -> None:
        self.tracing = tracing
        self.slots = 0
        self.broken: Any = None
        self.groups: dict[int, GroupRecord] = {}
        self._tasks: dict[int, TaskRecord] = {}  # not over yet
        self._attempts: dict[int, TaskRecord] = {}
        self._ready: deque[GroupRecord] = deque()  # groups with pending tasks, served in turn
        self._timers: list[tuple[float, int, int, bool]] = []  # at, seq, id, is it a group's
        self._next_attempt = 1
        self._next_timer = 0
        self._now = 0.0
        self._story: deque[tuple[Any, ...]] = deque(maxlen=_STORY_LENGTH)
        self._out: list[Action] = []
        self._handlers = {
            ev.GroupOpened: self._group_opened,
            ev.Submitted: self._submitted,
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
            ev.Died: self._died,
            ev.Cord: self._cord,
        }

    # The door ------------------------------------------------------------------------------------

    def handle(self, event: ev.Event, now: float) -> list[Action]:
        """Take one event; return what is to be done, in order."""
        self._now = now
        out = self._out = []
        self._handlers[type(event)](event)  # type: ignore[operator]
        if self._ready:
            self._dispatch()
        return out

    def wake_at(self) -> float | None:
        """When the next `Ticked` is due; None: never."""
        timers = self._timers
        while timers and not self._timer_is_valid(timers[0]):
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def group(self, group: int) -> GroupRecord | None:
        """The record of an open group; None once it is closed."""
        return self.groups.get(group)

    def task_of(self, attempt: int) -> int | None:
        """The task that an attempt is a try of, while it is live."""
        task = self._attempts.get(attempt)
        return None if task is None else task.id

    # Events of users, timers and parents ---------------------------------------------------------

    def _group_opened(self, e: ev.GroupOpened) -> None:
        group = GroupRecord(e.group, e.policy, e.grace, e.kill_after, e.deadline)
        self.groups[e.group] = group
        if e.deadline is not None:
            self._arm(e.deadline, e.group, True)

    def _submitted(self, e: ev.Submitted) -> None:
        group = self._open_group(e.group, e)
        task = TaskRecord(e.task, group, e.index, e.size, e.timeout)
        self._tasks[e.task] = task
        group.stats.submitted += e.size
        if self.broken is not None:
            self._decide(group, ReasonKind.FAILURE, str(self.broken), None, payload=self.broken)
        if group.stopping:
            self._never_started(task)
            return
        if not group.pending:
            self._ready.append(group)
        group.pending[task.id] = task

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
        if task.state is TaskState.PENDING:
            task.stop_cause = StopCause.OWNER
            task.cancel_from = task.lo
            del group.pending[task.id]
            if not group.pending:
                self._ready.remove(group)
            self._never_started(task)
            self._close_if_over(group)
            return
        self._ask_stop(
            task,
            StopCause.OWNER,
            group.grace if e.grace is None else e.grace,
            group.kill_after if e.kill_after is None else e.kill_after,
        )

    def _ticked(self, e: ev.Ticked) -> None:
        while (at := self.wake_at()) is not None and at <= self._now:
            _, _, ident, is_group = heapq.heappop(self._timers)
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
        self._decide(group, e.kind, e.message, source)
        self._close_if_over(group)

    # Deciding ------------------------------------------------------------------------------------

    def _decide(
        self,
        group: GroupRecord,
        kind: ReasonKind,
        message: str,
        source: int | None,
        *,
        soon: bool = False,
        grace: float | None = None,
        kill_after: float | None = None,
        payload: Any = None,
    ) -> None:
        if grace is not None and grace < group.grace:  # both only shrink (S9)
            group.grace = grace
        if kill_after is not None and kill_after < group.kill_after:
            group.kill_after = kill_after
        first = group.reason is None
        reason = Reason(kind, message, source, self._now)
        if group.reason is None or group.verdict is None:
            group.reason, group.verdict = reason, _VERDICTS[kind]
        trigger = GroupTrigger.DRAIN if soon else GroupTrigger.CANCEL
        cancelling = GROUP_TABLE[group.state, trigger] is GroupState.CANCELLING
        if cancelling and group.state is not GroupState.CANCELLING:
            self._out.append(PullWord(group.id, group.reason))  # before anyone is told (S6)
        self._move_group(group, trigger, reason)
        if first:
            self._out.append(GroupStopping(group.id, group.reason, group.verdict, payload))
            pending, group.pending = group.pending, OrderedDict()
            if pending:
                self._ready.remove(group)
        if cancelling:
            for task in group.live.values():
                self._note_stop(task, StopCause.GROUP)
            if group.live:
                self._out.append(StopGroup(group.id, group.grace, group.kill_after))
        elif first and group.live:
            self._out.append(StopGroup(group.id, group.grace, group.kill_after, soon=True))
        if first:
            for task in pending.values():
                self._never_started(task)

    def _ask_stop(self, task: TaskRecord, cause: StopCause, grace: float, kill: float) -> None:
        assert task.attempt is not None
        self._note_stop(task, cause)
        self._out.append(StopAttempt(task.attempt, grace, kill))

    def _note_stop(self, task: TaskRecord, cause: StopCause) -> None:
        if task.over:
            return  # every item has its outcome; only its worker is not idle yet
        self._move(task, TaskTrigger.ASK_STOP)
        if task.stop_cause is None:
            task.stop_cause = cause
        if task.cancel_from is None and cause is not StopCause.TIMEOUT:
            task.cancel_from = task.lo  # what was asked is kept beside who asked first (S3)
        task.check_at = None

    # Resolving -----------------------------------------------------------------------------------

    def _resolve_stop(
        self, task: TaskRecord, by: StoppedBy, started: bool | None, payload: Any
    ) -> None:
        if task.stop_cause is StopCause.TIMEOUT and started is not False:
            self._resolve(
                task,
                1,
                TaskState.FAILED,
                by,
                started,
                payload,
                timeout=task.timeout,
                message=f"ran longer than its timeout of {task.timeout:g} s",
            )
        elif task.stop_cause is StopCause.TIMEOUT:
            return  # it had not begun after all: it goes back to the queue with the rest
        else:
            self._resolve(task, 1, TaskState.CANCELLED, by, started, payload)

    def _never_started(self, task: TaskRecord) -> None:
        count = task.size - task.lo
        if task.cancel_from is None:
            task.cancel_from = task.lo
        self._resolve(
            task, count, TaskState.CANCELLED, StoppedBy.NEVER_STARTED, False, None
        )

    def _resolve(
        self,
        task: TaskRecord,
        count: int,
        state: TaskState,
        by: StoppedBy | None,
        started: bool | None,
        payload: Any,
        *,
        timeout: float | None = None,
        dead: bool = False,
        message: str = "",
    ) -> None:
        group, stats, index = task.group, task.group.stats, task.lo
        task.lo += count
        if task.reported:
            task.check_at = None  # nothing is with the engine that could overrun
        if state is TaskState.SUCCEEDED:
            stats.succeeded += count
        elif state is TaskState.FAILED:
            stats.failed += count
            task.failed += count
        else:
            stats.cancelled += count
            task.cancelled += count
        requested = task.cancel_from is not None and index >= task.cancel_from
        resolve = Resolve(
            task.id, index, count, state, by, started, requested, payload, timeout, dead
        )
        policy = group.policy
        if state is TaskState.SUCCEEDED and policy.failures_only:
            self._out.append(resolve)
        else:
            decision = policy.on_outcome(stats, state)
            if decision is not Decision.CONTINUE:
                # The word is pulled before the failed future resolves (S6).
                soon = decision is Decision.DRAIN
                message = message or f"task {task.index + index} failed"
                self._decide(group, ReasonKind.FAILURE, message, task.index + index, soon=soon)
            self._out.append(resolve)
        if task.over:
            self._finish(task)

    def _finish(self, task: TaskRecord) -> None:
        if task.failed:
            trigger = TaskTrigger.FAIL
        elif task.cancelled:
            trigger = TaskTrigger.CANCEL
        else:
            trigger = TaskTrigger.SUCCEED
        self._move(task, trigger)
        del self._tasks[task.id]
        self._out.append(TaskOver(task.id))

    def _release(self, task: TaskRecord, attempt: int) -> None:
        """The attempt is over: what it did not begin is cancelled, or goes back to the queue."""
        group = task.group
        del self._attempts[attempt]
        del group.live[attempt]
        task.attempt = None
        task.check_at = None
        if not task.over:
            if group.stopping or task.cancel_from is not None:
                self._never_started(task)
            else:
                task.stop_cause = None
                self._move(task, TaskTrigger.GIVE_BACK)
                if not group.pending:
                    self._ready.append(group)
                group.pending[task.id] = task
                group.pending.move_to_end(task.id, last=False)
        self._close_if_over(group)

    def _close_if_over(self, group: GroupRecord) -> None:
        if group.live or group.pending or not group.body_left:
            return
        if group.state is GroupState.CLOSED:
            return
        self._move_group(group, GroupTrigger.CLOSE)
        if group.verdict is None:
            group.verdict = Verdict.OK
        stats = group.stats
        if stats.done != stats.submitted:
            raise InternalError(
                f"group {group.id} closes with {stats.submitted} tasks and {stats.done} outcomes",
                story=tuple(self._story),
            )
        del self.groups[group.id]
        self._out.append(GroupClosed(group.id, group.verdict, group.reason))

    # Dispatching ---------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Fill the free slots, one task of each waiting group in turn."""
        ready, attempts = self._ready, self._attempts
        while ready and len(attempts) < self.slots:
            group = ready.popleft()
            _, task = group.pending.popitem(last=False)
            if group.pending:
                ready.append(group)
            attempt = self._next_attempt
            self._next_attempt += 1
            self._move(task, TaskTrigger.SEND)
            task.attempt = attempt
            # With a timeout, one item at a time: an order given for an item that overran must
            # never reach the next one, which has only begun (S29).
            task.hi = task.size if task.timeout is None else task.lo + 1
            attempts[attempt] = task
            group.live[attempt] = task
            fatal = group.policy.first_failure_decides
            self._out.append(Send(attempt, task.id, group.id, task.lo, task.hi, fatal))
            if task.timeout is not None:
                self._watch(task, self._now + task.timeout)

    # Timers --------------------------------------------------------------------------------------

    def _arm(self, at: float, ident: int, is_group: bool) -> None:
        if len(self._timers) > 64 + 4 * (len(self._attempts) + len(self.groups)):
            # Short tasks with long timeouts leave stale timers behind; they must not pile up.
            self._timers = [timer for timer in self._timers if self._timer_is_valid(timer)]
            heapq.heapify(self._timers)
        self._next_timer += 1
        heapq.heappush(self._timers, (at, self._next_timer, ident, is_group))

    def _watch(self, task: TaskRecord, at: float) -> None:
        assert task.attempt is not None
        task.check_at = at
        self._arm(at, task.attempt, False)

    def _timer_is_valid(self, timer: tuple[float, int, int, bool]) -> bool:
        at, _, ident, is_group = timer
        if is_group:
            group = self.groups.get(ident)
            return group is not None and group.deadline == at
        task = self._attempts.get(ident)
        return task is not None and task.check_at == at

    # Moving --------------------------------------------------------------------------------------

    def _move(self, task: TaskRecord, trigger: TaskTrigger) -> None:
        before = task.state
        after = TASK_TABLE[before, trigger]
        self._story.append((self._now, "task", task.id, task.attempt, before, trigger))
        if after is None:
            raise self._bug(task, f"task {task.id} is {before}: it cannot {trigger.value}")
        task.state = after
        if self.tracing and before is not after:
            self._out.append(
                Trace(
                    self._now, task.group.id, task.id, task.attempt, before, after, trigger.value
                )
            )

    def _move_group(
        self, group: GroupRecord, trigger: GroupTrigger, why: Reason | None = None
    ) -> None:
        before = group.state
        after = GROUP_TABLE[before, trigger]
        self._story.append((self._now, "group", group.id, None, before, trigger))
        if after is None:
            raise InternalError(
                f"group {group.id} is {before}: it cannot {trigger.value}",
                story=tuple(self._story),
            )
        group.state = after
        if self.tracing and (before is not after or why is not None):  # later reasons too (S8)
            cause = trigger.value if why is None else str(why)
            self._out.append(Trace(self._now, group.id, None, None, before, after, cause))

    def _open_group(self, ident: int, event: ev.Event) -> GroupRecord:
        group = self.groups.get(ident)
        if group is None:
            raise InternalError(f"{event} for a group that is not open", story=tuple(self._story))
        return group

    def _attempt(self, ident: int, event: ev.Event) -> TaskRecord:
        task = self._attempts.get(ident)
        if task is None:
            raise InternalError(f"{event} of an attempt that is over", story=tuple(self._story))
        return task

    def _item(self, ident: int, index: int, event: ev.Event) -> TaskRecord:
        task = self._attempt(ident, event)
        if index != task.lo or task.reported:
            raise self._bug(task, f"{event}, but item {task.lo} of {task.size} is the next")
        return task

    def _bug(self, task: TaskRecord, message: str) -> InternalError:
        story = tuple(line for line in self._story if line[2] == task.id and line[1] == "task")
        told = "\n".join(f"  {at:.6f} attempt {a}: {s} {t.value}" for at, _, _, a, s, t in story)
        return InternalError(f"{message}\nthe story of task {task.id}:\n{told}", story=story)

    def check_invariants(self) -> None:
        """Assert what the head of this file promises; for tests."""
        live = 0
        for group in self.groups.values():
            live += len(group.live)
            assert group.state is not GroupState.CLOSED
            assert (group.reason is None) == (group.verdict is None), "I3"
            assert group.reason is None or not group.pending, "I3"
            assert bool(group.pending) == (group in self._ready), "every waiting group is served"
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
        assert len(self._ready) == len(set(map(id, self._ready)))
