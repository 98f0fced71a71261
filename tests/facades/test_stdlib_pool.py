"""`Pool` beside the standard one: what its users rely on, and the standard tests do not show.

`scripts/stdlib-suites` runs all of the standard library's own tests of its pools against ours,
under every start method; here some of them run as a part of every run.
"""

from __future__ import annotations

import copy
import importlib.util
import multiprocessing
import multiprocessing.pool
import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.managers import PoolProxy, SyncManager
from typing import Any

import pytest

import andon
from tests.facades.tasks import fail, fail_at, hold, pid, square
from tests.support import Stage, eventually, wait_gone

QUICK = ("TestPool.test_[acit]*", "Workers.*", "_invalid", "test_pool_initializer", "early_close")


def test_some_of_the_standard_tests() -> None:
    if importlib.util.find_spec("test._test_multiprocessing") is None:
        pytest.skip("this Python comes without test._test_multiprocessing")
    command = [sys.executable, "-m", "tests.stdlib", "pool", "--start-method", "fork"]
    for pattern in QUICK:
        command += ["-k", f"WithProcesses{pattern}" if "." in pattern else pattern]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout


def test_nothing_public_is_inherited_from_the_standard_class() -> None:
    """It would not work: a method that a newer Python brings is to be written here, too."""
    standard = multiprocessing.pool.Pool
    names = {name for name in vars(standard) if not name.startswith("_")}
    specials = {"__init__", "__enter__", "__exit__", "__del__", "__reduce__", "__repr__"}
    inherited = {n for n in names | specials if getattr(andon.Pool, n) is getattr(standard, n)}
    assert inherited == {"Process"}  # how the standard one starts its workers
    standard_result = multiprocessing.pool.AsyncResult
    public = {name for name in vars(standard_result) if not name.startswith("_")}
    assert [n for n in public if n not in vars(andon.AsyncResult)] == []


def test_it_is_a_pool_to_those_who_ask() -> None:
    """Dask does, and then for its size."""
    with andon.Pool(2, engine="inline") as pool:
        assert isinstance(pool, multiprocessing.pool.Pool) and pool._processes == 2
        assert isinstance(pool.apply_async(square, (2,)), multiprocessing.pool.AsyncResult)
        assert repr(pool) == "<andon.pool.Pool state=RUN pool_size=2>"
        pool.close()
        assert "state=CLOSE" in repr(pool)
        pool.terminate()
        assert "state=TERMINATE" in repr(pool)


def test_a_context_whose_pools_are_ours(start_method: str) -> None:
    context = andon.get_context(start_method)
    assert isinstance(context, type(multiprocessing.get_context(start_method)))
    assert context.get_context() is context
    assert context.get_context("spawn") is andon.get_context("spawn")
    with context.Pool(1, initializer=os.getpid) as pool:
        assert isinstance(pool, andon.Pool)
        assert pool._runtime.config.start_method == start_method
        assert pool.map(square, [2]) == [4]
    context.Lock().acquire()
    with pytest.raises(ValueError, match="thread"):
        andon.get_context("thread")


class Manager(SyncManager):
    pass


Manager.register("Pool", andon.Pool, PoolProxy)


def test_a_managers_pool() -> None:
    with Manager(ctx=multiprocessing.get_context("spawn")) as manager:
        pool = manager.Pool(1)  # type: ignore[attr-defined]
        assert pool.map(square, [1, 2]) == [1, 4]
        assert list(pool.imap(square, [1, 2])) == [1, 4]
        with pytest.raises(ValueError, match="bad item 2"):
            pool.apply(fail_at, (2, 2))
        pool.terminate()


# Errors ------------------------------------------------------------------------------------------


class Odd(Exception):
    """What a user's own pickling may raise."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Refuses:
    def __reduce__(self) -> Any:
        raise Odd(7)


def make_lock(number: int = 0) -> Any:
    return threading.Lock()


def raise_lock() -> None:
    raise ValueError(threading.Lock())


def test_S28_errors_are_what_the_standard_pools_raise() -> None:
    told: list[BaseException] = []
    with andon.Pool(1) as pool:
        result = pool.apply_async(square, (Refuses(),), error_callback=told.append)
        for call in (
            result.get,
            lambda: pool.apply(square, (Refuses(),)),
            lambda: pool.map(square, [1, Refuses()]),
            pool.map_async(square, [1, Refuses()]).get,
            lambda: list(pool.imap(square, [Refuses()])),
        ):
            for kind in (Odd, pickle.PicklingError, andon.SerializationError):
                with pytest.raises(kind, match="Refuses"):
                    call()
        assert isinstance(told[0], Odd)

        with pytest.raises(multiprocessing.pool.MaybeEncodingError) as caught:
            pool.apply(make_lock)
        assert "lock" in caught.value.value and "TypeError" in caught.value.exc
        assert isinstance(caught.value, TypeError | andon.SerializationError)
        for error in (caught.value, told[0]):
            for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
                assert type(twin) is type(error) and str(twin) == str(error)
                assert twin.what == error.what  # type: ignore[attr-defined]
        with pytest.raises(multiprocessing.pool.MaybeEncodingError, match="ValueError"):
            pool.apply(raise_lock)
        with pytest.raises(ValueError, match="maxtasksperchild"):
            andon.Pool(1, maxtasksperchild="12")  # type: ignore[arg-type]


def inner(kind: str) -> Any:
    if kind == "map":
        return andon.map(fail, ["inner"], workers=1)
    if kind == "group":
        with andon.TaskGroup(workers=1) as tg:
            tg.submit(fail, "inner")
    with andon.Pool(1) as pool:
        return pool.map(fail, ["inner"])


@pytest.mark.parametrize("kind", ["map", "group", "pool"])
def test_S38_a_groups_errors_travel_and_the_group_stays(kind: str) -> None:
    with andon.Pool(1) as pool:
        with pytest.raises((ValueError, ExceptionGroup)) as caught:
            pool.apply(inner, (kind,))
        error = caught.value
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        assert isinstance(error, ValueError) and "inner" in str(error)
        with pytest.raises(ValueError) as raised:
            pool.map(fail, ["outer"])
        assert len(raised.value.andon_group.outcomes) == 1  # type: ignore[attr-defined]
        away = pickle.loads(pickle.dumps(raised.value)).andon_group
        with pytest.raises(andon.WrongProcessError, match="stays in the process"):
            away.outcomes  # noqa: B018
        assert not hasattr(away, "__len__")


def test_the_remote_traceback() -> None:
    with andon.Pool(1) as pool:
        with pytest.raises(ValueError) as caught:
            pool.apply(fail, ("far away",))
        cause = caught.value.__cause__
        assert isinstance(cause, andon.RemoteTraceback) and "in fail" in cause.tb
        assert cause.tb in "".join(traceback.format_exception(caught.value))
        with pytest.raises(ZeroDivisionError) as own:
            pool.map(square, (1 // n for n in (1, 0)))
        assert own.value.__cause__ is None


# The end -----------------------------------------------------------------------------------------


def note(path: str) -> None:
    with open(path, "a") as file:
        file.write(".")


@pytest.mark.parametrize("workers", [1, 3])
def test_initializers_run_though_there_is_no_work(
    workers: int, start_method: str, tmp_path: Any
) -> None:
    path = str(tmp_path / "noted")
    pool = andon.Pool(workers, note, (path,), start_method=start_method)
    pool.close()
    pool.join()
    with open(path) as file:
        assert file.read() == "." * workers


def test_workers_leave_once_a_closed_pool_has_done_its_work(stage: Callable[..., Stage]) -> None:
    running, go = stage("running"), stage("go")
    pool = andon.Pool(1)
    worker = pool.apply(pid)
    result = pool.apply_async(hold, (running, go))
    running.word()
    pool.close()
    pool.close()
    go.release()
    assert result.get(20) == "released"
    wait_gone([worker], 10)
    pool.join()


def numbers(stop: int, read: list[int], error_at: int = -1) -> Iterator[int]:
    for number in range(stop):
        if number == error_at:
            raise LookupError("the input ends badly")
        read.append(number)
        yield number


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_results_of_imap_are_there_after_join(lazy: bool, ordered: bool) -> None:
    read: list[int] = []
    pool = andon.Pool(2)
    method = pool.imap if ordered else pool.imap_unordered
    results = method(square, numbers(3000, read) if lazy else range(3000), chunksize=1)
    assert next(results) in range(3000)
    pool.close()
    pool.join()
    assert len(read) == (3000 if lazy else 0)
    assert len({*results}) == 2999


def test_S44_a_failure_in_what_is_left_of_an_imap_at_join() -> None:
    pool = andon.Pool(2)
    results = pool.imap(fail_at_900, range(3000))
    pool.close()
    pool.join()
    got = []
    with pytest.raises(ValueError, match="bad item 900"):
        for result in results:
            got.append(result)
    assert got == list(range(len(got))) and len(got) <= 900


def fail_at_900(number: int) -> int:
    fail_at(900, number)
    return number


@pytest.mark.parametrize("lazy", [True, False])
def test_all_of_an_imap_runs_though_nobody_takes_the_results(lazy: bool, tmp_path: Any) -> None:
    path = str(tmp_path / "noted")
    pool = andon.Pool(2)
    paths = [path] * 500
    pool.imap_unordered(note, iter(paths) if lazy else paths)
    pool.close()
    pool.join()
    with open(path) as file:
        assert file.read() == "." * 500


def test_an_error_of_the_input_comes_after_the_results_before_it(
    stage: Callable[..., Stage],
) -> None:
    go = stage("go")
    with andon.Pool(1) as pool:
        # All input is read, and has failed, before the first result is there.
        pool.apply_async(hold, (stage("running"), go))
        read: list[int] = []
        results = pool.imap(square, numbers(10, read, error_at=3), chunksize=1)
        eventually(lambda: len(read) == 3)
        go.release()
        assert [next(results) for _ in range(3)] == [0, 1, 4]
        with pytest.raises(LookupError, match="ends badly") as caught:
            next(results)
        assert caught.value.__cause__ is None
        assert list(results) == []


def test_terminate_ends_a_pool_that_closes(stage: Callable[..., Stage]) -> None:
    running, go = stage("running"), stage("go")
    pool = andon.Pool(1)
    worker = pool.apply(pid)
    pool.apply_async(hold, (running, go))
    results = pool.imap(square, range(10_000))
    running.word()
    pool.close()
    pool.terminate()
    wait_gone([worker], 5)
    pool.join()
    with pytest.raises(andon.PoolShutdownError):
        list(results)
