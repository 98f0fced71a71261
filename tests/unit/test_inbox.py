"""Answers into events."""

from __future__ import annotations

import pickle

import pytest

from andon import _wire
from andon._core.events import Failed, Succeeded
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
