"""Single calls that wait for others though workers are idle: none of them waits for long.

The rules: S4, S5, S9, S14, S30, S35.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future as StandardFuture
from concurrent.futures import wait
from contextlib import suppress
from typing import Any

import pytest

import andon
from andon._runtime import calls, flow, handing
from andon._runtime.groups import Group
from tests.support import PATIENCE, Stage, dice, eventually

WORKERS = 3
MakeStage = Callable[..., Stage]


def negate(x: int) -> int:
    return -x


def busy_fail(stage: Stage) -> None:
    busy(stage, 0)
    raise ValueError("enough")


def fail(x: int) -> int:
    raise ValueError(x)


def busy(stage: Stage, number: int) -> int:
    stage.reach()
    stage.hold()
    return number


@pytest.fixture(autouse=True)
def all_are_brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they take, so that it does not depend on the machine: one is under way at a time."""
    monkeypatch.setattr(flow, "_BRIEF", PATIENCE)
    monkeypatch.setattr(flow, "_SUBMITTING", 2 * PATIENCE)
    monkeypatch.setattr(calls, "HARDLY_ANY", 0)  # however few workers there are


@pytest.fixture
def for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether what is under way takes long."""
    monkeypatch.setattr(handing, "HELD", PATIENCE)


@pytest.fixture
def pool(start_method: str) -> Iterator[andon.ProcessPoolExecutor]:
    with andon.ProcessPoolExecutor(WORKERS, start_method=start_method) as executor:
        yield executor


def warmed(group: Group, submit: Callable[..., StandardFuture[Any]]) -> None:
    """From now on calls are held."""
    deadline = time.monotonic() + PATIENCE
    while group.calls.flow._at_once != 1:
        assert time.monotonic() < deadline, "they are never held"
        wait([submit(negate, i) for i in range(50)])


def behind(
    submit: Callable[..., StandardFuture[Any]], group: Group, stage: Stage
) -> tuple[StandardFuture[Any], list[StandardFuture[Any]]]:
    """One that is under way until the stage is released, and some that are held behind it."""
    warmed(group, submit)
    first = submit(busy, stage, 1)
    stage.wait()
    others = [submit(negate, i) for i in range(100)]
    assert len(group.calls) == 100 and group.calls.ahead is None
    return first, others


def test_long_calls_do_not_hold_up_others(
    pool: andon.ProcessPoolExecutor, stage: MakeStage
) -> None:
    place = stage()
    warmed(pool._loose, pool.submit)
    futures = [pool.submit(busy, place, i) for i in range(WORKERS)]
    place.wait(WORKERS)  # they are there at the same time
    place.release(WORKERS)
    assert [f.result(PATIENCE) for f in futures] == list(range(WORKERS))
    eventually(lambda: not pool._runtime._held, what="nobody looks at it any more")


def test_those_behind_one_that_is_cancelled_go_on(
    pool: andon.ProcessPoolExecutor, stage: MakeStage
) -> None:
    place = stage()
    calls = pool._loose.calls
    long = [pool.submit(busy, place, i) for i in range(WORKERS)]
    place.wait(WORKERS)
    ahead, *others = [pool.submit(negate, i) for i in range(3)]
    assert calls.ahead is not None and len(calls) == 2
    calls.flow._at_once = 1  # as brief calls that came in between would make it
    assert ahead.cancel() and ahead.cancelled()
    place.release()
    assert [f.result(PATIENCE) for f in others] == [-1, -2]
    assert not all(f.done() for f in long)
    place.release(WORKERS - 1)
    assert [f.result(PATIENCE) for f in long] == list(range(WORKERS))


def test_brief_calls_pass_a_long_one(pool: andon.ProcessPoolExecutor, stage: MakeStage) -> None:
    place = stage()
    warmed(pool._loose, pool.submit)
    first = pool.submit(busy, place, 1)
    place.wait()
    assert [pool.submit(negate, i).result(PATIENCE) for i in range(200)] == [-i for i in range(200)]
    assert not first.done()
    place.release()
    assert first.result(PATIENCE) == 1


@pytest.mark.usefixtures("for_ever")
def test_a_call_with_a_timeout_holds_up_no_other(start_method: str, stage: MakeStage) -> None:
    """It travels alone, so nothing is gained by that."""
    place = stage()
    with andon.TaskGroup(workers=WORKERS, start_method=start_method) as tg:
        warmed(tg._entered().group, tg.submit)
        first = tg.submit(busy, place, 1, timeout=PATIENCE)
        place.wait()
        assert [tg.submit(negate, i).result(PATIENCE) for i in range(20)] == [-i for i in range(20)]
        place.release()
    assert first.result() == 1


@pytest.mark.usefixtures("for_ever")
def test_where_workers_are_few_none_is_held(
    start_method: str, stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "HARDLY_ANY", WORKERS)
    place = stage()
    with andon.ProcessPoolExecutor(WORKERS, start_method=start_method) as pool:
        wait([pool.submit(negate, i) for i in range(2 * flow._LATELY)])
        first = pool.submit(busy, place, 1)
        place.wait()
        assert pool.submit(negate, 1).result(PATIENCE) == -1
        place.release()
        assert first.result(PATIENCE) == 1


@pytest.mark.usefixtures("for_ever")
def test_they_go_when_it_is_back(pool: andon.ProcessPoolExecutor, stage: MakeStage) -> None:
    place = stage()
    first, others = behind(pool.submit, pool._loose, place)
    place.release()
    assert first.result(PATIENCE) == 1
    assert [f.result(PATIENCE) for f in others] == [-i for i in range(100)]


@pytest.mark.usefixtures("for_ever")
def test_S35_each_can_be_cancelled_and_so_can_what_they_wait_for(
    pool: andon.ProcessPoolExecutor, stage: MakeStage
) -> None:
    first, others = behind(pool.submit, pool._loose, stage())
    assert all(f.cancel() and f.cancelled() for f in others[::2])
    first.cancel()
    wait([first], PATIENCE)
    assert [f.result(PATIENCE) for f in others[1::2]] == [-i for i in range(1, 100, 2)]


@pytest.mark.usefixtures("for_ever")
@pytest.mark.parametrize("how", ["cancel", "body"])
def test_S9_a_stop_reaches_them(
    pool: andon.ProcessPoolExecutor, stage: MakeStage, how: str
) -> None:
    with suppress(RuntimeError, ExceptionGroup):
        with andon.TaskGroup(pool=pool, kill_after=0.1) as tg:
            first, others = behind(tg.submit, tg._entered().group, stage())
            if how == "body":
                raise RuntimeError("no more")
            tg.cancel("enough")
    assert first.cancelled() and all(f.cancelled() for f in others)
    assert not any(o.started for o in tg.outcomes[-100:])
    assert len(tg.outcomes) == tg.stats.submitted == tg.stats.done


@pytest.mark.usefixtures("for_ever")
def test_S14_so_does_a_failure_of_what_they_wait_for(
    pool: andon.ProcessPoolExecutor, stage: MakeStage
) -> None:
    place = stage()
    with pytest.raises(ExceptionGroup) as caught:
        with andon.TaskGroup(pool=pool) as tg:
            warmed(tg._entered().group, tg.submit)
            tg.submit(busy_fail, place)
            place.wait()
            others = [tg.submit(negate, i) for i in range(100)]
            place.release()
    assert [str(error) for error in caught.value.exceptions] == ["enough"]
    assert all(f.cancelled() for f in others)
    assert not any(o.started for o in tg.outcomes[-100:])


@pytest.mark.usefixtures("for_ever")
def test_S5_a_body_that_is_left_waits_for_them(
    pool: andon.ProcessPoolExecutor, stage: MakeStage
) -> None:
    place = stage()
    with andon.TaskGroup(pool=pool) as tg:
        _, others = behind(tg.submit, tg._entered().group, place)
        place.release()
    assert [f.result(0) for f in others] == [-i for i in range(100)]


@pytest.mark.usefixtures("for_ever")
def test_a_shutdown_cancels_them(start_method: str, stage: MakeStage) -> None:
    place = stage()
    pool = andon.ProcessPoolExecutor(WORKERS, start_method=start_method)
    first, others = behind(pool.submit, pool._loose, place)
    pool.shutdown(wait=False, cancel_futures=True)
    place.release()
    pool.shutdown()
    assert first.result(PATIENCE) == 1
    assert all(f.cancelled() for f in others)


@pytest.mark.usefixtures("for_ever")
def test_a_map_of_the_group_waits_for_nothing(
    pool: andon.ProcessPoolExecutor, stage: MakeStage
) -> None:
    place = stage()
    with andon.TaskGroup(pool=pool) as tg:
        _, others = behind(tg.submit, tg._entered().group, place)
        assert list(tg.map(negate, range(10))) == [-i for i in range(10)]
        assert [f.result(PATIENCE) for f in others] == [-i for i in range(100)]
        place.release()


@pytest.mark.parametrize("seed", range(3))
def test_S4_whatever_becomes_of_each(start_method: str, seed: int) -> None:
    """Calls of all kinds, cancelled at random moments: each has one outcome, and the right one."""
    rng = dice("flow", start_method, seed)
    kinds: dict[StandardFuture[Any], tuple[str, int]] = {}
    asked: set[StandardFuture[Any]] = set()
    with andon.ProcessPoolExecutor(WORKERS, start_method=start_method, grace=0.05) as pool:
        for i in range(600):
            kind = rng.choices(["negate", "fail", "nap"], [600, 20, 20])[0]
            future: StandardFuture[Any]
            if kind == "nap":
                future = pool.submit(time.sleep, rng.choice([0.0005, 0.002, 0.03]))
            else:
                future = pool.submit(globals()[kind], i)
            kinds[future] = kind, i
            if rng.random() < 0.02:
                asked.add(future)
                rng.choice(list(asked)).cancel()
        wait(kinds, PATIENCE)
        for future, (kind, i) in kinds.items():
            if future.cancelled():
                assert future in asked
            elif kind == "fail":
                assert isinstance(future.exception(0), ValueError)
            else:
                assert future.result(0) == (-i if kind == "negate" else None)
