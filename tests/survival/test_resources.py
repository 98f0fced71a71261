"""What runs out, blocks, never ends, or calls back at an awkward moment.

Descriptors and processes (S42: bounded tries, then a clear error), input iterators (S46), done
callbacks (S47).
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import andon
from tests.support import Stage, allowed, eventually, opened, run_python
from tests.survival.bombs import double
from tests.survival.poison import raise_it, sleep

MakeStage = Callable[..., Stage]


# Descriptors and processes -----------------------------------------------------------------------

EXPECTED = {
    "of_descriptors": ["while starved 0", "fed True", "new workers True"],
    "of_descriptors_for_long": ["error PoolBrokenError True", "closed"],
    "of_descriptors_for_one": ["the other True", "new worker True"],
    "of_descriptors_at_once": ["error OSError True", "later [0, 2, 4, 6]"],
    "of_processes": ["while starved 0", "fed True", "new workers True"],
    "of_processes_for_long": ["error PoolBrokenError True", "closed"],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_running_out(start_method: str, name: str) -> None:
    result = run_python(["-m", "tests.survival.starved", name, start_method])
    if result.returncode == 77:
        pytest.skip("RLIMIT_NPROC does not bind root, and this root cannot become another user")
    assert result.stdout.splitlines() == EXPECTED[name], result.stderr
    assert (result.returncode, result.stderr) == (0, "")


class NoThreads:
    """No new thread can be had, of those whose name has this in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, names: str) -> None:
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if names in thread.name:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)


def test_no_thread_for_the_driver(start_method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stays of a pool that could not be opened."""
    with monkeypatch.context() as starved:
        NoThreads(starved, "driver")
        for make in (
            lambda: andon.Pool(2, start_method=start_method),
            lambda: andon.ProcessPoolExecutor(2, start_method=start_method),
            lambda: andon.map(double, range(3), start_method=start_method),
        ):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                make()
    assert andon.map(double, range(3), start_method=start_method) == [0, 2, 4]


def test_no_thread_for_the_driver_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pool is lost, and says so: nobody waits for it."""
    with andon.Pool(2, start_method="forkserver") as pool:
        waiting = pool.apply_async(sleep, (60,))
        with monkeypatch.context() as starved:
            NoThreads(starved, "andon-pool-driver")
            with andon.TaskGroup(workers=1, start_method="fork") as tg:
                tg.submit(double, 1)
        with pytest.raises(andon.InternalError, match="can't start new thread"):
            waiting.get(20)


def test_no_thread_for_callbacks(start_method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    with andon.Pool(1, start_method=start_method) as pool:
        with monkeypatch.context() as starved:
            NoThreads(starved, "callbacks")
            pool.apply_async(double, (2,), callback=called.append).wait()
            eventually(lambda: called)
        pool.apply_async(double, (3,), callback=called.append).wait()
        eventually(lambda: len(called) == 2)
    assert called == [4, 6]


def test_no_thread_to_read_what_is_left(
    start_method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool closes, and nobody has read all of a list: after what was run, whoever takes the
    results is told that the rest never will be. The pool is closed all the same."""
    with andon.Pool(1, start_method=start_method) as pool:
        results = pool.imap(double, list(range(1000)), chunksize=1)
        with monkeypatch.context() as starved:
            NoThreads(starved, "reader")
            pool.close()
        pool.join()
        taken: list[int] = []
        with pytest.raises(RuntimeError, match="can't start new thread"):
            taken.extend(results)
    assert 0 < len(taken) < 1000
    assert taken == [double(i) for i in range(len(taken))]


# The input ---------------------------------------------------------------------------------------


class BadInput(Exception):
    pass


def raises_after(count: int) -> Iterator[int]:
    yield from range(count)
    raise BadInput(f"after {count}")


@pytest.mark.parametrize("count", [0, 1, 50])
def test_S46_the_input_raises(start_method: str, count: int) -> None:
    with pytest.raises(BadInput, match=f"after {count}"):
        andon.map(double, raises_after(count), workers=2, start_method=start_method)
    got = []
    with pytest.raises(BadInput):
        for result in andon.imap(double, raises_after(count), workers=2, start_method=start_method):
            got.append(result)
    assert got == [2 * i for i in range(len(got))]
    with andon.Pool(2, start_method=start_method) as pool:
        with pytest.raises(BadInput):
            pool.map(double, raises_after(count))
        with pytest.raises(BadInput):
            list(pool.imap_unordered(double, raises_after(count)))
        with pytest.raises(BadInput):
            pool.map_async(double, raises_after(count))
        with pytest.raises(ExceptionGroup) as caught, andon.TaskGroup(pool=pool) as tg:
            list(tg.map(double, raises_after(count)))
        assert [type(e) for e in caught.value.exceptions] == [BadInput]
        assert tg.reason is not None and tg.reason.kind == "body"
        assert pool.map(double, range(4)) == [0, 2, 4, 6]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_input_raises_what_is_no_error(error: type[BaseException]) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise error("in the input")

    with andon.Pool(1) as pool:
        with pytest.raises(error):
            pool.map(double, items())
        with pytest.raises(error):
            list(pool.imap(double, items()))
        with pytest.raises(error), andon.TaskGroup(pool=pool) as tg:
            tg.map(double, items())  # read as the group is left
        assert pool.map(double, range(4)) == [0, 2, 4, 6]


def test_S46_the_input_blocks_and_a_task_fails(start_method: str) -> None:
    """Neither results nor the failure wait for it."""
    go = threading.Event()

    def items() -> Iterator[Any]:
        yield from ("a", "b")
        yield 0
        go.wait(20)
        yield "too late"

    read: list[Any] = []

    def noted() -> Iterator[Any]:
        for item in items():
            read.append(item)
            yield item

    got = []
    try:
        with andon.Pool(2, start_method=start_method) as pool:
            began = time.monotonic()
            with pytest.raises(TypeError):
                for result in pool.imap(_length, noted(), chunksize=1):
                    got.append(result)
            assert time.monotonic() - began < allowed(5)
            assert got in ([], [1], [1, 1]) and read == ["a", "b", 0]
            # A reader that hangs in the input hangs alone.
            assert pool.map(double, range(4)) == [0, 2, 4, 6]
    finally:
        go.set()


def _length(x: Any) -> int:
    return len(x)


def test_the_input_blocks_and_the_loop_is_left(start_method: str) -> None:
    go = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        go.wait(20)

    try:
        for result in andon.imap(double, items(), workers=2, start_method=start_method):
            assert result == 2
            break
    finally:
        go.set()


def test_S46_the_input_is_infinite(start_method: str) -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for read in itertools.count():  # noqa: UP028  # `read` is looked at from outside
            yield read

    workers, chunk = 2, 5
    with andon.Pool(workers, start_method=start_method) as pool:
        for position, result in enumerate(pool.imap(double, items(), chunksize=chunk)):
            assert result == 2 * position
            assert read - position < 300  # bounded memory
            if position == 1000:
                break
        with pytest.raises(ValueError, match="bad 500"):
            pool.map(_bad_at_500, items(), chunksize=1)
        assert read < 1000  # never past the decision, give or take what was under way
        with pytest.raises(ExceptionGroup), andon.TaskGroup(pool=pool) as tg:
            for item in items():
                tg.submit(_bad_at_500, item)
    for position, result in enumerate(
        andon.imap(double, itertools.count(), buffersize=3, workers=2, start_method=start_method)
    ):
        assert result == 2 * position
        if position == 50:
            break


def _bad_at_500(x: int) -> int:
    if x == 500:
        raise ValueError("bad 500")
    return x


@pytest.mark.stress
def test_S46_nothing_is_lost_at_the_end_of_the_input(start_method: str) -> None:
    """A thread reads the input: its end, or its error, must not overtake its last items."""
    with andon.Pool(2, start_method=start_method) as pool:
        for count in range(150):
            count %= 5
            expected = [2 * i for i in range(count)]
            assert list(pool.imap(double, iter(range(count)))) == expected
            assert sorted(pool.imap_unordered(double, iter(range(count)))) == expected
            with pytest.raises(BadInput):
                list(pool.imap(double, raises_after(count)))


def test_the_input_uses_the_pool_itself(start_method: str) -> None:
    with andon.Pool(2, start_method=start_method) as pool:
        inner = (pool.apply(double, (i,)) for i in range(10))
        assert list(pool.imap(double, inner)) == [4 * i for i in range(10)]
        chained = pool.imap(double, pool.imap(double, range(100)))
        assert list(chained) == [4 * i for i in range(100)]


# Callbacks (S47) ---------------------------------------------------------------------------------


def test_S47_callbacks_that_raise(start_method: str, caplog: pytest.LogCaptureFixture) -> None:
    called = []

    def bad(error: BaseException) -> Callable[[Any], None]:
        def callback(_: Any) -> None:
            called.append(type(error))
            raise error

        return callback

    with (
        caplog.at_level(logging.CRITICAL, logger="andon"),
        andon.ProcessPoolExecutor(2, start_method=start_method) as executor,
    ):
        future = executor.submit(double, 1)
        errors = [ValueError(), SystemExit(), KeyboardInterrupt(), GeneratorExit()]
        for error in errors:
            future.add_done_callback(bad(error))
        future.add_done_callback(lambda f: called.append(f.result()))
        assert future.result() == 2
        eventually(lambda: called == [*map(type, errors), 2])
        assert list(executor.map(double, range(4))) == [0, 2, 4, 6]
        future.add_done_callback(lambda f: called.append("late"))
        eventually(lambda: called[-1] == "late")


def test_S47_callbacks_that_submit(start_method: str) -> None:
    done = threading.Event()
    seen: list[int] = []

    with andon.ProcessPoolExecutor(2, start_method=start_method) as executor:

        def more(future: Any) -> None:
            seen.append(future.result())
            if len(seen) < 20:
                executor.submit(double, len(seen)).add_done_callback(more)
            else:
                done.set()

        executor.submit(double, 0).add_done_callback(more)
        assert done.wait(20)
    assert seen == [2 * i for i in range(20)]


def test_S47_a_callback_that_waits_for_another_task(start_method: str) -> None:
    answers: list[int] = []
    with andon.ProcessPoolExecutor(1, start_method=start_method) as executor:
        first = executor.submit(double, 1)
        first.add_done_callback(
            lambda f: answers.append(executor.submit(double, f.result()).result(20))
        )
        eventually(lambda: answers == [4])


def test_S47_a_callback_that_blocks_holds_up_no_one(start_method: str) -> None:
    go = threading.Event()
    with andon.ProcessPoolExecutor(2, start_method=start_method) as executor:
        executor.submit(double, 1).add_done_callback(lambda f: go.wait(20) and None)
        assert list(executor.map(double, range(20))) == [2 * i for i in range(20)]
        with andon.TaskGroup(pool=executor) as tg:
            tg.submit(double, 4)
        go.set()


def test_S47_callbacks_that_cancel(start_method: str, stage: MakeStage) -> None:
    running = stage()
    with andon.ProcessPoolExecutor(2, start_method=start_method) as executor:
        stuck = executor.submit(sleep, 60, running)
        waiting = [executor.submit(sleep, 60) for _ in range(3)]
        running.wait()
        with andon.TaskGroup(pool=executor) as tg:
            quick = tg.submit(double, 1)
            del quick
            tg.cancel("so that the group has ended")
        trigger = waiting.pop()
        trigger.add_done_callback(lambda f: [w.cancel() for w in (stuck, *waiting)])
        trigger.cancel()
        for future in (stuck, *waiting, trigger):
            with pytest.raises(andon.TaskCancelledError):
                future.result(20)
        assert executor.submit(double, 2).result(20) == 4


def test_S47_a_callback_that_cancels_its_group(start_method: str, stage: MakeStage) -> None:
    running = stage()
    with andon.TaskGroup(workers=2, start_method=start_method) as tg:
        stuck = tg.submit(sleep, 60, running)
        running.wait()
        tg.submit(double, 1).add_done_callback(lambda f: tg.cancel("by a callback"))
    assert stuck.cancelled() and tg.verdict == "cancelled"
    assert tg.reason is not None and tg.reason.message == "by a callback"


@pytest.mark.parametrize("how", ["close", "terminate", "shutdown", "shutdown-no-wait"])
def test_S47_callbacks_that_close_the_pool(start_method: str, how: str) -> None:
    pool, submit = opened(start_method, executor=how.startswith("shutdown"))
    called: list[str] = []
    over = threading.Event()

    def close(_: Any) -> None:
        try:
            if how == "shutdown":
                pool.shutdown()
            elif how == "shutdown-no-wait":
                pool.shutdown(wait=False)
            elif how == "close":
                pool.close()
                pool.join()
            else:
                pool.terminate()
            called.append(how)
        finally:
            over.set()

    others = [submit(double, i) for i in range(5)]
    last = submit(double, 21)
    last.add_done_callback(close)
    last.add_done_callback(lambda f: called.append("the next"))
    assert over.wait(20)
    eventually(lambda: called == [how, "the next"])
    if how != "terminate":
        assert [f.result(20) for f in others] == [0, 2, 4, 6, 8]
    for future in others:
        assert future.done() or future.exception(20) is None
    # And once more, from here: idempotent.
    if how.startswith("shutdown"):
        pool.shutdown()
    else:
        pool.terminate()
        pool.join()


def test_S47_async_callbacks_of_a_pool(start_method: str) -> None:
    got: list[Any] = []
    with andon.Pool(2, start_method=start_method) as pool:
        pool.map_async(double, range(4), callback=got.append).wait()
        pool.apply_async(double, (3,), callback=got.append).wait()
        bad = pool.apply_async(raise_it, (ValueError("x"),), error_callback=got.append)
        bad.wait()
        eventually(lambda: len(got) == 3)
    assert got[:2] == [[0, 2, 4, 6], 6] and type(got[2]) is ValueError
