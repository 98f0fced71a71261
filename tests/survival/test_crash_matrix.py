"""The crash matrix (S25, S27, S28, S42): how a worker goes × at what moment.

Each time: that task alone fails, with an error that says what happened to whom; the results of the
others arrive; the pool lives on.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import andon
from andon._engines.local.respawn import PER_SLOT
from tests.support import Stage, dice, wait_gone
from tests.survival import bombs
from tests.survival.bombs import (
    DEATHS,
    ERRORS,
    bomb,
    double,
    drop_it,
    pid,
    raise_it,
    return_it,
    take,
)

MakeStage = Callable[..., Stage]
Bad = tuple[Any, ...]  # a function and its arguments

HOME = os.getpid()
GOOD = 4


@pytest.fixture
def pool(start_method: str) -> Iterator[andon.Pool]:
    with andon.Pool(2, start_method=start_method) as pool:
        yield pool


def run_among_others(pool: andon.Pool, fn: Any, *args: Any) -> andon.Outcome:
    """The bad task between good ones: those succeed, the pool goes on. The bad one's outcome."""
    with andon.TaskGroup(pool=pool, policy=andon.collect_all()) as tg:
        before = [tg.submit(double, i) for i in range(GOOD)]
        bad = tg.submit(fn, *args)
        after = [tg.submit(double, i) for i in range(GOOD, 2 * GOOD)]
    assert [f.result() for f in before + after] == [2 * i for i in range(2 * GOOD)]
    assert pool.map(double, range(6)) == [0, 2, 4, 6, 8, 10], "the pool did not live on"
    outcome = tg.outcomes[GOOD]
    assert bad.done() and (bad.exception() is outcome.error)
    return outcome


def check_died(outcome: andon.Outcome, kind: str, phase: str, who: Stage | None) -> None:
    error = outcome.error
    assert type(error) is andon.WorkerDiedError, (kind, error)
    assert error.exitcode == DEATHS[kind], (kind, error)
    assert error.phase == phase, (kind, error)
    if who is not None:
        assert str(error.pid) == who.word(), (kind, error)
    text = str(error)
    assert f"worker {error.pid} " in text
    if error.exitcode >= 0:
        assert f"exited with status {error.exitcode}" in text
    else:
        assert signal.Signals(-error.exitcode).name in text
    assert ("out of memory" in text) == (kind == "kill"), text  # the hint, where it may be true
    assert outcome.state == "failed" and outcome.started is (phase not in ("unpickling", "idle"))


def check_error(
    outcome: andon.Outcome, kind: str, what: str, where: str, *, started: bool = True
) -> None:
    error = outcome.error
    assert isinstance(error, andon.SerializationError), (kind, error)
    assert error.what.startswith(what) and error.where == where, (kind, vars(error))
    assert ERRORS[kind].__name__ in error.original, (kind, error.original)
    assert what in str(error) and ERRORS[kind].__name__ in str(error)
    assert outcome.state == "failed" and outcome.started is started


def test_while_unpickling_the_arguments(pool: andon.Pool, stage: MakeStage) -> None:
    who = stage()
    for kind in DEATHS:
        outcome = run_among_others(pool, take, bombs.WhenUnpickled(kind, who))
        check_died(outcome, kind, "unpickling", who)
    for kind in ERRORS:
        outcome = run_among_others(pool, take, bombs.WhenUnpickled(kind))
        check_error(outcome, kind, "the arguments", "worker", started=False)


def test_while_running(pool: andon.Pool, stage: MakeStage) -> None:
    who = stage()
    for kind in DEATHS:
        check_died(run_among_others(pool, bomb, kind, who), kind, "running", who)
    error = run_among_others(pool, bomb, "error").error
    assert type(error) is RuntimeError and "in go_off" in str(error.__cause__)
    error = run_among_others(pool, bomb, "sys-exit").error
    assert type(error) is andon.TaskExitError and type(error.original) is SystemExit
    assert error.original.code == 4


def test_while_pickling_the_result(pool: andon.Pool, stage: MakeStage) -> None:
    who = stage()
    for kind in DEATHS:
        outcome = run_among_others(pool, return_it, bombs.WhenPickled, HOME, kind, who)
        check_died(outcome, kind, "pickling", who)
    for kind in ERRORS:
        outcome = run_among_others(pool, return_it, bombs.WhenPickled, HOME, kind)
        check_error(outcome, kind, "the result", "worker")


def test_while_pickling_the_exception(pool: andon.Pool, stage: MakeStage) -> None:
    who = stage()
    for kind in DEATHS:
        outcome = run_among_others(pool, raise_it, bombs.ErrorWhenPickled, HOME, kind, who)
        check_died(outcome, kind, "pickling", who)
    for kind in ERRORS:
        error = run_among_others(pool, raise_it, bombs.ErrorWhenPickled, HOME, kind).error
        assert isinstance(error, andon.SerializationError)
        assert (error.what, error.where) == ("the exception", "worker")
        assert "ErrorWhenPickled: its pickling is a bomb" in str(error)
        assert "in raise_it" in str(error.__cause__)  # where it was raised is not lost


@pytest.mark.parametrize("kind", [*ERRORS, "interrupt"])
def test_while_unpickling_in_the_parent(pool: andon.Pool, kind: str) -> None:
    name = "KeyboardInterrupt" if kind == "interrupt" else ERRORS[kind].__name__
    outcome = run_among_others(pool, return_it, bombs.WhenUnpickledAtHome, HOME, kind)
    error = outcome.error
    assert isinstance(error, andon.SerializationError)
    assert (error.what, error.where) == ("the result", "parent") and name in error.original

    outcome = run_among_others(pool, raise_it, bombs.ErrorWhenUnpickledAtHome, HOME, kind)
    error = outcome.error
    assert isinstance(error, andon.SerializationError)
    assert (error.what, error.where) == ("the exception", "parent") and name in error.original
    assert "ErrorWhenUnpickledAtHome: its unpickling is a bomb" in str(error)


def test_in_a_del_of_the_arguments(pool: andon.Pool, stage: MakeStage) -> None:
    who = stage()
    for kind in DEATHS:
        outcome = run_among_others(pool, drop_it, bombs.WhenDropped(HOME, kind, who))
        # The task had returned, yet nobody was told: its worker's death is its own.
        check_died(outcome, kind, "running", who)
    for kind in ERRORS:  # Python ignores them, and so do we
        assert run_among_others(pool, drop_it, bombs.WhenDropped(HOME, kind)).value == "dropped"


def test_in_a_del_of_the_result(pool: andon.Pool, stage: MakeStage) -> None:
    who = stage()
    for kind in DEATHS:
        outcome = run_among_others(pool, return_it, bombs.WhenDropped, HOME, kind, who)
        check_died(outcome, kind, "pickling", who)
    for kind in ERRORS:
        value = run_among_others(pool, return_it, bombs.WhenDropped, HOME, kind).value
        assert type(value) is bombs.WhenDropped


def test_while_importing_the_tasks_module(
    start_method: str,
    stage: MakeStage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    who = stage()
    with andon.Pool(2, start_method=start_method) as pool:
        for kind in [*DEATHS, *ERRORS]:
            name = f"bad_{kind.replace('-', '_')}_{start_method}"
            (tmp_path / f"{name}.py").write_text(
                "import os\n"
                "from tests.survival.bombs import go_off\n"
                "from tests.support import Stage\n"
                f"if os.getpid() != {HOME}:\n"
                f"    go_off({kind!r}, Stage({who.path!r}))\n"
                "def task(): return 1\n"
            )
            importlib.invalidate_caches()
            try:  # after the pool has opened: a fork of us has not imported it either
                outcome = run_among_others(pool, importlib.import_module(name).task)
            finally:
                sys.modules.pop(name, None)
            if kind in DEATHS:
                check_died(outcome, kind, "unpickling", who)
            else:
                who.word()
                check_error(outcome, kind, "the function", "worker", started=False)


# The initializer (S42) ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DEATHS)
def test_in_the_initializer_once(
    start_method: str, stage: MakeStage, tmp_path: Path, kind: str
) -> None:
    who = stage()
    with andon.Pool(
        2,
        bombs.once,
        (str(tmp_path / "marker"), kind, who),
        start_method=start_method,
    ) as pool:
        assert pool.map(double, range(8)) == [2 * i for i in range(8)]
        wait_gone([int(who.word())])


@pytest.mark.parametrize("kind", ERRORS)
def test_in_the_initializer_an_error(start_method: str, kind: str) -> None:
    with (
        pytest.raises(andon.InitializerError, match=ERRORS[kind].__name__) as caught,
        andon.Pool(2, bomb, (kind,), start_method=start_method) as pool,
    ):
        pool.map(double, range(8))
    assert "in go_off" in str(caught.value.__cause__)


@pytest.mark.parametrize("kind", ["exit", "segfault"])
def test_in_the_initializer_again_and_again(start_method: str, stage: MakeStage, kind: str) -> None:
    who = stage()
    workers = 2
    with (
        pytest.raises(andon.PoolBrokenError) as caught,
        andon.Pool(workers, bomb, (kind, who), start_method=start_method) as pool,
    ):
        futures = [pool.apply_async(double, (i,)) for i in range(4)]
        for future in futures:
            with pytest.raises(andon.PoolBrokenError, match="initializer"):
                future.get(20)
        with pytest.raises(andon.PoolBrokenError, match="initializer"):
            pool.apply_async(double, (1,))  # refused, and not by a bare Cancelled
        with pytest.raises(andon.PoolBrokenError) as earlier:
            pool.map(double, range(3))
        pool.map(double, range(8))
    assert caught.value is not earlier.value  # whose traceback and notes are its own
    assert len(caught.value.__notes__) == len(earlier.value.__notes__)
    assert type(caught.value) is andon.PoolBrokenError
    how = "exited with status 3" if kind == "exit" else "SIGSEGV"
    assert how in str(caught.value) and "initializer" in str(caught.value)
    assert len(who.reached()) <= workers * 6  # no respawn storm


# Idle, and between two tasks ---------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1, signal.SIGTERM])
def test_killed_while_idle(pool: andon.Pool, number: int) -> None:
    for _ in range(3):
        victims = sorted(pool.map(pid, range(2), chunksize=1))
        for victim in set(victims):
            os.kill(victim, number)
        # Also before we have seen the death: the task that is given to a dead worker has not begun,
        # so nobody but that worker fails for it.
        assert pool.apply(double, (21,)) == 42
        wait_gone(set(victims))
        assert pool.map(double, range(6)) == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("kind", DEATHS)
def test_dies_by_itself_while_idle(pool: andon.Pool, stage: MakeStage, kind: str) -> None:
    go, who = stage("go"), stage("who")
    victim = pool.apply(bombs.die_when_idle, (kind, go, who))
    go.release()
    assert int(who.word()) == victim
    wait_gone([victim])
    assert pool.map(double, range(6)) == [0, 2, 4, 6, 8, 10]
    assert victim not in pool.map(pid, range(6), chunksize=1)


@pytest.mark.stress
def test_killed_at_random_between_and_within_tasks(start_method: str) -> None:
    """Whoever is hit fails alone: no more failures than kills, every other result is right."""
    rng = dice(start_method, "kills")
    kills = PER_SLOT  # even if they all hit one slot, between its tasks: no more are allowed (S42)
    killed: list[int] = []
    count = 4000
    with andon.Pool(2, start_method=start_method) as pool:
        rows = pool._runtime.look
        stop = threading.Event()

        def kill_some() -> None:
            while len(killed) < kills and not stop.is_set():
                stop.wait(rng.uniform(0.002, 0.03))
                row = rng.choice(rows() or [None])
                if row is not None and row.pid and row.phase not in ("booting",):
                    try:
                        os.kill(row.pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
                    killed.append(row.pid)

        killer = threading.Thread(target=kill_some)
        killer.start()
        done = 0
        try:
            while killer.is_alive() or done == 0:
                results = andon_map_collecting(pool, range(count))
                done += 1
                bad = [i for i, r in enumerate(results) if r != 2 * i]
                assert all(type(results[i]) is andon.WorkerDiedError for i in bad)
                assert all(results[i].pid in killed for i in bad)
        finally:
            stop.set()
            killer.join()
        assert pool.map(double, range(100)) == [2 * i for i in range(100)]


def andon_map_collecting(pool: andon.Pool, items: range) -> list[Any]:
    with andon.TaskGroup(pool=pool, policy=andon.collect_all()) as tg:
        return list(tg.map(double, items, chunksize=7))


# Half-way through a large message ----------------------------------------------------------------

LARGE = 200_000_000


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_half_way_through_sending_a_large_result(
    pool: andon.Pool, stage: MakeStage, number: int
) -> None:
    sending, held, go = stage("sending"), stage("held"), stage("go")
    with andon.TaskGroup(pool=pool, policy=andon.collect_all()) as tg:
        blocker = tg.submit(return_it, bombs.HoldsTheParent, HOME, held, go)
        held.wait()  # nobody reads the workers' pipes now: they fill up, and stay full
        large = tg.submit(bombs.big, LARGE, sending)
        victim = int(sending.word())
        os.kill(victim, number)
        wait_gone([victim])
        go.release()
        good = [tg.submit(double, i) for i in range(GOOD)]
    assert blocker.result() == "held"
    error = large.exception()
    assert type(error) is andon.WorkerDiedError
    assert (error.pid, error.exitcode, error.phase) == (victim, -number, "sending")
    assert [f.result() for f in good] == [2 * i for i in range(GOOD)]
    assert pool.map(double, range(6)) == [0, 2, 4, 6, 8, 10]


def test_half_way_through_receiving_a_large_argument(start_method: str) -> None:
    data = bytes(LARGE // 4)
    with andon.Pool(1, start_method=start_method) as pool:
        victim = pool.apply(pid)
        os.kill(victim, signal.SIGSTOP)  # it reads no more
        sent = pool.apply_async(len, (data,))
        waiting = pool.apply_async(len, (data,))
        os.kill(victim, signal.SIGKILL)
        # Nothing of the task had begun (S13): it runs on the next worker.
        assert sent.get(20) == len(data)
        assert waiting.get(20) == len(data)
        assert pool.apply(pid) != victim


def test_an_argument_that_no_worker_has_room_for(start_method: str) -> None:
    with andon.Pool(2, bombs.limit_memory, (LARGE // 8,), start_method=start_method) as pool:
        outcome = run_among_others(pool, len, bytes(LARGE // 2))
        error = outcome.error
        assert isinstance(error, andon.SerializationError), error
        assert error.what == "the arguments" and "MemoryError" in error.original


def test_S27_a_whole_result_counts_though_its_worker_died(
    pool: andon.Pool, stage: MakeStage
) -> None:
    held, go, sent = stage("held"), stage("go"), stage("sent")
    with andon.TaskGroup(pool=pool, policy=andon.collect_all()) as tg:
        tg.submit(return_it, bombs.HoldsTheParent, HOME, held, go)
        held.wait()  # nobody reads the workers' pipes now
        small = tg.submit(bombs.tell_when_sent, sent)
        victim = int(sent.word())
        os.kill(victim, signal.SIGKILL)
        wait_gone([victim])
        go.release()
    assert small.result() == victim
