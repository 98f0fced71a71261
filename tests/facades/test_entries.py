"""Whatever a handler raises, and wherever the library can be interrupted on the way into a scope
and out of it, the scope is left, and its group over (S5, S17, S32)."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

import andon
from andon._gate import gate
from andon._runtime import scope as scopes
from andon._runtime.interrupts import bridge
from andon._worker import signals
from tests.ordered import ordered
from tests.support import PATIENCE

Raise = Callable[[FrameType], None]


@pytest.fixture(params=["interrupt", "ctrl-c"])
def strike(request: pytest.FixtureRequest) -> Raise:
    """What a signal does that finds the main thread in that frame."""
    if request.param == "ctrl-c":
        return lambda frame: bridge.handler(signal.SIGINT, frame)

    def interrupt(frame: FrameType) -> None:
        with ordered():
            signals.on_interrupt(signals.INTERRUPT_SIGNAL, frame)

    return interrupt


def is_ours(frame: FrameType | None) -> bool:
    """The library's, and nowhere in a finalizer, where whatever is raised vanishes."""
    ours = frame is not None and frame.f_globals.get("__name__", "").startswith("andon.")
    while ours and frame is not None:
        ours, frame = frame.f_code.co_name != "__del__", frame.f_back
    return ours


def struck(act: Callable[[], object], number: int, strike: Raise) -> tuple[str, bool] | None:
    """`act`, struck as the library's function of that number starts, outside of the gate: where
    that was, and whether it raised; None where there were not so many."""
    left, where = number, ""

    def trace(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal left, where
        if is_ours(frame) and not gate.depth:
            left -= 1
            if left == -1:
                where = f"{frame.f_globals['__name__']}.{frame.f_code.co_name}"
                strike(frame)

    before = sys.gettrace()
    raised = False
    try:
        sys.settrace(trace)
        act()
    except (andon.Cancelled, KeyboardInterrupt):
        raised = True
    finally:
        sys.settrace(before)
    return (where, raised) if where else None


def group(pool: Any) -> None:
    with andon.TaskGroup(pool=pool):
        pass


def mapped(pool: Any) -> None:
    list(pool.map(abs, [-1]))


def streamed(pool: andon.Pool) -> None:
    list(pool.imap(abs, [-1]))


def executors_group(pool: andon.ProcessPoolExecutor) -> None:
    with pool.group():
        pass


@pytest.mark.parametrize(
    ("kind", "act"),
    [
        (andon.Pool, group),
        (andon.Pool, mapped),
        (andon.Pool, streamed),
        (andon.ProcessPoolExecutor, executors_group),
        (andon.ProcessPoolExecutor, mapped),
    ],
    ids=["group", "map", "imap", "executor-group", "executor-map"],
)
def test_S5_whatever_is_struck_on_its_way_is_left(
    kind: Any, act: Callable[[Any], object], strike: Raise
) -> None:
    raised = []
    with kind(1) as pool:
        group(pool)
        runtime = pool._runtime
        open_scopes, open_groups, number = len(scopes._scopes), len(runtime._groups), 0
        while (found := struck(lambda: act(pool), number, strike)) is not None:
            where, felt = found
            raised.append(felt)
            assert len(scopes._scopes) == open_scopes, f"{where} left a scope open"
            # What nobody has taken a result of yet goes on by itself, where a pool's map may.
            assert runtime.idle.wait(lambda: len(runtime._groups) == open_groups, PATIENCE), where
            assert (gate.depth, bridge.pending) == (0, False)
            gate.deferred = None
            number += 1
    assert any(raised) and number > 5


def test_S32_a_ctrl_c_that_is_heard_late_stops_no_group_that_came_after_it() -> None:
    """It is raised at once where the body runs, which may have begun the next group before the
    driver has its turn."""
    with andon.Pool(1) as pool:
        with pool._runtime._lock:
            pool._runtime.interrupt(1)
            tg = andon.TaskGroup(pool=pool).__enter__()
        try:
            assert tg.submit(abs, -1).result() == 1
        finally:
            tg.__exit__(None, None, None)
    assert tg.reason is None
