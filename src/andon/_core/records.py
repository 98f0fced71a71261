"""What the machine remembers of a task and of a group."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum

from andon._core.events import Tally
from andon._record import made, record
from andon.outcome import GroupState, Reason, TaskState, Verdict
from andon.policy import Policy

ANY = 1 << 62  # items


class StopCause(Enum):
    """Who first asked a task to stop; the first names the outcome (races, last but one row)."""

    TIMEOUT = "timeout"
    OWNER = "owner"
    ITEM = "item"  # its owner, and of several calls this one alone
    GROUP = "group"


@record(eq=False)
class TaskRecord:
    """One task. `lo` is its first item without an outcome; items end in order.

    `begun_from` and `hi` are the ends of what its attempt was given; at most `step` items travel
    in one, and what is more becomes a task of its own.
    `cancels` are single items that their owner asked to stop, and that were with the engine then.
    `cancel_from` is the first item that its owner or its group asked to stop (S3), whoever else
    asked before; `failing` the item whose worker has pulled the cord and whose report is on the
    way (S11).
    """

    id: int
    group: GroupRecord
    index: int
    size: int
    timeout: float | None
    state: TaskState = TaskState.PENDING
    attempt: int | None = None
    lo: int = 0
    hi: int = 0
    step: int = ANY
    begun_from: int = 0
    failed: int = 0
    cancelled: int = 0
    stop_cause: StopCause | None = None
    cancel_from: int | None = None
    failing: int | None = None
    cancels: frozenset[int] = frozenset()
    check_at: float | None = None  # the one valid timer of its timeout; others are stale

    @property
    def over(self) -> bool:
        """Every item has its outcome."""
        return self.lo >= self.size

    @property
    def reported(self) -> bool:
        """Every item of its attempt has its outcome; only the attempt's own end is missing."""
        return self.lo >= self.hi


@record(eq=False)
class GroupRecord:
    """One group. `pending` by task, `live` (the engine has them) by attempt.

    `failures_only` and `first_failure_decides` are its policy's, read once: to ask it for them is
    to run code of the user's.
    """

    id: int
    policy: Policy
    grace: float
    kill_after: float
    deadline: float | None
    state: GroupState = GroupState.OPEN
    body_left: bool = False
    reason: Reason | None = None
    verdict: Verdict | None = None
    stats: Tally = made(default_factory=Tally)
    pending: OrderedDict[int, TaskRecord] = made(default_factory=OrderedDict)
    live: dict[int, TaskRecord] = made(default_factory=dict)
    failures_only: bool = False
    first_failure_decides: bool = False

    @property
    def stopping(self) -> bool:
        return self.reason is not None
