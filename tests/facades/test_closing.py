"""A pool that closes: which groups it waits for, and which it leaves to end well."""

from __future__ import annotations

import _thread
import contextvars
import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest

import andon
from tests.support import eventually, opened, run_python

PATIENCE = 20.0  # seconds


def double(i: int) -> int:
    return 2 * i


class Gap:
    """Between its two items nothing is under way, until `go` is set."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[int]:
        yield 1
        self.begun.set()
        self.go.wait(PATIENCE)
        yield 2


def submits(pool: andon.Pool, gap: Gap) -> list[int]:
    with andon.TaskGroup(pool=pool) as tg:
        return [tg.submit(double, i).result() for i in gap]


def maps(pool: andon.Pool, gap: Gap) -> list[int]:
    return pool.map(double, gap)


def maps_in_a_group(pool: andon.Pool, gap: Gap) -> list[int]:
    with andon.TaskGroup(pool=pool) as tg:
        return list(tg.map(double, gap))


class Another(threading.Thread):
    """A thread whose result, or error, is asked for."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._told: list[tuple[Any, BaseException | None]] = []
        self.start()

    def run(self) -> None:
        try:
            self._told.append((self._call(), None))
        except BaseException as error:
            self._told.append((None, error))

    def result(self) -> Any:
        self.join(PATIENCE)
        value, error = self._told[0]
        if error is not None:
            raise error
        return value


def is_waited_for(pool: Any, ends: threading.Thread) -> bool:
    """Do both wait, who joins and the thread of `close`, or was nobody waited for?"""
    return not ends.is_alive() or len(pool._runtime.idle._waiters) > 1


@pytest.mark.parametrize("work", [submits, maps, maps_in_a_group])
def test_join_waits_for_the_groups_of_other_threads(
    start_method: str, work: Callable[[andon.Pool, Gap], list[int]]
) -> None:
    """Also where none of their tasks is under way."""
    pool, gap = andon.Pool(1, start_method=start_method), Gap()
    other = Another(lambda: work(pool, gap))
    assert gap.begun.wait(PATIENCE)
    eventually(lambda: not pool._runtime.is_busy())
    pool.close()
    joining = Another(pool.join)
    eventually(lambda: is_waited_for(pool, joining))
    gap.go.set()
    assert other.result() == [2, 4]
    joining.result()


@pytest.mark.parametrize("how", ["here", "in its context"])
def test_join_does_not_wait_for_the_body_that_waits_for_it(start_method: str, how: str) -> None:
    """What it was given has succeeded: it ends well, and is given no more."""
    pool = andon.Pool(1, start_method=start_method)
    with andon.TaskGroup(pool=pool) as outer, andon.TaskGroup(pool=pool) as tg:
        future = tg.submit(double, 1)
        pool.close()
        if how == "here":
            pool.join()
        else:
            context = contextvars.copy_context()
            Another(partial(context.run, pool.join)).result()
        with pytest.raises(andon.PoolClosedError):
            tg.submit(double, 2)
    assert future.result(0) == 2
    assert (outer.verdict, tg.verdict) == ("ok", "ok")


def test_join_does_not_wait_for_a_body_whose_thread_has_ended() -> None:
    """It left its group open, and nobody is told of its end; waited for in a thread, too."""
    kept: list[andon.TaskGroup] = []
    with andon.Pool(1) as pool:

        def enter() -> None:
            kept.append(andon.TaskGroup(pool=pool))
            kept[0].__enter__()

        entered = Another(enter)
        entered.result()
        pool.close()
        Another(pool.join).result()


class Keeps(threading.Thread):
    pool: andon.Pool

    def run(self) -> None:
        self.pool = andon.Pool(1)
        self.pool.apply(double, (1,))


def test_S38_a_pool_that_its_thread_keeps_is_dropped_with_it() -> None:
    thread = Keeps()
    thread.start()
    thread.join()
    kept = weakref.ref(thread.pool)
    with pytest.warns(ResourceWarning, match="dropped without being closed"):
        del thread
        gc.collect()
        assert kept() is None


def test_join_does_not_wait_for_a_body_of_a_thread_that_python_did_not_start() -> None:
    kept: list[andon.TaskGroup] = []
    entered = threading.Event()
    with andon.Pool(1) as pool:

        def enter() -> None:
            kept.append(andon.TaskGroup(pool=pool))
            kept[0].__enter__()
            entered.set()

        _thread.start_new_thread(enter, ())
        assert entered.wait(PATIENCE)
        pool.close()
        Another(pool.join).result()


def test_bodies_that_join_do_not_wait_for_each_other() -> None:
    with andon.Pool(1) as pool:
        both = threading.Barrier(2)

        def body() -> None:
            with andon.TaskGroup(pool=pool) as tg:
                tg.submit(double, 1).result()
                both.wait(PATIENCE)
                pool.close()
                pool.join()

        for each in [Another(body), Another(body)]:
            each.result()


def test_terminate_ends_a_join_that_waits_for_a_body(start_method: str) -> None:
    pool, gap = andon.Pool(1, start_method=start_method), Gap()
    other = Another(lambda: submits(pool, gap))
    assert gap.begun.wait(PATIENCE)
    pool.close()
    joining = Another(pool.join)
    eventually(lambda: is_waited_for(pool, joining))
    assert joining.is_alive()
    pool.terminate()
    joining.result()
    gap.go.set()
    with pytest.raises(ExceptionGroup) as caught:
        other.result()
    assert isinstance(caught.value.exceptions[0], andon.PoolShutdownError)


JOINS = """\
import os, signal, sys, threading, andon
def work():
    with andon.TaskGroup(pool=pool) as tg:
        tg.submit(abs, 1).result()
        begun.set()
        threading.Event().wait()
pool, begun = andon.Pool(1, start_method=sys.argv[1]), threading.Event()
threading.Thread(target=work, daemon=True).start()
begun.wait()
pool.close()
def interrupt():
    while len(pool._runtime.idle._waiters) < 2: pass
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    pool.join()
except KeyboardInterrupt:
    print("interrupted")
"""


def test_S32_a_key_ends_a_join_that_waits_for_a_body(start_method: str) -> None:
    done = run_python(["-c", JOINS, start_method])
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


@pytest.mark.parametrize("executor", [True, False])
def test_a_group_whose_tasks_are_over_ends_well(start_method: str, executor: bool) -> None:
    """An executor waits for no body; what it has begun is over, so nothing is stopped."""
    gap = Gap()
    pool: Any
    if executor:
        pool = andon.ProcessPoolExecutor(1, start_method=start_method)
    else:
        pool = andon.Pool(1, start_method=start_method)

    def work() -> Any:
        with andon.TaskGroup(pool=pool) as tg:
            results = tg.map(double, [1, 2])
            first = next(results)
            for _ in gap:
                pass
            return [first, *results], tg

    other = Another(work)
    assert gap.begun.wait(PATIENCE)
    if executor:
        pool.shutdown()
        gap.go.set()
    else:
        pool.close()
        gap.go.set()
        pool.join()
    results, tg = other.result()
    assert results == [2, 4]
    assert tg.verdict == "ok"


class Slow:
    """Pickled, it tells, and waits."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __reduce__(self) -> Any:
        self.begun.set()
        self.go.wait(PATIENCE)
        return int, (3,)


@pytest.mark.parametrize("how", ["shutdown", "cancel_futures", "close"])
def test_a_call_that_meets_the_close_is_refused(start_method: str, how: str) -> None:
    """As any that comes after it; something else keeps the pool open meanwhile."""
    pool, submit = opened(start_method, executor=how != "close")
    stop, slow = andon.Event(), Slow()
    alone = how == "cancel_futures"  # which stops groups
    with nullcontext() if alone else andon.TaskGroup(pool=pool) as tg:
        (tg.submit if tg else submit)(stop.wait, PATIENCE)
        late = Another(partial(submit, abs, slow))
        assert slow.begun.wait(PATIENCE)
        if how == "close":
            pool.close()
            pool._runtime.leave_body(pool._loose)  # as `join` does
        else:
            pool.shutdown(wait=False, cancel_futures=alone)
        eventually(lambda: pool._loose.over or pool._loose.reason)
        slow.go.set()
        try:
            with pytest.raises(andon.PoolClosedError, match=pool._refusal):
                late.result()
        finally:
            stop.set()
    if how == "close":
        pool.join()
    else:
        pool.shutdown()


@pytest.mark.parametrize("executor", [False, True])
def test_S21_who_waits_for_another_threads_close_hears_what_could_not_be_reaped(
    executor: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []  # the closing thread has nobody to tell but this
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))
    pool, _ = opened("fork", executor=executor)
    engine: Any = pool._runtime._engine
    close = engine.close
    monkeypatch.setattr(engine, "close", lambda within: [*close(within), 123_456_789])
    if executor:
        pool.shutdown(wait=False)
        end = pool.shutdown
    else:
        pool.close()
        end = pool.join
    with pytest.raises(andon.CleanupError, match="123456789") as caught:
        end()
    assert caught.value.pids == (123_456_789,)
    eventually(lambda: told)
    assert type(told[0]) is andon.CleanupError


def test_S21_who_waits_in_vain_for_another_threads_close_hears_who_is_still_there(
    start_method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And afterwards the time is told that the processes had, not that of who waits."""
    pool = andon.Pool(1, start_method=start_method)
    pid = pool.apply(os.getpid)
    runtime = pool._runtime
    engine: Any = runtime._engine
    close = engine.close
    closing, go = threading.Event(), threading.Event()

    def held(within: float) -> list[int]:
        closing.set()
        assert go.wait(PATIENCE)
        return [*close(within), 123_456_789]

    monkeypatch.setattr(engine, "close", held)
    monkeypatch.setattr(runtime, "dismiss", lambda: None)  # else the worker may be gone before
    first = Another(partial(runtime.close, 17.0))
    assert closing.wait(PATIENCE)
    with pytest.raises(andon.CleanupError, match="another thread") as caught:
        runtime.close(0.01)
    assert caught.value.pids == (pid,)
    go.set()
    for end in (first.result, partial(runtime.close, 3.0), pool.terminate):
        with pytest.raises(andon.CleanupError, match="within 17 s: 123456789"):
            end()
