"""What every engine keeps: one suite, driven through the port, against all engines that there are.

After every test, `Rig.check` looks at all that was posted: each attempt ended at most once, after
its items, which ended in order, and nothing was posted but from `pump`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from andon._core import events as ev
from andon._engines.payloads import Death, Halted, Raised, Rang, Returned
from andon.outcome import StoppedBy
from tests.contract.engines import KILLERS, MAKERS, Maker, Rig
from tests.contract.tasks import boom, die, double, hold, hold_on, odd_ones_fail
from tests.support import Stage

MakeStage = Callable[..., Stage]
PROMPT = 1.0  # seconds; what "at once" is on a machine that is busy with other tests


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.name)
def maker(request: pytest.FixtureRequest) -> Maker:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def rig(maker: Maker) -> Iterator[Rig]:
    yield from _rig(maker)


@pytest.fixture(params=KILLERS, ids=lambda maker: maker.name)
def killer(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """An engine that says that it can kill."""
    yield from _rig(request.param)


def _rig(maker: Maker) -> Iterator[Rig]:
    with maker.system():
        rig = maker.rig()
        try:
            yield rig
        finally:
            if not rig.closed:
                assert rig.close() == []
        rig.check()


def quickly(action: Callable[[], object]) -> None:
    began = time.monotonic()
    action()
    assert time.monotonic() - began < PROMPT, "it blocked"


# Running ----------------------------------------------------------------------------------------


def test_S49_an_engine_says_what_it_can_do(rig: Rig, maker: Maker) -> None:
    assert rig.caps.slots >= 1
    assert rig.caps.can_kill is maker.kills
    assert rig.caps.token_latency >= 0


def test_a_success_is_one_report_and_one_end(rig: Rig) -> None:
    attempt = rig.attempt(rig.group(), double, 21)
    before = time.monotonic()
    rig.run(attempt)
    (report,) = rig.reports(attempt)
    assert type(report) is ev.Succeeded
    assert (report.index, report.count) == (0, 1)
    assert type(report.payload) is Returned
    assert report.payload.values == [42]
    assert before <= report.payload.started_at <= report.payload.ended_at <= time.monotonic()
    assert rig.ends(attempt) == [ev.AttemptEnded(attempt.id)]


def test_a_failure_carries_its_error(rig: Rig) -> None:
    attempt = rig.attempt(rig.group(), boom, 7)
    rig.run(attempt)
    (report,) = rig.reports(attempt)
    assert type(report) is ev.Failed
    assert report.started
    assert type(report.payload) is Raised
    assert type(report.payload.error) is ValueError
    assert str(report.payload.error) == "boom 7"
    assert rig.ends(attempt) == [ev.AttemptEnded(attempt.id)]


def test_a_spans_items_end_in_order_and_the_attempt_after_them(rig: Rig) -> None:
    attempt = rig.attempt(rig.group(), double, items=list(range(50)))
    values = [v for report in rig.run_span(attempt) for v in report.payload.values]
    assert values == [2 * n for n in range(50)]


def test_a_span_goes_on_behind_a_failed_item(rig: Rig) -> None:
    attempt = rig.attempt(rig.group(), odd_ones_fail, items=list(range(4)))
    kinds = [type(report) for report in rig.run_span(attempt)]
    assert kinds == [ev.Succeeded, ev.Failed, ev.Succeeded, ev.Failed]


def test_a_span_may_begin_behind_its_first_item(rig: Rig) -> None:
    """As it does when its first try ended with its worker."""
    attempt = rig.attempt(rig.group(), double, items=[1, 2, 3, 4], lo=2)
    reports = rig.run_span(attempt)
    assert reports[0].index == 2
    assert [v for report in reports for v in report.payload.values] == [6, 8]


def test_every_attempt_of_many_ends_once(rig: Rig) -> None:
    group = rig.group()
    attempts = [rig.attempt(group, double if n % 3 else boom, n) for n in range(40)]
    rig.run(*attempts)
    assert all(len(rig.ends(a)) == len(rig.reports(a)) == 1 for a in attempts)


def test_one_worker_takes_attempts_in_order_of_submission(maker: Maker) -> None:
    rig = maker.rig(workers=1)
    try:
        group = rig.group()
        attempts = [rig.attempt(group, double, n) for n in range(5)]
        rig.submit(*attempts)
        rig.finish(*attempts)
        assert [e.attempt for e in rig.events if type(e) is ev.AttemptEnded] == [
            a.id for a in attempts
        ]
    finally:
        assert rig.close() == []
    rig.check()


# Never blocking, and posting from pump alone ----------------------------------------------------


def test_submit_never_blocks_and_posts_nothing(rig: Rig, stage: MakeStage) -> None:
    group = rig.group()
    attempts = [rig.attempt(group, hold, group.token, stage()) for _ in range(rig.caps.slots)]
    quickly(lambda: rig.submit(*attempts))
    assert rig.events == []
    quickly(lambda: rig.stop(group))
    rig.finish(*attempts)


def test_events_wait_for_a_pump(rig: Rig) -> None:
    attempt = rig.attempt(rig.group(), double, 1)
    rig.submit(attempt)
    time.sleep(0.1)  # not to win a race: there is time for anything that is posted wrongly
    assert rig.events == []
    rig.finish(attempt)


def test_a_pump_without_news_returns_in_its_time(rig: Rig) -> None:
    rig.pump(0.0)
    quickly(lambda: rig.pump(0.0))
    quickly(lambda: rig.pump(0.05))
    assert rig.events == []


def test_wake_ends_a_pump_from_another_thread(rig: Rig) -> None:
    timer = threading.Timer(0.05, rig.caps.wake)
    timer.start()
    quickly(lambda: rig.pump(None))
    timer.join()
    assert rig.events == []


def test_look_shows_who_runs_what_since_when(rig: Rig, stage: MakeStage) -> None:
    group, running = rig.group(), stage()
    attempt = rig.attempt(group, hold, group.token, running)
    seen = []

    def look() -> None:
        seen.extend(rig.look())
        rig.stop(group)

    before = time.monotonic()
    rig.while_running(attempt, running, look)
    rig.finish(attempt)
    (row,) = [row for row in seen if row.attempt == attempt.id]
    assert row.phase == "running"
    assert before <= row.started_at <= time.monotonic()
    assert not any(row.attempt == attempt.id for row in rig.look())


# Stopping ---------------------------------------------------------------------------------------


def test_a_stopped_groups_attempts_that_wait_are_answered(rig: Rig) -> None:
    group = rig.group()
    attempts = [rig.attempt(group, double, n) for n in range(rig.caps.slots)]
    group.token._pull(3, "enough")  # before any could begin
    rig.submit(*attempts)
    rig.stop(group)
    rig.finish(*attempts)
    for attempt in attempts:
        reports = rig.reports(attempt)
        assert all(type(r) is ev.Stopped and not r.started for r in reports), "S12: it ran"


def test_what_stop_gives_back_is_never_heard_of_again(rig: Rig) -> None:
    group = rig.group()
    attempts = [rig.attempt(group, double, n) for n in range(rig.caps.slots)]
    rig.submit(*attempts)
    gone = rig.stop(group)
    assert set(gone) <= {a.id for a in attempts}
    rig.finish(*attempts)
    other = rig.attempt(rig.group(), double, 1)
    rig.run(other)  # time for any late word; Rig.check sees to the rest
    assert rig.reports(other)


def test_a_stopped_task_that_asks_its_token_ends_by_it(rig: Rig, stage: MakeStage) -> None:
    group, running = rig.group(), stage()
    attempt = rig.attempt(group, hold, group.token, running)
    rig.while_running(attempt, running, lambda: rig.stop(group))
    rig.finish(attempt)
    (report,) = rig.reports(attempt)
    assert type(report) is ev.Stopped
    assert (report.by, report.started) == (StoppedBy.TOKEN, True)
    assert type(report.payload) is Halted
    assert report.payload.cleanup_error is None


def test_one_attempt_is_stopped_without_its_group(rig: Rig, stage: MakeStage) -> None:
    """S35; where the engine can do no more, it is so at the task's next checkpoint."""
    group, running = rig.group(), stage()
    attempt = rig.attempt(group, hold, group.token, running)
    rig.while_running(attempt, running, lambda: rig.stop(None, attempt))
    rig.finish(attempt)
    (report,) = rig.reports(attempt)
    assert type(report) is ev.Stopped
    assert not group.token.is_set()
    again = rig.attempt(group, double, 2)
    rig.run(again)
    assert type(rig.reports(again)[0]) is ev.Succeeded


def test_stop_is_idempotent_and_hardens(rig: Rig, stage: MakeStage) -> None:
    group, running = rig.group(), stage()
    attempt = rig.attempt(group, hold, group.token, running)

    def stop_often() -> None:
        for grace, kill_after in ((5.0, 2.0), (5.0, 2.0), (9.0, 9.0), (4.0, 1.0)):
            assert rig.stop(group, grace=grace, kill_after=kill_after) == []
            assert rig.stop(None, attempt, grace, kill_after) == []

    rig.while_running(attempt, running, stop_often)
    rig.finish(attempt)
    assert len(rig.ends(attempt)) == 1
    assert rig.stop(group) == []  # it is over: nothing to stop
    assert rig.stop(None, attempt) == []


def test_stopping_what_never_was_does_nothing(rig: Rig) -> None:
    assert rig.stop(rig.group()) == []
    assert rig.stop(None, rig.attempt(rig.group(), double, 1)) == []
    attempt = rig.attempt(rig.group(), double, 4)
    rig.run(attempt)
    assert rig.reports(attempt)[0].payload.values == [8]


def test_a_stop_never_touches_another_group(rig: Rig) -> None:
    stopped, other = rig.group(), rig.group()
    rig.stop(stopped, grace=0.0, kill_after=0.0)
    attempt = rig.attempt(other, double, 4)
    rig.submit(attempt)
    rig.stop(stopped, grace=0.0, kill_after=0.0)
    rig.finish(attempt)
    assert rig.reports(attempt)[0].payload.values == [8]


def test_a_drain_lets_what_runs_finish(rig: Rig, stage: MakeStage) -> None:
    group, running = rig.group(), stage()
    attempt = rig.attempt(group, hold, group.token, running)
    gone: list[int] = []

    def drain() -> None:
        gone.extend(rig.stop(group, soon=True))
        assert not group.token.is_set()
        rig.stop(group)  # only now

    rig.while_running(attempt, running, drain)
    rig.finish(attempt)
    assert gone == []
    (report,) = rig.reports(attempt)
    assert type(report) is ev.Stopped


def test_a_worker_that_pulls_the_cord_is_heard_before_its_failure(rig: Rig) -> None:
    """S11; an engine without a board leaves it to the machine, and pulls nothing."""
    group = rig.group()
    attempt = rig.attempt(group, boom, 1, fatal=True)
    rig.run(attempt)
    if group.token.is_set():
        kinds = [type(event) for event in rig.log]
        heard = min(kinds.index(kind) for kind in (Rang, ev.Cord) if kind in kinds)
        assert heard < kinds.index(ev.Failed)
    assert type(rig.reports(attempt)[0]) is ev.Failed


# Dying, where an engine can ---------------------------------------------------------------------


def test_a_workers_death_ends_its_attempt_and_nothing_else(killer: Rig) -> None:
    group = killer.group()
    attempt, other = killer.attempt(group, die, 3), killer.attempt(group, double, 5)
    killer.submit(attempt, other)
    killer.finish(attempt, other)
    assert killer.reports(attempt) == []
    (death,) = killer.ends(attempt)
    assert type(death) is ev.Died
    assert (death.ordered, death.index, death.started) == (False, 0, True)
    assert type(death.payload) is Death
    assert death.payload.exitcode == 3
    assert killer.reports(other)[0].payload.values == [10]
    after = killer.attempt(group, double, 6)
    killer.run(after)
    assert killer.reports(after)[0].payload.values == [12]


def test_a_task_that_ignores_everything_is_killed(killer: Rig, stage: MakeStage) -> None:
    group, running = killer.group(), stage()
    attempt = killer.attempt(group, hold_on, running)
    killer.while_running(
        attempt, running, lambda: killer.stop(group, grace=0.0, kill_after=0.0)
    )
    killer.finish(attempt)
    (death,) = killer.ends(attempt)
    assert type(death) is ev.Died
    assert (death.ordered, death.index, death.started) == (True, 0, True)


# Closing ----------------------------------------------------------------------------------------


def test_closing_an_idle_engine_is_quick_and_leaves_nobody(rig: Rig) -> None:
    rig.run(rig.attempt(rig.group(), double, 1))
    began = time.monotonic()
    assert rig.close(within=10.0) == []
    assert time.monotonic() - began < 5.0


def test_closing_an_engine_that_never_ran_anything(rig: Rig) -> None:
    assert rig.close(within=10.0) == []


def test_close_is_bounded_while_tasks_run(killer: Rig, stage: MakeStage) -> None:
    group, running = killer.group(), stage()
    attempt = killer.attempt(group, hold_on, running)
    began = 0.0

    def begin() -> None:
        nonlocal began
        began = time.monotonic()

    killer.while_running(attempt, running, begin)
    assert killer.close(within=5.0) == []
    assert time.monotonic() - began < 5.0 + PROMPT
    (end,) = killer.ends(attempt)
    assert type(end) is ev.Died
    assert end.ordered
    told = len(killer.log)
    time.sleep(0.05)  # not to win a race: there is time for anything that is posted too late
    assert len(killer.log) == told


def test_what_still_waits_at_the_close_is_answered_or_dropped_but_never_run(rig: Rig) -> None:
    group = rig.group()
    attempts = [rig.attempt(group, double, n) for n in range(rig.caps.slots)]
    rig.stop(group)
    rig.submit(*attempts)
    rig.close(within=10.0)
    for attempt in attempts:
        assert not any(type(r) is ev.Succeeded for r in rig.reports(attempt))
