"""The fake engine (`andon.testing.fake_engine`), under a real group: the test plays the workers."""

from __future__ import annotations

import pytest

import andon
from andon.testing.fake_engine import FakeEngine, StopCall


def nothing() -> None:
    raise AssertionError("the fake engine calls nothing")


def test_the_test_says_what_every_task_returns() -> None:
    engine = FakeEngine()
    with andon.TaskGroup(workers=2, engine=engine) as tg:
        futures = [tg.submit(nothing) for _ in range(2)]
        first, second = engine.wait_for(2)
        engine.succeed(second, "b")
        assert futures[1].result(10.0) == "b"
        assert not futures[0].done()
        engine.succeed(first, "a")
    assert [f.result() for f in futures] == ["a", "b"]
    assert engine.stops == []
    assert engine.closed


def test_a_failure_stops_the_sibling_that_runs_and_gives_back_the_one_that_does_not() -> None:
    engine = FakeEngine()
    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(
        workers=3, engine=engine, grace=4.0, kill_after=1.0
    ) as tg:
        for _ in range(3):
            tg.submit(nothing)
        failing, running, _ = engine.wait_for(3)
        engine.start(running)
        engine.fail(failing, ValueError("bad"))
        with pytest.raises(andon.Cancelled):
            andon.sleep(20.0)  # until the body is told
        assert engine.is_stopping(running)
        assert engine.held() == [running]
        engine.halt(running)
    assert [str(e) for e in caught.value.exceptions] == ["bad"]
    assert [str(o.stopped_by) for o in tg.outcomes] == ["returned", "token", "never-started"]
    assert engine.stops[0] == StopCall(running.group.id, None, 4.0, 1.0)


def test_s11_a_cord_stops_the_group_before_its_failure_is_reported() -> None:
    engine = FakeEngine()
    with pytest.raises(ExceptionGroup), andon.TaskGroup(workers=2, engine=engine) as tg:
        tg.submit(nothing)
        (failing,) = engine.wait_for(1)
        engine.pull_cord(failing, message="bad weather")
        with pytest.raises(andon.Cancelled):
            andon.sleep(20.0)
        assert tg.outcomes == ()
        engine.fail(failing, ValueError("bad"))
    assert tg.reason is not None
    assert (tg.reason.message, tg.reason.source) == ("bad weather", 0)


def test_a_death_that_nobody_ordered() -> None:
    engine = FakeEngine()
    with andon.TaskGroup(workers=1, engine=engine, policy=andon.collect_all()) as tg:
        tg.submit(nothing)
        tg.submit(nothing)
        (first,) = engine.wait_for(1)
        engine.start(first)
        engine.die(first, exitcode=-11, text="died of it")
        engine.succeed(engine.wait_for(2)[1], 5)
    error = tg.outcomes[0].error
    assert type(error) is andon.WorkerDiedError
    assert error.exitcode == -11
    assert tg.outcomes[1].value == 5


def test_a_process_that_will_not_die_is_named_at_the_close() -> None:
    engine = FakeEngine(survivors=[4711])
    with pytest.raises(andon.CleanupError) as caught:
        with andon.TaskGroup(workers=1, engine=engine):
            pass
    assert caught.value.pids == (4711,)


def test_f3_what_is_said_of_an_attempt_that_is_over_is_refused() -> None:
    engine = FakeEngine()
    with andon.TaskGroup(workers=1, engine=engine) as tg:
        tg.submit(nothing)
        (attempt,) = engine.wait_for(1)
        engine.succeed(attempt)
        with pytest.raises(AssertionError, match="not held"):
            engine.succeed(attempt)


def test_waiting_for_what_never_comes_says_so() -> None:
    with pytest.raises(AssertionError, match="0 attempts were submitted"):
        FakeEngine().wait_for(1, within=0.01)
