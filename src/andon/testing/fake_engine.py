"""An engine that does nothing by itself: the test says what every task does, and when.

    engine = FakeEngine()
    ...                                     # a runtime that works on it, or the port by hand
    first, second = engine.wait_for(2)      # what was submitted
    engine.start(first)
    engine.fail(first, ValueError("bad"))
    assert engine.stops == [...]            # its group was stopped, and with which numbers

Invariants, the port's own and this engine's:
  F1  nothing is posted but from `pump` (and from `close`, which pumps)
  F2  an attempt that the engine holds ends exactly once: by its last item, by `end`, by `die`, or
      by being given back from `stop` because it had not been started
  F3  what the test says of an attempt that is not held raises AssertionError, at once
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from andon._core import events as ev
from andon._engines.payloads import Death, Halted, Raised, Returned
from andon._engines.port import Attempt, Capabilities, Config, Row
from andon.outcome import ReasonKind, StoppedBy

_KINDS = tuple(ReasonKind)


@dataclass(frozen=True, slots=True)
class StopCall:
    """One call of the port's `stop`, as it came."""

    group: int | None
    attempt: int | None
    grace: float
    kill_after: float
    soon: bool = False


@dataclass(slots=True, eq=False)
class _Held:
    attempt: Attempt
    item: int
    started_at: float | None = None
    stopping: bool = False


class FakeEngine:
    """Implements `andon._engines.port.Engine`; every other method is the test's.

    Those may be called from any thread and never block, but for `wait_for`. What they say is
    posted, in order, by the next `pump`. `survivors` is what `close` returns; `now` the clock.
    """

    def __init__(
        self,
        *,
        can_kill: bool = True,
        can_interrupt: bool = True,
        survivors: Sequence[int] = (),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.submitted: list[Attempt] = []  # all there ever were
        self.stops: list[StopCall] = []
        self.closed = False
        self.survivors = survivors
        self._can_kill, self._can_interrupt = can_kill, can_interrupt
        self._now = now
        self._held: dict[int, _Held] = {}
        self._news: list[Any] = []
        self._woken = False
        self._changed = threading.Condition()
        self._post: Callable[[list[Any]], None]

    # The port ------------------------------------------------------------------------------------

    def open(self, post: Callable[[list[Any]], None], config: Config) -> Capabilities:
        """As many slots as workers; calls are not packed."""
        self._post = post
        return Capabilities(
            slots=config.workers,
            can_kill=self._can_kill,
            can_interrupt=self._can_interrupt,
            token_latency=0.0,
            pack=lambda call: call,
            wake=self._wake,
        )

    def submit(self, attempt: Attempt) -> None:
        """Hold it until the test says what becomes of it."""
        with self._changed:
            assert not self.closed, "submitted to a closed engine"
            self.submitted.append(attempt)
            self._held[attempt.id] = _Held(attempt, attempt.lo)
            self._changed.notify_all()

    def stop(
        self,
        group: int | None,
        attempt: int | None,
        grace: float,
        kill_after: float,
        *,
        soon: bool = False,
    ) -> list[int]:
        """Take note; give back what has not been started. What runs is the test's to end."""
        with self._changed:
            self.stops.append(StopCall(group, attempt, grace, kill_after, soon))
            gone = []
            for ident, held in list(self._held.items()):
                if ident == attempt or held.attempt.group.id == group:
                    if held.started_at is None:
                        gone.append(ident)
                        del self._held[ident]
                    elif not soon:
                        held.stopping = True
            self._changed.notify_all()
            return gone

    def look(self) -> list[Row]:
        """A row for each attempt that was started."""
        with self._changed:
            return [
                Row(n, None, h.attempt.id, h.item, "running", h.started_at, False, None, h.stopping)
                for n, h in enumerate(self._held.values(), 1)
                if h.started_at is not None
            ]

    def at(self, row: int) -> tuple[int, int] | None:
        """Its rows are on no board, so no word says which."""
        return None

    def pump(self, timeout: float | None) -> None:
        """Post what the test has said; wait for it up to `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._news or self._woken, timeout)
            self._woken = False
            news, self._news = self._news, []
        if news:
            self._post(news)

    def close(self, within: float) -> Sequence[int]:
        """Every worker dies of our kill; returns `survivors`."""
        with self._changed:
            if self.closed:
                return []
            self.closed = True
            for ident in list(self._held):
                self._die(ident, ordered=True, exitcode=-9, text="killed at the close")
        self.pump(0)
        return self.survivors

    def _wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    # What the test says --------------------------------------------------------------------------

    def wait_for(self, count: int, within: float = 10.0) -> list[Attempt]:
        """Block until `count` attempts have been submitted in all; these, in order."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.submitted) >= count, within):
                raise AssertionError(
                    f"{len(self.submitted)} attempts were submitted in {within:g} s, not {count}"
                )
            return self.submitted[:count]

    def held(self) -> list[Attempt]:
        """The attempts that have not ended, in order of submission."""
        with self._changed:
            return [held.attempt for held in self._held.values()]

    def is_stopping(self, attempt: Attempt) -> bool:
        """Was this attempt, which runs, told to stop?"""
        with self._changed:
            return self._of(attempt.id).stopping

    def start(self, attempt: Attempt) -> None:
        """Its item runs from now on: `look` shows it, and no stop gives it back any more."""
        with self._changed:
            self._begin(attempt.id)

    def succeed(self, attempt: Attempt, *values: Any) -> None:
        """Its next items return these values (a single None where none is given)."""
        with self._changed:
            held, since = self._begin(attempt.id)
            returned = list(values) if values else [None]
            item, held.item = held.item, held.item + len(returned)
            assert held.item <= attempt.hi, f"{attempt} has {attempt.hi - item} items left"
            payload = Returned(returned, since, self._now())
            self._say(ev.Succeeded(attempt.id, item, payload, len(returned)))
            self._end_if_over(held)

    def fail(self, attempt: Attempt, error: BaseException, *, started: bool = True) -> None:
        """Its next item raises; not `started`: its arguments could not be unpickled."""
        with self._changed:
            held, since = self._begin(attempt.id)
            payload = Raised(error, since if started else None, self._now())
            self._say(ev.Failed(attempt.id, held.item, payload, started))
            held.item += 1
            self._end_if_over(held)

    def halt(
        self,
        attempt: Attempt,
        by: StoppedBy = StoppedBy.TOKEN,
        cleanup_error: BaseException | None = None,
    ) -> None:
        """Its next item ends because it was told to stop, on this rung of the ladder."""
        with self._changed:
            held, since = self._begin(attempt.id)
            started = by is not StoppedBy.NEVER_STARTED
            payload = Halted(cleanup_error, since if started else None, self._now())
            self._say(ev.Stopped(attempt.id, held.item, by, started, payload))
            held.item += 1
            self._end_if_over(held)

    def end(self, attempt: Attempt) -> None:
        """The worker leaves it: the items that were not reported never started."""
        with self._changed:
            self._of(attempt.id)
            del self._held[attempt.id]
            self._say(ev.AttemptEnded(attempt.id))

    def die(
        self,
        attempt: Attempt,
        *,
        ordered: bool = False,
        exitcode: int | None = -9,
        text: str = "a worker died",
    ) -> None:
        """Its worker dies: in the task's code where it was started, before it where not."""
        with self._changed:
            self._die(attempt.id, ordered=ordered, exitcode=exitcode, text=text)

    def pull_cord(
        self, attempt: Attempt, kind: ReasonKind = ReasonKind.FAILURE, message: str = ""
    ) -> None:
        """Its worker sets the group's stop word, before it reports anything (S11)."""
        with self._changed:
            held, _ = self._begin(attempt.id)
            attempt.group.token._pull(_KINDS.index(kind) + 1, message)
            self._say(ev.Cord(attempt.group.id, attempt.id, kind, message, held.item))

    # -------------------------------------------------------------------------------------------

    def _of(self, ident: int) -> _Held:
        held = self._held.get(ident)
        assert held is not None, f"attempt {ident} is not held: it has ended, or never came"
        return held

    def _begin(self, ident: int) -> tuple[_Held, float]:
        held = self._of(ident)
        if held.started_at is None:
            held.started_at = self._now()
        return held, held.started_at

    def _end_if_over(self, held: _Held) -> None:
        held.started_at = self._now()  # of the next item, if there is one
        if held.item == held.attempt.hi:
            del self._held[held.attempt.id]
            self._say(ev.AttemptEnded(held.attempt.id))

    def _die(self, ident: int, *, ordered: bool, exitcode: int | None, text: str) -> None:
        held = self._of(ident)
        del self._held[ident]
        started = held.started_at is not None
        payload = Death(
            0, exitcode, "running" if started else "idle", text, held.started_at, self._now()
        )
        item = held.item if started else None
        self._say(ev.Died(ident, ordered, item, started, payload))

    def _say(self, event: Any) -> None:
        self._news.append(event)
        self._changed.notify_all()
