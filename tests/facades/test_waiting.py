"""Whoever waits, drives: callers that submit and wait in turn pump their pool themselves."""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future as StandardFuture
from typing import Any

import pytest

import andon
from andon._runtime.runtime import Runtime
from andon._worker import linger
from tests.support import PATIENCE, Stage, dice

ENOUGH = 20  # round trips, after which the caller drives


class Waits:
    """Waits for another task of its pool as it is unpickled: in the thread that drives."""

    pool: andon.ProcessPoolExecutor

    def __reduce__(self) -> tuple[Any, ...]:
        return _wait_for_another, ()


def _wait_for_another() -> int:
    return Waits.pool.submit(abs, -1).result()


def make_waits() -> Waits:
    return Waits()


class Slow:
    """Is unpickled for ever, in the parent, where the main thread is at it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __reduce__(self) -> tuple[Any, ...]:
        return _sleep_in, (self.pid,)


def _sleep_in(pid: int) -> int:
    if os.getpid() == pid and threading.current_thread() is threading.main_thread():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        time.sleep(60)
    return pid


class SlowHere:
    """Takes a while to be unpickled in the parent, whoever is at it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __reduce__(self) -> tuple[Any, ...]:
        return _nap_in, (self.pid,)


def _nap_in(pid: int) -> int:
    if os.getpid() == pid:
        time.sleep(2)
    return pid


@pytest.fixture
def driven(start_method: str) -> Iterator[andon.ProcessPoolExecutor]:
    """Driven by the main thread, at least when it next waits."""
    with andon.ProcessPoolExecutor(2, start_method=start_method) as executor:
        drive(executor)
        yield executor


def drive(executor: andon.ProcessPoolExecutor) -> None:
    driver = executor._runtime._driver
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        before = driver._drives
        for i in range(ENOUGH):
            assert executor.submit(abs, -i).result() == i
        if driver._drives - before > ENOUGH // 2:
            return
    pytest.fail("the caller never drives")


def soon(call: Callable[[], object], after: float = 0.1) -> threading.Thread:
    def run() -> None:
        time.sleep(after)
        call()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def cancels_and_goes_on() -> None:
    andon.current_token().cancel("enough")
    while True:
        pass


def test_S6_a_word_that_is_pulled_while_the_caller_looks_for_an_answer_is_heard(
    start_method: str,
) -> None:
    """A lone call's caller lingers; and the bell rings once."""
    with andon.Pool(1, start_method=start_method) as pool:
        for _ in range(5):
            with andon.TaskGroup(pool=pool, grace=0.0, kill_after=PATIENCE) as tg:
                for _ in range(ENOUGH):
                    assert tg.submit(abs, -1).result() == 1
                with pytest.raises(andon.TaskCancelledError):
                    tg.submit(cancels_and_goes_on).result()
            assert str(tg.reason).startswith("cancel: enough")


def test_where_one_call_is_made_at_a_time_the_caller_lingers(
    driven: andon.ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Any] = []
    look = linger.linger

    def noted(come: Callable[[], Any]) -> Any:
        looks.append(look(come))
        return looks[-1]

    monkeypatch.setattr(linger, "linger", noted)
    monkeypatch.setattr(linger, "WORTH", math.inf)  # however long calls take on a busy machine
    drive(driven)
    assert looks


def test_a_caller_who_waits_and_does_nothing_else_drives(
    driven: andon.ProcessPoolExecutor,
) -> None:
    drive(driven)


def test_it_does_so_in_any_thread(driven: andon.ProcessPoolExecutor) -> None:
    thread = soon(lambda: drive(driven), 0)
    thread.join(60)
    assert not thread.is_alive()


def test_others_are_served_by_the_one_who_drives(
    driven: andon.ProcessPoolExecutor, stage: Callable[..., Stage]
) -> None:
    gate = stage()
    long = driven.submit(gate.hold)
    results: list[int] = []

    def other() -> None:
        results.extend(driven.submit(abs, -i).result() for i in range(10))
        gate.release()

    thread = soon(other, 0.05)
    long.result(60)
    thread.join(60)
    assert results == list(range(10))


def test_who_does_not_wait_is_served_as_well(driven: andon.ProcessPoolExecutor) -> None:
    for _ in range(20):
        drive(driven)
        called = threading.Event()
        driven.submit(abs, -1).add_done_callback(lambda _, event=called: event.set())  # type: ignore[misc]
        assert called.wait(60)


def test_a_wait_that_drives_keeps_its_timeout(
    driven: andon.ProcessPoolExecutor, stage: Callable[..., Stage]
) -> None:
    gate = stage()
    long = driven.submit(gate.hold)
    for timeout in (0, 0.01, 0.05):
        with pytest.raises(TimeoutError):
            long.result(timeout)
    gate.release()
    long.result(60)


def test_a_wait_with_a_timeout_does_not_unpickle_what_is_not_its_own(
    driven: andon.ProcessPoolExecutor, stage: Callable[..., Stage]
) -> None:
    gate = stage()
    drive(driven)
    other, long = driven.submit(SlowHere, os.getpid()), driven.submit(gate.hold)
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        long.result(0.3)
    assert time.monotonic() - begun < 1.5
    gate.release()
    assert other.result(60) == os.getpid()
    long.result(60)


def test_S35_another_thread_cancels_what_a_caller_drives_for(
    driven: andon.ProcessPoolExecutor,
) -> None:
    long = driven.submit(time.sleep, 60)
    thread = soon(long.cancel)
    with pytest.raises(andon.TaskCancelledError):
        long.result()
    thread.join(60)
    drive(driven)


def test_S32_a_key_ends_the_wait_and_nothing_else(driven: andon.ProcessPoolExecutor) -> None:
    main = threading.main_thread().ident
    assert main is not None
    for _ in range(5):
        drive(driven)
        long = driven.submit(andon.sleep, 60)
        with pytest.raises(KeyboardInterrupt):  # also where we are late to wait
            thread = soon(lambda: signal.pthread_kill(main, signal.SIGINT), 0.05)
            long.result()
        thread.join(60)
        assert not long.done()
        long.cancel()


def test_S32_a_second_key_ends_an_unpickling_that_hangs(
    driven: andon.ProcessPoolExecutor,
) -> None:
    for _ in range(20):
        drive(driven)
        stuck = driven.submit(Slow, os.getpid())
        try:
            stuck.result(30)
        except KeyboardInterrupt:
            break  # the main thread was at it
    with pytest.raises(andon.SerializationError, match="KeyboardInterrupt"):
        stuck.result(30)
    drive(driven)


def test_who_drives_must_not_wait_while_it_unpickles(driven: andon.ProcessPoolExecutor) -> None:
    Waits.pool = driven
    try:
        with pytest.raises(andon.SerializationError, match="drives the pool"):
            driven.submit(make_waits).result()
    finally:
        del Waits.pool
    drive(driven)


class Alarm(Exception):
    pass


def _raise_alarm(number: int, frame: object) -> None:
    raise Alarm


@pytest.fixture
def alarms() -> Iterator[None]:
    """What raises at SIGALRM is put back afterwards, and no alarm is left. What is raised while the
    collector runs a finalizer or a callback vanishes there, and Python says so."""
    before, unraisable = signal.signal(signal.SIGALRM, _raise_alarm), sys.unraisablehook

    def tell(args: Any) -> None:
        if args.exc_type is not Alarm:
            unraisable(args)

    sys.unraisablehook = tell
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.unraisablehook = unraisable


def ring(after: float) -> None:
    """And again, as long as nobody has heard: it may vanish."""
    signal.setitimer(signal.ITIMER_REAL, after, 0.5 if after else 0.0)


@pytest.mark.usefixtures("alarms")
def test_a_time_limit_by_a_signal_breaks_no_pool(start_method: str) -> None:
    rng = dice("alarms", start_method)
    rung = 0
    with andon.ProcessPoolExecutor(2, start_method=start_method) as executor:
        for _ in range(60):
            try:
                ring(rng.uniform(0.0001, 0.01))
                for i in range(10_000):
                    assert executor.submit(abs, -i).result() == i
            except Alarm:
                rung += 1
            ring(0)
            assert executor.submit(abs, -5).result(30) == 5
            try:
                ring(rng.uniform(0.0001, 0.01))
                while True:
                    futures = [executor.submit(abs, -i) for i in range(100)]
                    futures[50].cancel()
                    for future in futures[51:]:
                        future.result()
            except Alarm:
                rung += 1
            ring(0)
        assert executor.submit(abs, -5).result(30) == 5
    assert rung == 120


@pytest.mark.usefixtures("alarms")
def test_a_time_limit_ends_a_wait_for_a_group(start_method: str) -> None:
    """As if the body had raised it (S31): in a group of errors, even for one (S43)."""
    with pytest.raises(ExceptionGroup) as caught:
        with andon.TaskGroup(workers=2, start_method=start_method, grace=0.1) as tg:
            tg.submit(time.sleep, 60)
            signal.setitimer(signal.ITIMER_REAL, 0.3)
    assert [type(error) for error in caught.value.exceptions] == [Alarm]
    assert tg.reason is not None and tg.reason.kind == "body"


def test_a_handler_may_ask_the_pool_that_it_interrupts(start_method: str) -> None:
    asked: list[int] = []
    with andon.ProcessPoolExecutor(2, start_method=start_method) as executor:

        def ask(number: int, frame: object) -> None:
            asked.append(executor.submit(abs, -1).result(30))
            signal.setitimer(signal.ITIMER_REAL, 0.003)  # not before: each would come into another

        before = signal.signal(signal.SIGALRM, ask)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.003)
            i = 0
            while len(asked) < 50:
                i += 1
                assert executor.submit(abs, -i).result(30) == i
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)  # one that runs late would ring again
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert set(asked) == {1}


@pytest.mark.usefixtures("alarms")
def test_S33_what_a_handler_raises_while_all_is_closed_hides_no_failure(
    start_method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is held back until the gate is left, when there is nothing to wait for any more."""
    close = Runtime.close

    def rung(self: Runtime, within: float = 10.0) -> None:
        signal.raise_signal(signal.SIGALRM)
        close(self, within)

    monkeypatch.setattr(Runtime, "close", rung)
    with (
        pytest.raises(ExceptionGroup) as told,
        andon.TaskGroup(workers=1, start_method=start_method) as tg,
    ):
        tg.submit(int, "x")
    assert [type(error) for error in told.value.exceptions] == [ValueError, Alarm]
    assert tg.verdict is andon.Verdict.FAILED


def test_a_handler_of_the_programs_own_never_comes_into_a_turn(start_method: str) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with andon.ProcessPoolExecutor(2, start_method=start_method) as executor:
            for i in range(5 * ENOUGH):
                assert executor.submit(abs, -i).result() == i
            assert executor._runtime._driver._drives == 0
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_pool_that_forks_pauses_who_drives(
    driven: andon.ProcessPoolExecutor, stage: Callable[..., Stage]
) -> None:
    gate = stage()
    squares: list[int] = []

    def other() -> None:
        with andon.Pool(1, start_method="fork") as pool:
            squares.extend(pool.map(abs, [-1, -2]))
        gate.release()

    thread = soon(other)
    drive(driven)
    long = driven.submit(gate.hold)
    long.result(60)
    thread.join(60)
    assert squares == [1, 2]
    assert driven._runtime._driver._late is None


def test_S21_another_thread_closes_what_a_caller_drives(start_method: str) -> None:
    with andon.ProcessPoolExecutor(2, start_method=start_method) as executor:
        drive(executor)
        long = executor.submit(time.sleep, 60)
        thread = soon(executor.kill_workers)
        with pytest.raises(andon.TaskCancelledError):
            long.result(30)
        thread.join(60)


def test_who_waits_at_the_end_of_a_recursion_does_not_drive(
    driven: andon.ProcessPoolExecutor,
) -> None:
    def deep(frames: int, future: StandardFuture[int]) -> int:
        return future.result() if frames == 0 else deep(frames - 1, future)

    here = len(inspect.stack(0))
    for left in range(5, 60):
        drive(driven)
        future = driven.submit(reach_soon, left)
        with contextlib.suppress(RecursionError):
            assert deep(sys.getrecursionlimit() - here - left, future) == left
        assert driven.submit(abs, -left).result() == left


def reach_soon(x: int) -> int:
    time.sleep(0.001)
    return x


AT_THE_END: dict[str, Callable[[andon.ProcessPoolExecutor], object]] = {
    "submit": lambda executor: executor.submit(abs, -1),
    "submit several": lambda executor: [executor.submit(abs, -1) for _ in range(5)],
    "map": lambda executor: list(executor.map(abs, [-1, -2])),
    "cancel": lambda executor: executor.submit(abs, -1).cancel(),
    "a group": lambda executor: _a_group(executor),
}


def _a_group(executor: andon.ProcessPoolExecutor) -> None:
    with executor.group():
        executor.submit(abs, -1)


@pytest.mark.parametrize("call", AT_THE_END)
def test_a_call_at_the_end_of_a_recursion_fails_alone(
    driven: andon.ProcessPoolExecutor, call: str
) -> None:
    def deep(frames: int) -> object:
        return AT_THE_END[call](driven) if frames == 0 else deep(frames - 1)

    here = len(inspect.stack())
    failed = []
    for left in range(1, 140):
        try:
            deep(sys.getrecursionlimit() - here - left)
        except RecursionError:
            failed.append(left)
        assert driven.submit(abs, -left).result(20) == left
    assert 1 in failed and 139 not in failed
    assert len(driven._runtime._groups) == 1


def test_a_driver_that_is_paused_as_it_is_started() -> None:
    """Two threads open pools under fork: one forks as the other starts its driver."""
    with andon.Pool(1) as pool:
        driver = pool._runtime._driver
        assert driver.pause()
        driver._leave, driver._open = [], True
        driver._thread = threading.Thread(target=driver._loop, args=(driver._leave, None))
        assert driver.pause()  # before that has been started
        driver.start()
        assert pool.apply(int) == 0
