"""`Pool` and `ProcessPoolExecutor`: warm workers for many groups."""

from __future__ import annotations

import concurrent.futures as cf
import gc
import multiprocessing
import os
import pickle
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Any

import pytest

import andon
from tests.facades.tasks import fail, fail_at, fail_when, hold, pid, sleep_long, square
from tests.support import Stage, wait_gone

value = 0


def initialise(event: andon.Token | None, number: int) -> None:
    global value
    value = number


def initialised() -> int:
    return value


def broken_initializer() -> None:
    raise OSError("no licence")


def test_the_methods_of_a_pool(start_method: str) -> None:
    with andon.Pool(2, start_method=start_method) as pool:
        assert pool.apply(square, (3,)) == 9
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
        assert list(pool.imap(square, range(5))) == [0, 1, 4, 9, 16]
        assert sorted(pool.imap_unordered(square, range(5))) == [0, 1, 4, 9, 16]
        assert pool.map_async(square, range(5)).get(20) == [0, 1, 4, 9, 16]
        assert pool.starmap_async(pow, [(2, 3)]).get(20) == [8]
        result = pool.apply_async(fail, ("mine",))
        with pytest.raises(ValueError, match="mine"):
            result.get(20)
        assert result.ready() and not result.successful()
        assert pool.apply_async(square, (4,)).get(20) == 16


def test_one_groups_failure_never_touches_anothers(stage: Callable[..., Stage]) -> None:
    running, go = stage("running"), stage("go")
    with andon.Pool(2) as pool:
        held = pool.apply_async(hold, (running, go))
        running.word()
        with pytest.raises(ValueError):
            pool.map(partial(fail_at, 1), range(10))
        with pytest.raises(ValueError):
            pool.map_async(partial(fail_at, 1), range(10)).get(20)
        with pytest.raises(ExceptionGroup), andon.TaskGroup(pool=pool) as tg:
            tg.submit(fail)
        go.release()
        assert held.get(20) == "released"


def test_callbacks(stage: Callable[..., Stage]) -> None:
    said: list[object] = []
    done = threading.Semaphore(0)

    def note(x: object) -> None:
        said.append(x)
        done.release()

    with andon.Pool(1) as pool:
        pool.apply_async(square, (2,), callback=note)
        pool.apply_async(fail, ("b",), error_callback=note)
        pool.map_async(square, [1, 2], callback=note)
        pool.map_async(partial(fail_at, 1), [1], error_callback=note)
        for _ in range(4):
            assert done.acquire(timeout=20)
    assert 4 in said and [1, 4] in said
    assert sorted(str(e) for e in said if isinstance(e, Exception)) == ["b", "bad item 1"]


def test_close_and_join_finish_the_work() -> None:
    pool = andon.Pool(2)
    results = [pool.apply_async(square, (i,)) for i in range(20)]
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(square, (1,))
    pool.join()
    assert [r.get(0) for r in results] == [i * i for i in range(20)]


def test_terminate_kills(stage: Callable[..., Stage]) -> None:
    running = stage("running")
    pool = andon.Pool(1)
    result = pool.apply_async(sleep_long, (running,))
    worker = int(running.word())
    pool.terminate()
    wait_gone([worker], 5)
    with pytest.raises(andon.TaskCancelledError):
        result.get(5)
    pool.terminate()
    pool.join()


def test_timeout_of_get_is_multiprocessings(stage: Callable[..., Stage]) -> None:
    running = stage("running")
    with andon.Pool(1) as pool:
        result = pool.apply_async(sleep_long, (running,))
        running.word()
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(0.01)


def test_initializer_and_a_shared_event(start_method: str) -> None:
    event = andon.Event()
    with andon.Pool(1, initialise, (event, 7), start_method=start_method) as pool:
        assert pool.apply(initialised) == 7


def cancel_in_turn(events: list[andon.Event]) -> list[str | None]:
    for i, event in enumerate(events):
        event.cancel(f"reason {i}")
    return [event.reason for event in events]


def test_S8_a_task_that_sets_several_events_says_why_of_each(start_method: str) -> None:
    events = [andon.Event() for _ in range(3)]
    with andon.Pool(1, start_method=start_method) as pool:
        reasons = pool.apply(cancel_in_turn, (events,))
    assert reasons == ["reason 0", "reason 1", "reason 2"]
    assert [event.reason for event in events] == reasons


def test_S42_an_initializer_that_raises(start_method: str) -> None:
    with andon.Pool(2, broken_initializer, start_method=start_method) as pool:
        with pytest.raises(andon.InitializerError) as caught:
            pool.map(square, range(3))
    assert "no licence" in str(caught.value) + str(caught.value.__cause__)
    assert caught.value.original == "OSError: no licence"
    assert pickle.loads(pickle.dumps(caught.value)).original == caught.value.original


def test_max_tasks_per_worker(start_method: str) -> None:
    with andon.Pool(1, max_tasks_per_worker=2, start_method=start_method) as pool:
        pids = [pool.apply(pid) for _ in range(6)]
    assert len(set(pids)) == 3
    assert pids[0] == pids[1] and pids[2] == pids[3]


@pytest.mark.parametrize("chunksize", [None, 1, 9])
@pytest.mark.parametrize("limit", [1, 3])
def test_max_tasks_per_worker_counts_the_items_of_a_map(
    start_method: str, limit: int, chunksize: int | None
) -> None:
    """However they travel: a span is transport only (S45)."""
    pid_of = lambda item: os.getpid()  # noqa: E731 - by value: no worker need import this module
    with andon.Pool(1, max_tasks_per_worker=limit, start_method=start_method) as pool:
        pids = pool.map(pid_of, range(5 * limit), chunksize)
        pids += pool.imap(pid_of, map(str, range(limit)), chunksize or 1)
    runs = [len(list(run)) for _, run in groupby(pids)]
    assert len(set(pids)) == len(runs) == 6
    assert set(runs) == {limit}


def test_S38_a_dropped_pool_warns_and_is_killed() -> None:
    pool = andon.Pool(1)
    worker = pool.apply(pid)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]
    wait_gone([worker], 5)


def test_S38_in_a_forked_child() -> None:
    with andon.Pool(1) as pool, andon.TaskGroup(pool=pool) as tg:
        worker = pool.apply(pid)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # our driver is a thread
            child = os.fork()
        if not child:
            status = 1
            try:
                pool.apply(pid)
            except andon.WrongProcessError:
                try:
                    tg.submit(pid)
                except andon.WrongProcessError:
                    pool.terminate()
                    status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert pool.apply(pid) == worker


def test_a_pool_cannot_be_pickled() -> None:
    with andon.Pool(1, engine="inline") as pool:
        with pytest.raises(NotImplementedError, match="cannot be passed"):
            pickle.dumps(pool)
        assert repr(pool) == "<andon.pool.Pool state=RUN pool_size=1>"


def test_results_are_there_when_their_callback_has_run() -> None:
    with andon.Pool(2) as pool:
        for _ in range(40):
            got: list[Any] = []
            assert pool.apply_async(square, (3,), callback=got.append).get(20) == 9
            assert got == [9]
            result = pool.map_async(square, range(3), callback=got.append)
            result.wait(20)
            assert result.ready() and got == [9, [0, 1, 4]]
            failed = pool.apply_async(fail, ("x",), error_callback=got.append)
            failed.wait(20)
            assert isinstance(got[-1], ValueError)


def test_a_callback_may_ask_for_its_own_result() -> None:
    asked: list[Any] = []
    with andon.Pool(1) as pool:

        def ask(value: int) -> None:
            asked.append((value, result.ready(), result.get(20)))

        go = threading.Event()
        pool._runtime.callbacks.put(go.wait)
        result = pool.apply_async(square, (3,), callback=ask)
        go.set()
        assert result.get(20) == 9
    assert asked == [(9, True, 9)]


def test_a_callback_that_raises_ends_no_other(caplog: pytest.LogCaptureFixture) -> None:
    got: list[Any] = []
    with andon.Pool(1) as pool:
        assert pool.map_async(square, [2], callback=fail).get(20) == [4]
        assert pool.map_async(square, [3], callback=got.append).get(20) == [9]
    assert got == [[9]] and "a callback raised" in caplog.text


def test_the_standard_pools_names_of_parameters() -> None:
    with andon.Pool(processes=1) as pool:
        assert pool.apply(func=square, args=(2,)) == 4
        assert pool.apply_async(func=square, args=(2,)).get(20) == 4
        for method in (pool.map, pool.imap, pool.imap_unordered):
            assert list(method(func=square, iterable=[1, 2], chunksize=1)) == [1, 4]
        assert pool.map_async(func=square, iterable=[1, 2]).get(20) == [1, 4]
        assert pool.starmap(func=pow, iterable=[(2, 3)]) == [8]
        assert pool.starmap_async(func=pow, iterable=[(2, 3)]).get(20) == [8]


def test_the_next_result_in_time_or_later(stage: Callable[..., Stage]) -> None:
    go = stage("go")
    with andon.Pool(1) as pool:
        results = pool.imap(partial(hold, stage("running")), [go, go])
        for _ in range(2):
            with pytest.raises(multiprocessing.TimeoutError):
                results.next(timeout=0.05)
        go.release()
        assert results.next(timeout=20) == "released"
        go.release()
        assert next(results) == "released"
        with pytest.raises(StopIteration):
            results.next(20)
        results = pool.imap_unordered(fail, ["x"])
        with pytest.raises(ValueError, match="x"):
            results.next(20)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_results_outlive_the_name_of_their_pool() -> None:
    assert list(andon.Pool(1).imap(square, range(4))) == [0, 1, 4, 9]
    assert andon.Pool(1).map_async(square, range(4)).get(20) == [0, 1, 4, 9]
    assert list(andon.ProcessPoolExecutor(1).map(square, range(4))) == [0, 1, 4, 9]
    gc.collect()


def test_an_executor(start_method: str) -> None:
    with andon.ProcessPoolExecutor(2, start_method=start_method) as ex:
        futures = [ex.submit(square, i) for i in range(10)]
        assert isinstance(futures[0], cf.Future)
        done, not_done = cf.wait(futures, timeout=20)
        assert not not_done and {f.result() for f in done} == {i * i for i in range(10)}
        assert [f.result() for f in cf.as_completed(futures, timeout=20)]
        assert list(ex.map(pow, [2, 3], [3, 2])) == [8, 9]
        bad = ex.submit(fail, "alone")
        assert isinstance(bad.exception(20), ValueError)
        assert ex.submit(square, 3).result(20) == 9
    with pytest.raises(RuntimeError, match="after shutdown"):
        ex.submit(square, 1)


def test_a_map_whose_results_nobody_takes(stage: Callable[..., Stage]) -> None:
    """A common idiom; and so is leaving the loop."""
    running = stage("running")
    with andon.ProcessPoolExecutor(2) as ex:
        ex.map(running_and, [running] * 20)
    assert len(running.reached()) == 20
    with andon.ProcessPoolExecutor(2) as ex:
        for result in ex.map(running_and, [running] * 200, chunksize=1):
            assert result == "went on"
            break
    assert len(running.reached()) < 200


def running_and(running: Stage) -> str:
    running.reach()
    time.sleep(0.01)
    return "went on"


def test_an_executor_stops_what_runs(stage: Callable[..., Stage]) -> None:
    running = stage("running")
    with andon.ProcessPoolExecutor(1) as ex:
        future = ex.submit(sleep_long, running)
        running.word()
        assert future.running() and future.cancel()
        with pytest.raises(cf.CancelledError):
            future.result(20)
        assert future.cancelled() and not future.running()
        assert ex.submit(square, 2).result(20) == 4


def test_executor_map_is_late(stage: Callable[..., Stage]) -> None:
    with andon.ProcessPoolExecutor(1) as ex:
        with pytest.raises(TimeoutError):
            list(ex.map(sleep_long, [None], timeout=0.2))
        assert ex.submit(square, 2).result(20) == 4


def test_shutdown_that_cancels_what_waits(stage: Callable[..., Stage]) -> None:
    running, go = stage("running"), stage("go")
    ex = andon.ProcessPoolExecutor(1)
    runs = ex.submit(hold, running, go)
    waits = [ex.submit(square, i) for i in range(3)]
    running.word()
    ex.shutdown(wait=False, cancel_futures=True)
    go.release()
    assert runs.result(20) == "released"
    assert all(f.cancelled() for f in waits)
    ex.shutdown()


def test_a_group_on_an_executor() -> None:
    with andon.ProcessPoolExecutor(1) as ex, andon.TaskGroup(pool=ex) as tg:
        future = tg.submit(square, 3)
    assert future.result() == 9


class Counting(andon.ProcessPoolExecutor):
    """A subclass whose `submit` sees every call, as with the standard class."""

    calls = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return super().submit(fn, *args, **kwargs)


def test_map_goes_through_a_submit_that_was_replaced(stage: Callable[..., Stage]) -> None:
    with Counting(2) as ex:
        assert list(ex.map(square, range(5))) == [0, 1, 4, 9, 16]
        assert ex.calls == 5
        assert list(ex.map(pow, range(5), [2] * 5, chunksize=2)) == [0, 1, 4, 9, 16]
        assert ex.calls == 8
        assert list(ex.map(square, iter(range(9)), buffersize=3)) == [x * x for x in range(9)]
        ex.map(square, range(5), chunksize=3)  # nobody asks for a result: run all the same
        assert ex.calls == 19
        running, go = stage("running"), stage("go")
        results = ex.map(apply, [partial(sleep_long, running), partial(fail_when, go)])
        sleeper = int(running.word())
        go.release()
        with pytest.raises(ValueError, match="bad"):
            next(results)  # the failure, though it is not the first in order
        wait_gone([sleeper])
        with pytest.raises(TimeoutError):
            next(ex.map(sleep_long, [running], timeout=0.05))
        with pytest.raises(ValueError, match="chunksize"):
            ex.map(square, range(5), chunksize=0)
    with andon.ProcessPoolExecutor(1) as plain:  # on the object, as tqdm does it
        moved: list[object] = []
        original = plain.submit

        def submit(*args: Any) -> Any:
            future = original(*args)
            future.add_done_callback(moved.append)
            return future

        plain.submit = submit  # type: ignore[method-assign]
        assert list(plain.map(square, range(3))) == [0, 1, 4]
    assert len(moved) == 3


def apply(call: Callable[[], Any]) -> Any:
    return call()
