"""Spans that take long, seen from the engine: what is told from a tray follows on what was sent."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from andon._core.events import GivenBack, Succeeded
from andon._engines.local.overdue import _PAUSE, OVERDUE, SETTLED, Overdue
from andon._engines.local.timers import Timers
from andon._worker.outbox import PATIENCE_NS
from tests.engine import tasks
from tests.engine.driver import driver
from tests.support import Stage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

MakeStage = Callable[..., Stage]


@pytest.mark.parametrize("kind", [str, int])  # as frames in the tray, and as values side by side
def test_answers_that_are_on_their_way_while_the_tray_is_looked_at(
    start_method: str, kind: type, stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may send between our look at its pipe and the timers: what lies in its tray then
    follows on what we have not read yet. It is no garbage (S27), and nothing is lost (S45)."""
    running, go = stage("running"), stage("go")
    with driver(start_method) as d:
        d.value(tasks.add, 1)
        # More than one send: for the tray's patience, and for the lane's.
        late = 1.2 * PATIENCE_NS / 1e9
        lengths = [0.0, late, *[0.0] * 9, late, *[0.0] * 9, None, 0.0, 0.0]
        items = list(enumerate(lengths))
        ident = d.submit_span(partial(tasks.uneven, kind, running, go), items)
        running.wait()  # we have not read a word yet
        with monkeypatch.context() as patch:
            patch.setattr(d.engine._poller, "wait", lambda timeout: [])
            for _ in range(3):
                time.sleep(1.5 * OVERDUE)  # not to win a race: so that timers are due
                d.engine.pump(0)
        assert not d.over(ident) and not any(isinstance(e, Succeeded) for e in d.of(ident))
        d.until(lambda: any(isinstance(e, GivenBack) for e in d.of(ident)))
        told: list[Any] = [e for e in d.of(ident) if isinstance(e, Succeeded)]
        assert sum(e.count for e in told) == lengths.index(None), "what has ended is told of"
        go.release()
        told = d.finish(ident)
        assert all(isinstance(e, Succeeded) for e in told)
        assert [v for e in told for v in e.payload.values] == list(map(kind, range(len(items))))


class Watched:
    """A worker at a span of 100 items, given 60 seconds ago, and what becomes of it."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.attempt = SimpleNamespace(
            lo=0, hi=100, packed=SimpleNamespace(seconds=seconds), group=SimpleNamespace(id=7)
        )
        self.row = SimpleNamespace(index=0, started_ns=time.monotonic_ns())
        self.worker: Any = SimpleNamespace(
            attempt=self.attempt, dead_at=None, begun=True, row=self.row, watch=None
        )
        self.worker.ask_to_yield = self._asked
        self.asked = 0
        self.wanted_by: set[int] = set()  # groups
        overdue = Overdue(Timers(), lambda worker, frames: None, self._is_wanted)
        with pytest.MonkeyPatch.context() as patch:
            given = time.monotonic() - 60.0
            clock = SimpleNamespace(monotonic=lambda: given)
            patch.setattr("andon._engines.local.overdue.time", clock)
            overdue.watch(self.worker, cast(Any, self.attempt))
        self.after = self.worker.watch.at - given

    def _asked(self, attempt: Any) -> None:
        assert attempt is self.attempt
        self.asked += 1

    def _is_wanted(self, group: int) -> bool:
        return bool(self.wanted_by - {group})

    def due(self, ended: int, for_: float) -> float:
        """The timer is due, with so many items over, and one that runs for so many seconds; when
        the next one is, from now on."""
        self.row.index = ended
        self.row.started_ns = time.monotonic_ns() - int(for_ * 1e9)
        self.worker.watch.call()
        return float(self.worker.watch.at) - time.monotonic()


@pytest.mark.parametrize(("ended", "for_"), [(1, 20.0), (50, 1.0), (95, 0.0)])
def test_a_span_of_which_no_item_is_long_is_left_alone_until_others_want_its_worker(
    ended: int, for_: float
) -> None:
    span = Watched()
    span.wanted_by = {8}  # each group has its turn for a moment
    assert span.after == pytest.approx(OVERDUE)
    assert span.due(ended, for_) <= _PAUSE and span.asked == 0
    span.wanted_by = {7}
    for more in range(1, 4):
        assert 0 < span.due(ended + more, 0.0) <= _PAUSE and span.asked == 0
    span.wanted_by = {7, 8}
    span.due(ended + 4, 0.0)
    assert span.asked == 1
    assert span.attempt.packed.seconds == 0.0, "and what is told of others"


def test_a_span_that_was_left_alone_is_asked_for_what_stands_behind_a_long_item() -> None:
    span = Watched()
    span.due(50, 0.0)
    span.due(60, 0.0)
    assert span.asked == 0
    assert span.due(70, 10.0) <= SETTLED
    assert span.asked == 1


def test_an_item_that_has_hardly_begun_is_not_long() -> None:
    """However short the others are: of such the row says when the first of several began."""
    span = Watched()
    span.attempt.hi = 10**9
    span.due(10**8, 0.001)
    assert span.asked == 0
    other = Watched()
    other.attempt.hi = 10**9
    other.due(10**8, 1.0)
    assert other.asked == 1


@pytest.mark.parametrize(("ended", "for_"), [(0, 0.0), (2, 50.0), (50, 10.0)])
def test_what_stands_behind_a_long_item_is_asked_for(ended: int, for_: float) -> None:
    """Or behind the first: of the others nobody knows anything."""
    span = Watched()
    assert span.due(ended, for_) <= SETTLED
    assert span.asked == 1


def test_a_span_that_takes_longer_than_is_known_is_taken_apart() -> None:
    span = Watched(seconds=0.001)
    assert span.after == pytest.approx(2.5 * 100 * 0.001)
    span.due(50, 0.0)
    assert span.asked == 1


def test_S35_an_only_item_that_is_to_be_stopped_says_where_it_is_once_it_has_begun(
    start_method: str, stage: MakeStage
) -> None:
    """The one item of an attempt may be one of several calls: its order waits for that word."""
    running, go = stage("running"), stage("go")
    with driver(start_method) as d:
        pid = d.value(tasks.my_pid)
        os.kill(pid, signal.SIGSTOP)
        work = partial(tasks.uneven, int, running, go)
        ident = d.submit_span(work, [(0, None), (1, 0.0)], hi=1)
        with d.config.lock:
            assert d.engine.stop(None, ident, 5.0, 2.0, soon=True) == []
        for _ in range(3):
            time.sleep(SETTLED)  # not to win a race: so that timers are due
            d.engine.pump(0)
        os.kill(pid, signal.SIGCONT)
        d.reached(running)
        d.until(lambda: any(isinstance(e, GivenBack) for e in d.of(ident)))
        assert not d.over(ident)
        go.release()
        (event,) = d.finish(ident)
        assert isinstance(event, Succeeded)
