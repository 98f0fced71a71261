"""Runs of short items: what comes back in one frame, and what a dead worker's tray still holds."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest

from andon import Cancelled, _wire
from andon._board import tray
from andon._worker.signals import INTERRUPT_SIGNAL
from andon._worker.state import current
from tests.unit.worker_harness import Worker, worker

pytestmark = [pytest.mark.linux, pytest.mark.usefixtures("patient")]


def same(item: Any) -> Any:
    return item


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


def die_at_5_of_floats(item: int) -> float:
    return die_at_5(item) / 4


def fork_at_2_and_5(item: int) -> int:
    """The copy comes back from the task, with a value of its own."""
    if os.getpid() != current.pid:
        os.kill(current.pid, signal.SIGKILL)  # it must not be called for another item
    if item in (2, 5):
        pid = os.fork()
        if pid == 0:
            return -1
        os.waitpid(pid, 0)
        assert current.row is not None and current.row.index == item
    return item


def fork_and_exit_at_5(item: int) -> int:
    if item == 5:
        pid = os.fork()
        if pid == 0:
            sys.exit(3)
        os.waitpid(pid, 0)
    return item


def order_interrupt() -> None:
    assert current.row is not None
    current.row.order(current.attempt, 2)


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
    w._buffer += body if kind == tray.FRAMES else b""
    while w._buffer:
        sent.append(w.read())
    return {**{a.meta[0]: a.value for a in sent}, **dict(enumerate(values, first))}


def test_S45_frames_that_waited_lie_there_too() -> None:
    with worker() as w:
        attempt = w.start_span(die_at_5_of_text, list(range(9)))
        assert w.wait() == -signal.SIGKILL
        assert told(w, attempt) == {i: str(i) for i in range(5)}


def test_another_attempts_tray_says_nothing() -> None:
    with worker() as w:
        attempt = w.start_span(die_at_5, list(range(9)))
        w.wait()
        view = w.board.tray(w.number)
        assert view.unsent(attempt + 1) == (tray.EMPTY, 0, 0, b"")
        view.clear()
        assert view.unsent(attempt) == (tray.EMPTY, 0, 0, b"")


def test_a_copy_that_comes_back_from_a_task_writes_nothing_and_runs_nothing() -> None:
    with worker() as w:
        (frame,) = frames_of(w, fork_at_2_and_5, list(range(9)))
        assert frame.value == list(range(9))
        assert w.row.tasks_done == 9


def test_S11_a_copy_that_exits_pulls_no_cord() -> None:
    with worker() as w:
        slot, clear = w.word()
        word, flags = (slot, clear), _wire.FATAL
        (frame,) = frames_of(w, fork_and_exit_at_5, list(range(9)), word=word, flags=flags)
        assert frame.value == list(range(9))
        assert w.board.words[slot] == clear


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


def test_a_tray_that_is_overwritten_while_it_is_read_says_nothing() -> None:
    view = Overwritten(memoryview(bytearray(tray.TRAY_BYTES)))
    view.begin(tray.INT, 7, 0, 200)
    view.cells[tray.FILLED] = 100
    assert view.unsent(7) == (tray.EMPTY, 0, 0, b"")
