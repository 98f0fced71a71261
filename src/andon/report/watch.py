"""Shows a group's counts to a reporter, ten times a second at most, while they change."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from andon._complaint import complain
from andon._gate import passed_over
from andon._threads import start
from andon.outcome import Reason
from andon.policy import Stats
from andon.report.progress import Progress, Reporter
from andon.report.reporters import reporter_for

if TYPE_CHECKING:
    from andon._runtime.runtime import Runtime

_REFRESH = 0.1  # seconds; a display needs no more


class Watched(Protocol):
    """What is needed of a group."""

    reason: Reason | None
    runtime: Runtime

    @property
    def stats(self) -> Stats:
        """Its counts, as they are."""


class Watcher:
    """Reads the counts until closed, in a thread of its own."""

    def __init__(self, group: Watched, reporter: Reporter, total: int | None) -> None:
        self._group = group
        self._reporter = reporter
        self._total = total
        self._began = time.monotonic()
        self._over = threading.Event()
        self._tell(lambda: reporter.start(total))
        self._thread: threading.Thread | None = threading.Thread(
            target=self._loop, name="andon-progress", daemon=True
        )
        start(self._thread)

    @passed_over
    def close(self) -> None:
        """The group is over: show its last counts."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._over.set()
            thread.join(1.0)
            self._tell(lambda: self._reporter.finish(self._snapshot(), self._group.reason))

    def _loop(self) -> None:
        shown: Any = None
        while not self._over.wait(_REFRESH):
            snapshot = self._snapshot()
            counts = (snapshot.finished, snapshot.running, snapshot.total)
            if counts != shown:
                shown = counts
                self._tell(lambda s=snapshot: self._reporter.update(s))

    def _snapshot(self) -> Progress:
        stats = self._group.stats
        in_flight = stats.submitted - stats.done  # most of it waits, read ahead for the workers
        return Progress(
            stats.succeeded,
            stats.failed,
            stats.cancelled,
            min(in_flight, self._group.runtime.capabilities.slots),
            self._total,
            time.monotonic() - self._began,
        )

    def _tell(self, call: Any) -> None:
        try:
            call()
        except BaseException as error:  # a display's error, or exit, is never its group's
            ctrl_c = isinstance(error, KeyboardInterrupt)
            if ctrl_c and threading.current_thread() is threading.main_thread():
                raise
            complain("a progress reporter raised")


@passed_over
def watch(group: Watched, progress: Any, total: int | None = None) -> Watcher | None:
    """Show `group` to what a `progress=` argument asks for, if to anybody."""
    reporter = reporter_for(progress)
    return None if reporter is None else Watcher(group, reporter, total)
