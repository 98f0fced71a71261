"""Policies: when does an outcome stop the group? (S39, S40)

A policy is a small pure object, new for each group. It is asked under the machine's lock:
it must not block, and it must not call back into andon.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from andon._record import record
from andon.outcome import TaskState


class Decision(Enum):
    """What a policy answers."""

    CONTINUE = "continue"
    DRAIN = "drain"
    CANCEL = "cancel"


@record()
class Stats:
    """A group's counts: items submitted and items that have each outcome."""

    submitted: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    abandoned: int = 0

    @property
    def done(self) -> int:
        """How many have their outcome."""
        return self.succeeded + self.failed + self.cancelled + self.abandoned


def as_of_now(stats: Stats) -> Stats:
    """A copy, that does not go on counting."""
    return Stats(stats.submitted, stats.succeeded, stats.failed, stats.cancelled, stats.abandoned)


class Policy(Protocol):
    """Decides what an outcome means for its group.

    `failures_only`: `on_outcome` need not be asked about successes.
    `first_failure_decides`: a failing worker may stop its siblings before the parent knows (S11).
    `raises`: failures are raised when the group closes; otherwise they stay in the outcomes.
    """

    failures_only: bool
    first_failure_decides: bool
    raises: bool

    def on_outcome(self, stats: Stats, state: TaskState) -> Decision:
        """Called once per outcome, after `stats` has counted it."""


@record()
class _FailFast:
    halt: Decision
    failures_only: bool = True
    first_failure_decides: bool = True
    raises: bool = True

    def __repr__(self) -> str:
        halt = "" if self.halt is Decision.CANCEL else "halt='soon'"
        return f"andon.fail_fast({halt})"

    def on_outcome(self, stats: Stats, state: TaskState) -> Decision:
        return self.halt if state is TaskState.FAILED else Decision.CONTINUE


@record()
class _CollectAll:
    failures_only: bool = True
    first_failure_decides: bool = False
    raises: bool = False

    def __repr__(self) -> str:
        return "andon.collect_all()"

    def on_outcome(self, stats: Stats, state: TaskState) -> Decision:
        return Decision.CONTINUE


def fail_fast(halt: str = "now") -> Policy:
    """The default: the first failure stops the group and is raised.

    `halt="now"` stops running tasks too; `halt="soon"` lets them finish and starts no others.
    """
    if halt not in ("now", "soon"):
        raise ValueError(f"halt must be 'now' or 'soon', not {halt!r}")
    now = halt == "now"
    # While draining, running tasks must not see a stop: only `now` may pull the cord itself.
    return _FailFast(Decision.CANCEL if now else Decision.DRAIN, first_failure_decides=now)


def may_raise(policy: Policy) -> bool:
    """Can failures be raised at the end? One of a user's own may say so as late as it decides."""
    return type(policy) is not _CollectAll


def collect_all() -> Policy:
    """No failure stops the group or is raised; read them in the outcomes."""
    return _CollectAll()


