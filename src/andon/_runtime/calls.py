"""The single calls of a group that wait for a worker: what is short travels with others.

    submit ── waits one of its group in the machine? ── no ──▶ machine ──▶ a worker
                 └── yes ──▶ waiting ── when that one is sent: the next few ──▶ machine
                                        (or when one is back: see `flow.py`)

A worker that gets one short call at a time mostly waits. So while calls come faster than workers
take them, they travel in bundles: one task of the machine, of which each call is an item, with a
future and an outcome of its own. Bundles grow as long as they take little time, as spans do; and
as of spans, what stands behind a long call is given back. A group begins with what others have
found of the same function: there may be a thousand of them with a few calls each.

Invariants
 1. While calls wait here, a task of theirs waits in the machine, `ahead` of them: so their group
    has its turn among others. Or else some are with workers, and are back soon.
 2. Calls go to the machine in the order in which they came.
 3. All here happens under the runtime's lock, but for what a bundle is told at delivery. A
    finalizer, or a signal handler, may come in between, in the same thread: what it submits waits,
    and what it cancels is cancelled once those that are on their way have a task. So nothing is
    called between the reading of a count and its writing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from andon._engines.port import Capabilities
from andon._runtime.flow import HARDLY_ANY, Flow

if TYPE_CHECKING:
    from andon._runtime.futures import Future
    from andon._runtime.tasks import Run, Task
    from andon.outcome import Outcome
    from andon.policy import Policy

_SECONDS = 0.005  # that a bundle takes, at most
_SHORTEST = 0.0001  # that a bundle should take
_LONGEST = 4096  # calls


def may_travel_together(policy: Policy) -> bool:
    """May a task of this policy's group have several items? Where it may drain, nothing new starts
    then: not even the rest of what has been sent."""
    return policy.first_failure_decides or (policy.failures_only and not policy.raises)


class Waiting:
    """How many calls wait in all groups of a pool."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Calls:
    """One group's."""

    __slots__ = (
        "_all",
        "_bundle",
        "_count",
        "_fits",
        "_most",
        "_new",
        "_pace",
        "_slots",
        "_waiting",
        "ahead",
        "flow",
        "handing",
        "held",
        "late",
    )

    def __init__(self, capabilities: Capabilities, policy: Policy, waiting: Waiting) -> None:
        self._slots = capabilities.slots
        self._bundle = capabilities.bundle if may_travel_together(policy) else None
        self._pace = capabilities.pace
        self._all = waiting
        self._waiting: deque[Future[Any]] = deque()
        self._count = 0  # of those that wait, less those that were dropped
        self._most = 1  # calls in a bundle, at most
        self._fits = 1  # calls that take as long as a bundle may
        self._new = True  # nothing of it was measured yet
        self.ahead: Task | None = None
        self.flow = Flow(holds=self._bundle is not None and self._slots > HARDLY_ANY)
        self.held = False  # they wait for those under way: who drives looks at these
        self.handing = False  # some are on their way to the machine
        self.late: deque[Future[Any]] = deque()  # cancelled by a finalizer meanwhile

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    def may_go(self) -> bool:
        """May the next be handed to the machine?"""
        return self.ahead is None and not self.flow.full()

    def add(self, future: Future[Any]) -> None:
        """It waits."""
        self._waiting.append(future)
        self._count += 1
        self._all.count += 1

    def drop(self, future: Future[Any]) -> None:
        """It does not any more."""
        future._dropped = True
        if self._count:
            self._fewer(1)
        if not self._count:
            self._waiting.clear()

    def next(self) -> tuple[Any, list[Future[Any]]]:
        """The next few, as many as may travel together, and of numbers that follow each other;
        with what was made of their calls. None where there are only such as do not wait any more.
        """
        futures: list[Future[Any]] = []
        packed = next(self._take(futures, 1), None)
        if self._new:
            self._find_pace(packed)
        # A worker's share of what waits in the pool, unless that is over sooner than it travels.
        share = -(-self._all.count // self._slots)
        worth = int(self._fits * (_SHORTEST / _SECONDS))
        most = min(self._most, self._count, max(share, worth))
        if most > 1 and futures and futures[0]._timeout is None and self._bundle is not None:
            packed, count = self._bundle(chain([packed], self._take(futures, most)))
            while len(futures) > count:
                self._waiting.appendleft(futures.pop())
        self._fewer(len(futures))
        if not futures and not self._waiting:
            self._fewer(self._count)
        return packed, futures

    def all(self) -> list[list[Future[Any]]]:
        """All that wait, those together whose numbers follow each other; nobody waits any more."""
        runs: list[list[Future[Any]]] = []
        while True:
            futures: list[Future[Any]] = []
            for _ in self._take(futures, self._count, timed=True):
                pass
            if not futures:
                return runs
            runs.append(futures)
            self._fewer(len(futures))

    def measured(self, packed: Any, seconds: float, count: int = 1) -> None:
        """So long has a call taken, or each of so many."""
        if self._new:
            self._find_pace(packed)
            self._new = False
        self.flow.measured(seconds, count)
        self._fits = fits = int(_SECONDS / seconds) if seconds > 0 else _LONGEST
        # Grow by doubling, so that one short call among long ones does no harm.
        before = self._most
        self._most = most = min(2 * before, fits or 1, _LONGEST)
        if most != before and self._bundle is not None and packed is not None:
            self._pace(packed).together = most

    def _find_pace(self, packed: Any) -> None:
        """Begin with what other groups have found of this function."""
        if self._bundle is not None and packed is not None:
            self._most = max(self._most, self._pace(packed).together)

    def _fewer(self, count: int) -> None:
        self._count -= count
        self._all.count -= count

    def _take(
        self, futures: list[Future[Any]], most: int, *, timed: bool = False
    ) -> Iterator[Any]:
        """Move them from the queue to `futures`, one by one. A finalizer may add others to the
        queue in between, or empty it."""
        waiting = self._waiting
        while len(futures) < most:
            try:
                future = waiting.popleft()
            except IndexError:
                return
            if future._dropped:
                continue
            if futures and (
                future._index != futures[-1]._index + 1
                or (future._timeout is not None and not timed)
            ):
                waiting.appendleft(future)
                return
            futures.append(future)
            yield future._packed


class Bundle:
    """Several futures as the sink of one task, whose items are their calls."""

    __slots__ = ("_calls", "_futures")

    def __init__(self, calls: Calls, futures: list[Future[Any]]) -> None:
        self._calls = calls
        self._futures: list[Future[Any] | None] = [*futures]

    def bind(self, task: Task) -> Bundle:
        """They have a task now."""
        task.parts = [task]
        for item, future in enumerate(self._futures):
            assert future is not None
            future._task, future._item = task, item
        return self

    def take(self, task: Task, outcome: Outcome) -> None:
        """A sink's method."""
        item = outcome.index - task.index
        for future in self._told(task, item, item + 1):
            future.take(task, outcome)

    def take_run(self, task: Task, run: Run) -> None:
        """A sink's method."""
        first, values = run.index - task.index, run.values
        futures = self._told(task, first, first + len(values))
        for future, value in zip(futures, values, strict=True):
            future._succeed(value)
        count = len(values)
        self._calls.measured(task.packed, (run.ended_at - run.started_at) / count, count)

    def over(self, task: Task) -> None:
        """A sink's method."""

    def split(self, task: Task, part: Task) -> None:
        """A sink's method; `Task.part` finds it."""

    def broken(self, error: BaseException) -> None:
        """A sink's method."""
        for future in self._futures:
            if future is not None:
                future.broken(error)

    def _told(self, task: Task, first: int, end: int) -> list[Any]:
        """Those of some items, which are over: whoever wants a result keeps it, and one that takes
        long does not keep those of all others."""
        futures, none = self._futures[first:end], [None] * (end - first)
        self._futures[first:end] = none
        if task.calls is not None:
            task.calls[first:end] = none
        return futures
