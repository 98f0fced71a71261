"""Single calls that travel together: each has its own future, outcome and fate all the same.

`ANDON_CALLS=200` for two hundred random runs per start method, instead of three.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future as StandardFuture
from concurrent.futures import wait
from contextlib import suppress
from types import FrameType, SimpleNamespace
from typing import Any, ClassVar

import pytest

import andon
from andon._core.machine import Machine
from andon._core.table import GroupTrigger
from andon._engines.port import Pace
from andon._runtime import calls, handing
from andon._runtime.calls import Calls
from andon._runtime.groups import Group
from andon.outcome import StoppedBy, TaskState
from tests.support import PATIENCE, Stage, dice, eventually

MANY = 3000
RUNS = int(os.environ.get("ANDON_CALLS", "3"))


def negate(x: int, *, twice: bool = False) -> int:
    return x if twice else -x


def die(x: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return x


def fail(x: int) -> int:
    raise ValueError(x)


def busy(stage: Stage) -> None:
    stage.reach()
    stage.hold()


class Odd:
    """Is unpickled in the parent only."""

    def __init__(self, x: int) -> None:
        self.x = x


@pytest.fixture
def pool(start_method: str) -> Iterator[andon.ProcessPoolExecutor]:
    with andon.ProcessPoolExecutor(2, start_method=start_method) as executor:
        yield executor


def warmed(group: Group, submit: Callable[..., StandardFuture[Any]]) -> None:
    """From now on short calls travel together."""
    deadline = time.monotonic() + PATIENCE
    while group.calls._most < 64:
        assert time.monotonic() < deadline, "they never travel together"
        wait([submit(negate, i) for i in range(200)])


def held(submit: Callable[..., StandardFuture[Any]], stage: Stage) -> list[StandardFuture[Any]]:
    """Both workers are busy until the stage is released, twice; and a call stands ahead."""
    holding = [submit(busy, stage) for _ in range(2)]
    stage.wait(2)
    return [*holding, submit(negate, 0)]


def test_thousands_of_calls_have_an_outcome_each(
    start_method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    class Bundle(calls.Bundle):
        def __init__(self, group: Any, futures: list[Any]) -> None:
            sizes.append(len(futures))
            super().__init__(group, futures)

    monkeypatch.setattr(handing, "Bundle", Bundle)
    with andon.TaskGroup(workers=2, start_method=start_method) as tg:
        futures = [tg.submit(negate, i) for i in range(MANY)]
        futures += [tg.submit(negate, i, twice=True) for i in range(MANY)]
        assert tg.stats.submitted == 2 * MANY
        wait(futures)
        assert max(sizes) > 1
        mapped = list(tg.map(negate, range(10)))
    assert [f.result() for f in futures] == [-i for i in range(MANY)] + list(range(MANY))
    assert mapped == [-i for i in range(10)]
    assert [o.index for o in tg.outcomes] == list(range(2 * MANY + 10))
    assert [o.value for o in tg.outcomes] == [f.result() for f in futures] + mapped


def test_functions_and_kinds_of_arguments_may_alternate(pool: andon.ProcessPoolExecutor) -> None:
    warmed(pool._loose, pool.submit)
    futures: list[tuple[StandardFuture[Any], Any]] = []
    for i in range(500):
        futures.append((pool.submit(negate, i), -i))
        if i % 3 == 0:
            futures.append((pool.submit(abs, -i), i))
        if i % 7 == 0:
            futures.append((pool.submit(negate, i, twice=True), i))
        if i % 11 == 0:
            futures.append((pool.submit(lambda x: x + 1, i), i + 1))
        if i % 13 == 0:
            futures.append((pool.submit(len, bytes(100_000 + i)), 100_000 + i))
        if i % 17 == 0:
            futures.append((pool.submit(sorted, [2, i, 1], reverse=True), sorted([2, i, 1])[::-1]))
    for future, value in futures:
        assert future.result(PATIENCE) == value


def test_results_that_are_no_plain_values(pool: andon.ProcessPoolExecutor) -> None:
    warmed(pool._loose, pool.submit)
    assert [f.result().x for f in [pool.submit(Odd, i) for i in range(200)]] == list(range(200))


def test_S28_what_cannot_travel_fails_alone(pool: andon.ProcessPoolExecutor) -> None:
    warmed(pool._loose, pool.submit)
    futures = [pool.submit(negate, i) for i in range(50)]
    bad = pool.submit(negate, (i for i in range(3)))  # type: ignore[arg-type]
    back = pool.submit(iter, [1])
    futures += [pool.submit(negate, i) for i in range(50, 100)]
    assert [f.result(PATIENCE) for f in futures] == [-i for i in range(100)]
    assert isinstance(bad.exception(PATIENCE), andon.SerializationError)
    assert list(back.result(PATIENCE)) == [1]


def test_S35_a_call_that_waits_is_cancelled_at_once(
    pool: andon.ProcessPoolExecutor, stage: Callable[..., Stage]
) -> None:
    warmed(pool._loose, pool.submit)
    gate = stage()
    holding = held(pool.submit, gate)
    futures = [pool.submit(negate, i) for i in range(100)]
    for future in futures[::2]:
        assert future.cancel() and future.cancelled()
        with pytest.raises(andon.TaskCancelledError) as caught:
            future.result()
        assert caught.value.started is False
        assert caught.value.stopped_by is StoppedBy.NEVER_STARTED
    gate.release(2)
    assert [f.result(PATIENCE) for f in futures[1::2]] == [-i for i in range(1, 100, 2)]
    wait(holding)


def test_S35_a_call_that_runs_is_stopped_and_none_that_came_with_it(
    pool: andon.ProcessPoolExecutor, stage: Callable[..., Stage]
) -> None:
    warmed(pool._loose, pool.submit)
    gate, place = stage(), stage()
    holding = held(pool.submit, gate)
    before = [pool.submit(negate, i) for i in range(5)]
    long = pool.submit(reach_and_sleep, place)
    after = [pool.submit(negate, i) for i in range(5)]
    unbegun = pool.submit(negate, 99)
    gate.release(2)
    place.wait()
    long.cancel()
    with pytest.raises(andon.TaskCancelledError) as caught:
        long.result(PATIENCE)
    assert caught.value.started is True
    assert [f.result(PATIENCE) for f in before + after] == [-i for i in range(5)] * 2
    assert unbegun.result(PATIENCE) == -99
    wait(holding)


def reach_and_sleep(place: Stage) -> None:
    place.reach()
    time.sleep(60)


def nap(x: int, place: Stage | None = None) -> int:
    if place is not None:
        place.reach()
        place.hold()
    return x


def test_S35_a_call_behind_one_that_runs_never_starts(
    start_method: str, stage: Callable[..., Stage]
) -> None:
    """One worker: they travel together, and nobody else can take what stands behind."""
    with andon.TaskGroup(workers=1, start_method=start_method, policy=andon.collect_all()) as tg:
        group = tg._entered().group
        warmed(group, tg.submit)
        gate, place = stage(), stage()
        holding = tg.submit(busy, gate)
        gate.wait()
        ahead = tg.submit(nap, 0)
        long = tg.submit(nap, 1, place)
        behind = [tg.submit(nap, i, None) for i in range(2, 12)]
        assert group.calls
        gate.release()
        place.wait()
        doomed = behind[4]
        doomed.cancel()
        with pytest.raises(andon.TaskCancelledError) as caught:
            doomed.result(PATIENCE)
        assert caught.value.started is False
        place.release()
        assert long.result(PATIENCE) == 1
        assert [f.result(PATIENCE) for f in behind if f is not doomed] == [
            2,
            3,
            4,
            5,
            *range(7, 12),
        ]
        wait([holding, ahead])
    counts = [o.state for o in tg.outcomes]
    assert counts.count(TaskState.CANCELLED) == 1
    assert [o.cancel_requested for o in tg.outcomes].count(True) == 1


def test_S23_a_failure_stops_all_that_wait_and_what_is_done_stays(
    start_method: str, stage: Callable[..., Stage]
) -> None:
    gate = stage()
    with pytest.raises(ExceptionGroup) as caught:
        with andon.TaskGroup(workers=2, start_method=start_method) as tg:
            group = tg._entered().group
            warmed(group, tg.submit)
            done = group.stats.submitted
            held(tg.submit, gate)
            futures = [tg.submit(negate if i != 20 else fail, i) for i in range(1000)]
            gate.release(2)
    (error,) = caught.value.exceptions
    assert isinstance(error, ValueError) and error.args == (20,)
    assert "task" in "".join(error.__notes__) and "fail(20)" in "".join(error.__notes__)
    assert len(tg.outcomes) == done + 3 + 1000
    for i, (future, outcome) in enumerate(zip(futures, tg.outcomes[done + 3 :], strict=True)):
        assert future.done()
        if outcome.state is TaskState.SUCCEEDED:
            assert future.result() == outcome.value == -i
        elif i != 20:
            assert outcome.state is TaskState.CANCELLED
            assert future.cancelled()
    assert [o.state for o in tg.outcomes].count(TaskState.FAILED) == 1


def test_S25_a_death_fails_the_call_that_ran_alone(pool: andon.ProcessPoolExecutor) -> None:
    warmed(pool._loose, pool.submit)
    futures = [pool.submit(negate if i % 40 else die, i) for i in range(1, 100)]
    for i, future in enumerate(futures, 1):
        if i % 40:
            assert future.result(PATIENCE) == -i
        else:
            assert isinstance(future.exception(PATIENCE), andon.WorkerDiedError)


def test_what_stands_behind_a_long_call_runs_elsewhere(
    pool: andon.ProcessPoolExecutor, stage: Callable[..., Stage]
) -> None:
    warmed(pool._loose, pool.submit)
    gate, place = stage(), stage()
    holding = held(pool.submit, gate)
    futures = [pool.submit(nap, i, place if i == 3 else None) for i in range(40)]
    gate.release(2)
    place.wait()
    assert [f.result(PATIENCE) for f in futures if f is not futures[3]] == [0, 1, 2, *range(4, 40)]
    assert futures[3].running() and not futures[3].done()
    place.release()
    assert futures[3].result(PATIENCE) == 3
    wait(holding)


def test_S5_a_body_that_is_left_waits_for_all_its_calls(
    start_method: str, stage: Callable[..., Stage]
) -> None:
    gate = stage()
    with andon.TaskGroup(workers=2, start_method=start_method) as tg:
        warmed(tg._entered().group, tg.submit)
        held(tg.submit, gate)
        futures = [tg.submit(negate, i) for i in range(1000)]
        gate.release(2)
    assert [f.result(0) for f in futures] == [-i for i in range(1000)]


def test_S30_a_deadline_cancels_those_that_wait(
    pool: andon.ProcessPoolExecutor, stage: Callable[..., Stage]
) -> None:
    warmed(pool._loose, pool.submit)
    gate = stage()
    with pytest.raises(ExceptionGroup):
        with andon.TaskGroup(pool=pool, deadline=2.0, kill_after=0.1) as tg:
            for _ in range(2):
                tg.submit(gate.hold)
            futures = [tg.submit(negate, i) for i in range(1000)]
    assert all(f.cancelled() for f in futures)
    assert len(tg.outcomes) == 1002


def test_a_shutdown_cancels_those_that_wait(start_method: str, stage: Callable[..., Stage]) -> None:
    gate = stage()
    pool = andon.ProcessPoolExecutor(2, start_method=start_method)
    try:
        warmed(pool._loose, pool.submit)
        holding = held(pool.submit, gate)
        futures = [pool.submit(negate, i) for i in range(1000)]
        pool.shutdown(wait=False, cancel_futures=True)
        eventually(lambda: all(f.cancelled() for f in futures), what="cancelled")
        gate.release(2)
        assert [f.result(PATIENCE) for f in holding[:2]] == [None, None]
    finally:
        gate.release(2)
        pool.shutdown()


def test_S29_a_timeout_is_each_calls_own(pool: andon.ProcessPoolExecutor) -> None:
    with andon.TaskGroup(pool=pool, policy=andon.collect_all()) as tg:
        warmed(tg._entered().group, tg.submit)
        futures = [tg.submit(time.sleep, 0) for _ in range(50)]
        late = tg.submit(time.sleep, 60, timeout=0.05)
        futures += [tg.submit(time.sleep, 0, timeout=30) for _ in range(50)]
        assert isinstance(late.exception(PATIENCE), andon.TaskTimeoutError)
    assert [f.result() for f in futures] == [None] * 100


@pytest.mark.parametrize("seed", range(RUNS))
def test_S4_whatever_becomes_of_each(start_method: str, seed: int) -> None:
    """Calls of all kinds, cancelled at random moments: each has one outcome, and the right one."""
    rng = dice("calls", start_method, seed)
    kinds: dict[StandardFuture[Any], tuple[str, int]] = {}
    asked: set[StandardFuture[Any]] = set()
    with andon.ProcessPoolExecutor(2, start_method=start_method, grace=0.05) as pool:
        if seed % 3:  # else the group is new, and nothing known of its calls
            warmed(pool._loose, pool.submit)
        for i in range(3000):
            kind = rng.choices(["negate", "fail", "nap", "die"], [2000, 20, 10, 2])[0]
            if kind == "nap":
                future = pool.submit(time.sleep, rng.choice([0.001, 0.03]))
            else:
                future = pool.submit(globals()[kind], i)
            kinds[future] = kind, i
            if rng.random() < 0.02:
                victim = rng.choice(list(kinds)[-50:])
                if not victim.done() and victim.cancel():
                    asked.add(victim)
    for future, (kind, i) in kinds.items():
        assert future.done()
        if future.cancelled():
            assert future in asked
        elif kind == "negate":
            assert future.result() == -i
        elif kind == "fail":
            assert isinstance(future.exception(), ValueError)
        elif kind == "die":
            assert isinstance(future.exception(), andon.WorkerDiedError)
        else:
            assert future.result() is None
    stats = pool._loose.stats
    assert stats.submitted == stats.done >= 3000


def test_S5_a_body_that_is_left_is_over_where_the_last_call_that_waits_is_cancelled(
    start_method: str, stage: Callable[..., Stage]
) -> None:
    gate = stage()
    with andon.TaskGroup(workers=2, start_method=start_method) as tg:
        group = tg._entered().group
        holding = held(tg.submit, gate)
        last = tg.submit(negate, 1)

        def cancel() -> None:
            eventually(lambda: group.body_left, what="left")
            last.cancel()
            gate.release(2)

        canceller = threading.Thread(target=cancel)
        canceller.start()
    canceller.join()
    assert last.cancelled() and all(f.done() for f in holding)


def test_a_call_that_is_cancelled_keeps_its_number(
    start_method: str, stage: Callable[..., Stage]
) -> None:
    gate = stage()
    with andon.TaskGroup(workers=2, start_method=start_method) as tg:
        held(tg.submit, gate)
        futures = [tg.submit(negate, i) for i in range(20)]
        for i in (17, 5, 6):
            assert futures[i].cancel()
        gate.release(2)
    values = [o.value if i not in (5, 6, 17) else o.state for i, o in enumerate(tg.outcomes[3:])]
    assert values == [-i if i not in (5, 6, 17) else TaskState.CANCELLED for i in range(20)]


class Submits:
    """Garbage that submits, and cancels, wherever it is collected; and leaves more of it."""

    calls: ClassVar[list[tuple[StandardFuture[Any], int]]] = []
    submit: ClassVar[Callable[..., StandardFuture[Any]] | None] = None

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        submit, calls = Submits.submit, Submits.calls
        if submit is not None and len(calls) < 5000:
            number = len(calls)
            calls.append((submit(negate, number), -number))
            if number % 3 == 0:
                calls[number // 2][0].cancel()
            Submits()


def test_what_a_finalizer_submits_or_cancels_harms_no_other_call(
    pool: andon.ProcessPoolExecutor,
) -> None:
    warmed(pool._loose, pool.submit)
    Submits.calls, Submits.submit = [], pool.submit
    before = gc.get_threshold()
    gc.set_threshold(13, 5, 1000)
    try:
        Submits()
        futures = [pool.submit(negate, i) for i in range(2000)]
        assert [f.result(PATIENCE) for f in futures] == [-i for i in range(2000)]
    finally:
        Submits.submit = None
        gc.set_threshold(*before)
    assert Submits.calls
    for future, value in Submits.calls:
        wait([future], PATIENCE)
        assert future.cancelled() or future.result(0) == value
    assert sum(f.cancelled() for f, _ in Submits.calls) <= len(Submits.calls) // 3 + 1


def hold_and(end: Callable[[int], int], stage: Stage) -> int:
    stage.reach()
    stage.hold()
    return end(1)


@pytest.mark.parametrize("how", ["cancelled", "stopped", "died"])
def test_S47_calls_that_come_after_the_body_was_left(how: str, stage: Callable[..., Stage]) -> None:
    """They wait behind one that never runs to its end, and still their group ends with them."""
    first, second = stage("first"), stage("second")
    late: list[StandardFuture[Any]] = []
    with andon.Pool(1) as pool:
        with suppress(ExceptionGroup), andon.TaskGroup(pool=pool) as tg:
            group = tg._entered().group

            def submit_more(_: object) -> None:
                eventually(lambda: group.leaving_told, what="left")
                second.wait()
                late.extend([tg.submit(negate, i) for i in range(3)])
                if how == "cancelled":
                    late[0].cancel()
                elif how == "stopped":
                    tg.cancel("enough")
                second.release()

            tg.submit(hold_and, negate, first).add_done_callback(submit_more)
            tg.submit(hold_and, die if how == "died" else negate, second)
            first.wait()
            first.release()
        assert tg.stats.submitted == tg.stats.done == 5
        assert [f.cancelled() for f in late] == [True, *[how != "cancelled"] * 2]
        assert pool.apply(negate, (1,)) == -1


def test_S3_a_finalizer_leaves_the_body_while_a_call_is_on_its_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the submitting thread, under the lock, between the look and the hand-over."""
    with andon.Pool(1) as pool, andon.TaskGroup(pool=pool) as tg:
        group = tg._entered().group
        look, places = Calls.may_go, [0]

        def may_go(calls: Calls) -> bool:
            found = look(calls)
            if calls is group.calls and places:
                places.clear()
                group.runtime.leave_body(group)
            return found

        monkeypatch.setattr(Calls, "may_go", may_go)
        future = tg.submit(negate, 1)
        assert not places
        assert future.result(PATIENCE) == -1
    assert (tg.verdict, tg.stats.submitted, tg.stats.succeeded) == (andon.Verdict.OK, 1, 1)


@pytest.mark.parametrize("stops", [False, True])
@pytest.mark.parametrize("place", ["_check_usable", "_count", "_hand_over_waiting", "_hand_over"])
def test_S3_a_finalizer_ends_the_group_while_items_of_a_map_are_on_their_way(
    place: str, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with andon.Pool(1) as pool:
        with andon.TaskGroup(pool=pool) as tg:
            group = tg._entered().group
            step, armed = getattr(handing.Handing, place), [0]

            def interrupted(*args: Any, **kwargs: Any) -> None:
                if group.calls.handing and armed:
                    armed.clear()
                    if stops:
                        tg.cancel("enough")
                    group.runtime.leave_body(group)
                step(*args, **kwargs)

            monkeypatch.setattr(handing.Handing, place, interrupted)
            got = []
            with suppress(andon.GroupClosedError):
                got += tg.imap(negate, range(6), chunksize=3, return_outcomes=True)
            assert not armed
        assert tg.stats.submitted == tg.stats.done
        assert tg.verdict is (andon.Verdict.CANCELLED if stops else andon.Verdict.OK)
        assert {o.started for o in tg.outcomes} <= {not stops}
        assert len(got) <= tg.stats.done
        assert pool.apply(negate, (1,)) == -1


def test_S14_a_finalizer_submits_as_its_group_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the driver's thread, within the very event: it is told so, and the pool lives."""
    with andon.Pool(1) as pool:
        with andon.TaskGroup(pool=pool) as tg:
            group = tg._entered().group
            move, told = Machine._move_group, []

            def interrupted(machine: Machine, record: Any, *why: Any) -> None:
                if record.id == group.id and why[0] is GroupTrigger.CLOSE:
                    for submit in (tg.submit, tg.map):
                        with pytest.raises(andon.GroupClosedError, match=r"over \(ok\)") as caught:
                            list(submit(negate, [1]))  # type: ignore[call-overload]
                        told.append(caught.value)
                move(machine, record, *why)

            monkeypatch.setattr(Machine, "_move_group", interrupted)
            future = tg.submit(negate, 1)
        assert len(told) == 2
        assert future.result(0) == -1 and tg.stats.submitted == tg.stats.done == 1
        assert pool.apply(negate, (1,)) == -1


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("name", ["submit", "map"])
def test_S3_there_is_no_room_for_what_was_counted(
    name: str, left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with andon.Pool(1) as pool:
        with andon.TaskGroup(pool=pool) as tg:
            group = tg._entered().group

            def no_room(*args: Any, **kwargs: Any) -> None:
                monkeypatch.undo()
                if left:
                    group.runtime.leave_body(group)
                raise MemoryError

            monkeypatch.setattr(handing.Handing, "_hand_over", no_room)
            with pytest.raises(MemoryError):
                list(tg.map(negate, range(3))) if name == "map" else tg.submit(negate, 1)
        assert (tg.verdict, tg.stats.submitted) == (andon.Verdict.OK, 0)
        assert pool.apply(negate, (1,)) == -1


def test_a_group_begins_with_what_others_have_found_and_keeps_it() -> None:
    """Also where its first call went past those that wait."""
    pace = Pace()
    pace.together = 64
    engine: Any = SimpleNamespace(slots=2, bundle=lambda packed: packed, pace=lambda packed: pace)
    group = Calls(engine, andon.fail_fast(), calls.Waiting())
    group.measured("packed", 1e-6)
    assert group._most == pace.together == 128
    group.measured("packed", 1e-6)
    assert group._most == pace.together == 256
    group.measured("packed", 0.001)  # that one took long
    assert group._most == pace.together == 5


def test_a_bundle_is_worth_its_way_however_many_workers_there_are() -> None:
    together: list[int] = []

    def bundle(packed: Any) -> tuple[Any, int]:
        together.append(len(list(packed)))
        return "bundle", together[-1]

    engine: Any = SimpleNamespace(slots=1000, bundle=bundle, pace=lambda packed: Pace())
    group = Calls(engine, andon.fail_fast(), calls.Waiting())
    for _ in range(10):
        group.measured("packed", 4.8e-6)
    assert group._most == 1024
    for i in range(100):
        future: Any = SimpleNamespace(_dropped=False, _index=i, _timeout=None, _packed="packed")
        group.add(future)
    assert len(group.next()[1]) == together[-1] == 20, "a tenth of a millisecond of work"


def test_a_worker_for_one_task_gets_no_other(start_method: str) -> None:
    with andon.ProcessPoolExecutor(2, start_method=start_method, max_tasks_per_child=1) as pool:
        futures = [pool.submit(pid_of, i) for i in range(12)]
        assert len({f.result(PATIENCE) for f in futures}) == 12


def pid_of(_: int) -> int:
    return os.getpid()


class SlowToTake:
    """Takes its time as it is unpickled, once its file is there."""

    def __init__(self, place: Stage | None) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return _take_slowly, (self.place,)


def _take_slowly(place: Stage | None) -> None:
    if place is not None:
        place.reach()
        place.hold()


def take(x: object, place: Stage | None = None) -> None:
    if place is not None:
        place.reach()
        place.hold()


def test_S35_a_call_whose_arguments_are_unpickled_alone_never_starts(
    start_method: str, stage: Callable[..., Stage]
) -> None:
    """It came with others, of which one was long: so each goes alone now."""
    with andon.TaskGroup(workers=1, start_method=start_method, policy=andon.collect_all()) as tg:
        group = tg._entered().group
        warmed(group, tg.submit)
        gate, place, slow = stage(), stage(), stage()
        tg.submit(busy, gate)
        gate.wait()
        tg.submit(take, SlowToTake(None))
        tg.submit(take, SlowToTake(None), place)
        doomed = tg.submit(take, SlowToTake(slow))
        last = tg.submit(take, SlowToTake(None))
        gate.release()
        place.wait()
        time.sleep(0.1)  # until the others are given back
        place.release()
        slow.wait()
        assert doomed.cancel()
        slow.release()
        with pytest.raises(andon.TaskCancelledError) as caught:
            doomed.result(PATIENCE)
        assert caught.value.started is False
        assert last.result(PATIENCE) is None


def test_a_result_goes_when_its_future_does_though_another_call_is_under_way(
    pool: andon.ProcessPoolExecutor, stage: Callable[..., Stage]
) -> None:
    warmed(pool._loose, pool.submit)
    gate, place = stage(), stage()
    held(pool.submit, gate)
    short = [pool.submit(Odd, i) for i in range(5)]
    bundle = [pool.submit(Odd, i) for i in range(5)]
    long = pool.submit(nap, 1, place)
    gate.release(2)
    place.wait()
    values = [weakref.ref(f.result(PATIENCE)) for f in short + bundle]
    del short, bundle
    eventually(lambda: all(v() is None for v in values), what="gone")
    place.release()
    assert long.result(PATIENCE) == 1


def test_to_cancel_calls_that_wait_one_by_one_takes_each_as_long(
    pool: andon.ProcessPoolExecutor, stage: Callable[..., Stage]
) -> None:
    """Counted in lines, whatever the machine has to do beside."""
    steps = {}
    for count in (100, 1600):
        while pool._loose.calls._most < count:
            wait([pool.submit(negate, i) for i in range(200)])
        gate, ahead = stage(), stage()
        holding = held(pool.submit, gate)
        assert holding.pop().cancel()
        holding.append(pool.submit(busy, ahead))
        futures = [pool.submit(negate, i) for i in range(count)]
        gate.release()
        ahead.wait()  # now half of them travel together, and wait for a worker
        eventually(lambda: len(pool._loose.calls) <= count // 2, what="bundled")  # noqa: B023
        steps[count] = lines(lambda futures=futures: [f.cancel() for f in futures]) / count  # type: ignore[misc]
        assert all(f.cancelled() for f in futures)
        gate.release()
        ahead.release()
        assert [f.result(PATIENCE) for f in holding] == [None] * 3
    assert steps[1600] < 1.5 * steps[100], steps


def lines(call: Callable[[], object]) -> int:
    """How many lines of andon's own code does this thread run for it?"""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if "/andon/" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return count


def test_the_first_call_that_waits_in_a_new_group_is_cancelled(
    pool: andon.ProcessPoolExecutor, stage: Callable[..., Stage]
) -> None:
    """Nothing is known of the group's calls yet; what others have found is asked for the next."""
    gate = stage()
    holding = held(pool.submit, gate)
    first, *others = [pool.submit(negate, i) for i in range(3)]
    assert first.cancel() and first.cancelled()
    gate.release(2)
    assert [f.result(PATIENCE) for f in others] == [-1, -2]
    wait(holding)
