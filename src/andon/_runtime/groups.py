"""A group as the runtime knows it: its token, its outcomes, and who waits for its end."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

from andon._cancelled import raise_cancelled
from andon._core.events import Tally
from andon._engines.port import GroupRef
from andon._runtime.calls import Calls
from andon._runtime.surroundings import Variables
from andon._runtime.wakeup import Wakeup
from andon._words import note
from andon.errors import GroupClosedError, PoolClosedError, WrongProcessError
from andon.outcome import Outcome, Reason, TaskState, Verdict
from andon.policy import Policy, may_raise
from andon.token import Token

_RECENT = 100  # failures that a group remembers for a while, where nobody will ask for them

if TYPE_CHECKING:
    from andon._runtime.runtime import Runtime
    from andon._runtime.tasks import Run


class Group:
    """One group on a runtime. Fields are written under the runtime's lock or at delivery.

    `reason` is set at the decision, under the lock; `closed` at delivery, after every outcome of
    the group was delivered. `failures` are the failed outcomes in the order of their decision.
    """

    def __init__(
        self,
        runtime: Runtime,
        ident: int,
        policy: Policy,
        stats: Tally,
        token: Token,
        *,
        grace: float,
        kill_after: float,
        keep_outcomes: bool,
        keep_failures: bool,
    ) -> None:
        self.runtime = runtime
        self.id = ident
        self.policy = policy
        self.stats = stats
        self.token = token
        self.ref = GroupRef(ident, token, grace, kill_after)
        self.inner_ladder = (math.inf, math.inf)  # when its parent stops it (S37)
        self.links: list[tuple[Token, bool]] = []  # (token, is it our parent's)
        self.parent: Token | None = None
        self.variables: Variables = ()  # travel with each task
        self.next_index = 0
        self.calls = Calls(runtime.capabilities, policy, runtime.waiting)
        self.body_left = False
        self.leaving_told = False  # to the machine
        self.pool_closed = False  # it ended with its pool, though its body may go on
        self.opener = weakref.ref(threading.current_thread())  # its body is there, if it has one
        self.streams: list[Any] = []  # its maps, until it is over
        self.keep_outcomes = keep_outcomes
        self.keep_failures = keep_failures
        self._kept: list[Outcome | Run] = []  # in order of delivery
        self._sorted: tuple[Outcome, ...] = ()
        self._sorted_of = 0
        self.never_started = 0
        self.failures: list[Outcome] = []
        self.reason: Reason | None = None
        self.ahead = False  # of the outcome that is its cause; until that is delivered
        self.verdict: Verdict | None = None
        self.broken: BaseException | None = None  # why the whole pool gave up, if it did
        self.mistake: Exception | None = None  # of its policy
        self.mistaken = False  # that is why it stops
        self.closed = False
        self.stopped = False  # its word is pulled: it does not merely drain; set under the lock
        self.in_main = False  # opened in the main thread: Ctrl-C stops it
        self.ended = Wakeup()  # told once, for each wake-up of a waiter holds up who drives
        self.on_stopping: list[Callable[[], None]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return Elsewhere, ()

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The outcomes there are, in order of submission."""
        count = len(self._kept)
        if self._sorted_of != count:
            pieces = [[o] if isinstance(o, Outcome) else o.outcomes() for o in self._kept[:count]]
            pieces.sort(key=lambda piece: piece[0].index)
            self._sorted = tuple(chain.from_iterable(pieces))
            self._sorted_of = count
        return self._sorted

    def record_run(self, run: Run) -> None:
        """Note successes, at delivery."""
        if self.keep_outcomes:
            self._kept.append(run)

    def record(self, outcome: Outcome) -> None:
        """Note another outcome, at delivery."""
        if self.keep_outcomes:
            self._kept.append(outcome)
        if outcome.state is not TaskState.FAILED:
            self.never_started += outcome.started is False
        elif self.keep_failures:
            failures = self.failures
            failures.append(outcome)
            if len(failures) > _RECENT and not (self.keep_outcomes or may_raise(self.policy)):
                del failures[: _RECENT // 2]  # the body may be about to raise one of the last (S31)

    def has_finished(self) -> bool:
        """Is all over that it was given, as far as a look without the lock tells?"""
        stats = self.stats
        return stats.done == stats.submitted and all(s.all_sent for s in self.streams)

    @property
    def raises(self) -> bool:
        """Are its failures raised? Where its policy cannot say, they are, and so is that (S33)."""
        try:
            return bool(self.policy.raises)
        except Exception as error:
            if self.mistake is None:
                note(error, "the policy of the group failed so, asked whether failures are raised")
                self.mistake = error
            return True

    def owns_failure(self, error: BaseException) -> bool:
        """Is this very object the error of one of our tasks? (S31)"""
        return any(o.error is error for o in self.failures)

    @property
    def told(self) -> bool:
        """Has the outcome that stopped it arrived, and with it what its worker had done before?
        The cord is quicker than the report (S11), and a policy's decision than its outcome (S6)."""
        return not self.ahead or self.closed

    @property
    def over(self) -> bool:
        """Is it, in the machine?"""
        return self.stats.closed

    def check(self) -> None:
        """A checkpoint of the body: raises `Cancelled` once the group is stopping (S14)."""
        if self.stats.closed:
            if self.pool_closed:
                raise PoolClosedError("Pool not running: it has been closed")
            raise GroupClosedError(
                f"the group is over ({self.verdict or Verdict.OK}); open a new one for more work"
            )
        if self.reason is not None:
            self.raise_cancelled()

    def raise_cancelled(self) -> NoReturn:
        """Raise the group's own `Cancelled`."""
        raise_cancelled(str(self.reason), self.token)

    def wait_closed(self) -> None:
        """Block until the group is over. Bounded by its ladder (S21)."""
        if not self.closed:
            self.runtime.wait(
                self.ended, lambda: self.closed or self.runtime.crashed is not None
            )
        self.runtime.check_crash()


class Elsewhere:
    """What a group is in any other process than its own: an error that leads to it may travel, it
    stays (S38)."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # of a protocol that asks whether we know it
            raise AttributeError(name)
        raise WrongProcessError(
            "a group stays in the process that opened it, with its outcomes: return what is wanted "
            "of them, or open another group here"
        )


def add_up(group: Group) -> str:
    """'3 done, 1 failed, 2 stopped, 4 never started', for notes and summaries."""
    stats, never = group.stats, group.never_started
    return (
        f"{stats.succeeded} done, {stats.failed} failed, "
        f"{stats.cancelled - never} stopped, {never} never started"
    )


def attach(error: BaseException, group: Any) -> None:
    """Let a raised error lead to the finished results (S45)."""
    try:
        error.andon_group = group  # type: ignore[attr-defined]
    except BaseException:  # one with __slots__ or a __setattr__ of its own goes without
        return
