"""Finalizers run anywhere, also under our locks, and several at once; what they ask for is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import andon
from andon._locks import inside, make_lock
from tests.support import Stage

PATIENCE = 20.0  # seconds


@pytest.fixture
def pools(start_method: str) -> Iterator[tuple[andon.ProcessPoolExecutor, ...]]:
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(andon.ProcessPoolExecutor(1, start_method=start_method))
            for _ in range(2)
        )


def at_once(*calls: Callable[[threading.Barrier], object]) -> None:
    """As finalizers: each begins under a lock of its own, when all have one."""
    barrier = threading.Barrier(len(calls), timeout=PATIENCE)
    threads = [threading.Thread(target=call, args=(barrier,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "they wait for each other"


def under(lock: Any, call: Callable[[], object]) -> Callable[[threading.Barrier], object]:
    def run(barrier: threading.Barrier) -> None:
        with lock:
            barrier.wait()
            call()
            barrier.wait()

    return run


def lock_of(pool: andon.ProcessPoolExecutor) -> Any:
    return pool._runtime._lock


def test_a_lock_is_known_to_who_is_inside() -> None:
    lock = make_lock()
    assert not inside()
    with lock:
        assert inside()
        assert not on_another_thread(inside)
    assert not inside()


def on_another_thread(call: Callable[[], object]) -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join(PATIENCE)
    return found[0]


def test_two_that_submit_to_each_others_pool(
    pools: tuple[andon.ProcessPoolExecutor, ...],
) -> None:
    one, other = pools
    futures: list[Any] = []
    at_once(
        under(lock_of(one), lambda: futures.append(other.submit(abs, -1))),
        under(lock_of(other), lambda: futures.append(one.submit(abs, -1))),
    )
    assert [future.result(PATIENCE) for future in futures] == [1, 1]


def test_two_that_submit_and_cancel(
    pools: tuple[andon.ProcessPoolExecutor, ...], stage: Callable[..., Stage]
) -> None:
    one, other = pools
    gate = stage()
    for pool in pools:
        pool.submit(gate.hold)
    futures: list[Any] = []

    def submit_and_cancel(pool: andon.ProcessPoolExecutor) -> None:
        futures.append(pool.submit(abs, -1))
        assert futures[-1].cancel()

    at_once(
        under(lock_of(one), lambda: submit_and_cancel(other)),
        under(lock_of(other), lambda: submit_and_cancel(one)),
    )
    for future in futures:
        with pytest.raises(andon.TaskCancelledError):
            future.result(PATIENCE)
    gate.release(2)
    assert [pool.submit(abs, -2).result(PATIENCE) for pool in pools] == [2, 2]


def test_two_that_cancel_what_was_submitted_before(
    pools: tuple[andon.ProcessPoolExecutor, ...],
) -> None:
    one, other = pools
    first, second = (pool.submit(time.sleep, 60) for pool in pools)
    at_once(
        under(lock_of(one), second.cancel),
        under(lock_of(other), first.cancel),
    )
    for future in first, second:
        with pytest.raises(andon.TaskCancelledError):
            future.result(PATIENCE)


def test_two_that_stop_groups(pools: tuple[andon.ProcessPoolExecutor, ...]) -> None:
    one, other = pools
    with andon.TaskGroup(pool=one) as first, andon.TaskGroup(pool=other) as second:
        for group in first, second:
            group.submit(time.sleep, 60)
        at_once(
            under(lock_of(one), second.cancel),
            under(lock_of(other), first.cancel),
        )
    assert first.reason is not None and second.reason is not None


def test_two_that_close_each_others_pool(start_method: str) -> None:
    one, other = (andon.Pool(1, start_method=start_method) for _ in range(2))
    at_once(
        under(one._runtime._lock, other.close),
        under(other._runtime._lock, one.close),
    )
    for pool in one, other:
        pool.join()


def test_one_that_submits_to_a_group_that_has_stopped(
    pools: tuple[andon.ProcessPoolExecutor, ...],
) -> None:
    one, other = pools
    futures: list[Any] = []
    submitted = threading.Event()

    def submit() -> None:
        futures.append(group.submit(abs, -1))
        submitted.set()

    def stop() -> None:
        assert submitted.wait(PATIENCE)
        group.cancel()

    with andon.TaskGroup(pool=other) as group:
        group.submit(time.sleep, 60)
        at_once(under(lock_of(one), submit), under(lock_of(other), stop))
    with pytest.raises(andon.TaskCancelledError) as caught:
        futures[0].result(PATIENCE)
    assert caught.value.reason is group.reason is not None


def test_one_in_the_middle_of_the_store_of_large_arguments(
    pools: tuple[andon.ProcessPoolExecutor, ...],
) -> None:
    one, _ = pools
    large = b"x" * 1_000_000
    futures: list[Any] = []

    def submit() -> None:
        futures.append(one.submit(len, bytearray(large)))

    store = one._runtime._engine._store  # type: ignore[attr-defined]
    at_once(under(store._lock, submit), under(lock_of(one), lambda: None))
    assert futures[0].result(PATIENCE) == 1_000_000
