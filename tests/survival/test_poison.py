"""What must not spoil a pool: objects that cannot travel (S28), exits (S24), and tasks that close,
replace, fork or stop what their worker lives by. Each fails, if at all, alone.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from psutil import Process

import andon
from andon._words import describe
from tests.support import Stage, alive, allowed, eventually, wait_gone
from tests.survival import poison
from tests.survival.bombs import double, pid, take
from tests.survival.poison import UNPICKLABLE, raise_it, sleep

MakeStage = Callable[..., Stage]


@pytest.fixture
def pool(start_method: str) -> Iterator[andon.Pool]:
    with andon.Pool(2, start_method=start_method) as pool:
        yield pool


@pytest.fixture
def lone(start_method: str) -> Iterator[andon.Pool]:
    """A pool of one worker, so that the next task meets what the last one left."""
    with andon.Pool(1, start_method=start_method, grace=0.2, kill_after=0.5) as pool:
        yield pool


def error_of(pool: andon.Pool, fn: Any, *args: Any) -> BaseException | None:
    """The one bad task among good ones; its error."""
    with andon.TaskGroup(pool=pool, policy=andon.collect_all()) as tg:
        good = [tg.submit(double, i) for i in range(3)]
        bad = tg.submit(fn, *args)
        good += [tg.submit(double, i) for i in range(3, 6)]
    assert [f.result() for f in good] == [0, 2, 4, 6, 8, 10]
    return bad.exception()


# Objects -----------------------------------------------------------------------------------------


def test_unpicklable_arguments(pool: andon.Pool) -> None:
    for kind, (make, expected) in UNPICKLABLE.items():
        with andon.TaskGroup(pool=pool) as tg:
            good = tg.submit(double, 1)
            with pytest.raises(andon.SerializationError) as caught:  # where it is submitted
                tg.submit(take, make())
            with pytest.raises(andon.SerializationError, match="key"):
                tg.submit(take, 1, key=make())
        error = caught.value
        assert error.where == "parent" and "args[0]" in error.what, kind
        assert expected.__name__ in error.original, kind
        assert isinstance(error.__cause__, Exception)
        assert good.result() == 2
    assert pool.map(double, range(4)) == [0, 2, 4, 6]


def test_an_unpicklable_item_of_a_map(pool: andon.Pool) -> None:
    for kind, (make, expected) in UNPICKLABLE.items():
        items = [1, 2, make(), 4]
        with andon.TaskGroup(pool=pool, policy=andon.collect_all()) as tg:
            results = list(tg.map(double, items, chunksize=4))
        assert results[:2] + results[3:] == [2, 4, 8], kind
        assert isinstance(results[2], andon.SerializationError), kind
        assert expected.__name__ in results[2].original
        with pytest.raises(andon.SerializationError):
            pool.map(double, items)
        with pytest.raises(andon.SerializationError):
            list(pool.imap_unordered(double, iter(items)))
    assert pool.map(double, range(4)) == [0, 2, 4, 6]


@pytest.mark.parametrize("chunksize", [None, 1, 2, 9])
def test_S28_an_unpicklable_item_goes_by_its_own_number(
    pool: andon.Pool, chunksize: int | None
) -> None:
    import threading

    lock = threading.Lock()
    items, stars = [1, 2, [3, lock], 4], [(1,), (2,), (3, lock), (4,)]
    calls: list[Callable[[], object]] = [
        lambda: pool.map(take, items, chunksize),
        lambda: pool.map_async(take, items, chunksize).get(),
        lambda: list(pool.imap(take, items, chunksize)),
        lambda: list(pool.imap(take, iter(items), chunksize)),
    ]
    starred: list[Callable[[], object]] = [
        lambda: pool.starmap(take, stars, chunksize),
        lambda: pool.starmap_async(take, iter(stars), chunksize).get(),
    ]
    for call in calls + starred:
        with pytest.raises(andon.SerializationError) as caught:
            call()
        path = "item 2, args[1]" if call in starred else "item 2[1]"
        assert caught.value.what == f"the arguments: {path} (a _thread.lock)"
        assert caught.value.__notes__[0].startswith("task 2: take(")
    with andon.TaskGroup(pool=pool, policy=andon.collect_all()) as tg:
        list(tg.map(take, [1, 2]))
        found = list(tg.map(take, [*items, lock], [0] * 5, chunksize=chunksize))
        assert [f"{e.what}"[15:] for e in found if isinstance(e, andon.SerializationError)] == [
            "item 2, args[0][1] (a _thread.lock)",
            "item 4, args[0] (a _thread.lock)",
        ]


def test_an_unpicklable_function(pool: andon.Pool) -> None:
    import threading

    lock = threading.Lock()
    with pytest.raises(andon.SerializationError, match="lock") as caught:
        pool.apply(lambda: lock)
    assert "the function" in caught.value.what and "'lock'" in caught.value.what
    assert pool.apply(double, (1,)) == 2


def test_unpicklable_results(pool: andon.Pool) -> None:
    for kind, (_, expected) in UNPICKLABLE.items():
        error = error_of(pool, poison.make_unpicklable, kind)
        assert isinstance(error, andon.SerializationError), kind
        assert error.where == "worker" and error.what.startswith("the result"), kind
        assert expected.__name__ in error.original, kind
    for kind in ("SystemExit", "KeyboardInterrupt"):
        error = error_of(pool, poison.refuse_with, kind)
        assert isinstance(error, andon.SerializationError) and kind in error.original


def test_exceptions_that_do_not_travel(pool: andon.Pool) -> None:
    for kind, where, told in (
        ("WantsTwo", "parent", "WantsTwo: 7: seven"),
        ("Lies", "parent", "Lies"),
        ("LiesWithAClass", "parent", "LiesWithAClass"),
        ("ReduceRaises", "worker", "ReduceRaises"),
        ("CarriesALock", "worker", "CarriesALock: look what I have"),
        ("group", "parent", "two"),
    ):
        error = error_of(pool, poison.raise_kind, kind)
        assert isinstance(error, andon.SerializationError), (kind, error)
        assert (error.what, error.where) == ("the exception", where), (kind, vars(error))
        assert told in str(error), (kind, error)
        assert "in raise_kind" in _causes(error), kind  # the remote traceback is not lost


def _causes(error: BaseException) -> str:
    """The texts of all causes: the traceback is one of them."""
    texts = []
    cause = error.__cause__
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    return "\n".join(texts)


def test_an_exception_whose_cause_does_not_travel(pool: andon.Pool) -> None:
    """A pickle holds no causes; the text tells of them."""
    error = error_of(pool, poison.raise_kind, "chained")
    assert type(error) is ValueError and "CarriesALock" in str(error.__cause__)


class SlowError(Exception):
    """Its pickling takes so many seconds."""

    def __reduce__(self) -> Any:
        time.sleep(self.args[0])
        return SlowError, self.args


def fail_slowly(seconds: float) -> None:
    raise SlowError(seconds)


@pytest.mark.parametrize(("seconds", "grace"), [(2.3, None), (600.0, 0.1)])
def test_S11_an_exception_that_is_slow_to_tell(
    pool: andon.Pool, seconds: float, grace: float | None
) -> None:
    """It stops the group at once, and has as long as its group gives a task that clears up."""
    ladder = {} if grace is None else {"grace": grace, "kill_after": grace}
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(pool=pool, **ladder) as tg,  # type: ignore[arg-type]
    ):
        tg.submit(fail_slowly, seconds)
    (error,) = caught.value.exceptions
    assert tg.reason is not None and tg.reason.message.endswith(f"SlowError: {seconds}")
    if grace is None:
        assert type(error) is SlowError
    else:
        assert isinstance(error, andon.WorkerDiedError)
        assert "while pickling" in str(error) and "its error took too long to come" in str(error)
    assert pool.apply(abs, (-3,)) == 3


def test_S9_a_harder_stop_shortens_the_wait_for_an_error(start_method: str) -> None:
    with (
        andon.Pool(1, start_method=start_method) as pool,
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(pool=pool, grace=300.0, kill_after=300.0) as tg,
    ):
        tg.submit(fail_slowly, 600.0)
        eventually(lambda: tg.reason is not None)
        pool.terminate()
    (error,) = caught.value.exceptions
    assert isinstance(error, andon.WorkerDiedError)
    assert "its error took too long to come" in str(error)


def test_exceptions_that_say_nothing(pool: andon.Pool) -> None:
    error = error_of(pool, poison.raise_kind, "Unspeakable")
    assert type(error) is poison.Unspeakable
    error = error_of(pool, poison.raise_kind, "UnspeakableExit")
    assert type(error) is andon.TaskExitError and "UnspeakableExit" in str(error)
    for kind, expected in (
        ("Unspeakable", poison.Unspeakable),
        ("UnspeakableExit", andon.TaskExitError),
    ):
        with pytest.raises(expected):
            pool.apply(poison.raise_kind, (kind,))
        with pytest.raises(expected):
            pool.map(poison.raise_kind, [kind, kind])
        with pytest.raises(BaseExceptionGroup), andon.TaskGroup(pool=pool) as tg:
            tg.submit(poison.raise_kind, kind)
        assert pool.map(double, range(4)) == [0, 2, 4, 6]


@pytest.mark.parametrize("kind", poison.HOSTILE)
def test_S28_exceptions_whose_attributes_raise(lone: andon.Pool, kind: str) -> None:
    before = lone.apply(pid)
    error = error_of(lone, poison.raise_hostile, kind, "what went wrong")
    assert error is not None
    assert kind in describe(error) and "what went wrong" in describe(error)
    with pytest.raises(BaseException) as caught:
        lone.apply(poison.raise_hostile, (kind, "what went wrong"))
    assert type(caught.value) is type(error)
    assert lone.apply(pid) == before


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, RecursionError])
def test_arguments_whose_repr_raises(pool: andon.Pool, kind: type[BaseException]) -> None:
    """They are named in the notes of an error; that must do no harm."""
    argument = poison.Unfriendly(kind)
    error = error_of(pool, _fail_with, argument)
    assert type(error) is ValueError and "_fail_with" in error.__notes__[0]
    with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(pool=pool) as tg:
        tg.submit(_fail_with, argument)
    assert [type(e) for e in caught.value.exceptions] == [ValueError]
    with pytest.raises(ValueError):
        pool.map(_fail_with, [argument, argument])
    assert pool.map(double, range(4)) == [0, 2, 4, 6]


def _fail_with(_: Any) -> None:
    raise ValueError("bad")


# Exits (S24) -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, None, 3, "a text"])
def test_S24_sys_exit_is_no_success(pool: andon.Pool, code: Any) -> None:
    error = error_of(pool, poison.leave, code)
    assert type(error) is andon.TaskExitError
    assert type(error.original) is SystemExit and error.original.code == code
    given = "" if code is None else repr(code)
    assert str(error) == f"the task raised SystemExit({given})"
    assert "in leave" in str(error.__cause__)
    with pytest.raises(andon.TaskExitError):  # and bare, it would end this program
        pool.apply(poison.leave, (code,))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, BaseException, StopIteration])
def test_S24_no_exit_is_raised_bare(pool: andon.Pool, kind: type[BaseException]) -> None:
    error = error_of(pool, raise_it, kind("from the task"))
    if issubclass(kind, Exception):
        assert type(error) is kind
    else:
        assert type(error) is andon.TaskExitError and type(error.original) is kind
    with pytest.raises(kind if issubclass(kind, Exception) else andon.TaskExitError):
        pool.map(raise_it, [kind("from the task")])
    assert pool.map(double, range(4)) == [0, 2, 4, 6]


def test_S28_the_traceback_of_a_result_that_cannot_travel_shows_no_code_of_ours(
    pool: andon.Pool,
) -> None:
    """Nor of the pickler's."""
    for args, has_frames in (((threading.Lock,), False), ((poison.Refuses, KeyError), True)):
        with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(pool=pool) as tg:
            tg.submit(*args)
        (error,) = caught.value.exceptions
        told = str(error.__cause__)
        assert "andon/_" not in told and "cloudpickle" not in told
        assert ("in __reduce__" in told) is has_frames
        assert tg.reason is not None
        assert tg.reason.message.startswith("pickling the result: ")


def test_S24_in_a_group(start_method: str) -> None:
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(workers=1, start_method=start_method) as tg,
    ):
        tg.submit(poison.leave, 0)
    assert [type(e) for e in caught.value.exceptions] == [andon.TaskExitError]


# Tasks that spoil their worker -------------------------------------------------------------------


def works_on(pool: andon.Pool, stage: MakeStage, worker: int, *, rung: str = "interrupt") -> None:
    """The one worker, the same as before, computes, sends large results, and can be stopped: by
    its token, and on the rung beyond it."""
    assert pool.apply(pid) == worker
    assert pool.map(double, range(50)) == [2 * i for i in range(50)]
    assert len(pool.apply(bytes, (1_000_000,))) == 1_000_000
    with pytest.raises(ValueError, match="after it"):
        pool.apply(raise_it, (ValueError("after it"),))
    with andon.TaskGroup(pool=pool) as tg:
        tg.submit(poison.ask_for_a_stop)
    assert tg.outcomes[0].stopped_by == "token"
    running = stage()
    future = pool.apply_async(sleep, (60, running))._source
    victim = int(running.word())
    assert victim == worker
    future.cancel()
    with pytest.raises(andon.TaskCancelledError) as caught:
        future.result(20)
    assert caught.value.stopped_by == rung
    wait_gone([victim])
    assert pool.map(double, range(4)) == [0, 2, 4, 6]


@pytest.mark.parametrize(
    "spoil",
    [
        poison.close_descriptors,
        poison.close_standard_streams,
        poison.set_streams_to_none,
        poison.replace_handlers,
        poison.eat_recursion,
    ],
)
def test_a_task_spoils_its_process(
    lone: andon.Pool, stage: MakeStage, spoil: Callable[[], int]
) -> None:
    works_on(lone, stage, lone.apply(spoil))


def test_a_task_blocks_all_signals(lone: andon.Pool, stage: MakeStage) -> None:
    """Nobody unblocks them after every task, which would cost every task; the kill is there."""
    works_on(lone, stage, lone.apply(poison.block_all_signals), rung="kill")


def test_a_task_changes_directory(lone: andon.Pool, stage: MakeStage, tmp_path: Path) -> None:
    here = os.getcwd()
    worker = lone.apply(poison.change_directory, (str(tmp_path),))
    works_on(lone, stage, worker)
    assert os.getcwd() == here
    assert lone.apply(poison.where) == here  # a new worker is where the parent is
    lone.apply(poison.to_a_directory_that_goes, (str(tmp_path / "gone"),))
    assert lone.apply(double, (1,)) == 2


def test_a_task_stops_itself_and_its_timeout_ends_it(pool: andon.Pool, stage: MakeStage) -> None:
    running = stage()
    with andon.TaskGroup(pool=pool, policy=andon.collect_all(), grace=0.1, kill_after=0.2) as tg:
        stuck = tg.submit(poison.stop_itself, running, timeout=0.2)
        good = [tg.submit(double, i) for i in range(4)]
        worker = int(running.word())
    assert type(stuck.exception()) is andon.TaskTimeoutError
    assert tg.outcomes[0].stopped_by == "kill"
    assert [f.result() for f in good] == [0, 2, 4, 6]
    assert not alive(worker)


def test_a_task_stops_itself_and_the_group_ends_it(pool: andon.Pool, stage: MakeStage) -> None:
    running = stage()
    with (
        pytest.raises(ExceptionGroup) as caught,
        andon.TaskGroup(pool=pool, grace=0.1, kill_after=0.2) as tg,
    ):
        tg.submit(poison.stop_itself, running)
        worker = int(running.word())
        eventually(lambda: _is_stopped(worker))
        began = time.monotonic()
        tg.submit(raise_it, ValueError("the reason"))
    assert time.monotonic() - began < allowed(2.0)
    assert [type(e) for e in caught.value.exceptions] == [ValueError]
    outcome = tg.outcomes[0]
    assert (outcome.state, outcome.stopped_by) == ("cancelled", "kill")
    assert not alive(worker)
    assert pool.map(double, range(4)) == [0, 2, 4, 6]


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_stopped_idle_worker_does_not_hold_up_the_end(start_method: str) -> None:
    with andon.Pool(2, start_method=start_method) as pool:
        workers = set(pool.map(pid, range(4), chunksize=1))
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        began = time.monotonic()
    assert time.monotonic() - began < allowed(3.0)
    assert not any(alive(worker) for worker in workers)


def test_a_task_forks_and_both_return(lone: andon.Pool, stage: MakeStage) -> None:
    worker = lone.apply(pid)
    for _ in range(3):
        parent, child = lone.apply(poison.fork_and_return)
        assert parent == worker and child != 0  # one answer, the worker's own
        wait_gone([child])
    with pytest.raises(ValueError, match="from the worker"):
        lone.apply(poison.fork_and_raise)
    with andon.TaskGroup(pool=lone, policy=andon.collect_all()) as tg:  # within a span
        results = list(tg.map(_fork_at_two, range(5), chunksize=5))
    assert results == [0, 1, 2, 3, 4]
    assert type(lone.apply(poison.fork_in_reduce)) is poison.ForksWhenPickled
    # A child that is still on its way out goes with the worker that a stop finds it in (S20).
    eventually(lambda: not any(alive(child.pid) for child in Process(worker).children()))
    works_on(lone, stage, worker)


def _fork_at_two(x: int) -> int:
    if x == 2:
        os.fork()
    return x


def test_S17_what_a_tasks_child_does_is_not_the_next_tasks(
    lone: andon.Pool, stage: MakeStage
) -> None:
    """Its shield would hold up the stop, and its use of a token give the whole grace."""
    go, done, running = stage("go"), stage("done"), stage("running")
    lone.apply(poison.leave_a_copy, (go, done))
    with andon.TaskGroup(pool=lone, grace=600, kill_after=600) as tg:
        tg.submit(sleep, 60, running)
        running.wait()
        go.release()
        done.wait()
        tg.cancel("enough")
    assert tg.outcomes[0].stopped_by == "interrupt"


def test_a_task_writes_into_its_workers_pipe(pool: andon.Pool, stage: MakeStage) -> None:
    """Whatever it takes for a descriptor of its own: garbage ends that worker, and it alone."""
    error = error_of(pool, _write_everywhere)
    if error is not None:
        assert isinstance(error, andon.WorkerDiedError)
        assert re.search("written into the pipe|cannot be read", str(error)), error
    assert pool.map(double, range(4)) == [0, 2, 4, 6]


@pytest.mark.parametrize("cut", [poison.close_all_descriptors, poison.become_another_program])
def test_a_task_cuts_its_worker_off(pool: andon.Pool, cut: Callable[[], None]) -> None:
    """Nobody hears of it any more: it is killed, which is not told as a lack of memory."""
    error = error_of(pool, cut)
    assert isinstance(error, andon.WorkerDiedError)
    assert "while running the task, since the pipe of its answers was closed" in str(error)
    assert pool.map(double, range(4)) == [0, 2, 4, 6]


def test_what_ran_behind_garbled_answers_is_not_run_again(
    pool: andon.Pool, stage: MakeStage, tmp_path: Path
) -> None:
    """One that answered unreadably has started (S13), and so has what followed it in its chunk."""
    record = tmp_path / "ran"
    with andon.TaskGroup(pool=pool, policy=andon.collect_all()) as tg:
        work = partial(_garble_at_two, os.fspath(record))
        list(tg.imap(work, range(6), chunksize=6, return_outcomes=True))
    told = [line.split() for line in record.read_text().splitlines()]
    ran = [int(item) for item, _ in told]
    assert len(ran) == len(set(ran))
    assert [o.index for o in tg.outcomes] == list(range(6))
    assert [o.value for o in tg.outcomes if o.ok] == [o.index for o in tg.outcomes if o.ok]
    for outcome in tg.outcomes:
        assert outcome.ok or isinstance(outcome.error, andon.WorkerDiedError), outcome
        assert outcome.started or outcome.index not in ran
    assert all(outcome.ok for outcome in tg.outcomes[:2])  # whole answers count (S27)
    # What it had in its tray counts, too (S45), perhaps all of it; but it is not used again.
    wait_gone([int(worker) for item, worker in told if item == "2"])
    assert pool.map(double, range(4)) == [0, 2, 4, 6]


def _garble_at_two(record: str, x: int) -> int:
    with open(record, "a") as file:
        file.write(f"{x} {os.getpid()}\n")
    if x == 2:
        _write_everywhere()
    return x


def _write_everywhere() -> None:
    import fcntl

    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd >= 40:  # a worker's own are high
            try:
                if "pipe:" in os.readlink(f"/proc/self/fd/{fd}"):
                    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_WRONLY:
                        os.write(fd, b"garbage " * 100)
            except OSError:
                pass


def test_a_task_that_prints_a_lot(lone: andon.Pool, stage: MakeStage) -> None:
    worker = lone.apply(poison.write_into_the_streams, (200_000,))
    works_on(lone, stage, worker)
