"""The inline engine: tasks run one at a time in this process, for debuggers (S49).

Breakpoints, profilers and coverage work as in any function. It cannot kill and cannot interrupt: a
stop reaches a task only at a checkpoint, and one that never comes to a checkpoint runs to its end.
Nothing is pickled, so arguments are shared, not copied.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

from andon._board import KIND_CANCEL
from andon._cancelled import Cancelled
from andon._core import events as ev
from andon._engines.payloads import Halted, Raised, Returned
from andon._engines.port import Attempt, Call, Capabilities, Config, Row
from andon._words import describe
from andon.errors import InitializerError
from andon.outcome import StoppedBy
from andon.token import Token

running: ContextVar[Token | None] = ContextVar("andon_inline", default=None)
"""The token of the task that runs in this thread, where one does."""


class InlineEngine:
    """Implements `port.Engine` in the thread that pumps."""

    def __init__(self) -> None:
        self._post: Callable[[list[Any]], None]
        self._config: Config
        self._queue: deque[Attempt] = deque()
        # Not an Event: the handler of Ctrl-C wakes, perhaps in the middle of a wake (S32).
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._now: tuple[Attempt, int, float] | None = None  # attempt, item, since
        self._initialised = False
        self._token: Token  # of the attempt that runs: a stop of its group, or of it alone

    def open(self, post: Callable[[list[Any]], None], config: Config) -> Capabilities:
        """One slot, whatever the configuration says."""
        self._post, self._config = post, config
        return Capabilities(
            slots=1,
            can_kill=False,
            can_interrupt=False,
            token_latency=0.0,
            pack=lambda call: call,
            wake=partial(self._woken.put, None),
        )

    def submit(self, attempt: Attempt) -> None:
        """Queue it; the next pump runs it."""
        self._queue.append(attempt)
        self._woken.put(None)

    def stop(
        self,
        group: int | None,
        attempt: int | None,
        grace: float,
        kill_after: float,
        *,
        soon: bool = False,
    ) -> list[int]:
        """Give back what has not begun; what runs sees its token at the next checkpoint."""
        gone = [a.id for a in self._queue if a.group.id == group or a.id == attempt]
        self._queue = deque(a for a in self._queue if a.id not in gone)
        if self._now is not None and not soon:
            runs, _, _ = self._now
            if runs.group.id == group or runs.id == attempt:
                self._token._pull(KIND_CANCEL)
        return gone

    def look(self) -> list[Row]:
        """The one row there is."""
        if self._now is None:
            return []
        attempt, item, since = self._now
        return [Row(0, None, attempt.id, item, "running", since, True, None)]

    def at(self, row: int) -> tuple[int, int] | None:
        """It has no row on a board."""
        return None

    def pump(self, timeout: float | None) -> None:
        """Run one attempt, or wait for one."""
        with suppress(queue.Empty):
            self._woken.get(timeout=timeout)
        with self._config.lock:
            with suppress(queue.Empty):
                while True:
                    self._woken.get_nowait()
            attempt = self._queue.popleft() if self._queue else None
            if self._queue or attempt is not None:
                self._woken.put(None)
        if attempt is not None:
            if self._initialise():
                self._run(attempt)
            self._post([ev.AttemptEnded(attempt.id)])

    def close(self, within: float) -> Sequence[int]:
        """Nothing is left behind: there was never a process."""
        self._queue.clear()
        return ()

    def _initialise(self) -> bool:
        if not self._initialised and self._config.initializer is not None:
            try:
                self._config.initializer(*self._config.initargs)
            except BaseException as cause:
                told = describe(cause)
                error = InitializerError(f"the initializer raised {told}", original=told)
                error.__cause__ = cause
                self._post([ev.Broke(str(error), error)])
                return False
        self._initialised = True
        return True

    def _run(self, attempt: Attempt) -> None:
        call: Call = attempt.packed
        group = attempt.group.token
        token = self._token = Token()
        token._on_cancel = group.cancel  # current_token().cancel() stops the line (S7)
        for item in range(attempt.lo, attempt.hi):
            since = time.monotonic()
            with self._config.lock:  # so that a stop comes before this look, or finds us running
                if group.is_set() or token.is_set():
                    break
                self._now = (attempt, item, since)
            event: ev.Event
            reset = running.set(token)
            try:
                value = _call(call, item)
            except BaseException as error:
                ended = time.monotonic()
                if isinstance(error, Cancelled) and token.is_set():
                    event = ev.Stopped(
                        attempt.id, item, StoppedBy.TOKEN, True, Halted(None, since, ended)
                    )
                else:
                    event = ev.Failed(attempt.id, item, Raised(error, since, ended))
            else:
                ended = time.monotonic()
                event = ev.Succeeded(attempt.id, item, Returned([value], since, ended))
            running.reset(reset)
            with self._config.lock:
                self._now = None
            self._post([event])


def _call(call: Call, item: int) -> Any:
    if call.items is None:
        return call.fn(*call.args, **call.kwargs)
    value = call.items[item]
    return call.fn(*value) if call.star else call.fn(value)
