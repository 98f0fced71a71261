"""What goes wrong beside all tasks is logged, and where the program's own logging fails,
printed: it holds up nobody and changes nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

import andon
from andon._complaint import complain as complain_of
from andon.aio.lane import Lane
from tests.facades.talkers import complain
from tests.facades.tasks import square
from tests.support import PATIENCE


class Broken(logging.Handler):
    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__()
        self._kind = kind

    def emit(self, record: logging.LogRecord) -> None:
        raise self._kind("the handler is broken")


def slip(*_: object) -> None:
    raise ValueError("a slip")


@pytest.fixture(params=[AttributeError, SystemExit])
def broken(request: pytest.FixtureRequest) -> Iterator[None]:
    """A handler of the program raises, whatever it is given."""
    handler = Broken(request.param)
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)


@pytest.mark.usefixtures("broken")
def test_S4_a_handler_that_raises_is_no_tasks_affair(start_method: str) -> None:
    with andon.Pool(1, start_method=start_method) as pool:
        assert pool.map_async(complain, range(3)).get(PATIENCE) == [None] * 3
        assert pool.apply_async(square, (3,)).get(PATIENCE) == 9


@pytest.mark.usefixtures("broken")
def test_S47_all_callbacks_run_where_the_log_raises_too() -> None:
    other, last = threading.Event(), threading.Event()
    with andon.ProcessPoolExecutor(1) as executor:
        future = executor.submit(square, 2)
        for callback in (slip, lambda _: other.set()):
            future.add_done_callback(callback)
        assert future.result(PATIENCE) == 4 and other.wait(PATIENCE)
        executor.submit(square, 3).add_done_callback(lambda _: last.set())
        assert last.wait(PATIENCE)


@pytest.mark.usefixtures("broken")
def test_S47_the_thread_of_callbacks_goes_on() -> None:
    """These are called on it without a future in between."""
    got: list[object] = []
    told = threading.Event()
    with andon.Pool(1) as pool:
        pool.apply_async(square, (2,), callback=slip).get(PATIENCE)
        pool.apply_async(square, (3,), callback=lambda value: (got.append(value), told.set()))
        assert told.wait(PATIENCE)
    assert got == [9]


@pytest.mark.usefixtures("broken")
def test_S48_a_trace_function_that_raises_where_the_log_does() -> None:
    with andon.Pool(1, trace=slip) as pool:
        assert pool.map(square, [1, 2]) == [1, 4]


@pytest.mark.usefixtures("broken")
def test_S48_a_progress_function_that_raises_where_the_log_does() -> None:
    assert andon.map(square, [1, 2], workers=1, progress=slip) == [1, 4]


@pytest.mark.usefixtures("broken")
def test_a_lane_goes_on_with_its_other_jobs() -> None:
    lane, ran = Lane("lane"), threading.Event()
    lane.post(slip)
    lane.post(ran.set)
    assert ran.wait(PATIENCE)


@pytest.mark.usefixtures("broken")
def test_what_cannot_be_logged_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        slip()
    except ValueError:
        complain_of("it")
    said = capsys.readouterr().err
    assert "ValueError: a slip" in said and "the handler is broken" in said
    monkeypatch.setattr("sys.stderr", object())
    complain_of("nor that")


def test_S45_a_progress_function_that_exits_loses_no_results(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[int] = []

    def show(progress: andon.Progress) -> None:
        told.append(progress.finished)
        raise SystemExit("bye")

    assert andon.map(square, [1, 2], workers=1, progress=show) == [1, 4]
    assert told[-1] == 2 and "a progress reporter raised" in caplog.text


class Starts:
    """A reporter that hears Ctrl-C."""

    def start(self, total: int | None) -> None:
        raise KeyboardInterrupt

    def update(self, snapshot: andon.Progress) -> None:
        raise AssertionError("it never began")

    def finish(self, snapshot: andon.Progress, reason: andon.Reason | None) -> None:
        raise AssertionError("it never began")


def test_S32_ctrl_c_within_a_reporter_is_the_programs() -> None:
    with pytest.raises(KeyboardInterrupt):
        andon.map(square, [1, 2], workers=1, progress=Starts())
