"""Items of one span and of mixed length: none waits for one that takes long."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

import andon
from tests.support import Stage

MakeStage = Callable[..., Stage]


class Item:
    """One that does not travel as a plain value."""

    def __init__(self, number: int, running: Stage | None = None, go: Stage | None = None) -> None:
        self.number, self.running, self.go = number, running, go


def held(item: Item) -> Any:
    if item.running is not None and item.go is not None:
        item.running.reach()
        item.go.hold()
    return str(item.number) if item.number % 2 else item.number


def held_at(number: int, running: Stage, go: Stage, at: int) -> int:
    if number == at:
        running.reach()
        go.hold()
    return number


def dies_at(number: int, at: int) -> int:
    if number == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


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


_stages: tuple[Any, ...] = ()


def _set_stages(*stages: Any) -> None:
    global _stages
    _stages = stages


def test_S45_the_same_where_items_run_in_a_lane(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with andon.TaskGroup(workers=2, initializer=_set_stages, initargs=(running, go, 700)) as tg:
        results = tg.imap(_plain_held_at, range(2000), chunksize=2000)
        got = [next(results) for _ in range(1999)]
        assert sorted(got) == [i for i in range(2000) if i != 700]
        go.release()
        assert list(results) == [700]
    assert [o.value for o in tg.outcomes] == list(range(2000))


def test_two_long_items_of_a_span_run_side_by_side(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with andon.TaskGroup(workers=2) as tg:
        items = [Item(i, running, go) if i in (3, 7) else Item(i) for i in range(20)]
        results = tg.imap(held, items, chunksize=20)
        assert len(running.wait(2)) == 2  # neither is released
        go.release()
        go.release()
        assert sorted(map(int, results)) == list(range(20))


def test_a_stop_while_the_rest_of_a_span_runs_elsewhere(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with andon.TaskGroup(workers=2) as tg:
        items = [Item(i, running, go) if i in (3, 7, 11) else Item(i) for i in range(20)]
        tg.imap(held, items, chunksize=20)
        running.wait(2)
        tg.cancel("enough")
    states = [o.state for o in tg.outcomes]
    assert len(states) == 20 and set(states) == {"succeeded", "cancelled"}
    assert [o.started for o in tg.outcomes if not o.ok and o.index in (3, 7)] == [True, True]
    assert tg.outcomes[11].started is False  # both workers were held before it


@pytest.mark.parametrize("at", [0, 1, 500, 999])
def test_S45_items_that_ended_before_their_worker_died_are_delivered(at: int) -> None:
    with andon.TaskGroup(workers=2, policy=andon.collect_all()) as tg:
        list(tg.map(dies_at, range(1000), [at] * 1000, chunksize=1000))
    bad = [o for o in tg.outcomes if not o.ok]
    assert [o.index for o in bad] == [at]
    assert isinstance(bad[0].error, andon.WorkerDiedError)
    assert [o.value for o in tg.outcomes if o.ok] == [i for i in range(1000) if i != at]
