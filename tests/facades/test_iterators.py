"""The iterators of `imap` and its kin in several threads."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import andon
from tests.support import eventually, run_python

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


class Slow:
    """Takes its time to be pickled, and others come in between."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.more = [{"key": i} for i in range(200)]


def number_of(item: Slow) -> int:
    return item.number


@pytest.mark.parametrize("timed", [(True, True), (True, False)])
def test_S45_threads_that_wait_for_a_time_lose_and_misplace_nothing(
    timed: tuple[bool, bool],
) -> None:
    count = 400
    results = andon.imap(number_of, [Slow(i) for i in range(count)], workers=2)

    def take(share: list[int], timeout: float | None) -> None:
        with suppress(StopIteration):
            while True:
                share.append(next(results) if timeout is None else results.next(timeout))

    shares: list[list[int]] = [[] for _ in timed]
    threads = [
        threading.Thread(target=take, args=(share, PATIENCE if limit else None))
        for share, limit in zip(shares, timed, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
    assert sorted(itertools.chain(*shares)) == list(range(count))
    assert all(share == sorted(share) for share in shares)


@pytest.mark.parametrize("make", [by_imap, by_pool])
def test_who_waits_for_a_time_waits_no_longer_for_another_thread(make: Make) -> None:
    stop = andon.Event()
    with andon.Pool(1) as pool:
        results = make(pool, stop)
        taker = Taker(results)
        eventually(lambda: results._results.gi_running)
        for _ in range(3):
            with pytest.raises(multiprocessing.TimeoutError):
                results.next(timeout=0.01)
        stop.set()
        taker.join(PATIENCE)
        assert taker.got == [True]
        assert results.next(timeout=PATIENCE) is True
        with pytest.raises(StopIteration):
            results.next(timeout=PATIENCE)


class Tick(Exception):
    pass


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
def test_what_a_signal_handler_raises_in_a_wait_for_a_time_changes_nothing() -> None:
    def tick(*_: object) -> None:
        raise Tick

    stop = andon.Event()
    before = signal.signal(signal.SIGALRM, tick)
    try:
        with andon.Pool(1) as pool:
            results = pool.imap(serve, [stop] * 2)
            for _ in range(3):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                with pytest.raises(Tick):
                    results.next(timeout=PATIENCE)
            stop.set()
            assert [results.next(timeout=PATIENCE) for _ in range(2)] == [True, True]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_thread_in_a_tight_loop_does_not_keep_others_from_their_turn() -> None:
    enough = threading.Event()
    with andon.Pool(2) as pool:
        results = pool.imap_unordered(abs, range(10**8), 500)

        def take_all() -> None:
            with suppress(andon.TaskCancelledError):
                for _ in results:
                    if enough.is_set():
                        break

        greedy = threading.Thread(target=take_all)
        greedy.start()
        for _ in range(20):
            results.next(timeout=PATIENCE)
        enough.set()
        greedy.join(PATIENCE)
        results.close()


def test_a_place_in_the_queue_that_nobody_stands_at_holds_up_nobody() -> None:
    with andon.Pool(1) as pool:
        results = pool.imap(abs, range(3))
        results._queue.append(-1)  # as if its thread had been interrupted
        assert list(results) == [0, 1, 2]
        assert not results._queue


INTERRUPTED = """
import random, signal, sys, threading, time
import andon

main = threading.get_ident()

def take(results):
    try:
        for _ in results:
            pass
    except andon.TaskCancelledError:
        pass

def interrupt(seconds):
    time.sleep(seconds)
    signal.pthread_kill(main, signal.SIGINT)

with andon.Pool(2, start_method=sys.argv[1]) as pool:
    pool.map(abs, range(10))
    for _ in range(15):
        results = pool.imap_unordered(abs, range(10**7), 500)
        takers = [threading.Thread(target=take, args=(results,), daemon=True) for _ in range(2)]
        key = threading.Thread(target=interrupt, args=(0.02 + random.random() / 20,), daemon=True)
        try:
            for thread in (*takers, key):
                thread.start()
            take(results)
            key.join()
        except KeyboardInterrupt:
            pass
        closer = threading.Thread(target=results.close, daemon=True)
        closer.start()
        for thread in (closer, *takers):
            thread.join(20)
            assert not thread.is_alive(), thread
print("all ended")
"""


def test_S32_ctrl_c_in_one_thread_holds_up_none_that_takes_from_its_iterator(
    start_method: str,
) -> None:
    done = run_python(["-c", INTERRUPTED, start_method])
    assert done.stdout.strip() == "all ended", done.stderr


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
