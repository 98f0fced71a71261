"""`andon demo`: ten tasks of four steps; one fails at its last step. Done twice.

First with the recipe that everybody finds: a `multiprocessing.Pool`, and an event of a manager
process that each task looks at between its steps and sets when it fails. Then with andon, where
the task is the job and nothing else. The steps differ in length from task to task, so that at the
failure some tasks are done, some are in the middle and one has not started.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from typing import Any

import andon
from andon.cli.streams import OutputError, say
from andon.outcome import Outcome, TaskState

TASKS = 10
STEPS = 4
WORKERS = 4
FAILS = 5

_event: Any = None  # of the recipe; each worker of its pool has it


class BadBatch(Exception):
    """The failure of the demonstration; says when it happened."""

    def __init__(self, at: float) -> None:
        super().__init__(at)
        self.at = at

    def __str__(self) -> str:
        return "bad batch"


def step(number: int) -> None:
    """One step of the job: a wait stands for work that cannot look at anything meanwhile."""
    time.sleep(0.12 + 0.02 * number)


# The recipe --------------------------------------------------------------------------------------


def init_worker(event: Any) -> None:
    """Give each worker of the recipe's pool the shared event."""
    global _event
    _event = event
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # else each shows a traceback of its own


def polling_job(number: int) -> tuple[str, float]:
    """The job as the recipe has it: look before each step, set the event, then raise."""
    for n in range(1, STEPS + 1):
        if _event.is_set():
            return f"stopped before step {n}", time.monotonic()
        step(number)
        if number == FAILS and n == STEPS:
            at = time.monotonic()
            _event.set()
            raise BadBatch(at)
    return "done", time.monotonic()


def recipe() -> float:
    """Run it; return the seconds from the failure to the end of the last task."""
    failed_at = 0.0
    last = 0.0
    with (
        multiprocessing.Manager() as keeper,
        multiprocessing.Pool(WORKERS, init_worker, (keeper.Event(),)) as pool,
    ):
        waiting = [pool.apply_async(polling_job, (n,)) for n in range(TASKS)]
        for number, result in enumerate(waiting):
            try:
                text, at = result.get()
                last = max(last, at)
            except BadBatch as error:
                text, failed_at = f"failed: {error}", error.at
            _say(number, text)
    return last - failed_at


# andon -------------------------------------------------------------------------------------------


def job(number: int) -> str:
    """The job itself: nothing to look at, nothing to set, a plain raise."""
    for n in range(1, STEPS + 1):
        step(number)
        if number == FAILS and n == STEPS:
            raise BadBatch(time.monotonic())
    return "done"


def stop_the_line() -> float:
    """Run it; return the seconds from the failure to the end of the last task."""
    failed_at = 0.0
    last = 0.0
    gone: Exception | None = None
    try:
        with andon.TaskGroup(workers=WORKERS) as tg:
            for outcome in tg.imap(job, range(TASKS), return_outcomes=True, chunksize=1):
                if isinstance(outcome.error, BadBatch):
                    failed_at = outcome.error.at
                elif outcome.started and outcome.ended_at is not None:
                    last = max(last, outcome.ended_at)
                _say(outcome.index, _describe(outcome))
    except* BadBatch:
        pass  # it has been told
    except* OutputError as errors:
        (gone,) = errors.exceptions
    if gone is not None:
        raise gone  # and not in a group
    return last - failed_at


def _describe(outcome: Outcome) -> str:
    if outcome.state is TaskState.SUCCEEDED:
        return "done"
    if outcome.state is TaskState.FAILED:
        return f"failed: {outcome.error}"
    return "never started" if outcome.started is False else "stopped in the middle of a step"


# Both --------------------------------------------------------------------------------------------


def demo() -> int:
    """Play both, then compare; return the exit status."""
    intro = (
        f"{TASKS} tasks of {STEPS} steps each, {WORKERS} workers; task {FAILS} fails at its end."
    )
    say(f"{intro}\n")
    polled = _play(
        "1. The recipe: multiprocessing.Pool and a manager's Event that tasks poll", recipe
    )
    stopped = _play("2. andon: a plain raise", stop_the_line)
    say(
        "\nFrom the failure until the last task had stopped:\n"
        f"  the recipe  {polled * 1000:7.1f} ms   (each task finishes the step that it is in)\n"
        f"  andon       {stopped * 1000:7.1f} ms   (no event, no check, no manager process)\n"
    )
    return 0


def _play(title: str, play: Any) -> float:
    say(f"\n{title}\n\n")
    return float(play())


def _say(number: int, text: str) -> None:
    mark = {"done": "32", "fail": "31", "stop": "33", "neve": "33"}.get(text[:4], "0")
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        text = f"\x1b[{mark}m{text}\x1b[0m"
    say(f"  task {number}: {text}\n")
