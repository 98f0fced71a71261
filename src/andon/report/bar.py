"""Progress for people: a bar where they look at a terminal or a notebook, plain lines elsewhere.

Invariants of both:
1. `update` may come from any thread, and before `start` or after `finish`, where it does nothing:
   whoever looks at a group and whoever ends it are not in step.
2. `finish` leaves the stream at the start of a line. Calling it twice does nothing more.
3. Time and stream come from outside, so that tests need no clock and no terminal.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from andon._threads import start
from andon.outcome import Reason
from andon.report.bottom_row import BottomRow
from andon.report.notebook import NotebookBar, is_notebook
from andon.report.progress import Progress, Reporter

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_REFRESH = 0.125  # seconds between two drawings of the bar

INTERVAL = 5.0
"""Seconds between two plain lines."""


def bar(stream: TextIO | None = None, *, last_line: bool = True) -> Reporter:
    """A reporter for people: a bar where `stream` is a terminal or a notebook's, plain lines
    elsewhere.

    `stream` is standard error by default. Plain lines come every five seconds at most, and once at
    the end unless `last_line` is False.
    """
    stream = sys.stderr if stream is None else stream
    if _is_terminal(stream):
        try:
            import rich.console
            import rich.progress  # only to learn whether it is there
        except ImportError:
            pass
        else:
            if sys.platform != "win32" or not rich.console.Console(file=stream).legacy_windows:
                return _Bar(stream)
    if is_notebook(stream):
        return NotebookBar(stream)
    return _Lines(stream, last_line=last_line)


def _is_terminal(stream: TextIO) -> bool:
    if os.environ.get("TERM", "") == "dumb":
        return False
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # a stand-in without isatty; a closed stream
        return False


class _Lines:
    """A plain line now and then: for logs and pipes."""

    def __init__(
        self,
        stream: TextIO,
        *,
        last_line: bool = True,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._last_line = last_line
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._next: float | None = None  # when a line may come; None: not started, or finished
        self._said: tuple[object, ...] = ()  # the counts of the last line

    def start(self, total: int | None) -> None:
        with self._lock:
            # The first line, too, waits for one interval: a short run needs no progress.
            self._next = self._clock() + self._interval

    def update(self, snapshot: Progress) -> None:
        with self._lock:
            now = self._clock()
            if self._next is None or now < self._next:
                return
            self._next = now + self._interval
            self._said = _counts(snapshot)
            self._say(str(snapshot))

    def finish(self, snapshot: Progress, reason: Reason | None) -> None:
        with self._lock:
            if self._next is None:
                return
            self._next = None
            if self._last_line and (reason is not None or self._said != _counts(snapshot)):
                why = "" if reason is None else f"; stopped: {reason}"
                self._say(f"{snapshot}{why}")

    def _say(self, text: str) -> None:
        self._stream.write(f"andon: {text}\n")
        self._stream.flush()


def _counts(snapshot: Progress) -> tuple[object, ...]:
    return snapshot.done, snapshot.failed, snapshot.cancelled, snapshot.running, snapshot.total


class _Bar:
    """A bar that is drawn in place, in the bottom row (see bottom_row.py)."""

    def __init__(self, stream: TextIO) -> None:
        self._row = BottomRow(stream)
        self._lock = threading.Lock()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._over = threading.Event()

    def start(self, total: int | None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        with self._lock:
            if self._bar is not None or self._over.is_set():
                return
            self._bar = RichProgress(
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[counts]}"),
                TimeElapsedColumn(),
                auto_refresh=False,  # it only renders
            )
            self._task = self._bar.add_task("", total=total, counts="")
            self._row.open()
            self._row.draw(self._rendered())
        self._refresher = threading.Thread(target=self._refresh, name="andon-bar", daemon=True)
        start(self._refresher)

    def update(self, snapshot: Progress) -> None:
        with self._lock:
            self._note(snapshot)

    def finish(self, snapshot: Progress, reason: Reason | None) -> None:
        with self._lock:
            if self._bar is None:
                return
            if snapshot.total is None:
                # Without a total the bar would stay in the middle of its to and fro.
                from dataclasses import replace  # heavy, and hardly ever needed

                snapshot = replace(snapshot, total=snapshot.finished)
            self._note(snapshot)
            self._over.set()
            self._row.close(self._rendered())
            self._bar = None
        self._refresher.join(1.0)

    def _refresh(self) -> None:
        try:
            while not self._over.wait(_REFRESH):
                with self._lock:
                    if self._bar is not None:
                        self._row.draw(self._rendered())
        except (OSError, ValueError):
            return  # the terminal is gone, or the stream closed

    def _note(self, snapshot: Progress) -> None:
        if self._bar is None or self._task is None:
            return
        counts = []
        if snapshot.failed:
            counts.append(f"[red]{snapshot.failed} failed[/red]")
        if snapshot.cancelled:
            counts.append(f"[yellow]{snapshot.cancelled} cancelled[/yellow]")
        if snapshot.running:
            counts.append(f"{snapshot.running} running")
        self._bar.update(
            self._task,
            completed=snapshot.finished,
            total=snapshot.total,
            counts=" · ".join(counts),
        )

    def _rendered(self) -> str:
        from rich.console import Console

        assert self._bar is not None
        text = io.StringIO()
        console = Console(file=text, force_terminal=True, legacy_windows=False)
        # One column is left free: a terminal may go on to the next line after the last.
        console.width = max(1, self._row.width - 1)
        console.print(self._bar.get_renderable(), end="", no_wrap=True, overflow="crop", crop=True)
        return text.getvalue().strip("\n").partition("\n")[0]
