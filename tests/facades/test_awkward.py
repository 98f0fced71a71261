"""Calls that come at an awkward moment: out of signal handlers, finalizers and callbacks, in
another context, while a pool is being closed. Nobody hangs, and nothing is lost.
"""

from __future__ import annotations

import contextvars
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from itertools import takewhile
from typing import Any

import pytest

import andon
from andon._core import events
from tests.facades.tasks import fail, hold, sleep_long, square
from tests.support import PATIENCE, Stage, eventually

MakeStage = Callable[..., Stage]


@pytest.fixture
def pool() -> Iterator[andon.Pool]:
    with andon.Pool(2) as pool:
        yield pool


def call_in_the_midst(pool: andon.Pool, event: str, function: Callable[[], Any]) -> None:
    """Once, in the middle of the machine's taking an event of this kind, as a signal handler or a
    finalizer of the very thread would."""
    machine = pool._runtime._machine
    kind = getattr(events, event)
    handler = machine._handlers[kind]

    def both(e: Any) -> None:
        machine._handlers[kind] = handler
        function()
        handler(e)

    machine._handlers[kind] = both


# The machine, interrupted -------------------------------------------------------------------------


def test_S1_a_stop_out_of_a_signal_handler(pool: andon.Pool) -> None:
    group = andon.TaskGroup(pool=pool)
    with group as tg:
        futures = [tg.submit(square, i) for i in range(5)]
        wait(futures)  # so that the next one goes to the machine in this thread, and at once
        call_in_the_midst(pool, "Submitted", lambda: tg.cancel("from a handler"))
        futures.append(tg.submit(square, 5))
        with pytest.raises(andon.Cancelled):
            for _ in range(1000):
                futures.append(tg.submit(square, 6))
        assert all(f.done() for f in futures) or eventually(lambda: all(f.done() for f in futures))
    assert group.verdict == "cancelled"
    assert pool.map(square, [2]) == [4]


def test_S1_a_group_opened_in_a_signal_handler(pool: andon.Pool) -> None:
    inner: list[Any] = []

    def work() -> None:
        inner.append(pool.apply_async(square, (3,)))
        inner.append(pool.map_async(square, [4]))

    call_in_the_midst(pool, "Submitted", work)
    assert pool.apply(square, (2,)) == 4
    assert inner[0].get(20) == 9 and inner[1].get(20) == [16]


def test_S4_real_signals_while_tasks_are_submitted(pool: andon.Pool) -> None:
    before = signal.getsignal(signal.SIGALRM)
    try:
        for _ in range(20):
            futures = []
            with andon.TaskGroup(pool=pool) as tg:
                signal.signal(signal.SIGALRM, lambda *_, tg=tg: tg.cancel("alarm"))
                signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
                while True:
                    futures.append(tg.submit(square, 1))
            signal.setitimer(signal.ITIMER_REAL, 0)
            for future in futures:
                eventually(future.done)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_S4_cancelled_by_a_finalizer(pool: andon.Pool) -> None:
    future = pool._submit(sleep_long, (), None)
    call_in_the_midst(pool, "Submitted", future.cancel)
    assert pool.apply(square, (2,)) == 4
    with pytest.raises(andon.TaskCancelledError):
        future.result(20)


# Iterators that the collector drops ---------------------------------------------------------------


class CollectsWhenUnpickled:
    def __reduce__(self) -> Any:
        return _collect, ()


def _collect() -> int:
    gc.collect()
    return 7


def give_one_that_collects() -> CollectsWhenUnpickled:
    return CollectsWhenUnpickled()


def in_a_cycle(pool: andon.Pool) -> None:
    class Node:
        pass

    node: Any = Node()
    node.me = node
    node.results = pool.imap(_slowly, range(50))
    next(node.results)


def _slowly(x: int) -> int:
    time.sleep(0.05)
    return x


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_S21_dropped_in_the_driver(pool: andon.Pool) -> None:
    in_a_cycle(pool)
    assert pool.apply_async(give_one_that_collects).get(20) == 7
    assert pool.apply_async(square, (3,)).get(20) == 9


@pytest.mark.usefixtures("no_collector")
def test_S21_dropped_under_the_lock(pool: andon.Pool) -> None:
    in_a_cycle(pool)
    call_in_the_midst(pool, "Submitted", gc.collect)
    assert pool.apply_async(square, (3,)).get(20) == 9
    eventually(lambda: len(pool._runtime._groups) == 1)


@pytest.mark.usefixtures("no_collector")
def test_results_go_with_their_last_reference(pool: andon.Pool) -> None:
    def freed(results: list[Any]) -> bool:
        there = weakref.ref(results.pop())
        eventually(lambda: there() is None, within=5.0)
        return there() is None

    assert freed(pool.map(make, [1]))
    assert freed(list(pool.imap(make, [1])))
    assert freed(pool.map_async(make, [1]).get(20))
    assert freed([pool.apply(make, (1,))])
    assert freed(andon.map(make, [1], workers=1))


class Thing:
    pass


def make(_: int) -> Thing:
    return Thing()


# Groups that are just over ------------------------------------------------------------------------


def test_S47_a_callback_submits_as_its_group_ends() -> None:
    """Refused, or taken and run; never a bug."""
    for _ in range(5):
        refused: list[BaseException] = []
        with andon.Pool(1, trace=lambda _: time.sleep(0.002)) as pool:

            def again(_: Any, refused: list[BaseException] = refused) -> None:
                try:
                    tg.submit(square, 2)
                except andon.GroupClosedError as error:
                    refused.append(error)

            with andon.TaskGroup(pool=pool) as tg:
                tg.submit(square, 1).add_done_callback(again)
            assert pool.apply(square, (3,)) == 9


def test_S44_map_async_that_fails_as_it_is_sent(pool: andon.Pool) -> None:
    for _ in range(10):
        with pytest.raises(ValueError):
            pool.map_async(fail, range(2000), chunksize=1).get(20)
    for _ in range(3):
        result = pool.map_async(square, [1, threading.Lock()], chunksize=1)
        with pytest.raises(andon.SerializationError):
            result.get(20)
    eventually(lambda: len(pool._runtime._groups) == 1)  # the one of lone calls


def _fails_at_200(x: int) -> int:
    if x == 200:
        raise ValueError(x)
    return x


def test_S46_what_ended_before_the_failure_is_delivered(pool: andon.Pool) -> None:
    """An item before the one that fails may be in another worker, and stopped as it runs."""
    with andon.ProcessPoolExecutor(1) as executor:
        for _ in range(10):
            got: list[int] = []
            results = executor.map(_fails_at_200, range(3000))
            with pytest.raises(ValueError, match="200"):
                for result in results:
                    got.append(result)
            assert got == list(range(200))
    for _ in range(20):
        got = []
        with pytest.raises(ExceptionGroup), andon.TaskGroup(pool=pool) as tg:
            for result in tg.map(_fails_at_200, range(3000)):
                got.append(result)
        before = takewhile(lambda o: o.ok and not o.cancel_requested, tg.outcomes)
        assert got == list(range(len(got))) and len(got) >= len(list(before))


class SaysSlowly(Exception):
    def __str__(self) -> str:
        time.sleep(0.5)
        return "slow"


def _raise_one_that_says_slowly() -> None:
    raise SaysSlowly


def test_S21_an_error_that_takes_its_time_to_say_so(pool: andon.Pool) -> None:
    slow = pool.apply_async(_raise_one_that_says_slowly)
    longest, end = 0.0, time.monotonic() + 3.0
    while not slow.ready() and time.monotonic() < end:
        began = time.monotonic()
        with pool._runtime._lock:
            longest = max(longest, time.monotonic() - began)
    assert longest < 0.4
    with pytest.raises(SaysSlowly):
        slow.get(20)


class SaysVerySlowly:
    """Longer than the ladder waits for an error to come (`TELL_WITHIN`)."""

    def __repr__(self) -> str:
        time.sleep(2.5)
        return "at last"


def _raise_what_is_very_slow() -> None:
    raise ValueError("bad", SaysVerySlowly())


def test_S23_an_error_whose_arguments_take_their_time(pool: andon.Pool) -> None:
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(pool=pool, grace=0, kill_after=0.5) as tg,
    ):
        tg.submit(_raise_what_is_very_slow)
        tg.submit(_check_until_stopped)
    (error,) = caught.value.exceptions
    assert (type(error), error.args[0]) == (ValueError, "bad")
    assert tg.reason is not None and tg.reason.message == "ValueError: ('bad', at last)"
    assert tg.outcomes[1].state == "cancelled"


def _check_until_stopped() -> None:
    while True:
        andon.check()


class Text(str):
    def __str__(self) -> str:
        return self


def _raise_text() -> None:
    raise ValueError(Text("a string of its own kind"))


def test_S23_an_error_whose_text_is_of_a_class_of_its_own(pool: andon.Pool) -> None:
    with pytest.raises(ValueError, match="of its own kind"):
        pool.apply(_raise_text)


# Contexts, closings -------------------------------------------------------------------------------


def test_S5_left_in_another_context(pool: andon.Pool) -> None:
    for options in ({"pool": pool}, {"workers": 1}):
        group = andon.TaskGroup(**options)  # type: ignore[arg-type]
        contextvars.copy_context().run(group.__enter__)
        future = group.submit(square, 3)
        group.__exit__(None, None, None)
        assert future.result(0) == 9 and group.verdict == "ok"


def test_S26_a_submit_as_the_pool_is_closed() -> None:
    executor = andon.ProcessPoolExecutor(1)
    runtime, told = executor._runtime, {}
    close = runtime.close

    def close_late(within: float = 10.0) -> None:
        told["future"] = runtime_group.submit(sleep_long)
        close(within)

    runtime_group = andon.TaskGroup(pool=executor)
    runtime_group.__enter__()
    runtime.close = close_late  # type: ignore[method-assign]
    executor.shutdown()
    with pytest.raises(andon.TaskCancelledError):
        told["future"].result(20)
    with pytest.raises(ExceptionGroup) as caught:
        runtime_group.__exit__(None, None, None)
    assert [type(e) for e in caught.value.exceptions] == [andon.PoolShutdownError]


def test_a_group_on_a_closed_pool() -> None:
    with andon.Pool(1) as pool:
        pass
    with pytest.raises(andon.PoolClosedError), andon.TaskGroup(pool=pool):
        pass


def test_shutdown_that_cancels_what_a_map_waits_for(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    executor = andon.ProcessPoolExecutor(1)
    results = executor.map(hold, [running] * 5, [go] * 5)
    running.word()
    executor.shutdown(wait=False, cancel_futures=True)
    go.release(5)
    with pytest.raises(andon.PoolShutdownError):
        list(results)
    executor.shutdown()
    assert running.reached() == []


def test_a_wait_that_is_given_up_leaves_nothing(pool: andon.Pool) -> None:
    future = pool._submit(sleep_long, (), None)
    for _ in range(50):
        with pytest.raises(TimeoutError):
            future.result(0.0005)
    assert len(future._wakeup()._waiters) == 0
    future.cancel()


class PicklesSlowly:
    def __reduce__(self) -> Any:
        time.sleep(60)
        return int, ()


def give_one_that_pickles_slowly() -> PicklesSlowly:
    return PicklesSlowly()


def test_S29_a_result_that_is_never_pickled() -> None:
    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(workers=1, kill_after=0.1) as tg:
        tg.submit(give_one_that_pickles_slowly, timeout=0.3)
    assert [type(e) for e in caught.value.exceptions] == [andon.TaskTimeoutError]


# Ctrl-C -------------------------------------------------------------------------------------------


def _unwinds_slowly(x: int) -> int:
    if x:
        try:
            time.sleep(60)
        finally:
            time.sleep(0.5)
    return x


@pytest.mark.parametrize("how", ["close", "drop"])
def test_S32_while_a_loop_is_left(how: str) -> None:
    results = andon.imap(_unwinds_slowly, range(3), workers=3, chunksize=1)
    assert next(results) == 0
    key = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        key.start()
        if how == "close":
            results.close()
        else:
            del results
        time.sleep(PATIENCE)
    assert time.monotonic() - began < PATIENCE, "it comes into the sleep, not after it"
    key.join()


def test_S32_while_a_pool_is_joined() -> None:
    pool = andon.Pool(2, grace=0.1, kill_after=0.1)
    result = pool.map_async(time.sleep, [60, 60], chunksize=1)
    pool.close()
    key = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    key.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        pool.join()
    assert time.monotonic() - began < 20
    with pytest.raises(andon.TaskCancelledError):
        result.get(0)
    key.join()
