"""A tiny driver of a LocalEngine: what the runtime does, without machine, threads or futures."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from andon._core.events import (
    AttemptEnded,
    Broke,
    Died,
    Event,
    Failed,
    Stopped,
    Succeeded,
)
from andon._engines.local.engine import LocalEngine
from andon._engines.payloads import Rang
from andon._engines.port import Attempt, Call, Config, GroupRef
from andon.token import Token
from tests.support import PATIENCE, Stage


class Driver:
    """One engine; `events` are all that it has posted, but for `Rang`."""

    def __init__(self, start_method: str, workers: int = 1, **config: Any) -> None:
        self.events: list[Event] = []
        self.rang = 0
        self.on_post: Callable[[list[Event]], None] | None = None
        self.config = Config(workers=workers, start_method=start_method, **config)
        self.engine = LocalEngine()
        self._numbers = itertools.count(1)
        self._submitted: dict[int, tuple[Any, int, bool]] = {}
        self.group = GroupRef(1, Token())
        with self.config.lock:
            self.caps = self.engine.open(self._post, self.config)

    def _post(self, events: list[Event]) -> None:
        assert events
        if self.on_post is not None:
            self.on_post(events)
        for event in events:
            if isinstance(event, Rang):
                self.rang += 1
            else:
                self.events.append(event)
            if isinstance(event, Succeeded) and event.last:
                self.events.append(AttemptEnded(event.attempt))

    # Down ----------------------------------------------------------------------------------------

    def new_group(self) -> None:
        self.group = GroupRef(self.group.id + 1, Token())

    def pack(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.caps.pack(Call(fn, args, kwargs))

    def submit(self, fn: Callable[..., Any], *args: Any, fatal: bool = False, **kw: Any) -> int:
        return self.submit_packed(self.pack(fn, *args, **kw), 0, 1, fatal)

    def submit_span(
        self,
        fn: Callable[..., Any],
        items: list[Any],
        lo: int = 0,
        hi: int | None = None,
        *,
        star: bool = False,
        fatal: bool = False,
    ) -> int:
        packed = self.caps.pack(Call(fn, items=items, star=star))
        return self.submit_packed(packed, lo, len(items) if hi is None else hi, fatal)

    def submit_packed(self, packed: Any, lo: int, hi: int, fatal: bool = False) -> int:
        ident = next(self._numbers)
        self._submitted[ident] = packed, hi, fatal
        with self.config.lock:
            self.engine.submit(Attempt(ident, self.group, packed, lo, hi, fatal))
        return ident

    def stop(self, grace: float = 5.0, kill_after: float = 2.0, pull: bool = True) -> None:
        """Stop the group, as the runtime does: the word first."""
        with self.config.lock:
            if pull:
                self.group.token._pull(3)
            gone = self.engine.stop(self.group.id, None, grace, kill_after)
        self.events += [AttemptEnded(ident) for ident in gone]

    def stop_attempt(self, ident: int, grace: float = 5.0, kill_after: float = 2.0) -> None:
        with self.config.lock:
            gone = self.engine.stop(None, ident, grace, kill_after)
        self.events += [AttemptEnded(ident) for ident in gone]

    # Up ------------------------------------------------------------------------------------------

    def until(
        self, condition: Callable[[], Any], within: float = PATIENCE, step: float = PATIENCE
    ) -> Any:
        """Pump until this is true; it is asked again after every pump, of `step` at most."""
        deadline = time.monotonic() + within
        while not (value := condition()):
            left = deadline - time.monotonic()
            assert left > 0, f"not in time; so far: {self.events}"
            self.engine.pump(min(left, step))
        return value

    def reached(self, stage: Stage, count: int = 1) -> list[str]:
        """Pump until tasks have reached this stage. No event tells of it, so we look."""
        words: list[str] = []

        def enough() -> bool:
            words.extend(stage.reached())
            return len(words) >= count

        self.until(enough, step=0.005)
        return words

    def of(self, attempt: int) -> list[Event]:
        return [e for e in self.events if getattr(e, "attempt", None) == attempt]

    def over(self, attempt: int) -> bool:
        return any(isinstance(e, AttemptEnded | Died) for e in self.of(attempt))

    def finish(self, attempt: int, within: float = PATIENCE) -> list[Event]:
        """Pump until this attempt is over; its events, the `AttemptEnded` left off. What has not
        begun of a span, as may be behind an item that takes long, is submitted again."""
        self.until(lambda: self.over(attempt), within)
        events = self.of(attempt)
        ends = [e for e in events if isinstance(e, AttemptEnded | Died)]
        assert len(ends) == 1 and events[-1] is ends[0], events
        told: list[Any] = [e for e in events if isinstance(e, Succeeded | Failed | Stopped | Died)]
        packed, hi, fatal = self._submitted.pop(attempt)
        done = max((_behind(e) for e in told), default=hi)
        if done < hi and not isinstance(ends[0], Died) and not self.group.token.is_set():
            told += self.finish(self.submit_packed(packed, done, hi, fatal), within)
        return told

    def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Event:
        """Submit one call and give its one event."""
        events = self.finish(self.submit(fn, *args, **kwargs))
        assert len(events) == 1, events
        return events[0]

    def value(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        event: Any = self.run(fn, *args, **kwargs)
        assert len(event.payload.values) == 1, event
        return event.payload.values[0]

    def broke(self) -> Broke | None:
        return next((e for e in self.events if isinstance(e, Broke)), None)

    def pids(self) -> list[int]:
        with self.config.lock:
            return [row.pid for row in self.engine.look() if row.pid is not None]

    def close(self, within: float = PATIENCE) -> list[int]:
        return list(self.engine.close(within))


def _behind(event: Any) -> int:
    """The item behind those that it speaks of."""
    return (event.index or 0) + getattr(event, "count", 1)


@contextmanager
def driver(start_method: str, workers: int = 1, **config: Any) -> Iterator[Driver]:
    d = Driver(start_method, workers, **config)
    try:
        yield d
    finally:
        left = d.close()
    assert left == []
