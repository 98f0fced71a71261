"""The pure machine alone, on the fake engine: no process, no thread, no runtime.

Counted are the events that the machine takes: for each task its submission, its success and its
attempt's end. The memory is that of tasks that wait.
"""

from __future__ import annotations

import gc
import time
from typing import Any

from andon._core import actions as ac
from andon._core import events as ev
from andon._core.machine import Machine
from andon._engines.port import Attempt, Config, GroupRef
from andon.policy import collect_all, fail_fast
from andon.testing.fake_engine import FakeEngine
from benchmarks.speed.system import Peak

Values = dict[str, float]
EVENTS_PER_TASK = 3


class Bench:
    """A machine and an engine that does at once whatever it is sent."""

    def __init__(self, workers: int) -> None:
        self.machine = Machine()
        self.engine = FakeEngine()
        self.engine.open(self._post, Config(workers))
        self.refs: dict[int, GroupRef] = {}
        self.sent: list[Attempt] = []
        self.over = 0
        self.handle(ev.SlotsChanged(workers))

    def open_group(self, ident: int) -> None:
        token: Any = None  # nobody stops here
        self.refs[ident] = GroupRef(ident, token)
        self.handle(ev.GroupOpened(ident, fail_fast(), None, 5.0, 2.0))

    def submit(self, group: int, task: int, index: int) -> None:
        self.machine.groups[group].stats.submitted += 1
        self.handle(ev.Submitted(group, task, index))

    def handle(self, event: ev.Event) -> None:
        for action in self.machine.handle(event, 0.0):
            if type(action) is ac.Send:
                ref = self.refs[action.group]
                attempt = Attempt(action.attempt, ref, None, action.lo, action.hi, action.fatal)
                self.engine.submit(attempt)
                self.sent.append(attempt)
            elif type(action) is ac.Resolve:
                self.over += action.over

    def finish(self) -> None:
        """All that was sent succeeds, and what that sends, until nothing waits."""
        engine = self.engine
        while self.sent:
            sent, self.sent = self.sent, []
            for attempt in sent:
                engine.succeed(attempt)
            engine.submitted.clear()  # it remembers all there ever were
            engine.pump(0)

    def _post(self, events: list[ev.Event]) -> None:
        for event in events:
            self.handle(event)


def _run(workers: int, tasks: int, groups: int = 1) -> Values:
    gc.collect()
    bench = Bench(workers)
    for ident in range(1, groups + 1):
        bench.open_group(ident)
    peak = Peak()
    begun = time.perf_counter()
    for task in range(tasks):
        bench.submit(1 + task % groups, task, task // groups)
    waiting = peak.beyond_start
    bench.finish()
    seconds = time.perf_counter() - begun
    assert bench.over == tasks
    bench.machine.check_invariants()
    return {
        "time": seconds / (tasks * EVENTS_PER_TASK),
        "memory": waiting / max(1, tasks - workers),
    }


def tasks(size: int) -> Values:
    return _run(100, size)


def workers(size: int) -> Values:
    """Without the collector, which walks through all that lives, again and again: that grows, too
    (with it, an event takes 1.6 times as long at 100,000 workers as at 10)."""
    gc.collect()
    gc.disable()
    try:
        return {"time": _run(size, max(4 * size, 20_000))["time"]}
    finally:
        gc.enable()


def groups(size: int) -> Values:
    return {"time": _run(100, max(4 * size, 20_000), size)["time"]}


def cancels(size: int) -> Values:
    """One task waits in each of so many groups, and each is cancelled, the last one first."""
    bench = Bench(1)
    bench.refs[0] = GroupRef(0, None)  # type: ignore[arg-type]
    bench.handle(ev.GroupOpened(0, collect_all(), None, 5.0, 2.0))
    bench.submit(0, 0, 0)  # the one worker is busy
    for ident in range(1, size + 1):
        bench.open_group(ident)
        bench.submit(ident, ident, 0)
    begun = time.perf_counter()
    for task in range(size, 0, -1):
        bench.handle(ev.TaskCancelAsked(task))
    seconds = time.perf_counter() - begun
    assert bench.over == size
    return {"time": seconds / size}
