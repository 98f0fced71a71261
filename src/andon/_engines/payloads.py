"""What travels upward beside an event: the machine passes it through, the runtime reads it."""

from __future__ import annotations

from typing import Any

from andon._board import RowView
from andon._board.row import HEARD
from andon._core.events import Event
from andon._record import record
from andon.errors import RemoteTraceback


@record()
class Returned:
    """Items returned: their values, in order; the times of the first start and the last end; the
    bytes that their values took on the way, where any."""

    values: list[Any]
    started_at: float
    ended_at: float
    size: int = 0


@record()
class Raised:
    """An item failed: its error with the remote traceback as its `__cause__`."""

    error: BaseException
    started_at: float | None
    ended_at: float


@record()
class Halted:
    """An item was stopped. `stack`: the dump of a killed worker. `where`: the line at which one
    that was stopped for itself felt it."""

    cleanup_error: BaseException | None
    started_at: float | None
    ended_at: float
    stack: str | None = None
    where: RemoteTraceback | None = None


@record()
class Death:
    """A worker died. `exitcode` as in `subprocess`: negative for a signal; None: unknown."""

    pid: int
    exitcode: int | None
    phase: str
    text: str
    started_at: float | None
    ended_at: float
    stack: str | None = None


@record()
class Rang(Event):
    """Some stop word was pulled on a board that we hear: the runtime looks at its words.

    Posted before any event that such a pull may have caused.
    """


@record(eq=False)
class Told(Event):
    """User code in a worker has logged or warned: a frame of that `kind` (see `_wire`), in the
    name of an item of an attempt (0: of none). `heard` says that it has been dealt with."""

    kind: int
    attempt: int
    index: int
    body: bytes
    row: RowView

    def heard(self) -> None:
        """The worker may say as much again."""
        # A row that another worker has by now only lets that one say a little more.
        self.row.cells[HEARD] += len(self.body)
