"""Ctrl-C is the main thread's, also where other threads have groups of their own (S32)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import andon
from andon._gate import gate
from tests.support import PATIENCE

Leave = Callable[[andon.Pool], None]


def _leave_a_group(pool: andon.Pool) -> None:
    with andon.TaskGroup(pool=pool) as tg:
        tg.submit(abs, -1)


def _leave_a_group_by_an_error(pool: andon.Pool) -> None:
    with pytest.raises(ExceptionGroup), andon.TaskGroup(pool=pool) as tg:
        tg.submit(abs, "no number")


def _map(pool: andon.Pool) -> None:
    assert andon.map(abs, [-1], workers=1) == [1]


def _stream(pool: andon.Pool) -> None:
    for _ in pool.imap(abs, range(100)):
        return


LEAVE: list[Leave] = [_leave_a_group, _leave_a_group_by_an_error, _map, _stream]


@pytest.fixture
def pool(start_method: str) -> Iterator[andon.Pool]:
    with andon.Pool(2, start_method=start_method) as pool:
        yield pool


def run_in_a_thread(act: Callable[[], object]) -> list[BaseException]:
    """Do it in a thread, and wait for that; the errors that came out of it."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    return errors


@pytest.mark.parametrize("leave", LEAVE, ids=lambda leave: leave.__name__.strip("_"))
def test_S32_a_key_that_the_main_thread_has_yet_to_hear_of_is_left_to_it(
    pool: andon.Pool, leave: Leave
) -> None:
    errors: list[BaseException] = []
    with pytest.raises(KeyboardInterrupt), gate:
        signal.raise_signal(signal.SIGINT)
        errors += run_in_a_thread(lambda: leave(pool))
    assert errors == []


def test_S32_nor_does_a_thread_take_it_that_leaves_what_the_main_one_has_entered(
    pool: andon.Pool,
) -> None:
    results = iter(andon.imap(abs, iter(range(1000)), workers=1))
    assert next(results) == 0
    errors: list[BaseException] = []
    with pytest.raises(KeyboardInterrupt), gate:
        signal.raise_signal(signal.SIGINT)
        errors += run_in_a_thread(results.close)
    assert errors == []


@pytest.mark.parametrize("own", [False, True], ids=["one pool", "own pools"])
def test_S32_the_main_threads_group_is_the_one_that_stops(
    pool: andon.Pool, start_method: str, own: bool
) -> None:
    over = threading.Event()
    errors: list[BaseException] = []

    def serve() -> None:
        try:
            while not over.is_set():
                _leave_a_group(pool)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    key = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    key.start()
    try:
        scope = {"workers": 1, "start_method": start_method} if own else {"pool": pool}
        with pytest.raises(KeyboardInterrupt), andon.TaskGroup(**scope) as tg:
            tg.submit(time.sleep, PATIENCE)
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
        key.join()
    assert errors == []
    assert tg.reason is not None and tg.reason.kind is andon.ReasonKind.INTERRUPT
