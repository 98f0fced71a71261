"""What can happen to the machine. Users, timers, workers and parents only post these (S1).

Ids are integers: a group's, a task's, an attempt's. Times are seconds on the monotonic clock.
`payload` is passed through untouched; the machine never looks into it.
"""

from __future__ import annotations

from typing import Any

from andon._record import made, record
from andon.outcome import ReasonKind, StoppedBy
from andon.policy import Policy, Stats


class Event:
    """Base of all events."""

    __slots__ = ()


class Tally(Stats):
    """The counts of a group, kept by two: who submits counts that, before the machine gets it; the
    machine counts the outcomes. Once it is `closed`, nothing more may be counted.

    A finalizer may submit between any two calls, so whoever counts looks at `closed` afterwards,
    and the machine closes it right behind its last look, with no call between. (A debugger's trace
    function, which runs between any two lines, must not submit.)
    """

    __slots__ = ("closed",)

    def __init__(self) -> None:
        super().__init__()
        self.closed = False


# From users, timers and parent groups -----------------------------------------------------------


@record()
class GroupOpened(Event):
    """`deadline` is absolute; None: none."""

    group: int
    policy: Policy
    deadline: float | None
    grace: float
    kill_after: float
    stats: Tally = made(default_factory=Tally)


@record()
class Submitted(Event):
    """A task of `size` items (1 but for spans); `timeout` per item, from the start of its call.

    `index` is the number of its first item within the group. Its items are in the group's `stats`
    by now: from then on the group stays open for it. `cancelled`: its owner has asked to cancel it
    while it waited elsewhere; so it never starts.
    """

    group: int
    task: int
    index: int
    size: int = 1
    timeout: float | None = None
    cancelled: bool = False


@record()
class Withdrawn(Event):
    """So many that were counted in a group's `stats` do not come."""

    group: int
    size: int


@record()
class BodyLeft(Event):
    """The body is over and adds nothing more; accepted work goes on."""

    group: int


@record()
class StopAsked(Event):
    """Stop a group. `soon` drains: running work finishes. None: the group's own numbers."""

    group: int
    kind: ReasonKind
    message: str
    source: int | None = None
    soon: bool = False
    grace: float | None = None
    kill_after: float | None = None


@record()
class TaskCancelAsked(Event):
    """`future.cancel()`: stop this one task, never its group (S35); of several calls that travel
    as one task, this `item` alone."""

    task: int
    grace: float | None = None
    kill_after: float | None = None
    item: int | None = None


@record()
class Ticked(Event):
    """Time has passed; due timers fire."""


@record()
class Broke(Event):
    """The pool cannot work any more; `payload` is the error for the groups (S42)."""

    message: str
    payload: Any


# From engines -----------------------------------------------------------------------------------


@record()
class SlotsChanged(Event):
    """The engine takes this many attempts at once."""

    slots: int


@record()
class Started(Event):
    """Item `index` of the attempt runs since `at` (an answer to `Look`)."""

    attempt: int
    index: int
    at: float


@record()
class Succeeded(Event):
    """Items `index` to `index + count` returned; `payload` holds values and times. `last`: and with
    that the attempt has ended, and no `AttemptEnded` follows."""

    attempt: int
    index: int
    payload: Any
    count: int = 1
    last: bool = False


@record()
class Failed(Event):
    """Item `index` raised, or could not be unpickled, or its result not pickled.

    `message` says how in one line; the runtime fills it in, for the group's reason.
    """

    attempt: int
    index: int
    payload: Any
    started: bool = True
    message: str = ""


@record()
class Stopped(Event):
    """Item `index` ended because it was told to stop."""

    attempt: int
    index: int
    by: StoppedBy
    started: bool
    payload: Any = None


@record()
class AttemptEnded(Event):
    """The attempt is over and its worker idle, or reaped. Unreported items never started."""

    attempt: int


@record()
class GivenBack(Event):
    """The attempt goes on with what it has begun, and is at the item before `index`; from there on
    it has begun none, and will not. Told where one takes long, since nobody need wait behind it;
    and, even where no item is left, as the answer to a `soon` stop of the attempt."""

    attempt: int
    index: int


@record()
class Died(Event):
    """The worker is dead and reaped, its channel read to the end (S27). Ends the attempt.

    `ordered`: by our kill (S26). `index` is the item that it was at, None where the board does not
    say. `started`: True in user code, False before it, None unknown (S13).
    """

    attempt: int
    ordered: bool
    index: int | None
    started: bool | None
    payload: Any = None
    message: str = ""


@record()
class Cord(Event):
    """Someone in a worker pulled the stop word of this group; the word is already set (S11).

    `kind` FAILURE: the task of `attempt` failed, its outcome is on the way. CANCEL: a task called
    `token.cancel(message)`. `index` is the item of the attempt, where known.
    """

    group: int
    attempt: int | None
    kind: ReasonKind
    message: str
    index: int | None = None


