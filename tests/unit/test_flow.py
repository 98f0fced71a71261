"""Of brief calls, one or few are under way at once; long ones are found out."""

from __future__ import annotations

import itertools

import pytest

from andon._runtime import flow
from andon._runtime.flow import Flow

BRIEF, LONG = 1e-6, 0.1
ANY = 1000


def brief_ones(calls: int = flow._LATELY) -> Flow:
    made = Flow(holds=True)
    for _ in range(calls):
        made.measured(BRIEF, 1)
    return made


def fill(made: Flow, now: float, numbers: itertools.count[int]) -> list[int]:
    """Send until it is full."""
    sent: list[int] = []
    while not made.full() and len(sent) < ANY:
        sent.append(next(numbers))
        made.sent(sent[-1], now)
    return sent


def test_of_the_briefest_calls_one_is_under_way_at_a_time() -> None:
    made, numbers = brief_ones(), itertools.count()
    (sent,) = fill(made, 0.0, numbers)
    assert made.back(sent) and not made.back(sent)
    assert len(fill(made, 0.0, numbers)) == 1


@pytest.mark.parametrize("calls", [0, 1, flow._LATELY - 1])
def test_none_is_held_before_enough_is_known(calls: int) -> None:
    assert len(fill(brief_ones(calls), 0.0, itertools.count())) == ANY


def test_a_bundle_counts_as_its_calls() -> None:
    made = Flow(holds=True)
    made.measured(BRIEF, flow._LATELY)
    assert len(fill(made, 0.0, itertools.count())) == 1


def test_the_longer_they_take_the_more() -> None:
    found = []
    for seconds in (BRIEF, 15e-6, 35e-6, 51e-6):
        made = Flow(holds=True)
        made.measured(seconds, 100)
        found.append(len(fill(made, 0.0, itertools.count())))
    assert found == [1, 2, 4, ANY]


def test_where_none_may_travel_together_none_is_held() -> None:
    made = Flow(holds=False)
    made.measured(BRIEF, 1000)
    assert len(fill(made, 0.0, itertools.count())) == ANY


def test_one_that_was_interrupted_by_the_system_changes_nothing() -> None:
    made = brief_ones()
    made.measured(0.001, 1)
    assert len(fill(made, 0.0, itertools.count())) < 5


def test_long_calls_end_it() -> None:
    made = brief_ones()
    made.measured(LONG, 1)
    assert len(fill(made, 0.0, itertools.count())) == ANY


def test_what_is_at_a_long_call_does_not_count() -> None:
    made, numbers = brief_ones(), itertools.count()
    first, *others = fill(made, 0.0, numbers)
    made.look(flow.HELD, lambda at: {first} if at == 0.0 else set())
    assert not made.full() and not made.back(first)
    for _ in range(flow._AGAIN):
        made.measured(BRIEF, 1)
    assert len(fill(made, flow.HELD, numbers)) == 1
    assert all(map(made.back, others))


def test_what_waits_for_a_core_counts_a_while() -> None:
    made = brief_ones()
    sent = fill(made, 0.0, itertools.count())
    made.look(flow._PATIENCE / 2, lambda at: set())
    assert made.full()
    made.look(flow._PATIENCE, lambda at: set())
    assert not made.full() and not any(map(made.back, sent))


def test_the_workers_are_not_looked_at_while_calls_come_back() -> None:
    made = brief_ones()
    fill(made, 1.0, itertools.count())
    made.look(1.0 + flow.HELD / 2, lambda at: pytest.fail("nothing is late"))
    assert made.full()


def test_the_more_often_it_was_wrong_the_longer_none_is_held() -> None:
    made, numbers = brief_ones(), itertools.count()
    needed = []
    for now in range(6):
        sent = fill(made, now, numbers)
        made.look(now + 2 * flow.HELD, lambda at, sent=sent: set(sent))  # type: ignore[misc]
        needed.append(next(n for n in itertools.count() if is_held_after(made, n)))
    assert needed == sorted(needed) and needed[0] < needed[-1]
    for _ in range(10):
        made.measured(BRIEF, flow._CALM)
    made.look(100, lambda at: set())
    fill(made, 200, numbers)
    made.look(200 + 2 * flow.HELD, lambda at: set(range(next(numbers))))
    assert next(n for n in itertools.count() if is_held_after(made, n)) == needed[0]


def is_held_after(made: Flow, calls: int) -> bool:
    """So many more brief ones, of which it has seen all but the last."""
    if calls:
        made.measured(BRIEF, 1)
    return made._at_once < ANY
