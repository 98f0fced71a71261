"""What the machine wants done. It decides; the runtime does, in this order."""

from __future__ import annotations

from typing import Any

from andon._record import record
from andon.outcome import Reason, StoppedBy, TaskState, Verdict


class Action:
    """Base of all actions."""

    __slots__ = ()


@record()
class Send(Action):
    """Give this attempt to the engine: items `lo` to the end of the task."""

    attempt: int
    task: int
    group: int
    lo: int
    hi: int
    fatal: bool


@record()
class Split(Action):
    """The rest of a task's items, from `lo` on, is a task of its own from now on, `part`, told to
    the same."""

    task: int
    part: int
    lo: int


@record()
class PullWord(Action):
    """Set the group's stop word, before anything else is told (S6). `reason` is final (S8)."""

    group: int
    reason: Reason


@record()
class StopGroup(Action):
    """Run the ladder over the group's attempts; repeated calls harden (S9).

    `soon`: only give back what has not begun, the group drains.
    """

    group: int
    grace: float
    kill_after: float
    soon: bool = False


@record()
class StopAttempt(Action):
    """Run the ladder over one attempt. `soon`: it shall begin no more of its items, and say with
    `GivenBack` where it is."""

    attempt: int
    grace: float
    kill_after: float
    soon: bool = False


@record()
class Look(Action):
    """Post `Started` for this attempt if it runs: its timeout may be near (S29)."""

    attempt: int


@record()
class Resolve(Action):
    """Items `index` to `index + count` of a task have their outcome; exactly once each (S4).

    `timeout` is set where the task's own timeout ended it; `dead` where a worker's death did
    (`payload` then holds the facts of the death). `decides`: after this one the policy stopped the
    group. `over`: with these every item of the task is resolved.
    """

    task: int
    index: int
    count: int
    state: TaskState
    stopped_by: StoppedBy | None
    started: bool | None
    cancel_requested: bool
    payload: Any
    timeout: float | None = None
    dead: bool = False
    decides: bool = False
    over: bool = False


@record()
class PolicyFailed(Action):
    """The group's policy has raised, or answered what is no decision. It is asked no more.

    `error` is what it raised, or in place of an exit. `decides`: this stops the group.
    """

    group: int
    error: Exception
    decides: bool


@record()
class GroupStopping(Action):
    """The decision is taken: verdict and reason are frozen (S5). Body operations raise now.

    `ahead`: of the outcome that is its cause. It is on its way: the one that `decides`, or, where a
    worker has pulled the cord, the failure (S11).
    """

    group: int
    reason: Reason
    verdict: Verdict
    payload: Any = None
    ahead: bool = False


@record()
class GroupClosed(Action):
    """The group is over: all tasks resolved, no worker busy with it, body left."""

    group: int
    verdict: Verdict
    reason: Reason | None


@record()
class Trace(Action):
    """One transition (S48). `index`: the number that the task has in its group."""

    at: float
    group: int
    task: int | None
    index: int | None
    attempt: int | None
    before: str
    after: str
    cause: str
