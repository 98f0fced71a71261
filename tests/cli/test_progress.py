"""Progress: who is told, when, and what a terminal or a log shows."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from andon.outcome import Reason, ReasonKind
from andon.report import Progress, Reporter, bar, reporter_for
from andon.report.bar import _Bar, _Lines


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at(done: int, total: int | None = 10, failed: int = 0, cancelled: int = 0) -> Progress:
    return Progress(done, failed, cancelled, running=2, total=total, elapsed=float(done))


def lines(**options: Any) -> tuple[_Lines, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    return _Lines(stream, interval=5.0, clock=clock, **options), stream, clock


def test_a_snapshot_in_words() -> None:
    assert str(at(3)) == "3/10 finished, 2 running, 3.0 s"
    assert str(at(3, None, 1, 4)) == "8 finished, 3 done, 1 failed, 4 cancelled, 2 running, 3.0 s"
    assert at(3, failed=1, cancelled=1).finished == 5


def test_lines_come_at_most_once_in_an_interval_and_at_the_end() -> None:
    reporter, stream, clock = lines()
    reporter.start(10)
    for n in range(1, 10):
        clock.now += 1
        reporter.update(at(n))
    reporter.finish(at(10), None)
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["5/10", "10/10"]


def test_the_last_line_does_not_say_again_what_the_one_before_it_says() -> None:
    reporter, stream, clock = lines()
    reporter.start(10)
    clock.now += 6
    reporter.update(at(10))
    reporter.finish(at(10), None)
    assert stream.getvalue() == "andon: 10/10 finished, 2 running, 10.0 s\n"


def test_the_last_line_says_why() -> None:
    reporter, stream, _ = lines()
    reporter.start(10)
    reporter.finish(at(1), Reason(ReasonKind.CANCEL, "enough", None, 0.0))
    assert stream.getvalue().endswith("; stopped: cancel: enough\n")


def test_the_last_line_can_be_left_out() -> None:
    reporter, stream, _ = lines(last_line=False)
    reporter.start(10)
    reporter.finish(at(1), None)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("make", [lambda s: _Lines(s, interval=0.0), _Bar])
def test_before_the_start_and_after_the_end_nothing_is_shown(make: Any) -> None:
    stream = Terminal()
    reporter = make(stream)
    reporter.update(at(1))
    reporter.finish(at(1), None)
    assert stream.getvalue() == ""
    reporter.start(10)
    reporter.finish(at(10), None)
    shown = stream.getvalue()
    reporter.update(at(1))
    reporter.finish(at(1), None)
    assert stream.getvalue() == shown


@pytest.mark.parametrize("total", [10, None])
def test_a_bar_on_a_terminal(total: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    reporter = bar(stream)
    assert isinstance(reporter, _Bar)
    out, err = sys.stdout, sys.stderr
    reporter.start(total)
    assert (sys.stdout, sys.stderr) == (out, err), "the program's own streams are not ours"
    reporter.update(at(3, total, failed=1))
    reporter.finish(at(8, total, failed=1, cancelled=1), None)
    shown = stream.getvalue()
    assert "10/10" in shown and "1 failed" in shown
    assert shown.endswith("\n"), "at the start of a line"


def test_plain_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(bar(io.StringIO()), _Lines)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(bar(Terminal()), _Lines)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    assert isinstance(bar(Terminal()), _Lines)


def test_a_line_that_is_written_over_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    stream = kind()
    monkeypatch.setattr(sys, "stderr", stream)
    reporter = bar()
    reporter.update(at(1))  # not yet
    reporter.start(10)
    reporter.update(at(9))
    reporter.update(at(10, failed=2))
    reporter.update(at(3, None))
    reporter.finish(at(10), Reason(ReasonKind.CANCEL, "enough", None, 0.0))
    reporter.finish(at(1), None)  # once is enough
    drawn = stream.getvalue().split("\r")[1:]
    assert [line.strip() for line in drawn] == [
        f"{'█' * 21}{'░' * 3} 9/10 finished, 2 running, 9.0 s",
        f"{'█' * 24} 12/10 finished, 10 done, 2 failed, 2 running, 10.0 s",
        "3 finished, 2 running, 3.0 s",
        f"{'█' * 24} 10/10 finished, 2 running, 10.0 s; stopped: cancel: enough",
    ]
    assert len(drawn[2]) == len(drawn[1]) and drawn[3].endswith("\n")  # nothing of it stays


def test_who_is_told() -> None:
    assert reporter_for(None) is None
    assert reporter_for(False) is None
    assert isinstance(reporter_for(True), Reporter)
    own = bar(io.StringIO())
    assert reporter_for(own) is own
    seen: list[Progress] = []
    told = reporter_for(seen.append)
    assert told is not None
    told.start(None)
    told.update(at(1))
    told.finish(at(2), None)
    assert seen == [at(1), at(2)]
    with pytest.raises(TypeError, match="progress must be"):
        reporter_for(3)
