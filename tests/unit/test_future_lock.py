"""A future's lock outlives who held it: what locks it may be interrupted anywhere (S51)."""

from __future__ import annotations

import concurrent.futures as standard
import dis
import gc
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from andon._runtime import futures as module
from andon._runtime.future_lock import FutureLock
from andon._runtime.futures import Future
from andon.errors import TaskCancelledError

HERE = (standard._base.__file__, threading.__file__, "future_lock.py", "futures.py", "wakeup.py")
LONG = 20.0  # seconds


# Where Python looks for signals: behind these.
LOOKS = {dis.opmap[n] for n in ("CALL", "CALL_FUNCTION_EX", "RESUME", "JUMP_BACKWARD", "CALL_KW")
         if n in dis.opmap}


def test_the_first_end_stands() -> None:
    """A pool that breaks down may tell of a future that is just being told its end."""
    error, stop = ValueError("late"), TaskCancelledError("late")

    def told(first: Callable[[Any], object], then: Callable[[Any], object]) -> Future[Any]:
        future: Future[Any] = Future(None, None)  # type: ignore[arg-type]
        first(future)
        then(future)
        return future

    done = told(lambda f: f._succeed(5), lambda f: f._fail(error))
    assert done.result(0) == 5
    failed = told(lambda f: f._fail(error), lambda f: f._stop(stop))
    assert failed.exception(0) is error and not failed.cancelled()
    stopped = told(lambda f: f._stop(stop), lambda f: f._succeed(5))
    assert stopped.cancelled()
    with pytest.raises(TaskCancelledError):
        stopped.result(0)


class InterruptedHere(Exception):
    """As if out of a signal handler."""


def interrupted(call: Callable[[], object], after: int) -> bool:
    """Call it, and raise at the so many-th place where Python looks for signals, within what locks
    futures; was that before its end?"""
    left = after
    last: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(HERE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            before = last.get(frame)
            last[frame] = frame.f_code.co_code[frame.f_lasti]
            if before in LOOKS:
                left -= 1
                if left < 0:
                    sys.settrace(None)
                    raise InterruptedHere
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # 3.12 looks here whether anybody wants them
    sys.settrace(trace)
    try:
        call()
        return False
    except InterruptedHere:
        return True
    finally:
        sys.settrace(before)


def in_time(call: Callable[[], object]) -> bool:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(LONG)
    return not thread.is_alive()


def a_future() -> Future[int]:
    return Future(None, None)  # type: ignore[arg-type]


CALLS: dict[str, Callable[[list[Future[int]]], object]] = {
    "wait": lambda fs: standard.wait(fs, 0.0001),
    "wait for the first": lambda fs: standard.wait(fs, 0.0001, standard.FIRST_COMPLETED),
    "as_completed": lambda fs: next(standard.as_completed(fs, 0.0001), None),
    "add_done_callback": lambda fs: [f.add_done_callback(lambda _: None) for f in fs],
    "repr": lambda fs: [repr(f) for f in fs],
    "set_running": lambda fs: [f.set_running_or_notify_cancel() for f in fs],
}


def stopped_after(call: Callable[[list[Future[int]]], object], after: int) -> bool:
    fs = [a_future(), a_future()]

    def run() -> None:
        try:
            call(fs)
        except TimeoutError:
            pass

    before = interrupted(run, after)
    told: list[Any] = []
    for f, value in zip(fs, (1, 2), strict=True):
        f._stored = standard._base.PENDING
        assert in_time(lambda f=f, value=value: f._succeed(value)), (  # type: ignore[misc]
            f"interrupted at place {after}: what tells the value hangs"
        )
        assert in_time(lambda f=f: f.add_done_callback(told.append))  # type: ignore[misc]
    assert in_time(lambda: told.append(standard.wait(fs).done))
    assert [f.result(0) for f in fs] == [1, 2] and told == [*fs, {*fs}]
    return before


@pytest.mark.parametrize("name", CALLS)
def test_S51_nobody_hangs_on_who_was_interrupted_between_two_bytecodes(name: str) -> None:
    places: list[int] = []

    def run() -> None:
        while stopped_after(CALLS[name], len(places)):
            places.append(1)
        places.append(0)

    # In a thread: what is raised by tracing leaves its mark on the state of who is traced.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10 * LONG)
    assert places and places[-1] == 0, f"see above: interrupted at place {len(places)}"
    assert len(places) > 20


def test_who_holds_it_is_waited_for() -> None:
    lock, order, held = FutureLock(), list[str](), threading.Event()

    def hold() -> None:
        with lock, lock:
            held.set()
            time.sleep(0.1)
            order.append("holder")

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(LONG)
    assert not lock.acquire(blocking=False)
    assert not lock.acquire(timeout=0.01)
    with lock:
        order.append("waiter")
    thread.join(LONG)
    assert order == ["holder", "waiter"]


def test_one_at_a_time_has_it() -> None:
    lock, inside, most = FutureLock(), list[int](), list[int]()

    def work() -> None:
        for _ in range(300):
            with lock:
                inside.append(1)
                most.append(len(inside))
                time.sleep(0)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert set(most) == {1} and len(most) == 1200


def test_it_waits_as_a_condition_does() -> None:
    lock = FutureLock()
    with lock, lock:
        assert not lock.wait(0.01)
        assert lock._is_owned()
    assert not lock._is_owned()
    told = threading.Thread(target=lambda: (time.sleep(0.05), lock.notify_all()))
    told.start()
    with lock:
        assert lock.wait(LONG)
    told.join()
    with pytest.raises(RuntimeError):
        lock.release()
    with pytest.raises(RuntimeError):
        lock.wait(0)


def test_nothing_of_others_runs_while_a_future_is_made_or_told() -> None:
    """A finalizer there would wait for a pool's lock, whose holder waits for this one."""
    inside: list[str] = []

    def look(phase: str, _: object) -> None:
        if module._making._is_owned():  # type: ignore[attr-defined]
            inside.append(phase)

    before = gc.get_threshold()
    gc.callbacks.append(look)
    gc.set_threshold(1)
    try:
        for _ in range(200):
            future = a_future()
            assert future._condition is future._condition
            future._succeed(1)
            a_future()._succeed(1)
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(look)
    assert not inside
