"""Runs of short items: what comes back in one frame, and what a dead worker's tray still holds."""

from __future__ import annotations

import array
import collections
import enum
import os
import signal
import sys
import time
from fractions import Fraction
from functools import partial
from typing import Any

import pytest

import andon
from andon import Cancelled, _wire
from andon._board import tray
from andon._board.row import STARTED_NS
from andon._gate import gate
from andon._pickling import loads
from andon._plain import is_within
from andon._worker import lane
from andon._worker.signals import INTERRUPT_SIGNAL
from andon._worker.state import current
from tests.unit.worker_harness import Worker, worker

pytestmark = [pytest.mark.linux, pytest.mark.usefixtures("patient")]


def same(item: Any) -> Any:
    return item


def slowly(item: Any) -> Any:
    time.sleep(0.005)
    return item


def when_it_began(of: Any, item: int) -> Any:
    time.sleep(0.003)
    return of(current.cells[STARTED_NS])


def summed(a: int, b: int) -> int:
    return a + b


def die_at_5(item: Any) -> Any:
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def die_at_5_of_none(item: int) -> None:
    die_at_5(item)


def die_at_5_of_text(item: int) -> str:
    return str(die_at_5(item))


def die_at_5_of_any(item: int) -> Any:
    return any_value(die_at_5(item))


def large(item: int) -> bytes:
    return b"%d" % item * 11_500


def large_die_at_5(item: int) -> bytes:
    return large(die_at_5(item))


def any_value(item: int) -> Any:
    return [str(item), Fraction(item, 7), (item, "two"), {"key": [item]}, b"five"][item % 5]


def die_at_5_of_floats(item: int) -> float:
    return die_at_5(item) / 4


def fork_at_2_and_5(item: int, of: Any) -> Any:
    """The copy comes back from the task, with a value of its own."""
    if os.getpid() != current.pid:
        os.kill(current.pid, signal.SIGKILL)  # it must not be called for another item
    if item in (2, 5):
        pid = os.fork()
        if pid == 0:
            return of(-1)
        os.waitpid(pid, 0)
        assert current.row is not None and current.row.index == item
    return of(item)


def fork_and_exit_at_5(item: int) -> int:
    if item == 5:
        pid = os.fork()
        if pid == 0:
            sys.exit(3)
        os.waitpid(pid, 0)
    return item


def nudge() -> None:
    assert current.board is not None
    current.board.nudge(current.slot)


def order_interrupt() -> None:
    assert current.row is not None
    current.row.order(current.attempt, 2)
    nudge()


def swallow_at_5(item: int) -> int:
    if item == 5:
        try:
            order_interrupt()
            signal.raise_signal(INTERRUPT_SIGNAL)
        except Cancelled:
            pass
    return item


def interrupted_behind_9(item: int) -> int:
    """The interrupt comes when the row has gone on, and nothing more is called."""
    if item == 9:

        def trace(frame: Any, event: str, arg: Any) -> Any:
            if current.row is not None and current.row.index == 10:
                sys.settrace(None)
                signal.raise_signal(INTERRUPT_SIGNAL)
            return trace

        order_interrupt()
        sys._getframe(1).f_trace = trace
        sys.settrace(lambda *event: None)
    return item


def interrupted_behind_5(of: Any, item: int) -> Any:
    """Interrupts come at every line of the lane behind the call's until the value counts. (On that
    one they do only where somebody traces.)"""
    if item == 5:

        def trace(frame: Any, event: str, arg: Any) -> Any:
            if current.row is not None and current.row.index == 6:
                sys.settrace(None)
            elif not gate.user:
                signal.raise_signal(INTERRUPT_SIGNAL)
            return trace

        order_interrupt()
        sys._getframe(1).f_trace = trace
        sys.settrace(lambda *event: None)
    return of(item)


class Point(collections.namedtuple("Point", "x y")):
    pass


class Text(str):
    pass


class Number(enum.IntEnum):
    ONE = 1


class Deadly:
    """Kills the worker where it is told to."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __reduce__(self) -> Any:
        if self.where == "pickled":
            os.kill(os.getpid(), signal.SIGKILL)
        return Deadly, ("nowhere",)

    def __del__(self) -> None:
        if self.where == "dropped":
            os.kill(os.getpid(), signal.SIGKILL)


def number_of(item: Any) -> int:
    return 5 if isinstance(item, Deadly) else int(item)


class Argument(Deadly):
    """It arrives as one that is deadly."""

    def __reduce__(self) -> Any:
        return Deadly, (self.where,)

    def __del__(self) -> None:
        pass


class OfTheWorker:
    """A value that no copy of the worker may pickle."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        if os.getpid() != current.pid:
            os.kill(current.pid, signal.SIGKILL)
        return int, (self.number,)


def deadly_at_5(item: int, where: str) -> Any:
    return Deadly(where) if item == 5 else str(item)


class Pickled:
    """Does something while it is pickled; says how often it was."""

    times = 0

    def __init__(self, what: str) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        Pickled.times += 1
        if self.what == "looks":
            andon.check()
        elif self.what == "stops and looks":
            order_interrupt()
            andon.check()
        elif self.what == "is interrupted":
            order_interrupt()
            signal.raise_signal(INTERRUPT_SIGNAL)
        elif self.what == "forks":
            if not os.fork():
                return str, ("of the copy",)
            os.wait()
        elif self.what == "refuses":
            raise TypeError("no pickle of me")
        return int, (Pickled.times,)


def pickled_at_5(item: int, what: str) -> Any:
    return Pickled(what) if item == 5 else str(item)


class Unpickled:
    """An argument whose unpickling is a deed."""

    def __init__(self, number: int, what: str = "") -> None:
        self.state = number, what

    def __reduce__(self) -> Any:
        return unpickle, self.state


def unpickle(number: int, what: str) -> Any:
    if what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "refuses":
        raise ValueError("not here")
    elif what == "stops":
        order_interrupt()
        signal.raise_signal(INTERRUPT_SIGNAL)
    elif what == "stops and looks":
        order_interrupt()
        andon.check()
    elif what == "looks":
        andon.check()
    elif what == "is asked to yield":
        assert current.row is not None
        current.row.ask_to_yield(current.attempt)
        nudge()
    elif what == "disturbed":
        assert current.row is not None
        current.row.ask_to_yield(current.attempt + 99)
        nudge()
    return number


class Overwritten(tray.TrayView):
    """Whose worker begins anew while it is read."""

    __slots__ = ()

    def raw(self, count: int) -> bytes:
        self.begin(tray.INT, 7, 150, 9)
        self.ints[0] = 99
        return super().raw(count)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, no value of a run goes on its way early (workers are forked)."""
    monkeypatch.setattr("andon._worker.loop.PATIENCE_NS", 1 << 60)


def frames_of(w: Worker, fn: Any, items: list[Any], **options: Any) -> list[Any]:
    w.start_span(fn, items, **options)
    frames = [w.read_frame()]
    while not frames[-1].last:
        frames.append(w.read_frame())
    return frames


@pytest.mark.parametrize("values", [[None] * 40, list(range(40)), ["a"] * 40])
def test_values_that_nobody_waits_for_may_come_late(
    values: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that some come they take a core from the workers."""
    monkeypatch.setattr("andon._worker.loop.PATIENCE_NS", -1)
    monkeypatch.setattr("andon._worker.loop.GATHERED_NS", 1 << 60)
    with worker() as w:
        assert len(frames_of(w, same, values, flags=_wire.GATHERED)) == 1
        assert len(frames_of(w, same, values)) > 2


@pytest.mark.parametrize("values", [[None] * 12, list(range(12)), ["a"] * 12])
def test_values_of_long_items_do_not_wait_for_others(
    values: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once an item has taken longer than its value may wait, that does not wait for the next."""
    monkeypatch.setattr("andon._worker.loop.PATIENCE_NS", 1_000_000)
    with worker() as w:
        frames = frames_of(w, slowly, values)
        assert [len(frame.value) for frame in frames[:-1]] == [1] * (len(values) - 1)


def test_items_in_a_lane_are_counted_to_the_next_look_at_the_clock() -> None:
    """Few of them, where they are long: so the row says when the one that runs began."""
    assert lane.until_next_look(1, 0) == 2 and lane.until_next_look(8, 249_999) == 16
    assert lane.until_next_look(1024, 0) == 1024
    assert lane.until_next_look(8, 250_000) == 8 and lane.until_next_look(1, 250_000) == 1
    assert lane.until_next_look(1024, 2_000_000) == 1


@pytest.mark.parametrize("of", [int, str])
def test_the_row_says_when_each_long_item_of_a_lane_began(of: Any) -> None:
    with worker() as w:
        (frame,) = frames_of(w, partial(when_it_began, of), list(range(6)))
        assert len(set(frame.value)) == 6


@pytest.mark.parametrize("values", [[1, -2, 3], [None] * 4, [0.5, float("inf"), -0.0]])
def test_values_of_one_plain_type_come_in_one_frame(values: list[Any]) -> None:
    with worker() as w:
        (frame,) = frames_of(w, same, values, lo=3)
        assert (frame.kind, frame.meta[0], frame.meta[3]) == (_wire.VALUES, 3, len(values))
        assert repr(frame.value) == repr(values)  # the sign of zero, too
        assert w.row.tasks_done == len(values)


def test_a_starred_span_runs_on() -> None:
    with worker() as w:
        (frame,) = frames_of(w, summed, [(1, 2), (3, 4), (5, 6)], star=True)
        assert frame.value == [3, 7, 11]


def test_small_values_of_all_types_come_in_one_frame() -> None:
    with worker() as w:
        values = ["a", (1, None), [2.5, True], {"b": 1j}, b"c", 1 << 70, None, -1, ""]
        (frame,) = frames_of(w, same, values, lo=3)
        assert (frame.kind, frame.meta[0], frame.meta[3:]) == (_wire.VALUES, 3, (9, tray.MIXED))
        assert frame.value == values
        (frame,) = frames_of(w, any_value, list(range(20)))
        assert frame.meta[3:] == (20, tray.PICKLED)
        assert frame.value == [any_value(i) for i in range(20)]


def test_items_that_travel_each_by_itself_run_on_too() -> None:
    with worker() as w:
        items = [[i] for i in range(9)]
        (frame,) = frames_of(w, same, items, flags=_wire.EACH)
        assert (frame.kind, frame.value) == (_wire.VALUES, items)
        (frame,) = frames_of(w, summed, [[i, 1] for i in range(9)], flags=_wire.EACH, star=True)
        assert frame.value == list(range(1, 10))
        calls = [((i,), {"b": 2}) for i in range(9)]
        (frame,) = frames_of(w, summed, calls, flags=_wire.EACH | _wire.CALLS)
        assert frame.value == list(range(2, 11))


def test_a_run_goes_over_to_the_lane_for_all_types() -> None:
    with worker() as w:
        values = [1, 2, "three", 4, None, 6.0]
        first, second = frames_of(w, same, values)
        assert (first.value, second.value) == (values[:2], values[2:])
        assert (first.meta[4], second.meta[4]) == (tray.INT, tray.MIXED)


@pytest.mark.parametrize(
    "values",
    [
        ["\ud800", "\0", "é" * 70, "日本"],
        [(), [], {}, ((),), [[]], {1: ()}, set(), {1, "two"}, frozenset((3,))],
        [bytearray(b"x"), (bytearray(b"y"),), [array.array("i", [1])], {"z": bytearray()}],
        [Text("a"), (Text("b"),), {Text("c"): 1}, Point(1, 2), (Number.ONE,), Number.ONE],
        [..., (..., b"no pickle"), (..., ...), NotImplemented, (int, str), StopIteration],
        [{"z": 1, "a": 2}, {i: str(i) for i in range(99)}, list(range(300)), tuple(range(99))],
        [1 << 9999, -(1 << 31), float("-inf"), -0.0, 1 - 2j],
        ["x" * size for size in (1, 60_000, 3, 200_000, 5, 12_000, 12_000, 12_000, 12_000, 7)],
        [(b"x" * size,) for size in (1, 60_000, 3, 200_000, 5, 12_000, 12_000, 12_000, 12_000)],
        [bytearray(size) for size in (1, 60_000, 3, 200_000, 5, 12_000, 12_000, 12_000, 12_000)],
        [["x" * 10_000] * 16, (b"y" * 10_000,) * 16, "z", dict.fromkeys(range(16), "x" * 10_000)],
    ],
)
@pytest.mark.parametrize("flags", [0, _wire.EACH])
def test_S28_what_only_looks_plain_is_no_less(values: list[Any], flags: int) -> None:
    with worker() as w:
        for given in (values, values[::-1]):
            answers = w.span(same, ["a", *given], flags=flags)
            assert [repr(a.value) for a in answers[1:]] == [repr(v) for v in given]
            assert [type(a.value) for a in answers[1:]] == [type(v) for v in given]


def test_a_value_keeps_its_shape() -> None:
    inner: list[Any] = []
    loop: list[Any] = [1]
    loop.append(loop)
    with worker() as w:
        frames = w.span(same, ["a", [inner, inner], loop, "b"], flags=_wire.EACH)
        twice, round_ = frames[1].value, frames[2].value
        assert twice[0] is twice[1]
        assert round_[1] is round_


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 1 << 63, 3, -(1 << 63), -(1 << 63) - 1],
        [1, True, 2, None, None, 3.0, 4.0, "five", b"six", (7,), 8],
        [True, False],
        [None, 1, None, 1],
        [float("nan"), 1],
    ],
)
def test_every_value_comes_back_as_it_is(values: list[Any]) -> None:
    with worker() as w:
        answers = w.span(same, values)
        assert [repr(a.value) for a in answers] == [repr(v) for v in values]
        assert [type(a.value) for a in answers] == [type(v) for v in values]
        assert [a.meta[0] for a in answers] == list(range(len(values)))
        assert [a.last for a in answers] == [False] * (len(values) - 1) + [True]


def test_more_values_than_the_tray_holds() -> None:
    with worker() as w:
        values = list(range(2 * tray.LANE + 7))
        answers = w.span(same, values)
        assert [a.value for a in answers] == values


@pytest.mark.parametrize(
    ("fn", "convert"),
    [
        (die_at_5, int),
        (die_at_5_of_none, lambda item: None),
        (die_at_5_of_floats, lambda item: item / 4),
        (die_at_5_of_text, str),
        (die_at_5_of_any, any_value),
    ],
)
def test_S45_a_dead_workers_tray_holds_what_it_had_not_sent(fn: Any, convert: Any) -> None:
    with worker() as w:
        attempt = w.start_span(fn, list(range(9)), lo=0)
        assert w.wait() == -signal.SIGKILL
        assert w.row.index == 5 and w.row.started_at is not None  # what it died in
        assert told(w, attempt) == {i: convert(i) for i in range(5)}


def told(w: Worker, attempt: int) -> dict[int, Any]:
    """What a dead worker has sent, and what lies in its tray: the same may be in both."""
    sent: list[Any] = []
    while True:
        try:
            sent.append(w.read())
        except EOFError:
            break
    kind, first, count, body = w.board.tray(w.number).unsent(attempt)
    values = tray.values(kind, count, body) if kind != tray.FRAMES else []
    values = [loads(v[1]) if is_within(v) else v for v in values]
    w._buffer += body if kind == tray.FRAMES else b""
    while w._buffer:
        sent.append(w.read())
    return {**{a.meta[0]: a.value for a in sent}, **dict(enumerate(values, first))}


def test_S45_frames_that_waited_lie_there_too() -> None:
    """Of values that are too large for the lane."""
    with worker() as w:
        attempt = w.start_span(large_die_at_5, list(range(9)))
        assert w.wait() == -signal.SIGKILL
        assert told(w, attempt) == {i: large(i) for i in range(5)}


@pytest.mark.parametrize("where", ["pickled", "dropped"])
def test_S25_a_value_that_kills_does_so_within_its_own_item(where: str) -> None:
    with worker() as w:
        items = [(i, where) for i in range(9)]
        attempt = w.start_span(deadly_at_5, items, star=True)
        assert w.wait() == -signal.SIGKILL
        assert (w.row.index, w.row.phase_name) == (5, "pickling")
        assert told(w, attempt) == {i: str(i) for i in range(5)}


def test_S25_an_argument_that_kills_as_it_is_dropped_does_so_within_its_own_item() -> None:
    with worker() as w:
        items = [Argument("dropped") if i == 5 else i for i in range(9)]
        attempt = w.start_span(number_of, items, flags=_wire.EACH)
        assert w.wait() == -signal.SIGKILL
        assert (w.row.index, w.row.phase_name) == (5, "running")
        assert told(w, attempt) == {i: i for i in range(5)}


def test_S25_an_argument_that_kills_does_so_before_its_own_item() -> None:
    with worker() as w:
        items = [Unpickled(i, "dies" if i == 5 else "") for i in range(9)]
        attempt = w.start_span(same, items, flags=_wire.EACH)
        assert w.wait() == -signal.SIGKILL
        assert (w.row.index, w.row.phase_name, w.row.started_at) == (5, "unpickling", None)
        assert told(w, attempt) == {i: i for i in range(5)}


@pytest.mark.parametrize("at", [0, 1, 5, 8])
def test_S28_what_cannot_be_unpickled_fails_alone(at: int) -> None:
    with worker() as w:
        items = [Unpickled(i, "refuses" if i == at else "") for i in range(9)]
        answers = w.span(same, items, flags=_wire.EACH)
        assert [a.meta[0] for a in answers] == list(range(9))
        assert [a.kind == _wire.FAILURE for a in answers] == [i == at for i in range(9)]
        assert answers[at].meta[1] is None and answers[at].meta[3] == _wire.STAGE_ARGUMENTS
        assert [a.value for a in answers if a.kind == _wire.VALUE] == [
            i for i in range(9) if i != at
        ]


@pytest.mark.parametrize("what", ["stops", "is asked to yield"])
@pytest.mark.parametrize("at", [1, 5])  # 1: with it the lane begins
def test_S12_no_call_once_a_stop_has_come_while_its_arguments_were_unpickled(
    what: str, at: int
) -> None:
    with worker() as w:
        items = [Unpickled(i, what if i == at else "") for i in range(9)]
        answers = w.span(same, items, flags=_wire.EACH)
        assert [a.value for a in answers] == list(range(at))
        assert answers[-1].last and not answers[-1].retiring  # S17: it was no time for interrupts
        assert w.row.tasks_done == at


@pytest.mark.parametrize("at", [0, 1, 5])
def test_S16_arguments_that_look_whether_they_should_stop_are_no_failure(at: int) -> None:
    with worker() as w:
        slot, clear = w.word()
        items = [Unpickled(i, "stops and looks" if i == at else "") for i in range(9)]
        word, flags = (slot, clear), _wire.EACH | _wire.FATAL
        *answers, last = w.span(same, items, word=word, flags=flags)
        assert [a.value for a in answers] == list(range(at))
        assert (last.kind, last.meta[:2], last.last) == (_wire.STOPPED, (at, None), True)
        assert w.board.is_clear(slot, clear)  # and stop nobody else


def test_an_order_for_somebody_else_ends_nothing() -> None:
    with worker() as w:
        items = [Unpickled(i, "disturbed" if i == 5 else "") for i in range(9)]
        answers = w.span(same, items, flags=_wire.EACH)
        assert [a.value for a in answers] == list(range(9))


def test_an_item_that_looks_while_it_is_unpickled_ends_the_run() -> None:
    with worker() as w:
        items = [Unpickled(i, "looks" if i == 5 else "") for i in range(9)]
        answers = w.span(same, items, flags=_wire.EACH)
        assert [a.value for a in answers] == list(range(9))


@pytest.mark.parametrize("what", ["returns", "looks", "forks", "is interrupted", "refuses"])
def test_whatever_a_value_does_while_it_is_pickled(what: str) -> None:
    with worker() as w:
        items = [(i, what if i == 5 else "") for i in range(9)]
        answers = w.span(pickled_at_5, items, star=True)
        if what == "is interrupted":  # S17: not then; S34: its value stands
            items = items[:6]
            assert answers[-1].last and not answers[-1].retiring
        assert [a.meta[0] for a in answers] == list(range(len(items)))
        assert [a.value for i, a in enumerate(answers) if i != 5] == [
            str(i) for i, _ in items if i != 5
        ]
        if what == "refuses":
            assert (answers[5].kind, answers[5].meta[3]) == (_wire.FAILURE, _wire.STAGE_RESULT)
        else:
            assert answers[5].value == 1  # pickled once


@pytest.mark.parametrize("at", [0, 5])
def test_S52_a_value_that_looks_whether_to_stop_as_it_is_pickled_is_no_failure(at: int) -> None:
    with worker() as w:
        slot, clear = w.word()
        items = [(i, "stops and looks") for i in range(5 - at, 9)]
        word, flags = (slot, clear), _wire.FATAL
        *answers, last = w.span(pickled_at_5, items, star=True, word=word, flags=flags)
        assert [a.value for a in answers] == [str(i) for i in range(5 - at, 5)]
        assert (last.kind, last.meta[0], last.last) == (_wire.STOPPED, at, True)
        assert w.board.is_clear(slot, clear)  # and stops nobody else


def test_another_attempts_tray_says_nothing() -> None:
    with worker() as w:
        attempt = w.start_span(die_at_5, list(range(9)))
        w.wait()
        view = w.board.tray(w.number)
        assert view.unsent(attempt + 1) == (tray.EMPTY, 0, 0, b"")
        view.clear()
        assert view.unsent(attempt) == (tray.EMPTY, 0, 0, b"")


@pytest.mark.parametrize("of", [int, str, OfTheWorker])
def test_a_copy_that_comes_back_from_a_task_writes_nothing_and_runs_nothing(of: Any) -> None:
    with worker() as w:
        items = [(i, of) for i in range(9)]
        (frame,) = frames_of(w, fork_at_2_and_5, items, star=True)
        assert frame.value == [i if of is OfTheWorker else of(i) for i in range(9)]
        assert w.row.tasks_done == 9


def test_S11_a_copy_that_exits_pulls_no_cord() -> None:
    with worker() as w:
        slot, clear = w.word()
        word, flags = (slot, clear), _wire.FATAL
        (frame,) = frames_of(w, fork_and_exit_at_5, list(range(9)), word=word, flags=flags)
        assert frame.value == list(range(9))
        assert w.board.is_clear(slot, clear)


@pytest.mark.parametrize("reuse", [False, True])
def test_S51_a_worker_retires_whose_item_has_swallowed_an_interrupt(reuse: bool) -> None:
    with worker(reuse_interrupted=reuse) as w:
        (frame,) = frames_of(w, swallow_at_5, list(range(10)))
        assert (frame.kind, frame.value) == (_wire.VALUES, list(range(6)))
        assert (frame.last, frame.retiring) == (True, not reuse)


def test_S34_an_interrupt_behind_the_last_item_finds_none() -> None:
    with worker() as w:
        (frame,) = frames_of(w, interrupted_behind_9, list(range(10)))
        assert (frame.kind, frame.value) == (_wire.VALUES, list(range(10)))
        assert frame.retiring


@pytest.mark.parametrize("of", [str, Fraction])
def test_S34_an_interrupt_on_a_values_way_to_the_tray_finds_none(of: Any) -> None:
    with worker() as w:
        (frame,) = frames_of(w, partial(interrupted_behind_5, of), list(range(10)))
        assert frame.value == [of(i) for i in range(6)]
        assert frame.last and not frame.retiring


def test_a_tray_that_is_overwritten_while_it_is_read_says_nothing() -> None:
    view = Overwritten(memoryview(bytearray(tray.TRAY_BYTES)))
    view.begin(tray.INT, 7, 0, 200)
    view.cells[tray.FILLED] = 100
    assert view.unsent(7) == (tray.EMPTY, 0, 0, b"")
