"""`ProcessPoolExecutor`: what the standard library's own tests (`tests/stdlib`) do not show."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import gc
import os
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

import andon
from tests.facades.tasks import fail, fail_when, hold, pid, sleep_long, square
from tests.support import Stage, eventually, run_python, wait_gone

MakeStage = Callable[..., Stage]


class Tracked:
    """A value that can be referred to weakly."""


class Untravelled:
    def __reduce__(self) -> Any:
        raise TypeError("it stays here")


def echo(value: Any) -> Any:
    return value


class Odd(Exception):
    """It can be referred to weakly, too."""


def fail_with(value: Any) -> None:
    raise Odd(value)


def die() -> None:
    os._exit(3)


@pytest.fixture
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# Futures -----------------------------------------------------------------------------------------


def test_a_running_future_says_so(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with andon.ProcessPoolExecutor(1) as ex:
        runs, waits = ex.submit(hold, running, go), ex.submit(square, 2)
        running.word()
        assert runs.running() and runs._state == "RUNNING" and "state=running" in repr(runs)
        assert not waits.running() and "state=pending" in repr(waits)
        assert cf.wait([runs, waits], timeout=0) == (set(), {runs, waits})
        go.release()
        assert cf.wait([runs, waits], timeout=20).done == {runs, waits}
    assert not runs.running() and "state=finished returned str" in repr(runs)


def test_it_is_an_executor_to_those_who_ask() -> None:
    with andon.ProcessPoolExecutor(3) as ex:
        assert isinstance(ex, cf.ProcessPoolExecutor) and isinstance(ex, cf.Executor)
        assert ex._max_workers == 3  # Dask asks for it
        theirs = {name for name in vars(cf.ProcessPoolExecutor) if not name.startswith("_")}
        assert theirs <= set(vars(andon.ProcessPoolExecutor))  # none of its code


def test_asyncio_waits_for_them_and_stops_them(stage: MakeStage) -> None:
    running = stage("running")

    async def main(ex: andon.ProcessPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        assert await asyncio.wrap_future(ex.submit(square, 3)) == 9
        with pytest.raises(ValueError, match="mine"):
            await loop.run_in_executor(ex, fail, "mine")
        waits = asyncio.create_task(asyncio.wait_for(loop.run_in_executor(ex, *LONG, running), 20))
        worker = int(await asyncio.to_thread(running.word))
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert await loop.run_in_executor(ex, pid) != worker  # it was interrupted (S51)

    with andon.ProcessPoolExecutor(1) as ex:
        asyncio.run(main(ex))


LONG = (sleep_long,)


def test_nothing_is_kept_longer_than_it_is_needed(no_collections: None) -> None:
    with andon.ProcessPoolExecutor(1) as ex:
        argument = Tracked()
        refs = [weakref.ref(argument)]
        future = ex.submit(echo, argument)
        del argument
        result = future.result(20)
        refs.append(weakref.ref(result))
        eventually(lambda: refs[0]() is None, 5, "the argument is let go of")
        del future, result
        eventually(lambda: refs[1]() is None, 5, "the result is let go of")
        for result in ex.map(echo, [Tracked() for _ in range(3)]):
            refs.append(weakref.ref(result))
            del result
            assert refs[-1]() is None

        failed = ex.submit(fail_with, Tracked())
        with pytest.raises(Odd) as caught:
            failed.result(20)
        refs += [weakref.ref(failed), weakref.ref(caught.value)]
        del failed, caught
        eventually(lambda: all(ref() is None for ref in refs), 5, "errors are let go of")


@pytest.mark.parametrize("initializer", [echo, fail_with])
def test_nor_is_what_an_initializer_was_given(
    initializer: Callable[..., Any], start_method: str, no_collections: None
) -> None:
    given = Tracked()
    ref = weakref.ref(given)
    ex = andon.ProcessPoolExecutor(1, None, initializer, (given,), start_method=start_method)
    del given
    error = ex.submit(square, 2).exception(20)
    assert (error is None) == (initializer is echo)
    ex.shutdown()
    del error
    eventually(lambda: ref() is None, 5, "the argument is let go of")


# What travels ------------------------------------------------------------------------------------


def test_100_megabytes_while_the_pipes_are_full(start_method: str, stage: MakeStage) -> None:
    """They wait behind a task, the next ones go out while results of that size come back, and
    `submit` never waits for a worker."""
    running, go = stage("running"), stage("go")
    blob = bytes(100 << 20)
    with andon.ProcessPoolExecutor(1, start_method=start_method) as ex:
        held = ex.submit(hold, running, go)
        running.word()
        futures = [ex.submit(echo, blob) for _ in range(2)]
        last = ex.submit(square, 3)
        assert not held.done()
        go.release()
        assert all(future.result(60) == blob for future in futures)
        assert last.result(20) == 9


def test_what_cannot_be_pickled_fails_its_future() -> None:
    with andon.ProcessPoolExecutor(1) as ex:
        bad, good = ex.submit(echo, Untravelled()), ex.submit(square, 2)
        with pytest.raises(pickle.PicklingError, match="it stays here") as caught:
            bad.result(20)
        assert isinstance(caught.value, andon.SerializationError)
        assert "task 0: echo(" in caught.value.__notes__[0]
        assert good.result(20) == 4


def test_S25_a_dead_worker_is_a_broken_process_pool_for_one_task() -> None:
    with andon.ProcessPoolExecutor(1) as ex:
        dead, alive = ex.submit(die), ex.submit(square, 2)
        with pytest.raises(BrokenProcessPool) as caught:
            dead.result(20)
        assert type(caught.value) is andon.WorkerDiedError and caught.value.exitcode == 3
        copy = pickle.loads(pickle.dumps(caught.value))
        assert isinstance(copy, BrokenProcessPool) and copy.exitcode == 3
        assert alive.result(20) == 4
    assert issubclass(andon.InitializerError, BrokenProcessPool)


# Many at once ------------------------------------------------------------------------------------


def test_S1_from_many_threads_at_once() -> None:
    said: list[object] = []

    def use(number: int) -> None:
        try:
            futures = [ex.submit(square, i) for i in range(20)]
            futures[number].cancel()
            assert list(ex.map(square, range(10), chunksize=2)) == [i * i for i in range(10)]
            with ex.group():
                mine = [ex.submit(square, i) for i in range(5)]
            assert [f.result(0) for f in mine] == [0, 1, 4, 9, 16]
            done = cf.wait(futures, timeout=60).done
            said.append(sum(1 for f in done if f.cancelled() or f.result(0) >= 0))
        except BaseException as error:
            said.append(error)

    with andon.ProcessPoolExecutor(2) as ex:
        threads = [threading.Thread(target=use, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        closers = [threading.Thread(target=ex.shutdown) for _ in range(4)]
        for thread in closers:
            thread.start()
        for thread in closers:
            thread.join(20)
        assert not any(thread.is_alive() for thread in closers)
    assert said == [20] * 12


# Calls that stop together ------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"fail_fast": True}, {"policy": andon.fail_fast}])
def test_an_executor_that_fails_fast(options: dict[str, Any], stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with pytest.raises(ValueError, match="bad") as caught:
        with andon.ProcessPoolExecutor(2, **options) as ex:
            runs = ex.submit(sleep_long, running)
            fails = ex.submit(fail_when, go)
            running.word()
            go.release()
            for _ in iter(int, 1):  # for ever: a call is refused once the line has stopped (S14)
                ex.submit(square, 1)
    assert caught.value is fails.exception(0)
    with pytest.raises(andon.TaskCancelledError) as stopped:
        runs.result(0)
    assert stopped.value.reason is not None and stopped.value.reason.source == 1


def test_who_handles_a_failure_hears_of_it_where_they_leave() -> None:
    ex = andon.ProcessPoolExecutor(1, fail_fast=True)
    first = ex.submit(fail, "seen")
    with pytest.raises(ValueError, match="seen"):
        first.result(20)
    with pytest.raises(andon.TaskCancelledError) as refused:
        ex.submit(square, 1)
    assert refused.value.__cause__ is first.exception(0)
    with pytest.raises(KeyError) as caught, ex:
        raise KeyError("mine")
    assert any("task 0 failed" in note for note in caught.value.__notes__)
    ex.shutdown()  # raises nothing
    with pytest.raises(ValueError, match="give that, or policy="):
        andon.ProcessPoolExecutor(1, fail_fast=True, policy=andon.collect_all())


def test_calls_of_a_group_stop_together_and_no_others(start_method: str, stage: MakeStage) -> None:
    running, go, other = stage("running"), stage("go"), stage("other")
    with andon.ProcessPoolExecutor(3, start_method=start_method) as ex:
        alone = ex.submit(hold, running, other)
        inside: list[cf.Future[Any]] = []
        elsewhere: list[cf.Future[Any]] = []
        with pytest.raises(ValueError, match="bad") as caught:
            with ex.group(grace=0) as tg:
                inside.append(ex.submit(sleep_long, running))
                inside.append(tg.submit(fail_when, go))
                thread = threading.Thread(target=lambda: elsewhere.append(ex.submit(square, 3)))
                thread.start()
                thread.join()
                running.wait(2)
                go.release()
                while True:  # ends by itself: the `with` absorbs what `submit` then raises (S14)
                    inside.append(ex.submit(square, 1))
        assert caught.value.andon_group is tg  # type: ignore[attr-defined]
        assert inside[0].cancelled() and tg.verdict == "failed"
        assert len(tg.outcomes) == len(inside)
        after = ex.submit(square, 4)  # alone again
        other.release()
        assert alone.result(20) == "released"
        assert elsewhere[0].result(20) == 9 and after.result(20) == 16


def test_groups_within_groups() -> None:
    with andon.ProcessPoolExecutor(1) as one, andon.ProcessPoolExecutor(1) as two:
        with one.group() as outer, two.group() as middle:
            assert one.submit(square, 2).result(20) == 4
            with one.group() as inner:
                one.submit(square, 3)
                two.submit(square, 3)
            one.submit(square, 4)
        assert [len(tg.outcomes) for tg in (outer, middle, inner)] == [2, 1, 1]
        with one.group(policy=andon.collect_all()) as tg:
            failed = one.submit(fail)
            fine = one.submit(square, 2)
        assert isinstance(failed.exception(0), ValueError) and fine.result(0) == 4
        with one.group() as tg:
            tg.cancel("enough")  # quietly
        with pytest.raises(andon.SerializationError, match="it stays here"):
            with one.group():
                one.submit(echo, Untravelled())
        with pytest.raises(KeyError):
            with one.group():
                raise KeyError("the body's own")
    with pytest.raises(RuntimeError, match="after shutdown"):
        one.group().__enter__()


# The end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_the_end_of_the_workers(how: str, start_method: str, stage: MakeStage) -> None:
    running = stage("running")
    ex = andon.ProcessPoolExecutor(1, start_method=start_method)
    runs, waits = ex.submit(sleep_long, running), ex.submit(square, 1)
    worker = int(running.word())
    getattr(ex, how)()
    with pytest.raises(RuntimeError, match="after shutdown"):
        ex.submit(square, 1)
    with pytest.raises(andon.TaskCancelledError) as stopped:
        runs.result(10)
    assert stopped.value.started
    assert stopped.value.stopped_by == ("kill" if how == "kill_workers" else "interrupt")
    with pytest.raises(cf.CancelledError):
        waits.result(10)
    wait_gone([worker], 10)
    getattr(ex, how)()
    ex.shutdown()


AT_EXIT = """
import atexit, threading
import andon

executor = andon.ProcessPoolExecutor(1, start_method={method!r})

def thread():
    threading.main_thread().join()
    print("thread", executor.submit(pow, 2, 3).result(20))

@atexit.register
def last():
    print("last", executor.submit(pow, 2, 4).result(20), flush=True)
    executor.submit(print, "pending", flush=True)
    executor.shutdown(wait=False)

threading.Thread(target=thread).start()
"""


def test_a_call_at_exit_is_run(start_method: str) -> None:
    done = run_python(["-c", AT_EXIT.format(method=start_method)])
    assert done.stdout.split("\n") == ["thread 8", "last 16", "pending", ""], done
    assert done.stderr == "" and done.returncode == 0


def test_a_maps_results_outlive_their_executor(start_method: str) -> None:
    """All was accepted, and is over before the executor ends: whoever is slow to take the results,
    in another thread perhaps, finds them."""
    with andon.ProcessPoolExecutor(2, start_method=start_method) as executor:
        slow, begun = executor.map(echo, range(5)), executor.map(echo, range(5))
        assert next(begun) == 0
    assert list(slow) == list(range(5))
    assert list(begun) == list(range(1, 5))


def test_a_future_that_is_set_by_its_user_harms_nobody(stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with andon.ProcessPoolExecutor(2) as executor:
        held = [executor.submit(hold, running, go) for _ in range(2)]
        running.wait(2)
        held[0].set_result(7)
        held[1].set_exception(KeyError("mine"))
        go.release()
        go.release()
        assert executor.submit(echo, 1).result() == 1
    assert held[0].result() == 7 and isinstance(held[1].exception(), KeyError)
