"""The iterators of `imap` and its kin in several threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

import andon
from tests.support import eventually

PATIENCE = 20.0  # seconds


def serve(stop: andon.Event) -> bool:
    return stop.wait(PATIENCE)


class Taker(threading.Thread):
    """Takes one result."""

    def __init__(self, results: Any) -> None:
        super().__init__(daemon=True)
        self._results = results
        self.got: list[Any] = []
        self.start()

    def run(self) -> None:
        try:
            self.got.append(next(self._results))
        except BaseException as error:
            self.got.append(error)


def by_imap(pool: andon.Pool, stop: andon.Event) -> Any:
    return andon.imap(serve, [stop] * 2, workers=1)


def by_pool(pool: andon.Pool, stop: andon.Event) -> Any:
    return pool.imap(serve, [stop] * 2)


Make = Callable[[andon.Pool, andon.Event], Any]


@pytest.mark.parametrize("make", [by_imap, by_pool])
def test_threads_take_results_in_turn(make: Make) -> None:
    stop = andon.Event()
    with andon.Pool(1) as pool:
        results = make(pool, stop)
        first = Taker(results)
        eventually(lambda: results._results.gi_running)
        second = Taker(results)
        second.join(0.2)  # by then it has asked
        stop.set()
        for taker in (first, second):
            taker.join(PATIENCE)
        assert (first.got, second.got) == ([True], [True])
        assert list(results) == []


@pytest.mark.parametrize("takers", [2, 8])
def test_S4_each_result_goes_to_one_of_the_threads_that_take_them(takers: int) -> None:
    count = 3000
    with andon.Pool(2) as pool:
        results = pool.imap_unordered(abs, range(count))
        shares: list[list[int]] = [[] for _ in range(takers)]
        threads = [threading.Thread(target=share.extend, args=(results,)) for share in shares]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert sorted(itertools.chain(*shares)) == list(range(count))


@pytest.mark.parametrize("make", [by_imap, by_pool])
def test_one_thread_closes_what_another_waits_for(make: Make) -> None:
    with andon.Pool(1) as pool:
        results = make(pool, andon.Event())
        taker = Taker(results)
        eventually(lambda: results._results.gi_running)
        results.close()
        taker.join(PATIENCE)
        (error,) = taker.got
        assert isinstance(error, andon.TaskCancelledError)
        assert error.reason is not None and "closed" in error.reason.message
        assert list(results) == []
