"""Answers into events."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from andon import _wire
from andon._board import tray
from andon._core.events import AttemptEnded, Failed, GivenBack, Succeeded
from andon._engines.local import inbox
from andon._gate import gate


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize(("body", "kind"), [(pickle.dumps("x"), Succeeded), (b"x", Failed)])
def test_S17_an_unpickling_leaves_the_gate_as_it_found_it(
    user: bool, body: bytes, kind: type
) -> None:
    """In a worker, too: the pool that a task has opened may be closed by that very task."""
    gate.user = user
    try:
        (event,) = inbox.decode([(_wire.VALUE, 0, 1, (0, 1.0, 2.0, 0), body)])
        assert type(event) is kind
        assert gate.user is user
    finally:
        gate.user = False


_VALUE = (_wire.VALUE, 0, 1, (0, 1.0, 2.0, 0), pickle.dumps("x"))
_NEXT = (_wire.VALUE, 0, 1, (1, 2.0, 3.0, 0), pickle.dumps("y"))
_BROKEN = (_wire.VALUE, 0, 1, (1, 2.0, 3.0, 0), b"y")
_OTHERS = (_wire.VALUE, 0, 2, (0, 1.0, 2.0, 0), pickle.dumps("z"))
_IN_LANE = (_wire.VALUES, 0, 1, (0, 1.0, 2.0, 3, tray.NONE), b"")


@pytest.mark.parametrize("frames", [[_VALUE], [_VALUE, _NEXT], [_IN_LANE], [_OTHERS, _VALUE]])
def test_that_an_attempt_has_ended_is_told_with_its_last_values(frames: list[Any]) -> None:
    events = inbox.decode([*frames, AttemptEnded(1)])
    *others, last = events
    assert isinstance(last, Succeeded) and last.attempt == 1 and last.last
    assert not any(isinstance(e, AttemptEnded) or getattr(e, "last", False) for e in others)


@pytest.mark.parametrize("between", [[_BROKEN], [_OTHERS], [GivenBack(1, 1)], [AttemptEnded(2)]])
def test_or_for_itself_where_another_thing_is_told_in_between(between: list[Any]) -> None:
    events = inbox.decode([_VALUE, *between, AttemptEnded(1)])
    assert events[-1] == AttemptEnded(1)
    assert not any(getattr(e, "last", False) for e in events)
