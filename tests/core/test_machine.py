"""The rules that the pure machine keeps, one scenario each, with the rule in its name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from andon._core import actions as ac
from andon._core import events as ev
from andon._core.machine import Machine
from andon.errors import InternalError
from andon.outcome import GroupState, ReasonKind, StoppedBy, TaskState, Verdict
from andon.policy import Decision, Policy, Stats, as_of_now, collect_all, fail_fast

OK, FAILED, CANCELLED = TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED
A = TypeVar("A", bound=ac.Action)


class Line:
    """A machine in a script: each method posts one event and returns the actions it led to."""

    def __init__(self, slots: int = 2, *, tracing: bool = False) -> None:
        self.machine = Machine(tracing=tracing)
        self.now = 0.0
        self.actions: list[ac.Action] = []  # of all events so far
        self.next_index: dict[int, int] = {}
        self.post(ev.SlotsChanged(slots))

    def post(self, event: ev.Event) -> list[ac.Action]:
        actions = self.machine.handle(event, self.now)
        self.machine.check_invariants()
        self.actions += actions
        return actions

    def open(
        self,
        group: int = 1,
        policy: Policy | None = None,
        *,
        deadline: float | None = None,
        grace: float = 5.0,
        kill_after: float = 2.0,
    ) -> list[ac.Action]:
        policy = fail_fast() if policy is None else policy
        self.next_index[group] = 0
        return self.post(ev.GroupOpened(group, policy, deadline, grace, kill_after))

    def submit(
        self, task: int, group: int = 1, *, size: int = 1, timeout: float | None = None
    ) -> list[ac.Action]:
        index = self.next_index[group]
        self.next_index[group] += size
        self.machine.groups[group].stats.submitted += size
        return self.post(ev.Submitted(group, task, index, size, timeout))

    def leave(self, group: int = 1) -> list[ac.Action]:
        return self.post(ev.BodyLeft(group))

    def stop(
        self,
        kind: ReasonKind = ReasonKind.CANCEL,
        group: int = 1,
        *,
        soon: bool = False,
        grace: float | None = None,
        kill_after: float | None = None,
    ) -> list[ac.Action]:
        return self.post(
            ev.StopAsked(
                group, kind, f"why {kind}", soon=soon, grace=grace, kill_after=kill_after
            )
        )

    def cancel(
        self, task: int, grace: float | None = None, kill_after: float | None = None
    ) -> list[ac.Action]:
        return self.post(ev.TaskCancelAsked(task, grace, kill_after))

    def tick(self, at: float) -> list[ac.Action]:
        self.now = at
        return self.post(ev.Ticked())

    def succeed(self, attempt: int, index: int = 0, count: int = 1) -> list[ac.Action]:
        return self.post(ev.Succeeded(attempt, index, f"value {attempt}.{index}", count))

    def fail(self, attempt: int, index: int = 0, *, started: bool = True) -> list[ac.Action]:
        return self.post(ev.Failed(attempt, index, f"error {attempt}.{index}", started))

    def stopped(
        self, attempt: int, index: int = 0, by: StoppedBy = StoppedBy.TOKEN, *, started: bool = True
    ) -> list[ac.Action]:
        return self.post(ev.Stopped(attempt, index, by, started))

    def end(self, attempt: int) -> list[ac.Action]:
        return self.post(ev.AttemptEnded(attempt))

    def die(
        self,
        attempt: int,
        index: int | None = 0,
        *,
        ordered: bool = False,
        started: bool | None = True,
    ) -> list[ac.Action]:
        return self.post(ev.Died(attempt, ordered, index, started, "the death"))

    def cord(
        self,
        attempt: int | None,
        kind: ReasonKind = ReasonKind.FAILURE,
        group: int = 1,
        index: int | None = None,
    ) -> list[ac.Action]:
        return self.post(ev.Cord(group, attempt, kind, "pulled", index))

    def succeed_and_end(self, *attempts: int) -> None:
        for attempt in attempts:
            self.succeed(attempt)
            self.end(attempt)

    def outcomes(self, task: int) -> list[ac.Resolve]:
        return [a for a in of(self.actions, ac.Resolve) if a.task == task]

    def outcome(self, task: int) -> ac.Resolve:
        (found,) = self.outcomes(task)
        return found

    def states(self, task: int) -> list[TaskState]:
        return [r.state for r in self.outcomes(task) for _ in range(r.count)]

    def closed(self, group: int = 1) -> ac.GroupClosed:
        (found,) = [a for a in of(self.actions, ac.GroupClosed) if a.group == group]
        return found

    def is_closed(self, group: int = 1) -> bool:
        return self.machine.groups.get(group) is None

    def reason_kind(self, group: int = 1) -> ReasonKind | None:
        record = self.machine.groups.get(group)
        assert record is not None
        return None if record.reason is None else record.reason.kind


def of(actions: Iterable[ac.Action], kind: type[A]) -> list[A]:
    """Those of one kind."""
    return [a for a in actions if isinstance(a, kind)]


def one(actions: Iterable[ac.Action], kind: type[A]) -> A:
    """The only one of its kind."""
    (found,) = of(actions, kind)
    return found


def kinds(actions: Iterable[ac.Action]) -> list[str]:
    """Their names, in order."""
    return [type(a).__name__ for a in actions]


@pytest.fixture
def line() -> Line:
    """Two slots, one group under `fail_fast`, nothing submitted."""
    line = Line()
    line.open()
    return line


# The core ---------------------------------------------------------------------------------------


def test_a_task_runs_and_its_group_closes(line: Line) -> None:
    assert one(line.submit(10), ac.Send) == ac.Send(1, 10, 1, 0, 1, fatal=True)
    line.leave()
    assert kinds(line.succeed(1)) == ["Resolve"]
    assert not line.is_closed()  # its worker is not idle yet
    assert kinds(line.end(1)) == ["GroupClosed"]
    assert line.closed() == ac.GroupClosed(1, Verdict.OK, None)
    assert line.outcome(10) == ac.Resolve(
        10, 0, 1, OK, StoppedBy.RETURNED, True, False, "value 1.0", over=True
    )


def test_an_empty_group_closes_when_its_body_is_left(line: Line) -> None:
    assert kinds(line.leave()) == ["GroupClosed"]


def test_tasks_wait_for_slots_and_are_sent_in_order() -> None:
    line = Line(slots=1)
    line.open()
    for task in (10, 11, 12):
        line.submit(task)
    line.succeed_and_end(1, 2, 3)
    assert [a.task for a in of(line.actions, ac.Send)] == [10, 11, 12]


def test_waiting_groups_are_served_in_turn() -> None:
    line = Line(slots=0)
    for group in (1, 2):
        line.open(group)
        for n in range(3):
            line.submit(10 * group + n, group)
    line.post(ev.SlotsChanged(6))
    assert [a.task for a in of(line.actions, ac.Send)] == [10, 20, 11, 21, 12, 22]


def test_a_worker_is_wanted_where_a_task_of_another_group_waits() -> None:
    line = Line(slots=1)
    for group in (1, 2):
        line.open(group)
    wanted = line.machine.is_wanted
    line.submit(10, 1)
    assert not wanted(1) and not wanted(2), "none waits"
    line.submit(11, 1)
    assert not wanted(1) and wanted(2)
    line.submit(20, 2)
    assert wanted(1) and wanted(2)
    line.stop(group=1)
    assert wanted(1) and not wanted(2)


def test_fewer_slots_take_effect_as_attempts_end(line: Line) -> None:
    for task in (10, 11, 12):
        line.submit(task)
    line.post(ev.SlotsChanged(1))
    line.succeed_and_end(1)
    assert len(of(line.actions, ac.Send)) == 2
    line.succeed_and_end(2)
    assert len(of(line.actions, ac.Send)) == 3


def test_s1_the_same_events_in_the_same_order_give_the_same_actions() -> None:
    def run() -> list[ac.Action]:
        line = Line(tracing=True)
        line.open()
        line.submit(10)
        line.submit(11, size=3)
        line.cord(2, index=1)
        line.succeed(2)
        line.fail(2, 1)
        line.die(1, ordered=True)
        line.end(2)
        line.leave()
        return line.actions

    assert run() == run()


def test_s2_an_event_that_cannot_be_is_an_internal_error_with_the_tasks_story(line: Line) -> None:
    line.submit(10)
    line.submit(11)
    line.succeed(1)
    with pytest.raises(InternalError, match="story of task 10") as caught:
        line.succeed(1)
    assert caught.value.story
    assert all(entry[2] == 10 for entry in caught.value.story)


@pytest.mark.parametrize(
    "event",
    [
        ev.Submitted(9, 1, 0),
        ev.BodyLeft(9),
        ev.AttemptEnded(9),
        ev.Succeeded(9, 0, None),
        ev.Died(9, False, None, None),
        ev.Succeeded(1, 1, None),  # not the item that is next
        ev.Succeeded(1, 0, None, count=2),  # more than it has
        ev.Succeeded(1, 0, None, count=0),
        ev.Failed(1, 1, None),
        ev.Died(1, False, 1, True),
        ev.Stopped(1, 0, StoppedBy.TOKEN, True),  # nobody asked it to
    ],
    ids=lambda event: repr(event).split(",")[0].replace("(", "-"),
)
def test_s2_reports_that_make_no_sense_are_refused(line: Line, event: ev.Event) -> None:
    line.submit(10)
    with pytest.raises(InternalError):
        line.post(event)


def test_what_comes_too_late_is_ignored(line: Line) -> None:
    """Users and timers cannot know that a group has just closed: the order settles it (S1)."""
    line.submit(10, timeout=3.0)
    line.succeed_and_end(1)
    line.leave()
    for event in (
        ev.StopAsked(1, ReasonKind.CANCEL, ""),
        ev.TaskCancelAsked(10),
        ev.Cord(1, 1, ReasonKind.FAILURE, ""),
        ev.Started(1, 0, 0.0),
        ev.Ticked(),
    ):
        assert line.post(event) == []


def test_s3_the_outcome_is_what_happened_and_cancel_requested_what_was_asked(line: Line) -> None:
    line.submit(10)
    line.cancel(10)
    line.succeed(1)
    assert (line.outcome(10).state, line.outcome(10).cancel_requested) == (OK, True)


def test_s3_a_timeout_first_does_not_hide_that_a_cancel_was_asked(line: Line) -> None:
    line.submit(10, timeout=1.0)
    line.now = 2.0
    line.post(ev.Started(1, 0, 0.0))
    line.stop()
    line.succeed(1)
    assert (line.outcome(10).state, line.outcome(10).cancel_requested) == (OK, True)


def test_s3_whoever_pulled_the_cord_by_failing_was_not_asked_to_stop(line: Line) -> None:
    line.submit(10)
    line.submit(11)
    line.cord(1)
    line.fail(1)
    line.fail(2)
    assert not line.outcome(10).cancel_requested
    assert line.outcome(11).cancel_requested


def test_s4_every_item_has_one_outcome_and_the_counts_add_up() -> None:
    line = Line(slots=3)
    line.open(policy=collect_all())
    line.submit(10, size=3)
    line.submit(11)
    line.submit(12)
    record = line.machine.groups.get(1)
    assert record is not None
    line.succeed(1, 0, 2)
    line.fail(1, 2)
    line.cancel(12)
    line.die(2)
    line.stopped(3)
    for attempt in (1, 3):
        line.end(attempt)
    line.leave()
    stats = record.stats
    assert line.is_closed()
    assert as_of_now(stats) == Stats(submitted=5, succeeded=2, failed=2, cancelled=1)
    assert stats.done == stats.submitted
    assert [a.task for a in of(line.actions, ac.Resolve) if a.over] == [10, 11, 12]


def test_s5_the_verdict_is_frozen_at_the_decision_and_the_group_closes_when_all_is_idle(
    line: Line,
) -> None:
    line.submit(10)
    line.submit(11)
    line.leave()
    decided = one(line.stop(), ac.GroupStopping)
    assert (decided.verdict, decided.reason.kind) == (Verdict.CANCELLED, ReasonKind.CANCEL)
    line.fail(1)  # a failure now changes neither
    line.stopped(2)
    line.end(1)
    assert not line.is_closed()  # attempt 2 is over for its user, but its process still runs
    line.end(2)
    assert line.closed() == ac.GroupClosed(1, decided.verdict, decided.reason)


def test_s6_the_word_is_pulled_before_anything_is_told(line: Line) -> None:
    line.submit(10)
    line.submit(11)
    line.submit(12)
    names = kinds(line.fail(1))
    assert names[:3] == ["PullWord", "GroupStopping", "StopGroup"]
    assert names.index("PullWord") < names.index("Resolve")


def test_s6_the_word_is_pulled_before_the_trace_tells_of_the_decision() -> None:
    line = Line(tracing=True)
    line.open()
    assert kinds(line.stop())[:2] == ["PullWord", "Trace"]


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        (ReasonKind.FAILURE, Verdict.FAILED),
        (ReasonKind.BODY, Verdict.FAILED),
        (ReasonKind.DEADLINE, Verdict.FAILED),
        (ReasonKind.CANCEL, Verdict.CANCELLED),
        (ReasonKind.INTERRUPT, Verdict.CANCELLED),
        (ReasonKind.SHUTDOWN, Verdict.CANCELLED),
        (ReasonKind.PARENT, Verdict.CANCELLED),
        (ReasonKind.SUPERSEDED, Verdict.CANCELLED),
    ],
)
def test_s7_every_kind_of_reason_stops_a_group(
    line: Line, kind: ReasonKind, verdict: Verdict
) -> None:
    line.submit(10)
    line.now = 7.5
    decided = one(line.stop(kind), ac.GroupStopping)
    assert decided.verdict is verdict
    reason = decided.reason
    assert (reason.kind, reason.message, reason.at) == (kind, f"why {kind}", 7.5)


def test_s7_a_task_may_stop_the_line_without_an_error(line: Line) -> None:
    line.submit(10)
    line.submit(11)
    decided = one(line.cord(2, ReasonKind.CANCEL), ac.GroupStopping)
    assert (decided.reason.kind, decided.reason.source) == (ReasonKind.CANCEL, 1)
    assert decided.verdict is Verdict.CANCELLED


def test_s7_one_groups_stop_never_touches_another() -> None:
    line = Line()
    line.open(1)
    line.open(2)
    line.submit(10, 1)
    line.submit(20, 2)
    actions = line.fail(1)
    assert {a.group for a in of(actions, ac.PullWord)} == {1}
    assert line.reason_kind(2) is None
    line.succeed_and_end(2)
    assert line.outcome(20).state is OK


def test_s8_the_first_reason_wins_and_later_ones_go_to_the_trace() -> None:
    line = Line(tracing=True)
    line.open()
    line.submit(10)
    first = one(line.stop(ReasonKind.CANCEL), ac.GroupStopping).reason
    again = line.stop(ReasonKind.DEADLINE)
    assert not of(again, ac.GroupStopping)
    assert not of(again, ac.PullWord)
    assert "why deadline" in one(again, ac.Trace).cause
    line.stopped(1)
    line.end(1)
    line.leave()
    assert line.closed().reason is first


def test_s9_a_drain_may_become_a_cancel_and_never_goes_back(line: Line) -> None:
    line.submit(10)
    drained = line.stop(ReasonKind.SHUTDOWN, soon=True)
    assert kinds(drained) == ["GroupStopping", "StopGroup"]
    assert one(drained, ac.StopGroup).soon  # nobody running is stopped
    hardened = line.stop(ReasonKind.INTERRUPT)
    assert kinds(hardened) == ["PullWord", "StopGroup"]
    assert one(hardened, ac.PullWord).reason.kind is ReasonKind.SHUTDOWN  # S8
    line.stop(ReasonKind.SHUTDOWN, soon=True)
    record = line.machine.groups.get(1)
    assert record is not None
    assert record.state is GroupState.CANCELLING


def test_s9_grace_and_kill_after_only_shrink(line: Line) -> None:
    line.submit(10)

    def numbers(actions: list[ac.Action]) -> tuple[float, float]:
        stop = one(actions, ac.StopGroup)
        return stop.grace, stop.kill_after

    assert numbers(line.stop()) == (5.0, 2.0)
    assert numbers(line.stop(grace=99.0, kill_after=1.0)) == (5.0, 1.0)
    assert numbers(line.stop(grace=0.0, kill_after=99.0)) == (0.0, 1.0)
    assert of(line.stop(), ac.StopGroup) == [], "it has been asked, and by nothing softer"


def test_s9_a_drains_numbers_hold_for_the_cancel_that_follows(line: Line) -> None:
    line.submit(10)
    line.stop(soon=True, grace=1.0, kill_after=0.5)
    assert one(line.stop(), ac.StopGroup) == ac.StopGroup(1, 1.0, 0.5)


def test_s4_what_is_counted_at_the_last_look_keeps_a_group_open(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a finalizer that submits while the machine counts; later it finds the group closed."""
    look, moments = Stats.done.fget, [1]

    def done(stats: Stats) -> Any:
        if moments:
            stats.submitted += moments.pop()
        return look(stats)  # type: ignore[misc]

    record = line.machine.groups[1]
    monkeypatch.setattr(Stats, "done", property(done))
    line.actions += line.machine.handle(ev.BodyLeft(1), line.now)
    assert not moments and not record.stats.closed and not line.is_closed()
    line.post(ev.Withdrawn(1, 1))
    assert record.stats.closed and line.is_closed()


@pytest.mark.parametrize("then", ["comes", "stops", "is withdrawn"])
def test_s4_a_group_waits_for_what_was_counted_and_is_still_to_come(line: Line, then: str) -> None:
    """Calls that came after the body was left wait outside for the next free worker."""
    line.submit(10)
    line.leave()
    machine = line.machine
    machine.groups[1].stats.submitted += 1
    for event in (ev.Succeeded(1, 0, "value"), ev.AttemptEnded(1)):
        line.actions += machine.handle(event, line.now)
    if then == "stops":
        line.actions += machine.handle(ev.StopAsked(1, ReasonKind.CANCEL, "why"), line.now)
    assert not line.is_closed()
    if then == "is withdrawn":
        line.post(ev.Withdrawn(1, 1))
    else:
        line.actions += machine.handle(ev.Submitted(1, 11, 1), line.now)
    if then == "comes":
        line.succeed_and_end(2)
    assert line.is_closed()
    if then != "is withdrawn":
        assert line.outcome(11).started is (then == "comes")
    machine.check_invariants()


def test_s10_a_stopped_group_never_starts_anything_again(line: Line) -> None:
    line.stop()
    for task in (10, 11):
        actions = line.submit(task)
        assert kinds(actions) == ["Resolve"]
        assert line.outcome(task).started is False
    assert not of(line.actions, ac.Send)


def test_s11_a_pulled_cord_decides_before_the_failure_is_reported(line: Line) -> None:
    line.submit(10)
    line.submit(11)
    actions = line.cord(2)
    assert kinds(actions) == ["PullWord", "GroupStopping", "StopGroup"]
    reason = one(actions, ac.GroupStopping).reason
    assert (reason.kind, reason.source) == (ReasonKind.FAILURE, 1)
    line.stopped(1)  # the sibling felt it while the report was on its way
    line.fail(2)
    assert line.outcome(10).state is CANCELLED
    assert line.outcome(11).state is FAILED


def test_s11_only_where_the_first_failure_decides_may_a_worker_pull_the_cord() -> None:
    for policy, fatal in ((fail_fast(), True), (fail_fast("soon"), False), (collect_all(), False)):
        line = Line()
        line.open(policy=policy)
        assert one(line.submit(10), ac.Send).fatal is fatal


def test_s11_a_failure_that_pulled_the_cord_is_never_lost_to_our_own_kill(line: Line) -> None:
    """With `grace=0, kill_after=0` the kill may be quicker than the failing worker's report."""
    line.submit(10)
    line.cord(1)
    line.die(1, ordered=True)
    assert line.outcome(10).state is FAILED
    assert line.outcome(10).dead
    line.leave()
    assert line.closed().verdict is Verdict.FAILED


def test_s11_a_span_that_pulled_the_cord_ends_where_it_failed(line: Line) -> None:
    line.submit(10, size=3)
    line.cord(1, index=1)  # item 0 had ended; its frame is still on the way
    assert line.machine.groups.get(1).reason.source == 1  # type: ignore[union-attr]
    line.succeed(1, 0)
    line.fail(1, 1)
    line.stopped(1, 2, StoppedBy.NEVER_STARTED, started=False)
    line.end(1)
    assert line.states(10) == [OK, FAILED, CANCELLED]
    assert [r.cancel_requested for r in line.outcomes(10)] == [False, False, True]


def test_s11_a_cord_may_close_a_group_whose_worker_is_gone() -> None:
    line = Line(slots=0)
    line.open()
    line.submit(10)
    line.leave()
    line.cord(None, ReasonKind.CANCEL)
    assert line.outcome(10).started is False
    assert line.closed().verdict is Verdict.CANCELLED


def test_s12_nothing_is_sent_for_a_group_that_is_stopping() -> None:
    for soon in (False, True):
        line = Line(slots=1)
        line.open()
        line.submit(10)
        line.submit(11)
        actions = line.stop(soon=soon)
        line.succeed_and_end(1)
        line.post(ev.SlotsChanged(8))
        assert len(of(line.actions, ac.Send)) == 1
        assert one(actions, ac.Resolve).task == 11
        assert line.outcome(11).stopped_by is StoppedBy.NEVER_STARTED


def test_s12_a_prefetched_attempt_that_never_began_is_cancelled_unstarted(line: Line) -> None:
    line.submit(10)
    line.stop()
    line.end(1)  # the engine gives it back without a word about its items
    outcome = line.outcome(10)
    assert (outcome.state, outcome.started) == (CANCELLED, False)
    assert outcome.stopped_by is StoppedBy.NEVER_STARTED


@pytest.mark.parametrize("started", [True, False, None])
def test_s13_a_killed_task_says_whether_it_had_started(line: Line, started: bool | None) -> None:
    line.submit(10)
    line.stop()
    line.die(1, None if started is None else 0, ordered=True, started=started)
    outcome = line.outcome(10)
    assert (outcome.state, outcome.started) == (CANCELLED, started)
    assert outcome.stopped_by is StoppedBy.KILL


def test_s14_the_body_is_told_at_the_decision(line: Line) -> None:
    """`GroupStopping` is what makes body operations raise; a task that is then submitted all the
    same (it raced the decision) is answered, not lost."""
    line.submit(10)
    assert of(line.fail(1), ac.GroupStopping)
    line.submit(11)
    assert line.outcome(11).state is CANCELLED


# Deaths, timeouts, deadlines --------------------------------------------------------------------


def test_s25_a_death_that_nobody_ordered_fails_that_task_alone(line: Line) -> None:
    line.open(2, collect_all())
    line.submit(10, 2)
    line.submit(11, 2)
    actions = line.die(1)
    outcome = one(actions, ac.Resolve)
    assert (outcome.state, outcome.dead, outcome.payload) == (FAILED, True, "the death")
    line.succeed_and_end(2)
    assert line.outcome(11).state is OK


def test_s25_arguments_that_kill_the_worker_fail_their_task(line: Line) -> None:
    line.submit(10)
    line.die(1, 0, started=False)
    outcome = line.outcome(10)
    assert (outcome.state, outcome.started, outcome.dead) == (FAILED, False, True)


def test_s25_a_death_before_the_task_was_reached_gives_it_back() -> None:
    line = Line(slots=1)
    line.open()
    line.submit(10)
    line.submit(11)
    actions = line.die(1, None, started=False)
    assert one(actions, ac.Send) == ac.Send(2, 10, 1, 0, 1, fatal=True)  # it goes first
    assert line.outcomes(10) == []


def test_s26_a_death_that_we_ordered_is_a_cancel(line: Line) -> None:
    line.submit(10)
    line.stop()
    line.die(1, ordered=True)
    outcome = line.outcome(10)
    assert (outcome.state, outcome.stopped_by, outcome.dead) == (CANCELLED, StoppedBy.KILL, False)


def test_s26_a_death_that_the_timeout_ordered_is_a_timeout(line: Line) -> None:
    line.submit(10, timeout=3.0)
    line.now = 3.0
    line.post(ev.Started(1, 0, 0.0))
    line.die(1, ordered=True)
    outcome = line.outcome(10)
    assert (outcome.state, outcome.stopped_by, outcome.timeout) == (FAILED, StoppedBy.KILL, 3.0)


def test_s26_a_different_fatal_signal_while_stopping_is_a_failure(line: Line) -> None:
    line.submit(10)
    line.stop()
    line.die(1, ordered=False)
    outcome = line.outcome(10)
    assert (outcome.state, outcome.dead, outcome.cancel_requested) == (FAILED, True, True)


def test_s27_what_was_read_after_the_death_counts(line: Line) -> None:
    line.submit(10, size=3)
    line.stop()
    line.succeed(1, 0)
    line.die(1, 1, ordered=True)
    assert line.states(10) == [OK, CANCELLED, CANCELLED]
    assert [r.started for r in line.outcomes(10)] == [True, True, False]


def test_s29_a_timeout_counts_from_the_start_of_the_call(line: Line) -> None:
    line.submit(10, timeout=3.0)
    assert line.machine.wake_at() == 3.0
    assert kinds(line.tick(3.0)) == ["Look"]  # has it begun?
    line.post(ev.Started(1, 0, 1.0))  # yes, at 1
    assert line.machine.wake_at() == 4.0
    assert kinds(line.tick(4.0)) == ["Look"]
    assert line.post(ev.Started(1, 0, 1.0)) == [ac.StopAttempt(1, 5.0, 2.0)]
    line.stopped(1)
    outcome = line.outcome(10)
    assert (outcome.state, outcome.timeout, outcome.cancel_requested) == (FAILED, 3.0, False)
    assert line.reason_kind() is ReasonKind.FAILURE  # it is a failure, not a cancel


def test_s29_a_task_that_has_not_begun_does_not_time_out(line: Line) -> None:
    line.submit(10, timeout=3.0)
    for at in (3.0, 6.0, 9.0):  # nobody answers: it waits for a worker
        assert kinds(line.tick(at)) == ["Look"]
        assert line.machine.wake_at() == at + 3.0
    assert line.outcomes(10) == []


def test_s29_a_task_that_was_not_begun_after_all_is_not_failed_for_it(line: Line) -> None:
    line.submit(10, timeout=3.0)
    line.now = 3.0
    line.post(ev.Started(1, 0, 0.0))
    line.stopped(1, 0, StoppedBy.NEVER_STARTED, started=False)
    assert line.outcomes(10) == []
    assert one(line.end(1), ac.Send).task == 10  # another try


def test_s29_a_result_that_is_just_in_time_stands(line: Line) -> None:
    line.submit(10, timeout=3.0)
    line.now = 3.0
    line.post(ev.Started(1, 0, 0.0))
    line.succeed_and_end(1)
    assert (line.outcome(10).state, line.outcome(10).cancel_requested) == (OK, False)


def test_s29_nobody_looks_for_what_has_its_outcome(line: Line) -> None:
    line.open(2)
    line.submit(10, 2, size=2, timeout=3.0)
    for attempt, index in ((1, 0), (2, 1)):
        line.succeed(attempt, index)
        assert line.machine.wake_at() is None
        assert line.tick(99.0) == []
        line.end(attempt)


@pytest.mark.parametrize("timeout", [0.0, 1e-12, 1e-6])
def test_s21_a_tiny_timeout_does_not_make_the_clock_stand_still(
    line: Line, timeout: float
) -> None:
    line.now = 1e6
    line.submit(10, timeout=timeout)
    assert kinds(line.tick(1e6)) in ([], ["Look"])
    wake_at = line.machine.wake_at()
    assert wake_at is not None
    assert wake_at > 1e6


def test_s29_the_timeout_is_per_item_and_an_order_never_reaches_the_next_item(line: Line) -> None:
    line.open(2, collect_all())
    line.submit(10, 2, size=3, timeout=3.0)
    assert one(line.actions, ac.Send) == ac.Send(1, 10, 2, 0, 1, fatal=False)  # one item alone
    line.now = 3.0
    assert of(line.post(ev.Started(1, 0, 0.0)), ac.StopAttempt)
    line.stopped(1)
    assert one(line.end(1), ac.Send) == ac.Send(2, 10, 2, 1, 2, fatal=False)
    line.succeed(2, 1)
    line.end(2)
    line.succeed(3, 2)
    line.end(3)
    assert line.states(10) == [FAILED, OK, OK]


def test_stale_timers_do_not_pile_up() -> None:
    line = Line(slots=1)
    line.open()
    for n in range(1, 1000):
        line.submit(n, timeout=3600.0)
        line.succeed_and_end(n)
    assert len(line.machine._timers) < 100
    assert line.machine.wake_at() is None


def test_s30_a_deadline_cancels_what_is_unfinished() -> None:
    line = Line(slots=1)
    line.open(deadline=10.0)
    line.submit(10)
    line.submit(11)
    assert line.tick(9.9) == []
    actions = line.tick(10.0)
    assert one(actions, ac.GroupStopping).reason.kind is ReasonKind.DEADLINE
    assert one(actions, ac.GroupStopping).verdict is Verdict.FAILED
    line.stopped(1)
    line.end(1)
    assert line.states(10) == line.states(11) == [CANCELLED]
    assert line.machine.wake_at() is None


def test_s30_of_two_groups_each_keeps_its_own_deadline() -> None:
    line = Line()
    line.open(1, deadline=20.0)
    line.open(2, deadline=10.0)
    line.submit(10, 1)
    line.submit(20, 2)
    assert line.machine.wake_at() == 10.0
    assert one(line.tick(10.0), ac.GroupStopping).group == 2
    assert line.machine.wake_at() == 20.0
    assert one(line.tick(20.0), ac.GroupStopping).group == 1


def test_s30_deadlines_that_have_all_passed_fire_in_one_tick() -> None:
    line = Line()
    line.open(1, deadline=20.0)
    line.open(2, deadline=10.0)
    line.submit(10, 1, timeout=3.0)
    actions = line.tick(30.0)
    assert [a.group for a in of(actions, ac.GroupStopping)] == [2, 1]
    assert line.machine.wake_at() is None


def test_s30_a_deadline_ends_a_drain(line: Line) -> None:
    line.open(2, deadline=10.0)
    line.submit(10, 2)
    line.stop(ReasonKind.SHUTDOWN, 2, soon=True)
    assert kinds(line.tick(10.0)) == ["PullWord", "StopGroup"]
    assert line.reason_kind(2) is ReasonKind.SHUTDOWN


def test_s31_a_body_error_is_the_reason_and_failures_beside_it_stay(line: Line) -> None:
    line.submit(10)
    line.stop(ReasonKind.BODY)
    line.fail(1)
    assert line.outcome(10).state is FAILED
    assert line.reason_kind() is ReasonKind.BODY


# While a stop is under way ----------------------------------------------------------------------


def test_s33_a_failure_during_a_cancel_is_kept_and_the_cause_stays(line: Line) -> None:
    line.submit(10)
    line.stop()
    line.fail(1)
    outcome = line.outcome(10)
    assert (outcome.state, outcome.cancel_requested) == (FAILED, True)
    assert line.reason_kind() is ReasonKind.CANCEL


def test_s34_a_result_after_the_cancel_keeps_its_value(line: Line) -> None:
    line.submit(10)
    line.stop()
    line.succeed(1)
    outcome = line.outcome(10)
    assert (outcome.state, outcome.cancel_requested) == (OK, True)
    assert outcome.payload == "value 1.0"


def test_s35_cancelling_a_pending_task_answers_at_once() -> None:
    line = Line(slots=0)
    line.open()
    line.submit(10)
    line.submit(11)
    assert kinds(line.cancel(10)) == ["Resolve"]
    outcome = line.outcome(10)
    assert (outcome.state, outcome.started, outcome.cancel_requested) == (CANCELLED, False, True)
    assert line.reason_kind() is None  # never the group
    line.post(ev.SlotsChanged(1))
    assert one(line.actions, ac.Send).task == 11


def test_s35_cancelling_the_last_pending_task_closes_a_group_that_was_left() -> None:
    line = Line(slots=0)
    line.open()
    line.submit(10)
    line.leave()
    assert kinds(line.cancel(10)) == ["Resolve", "GroupClosed"]
    assert line.closed().verdict is Verdict.OK


def test_s35_cancelling_a_sent_task_stops_its_attempt_alone(line: Line) -> None:
    line.submit(10)
    line.submit(11)
    assert line.cancel(10) == [ac.StopAttempt(1, 5.0, 2.0)]
    line.end(1)  # it had not begun
    assert line.outcome(10).stopped_by is StoppedBy.NEVER_STARTED
    line.succeed_and_end(2)
    assert line.outcome(11).state is OK


def test_s35_cancelling_a_running_task_runs_the_ladder_with_the_callers_numbers(
    line: Line,
) -> None:
    line.submit(10, timeout=9.0)
    line.post(ev.Started(1, 0, 0.0))
    assert line.cancel(10, 1.0, 0.5) == [ac.StopAttempt(1, 1.0, 0.5)]
    assert line.cancel(10, 0.0, 0.0) == [ac.StopAttempt(1, 0.0, 0.0)]  # hardens (S9)
    line.stopped(1, 0, StoppedBy.INTERRUPT)
    line.end(1)
    outcome = line.outcome(10)
    assert (outcome.state, outcome.stopped_by) == (CANCELLED, StoppedBy.INTERRUPT)
    line.leave()
    assert line.closed().verdict is Verdict.OK


def test_s35_a_cancel_after_the_outcome_changes_nothing(line: Line) -> None:
    line.submit(10)
    line.succeed(1)
    assert line.cancel(10) == []
    assert not line.outcome(10).cancel_requested


def test_s35_a_failure_of_a_cancelled_task_is_still_the_groups(line: Line) -> None:
    line.submit(10)
    line.cancel(10)
    line.fail(1)
    assert line.reason_kind() is ReasonKind.FAILURE


def test_s35_a_cancel_is_not_forgotten_because_a_timeout_came_first(line: Line) -> None:
    line.submit(10, timeout=3.0)
    line.now = 3.0
    line.post(ev.Started(1, 0, 0.0))
    line.cancel(10)
    line.stopped(1, 0, StoppedBy.NEVER_STARTED, started=False)
    line.end(1)
    assert line.outcome(10).state is CANCELLED
    assert len(of(line.actions, ac.Send)) == 1  # not tried again


def test_s36_a_whole_result_frame_beats_our_kill(line: Line) -> None:
    line.submit(10)
    line.stop(grace=0.0, kill_after=0.0)
    line.succeed(1)
    line.die(1, None, ordered=True, started=False)
    assert line.outcome(10).state is OK
    line.leave()
    assert line.is_closed()


def test_s42_a_broken_pool_fails_every_group_and_every_later_task(line: Line) -> None:
    line.open(2)
    line.submit(10)
    line.submit(20, 2)
    line.submit(11)
    actions = line.post(ev.Broke("workers die again and again", "the error"))
    stopping = of(actions, ac.GroupStopping)
    assert [(a.group, a.payload, a.verdict) for a in stopping] == [
        (1, "the error", Verdict.FAILED),
        (2, "the error", Verdict.FAILED),
    ]
    assert line.outcome(11).started is False
    line.open(3)
    late = line.submit(30, 3)
    assert kinds(late) == ["PullWord", "GroupStopping", "Resolve"]
    assert one(late, ac.GroupStopping).payload == "the error"
    for attempt in (1, 2):
        line.die(attempt, ordered=True)
    for group in (1, 2, 3):
        line.leave(group)
        assert line.closed(group).verdict is Verdict.FAILED


def test_s45_items_that_ended_before_their_span_was_killed_keep_their_values(line: Line) -> None:
    line.submit(10, size=4)
    line.succeed(1, 0, 2)
    line.die(1, 2)
    assert line.states(10) == [OK, OK, FAILED, CANCELLED]  # fail_fast: the rest never starts


def test_s48_the_end_of_a_task_is_traced_behind_its_outcome() -> None:
    """So whoever reads the trace can ask for that."""
    line = Line(tracing=True)
    line.open()
    line.submit(10)
    assert kinds(line.succeed(1)) == ["Trace", "Resolve", "Trace"]
    assert [t.index for t in of(line.actions, ac.Trace)] == [0, 0, 0]


def test_s48_every_transition_is_traced() -> None:
    line = Line(tracing=True)
    line.open()
    line.submit(10)
    line.fail(1)
    line.end(1)
    line.leave()
    told = [(t.task, t.before, t.after) for t in of(line.actions, ac.Trace)]
    assert told == [
        (10, "pending", "sent"),
        (10, "sent", "running"),
        (None, "open", "cancelling"),
        (10, "running", "failed"),
        (None, "cancelling", "closed"),
    ]


# Spans ------------------------------------------------------------------------------------------


def test_a_spans_items_may_end_in_batches(line: Line) -> None:
    line.submit(10, size=5)
    line.succeed(1, 0, 3)
    line.succeed(1, 3, 2)
    assert [(r.index, r.count) for r in line.outcomes(10)] == [(0, 3), (3, 2)]
    assert sum(a.over for a in of(line.actions, ac.Resolve)) == 1


def test_the_rest_of_a_span_whose_worker_died_goes_to_another_worker() -> None:
    line = Line(slots=1)
    line.open(policy=collect_all())
    line.submit(10, size=4)
    line.submit(11)
    line.succeed(1, 0)
    sent = one(line.die(1, 1), ac.Send)
    assert sent == ac.Send(2, 10, 1, 2, 3, fatal=False)  # item 1 failed; on with item 2, before 11
    line.succeed(2, 2)
    assert one(line.end(2), ac.Send) == ac.Send(3, -1, 1, 3, 4, fatal=False)  # its other half
    line.succeed(3, 3)
    assert one(line.end(3), ac.Send).task == 11
    assert line.states(10) + line.states(-1) == [OK, FAILED, OK, OK]


def test_what_a_span_did_not_begin_is_given_back_when_its_worker_leaves(line: Line) -> None:
    line.submit(10, size=3)
    line.succeed(1, 0)
    assert of(line.end(1), ac.Send) == [
        ac.Send(2, 10, 1, 1, 2, fatal=True),
        ac.Send(3, -1, 1, 2, 3, fatal=True),
    ]


def test_what_was_given_back_can_still_be_cancelled() -> None:
    """One of its items has failed, and the rest waits again: neither outcome hides the other."""
    for stop in ("group", "owner"):
        line = Line(slots=1)
        line.open(policy=collect_all())
        line.submit(10, size=3)
        line.post(ev.SlotsChanged(0))
        line.die(1, 0)
        _ = line.stop() if stop == "group" else line.cancel(10)
        assert line.states(10) == [FAILED, CANCELLED, CANCELLED]
        line.leave()
        assert line.is_closed()


def test_a_failure_in_a_span_stops_its_own_rest(line: Line) -> None:
    line.submit(10, size=3)
    assert of(line.fail(1, 0), ac.StopGroup)
    line.end(1)
    assert line.states(10) == [FAILED, CANCELLED, CANCELLED]
    assert [r.count for r in line.outcomes(10)] == [1, 2]


def test_a_drain_lets_running_work_finish_and_starts_nothing_else() -> None:
    line = Line(slots=2)
    line.open(policy=fail_fast("soon"))
    for task in (10, 11, 12):
        line.submit(task)
    actions = line.fail(1)
    assert not of(actions, ac.PullWord)
    assert one(actions, ac.StopGroup).soon
    line.end(1)
    line.leave()
    assert not line.is_closed()
    line.succeed_and_end(2)
    assert [line.outcome(t).state for t in (10, 11, 12)] == [FAILED, OK, CANCELLED]
    assert not line.outcome(11).cancel_requested
    assert line.closed().verdict is Verdict.FAILED


def test_a_drain_takes_back_what_the_engine_has_not_begun() -> None:
    line = Line(slots=2)
    line.open()
    line.submit(10)
    line.submit(11, size=2)
    assert one(line.stop(ReasonKind.SHUTDOWN, soon=True), ac.StopGroup).soon
    line.end(1)  # it was still in the engine's queue
    line.succeed(2, 0)
    line.end(2)  # the worker left between two items
    assert line.states(10) == [CANCELLED]
    assert line.states(11) == [OK, CANCELLED]


# A policy may also decide on a cancelled item ---------------------------------------------------


@dataclass
class _StopsAtACancel:
    failures_only: bool = False
    first_failure_decides: bool = False
    raises: bool = True
    seen: list[TaskState] = field(default_factory=list)

    def on_outcome(self, stats: Stats, state: TaskState) -> Decision:
        self.seen.append(state)
        return Decision.CANCEL if state is CANCELLED else Decision.CONTINUE


@pytest.mark.parametrize("sent", [True, False])
def test_s4_a_group_closes_after_its_last_outcome_whatever_the_policy_decides(sent: bool) -> None:
    line = Line(slots=int(sent))
    policy = _StopsAtACancel()
    line.open(policy=policy)
    line.submit(10)
    line.leave()
    line.cancel(10)
    if sent:
        line.end(1)
    assert kinds(line.actions)[-2:] == ["Resolve", "GroupClosed"]
    assert policy.seen == [CANCELLED]


def test_s39_a_policys_decision_says_after_which_outcome_it_came() -> None:
    line = Line(slots=1)
    line.open(policy=_StopsAtACancel())
    line.submit(10)
    line.submit(11)
    line.submit(12)
    line.cancel(11)
    stopping = one(line.actions, ac.GroupStopping)
    assert stopping.ahead, "of the outcome, which is told after it (S6)"
    assert stopping.reason.message == "the policy stopped the group after task 1"
    decided = [a.task for a in of(line.actions, ac.Resolve) if a.decides]
    assert decided == [11], "task 12 is cancelled by it"


@dataclass
class _Slips(_StopsAtACancel):
    def on_outcome(self, stats: Stats, state: TaskState) -> Decision:
        self.seen.append(state)
        raise ValueError("a slip")


class _Miscounts:
    failures_only = first_failure_decides = raises = False

    def on_outcome(self, stats: Stats, state: TaskState) -> Decision:
        stats.submitted += 1
        return Decision.CONTINUE


def test_s4_a_policy_that_writes_into_what_it_is_shown_keeps_no_group_open() -> None:
    line = Line()
    line.open(policy=_Miscounts())
    line.submit(10)
    line.leave()
    line.succeed_and_end(1)
    assert line.is_closed()


def test_s39_a_policy_that_raises_stops_its_group_and_is_asked_no_more() -> None:
    line = Line(slots=2)
    policy = _Slips()
    line.open(policy=policy)
    for task in (10, 11, 12):
        line.submit(task)
    assert kinds(line.succeed(1)) == [
        "PolicyFailed", "PullWord", "GroupStopping", "StopGroup",
        "Resolve",  # that waited
        "Resolve",
    ]  # fmt: skip
    reason = one(line.actions, ac.GroupStopping).reason
    assert (reason.source, reason.message) == (0, "the policy raised ValueError: a slip")
    assert [a.task for a in of(line.actions, ac.Resolve) if a.decides] == [10]
    line.end(1)
    line.stopped(2)
    line.end(2)
    line.leave()
    assert line.closed().verdict is Verdict.FAILED
    assert policy.seen == [OK]


@dataclass
class _SaysOnce(_Slips):
    """Whoever asks it for its attributes again, has an error."""

    times: int = 1

    def __getattribute__(self, name: str) -> Any:
        if name in ("failures_only", "first_failure_decides"):
            self.times -= 1
            if self.times < 0:
                raise ValueError("asked again")
        return super().__getattribute__(name)


def test_s39_a_policy_is_asked_once_when_it_is_to_be_asked() -> None:
    line = Line(slots=2)
    policy = _SaysOnce()
    policy.times = 2
    line.open(policy=policy)
    line.submit(10)
    line.submit(11)
    line.succeed(1)
    assert policy.seen == [OK]


def test_s39_a_policy_that_cannot_say_when_stops_its_group_at_once() -> None:
    line = Line(slots=1)
    policy = _SaysOnce()
    policy.times = 1
    assert kinds(line.open(policy=policy)) == ["PolicyFailed", "PullWord", "GroupStopping"]
    line.submit(10)
    line.leave()
    reason = one(line.actions, ac.GroupStopping).reason
    assert (reason.source, reason.message) == (None, "the policy raised ValueError: asked again")
    assert line.outcome(10).started is False and line.closed().verdict is Verdict.FAILED
    assert policy.seen == []


@pytest.mark.parametrize("kind", [ReasonKind.FAILURE, ReasonKind.CANCEL])
def test_s11_only_the_cord_of_a_failure_is_ahead_of_an_outcome(
    line: Line, kind: ReasonKind
) -> None:
    line.submit(10)
    assert one(line.cord(1, kind), ac.GroupStopping).ahead is (kind is ReasonKind.FAILURE)
    assert not any(a.decides for a in of(line.fail(1), ac.Resolve)), "it was decided before"
    line.open(2)
    assert not one(line.stop(group=2), ac.GroupStopping).ahead


# The race table, row by row ---------------------------------------------------------------------


def test_race_two_failures_the_first_taken_is_the_reason_and_both_are_kept(line: Line) -> None:
    line.submit(10)
    line.submit(11)
    line.fail(2)
    line.fail(1)
    record = line.machine.groups.get(1)
    assert record is not None
    assert record.reason is not None
    assert record.reason.source == 1
    assert record.stats.failed == 2


def test_race_last_success_and_a_failure(line: Line) -> None:
    for order in ("success first", "failure first"):
        line = Line()
        line.open()
        line.submit(10)
        line.submit(11)
        line.leave()
        if order == "success first":
            line.succeed(1)
            line.fail(2)
        else:
            line.fail(2)
            line.succeed(1)
        line.end(1)
        line.end(2)
        assert line.outcome(10).state is OK
        assert line.closed().verdict is Verdict.FAILED


@pytest.mark.parametrize("success_first", [True, False])
def test_race_last_success_and_the_deadline(success_first: bool) -> None:
    line = Line()
    line.open(deadline=10.0)
    line.submit(10)
    line.leave()
    if success_first:
        line.now = 10.5  # the driver was late: the success was taken first
        line.succeed_and_end(1)
        line.tick(10.6)
        assert line.closed() == ac.GroupClosed(1, Verdict.OK, None)
    else:
        line.tick(10.5)
        line.succeed_and_end(1)
        assert line.closed().verdict is Verdict.FAILED
        assert line.outcome(10).state is OK  # S34


@pytest.mark.parametrize("failure_first", [True, False])
def test_race_failure_and_user_cancel(line: Line, failure_first: bool) -> None:
    line.submit(10)
    if failure_first:
        line.fail(1)
        line.stop()
    else:
        line.stop()
        line.fail(1)
    line.end(1)
    line.leave()
    kind, verdict = (
        (ReasonKind.FAILURE, Verdict.FAILED)
        if failure_first
        else (ReasonKind.CANCEL, Verdict.CANCELLED)
    )
    closed = line.closed()
    assert closed.reason is not None
    assert (closed.reason.kind, closed.verdict) == (kind, verdict)
    assert line.outcome(10).state is FAILED  # raised all the same


@pytest.mark.parametrize("whole_frame", [True, False])
def test_race_result_frame_and_our_kill(line: Line, whole_frame: bool) -> None:
    line.submit(10)
    line.stop(grace=0.0, kill_after=0.0)
    if whole_frame:
        line.succeed(1)
    line.die(1, None if whole_frame else 0, ordered=True, started=None if whole_frame else True)
    assert line.outcome(10).state is (OK if whole_frame else CANCELLED)


@pytest.mark.parametrize("failure_first", [True, False])
def test_race_ctrl_c_and_a_failure(line: Line, failure_first: bool) -> None:
    line.submit(10)
    if failure_first:
        line.fail(1)
    line.stop(ReasonKind.INTERRUPT)
    if not failure_first:
        line.fail(1)
    line.end(1)
    assert line.outcome(10).state is FAILED  # attached to the KeyboardInterrupt by the facade
    first = ReasonKind.FAILURE if failure_first else ReasonKind.INTERRUPT
    assert line.reason_kind() is first


@pytest.mark.parametrize("timeout_first", [True, False])
def test_race_task_timeout_and_group_decision(line: Line, timeout_first: bool) -> None:
    line.submit(10, timeout=3.0)
    line.now = 3.0
    if timeout_first:
        line.post(ev.Started(1, 0, 0.0))
        line.stop()
    else:
        line.stop()
        assert line.post(ev.Started(1, 0, 0.0)) == []
    line.stopped(1)
    outcome = line.outcome(10)
    assert outcome.cancel_requested
    if timeout_first:
        assert (outcome.state, outcome.timeout) == (FAILED, 3.0)
    else:
        assert (outcome.state, outcome.timeout) == (CANCELLED, None)


def test_payloads_pass_through_untouched(line: Line) -> None:
    payload: Any = object()
    line.submit(10)
    line.post(ev.Succeeded(1, 0, payload))
    assert line.outcome(10).payload is payload
