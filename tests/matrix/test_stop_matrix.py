"""What must stop: four workers, one task fails while its three siblings are in a row's state.

Whatever that state is, each sibling stops on its rung, and says so (S15, S19); its clean-up runs
where the rung allows it; nothing that waits is started (S12); nothing is left in the process table
when the `with` is left (S5, S20); and the pool runs the next group at once, with the same workers
where they stopped at a checkpoint and with others where they did not (S51).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import andon
from tests.matrix import stop_tasks as rows
from tests.matrix.stop_tasks import fail_when, meet, note
from tests.support import Stage, alive, crowded, wait_gone

MakeStage = Callable[..., Stage]

WORKERS = 4
SIBLINGS = WORKERS - 1
WAITING = 6  # tasks that no worker is free for
SLACK = 10.0  # seconds beyond grace and kill; against hanging, on a machine that is busy


@dataclass(frozen=True)
class Row:
    """What is expected of one row. `says`: what each sibling's clean-up announces."""

    task: Callable[[Stage, Stage], object]
    rung: str  # `stopped_by`
    says: int = 1
    reused: bool | None = None  # is the worker used again? None: not promised either way
    grace: float = 1.0
    kill_after: float = 20.0  # generous where no kill is expected: a busy machine must not kill
    stack: str | None = None  # a function that the dump of a killed task names

    @property
    def name(self) -> str:
        return self.task.__name__


def at_a_checkpoint(
    task: Callable[[Stage, Stage], object], reused: bool | None = True, says: int = 1
) -> Row:
    # A checkpoint is reached at once; a grace that is used up would show as another rung.
    return Row(task, "token", reused=reused, grace=20.0, says=says)


def by_return(task: Callable[[Stage, Stage], object]) -> Row:
    return Row(task, "returned", reused=True, grace=20.0)


def interrupted(task: Callable[[Stage, Stage], object], grace: float = 20.0) -> Row:
    # None of these has used its token: the grace is not waited for, however long it is.
    return Row(task, "interrupt", reused=False, grace=grace)


def killed(
    task: Callable[[Stage, Stage], object], stack: str | None, says: int = 0, grace: float = 20.0
) -> Row:
    return Row(task, "kill", says=says, reused=False, grace=grace, kill_after=0.4, stack=stack)


ROWS = [
    at_a_checkpoint(rows.token_loop),
    by_return(rows.token_property_loop),
    by_return(rows.andon_sleep),
    at_a_checkpoint(rows.andon_sleep_then_check),
    at_a_checkpoint(rows.token_wait),
    at_a_checkpoint(rows.slow_clean_up_at_a_checkpoint),
    interrupted(rows.time_sleep),
    interrupted(rows.python_loop),
    interrupted(rows.lock_acquire),
    interrupted(rows.shared_lock_acquire),
    interrupted(rows.queue_get),
    interrupted(rows.socket_recv),
    interrupted(rows.subprocess_run),
    interrupted(rows.ignoring_sigterm),
    interrupted(rows.slow_clean_up),
    interrupted(rows.event_loop),
    interrupted(rows.regular_expression),
    interrupted(rows.sleep_in_c),
    killed(rows.swallowing, "swallowing"),
    killed(rows.swallowing_checkpoints, "swallowing", grace=0.3),
    killed(rows.sum_of_a_range, "sum_of_a_range"),
    killed(rows.mutex_in_c, "mutex_in_c"),
    killed(rows.signals_masked, None),  # the dump is asked for by a signal too
    killed(rows.hanging_clean_up, "hanging_clean_up", says=1),
    killed(rows.hanging_clean_up_at_a_checkpoint, "hanging_clean_up", says=1, grace=0.3),
    interrupted(rows.with_a_child),
    at_a_checkpoint(rows.with_a_child_at_a_checkpoint, reused=False),
    killed(rows.with_a_child_and_killed, "swallowing_for_good"),
    interrupted(rows.with_a_child_that_ignores_sigterm),
    interrupted(rows.with_a_child_in_its_own_session),
    interrupted(rows.with_a_double_fork),
    at_a_checkpoint(rows.with_a_double_fork_at_a_checkpoint, reused=False),
    interrupted(rows.with_a_forked_child),
    interrupted(rows.pool_of_the_standard_library),
    interrupted(rows.with_threads),
    at_a_checkpoint(rows.with_threads_of_its_own_at_a_checkpoint),
    at_a_checkpoint(rows.with_threads_left_at_a_checkpoint, reused=False),
    at_a_checkpoint(rows.nested_group, reused=None, says=3),
    # The inner tree is killed within half of these times (S37), though the outer interrupt comes
    # before that: it waits for the inner group's end, since that is library code (S17).
    Row(rows.nested_group_that_swallows, "token", grace=0.4, kill_after=6.0),
    at_a_checkpoint(rows.in_a_shield, says=2),
    interrupted(rows.in_a_short_shield, grace=0.1),
    killed(rows.in_a_long_shield, "in_a_long_shield", grace=0.2),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_stop(
    row: Row, start_method: str, stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANDON_TEST_START_METHOD", start_method)
    stop_siblings(row, start_method, stage)


@pytest.mark.stress
@pytest.mark.parametrize("row", [row for row in ROWS if row.rung != "kill"], ids=lambda r: r.name)
def test_stop_on_busy_cores(
    row: Row, stage: MakeStage, monkeypatch: pytest.MonkeyPatch, busy_cores: int
) -> None:
    """Whoever has to wait for a core stops later, but on the same rung."""
    monkeypatch.setenv("ANDON_TEST_START_METHOD", "fork")
    stop_siblings(row, "fork", stage)


def stop_siblings(row: Row, start_method: str, stage: MakeStage) -> None:
    here, cleaned, go, started = stage("here"), stage("cleaned"), stage("go"), stage("started")
    words: list[dict[str, Any]] = []
    began = time.monotonic()
    with andon.Pool(WORKERS, start_method=start_method) as pool:
        with (
            pytest.raises(ExceptionGroup) as caught,
            andon.TaskGroup(pool=pool, grace=row.grace, kill_after=row.kill_after) as tg,
        ):
            bad = tg.submit(fail_when, go)
            for _ in range(SIBLINGS):
                tg.submit(row.task, here, cleaned)
            for _ in range(WAITING):
                tg.submit(note, started)
            words += map(json.loads, here.wait(SIBLINGS))
            began = time.monotonic()
            go.release()
        took = time.monotonic() - began
        assert [str(e) for e in caught.value.exceptions] == ["the bad one"]

        # Gone now, not soon: the `with` has waited for it. Only a worker that has unwound, and that
        # nothing is left in, may be idle, and on its way out (S5, S51).
        workers = [word["pid"] for word in words]
        others = [pid for word in words for pid in word["others"]]
        assert [pid for pid in others if alive(pid)] == [], "left behind"
        assert len(set(workers)) == SIBLINGS
        if row.reused is False and row.rung != "kill":
            wait_gone(workers)
        elif row.reused is not None:
            assert [alive(pid) for pid in workers] == [row.reused] * SIBLINGS

        # One failure, its siblings stopped on their rung, and the rest never started.
        (error,) = caught.value.exceptions
        assert isinstance(error, ValueError)
        assert bad.exception() is error
        assert tg.verdict == "failed" and tg.reason is not None
        assert (tg.reason.kind, tg.reason.source) == ("failure", 0)
        siblings = tg.outcomes[1 : 1 + SIBLINGS]
        assert [o.stopped_by for o in siblings] == [row.rung] * SIBLINGS
        state = "succeeded" if row.rung == "returned" else "cancelled"
        assert [o.state for o in siblings] == [state] * SIBLINGS
        for outcome in siblings:
            assert outcome.started is True and outcome.cancel_requested
            assert outcome.cleanup_error is None
            if row.stack is None:
                assert outcome.stack is None
            elif outcome.stack is not None:
                assert row.stack in outcome.stack
            else:  # the kill does not wait for the dump of a victim that gets no core (ladder.py)
                assert crowded(), "no stack on a machine that is not busy"
        waited = tg.outcomes[1 + SIBLINGS :]
        assert [(o.state, o.started) for o in waited] == [("cancelled", False)] * WAITING
        assert {o.stopped_by for o in waited} == {"never-started"}
        assert started.reached() == []
        assert len(cleaned.reached()) == row.says * SIBLINGS
        assert tg.stats.submitted == tg.stats.done == len(tg.outcomes) == WORKERS + WAITING

        # In time: no grace is waited for that need not be, and no kill is late.
        bound = SLACK
        if row.rung == "kill":
            bound += row.kill_after
        assert took < bound

        # And on it goes.
        pids = meet_all(pool, stage)
        if row.reused is not None:
            assert [pid in pids for pid in workers] == [row.reused] * SIBLINGS


def meet_all(pool: andon.Pool, stage: MakeStage) -> set[int]:
    """The pids of all workers of a pool, each of which has run a task beside the others."""
    here, go = stage("meet"), stage("part")
    with andon.TaskGroup(pool=pool) as tg:
        futures = [tg.submit(meet, here, go) for _ in range(WORKERS)]
        pids = {int(word) for word in here.wait(WORKERS)}
        go.release(WORKERS)
    assert {future.result() for future in futures} == pids
    assert len(pids) == WORKERS
    return pids
