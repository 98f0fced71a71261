"""The single calls of a group that wait for a worker: what is short travels with others.

    submit ── waits one of its group in the machine? ── no ──▶ machine ──▶ a worker
                 └── yes ──▶ waiting ── when that one is sent: the next few ──▶ machine

A worker that gets one short call at a time mostly waits. So while calls come faster than workers
take them, they travel in bundles: one task of the machine, of which each call is an item, with a
future and an outcome of its own. Bundles grow as long as they take little time, as spans do; and
as of spans, what stands behind a long call is given back.

Invariants
 1. While calls wait here, a task of theirs waits in the machine, `ahead` of them: so their group
    has its turn among others.
 2. Calls go to the machine in the order in which they came.
 3. All here happens under the runtime's lock, but for what a bundle is told at delivery.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from andon._engines.port import Capabilities

if TYPE_CHECKING:
    from andon._runtime.futures import Future
    from andon._runtime.tasks import Run, Task
    from andon.outcome import Outcome
    from andon.policy import Policy

_SECONDS = 0.005  # that a bundle takes
_LONGEST = 4096  # calls


class Calls:
    """One group's."""

    __slots__ = ("_bundle", "_count", "_most", "_slots", "_waiting", "ahead")

    def __init__(self, capabilities: Capabilities, policy: Policy) -> None:
        self._slots = capabilities.slots
        # Where it may drain, nothing new starts then: not even the rest of a bundle.
        collects = policy.failures_only and not policy.raises
        together = policy.first_failure_decides or collects
        self._bundle = capabilities.bundle if together else None
        self._waiting: deque[Future[Any]] = deque()
        self._count = 0  # of those that wait, less those that were dropped
        self._most = 1  # in a bundle
        self.ahead: Task | None = None

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    def add(self, future: Future[Any]) -> None:
        """It waits."""
        self._waiting.append(future)
        self._count += 1

    def drop(self, future: Future[Any]) -> None:
        """It does not any more."""
        future._dropped = True
        self._count -= 1

    def next(self) -> tuple[Any, list[Future[Any]]]:
        """The next few, as many as may travel together; with what was made of their calls."""
        waiting = self._waiting
        futures = [self._pop()]
        packed, timeout = futures[0]._packed, futures[0]._timeout
        most = min(self._most, -(-self._count // self._slots))
        if most > 1 and timeout is None and self._bundle is not None:
            together = (f._packed for f in [futures[0], *islice(self._candidates(), most - 1)])
            packed, count = self._bundle(together)
            while len(futures) < count:
                futures.append(self._pop())
        self._count -= len(futures)
        if not self._count:
            waiting.clear()
        return packed, futures

    def all(self) -> list[Future[Any]]:
        """All that wait; nobody does any more."""
        futures = [f for f in self._waiting if not f._dropped]
        self._waiting.clear()
        self._count = 0
        return futures

    def measured(self, seconds: float) -> None:
        """So long has a call taken."""
        fits = int(_SECONDS / seconds) if seconds > 0 else _LONGEST
        # Grow by doubling, so that one short call among long ones does no harm.
        self._most = max(1, min(2 * self._most, fits, _LONGEST))

    def _pop(self) -> Future[Any]:
        while True:
            future = self._waiting.popleft()
            if not future._dropped:
                return future

    def _candidates(self) -> Iterator[Future[Any]]:
        for future in self._waiting:
            if not future._dropped:
                if future._timeout is not None:
                    return
                yield future


class Bundle:
    """Several futures as the sink of one task, whose items are their calls."""

    __slots__ = ("_calls", "_futures")

    def __init__(self, calls: Calls, futures: list[Future[Any]]) -> None:
        self._calls = calls
        self._futures = futures

    def bind(self, task: Task) -> Bundle:
        """They have a task now."""
        for item, future in enumerate(self._futures):
            future._task, future._item = task, item
        return self

    def take(self, task: Task, outcome: Outcome) -> None:
        """A sink's method."""
        self._futures[outcome.index - task.index].take(task, outcome)

    def take_run(self, task: Task, run: Run) -> None:
        """A sink's method."""
        first, values = run.index - task.index, run.values
        for future, value in zip(self._futures[first : first + len(values)], values, strict=True):
            future._succeed(value)
        self._calls.measured((run.ended_at - run.started_at) / len(values))

    def over(self, task: Task) -> None:
        """A sink's method."""

    def split(self, task: Task, part: Task) -> None:
        """A sink's method."""
        for future in self._futures[part.first :]:
            if future._task is task:
                future._task = part

    def broken(self, error: BaseException) -> None:
        """A sink's method."""
        for future in self._futures:
            future.broken(error)
