"""What became of a task and of a group: the values that users read.

Nothing here decides; the machine in `_core` does, and these are its answers.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from andon._record import record
from andon._words import one_line, short

_SHOWN = 100  # characters of a field


class _Word(str, Enum):
    """A string enumeration that prints as its value."""

    __hash__ = str.__hash__  # Enum's own is written in Python, and these key the machine's tables
    __str__ = str.__str__
    __format__ = str.__format__  # type: ignore[assignment]


class TaskState(_Word):
    """Where a task stands (see the contract, "States")."""

    PENDING = "pending"
    SENT = "sent"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"

    @property
    def final(self) -> bool:
        """True once the task has its outcome."""
        return self in _FINAL


_FINAL = frozenset(
    {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.ABANDONED}
)


class GroupState(_Word):
    """Where a group stands (see the contract, "States")."""

    OPEN = "open"
    JOINING = "joining"
    DRAINING = "draining"
    CANCELLING = "cancelling"
    CLOSED = "closed"


class Verdict(_Word):
    """How a group ended, frozen at its decision (S5)."""

    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StoppedBy(_Word):
    """On which rung of the stop ladder a task ended (S19)."""

    NEVER_STARTED = "never-started"
    RETURNED = "returned"
    TOKEN = "token"
    INTERRUPT = "interrupt"
    KILL = "kill"


class ReasonKind(_Word):
    """Why a group stopped (S8)."""

    FAILURE = "failure"
    BODY = "body"
    CANCEL = "cancel"
    DEADLINE = "deadline"
    INTERRUPT = "interrupt"
    SHUTDOWN = "shutdown"
    PARENT = "parent"
    SUPERSEDED = "superseded"


@record(frozen=True)
class Reason:
    """The one cause of a group's stop; the first wins and never changes (S8).

    `source` is the index of the task that stopped the group, or None when no task did;
    `at` is seconds on the monotonic clock of the process that opened the group.
    """

    kind: ReasonKind
    message: str
    source: int | None
    at: float

    def __str__(self) -> str:
        by = "" if self.source is None else f" (task {self.source})"
        return f"{self.kind}: {one_line(self.message)}{by}" if self.message else f"{self.kind}{by}"


@record(frozen=True)
class TraceEvent:
    """One transition of a task or a group, for reports and timelines (S48).

    `at`: seconds on the monotonic clock. `group`: the group's number in its pool. `task`: the
    task's index in its group, None for the group's own transitions. `attempt`: the number of the
    try, where there is one. `cause`: what happened, in words.
    """

    at: float
    group: int
    task: int | None
    attempt: int | None
    before: str
    after: str
    cause: str


@record(frozen=True)
class Outcome:
    """What happened to one task; every submitted task gets exactly one (S4).

    `cancel_requested` says what was asked, `state` what happened (S3). `started` is None
    where nobody can know (S13). `stopped_by` names the rung (S19). Times are seconds on the
    monotonic clock; None where the task never started. `stack` is the dump of a killed task,
    `cleanup_error` an error that arose while a stop unwound the task (S52).
    """

    index: int
    state: TaskState
    value: Any = None
    error: BaseException | None = None
    cancel_requested: bool = False
    started: bool | None = True
    stopped_by: StoppedBy | None = None
    started_at: float | None = None
    ended_at: float | None = None
    arguments: str = ""
    stack: str | None = None
    cleanup_error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """True where the task succeeded."""
        return self.state is TaskState.SUCCEEDED

    def __repr__(self) -> str:
        """Every field, none of them long: values may be."""
        names: tuple[str, ...] = type(self).__match_args__
        told = [f"{name}={short(getattr(self, name), _SHOWN)}" for name in names]
        return f"Outcome({', '.join(told)})"
