"""How pools end: what their last wait hears, whose callbacks it waits for, who may ask for it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

import andon
from andon._runtime import shared
from andon._runtime.callbacks import CallbackThread
from tests.support import allowed, eventually, opened, run_python

PATIENCE = 20.0  # seconds


def double(i: int) -> int:
    return 2 * i


def serve(stop: andon.Event) -> bool:
    return stop.wait(PATIENCE)


# Signal handlers ---------------------------------------------------------------------------------


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Have this called by a signal handler, soon."""
    before = signal.getsignal(signal.SIGALRM)

    def ring(call: Callable[[], object]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: call())
        signal.setitimer(signal.ITIMER_REAL, 0.3)

    yield ring
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def executor(method: str) -> tuple[Any, Any, Callable[[], object]]:
    pool = andon.ProcessPoolExecutor(1, start_method=method)
    return pool, pool.submit, pool.shutdown


def joined(method: str) -> tuple[Any, Any, Callable[[], object]]:
    pool = andon.Pool(1, start_method=method)

    def submit(fn: Any, *args: Any) -> Any:
        result = pool.apply_async(fn, args)
        pool.close()
        return result._source

    return pool, submit, pool.join


def joined_by_a_map(method: str) -> tuple[Any, Any, Callable[[], object]]:
    """Its input has not been read when `join` begins to wait."""
    pool = andon.Pool(1, start_method=method)
    results = []

    def submit(fn: Any, *args: Any) -> Any:
        results.append(pool.imap(fn, iter([*args] * 2), 1))
        future = pool.apply_async(fn, args)._source
        pool.close()
        return future

    return pool, submit, pool.join


def joined_by_a_body(method: str) -> tuple[Any, Any, Callable[[], object]]:
    """It stands in another thread."""
    pool = andon.Pool(1, start_method=method)

    def submit(fn: Any, *args: Any) -> Any:
        futures: list[Any] = []

        def work() -> None:
            with andon.TaskGroup(pool=pool) as tg:
                futures.append(tg.submit(fn, *args))
                futures[0].result()

        threading.Thread(target=work, daemon=True).start()
        eventually(lambda: futures)
        pool.close()
        return futures[0]

    return pool, submit, pool.join


ENDS = [executor, joined, joined_by_a_map, joined_by_a_body]


@pytest.mark.parametrize("make", ENDS)
def test_a_handler_runs_while_accepted_work_is_waited_for(
    start_method: str, make: Callable[[str], Any], alarm: Callable[[Callable[[], object]], None]
) -> None:
    """The usual graceful end: a handler tells the tasks."""
    stop = andon.Event()
    _, submit, end = make(start_method)
    future = submit(serve, stop)
    alarm(stop.set)
    end()
    assert future.result(0) is True


class Late(Exception):
    pass


@pytest.mark.parametrize("make", ENDS)
def test_a_handler_may_raise_there(
    start_method: str, make: Callable[[str], Any], alarm: Callable[[Callable[[], object]], None]
) -> None:
    """It is heard at once; the pool takes no more work, finishes what it has, and can be waited for
    again."""

    def late() -> None:
        raise Late

    stop = andon.Event()
    pool, submit, end = make(start_method)
    future = submit(serve, stop)
    alarm(late)
    with pytest.raises(Late):
        end()
    assert not future.done()
    with pytest.raises(RuntimeError, match=r"shutdown|not running"):
        (pool.submit if make is executor else pool.apply)(double, (1,))
    stop.set()
    end()
    assert future.result(0) is True


def test_a_handler_that_raises_in_the_midst_of_it_is_held_back(
    start_method: str,
    alarm: Callable[[Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between two waits, where code of ours must not be left half-way."""

    def late() -> None:
        raise Late

    executor = andon.ProcessPoolExecutor(1, start_method=start_method)
    alarm(late)
    signal.setitimer(signal.ITIMER_REAL, 0)
    executor.submit(double, 1).result(PATIENCE)
    callbacks = executor._runtime.callbacks

    def then(call: Callable[[], None]) -> None:
        signal.raise_signal(signal.SIGALRM)
        CallbackThread.then(callbacks, call)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "then", then)
        with pytest.raises(Late):
            executor.shutdown()
    executor.shutdown()


INTERRUPTED = """\
import os, signal, sys, threading, time, andon
from andon._runtime import shared
shared._END = 0.2
executor = andon.ProcessPoolExecutor(1, start_method=sys.argv[1], grace=0.1, kill_after=0.1)
over = threading.Event()
def key(after, number=signal.SIGINT):
    timer = threading.Timer(after, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()
def fail(*_):
    raise ValueError("out of a handler")
"""


def test_S32_a_key_ends_the_wait_for_a_callback_that_hangs(start_method: str) -> None:
    program = INTERRUPTED + (
        "executor.submit(abs, -1).add_done_callback(lambda future: over.wait(30))\n"
        "key(0.3)\n"
        "begun = time.monotonic()\n"
        "try:\n"
        "    executor.shutdown()\n"
        "except KeyboardInterrupt:\n"
        "    print('left', time.monotonic() - begun < 15)\n"
        "over.set()\n"
    )
    result = run_python(["-c", program, start_method])
    assert (result.stdout, result.stderr) == ("left True\n", "")


def test_S32_a_key_is_not_lost_to_the_error_of_a_handler(start_method: str) -> None:
    program = INTERRUPTED + (
        "signal.signal(signal.SIGALRM, fail)\n"
        "running = executor.submit(time.sleep, 30)\n"
        "while not running.running():\n"
        "    time.sleep(0.01)\n"
        "stop = executor._runtime.interrupt\n"
        "executor._runtime.interrupt = lambda count: key(0.1, signal.SIGALRM)\n"
        "key(0.1)\n"
        "try:\n"
        "    executor.shutdown()\n"
        "except KeyboardInterrupt as interrupt:\n"
        "    print(*interrupt.__notes__)\n"
        "executor.kill_workers()\n"
        "executor.shutdown()\n"
    )
    result = run_python(["-c", program, start_method])
    assert (result.stdout, result.stderr) == ("also raised: ValueError: out of a handler\n", "")


def test_S14_what_an_outer_group_raises_in_the_wait_of_an_inner_one_leaves_it(
    start_method: str, alarm: Callable[[Callable[[], object]], None]
) -> None:
    left: list[bool] = []
    with andon.TaskGroup(workers=1, start_method=start_method) as outer:

        def look() -> None:
            outer.cancel("enough")
            outer.token.check()

        alarm(look)
        with andon.TaskGroup(workers=1, start_method=start_method, grace=0.1) as inner:
            inner.submit(time.sleep, 30)
        left.append(True)
    assert not left and (inner.verdict, outer.verdict) == ("cancelled", "cancelled")


# Callbacks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["with", "shutdown", "join"])
def test_S47_callbacks_are_waited_for(
    start_method: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long they take, and what they submit, too."""
    monkeypatch.setattr(shared, "_END", 0.1)
    called: list[int] = []

    def slow(value: int) -> None:
        time.sleep(0.2)
        called.append(value)

    if how == "join":
        pool = andon.Pool(1, start_method=start_method)
        results = [pool.apply_async(double, (i,), callback=slow) for i in range(4)]
        pool.close()
        pool.join()
        assert called == [0, 2, 4, 6] and results[-1].ready()
        return
    executor = andon.ProcessPoolExecutor(1, start_method=start_method)

    submitted = threading.Event()  # it takes no more once we have left

    def again(_: Any) -> None:
        executor.submit(double, 21).add_done_callback(lambda f: slow(f.result()))
        submitted.set()

    for i in range(3):
        executor.submit(double, i).add_done_callback(lambda f: slow(f.result()))
    executor.submit(double, 3).add_done_callback(again)
    assert submitted.wait(PATIENCE)
    if how == "with":
        with executor:
            pass
    else:
        executor.shutdown()
    assert called == [0, 2, 4, 42]


def test_S47_callbacks_are_waited_for_at_exit(start_method: str) -> None:
    program = (
        "import sys, time, andon\n"
        "from andon._runtime import registry\n"
        "registry._AT_EXIT = 0.1\n"
        "executor = andon.ProcessPoolExecutor(1, start_method=sys.argv[1])\n"
        "def told(future):\n"
        "    time.sleep(0.1)\n"
        "    print(future.result(), flush=True)\n"
        "for i in range(5):\n"
        "    executor.submit(abs, -i).add_done_callback(told)\n"
    )
    result = run_python(["-c", program, start_method])
    assert (result.stdout.split(), result.stderr) == (list("01234"), "")


def test_a_callback_waits_for_a_result_that_has_one(start_method: str) -> None:
    """Nobody else would run that: the call itself is waited for."""
    with andon.Pool(1, start_method=start_method) as pool:
        got: list[Any] = []
        over = threading.Event()

        def first(_: int) -> None:
            got.append(second.get(PATIENCE))
            over.set()

        release = andon.Event()
        begin = pool.apply_async(serve, (release,), callback=first)
        second = pool.apply_async(double, (2,), callback=got.append)
        release.set()
        assert over.wait(PATIENCE)
        begin.wait()
        second.wait()
    assert got == [4, 4]


# Who may not wait --------------------------------------------------------------------------------

_pool: list[Any] = []


def act(how: str) -> str:
    """In the parent, in the very thread that drives the pool."""
    pool = _pool[0]
    if how == "terminate":
        pool.terminate()
    elif how == "shutdown":
        pool.shutdown()
    else:
        pool.close()
        pool.join()
    return how


class Acts:
    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return act, (self.how,)


def make_acts(how: str) -> Acts:
    return Acts(how)


@pytest.mark.parametrize("how", ["terminate", "join", "shutdown"])
def test_a_pool_is_ended_by_who_drives_it(start_method: str, how: str) -> None:
    """As a finalizer does that the collector runs there: a thread sees to it."""
    pool, submit = opened(start_method, executor=how == "shutdown")
    _pool[:] = [pool]
    try:
        stop = andon.Event()
        running = submit(serve, stop)
        result = submit(make_acts, how).result(PATIENCE)
        assert result == how
        if how != "terminate":
            stop.set()
        with pytest.raises((RuntimeError, ValueError)):
            submit(double, 1)
        if how == "terminate":
            with pytest.raises(andon.TaskCancelledError):
                running.result(PATIENCE)
        else:
            assert running.result(PATIENCE) is True
    finally:
        _pool.clear()
        pool.shutdown() if how == "shutdown" else pool.join()


def test_a_pool_is_ended_under_its_lock(start_method: str) -> None:
    executor = andon.ProcessPoolExecutor(1, start_method=start_method)
    with executor._runtime._lock:
        executor.shutdown()  # a thread does it
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(double, 1)
    executor.shutdown()


@pytest.mark.parametrize("what", ["terminate", "apply"])
def test_a_trace_function_uses_the_pool(start_method: str, what: str) -> None:
    """It may end it; to wait for one of its tasks there would be for ever, and raises."""
    raised: list[BaseException] = []

    def trace(event: andon.TraceEvent) -> None:
        if event.after == "succeeded" and not done:
            done.append(True)
            try:
                pool.terminate() if what == "terminate" else pool.apply(double, (1,))
            except BaseException as error:
                raised.append(error)

    done: list[bool] = []
    pool = andon.Pool(1, start_method=start_method, trace=trace)
    assert pool.apply_async(double, (2,)).get(PATIENCE) == 4
    pool.terminate()
    pool.join()
    assert done and [type(error) for error in raised] == (
        [] if what == "terminate" else [RuntimeError]
    )


def test_map_async_is_not_waited_for_in_a_forked_child(start_method: str) -> None:
    """As everything else that blocks (S38)."""
    with andon.Pool(1, start_method=start_method) as pool:
        stop = andon.Event()
        result = pool.map_async(serve, [stop])
        child = os.fork()
        if not child:
            status = 1
            try:
                result.get(5)
            except andon.WrongProcessError:
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        stop.set()
        assert os.waitstatus_to_exitcode(status) == 0
        assert result.get(PATIENCE) == [True]


# Results -----------------------------------------------------------------------------------------


def raise_own() -> None:
    raise CancelledError("the task's own")


def test_a_task_may_raise_the_standard_error_of_a_cancelled_future(start_method: str) -> None:
    with andon.Pool(1, start_method=start_method) as pool:
        with pytest.raises(CancelledError, match="the task's own") as caught:
            pool.apply(raise_own)
        assert not isinstance(caught.value, andon.TaskCancelledError)


def test_a_future_does_not_travel(start_method: str) -> None:
    with andon.ProcessPoolExecutor(1, start_method=start_method) as executor:
        future = executor.submit(double, 1)
        with pytest.raises(andon.SerializationError, match="a future stays in its process"):
            executor.submit(double, future).result(PATIENCE)


MONTH = 30 * 86_400.0  # more than one wait of the system takes, in milliseconds


@pytest.mark.parametrize("name", ["deadline", "timeout", "grace", "kill_after"])
def test_times_may_be_long(start_method: str, name: str) -> None:
    options: dict[str, Any] = {"grace": 0.05, "kill_after": 0.05, name: MONTH}
    stop = andon.Event()
    begun = time.monotonic()
    with andon.TaskGroup(workers=1, start_method=start_method, **options) as tg:
        served = tg.submit(serve, stop)
        time.sleep(0.1)
        tg.cancel() if name in ("grace", "kill_after") else stop.set()
        if name == "grace":
            stop.set()
    assert served.done() and time.monotonic() - begun < allowed(PATIENCE / 2)


def sleep_long() -> bool:
    return andon.sleep(MONTH)


def test_waits_may_be_long(start_method: str) -> None:
    with andon.TaskGroup(workers=1, start_method=start_method) as tg:
        sleeping = tg.submit(sleep_long)
        eventually(sleeping.running)
        event = andon.Event()
        timer = threading.Timer(0.2, event.set)
        timer.start()
        assert event.wait(MONTH)
        timer.join()
        assert not sleeping.done()
        tg.cancel()
    assert sleeping.result() is True
