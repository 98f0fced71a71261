"""The tasks of `test_ladder_live`."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn
from unittest.mock import patch

import andon
from andon._board import KIND_CANCEL, Board
from andon._worker.state import current
from tests.matrix.stop_tasks import LONG, announce_trusted, guarded, swallowing_for_good
from tests.support import Stage, alive

kept: list[BaseException] = []  # in a worker, from one task to the next


def pid() -> int:
    return os.getpid()


def trusted_but_deaf(here: Stage, cleaned: Stage) -> None:
    """Has used its token, and never looks again."""
    try:
        announce_trusted(here)
        time.sleep(LONG)
    finally:
        cleaned.reach("cleaned")


def trusted_and_stubborn(here: Stage) -> None:
    with guarded():
        announce_trusted(here)
        swallowing_for_good()


def held_clean_up(here: Stage, cleaning: Stage, go: Stage) -> None:
    """Interrupted, and then as long about it as the test wants."""
    try:
        here.reach(os.getpid())
        time.sleep(LONG)
    finally:
        cleaning.reach()
        go.hold()


def initialise(began: Stage, pids: str) -> None:
    """Says which of the workers before this one are alive still."""
    with open(pids, "a+") as file:
        file.seek(0)
        before = [int(line) for line in file.read().split()]
        file.write(f"{os.getpid()}\n")
    began.reach([p for p in before if alive(p)])


def catches_and_returns(here: Stage) -> str:
    try:
        here.reach(os.getpid())
        time.sleep(LONG)
    except BaseException as stop:
        return f"caught {type(stop).__name__}"
    return "slept"


# Clean-up that fails ----------------------------------------------------------------------------


class Unpicklable(Exception):
    def __reduce__(self) -> NoReturn:
        raise TypeError("never leaves its process")


def fails_in_clean_up(here: Stage, trusted: bool, kind: type[Exception]) -> None:
    try:
        if trusted:
            andon.check()
        here.reach(os.getpid())
        while True:
            if trusted:
                andon.check()
    finally:
        raise kind("the disk is full")


def dies_in_clean_up(here: Stage, signal_name: str) -> None:
    try:
        here.reach()
        time.sleep(60)
    finally:
        os.kill(os.getpid(), signal.Signals[signal_name])
        time.sleep(60)


def group_in_clean_up(here: Stage) -> None:
    """As `asyncio.TaskGroup` and its like would: the stop and an error, side by side."""
    try:
        andon.check()
        here.reach(os.getpid())
        while True:
            andon.check()
    except BaseException as stop:
        raise BaseExceptionGroup("both", [stop, ValueError("the disk is full")]) from None


def fails_beside_the_stop(here: Stage) -> None:
    """Sees the stop, and has a failure of its own to report: no unwinding is under way."""
    token = andon.current_token()
    here.reach(os.getpid())
    while not token.is_set():
        time.sleep(0.001)
    raise ValueError("of its own")


# `Cancelled`, where it does not belong ----------------------------------------------------------


def raises_a_foreign_stop() -> None:
    event = andon.Event()
    event.cancel("of somebody else")
    event.check()


def builds_a_stop() -> None:
    raise andon.Cancelled("mine")


def keeps_its_stop(here: Stage) -> None:
    try:
        andon.check()
        here.reach(os.getpid())
        while True:
            andon.check()
    except BaseException as stop:
        kept.append(stop)
        raise


def raises_what_was_kept() -> None:
    raise kept.pop()


def swallows_at_checkpoints(here: Stage, times: int) -> int:
    """Every checkpoint raises again."""
    andon.check()
    here.reach(os.getpid())
    felt = 0
    while felt < times:
        try:
            andon.check()
        except BaseException:
            felt += 1
    for operation in (lambda: andon.current_token().check(), lambda: andon.Event().wait(LONG)):
        try:
            operation()
        except BaseException:
            felt += 1
    assert andon.sleep(LONG)
    return felt


class Graveyard:
    """What lands in its `__del__` is lost there."""

    def __init__(self, here: Stage) -> None:
        self.here = here

    def __del__(self) -> None:
        self.here.reach(os.getpid())
        time.sleep(LONG)


def loses_an_interrupt(here: Stage, cleaned: Stage) -> None:
    try:
        Graveyard(here)
        cleaned.reach("lost")
        time.sleep(LONG)
    finally:
        cleaned.reach("cleaned")


# Shields ----------------------------------------------------------------------------------------


def shield_in_clean_up(here: Stage, cleaned: Stage) -> None:
    """A shield that protects the clean-up is no place to be stopped once more."""
    try:
        announce_trusted(here)
        while True:
            andon.check()
    finally:
        with andon.shield(LONG):
            andon.check()
            cleaned.reach("shielded")
        cleaned.reach("all of it")


def nested_shields(here: Stage, cleaned: Stage) -> None:
    """The outer one rules, also after the inner one has ended."""
    token = andon.current_token()
    with andon.shield(LONG):
        with andon.shield(0.0):
            announce_trusted(here)
            while not token.is_set():
                time.sleep(0.001)
            andon.check()
            cleaned.reach("inner")
        andon.check()
        cleaned.reach("outer")
    cleaned.reach("never")


def interrupt_in_a_shield(here: Stage, cleaned: Stage) -> None:
    """The interrupt comes while it is shielded, and is felt at the end."""
    with andon.shield(LONG):
        announce_trusted(here)
        until = time.monotonic() + 0.5  # several interrupts
        while time.monotonic() < until:
            pass
        cleaned.reach("section")
    cleaned.reach("never")


# Killed -----------------------------------------------------------------------------------------


def stuck_with_a_thread(here: Stage) -> None:
    there = threading.Event()
    threading.Thread(target=stuck_thread, args=(there,)).start()
    there.wait()
    stuck_function(here)


def stuck_function(here: Stage) -> None:
    try:
        here.reach(os.getpid())
        swallowing_for_good()
    except BaseException:
        swallowing_for_good()


def stuck_thread(there: threading.Event) -> None:
    there.set()
    time.sleep(LONG)


# Failing ----------------------------------------------------------------------------------------


class SlowToTell(Exception):
    """An error that takes its time to travel."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        time.sleep(0.5)
        return SlowToTell, self.args


def fails_slowly(go: Stage) -> NoReturn:
    go.hold()
    raise SlowToTell("the bad one")


def starts_at(number: int, bad: int) -> float:
    now = time.monotonic()
    if number == bad:
        raise ValueError(f"bad {number}")
    return now


# Results ----------------------------------------------------------------------------------------


class BlocksTheParent:
    """Unpickled where the test can hold it."""

    def __init__(self, unpickling: Stage, go: Stage) -> None:
        self.stages = unpickling, go

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Stage, Stage]]:
        return unpickle_slowly, self.stages


def unpickle_slowly(unpickling: Stage, go: Stage) -> str:
    unpickling.reach()
    go.hold()
    return "unpickled"


def result_that_blocks(unpickling: Stage, go: Stage) -> BlocksTheParent:
    return BlocksTheParent(unpickling, go)


def returns_when_told(here: Stage, go: Stage) -> int:
    announce_trusted(here)
    go.hold()
    return 42


def pull_unrung(asleep: Stage) -> str:
    """What a worker leaves that pulls the word and loses its core, before it rings."""
    asleep.hold()
    assert current.board is not None
    with patch.object(Board, "ring"):
        current.board.pull(current.slot, current.clear, KIND_CANCEL, current.row)
    return "returned"


def sleep_unless_stopped(asleep: Stage) -> bool:
    asleep.reach()
    return andon.sleep(LONG)
