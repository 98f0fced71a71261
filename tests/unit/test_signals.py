"""The interrupt in a worker: at which of the library's own instructions it may be raised (S17)."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from andon._cancelled import Cancelled
from andon._gate import gate
from andon._runtime.handlers import Handlers
from andon._worker import signals
from andon._worker.state import BY_INTERRUPT, BY_TOKEN, current
from tests.ordered import ordered as at_step_two


@pytest.fixture
def ordered() -> Iterator[None]:
    """As inside a task that is to be interrupted."""
    try:
        with at_step_two():
            yield
    finally:
        gate.deferred = None
        gate.depth = gate.entering = 0


def at_instruction(number: int, act: Callable[[], object]) -> tuple[str | None, bool]:
    """`act`, with an interrupt at that instruction of the library's. On which rung it was stopped,
    and whether it got so far."""
    left = number

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left
        if not frame.f_globals.get("__name__", "").startswith("andon."):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == -1:
                signals.on_interrupt(signals.INTERRUPT_SIGNAL, frame)
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # 3.12 looks for one that is, as the function is set
    try:
        sys.settrace(trace)
        act()
    except Cancelled as stop:
        return current.mark_of(stop), left < 0
    finally:
        sys.settrace(before)
    return None, left < 0


def leave_a_wait() -> None:
    with gate:
        signals.on_interrupt(signals.INTERRUPT_SIGNAL, None)


def do_nothing() -> None:
    with gate:
        pass


@pytest.mark.parametrize("sheltered", [False, True], ids=["bare", "handlers"])
def test_S17_what_was_held_back_is_raised_at_a_clean_point_whatever_comes_meanwhile(
    ordered: None, monkeypatch: pytest.MonkeyPatch, sheltered: bool
) -> None:
    """An interrupt is sent again and again: one that comes just as another is delivered must not
    tear the way out of the library, and make of a clean stop another."""
    handlers = Handlers()
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        handlers.find()
        monkeypatch.setattr(gate, "shelter", handlers if sheltered else None)
        rungs, number, so_far = set(), 0, True
        while so_far:
            rung, so_far = at_instruction(number, leave_a_wait)
            rungs.add(rung)
            number += 1
            assert (gate.depth, gate.entering) == (0, 0)
            assert signal.getsignal(signal.SIGTERM) is not handlers._note
        assert number > 50
        assert rungs == {BY_TOKEN}
        assert not current.interrupted
    finally:
        handlers.release()
        signal.signal(signal.SIGTERM, before)


def test_S17_the_gate_is_never_torn(ordered: None) -> None:
    number, so_far, rungs = 0, True, set()
    while so_far:
        rung, so_far = at_instruction(number, do_nothing)
        rungs.add(rung)
        number += 1
        assert gate.depth == 0
    assert rungs == {None, BY_TOKEN}


def test_S17_the_rooms_that_are_passed_over_are_there() -> None:
    for name in signals._PASSED:
        importlib.import_module(name)


def test_it_is_raised_in_code_of_the_users(ordered: None) -> None:
    with pytest.raises(Cancelled) as caught:
        signals.on_interrupt(signals.INTERRUPT_SIGNAL, sys._getframe())
    assert current.mark_of(caught.value) == BY_INTERRUPT
    assert current.interrupted
