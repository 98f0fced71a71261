"""The inline engine: tasks run one at a time in this process, for debuggers (S49).

Breakpoints, profilers and coverage work as in any function. It cannot kill and cannot interrupt: a
stop reaches a task only at a checkpoint, and one that never comes to a checkpoint runs to its end.
Nothing is pickled, so arguments are shared, not copied.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from andon._cancelled import Cancelled
from andon._core import events as ev
from andon._engines.payloads import Halted, Raised, Returned
from andon._engines.port import Attempt, Call, Capabilities, Config, Row
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
        self._woken = threading.Event()
        self._now: tuple[Attempt, int, float] | None = None  # attempt, item, since
        self._initialised = False
        self._stopped: set[int] = set()

    def open(self, post: Callable[[list[Any]], None], config: Config) -> Capabilities:
        """One slot, whatever the configuration says."""
        self._post, self._config = post, config
        return Capabilities(
            slots=1,
            can_kill=False,
            can_interrupt=False,
            token_latency=0.0,
            pack=lambda call: call,
            wake=self._woken.set,
        )

    def submit(self, attempt: Attempt) -> None:
        """Queue it; the next pump runs it."""
        self._queue.append(attempt)
        self._woken.set()

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
        if attempt is not None and attempt not in gone:
            self._stopped.add(attempt)
        return gone

    def look(self) -> list[Row]:
        """The one row there is."""
        if self._now is None:
            return []
        attempt, item, since = self._now
        return [Row(0, None, attempt.id, item, "running", since, True, None)]

    def pump(self, timeout: float | None) -> None:
        """Run one attempt, or wait for one."""
        self._woken.wait(timeout)
        with self._config.lock:
            self._woken.clear()
            attempt = self._queue.popleft() if self._queue else None
            if self._queue or attempt is not None:
                self._woken.set()
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
                error = InitializerError(f"the initializer raised {cause!r}")
                error.__cause__ = cause
                self._post([ev.Broke(str(error), error)])
                return False
        self._initialised = True
        return True

    def _run(self, attempt: Attempt) -> None:
        call: Call = attempt.packed
        token = attempt.group.token
        for item in range(attempt.lo, attempt.hi):
            if token.is_set() or attempt.id in self._stopped:
                break
            since = time.monotonic()
            self._now = (attempt, item, since)
            event: ev.Event
            stop = None if attempt.id not in self._stopped else attempt.id
            reset = running.set(token)
            try:
                value = _call(call, item)
            except BaseException as error:
                ended = time.monotonic()
                ours = isinstance(error, Cancelled) and (token.is_set() or stop is not None)
                if ours:
                    event = ev.Stopped(
                        attempt.id, item, StoppedBy.TOKEN, True, Halted(None, since, ended)
                    )
                else:
                    event = ev.Failed(attempt.id, item, Raised(error, since, ended))
            else:
                ended = time.monotonic()
                event = ev.Succeeded(attempt.id, item, Returned([value], since, ended))
            running.reset(reset)
            self._now = None
            self._post([event])
        self._stopped.discard(attempt.id)


def _call(call: Call, item: int) -> Any:
    if call.items is None:
        return call.fn(*call.args, **call.kwargs)
    value = call.items[item]
    return call.fn(*value) if call.star else call.fn(value)
