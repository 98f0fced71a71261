"""A worker that idles is given what another has before it, however long that one was to take."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from andon._core.events import AttemptEnded, GivenBack, Succeeded
from andon._engines.port import Call
from tests.engine import tasks
from tests.engine.driver import Driver, driver
from tests.support import Stage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

MakeStage = Callable[..., Stage]
FOR_HOURS = 3600.0  # so nobody asks because it is overdue


def submit(d: Driver, work: Callable[..., Any], lengths: list[float | None], seconds: float) -> int:
    items = list(enumerate(lengths))
    packed = d.caps.pack(Call(work, items=items, seconds=seconds * len(items)))
    return d.submit_packed(packed, 0, len(items))


def both_up(d: Driver, stage: MakeStage) -> None:
    running, go = stage("up"), stage("down")
    idents = [d.submit(tasks.hold, running, go) for _ in range(2)]
    d.reached(running, 2)
    for _ in idents:
        go.release()
    for ident in idents:
        d.finish(ident)


def test_who_idles_gets_the_rest_of_another_ones_span(
    start_method: str, stage: MakeStage
) -> None:
    running, go = stage("running"), stage("go")
    with driver(start_method, workers=2) as d:
        both_up(d, stage)
        ident = submit(d, partial(tasks.uneven, int, running, go), [None, 0.0, 0.0], FOR_HOURS)
        d.until(lambda: any(isinstance(e, GivenBack) for e in d.of(ident)))
        (back,) = [e for e in d.of(ident) if isinstance(e, GivenBack)]
        assert back.index == 1 and not d.over(ident)
        go.release()
        d.until(lambda: d.over(ident))
        told = [e for e in d.of(ident) if isinstance(e, Succeeded)]
        assert [(e.index, e.count) for e in told] == [(0, 1)]
        assert isinstance(d.of(ident)[-1], AttemptEnded)


def test_nobody_is_asked_for_less_than_it_costs(start_method: str, stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with driver(start_method, workers=2) as d:
        both_up(d, stage)
        work = partial(tasks.uneven, int, running, go)
        ident = submit(d, work, [0.0, None, *[0.0] * 100], 1e-6)
        d.reached(running)
        d.engine.pump(0)
        hunger = d.engine._hunger
        assert hunger._timer is None and [a.id for a in hunger._spans.values()] == [ident]
        go.release()
        d.finish(ident)


def test_nobody_is_asked_while_all_are_at_work(start_method: str, stage: MakeStage) -> None:
    running, go = stage("running"), stage("go")
    with driver(start_method, workers=2) as d:
        both_up(d, stage)
        work = partial(tasks.uneven, int, running, go)
        idents = [submit(d, work, [None, 0.0, 0.0], FOR_HOURS) for _ in range(2)]
        d.reached(running, 2)
        assert d.engine._hunger._timer is None
        assert not any(d.of(ident) for ident in idents)
        go.release()  # one of them: then it idles, and the other is asked
        d.until(lambda: any(isinstance(e, GivenBack) for e in d.events))
        (back,) = [e for e in d.events if isinstance(e, GivenBack)]
        assert back.index == 1 and sum(d.over(ident) for ident in idents) == 1
        go.release()
        d.until(lambda: all(d.over(ident) for ident in idents))
