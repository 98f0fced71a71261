"""Progress: what a group has done so far, and who is told.

    a group --Progress--> Watcher (watch.py) --> a Reporter: a bar on a terminal (bar.py)
                                                             or in a notebook (notebook.py)
                                                             plain lines elsewhere (bar.py)
                                                             the user's own callable

A reporter hears `start` once, then `update`s, then `finish` once. What it raises is its own affair.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from andon._record import record
from andon.outcome import Reason


@record(frozen=True)
class Progress:
    """Where a group stands at one moment; immutable, so it may be kept.

    `done` counts items that succeeded; `done + failed + cancelled` have their outcome
    (`finished`). `total` is None where the number of items is not known. `elapsed` is seconds
    since the group was opened.
    """

    done: int
    failed: int
    cancelled: int
    running: int
    total: int | None
    elapsed: float

    @property
    def finished(self) -> int:
        """How many items have their outcome."""
        return self.done + self.failed + self.cancelled

    def __str__(self) -> str:
        of = "" if self.total is None else f"/{self.total}"
        parts = [f"{self.finished}{of} finished"]
        if self.failed or self.cancelled:
            parts.append(f"{self.done} done")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.cancelled:
            parts.append(f"{self.cancelled} cancelled")
        if self.running:
            parts.append(f"{self.running} running")
        parts.append(f"{self.elapsed:.1f} s")
        return ", ".join(parts)


@runtime_checkable
class Reporter(Protocol):
    """Is told how a group goes on. Must not block for long; what it raises is not its group's."""

    def start(self, total: int | None) -> None:
        """The group is open; `total` items are expected, None: unknown."""

    def update(self, snapshot: Progress) -> None:
        """Something changed. Called from a thread of the runtime, at most ten times a second."""

    def finish(self, snapshot: Progress, reason: Reason | None) -> None:
        """The group is closed; `reason` says why it stopped, None where it ran to its end."""
