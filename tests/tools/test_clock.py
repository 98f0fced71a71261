"""The virtual clock (`andon.testing.clock`)."""

from __future__ import annotations

import doctest

import pytest

from andon.testing import clock
from andon.testing.clock import VirtualClock


def test_it_moves_only_when_told() -> None:
    c = VirtualClock(10.0)
    assert c.now() == c.now() == 10.0
    c.advance(2.5)
    c.advance(0.0)
    c.advance_to(13.0)
    assert c.now() == 13.0


@pytest.mark.parametrize("seconds", [-0.1, float("nan")])
def test_it_never_goes_back(seconds: float) -> None:
    c = VirtualClock(10.0)
    with pytest.raises(ValueError, match="cannot go back"):
        c.advance(seconds)
    assert c.now() == 10.0


def test_its_example_runs() -> None:
    assert doctest.testmod(clock).failed == 0
