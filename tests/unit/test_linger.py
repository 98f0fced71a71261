"""Who lingers, for what, and for how long."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from andon import _wire
from andon._engines.local.lone import Lone
from andon._worker import linger
from andon._worker.loop import Loop

CALL: Any = SimpleNamespace(packed=SimpleNamespace(items=None))
SPAN: Any = SimpleNamespace(packed=SimpleNamespace(items=[1, 2]))


class Clock:
    """Time passes by steps, whenever it is asked for."""

    now, step = 100.0, 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(linger, "clock", clock)
    return clock


def test_it_ends_as_soon_as_it_comes() -> None:
    looks = iter([False, False, True])
    assert linger.linger(lambda: next(looks))
    assert list(looks) == []


def test_it_ends_in_time_and_gives_way_between_two_looks(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.step = linger.LINGER / 4
    seen: list[str] = []
    monkeypatch.setattr(linger, "give_way", lambda: seen.append("yield"))
    assert not linger.linger(lambda: bool(seen.append("look")))
    assert seen == ["look", "yield"] * 3 + ["look"]


class Poller:
    """By which the answer comes with the second look, or as soon as one waits; and only once."""

    def __init__(self) -> None:
        self.waits: list[float | None] = []
        self.answers = ["answer"]

    def wait(self, timeout: float | None) -> list[Any]:
        self.waits.append(timeout)
        if timeout == 0 and len(self.waits) == 1:
            return []
        answers, self.answers = self.answers, []
        return answers


def looks(which: Lone, *, awaited: bool = True, timeout: float | None = None) -> int:
    """How often it looks for the answer, before it waits or has it."""
    poller: Any = Poller()
    if awaited:
        which.linger()
    assert which.wait(poller, timeout) == (["answer"] if timeout != 0 else [])
    return sum(each == 0 for each in poller.waits)


def test_only_a_call_that_is_alone_is_lone() -> None:
    lones = Lone()
    assert lones.given(CALL, alone=True) == _wire.LONE and looks(lones) == 2
    assert lones.given(CALL, alone=False) == 0 and looks(lones) == 0
    assert lones.given(SPAN, alone=True) == 0 and looks(lones) == 0


def test_it_lingers_once_for_each_time_that_somebody_waits_for_it() -> None:
    lones = Lone()
    lones.given(CALL, alone=True)
    assert looks(lones, awaited=False) == 0
    assert looks(lones) == 2
    assert looks(lones, awaited=False) == 0


def test_S6_what_it_finds_is_handed_on(clock: Clock) -> None:
    """The bell rings once: who looked would have heard it for the one who waits."""
    lones = Lone()
    lones.given(CALL, alone=True)
    lones.linger()
    found: Any = Poller()
    assert lones.wait(found, 5.0) == ["answer"] and found.waits == [0.0, 0.0]
    lones.linger()
    clock.step = linger.LINGER  # the first look is in vain: it sleeps
    slept: Any = Poller()
    assert lones.wait(slept, 5.0) == ["answer"] and slept.waits == [0.0, 5.0]


def test_who_must_not_wait_looks_once_and_lingers_later() -> None:
    lones = Lone()
    lones.given(CALL, alone=True)
    assert looks(lones, timeout=0) == 1
    assert looks(lones, awaited=False) == 2


def test_nobody_lingers_for_what_is_over() -> None:
    lones = Lone()
    lones.given(CALL, alone=True)
    lones.over()
    assert looks(lones) == 0


def test_who_has_waited_long_sleeps_at_once_until_a_wait_is_short(clock: Clock) -> None:
    lones = Lone()
    for took, lingers in ((1.0, 2), (1.0, 0), (linger.WORTH / 2, 0), (1.0, 2), (1.0, 0)):
        lones.given(CALL, alone=True)
        assert looks(lones) == lingers
        clock.now += took
        lones.over()


class Requests:
    """A worker's channel on which the next request comes after this many seconds."""

    def __init__(self, clock: Clock, after: float) -> None:
        self.clock, self.after, self.asked = clock, after, []  # type: ignore[var-annotated]

    def wait(self, timeout: float) -> bool:
        self.asked.append(timeout)
        waited = min(timeout, self.after)
        if timeout:  # in whole milliseconds
            waited = min(0.001, self.after)
        self.clock.now += waited
        self.after -= waited
        return self.after <= 0.0


def test_a_worker_lingers_as_long_as_it_is_worth_it(clock: Clock) -> None:
    worker: Any = SimpleNamespace(_lingers=True)
    looked = []
    for after in (0.0, 0.0, 0.0008, 0.0008, 0.00025, 0.0, 1.0, 0.0):
        worker._channel = requests = Requests(clock, after)
        clock.step = linger.LINGER / 4
        Loop._await_next(worker)
        looked.append(0.0 in requests.asked)
    # In vain: 0.0008, and 1.0. What then comes soon makes it worth it again.
    assert looked == [True, True, True, False, False, True, True, False]
