"""What the tasks do: one fails, its siblings are in the state that their row names.

A module of its own, since every library's workers import it. It does not import andon: peers'
workers should not pay for that.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.stamps import CHILD, END, PID, RAISED, READY, WATCHING, Stamps, cell, wait

LONG = 600.0  # seconds; every state lasts far longer than anyone waits
SETTLE = 0.005  # from "all are there, and watched" to the failure: all are deep in their state


class Row(NamedTuple):
    """A row of the matrix: what the siblings are at, and how andon stops it."""

    title: str
    rung: str  # "token", "interrupt" or "kill"
    target: float | None = None  # ms to the last sibling's end, two workers on two idle cores


ROWS = {
    "token-loop": Row("in a loop that checks the token (peers: event.is_set())", "token", 0.2),
    "token-sleep": Row("in andon.sleep (peers: event.wait())", "token", 1.0),
    "time-sleep": Row("in time.sleep", "interrupt", 1.0),
    "python-loop": Row("in a Python loop that never checks", "interrupt", 2.0),
    "regex": Row("in a regular expression that holds the GIL", "interrupt"),
    "c-call": Row("in a C call that holds the GIL and heeds no signal", "kill"),
    "sigterm": Row("in time.sleep, ignoring SIGTERM", "interrupt"),
    "child": Row("in time.sleep, with a child process", "interrupt"),
}


class Failure(Exception):
    """What the failing task raises."""


class Job(NamedTuple):
    path: str  # of the stamps
    row: str
    workers: int
    andon: bool  # use andon's own token, not an event

    @property
    def cooperative(self) -> bool:
        return ROWS[self.row].rung == "token"


_event: Any = None


def hand_down(event: Any) -> None:
    """The initializer of the usual recipe."""
    global _event
    _event = event


def noop() -> int:
    return 1


def meet(path: str, when: int, index: int, workers: int) -> None:
    Stamps(path).meet(when, index, workers)


def station(job: Job, index: int, event: Any = None) -> None:
    """Task 0 fails; the others are its siblings."""
    stamps = Stamps(job.path)
    event = _event if event is None else event
    if index == 0:
        _fail(job, stamps, event)
    else:
        _state(job, stamps, index, event)


def _fail(job: Job, stamps: Stamps, event: Any) -> None:
    cells = stamps.cells
    wait(lambda: cells[WATCHING], 0.0005)
    time.sleep(SETTLE)
    try:
        cells[RAISED] = time.monotonic_ns()
        raise Failure(f"the sibling was {ROWS[job.row].title}")
    except Failure:
        if job.cooperative and not job.andon:
            event.set()  # the recipe
        raise


def _state(job: Job, stamps: Stamps, index: int, event: Any) -> None:
    cells = stamps.cells
    now = time.monotonic_ns
    end = cell(index, END)
    enter = _entrance(job, event)  # imports, compiles
    if job.row == "sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if job.row == "child":
        child = subprocess.Popen(["sleep", str(int(LONG))], stdin=subprocess.DEVNULL)
        cells[cell(index, CHILD)] = child.pid
    cells[cell(index, PID)] = os.getpid()
    try:
        cells[cell(index, READY)] = now()
        enter()
    finally:
        cells[end] = now()


def _entrance(job: Job, event: Any) -> Callable[[], object]:
    match job.row:
        case "token-loop":
            return _andon_loop() if job.andon else lambda: _event_loop(event)
        case "token-sleep":
            if job.andon:
                import andon

                return lambda: andon.sleep(LONG)
            return lambda: event.wait(LONG)
        case "python-loop":
            return _python_loop
        case "regex":
            pattern = re.compile(r"(a+)+$")
            return lambda: pattern.match("a" * 64 + "b")
        case "c-call":
            return lambda: sum(range(10**12))
    return lambda: time.sleep(LONG)


def _andon_loop() -> Callable[[], None]:
    import andon

    check = andon.check

    def loop() -> None:
        while True:
            check()

    return loop


def _event_loop(event: Any) -> None:
    is_set = event.is_set
    while not is_set():
        pass


def _python_loop() -> None:
    x = 0
    while True:
        x += 1


def cost_of_check() -> float:
    """Nanoseconds that one `andon.check()` takes in a running task, the loop around it included."""
    import timeit

    import andon

    number = 100_000
    andon.check()
    timer = timeit.Timer("check()", globals={"check": andon.check})
    return min(timer.repeat(5, number)) / number * 1e9
