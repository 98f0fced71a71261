"""The stop ladder of one attempt (S15), pure: told the time and what the board shows, it says
which step is due, and when to ask again.

    asked ──▶ TOKEN ── grace, if the task has used its token; else at once ──▶ INTERRUPT
          ── every 50 ms again ──▶ DUMP, shortly before ──▶ KILL (kill_after behind the interrupt)

Invariants
 1. No step is ever put off by a later call: it only hardens (S9).
 2. A shield holds the interrupt back, never the kill (S18).
 3. With `kill_after=0` nothing is interrupted: the interrupt could only be half felt.
"""

from __future__ import annotations

import math
from enum import IntEnum

RESEND = 0.05  # an interrupt that lands in a `__del__` vanishes (S16)
# The stack is asked for this much before the kill: a victim that computes may have to wait for a
# core first, behind others that do, and dumping is no harm to it.
DUMP_LEAD = 0.1
DUMP_WAIT = 0.005  # the kill waits this long for the dump at most, however late that was asked for
DUMP_REST = 0.001  # and this long for the rest of it, once some has come
DUMP_LATEST = 0.05  # and this long where the victim would write it, but has not got a core yet


class Step(IntEnum):
    """What is to be done; a higher one never comes before a lower one that is due."""

    TOKEN = 1
    INTERRUPT = 2
    DUMP = 3
    KILL = 4


class Ladder:
    """One attempt's way down. `step` is the last one taken."""

    __slots__ = (
        "_again_at",
        "_asked_at",
        "_cap",
        "_dump_by",
        "_dump_until",
        "_interrupted_at",
        "_kill_after",
        "_moment",
        "_trusted_until",
        "step",
    )

    def __init__(self, now: float, grace: float, kill_after: float, moment: float = 0.0) -> None:
        """`moment`: what is short may end by itself in that time, before it is interrupted."""
        self.step = Step.TOKEN
        self._asked_at = now
        self._moment = moment
        self._trusted_until = now + grace
        self._kill_after = kill_after
        self._cap = math.inf  # no kill later than this, by a later and harder call
        self._interrupted_at: float | None = None
        self._again_at = math.inf
        self._dump_until = -math.inf  # the dump has been asked for, and holds the kill till then
        self._dump_by = -math.inf  # or, at the latest, till then

    def harden(self, now: float, grace: float, kill_after: float) -> None:
        """A second call."""
        self._trusted_until = min(self._trusted_until, now + grace)
        if self._interrupted_at is None:
            self._kill_after = min(self._kill_after, kill_after)
            self._cap = min(self._cap, now + grace + kill_after)
        else:
            self._cap = min(self._cap, now + kill_after)

    def due(self, now: float, used: bool, shield_until: float | None) -> Step | None:
        """The step to take now, if one is; it counts as taken."""
        if self.step is Step.KILL:
            return None
        if self.step is Step.DUMP:
            if now < self._kill_at(used):
                return None
            self.step = Step.KILL
        elif now >= self._dump_at(used):
            self._fix(used)
            self.step = Step.DUMP
            self._dump_until = now + DUMP_WAIT
            self._dump_by = now + DUMP_LATEST
        elif now >= self._interrupt_at(used, shield_until):
            self._fix(used)
            self.step = Step.INTERRUPT
            self._again_at = now + RESEND
        else:
            return None
        return self.step

    def next_at(self, used: bool, shield_until: float | None) -> float:
        """When to ask again."""
        if self.step is Step.KILL:
            return math.inf
        if self.step is Step.DUMP:
            return self._kill_at(used)
        return min(self._dump_at(used), self._interrupt_at(used, shield_until))

    def dump_came(self, now: float) -> None:
        """Some of the dump is here: no need to wait for long."""
        self._dump_until = min(self._dump_until, now + DUMP_REST)

    def dump_waits(self, now: float) -> None:
        """It has not come, or is cut, for the victim stands in line for a core: the kill waits,
        too."""
        self._dump_until = max(self._dump_until, min(now + DUMP_WAIT, self._dump_by))

    def kill_by(self, used: bool) -> float:
        """When the kill is due as things stand."""
        return min(self._cap, self._nominal(used) + self._kill_after)

    def _nominal(self, used: bool) -> float:
        if self._interrupted_at is not None:
            return self._interrupted_at
        return self._trusted_until if used else self._asked_at

    def _fix(self, used: bool) -> None:
        # From here on the kill is fixed, though the wait may have been a shield's.
        if self._interrupted_at is None:
            self._interrupted_at = self._nominal(used)

    def _interrupt_at(self, used: bool, shield_until: float | None) -> float:
        if self._interrupted_at is not None:
            at = self._again_at
        else:
            at = self._nominal(used)
            at = max(at, min(self._asked_at + self._moment, self.kill_by(used)))
        if shield_until is not None:
            at = max(at, min(shield_until, self.kill_by(used)))
        return at

    def _dump_at(self, used: bool) -> float:
        # Half of the time there is, at most: the interrupt comes first, if one is to come.
        at = self.kill_by(used)
        return at - min(DUMP_LEAD, (self._kill_after or max(0.0, at - self._asked_at)) / 2)

    def _kill_at(self, used: bool) -> float:
        return max(self.kill_by(used), self._dump_until)
