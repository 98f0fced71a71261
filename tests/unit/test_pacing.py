"""How spans grow, shrink, and begin. (That no item waits long: tests/facades/test_spans.py.)"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from andon._engines.port import Pace
from andon._runtime import pacing
from andon._runtime.pacing import Pacing

PACKED: Any = object()


def paced(
    length: int | None = None,
    chunksize: int | None = None,
    *,
    slots: int = 2,
    cores: float = 2,
    pace: Pace | None = None,
) -> Pacing:
    pace = pace or Pace()
    capabilities = SimpleNamespace(slots=slots, cores=cores, pace=lambda packed: pace)
    runtime = SimpleNamespace(capabilities=capabilities, is_alone=lambda group: True)
    group: Any = SimpleNamespace(runtime=runtime)
    return Pacing(group, chunksize, length)


def test_spans_grow_by_steps_to_what_may_take_long_enough() -> None:
    map_ = paced()
    map_.sent(PACKED, 0)
    sizes = []
    for _ in range(5):
        map_.measured(10e-6)
        sizes.append(map_.next_span(0))
    assert sizes == [8, 64] + [int(pacing._SHORT / 10e-6)] * 3
    map_.measured(1e-3)
    assert map_.next_span(0) == int(pacing._SHORT / 1e-3)


def test_an_item_that_takes_no_time_at_all_breaks_nothing() -> None:
    map_ = paced(1000)
    map_.measured(0.0)
    assert map_.next_span(0) == 8 and map_.expected(8) == 0.0


def test_toward_the_end_each_span_is_a_share_of_what_is_left() -> None:
    map_ = paced(1200)
    for _ in range(5):
        map_.measured(1e-3)
    assert [map_.next_span(sent) for sent in (0, 900, 1170, 1198)] == [100, 100, 10, 2]


def test_a_size_that_was_asked_for_is_kept_to() -> None:
    pace = Pace()
    pace.seconds = 1e-6
    map_ = paced(1000, 7, pace=pace)
    map_.sent(PACKED, 0)
    map_.measured(1e-6)
    assert map_.next_span(0) == 7 and map_.at_most == map_.ahead
    assert pace.seconds == 1e-6


@pytest.mark.parametrize("slots", [2, 8, 64])
def test_brief_items_wake_no_more_workers_than_there_are_cores(slots: int) -> None:
    map_ = paced(100_000, slots=slots)
    assert map_.at_most == max(slots, pacing._FEW)  # nobody knows: each may be long
    map_.measured(pacing._BRIEF / 2)
    assert (map_.at_most, map_.at_most_whole) == (3 * slots, pacing._FEW)
    map_.measured(pacing._BRIEF * 2)
    assert (map_.at_most, map_.at_most_whole) == (3 * slots, 3 * slots)


@pytest.mark.parametrize(
    ("length", "cores", "seconds"),
    [(100_000, 64, 1e-6), (None, 2, 1e-6), (100_000, 2, 0.0)],
    ids=["as many cores", "read one by one", "not to be measured"],
)
def test_else_all_workers_are_woken(length: int | None, cores: int, seconds: float) -> None:
    map_ = paced(length, slots=64, cores=cores)
    map_.measured(seconds)
    assert map_.at_most == map_.at_most_whole == 3 * 64


def test_of_large_items_fewer_are_ahead() -> None:
    map_ = paced(1000, slots=4)
    map_.sent(PACKED, 8 << 20)
    map_.measured(1e-3)
    assert (map_.at_most, map_.next_span(0)) == (8, 1)
    map_.sent(PACKED, 0)
    map_.measured(1e-3)
    assert map_.at_most == 12


def test_a_map_begins_at_the_pace_of_the_last_one_and_does_not_trust_in_it() -> None:
    pace = Pace()
    first = paced(10_000, pace=pace)
    first.sent(PACKED, 0)
    assert first.next_span(0) == 1
    first.measured(1e-6)
    second = paced(10_000, pace=pace)
    assert second.next_span(0) == 1  # it is with the first span that the function is known
    second.sent(PACKED, 0)
    assert second.next_span(1) == 1000 and second.expected(1000) == 0.0
    second.measured(2e-6)
    assert second.expected(1000) == 2e-3 and pace.seconds == 2e-6


def test_what_was_brief_before_is_still_shared_out_among_all_workers() -> None:
    pace = Pace()
    pace.seconds = 1e-7
    map_ = paced(16, slots=4, pace=pace)
    map_.sent(PACKED, 0)
    assert map_.next_span(1) == 4
    many = paced(64, slots=64, pace=pace)
    many.sent(PACKED, 0)
    assert many.next_span(1) == 13  # of which idle workers ask for some


def test_large_items_and_results_keep_spans_short_and_few_results_waiting() -> None:
    map_ = paced()
    for _ in range(5):
        map_.measured(1e-6, 1 << 20)
    assert map_.next_span(0) == 4
    assert map_.most_waiting() == 32
