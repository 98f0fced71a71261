"""The rest of a span that an engine gives back while an item of it runs: a task of its own."""

from __future__ import annotations

import pytest

from andon._core import actions as ac
from andon._core import events as ev
from andon.outcome import TaskState
from andon.policy import Decision, Stats, collect_all
from tests.core.test_machine import Line, of


def give_back(line: Line, attempt: int, index: int) -> list[ac.Action]:
    return line.post(ev.GivenBack(attempt, index))


def make_line(slots: int = 2) -> Line:
    line = Line()
    line.post(ev.SlotsChanged(slots))
    line.open(1, policy=collect_all())
    return line


def test_the_rest_is_sent_at_once_in_parts_for_all_workers() -> None:
    line = make_line()
    line.submit(10, size=9)
    line.succeed(1, 0, 2)
    split, apart, send = give_back(line, 1, 4)
    assert split == ac.Split(10, -1, 4)
    assert apart == ac.Split(-1, -2, 7)  # the half of it: another worker may want some
    assert send == ac.Send(2, -1, 1, 4, 7, False)
    line.succeed(1, 2, 2)
    line.end(1)
    assert [a.task for a in of(line.actions, ac.Resolve) if a.over] == [10]
    assert of(line.actions, ac.Send)[-1] == ac.Send(3, -2, 1, 7, 9, False)
    line.succeed(2, 4, 3)
    line.end(2)
    line.succeed(3, 7, 2)
    line.end(3)
    line.leave()
    assert [a.task for a in of(line.actions, ac.Resolve) if a.over] == [10, -1, -2]
    outcomes = line.outcomes(10) + line.outcomes(-1) + line.outcomes(-2)
    assert [(a.index, a.count) for a in outcomes] == [(0, 2), (2, 2), (4, 3), (7, 2)]


def test_parts_grow_from_as_many_items_as_took_long() -> None:
    line = make_line()
    line.submit(10, size=20)
    give_back(line, 1, 1)
    sent = [of(line.actions, ac.Send)[-1]]
    while sent[-1].hi < 20:
        line.succeed(sent[-1].attempt, sent[-1].lo, sent[-1].hi - sent[-1].lo)
        line.end(sent[-1].attempt)
        sent.append(of(line.actions, ac.Send)[-1])
    assert [(a.task, a.lo, a.hi) for a in sent] == [
        (-1, 1, 2), (-2, 2, 4), (-3, 4, 8), (-4, 8, 16), (-5, 16, 20),
    ]  # fmt: skip


def test_a_rest_is_split_again() -> None:
    line = make_line()
    line.submit(10, size=9)
    give_back(line, 1, 1)
    assert of(line.actions, ac.Send)[-1] == ac.Send(2, -1, 1, 1, 2, False)
    line.succeed(2, 1)
    line.end(2)
    assert of(line.actions, ac.Send)[-1] == ac.Send(3, -2, 1, 2, 4, False)
    give_back(line, 3, 3)
    assert of(line.actions, ac.Split)[-1] == ac.Split(-2, -4, 3)


@pytest.mark.parametrize("index", [0, 9, 10])
def test_what_comes_late_changes_nothing(index: int) -> None:
    line = make_line()
    line.submit(10, size=9)
    assert give_back(line, 1, index) == []
    assert give_back(line, 7, 1) == []


def test_s12_the_rest_of_a_stopping_task_is_not_sent_again() -> None:
    line = make_line()
    line.submit(10, size=9)
    line.cancel(10)
    assert give_back(line, 1, 4) == []
    line.stopped(1, 0)
    line.end(1)
    assert [a.count for a in line.outcomes(10)] == [1, 8]
    assert line.outcomes(10)[1].started is False


def test_s4_a_stop_cancels_the_rest_that_waits() -> None:
    line = make_line(slots=1)
    line.submit(10, size=9)
    give_back(line, 1, 4)
    line.stop()
    (rest,) = line.outcomes(-1)
    assert (rest.state, rest.index, rest.count) == (TaskState.CANCELLED, 4, 5)
    line.stopped(1, 0)
    line.end(1)
    assert [(a.index, a.count) for a in line.outcomes(10)] == [(0, 1), (1, 3)]


def test_s25_a_death_fails_the_item_that_ran_and_no_other() -> None:
    line = make_line()
    line.submit(10, size=9)
    give_back(line, 1, 4)
    line.die(1, 0)
    assert [(a.state, a.index) for a in line.outcomes(10)] == [(TaskState.FAILED, 0)]
    assert of(line.actions, ac.Send)[-1] == ac.Send(3, 10, 1, 1, 3, False)


def test_s35_an_item_that_is_alone_with_the_engine_is_stopped_at_once() -> None:
    line = make_line(slots=1)
    line.submit(10, size=4)
    give_back(line, 1, 1)
    line.succeed(1, 0)
    line.end(1)
    assert of(line.actions, ac.Send)[-1] == ac.Send(2, -1, 1, 1, 2, False)
    stop = line.post(ev.TaskCancelAsked(-1, item=1))
    assert stop == [ac.StopAttempt(2, 5.0, 2.0)]
    line.end(2)  # it had not begun
    assert [(a.index, a.state, a.started) for a in line.outcomes(-1)] == [
        (1, TaskState.CANCELLED, False)
    ]
    assert of(line.actions, ac.Send)[-1].lo == 2


class _Drains:
    failures_only = True
    first_failure_decides = False
    raises = False

    def on_outcome(self, stats: Stats, state: TaskState) -> Decision:
        return Decision.DRAIN if stats.failed else Decision.CONTINUE


@pytest.mark.parametrize("drains_first", [True, False])
def test_s35_one_of_several_is_stopped_in_a_group_that_drains(drains_first: bool) -> None:
    line = Line(slots=2)
    line.open(1, policy=_Drains())
    line.submit(10, size=3)
    line.submit(11)
    steps = [
        lambda: line.fail(2),
        lambda: of(line.post(ev.TaskCancelAsked(10, item=0)), ac.StopAttempt),
    ]
    told = [step() for step in (steps if drains_first else steps[::-1])]
    assert [ac.StopAttempt(1, 5.0, 2.0, soon=True)] in told, "where is it?"
    assert give_back(line, 1, 1) == [ac.StopAttempt(1, 5.0, 2.0)], "S12: the rest does not start"
    line.stopped(1, 0)
    line.end(1)
    first, rest = line.outcomes(10)
    assert (first.started, first.cancel_requested) == (True, True)
    assert (rest.index, rest.count, rest.started) == (1, 2, False)
    assert first.state is rest.state is TaskState.CANCELLED


def test_s35_an_item_that_is_not_asked_to_stop_runs_on_in_a_group_that_drains() -> None:
    line = Line(slots=2)
    line.open(1, policy=_Drains())
    line.submit(10, size=3)
    line.submit(11)
    line.fail(2)
    line.post(ev.TaskCancelAsked(10, item=2))
    assert give_back(line, 1, 1) == []
    line.succeed(1, 0)
    line.end(1)
    first, rest = line.outcomes(10)
    assert first.state is TaskState.SUCCEEDED and not first.cancel_requested
    assert (rest.count, rest.started) == (2, False)
