"""What holds of every system's poller."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from andon._engines.local import descriptors, threads
from andon._engines.local.platform import linux, macos
from tests.support import eventually

pytestmark = pytest.mark.linux


@pytest.fixture(params=[linux.Poller, macos.Poller, threads.Poller])
def poller(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param()
    yield made
    made.close()


def hear(poller: Any) -> None:
    for handler in poller.wait(0):
        handler()


def test_nobody_takes_a_wake_for_nothing(poller: Any) -> None:
    """Who lingers would look on, and then sleep."""
    hear(poller)
    assert not poller.wait(0)
    poller.wake()
    assert poller.wait(0)


@pytest.mark.parametrize("edge", [False, True])
def test_S6_who_only_looks_is_told(poller: Any, edge: bool) -> None:
    """Of the bell, which rings once, too."""
    read, write = descriptors.pipe()
    heard: list[str] = []
    try:
        poller.add(read, lambda: heard.append("bell"), edge=edge)
        hear(poller)  # it may have been woken
        assert heard == []
        os.write(write, b"x")
        eventually(lambda: hear(poller) or heard)
        assert heard == ["bell"]
        poller.remove(read)
    finally:
        descriptors.close(read, write)
