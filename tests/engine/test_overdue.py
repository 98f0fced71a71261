"""Spans that take long, seen from the engine: what is told from a tray follows on what was sent."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from andon._core.events import GivenBack, Succeeded
from andon._engines.local.overdue import OVERDUE, SETTLED
from andon._engines.port import Call
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


@pytest.mark.parametrize("ended", [0, 2])
def test_what_took_longer_than_anybody_knew_is_expected_of_the_rest(
    start_method: str, ended: int, stage: MakeStage
) -> None:
    """Else a span of a size that was asked for is taken apart every OVERDUE seconds. (Of one long
    item, and none that has ended, nobody can tell how long the others take.)"""
    running, go = stage("running"), stage("go")
    lengths = [*[0.0] * ended, None, None, *[0.0] * 1000]
    with driver(start_method) as d:
        d.value(tasks.add, 1)
        work = partial(tasks.uneven, int, running, go)
        packed = d.caps.pack(Call(work, items=list(enumerate(lengths))))
        ident = d.submit_packed(packed, 0, len(lengths))
        d.reached(running)
        d.until(lambda: any(isinstance(e, GivenBack) for e in d.of(ident)))
        assert (packed.seconds >= OVERDUE / ended) if ended else packed.seconds == 0.0
        go.release()
        d.until(lambda: d.over(ident))
        (worker,) = d.engine._crew.workers.values()
        rest = d.submit_packed(packed, ended + 1, len(lengths))
        d.until(lambda: worker.attempt is not None)
        assert worker.attempt is not None and worker.watch is not None
        assert worker.attempt.id == rest
        assert (worker.watch.at - time.monotonic() > 1.0) == bool(ended)
        go.release()
        assert d.finish(rest)


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
