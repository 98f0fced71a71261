"""Single rules of the stop ladder, over real workers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import andon
from andon.outcome import Outcome, ReasonKind
from tests.matrix import ladder_tasks as tasks
from tests.matrix import stop_tasks as rows
from tests.matrix.stop_tasks import fail_when
from tests.support import PATIENCE, Stage, alive, crowded, eventually, wait_gone

MakeStage = Callable[..., Stage]


def stop_alone(
    stage: MakeStage,
    start_method: str,
    submit: Callable[[andon.TaskGroup, Stage], object],
    **times: float,
) -> tuple[Outcome, int, bool]:
    """One task on a pool of one worker, cancelled once it is `here`: its outcome, the pid of its
    worker, and whether that worker goes on."""
    here = stage("here")
    times = {"grace": PATIENCE, "kill_after": PATIENCE, **times}
    with andon.Pool(1, start_method=start_method) as pool:
        with andon.TaskGroup(pool=pool, **times) as tg:
            submit(tg, here)
            worker = pid_of(here.word())
            tg.cancel("enough")
        (outcome,) = tg.outcomes
        return outcome, worker, pool.apply(tasks.pid) == worker


def pid_of(word: str) -> int:
    said = json.loads(word)
    return int(said["pid"] if isinstance(said, dict) else said)


# S9: only ever harder ---------------------------------------------------------------------------


@pytest.mark.parametrize("rung", ["interrupt", "kill"])
def test_S9_a_second_cancel_with_a_shorter_grace(stage: MakeStage, rung: str) -> None:
    here, cleaned = stage("here"), stage("cleaned")
    with andon.TaskGroup(workers=1, grace=1000, kill_after=1000) as tg:
        if rung == "interrupt":
            tg.submit(tasks.trusted_but_deaf, here, cleaned)
        else:
            tg.submit(tasks.trusted_and_stubborn, here)
        here.word()
        tg.cancel("first")
        assert tg.reason is not None
        group = tg._scope.group  # no facade has the times of a second call
        kill_after = PATIENCE if rung == "interrupt" else 0.1
        group.runtime.stop(group, ReasonKind.CANCEL, "second", grace=0.0, kill_after=kill_after)
        # It never softens.
        group.runtime.stop(group, ReasonKind.CANCEL, "third", grace=1000.0, kill_after=1000.0)
    assert tg.outcomes[0].stopped_by == rung
    assert tg.reason.message == "first"  # S8
    assert cleaned.reached() == (["cleaned"] if rung == "interrupt" else [])


def test_S9_a_later_and_longer_grace_changes_nothing(stage: MakeStage) -> None:
    here = stage("here")
    with andon.TaskGroup(workers=1, grace=0.2, kill_after=0.2) as tg:
        tg.submit(tasks.trusted_and_stubborn, here)
        here.word()
        tg.cancel("first")
        group = tg._scope.group
        group.runtime.stop(group, ReasonKind.CANCEL, "second", grace=1000.0, kill_after=1000.0)
    assert tg.outcomes[0].stopped_by == "kill"


def test_S9_the_end_of_the_pool_does_not_wait_for_a_grace(stage: MakeStage) -> None:
    here = stage("here")
    pool = andon.Pool(1, start_method="forkserver")
    end = threading.Thread(target=pool.terminate)
    with andon.TaskGroup(pool=pool, grace=1000, kill_after=1000) as tg:
        tg.submit(tasks.trusted_and_stubborn, here)
        worker = pid_of(here.word())
        tg.cancel("first")
        end.start()
    end.join(PATIENCE)
    assert not end.is_alive() and not alive(worker)
    assert tg.outcomes[0].stopped_by == "kill"
    assert tg.reason is not None and tg.reason.message == "first"  # S8


def test_S9_S35_a_task_cancelled_alone_and_then_with_its_group(stage: MakeStage) -> None:
    """The group's brutal stop ends what the task's own, gentle one has begun."""
    here = stage("here")
    with andon.TaskGroup(workers=1, grace=1000, kill_after=1000) as tg:
        future = tg.submit(tasks.trusted_and_stubborn, here)
        here.word()
        assert future.cancel()
        group = tg._scope.group
        group.runtime.stop(group, ReasonKind.CANCEL, "", grace=0.0, kill_after=0.0)
    assert future.cancelled()
    assert tg.outcomes[0].stopped_by == "kill"


# S11: tell first --------------------------------------------------------------------------------


def test_S11_S33_a_brutal_stop_leaves_the_failure_itself_time_to_tell(
    start_method: str, stage: MakeStage
) -> None:
    """grace=0, kill_after=0: the siblings are killed at once, the worker that has pulled the cord
    is not, or the error that stopped the line would be lost."""
    here, go = stage("here"), stage("go")
    with andon.Pool(2, start_method=start_method) as pool:
        with (
            pytest.raises(ExceptionGroup) as caught,
            andon.TaskGroup(pool=pool, grace=0, kill_after=0) as tg,
        ):
            tg.submit(tasks.fails_slowly, go)
            tg.submit(tasks.trusted_and_stubborn, here)
            here.word()
            go.release()
        (error,) = caught.value.exceptions
        assert type(error) is tasks.SlowToTell and str(error) == "the bad one"
        assert tg.outcomes[1].stopped_by == "kill"
        assert pool.apply(tasks.pid) > 0


@pytest.mark.parametrize("bad", [0, 1, 9, 30])
def test_S6_S12_nothing_begins_once_the_failure_is_told(start_method: str, bad: int) -> None:
    with andon.Pool(4, start_method=start_method) as pool:
        for _ in range(3):
            told: list[float] = []
            with pytest.raises(ExceptionGroup), andon.TaskGroup(pool=pool) as tg:
                for number in range(60):
                    future = tg.submit(tasks.starts_at, number, bad)
                    if number == bad:
                        future.add_done_callback(lambda f, told=told: told.append(time.monotonic()))
            eventually(told.__len__, what="the callback")
            began = [o.started_at for o in tg.outcomes if o.started_at is not None]
            assert max(began) < told[0]
            assert all(o.value < told[0] for o in tg.outcomes if o.ok)


# S15, S5: together, and told when it is over ----------------------------------------------------


def test_S15_all_victims_under_one_clock(stage: MakeStage) -> None:
    here, count, kill_after = stage("here"), 6, 1.0
    with andon.TaskGroup(workers=count, grace=0, kill_after=kill_after) as tg:
        for _ in range(count):
            tg.submit(tasks.trusted_and_stubborn, here)
        here.wait(count)
        began = time.monotonic()
        tg.cancel()
    took = time.monotonic() - began
    assert [o.stopped_by for o in tg.outcomes] == ["kill"] * count
    assert kill_after <= took < count * kill_after - 1


@pytest.mark.parametrize("rung", ["interrupt", "kill"])
def test_S5_S22_cancelled_is_told_when_nothing_of_the_task_is_left(
    start_method: str, stage: MakeStage, rung: str
) -> None:
    here, cleaned = stage("here"), stage("cleaned")
    work = rows.with_a_child if rung == "interrupt" else rows.with_a_child_and_killed
    seen: list[list[int]] = []
    pids: list[int] = []
    with andon.TaskGroup(
        workers=1, start_method=start_method, kill_after=PATIENCE if rung == "interrupt" else 0.2
    ) as tg:
        future = tg.submit(work, here, cleaned)
        said = json.loads(here.word())
        pids += said["others"]
        if rung == "kill":  # else its worker may idle until it is told to leave
            pids.append(said["pid"])
        future.add_done_callback(lambda f: seen.append([p for p in pids if alive(p)]))
        assert future.cancel()
        with pytest.raises(andon.TaskCancelledError):
            future.result()
        assert [p for p in pids if alive(p)] == []
        eventually(lambda: seen, what="the callback")
    assert seen == [[]]
    assert tg.outcomes[0].stopped_by == rung


# S16: `Cancelled` where it does not belong ------------------------------------------------------


def test_S16_a_stop_out_of_nowhere_is_a_failure(start_method: str) -> None:
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(workers=1, start_method=start_method, policy=andon.fail_fast()) as tg,
    ):
        tg.submit(tasks.raises_a_foreign_stop)
    (error,) = caught.value.exceptions
    assert isinstance(error, andon.TaskExitError)
    assert isinstance(error.original, andon.Cancelled)
    assert "of somebody else" in str(error)
    assert tg.outcomes[0].state == "failed" and not tg.outcomes[0].cancel_requested


def test_S16_nobody_builds_a_stop() -> None:
    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(workers=1) as tg:
        tg.submit(tasks.builds_a_stop)
    assert [type(e) for e in caught.value.exceptions] == [TypeError]


def test_S16_the_stop_of_an_earlier_task_is_a_failure_of_a_later_one(stage: MakeStage) -> None:
    here = stage("here")
    with andon.Pool(1, start_method="forkserver") as pool:
        for _ in range(2):
            with andon.TaskGroup(pool=pool, grace=PATIENCE) as tg:
                tg.submit(tasks.keeps_its_stop, here)
                worker = pid_of(here.word())
                tg.cancel()
            assert tg.outcomes[0].stopped_by == "token"
        assert pool.apply(tasks.pid) == worker
        with pytest.raises(andon.TaskExitError, match="Cancelled"):
            pool.apply(tasks.raises_what_was_kept)
        assert pool.apply(tasks.pid) == worker


def test_S10_S16_swallowing_changes_nothing(start_method: str, stage: MakeStage) -> None:
    outcome, _, goes_on = stop_alone(
        stage, start_method, lambda tg, here: tg.submit(tasks.swallows_at_checkpoints, here, 100)
    )
    # It returned in the end, and that is what happened (S34).
    assert (outcome.state, outcome.stopped_by, outcome.value) == ("succeeded", "returned", 102)
    assert outcome.cancel_requested and goes_on


def test_S16_an_interrupt_that_is_lost_in_a_del_comes_again(
    start_method: str, stage: MakeStage
) -> None:
    cleaned = stage("cleaned")
    outcome, _, goes_on = stop_alone(
        stage, start_method, lambda tg, here: tg.submit(tasks.loses_an_interrupt, here, cleaned)
    )
    assert (outcome.state, outcome.stopped_by) == ("cancelled", "interrupt")
    assert cleaned.reached() == ["lost", "cleaned"]
    assert not goes_on


@pytest.mark.parametrize("signal_name", ["SIGABRT", "SIGTERM"])
def test_S26_another_death_than_the_ordered_one_is_a_failure(
    start_method: str, stage: MakeStage, signal_name: str
) -> None:
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(
            workers=1, start_method=start_method, grace=PATIENCE, kill_after=PATIENCE
        ) as tg,
    ):
        here = stage("here")
        future = tg.submit(tasks.dies_in_clean_up, here, signal_name)
        here.word()
        tg.cancel("enough")
    (error,) = caught.value.exceptions
    assert isinstance(error, andon.WorkerDiedError) and signal_name in str(error)
    (outcome,) = tg.outcomes
    assert outcome.state == "failed" and outcome.cancel_requested
    assert future.exception() is error
    assert tg.reason is not None and tg.reason.message == "enough"


# S18: shields -----------------------------------------------------------------------------------


@pytest.mark.parametrize("brutal", [False, True])
def test_S18_a_shield_never_holds_back_the_kill(
    start_method: str, stage: MakeStage, brutal: bool
) -> None:
    cleaned = stage("cleaned")
    times = {"grace": 0.0, "kill_after": 0.0} if brutal else {"grace": 0.2, "kill_after": 0.3}
    began = time.monotonic()
    outcome, _, goes_on = stop_alone(
        stage,
        start_method,
        lambda tg, here: tg.submit(rows.in_a_long_shield, here, cleaned),
        **times,
    )
    assert (outcome.state, outcome.stopped_by) == ("cancelled", "kill")
    assert time.monotonic() - began < PATIENCE
    assert cleaned.reached() == [] and not goes_on


def test_S18_an_interrupt_waits_for_the_end_of_a_shield(
    start_method: str, stage: MakeStage
) -> None:
    cleaned = stage("cleaned")
    outcome, _, _ = stop_alone(
        stage,
        start_method,
        lambda tg, here: tg.submit(tasks.interrupt_in_a_shield, here, cleaned),
        grace=0.0,
    )
    assert (outcome.state, outcome.stopped_by) == ("cancelled", "token")  # the end is a checkpoint
    assert cleaned.reached() == ["section"]


def test_S18_the_outer_shield_rules(start_method: str, stage: MakeStage) -> None:
    cleaned = stage("cleaned")
    outcome, _, goes_on = stop_alone(
        stage, start_method, lambda tg, here: tg.submit(tasks.nested_shields, here, cleaned)
    )
    assert (outcome.state, outcome.stopped_by) == ("cancelled", "token")
    assert cleaned.reached() == ["inner", "outer"] and goes_on


def test_S18_a_shield_around_the_clean_up_lets_it_finish(
    start_method: str, stage: MakeStage
) -> None:
    cleaned = stage("cleaned")
    outcome, _, goes_on = stop_alone(
        stage, start_method, lambda tg, here: tg.submit(tasks.shield_in_clean_up, here, cleaned)
    )
    assert (outcome.state, outcome.stopped_by) == ("cancelled", "token")
    assert cleaned.reached() == ["shielded", "all of it"] and goes_on


# S19: the stack of a killed task ----------------------------------------------------------------


def test_S19_the_dump_shows_every_thread(start_method: str, stage: MakeStage) -> None:
    outcome, _, _ = stop_alone(
        stage,
        start_method,
        lambda tg, here: tg.submit(tasks.stuck_with_a_thread, here),
        kill_after=0.5,
    )
    assert outcome.stopped_by == "kill"
    if outcome.stack is None:  # the kill does not wait for one that gets no core (ladder.py)
        assert crowded(), "no stack on a machine that is not busy"
    else:
        assert "stuck_function" in outcome.stack and "stuck_thread" in outcome.stack


def test_S19_S29_the_dump_of_a_task_past_its_timeout(start_method: str, stage: MakeStage) -> None:
    here, cleaned = stage("here"), stage("cleaned")
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(workers=1, start_method=start_method, kill_after=0.5) as tg,
    ):
        tg.submit(rows.mutex_in_c, here, cleaned, timeout=0.3)
    (error,) = caught.value.exceptions
    assert isinstance(error, andon.TaskTimeoutError)
    assert any("mutex_in_c" in note and "stack" in note for note in error.__notes__)
    (outcome,) = tg.outcomes
    assert (outcome.state, outcome.stopped_by) == ("failed", "kill")
    assert outcome.stack is not None and "mutex_in_c" in outcome.stack


# S22, S51: replaced -----------------------------------------------------------------------------


def test_S22_S51_the_successor_waits_for_the_end_of_the_old_one(
    start_method: str, stage: MakeStage, tmp_path: Path
) -> None:
    here, cleaning, go, began = stage("here"), stage("cleaning"), stage("go"), stage("began")
    pool = andon.Pool(
        1,
        start_method=start_method,
        initializer=tasks.initialise,
        initargs=(began, str(tmp_path / "pids")),
    )
    with pool:
        with andon.TaskGroup(pool=pool, kill_after=PATIENCE) as tg:
            tg.submit(tasks.held_clean_up, here, cleaning, go)
            old = int(here.word())
            assert json.loads(began.word()) == []
            tg.cancel()
            cleaning.word()
            # The old one is still there, and seen to be stopping. Its successor is prepared ...
            look = pool._runtime.look
            eventually(lambda: len(look()) == 2, what="a successor")
            (row,) = [row for row in look() if row.pid == old]
            assert row.stopping
            # ... but begins nothing: neither its initializer nor a task.
            next_one = pool.apply_async(tasks.pid)
            eventually(
                lambda: all(r.pid and r.phase == "idle" for r in look() if r.pid != old),
                what="a successor that has booted",
            )
            assert began.reached() == [] and not next_one.ready()
            assert alive(old)
            go.release()
        new = next_one.get(PATIENCE)
        assert not alive(old)
        assert new != old
        assert json.loads(began.word()) == [], "the old one was dead before the initializer ran"
        (outcome,) = tg.outcomes
        assert (outcome.state, outcome.stopped_by) == ("cancelled", "interrupt")
        # No spare too many is left, and no slot more than there was.
        assert pool.map(rows_pid, range(20)) == [new] * 20


def rows_pid(_: int) -> int:
    return tasks.pid()


def test_S34_S51_a_worker_that_was_interrupted_and_returned_is_replaced(
    start_method: str, stage: MakeStage
) -> None:
    outcome, worker, goes_on = stop_alone(
        stage, start_method, lambda tg, here: tg.submit(tasks.catches_and_returns, here)
    )
    assert (outcome.state, outcome.stopped_by) == ("succeeded", "returned")
    assert outcome.value == "caught Cancelled" and outcome.cancel_requested
    assert not goes_on
    wait_gone([worker])


def test_S51_reuse_interrupted(start_method: str, stage: MakeStage) -> None:
    here, cleaned = stage("here"), stage("cleaned")
    with andon.Pool(1, start_method=start_method, reuse_interrupted=True) as pool:
        workers = set()
        for _ in range(5):
            with andon.TaskGroup(pool=pool, kill_after=PATIENCE) as tg:
                tg.submit(rows.time_sleep, here, cleaned)
                workers.add(pid_of(here.word()))
                tg.cancel()
            assert tg.outcomes[0].stopped_by == "interrupt"
        assert workers == {pool.apply(tasks.pid)}
    assert len(cleaned.reached()) == 5


# S33, S52: errors on the way down ---------------------------------------------------------------


@pytest.mark.parametrize("trusted", [True, False])
def test_S52_a_clean_up_error_is_attached(
    start_method: str, stage: MakeStage, trusted: bool
) -> None:
    outcome, _, goes_on = stop_alone(
        stage,
        start_method,
        lambda tg, here: tg.submit(tasks.fails_in_clean_up, here, trusted, OSError),
    )
    assert outcome.state == "cancelled"
    assert outcome.stopped_by == ("token" if trusted else "interrupt")
    assert isinstance(outcome.error, andon.TaskCancelledError)
    assert type(outcome.cleanup_error) is OSError
    assert str(outcome.cleanup_error) == "the disk is full"
    assert "fails_in_clean_up" in str(outcome.cleanup_error.__cause__)
    assert goes_on == trusted


def test_S52_a_clean_up_error_that_cannot_travel(stage: MakeStage) -> None:
    outcome, _, _ = stop_alone(
        stage,
        "forkserver",
        lambda tg, here: tg.submit(tasks.fails_in_clean_up, here, True, tasks.Unpicklable),
    )
    assert (outcome.state, outcome.stopped_by) == ("cancelled", "token")
    assert isinstance(outcome.cleanup_error, andon.SerializationError)
    assert "Unpicklable: the disk is full" in str(outcome.cleanup_error)


def test_S52_the_stop_and_an_error_in_one_exception_group(stage: MakeStage) -> None:
    outcome, _, _ = stop_alone(
        stage, "forkserver", lambda tg, here: tg.submit(tasks.group_in_clean_up, here)
    )
    assert (outcome.state, outcome.stopped_by) == ("cancelled", "token")
    assert isinstance(outcome.cleanup_error, ExceptionGroup)
    assert [str(e) for e in outcome.cleanup_error.exceptions] == ["the disk is full"]


def test_S33_a_failure_beside_the_stop_is_one_more_failure(
    start_method: str, stage: MakeStage
) -> None:
    here, go = stage("here"), stage("go")
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(workers=2, start_method=start_method, grace=PATIENCE) as tg,
    ):
        tg.submit(tasks.fails_beside_the_stop, here)
        tg.submit(fail_when, go)
        here.word()
        go.release()
    assert sorted(str(e) for e in caught.value.exceptions) == ["of its own", "the bad one"]
    assert tg.reason is not None and tg.reason.source == 1
    outcome = tg.outcomes[0]
    assert (outcome.state, outcome.stopped_by) == ("failed", "returned")
    assert outcome.cancel_requested and outcome.cleanup_error is None


# S36: a whole frame wins ------------------------------------------------------------------------


def test_S36_a_result_that_was_written_beats_an_overdue_kill(stage: MakeStage) -> None:
    """The driver is kept busy until result and kill are both due."""
    here, go, unpickling, let = stage("here"), stage("go"), stage("unpickling"), stage("let")
    with andon.Pool(2, start_method="forkserver") as pool:
        blocked = pool.apply_async(tasks.result_that_blocks, (unpickling, let))
        with andon.TaskGroup(pool=pool, grace=1.0, kill_after=0.1) as tg:
            future = tg.submit(tasks.returns_when_told, here, go)
            worker = pid_of(here.word())
            unpickling.word()
            tg.cancel()
            overdue = time.monotonic() + 1.2
            go.release()
            (row,) = [r.row for r in pool._runtime.look() if r.pid == worker]
            eventually(
                lambda: [r.phase for r in pool._runtime.look() if r.row == row] == ["idle"],
                what="a worker that has answered",
            )
            eventually(lambda: time.monotonic() > overdue, what="the time of the kill")
            assert not future.done()
            let.release()
        assert blocked.get(PATIENCE) == "unpickled"
        (outcome,) = tg.outcomes
        assert (outcome.state, outcome.value, outcome.stopped_by) == ("succeeded", 42, "returned")
        assert outcome.cancel_requested
        assert alive(worker), "its kill was called off"


# S1: the cause before its effects ---------------------------------------------------------------


def test_S1_a_word_is_heard_before_its_bell(stage: MakeStage, start_method: str) -> None:
    """Where the puller has lost its core in between, and what it stopped is told by then."""
    asleep = stage("asleep")
    with andon.TaskGroup(workers=2, start_method=start_method, grace=1000) as tg:
        sleeper = tg.submit(tasks.sleep_unless_stopped, asleep)
        asleep.wait()
        puller = tg.submit(tasks.pull_unrung, asleep)
        asleep.release()
    assert tg.reason is not None and tg.reason.kind is ReasonKind.CANCEL
    assert puller.result() == "returned" and sleeper.result() is True
    assert [o.cancel_requested for o in tg.outcomes] == [True, True]
