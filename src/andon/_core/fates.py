"""Fates: what a decision means for a group's tasks, and what an outcome means for its group.

The middle of the machine: `moves` below it, the events above. Its state is what is open now.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from andon._core.actions import (
    GroupClosed,
    GroupStopping,
    PolicyFailed,
    PullWord,
    Resolve,
    Split,
    StopAttempt,
    StopGroup,
)
from andon._core.moves import Moves
from andon._core.records import GroupRecord, StopCause, TaskRecord
from andon._core.table import GROUP_TABLE, GroupTrigger, TaskTrigger
from andon._words import describe, note
from andon.errors import TaskExitError
from andon.outcome import GroupState, Reason, ReasonKind, StoppedBy, TaskState, Verdict
from andon.policy import Decision, as_of_now, collect_all

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


class Fates(Moves):
    """Decides, stops, resolves, closes."""

    def __init__(self, *, tracing: bool) -> None:
        super().__init__(tracing=tracing)
        self.groups: dict[int, GroupRecord] = {}
        self._tasks: dict[int, TaskRecord] = {}  # not over yet
        self._attempts: dict[int, TaskRecord] = {}
        self._next_part = -1  # users number theirs from 1
        # Groups with pending tasks, served in turn. A plain dict finds its first entry slowly once
        # many before it are gone.
        self._ready: OrderedDict[int, GroupRecord] = OrderedDict()

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
        ahead: bool = False,
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
        newly = cancelling and group.state is not GroupState.CANCELLING
        if newly:
            self._out.append(PullWord(group.id, group.reason))  # before anyone is told (S6)
        self._move_group(group, trigger, reason)
        if first:
            self._out.append(GroupStopping(group.id, group.reason, group.verdict, payload, ahead))
            pending, group.pending = group.pending, OrderedDict()
            if pending:
                del self._ready[group.id]
        if newly:
            for task in group.live.values():
                self._note_stop(task, StopCause.GROUP)
        if cancelling:
            # Who has been asked is asked again only where it may be harder.
            if group.live and (newly or grace is not None or kill_after is not None):
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

    # Single items ---------------------------------------------------------------------------------

    def _cancel_item(self, task: TaskRecord, item: int) -> None:
        """One of several is to stop, and none of the others. What is with the engine must first
        say where it is: an order for this item must reach no other."""
        if task.attempt is not None:
            if item not in task.cancels:
                task.cancels |= {item}
                group = task.group
                if item == task.lo == task.hi - 1:  # no other is with the engine
                    self._ask_stop(task, StopCause.ITEM, group.grace, group.kill_after)
                    return
                self._out.append(
                    StopAttempt(task.attempt, group.grace, group.kill_after, soon=True)
                )
            return
        if item + 1 < task.size:
            self._queue_first(self._cut(task, item + 1))
        if item > task.lo:
            rest, task = task, self._cut(task, item)
            self._queue_first(rest)
            self._queue_first(task)
        self._cancel_waiting(task)

    def _cancel_items(self, task: TaskRecord) -> None:
        """It waits, and some of its items are to stop."""
        cancels, task.cancels = task.cancels, frozenset()
        for item in sorted(cancels, reverse=True):
            if item < task.lo:
                return
            self._cancel_item(task, item)

    def _cancel_waiting(self, task: TaskRecord) -> None:
        group = task.group
        task.stop_cause = StopCause.OWNER
        task.cancel_from = task.lo
        del group.pending[task.id]
        if not group.pending:
            del self._ready[group.id]
        self._never_started(task)
        self._close_if_over(group)

    def _cut(self, task: TaskRecord, at: int) -> TaskRecord:
        """Its items from `at` on become a task of their own."""
        rest = TaskRecord(self._next_part, task.group, task.index, task.size, task.timeout)
        self._next_part -= 1
        rest.lo = at
        rest.step = task.step
        if task.cancels:
            rest.cancels = frozenset(item for item in task.cancels if item >= at)
            task.cancels -= rest.cancels
        task.size = at
        task.hi = min(task.hi, at)
        self._tasks[rest.id] = rest
        self._out.append(Split(task.id, rest.id, at))
        return rest

    def _note_stop(self, task: TaskRecord, cause: StopCause) -> None:
        if task.over:
            return  # every item has its outcome; only its worker is not idle yet
        self._move(task, TaskTrigger.ASK_STOP)
        if task.stop_cause is None:
            task.stop_cause = cause
        if task.cancel_from is None and cause in (StopCause.OWNER, StopCause.GROUP):
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
        self._resolve(task, count, TaskState.CANCELLED, StoppedBy.NEVER_STARTED, False, None)

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
        asked_from = task.cancel_from
        requested = (asked_from is not None and index >= asked_from) or index in task.cancels
        resolve = Resolve(
            task.id, index, count, state, by, started, requested, payload, timeout, dead
        )
        if state is not TaskState.SUCCEEDED or not group.failures_only:
            source = task.index + index
            decision, mistake = self._ask(group, state, source)
            if decision is not Decision.CONTINUE:
                # The word is pulled before the failed future resolves (S6).
                soon = decision is Decision.DRAIN
                if mistake:
                    message = mistake
                elif state is not TaskState.FAILED:
                    message = f"the policy stopped the group after task {source}"
                elif not message:
                    message = f"task {source} failed"
                resolve.decides = group.reason is None
                self._decide(group, ReasonKind.FAILURE, message, source, soon=soon, ahead=True)
        resolve.over = task.over
        self._out.append(resolve)
        if resolve.over:
            self._finish(task)

    def _ask(self, group: GroupRecord, state: TaskState, source: int) -> tuple[Decision, str]:
        """What the policy answers; or that it cannot, which stops the group, and why."""
        policy = group.policy
        try:
            # With a copy: a group that miscounts would never close.
            decision = policy.on_outcome(as_of_now(group.stats), state)
            if not isinstance(decision, Decision):  # a forgotten `return` is no wish to stop
                raise TypeError(f"{policy!r} answered {decision!r}, which is no andon.Decision")
            return decision, ""
        # Whatever it is, it is the policy's own: handlers of signals wait until we are done.
        except BaseException as error:
            return Decision.CANCEL, self._distrust(group, error, f"asked after task {source}")

    def _read_policy(self, group: GroupRecord) -> None:
        """A group has been opened. What its policy says of itself later changes nothing."""
        policy = group.policy
        try:
            group.failures_only = bool(policy.failures_only)
            group.first_failure_decides = bool(policy.first_failure_decides)
        except BaseException as error:  # it may be a property
            message = self._distrust(group, error, "as the group was opened")
            self._decide(group, ReasonKind.FAILURE, message, None)

    def _distrust(self, group: GroupRecord, error: BaseException, when: str) -> str:
        """Its policy is asked no more; why."""
        message = f"the policy raised {describe(error)}"
        mistake = error
        if not isinstance(mistake, Exception):  # as a task's: it ends nobody's program (S24)
            mistake = TaskExitError(message, original=error)
            mistake.__cause__ = error
        note(mistake, f"the policy of the group failed so, {when}")
        group.policy = collect_all()
        group.failures_only, group.first_failure_decides = True, False
        self._out.append(PolicyFailed(group.id, mistake, decides=group.reason is None))
        return message

    def _finish(self, task: TaskRecord) -> None:
        if task.failed:
            trigger = TaskTrigger.FAIL
        elif task.cancelled:
            trigger = TaskTrigger.CANCEL
        else:
            trigger = TaskTrigger.SUCCEED
        self._move(task, trigger)
        del self._tasks[task.id]

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
                # Who has yielded for an idle worker's sake takes one half, and that one the other.
                task.step = min(2 * task.step, (task.size - task.lo + 1) // 2)
                self._queue_first(task)
                self._cancel_items(task)
        self._close_if_over(group)

    def _queue_first(self, task: TaskRecord) -> None:
        """It has waited already."""
        group = task.group
        if not group.pending:
            self._ready[group.id] = group
        group.pending[task.id] = task
        group.pending.move_to_end(task.id, last=False)

    def _close_if_over(self, group: GroupRecord) -> None:
        stats = group.stats
        if group.live or group.pending or not group.body_left or stats.closed:
            return
        done = stats.done
        if done < stats.submitted:
            return  # what has been counted, and not handed over yet, is on its way
        stats.closed = True  # no call since the look
        self._move_group(group, GroupTrigger.CLOSE)
        if group.verdict is None:
            group.verdict = Verdict.OK
        if done != stats.submitted:
            raise self._wrong(
                f"group {group.id} closes with {stats.submitted} tasks and {done} outcomes"
            )
        del self.groups[group.id]
        self._out.append(GroupClosed(group.id, group.verdict, group.reason))
