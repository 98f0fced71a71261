"""Items of one span and of mixed length: none waits for one that takes long."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import andon
from andon._engines.port import Call
from andon._runtime import pacing, reading, sending
from tests.support import PATIENCE, Stage, eventually

MakeStage = Callable[..., Stage]


class Item:
    """One that does not travel as a plain value."""

    def __init__(self, number: int, running: Stage | None = None, go: Stage | None = None) -> None:
        self.number, self.running, self.go = number, running, go


def held(item: Item) -> Any:
    if item.running is not None and item.go is not None:
        item.running.reach(item.number)
        item.go.hold()
    return str(item.number) if item.number % 2 else item.number


def held_at(number: int, running: Stage, go: Stage, at: int) -> int:
    if number == at:
        running.reach()
        go.hold()
    return number


def dies_at(number: int, at: int, of: Callable[[int], Any]) -> Any:
    if number == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return of(number)


def test_S45_what_stands_beside_a_long_item_is_told_and_run_elsewhere(
    start_method: str, stage: MakeStage
) -> None:
    """All but the long one, before it and behind it, come while it still runs."""
    running, go = stage("running"), stage("go")
    with andon.TaskGroup(workers=2, start_method=start_method) as tg:
        items = [(i, running, go, 30) for i in range(100)]
        results = tg.imap(_starred_held_at, items, chunksize=100)
        got = [next(results) for _ in range(99)]
        assert sorted(got) == [i for i in range(100) if i != 30]
        running.wait()
        go.release()
        assert list(results) == [30]
    assert [o.value for o in tg.outcomes] == list(range(100))


def _starred_held_at(item: tuple[Any, ...]) -> int:
    return held_at(*item)


def _plain_held_at(number: int) -> int:
    return held_at(number, *_stages)


def _text_held_at(number: int) -> str:
    return str(_plain_held_at(number))


def _unplain_held_at(number: list[int]) -> Fraction:
    return Fraction(_plain_held_at(*number))


_stages: tuple[Any, ...] = ()


def _set_stages(*stages: Any) -> None:
    global _stages
    _stages = stages


@pytest.mark.parametrize(
    ("fn", "of", "numbers"),
    [
        (_plain_held_at, int, range(2000)),
        (_text_held_at, str, range(2000)),
        (_unplain_held_at, Fraction, [[i] for i in range(2000)]),
    ],
)
def test_S45_the_same_where_items_run_in_a_lane(
    stage: MakeStage, fn: Any, of: Any, numbers: Any
) -> None:
    running, go = stage("running"), stage("go")
    with andon.TaskGroup(workers=2, initializer=_set_stages, initargs=(running, go, 700)) as tg:
        results = tg.imap(fn, numbers, chunksize=2000)
        got = [next(results) for _ in range(1999)]
        assert sorted(map(int, got)) == [i for i in range(2000) if i != 700]
        go.release()
        assert list(results) == [of(700)]
    assert [o.value for o in tg.outcomes] == [of(i) for i in range(2000)]


def test_two_long_items_of_a_span_run_side_by_side(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with andon.TaskGroup(workers=2) as tg:
        items = [Item(i, running, go) if i in (3, 7) else Item(i) for i in range(20)]
        results = tg.imap(held, items, chunksize=20)
        assert len(running.wait(2)) == 2  # neither is released
        go.release()
        go.release()
        assert sorted(map(int, results)) == list(range(20))


def _held_below_zero(number: int) -> int:
    if number < 0:
        _stages[0].reach()
        _stages[1].hold()
    return number


@pytest.mark.parametrize("times", [1, 3])
def test_items_that_were_brief_before_and_are_long_now_run_side_by_side(
    stage: MakeStage, times: int
) -> None:
    """A map begins at the pace of the last one, with several items in each of a few spans. Nothing
    tells the driver of these: the caller has sent them, and no answer comes."""
    running, go = stage("running"), stage("go")
    with andon.Pool(6, initializer=_set_stages, initargs=(running, go, 0)) as pool:
        for _ in range(3):
            pool.map(_held_below_zero, range(20_000))
        with andon.TaskGroup(pool=pool) as tg:
            engine: Any = pool._runtime._engine
            eventually(lambda: engine._waiting)
            results = tg.imap(_held_below_zero, [-1] * 6 * times)
            for _ in range(times):
                running.wait(6)
                for _ in range(6):
                    go.release()
            assert list(results) == [-1] * 6 * times


def test_long_items_among_many_brief_ones_hold_no_idle_worker_back(stage: MakeStage) -> None:
    """Few spans are under way while items are brief, but not when each stands at a long one."""
    running, go = stage("running"), stage("go")
    with andon.Pool(12, initializer=_set_stages, initargs=(running, go, 0)) as pool:
        pool.map(_held_below_zero, range(20_000))
        items = [*range(1999), -1] * 12
        results = pool.map_async(_held_below_zero, items)
        running.wait(12)
        for _ in range(12):
            go.release()
        assert results.get(PATIENCE) == items


def test_a_stop_while_the_rest_of_a_span_runs_elsewhere(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with andon.TaskGroup(workers=2) as tg:
        items = [Item(i, running, go) if i in (3, 7, 11) else Item(i) for i in range(20)]
        tg.imap(held, items, chunksize=20)
        at = sorted(map(int, running.wait(2)))  # as the parts of the span came to the workers
        tg.cancel("enough")
    states = [o.state for o in tg.outcomes]
    assert len(states) == 20 and set(states) == {"succeeded", "cancelled"}
    assert [i for i in (3, 7, 11) if tg.outcomes[i].started] == at


@pytest.mark.parametrize("at", [0, 1, 500, 999])
@pytest.mark.parametrize("of", [int, str, Fraction])
def test_S45_items_that_ended_before_their_worker_died_are_delivered(at: int, of: Any) -> None:
    with andon.TaskGroup(workers=2, policy=andon.collect_all()) as tg:
        list(tg.map(partial(dies_at, at=at, of=of), range(1000), chunksize=1000))
    bad = [o for o in tg.outcomes if not o.ok]
    assert [o.index for o in bad] == [at]
    assert isinstance(bad[0].error, andon.WorkerDiedError)
    assert [o.value for o in tg.outcomes if o.ok] == [of(i) for i in range(1000) if i != at]


class Homesick:
    """Its pickle cannot be read at home, where a number says so."""

    def __init__(self, number: int, worker: int) -> None:
        self.number, self.worker = number, worker

    def __reduce__(self) -> Any:
        return come_home, (self.number, self.worker)


def come_home(number: int, worker: int) -> Any:
    if number % 10 == 3 and os.getpid() != worker:
        raise ZeroDivisionError("not here")
    return number, ..., "home"


def leave_home(number: int) -> Any:
    return Homesick(number, os.getpid()) if number % 2 else str(number)


@pytest.mark.parametrize("numbers", [range(200), [[i] for i in range(200)]])
def test_S28_results_that_cannot_be_unpickled_fail_alone(numbers: Any) -> None:
    with andon.TaskGroup(workers=1, policy=andon.collect_all()) as tg:
        fn = leave_home if isinstance(numbers, range) else partial(_of_first, leave_home)
        list(tg.map(fn, numbers, chunksize=100))
    for number, outcome in enumerate(tg.outcomes):
        if number % 10 == 3:
            assert isinstance(outcome.error, andon.SerializationError)
            assert (outcome.error.what, outcome.error.where) == ("the result", "parent")
            assert "ZeroDivisionError: not here" in str(outcome.error)
        else:
            assert outcome.value == ((number, ..., "home") if number % 2 else str(number))


def _of_first(fn: Callable[[int], Any], numbers: list[int]) -> Any:
    return fn(numbers[0])


def spun(number: int) -> int:
    for _ in range(3000):
        pass
    return number


@pytest.mark.parametrize("shared", [False, True])
def test_spans_are_shorter_where_others_wait_for_the_workers(
    shared: bool, stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Call] = []

    def submit_items(group: Any, call: Call, *args: Any, **kwargs: Any) -> None:
        sent.append(call)
        sending.submit_items(group, call, *args, **kwargs)

    monkeypatch.setattr(reading, "submit_items", submit_items)
    running, go = stage("running"), stage("go")
    with andon.Pool(2) as pool, andon.TaskGroup(pool=pool) as others:
        if shared:
            others.submit(held, Item(0, running, go))
            running.wait()
        assert pool.map(spun, range(10_000)) == list(range(10_000))
        go.release()
    most = pacing._SHARED if shared else pacing._LONG
    assert max(call.seconds for call in sent if len(call.items) > 1) <= most
    assert sum(len(call.items) for call in sent) == 10_000


def finds(path: str) -> bool:
    if os.path.exists(path):
        return True
    time.sleep(0.001)
    return False


def hold_all_but_one(path: str, go: Stage) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        go.hold()


@pytest.mark.parametrize("starting", [False, True])
def test_a_call_of_another_group_does_not_wait_for_the_whole_of_a_span(
    starting: bool, tmp_path: Path, stage: MakeStage
) -> None:
    """None of whose items is long: it is left alone only while nobody else wants its worker. Nor
    is a worker that starts any help as long as it does."""
    path, go = str(tmp_path / "called"), stage("go")
    many: tuple[Any, ...] = (2, hold_all_but_one, (str(tmp_path / "one"), go))
    with andon.Pool(*many if starting else (1,)) as pool, andon.TaskGroup(pool=pool) as spans:
        found = spans.imap(finds, [path] * 30_000, chunksize=30_000)
        with andon.TaskGroup(pool=pool) as calls:
            calls.submit(Path.touch, Path(path))
        assert list(found)[-1], "the call came before the last item"
        go.release()


def test_the_engine_is_told_whether_others_want_a_worker(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with andon.Pool(1) as pool, andon.TaskGroup(pool=pool) as one:
        one.submit(held, Item(0, running, go))
        running.wait()
        one.submit(same, 1)
        group = one._entered().group
        wanted = group.runtime.config.wanted
        assert not wanted(group.id), "its own tasks have their turn"
        with andon.TaskGroup(pool=pool) as other:
            other.submit(same, 2)
            assert wanted(group.id)
            go.release()


def same(item: Any) -> Any:
    return item


def spoils(item: list[int]) -> int:
    item.append(1)
    return len(item)


@pytest.mark.parametrize(
    "items",
    [
        [[i, "two"] for i in range(300)],
        [{"key": i, b"other": None} for i in range(300)],
        [(), [], {}, 1.5, "\ud800", b"", None, True, 1j, 1 << 99, "x" * 5000, ["x" * 70_000]],
        [[1], [bytearray(b"x")], {"a": [1]}, (bytearray(b"y"),), [..., b"x"], ([],)],
        [[i] * 40 for i in range(30)],
        [["x" * 5000], {"y" * 5000: 1}, [2]],
    ],
)
def test_S28_items_of_every_shape_come_as_they_are(items: list[Any]) -> None:
    with andon.Pool(2) as pool:
        for given in (items, items[::-1], [*items, Item(1)]):
            got = pool.map(same, given)
            assert repr(got[: len(items)]) == repr(given[: len(items)])
            assert [type(g) for g in got] == [type(g) for g in given]


def test_each_item_has_its_own_copy_of_its_argument() -> None:
    shared: list[int] = []
    with andon.Pool(2) as pool:
        result = pool.map_async(spoils, [shared] * 100)
        shared += [7] * 9  # too late
        assert result.get() == [1] * 100
        assert pool.starmap(spoils, [(shared,)] * 100) == [10] * 100
