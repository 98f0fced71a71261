"""The engines under contract, and the rig that drives one through its port as the runtime does."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from andon._core import events as ev
from andon._engines.payloads import Rang
from andon._engines.port import Attempt, Call, Capabilities, Config, Engine, GroupRef
from andon.testing.fake_engine import FakeEngine
from andon.token import Token
from tests import portable
from tests.contract import tasks
from tests.processes import LINUX
from tests.support import PATIENCE, START_METHODS, Stage

REPORTS = (ev.Succeeded, ev.Failed, ev.Stopped)
ENDS = (ev.AttemptEnded, ev.Died)


class PlayedEngine(FakeEngine):
    """The fake engine with somebody at its controls: plays `config.workers` workers at pumping."""

    def open(self, post: Callable[[list[Any]], None], config: Config) -> Capabilities:
        self._workers = config.workers
        return super().open(post, config)

    def pump(self, timeout: float | None) -> None:
        self._play()
        super().pump(timeout)

    def close(self, within: float) -> Sequence[int]:
        self._workers = 0
        return super().close(within)

    def _play(self) -> None:
        busy = {row.attempt for row in self.look()}
        for attempt in self.held():
            if attempt.id not in busy and len(busy) < self._workers:
                if attempt.group.token.is_set():
                    self.end(attempt)
                    continue
                busy.add(attempt.id)
                self._begin_call(attempt)
            elif attempt.id in busy and self.is_stopping(attempt):
                if attempt.packed.fn is tasks.hold:
                    self.halt(attempt)
                else:
                    self.die(attempt, ordered=True)

    def _begin_call(self, attempt: Attempt) -> None:
        call: Call = attempt.packed
        self.start(attempt)
        if call.fn in (tasks.hold, tasks.hold_on):
            stage: Stage = call.args[-1]
            stage.reach()
            return
        if call.fn is tasks.die:
            self.die(attempt, exitcode=call.args[0])
            return
        for item in range(attempt.lo, attempt.hi):
            try:
                value = call.fn(*call.args) if call.items is None else call.fn(call.items[item])
            except Exception as error:
                if attempt.fatal and not attempt.group.token.is_set():
                    self.pull_cord(attempt)
                self.fail(attempt, error)
            else:
                self.succeed(attempt, value)
            if attempt.group.token.is_set() and attempt in self.held():
                self.end(attempt)
                return


class Rig:
    """One open engine. `events` are all that were posted, but for `Rang`; `rang` counts those."""

    def __init__(self, engine: Engine, config: Config, *, in_process: bool) -> None:
        self.engine, self.config, self.in_process = engine, config, in_process
        self.events: list[Any] = []
        self.log: list[Any] = []  # with `Rang`
        self.given_back: list[int] = []  # what `stop` returned: over, and no event tells of it
        self.outside_pump: list[Any] = []
        self._pumping: int | None = None
        self._ids = 0
        self.closed = False
        with config.lock:
            self.caps = engine.open(self._post, config)

    def _post(self, events: list[Any]) -> None:
        if self._pumping != threading.get_ident():
            self.outside_pump += events
        self.log += events
        for event in events:
            if type(event) is not Rang:
                self.events.append(event)
            if type(event) is ev.Succeeded and event.last:
                self.events.append(ev.AttemptEnded(event.attempt))

    # Down ----------------------------------------------------------------------------------------

    def group(self) -> GroupRef:
        self._ids += 1
        return GroupRef(self._ids, Token())

    def attempt(
        self,
        group: GroupRef,
        fn: Callable[..., Any],
        *args: Any,
        items: list[Any] | None = None,
        lo: int = 0,
        fatal: bool = False,
    ) -> Attempt:
        self._ids += 1
        packed = self.caps.pack(Call(fn, args, items=items))
        return Attempt(self._ids, group, packed, lo, 1 if items is None else len(items), fatal)

    def submit(self, *attempts: Attempt) -> None:
        for attempt in attempts:
            with self.config.lock:
                self.engine.submit(attempt)

    def stop(
        self,
        group: GroupRef | None,
        attempt: Attempt | None = None,
        grace: float = 5.0,
        kill_after: float = 2.0,
        *,
        soon: bool = False,
    ) -> list[int]:
        """As the runtime does: the word first, then the ladder."""
        with self.config.lock:
            if group is not None and not soon:
                group.token._pull(3, "enough")
            gone = self.engine.stop(
                None if group is None else group.id,
                None if attempt is None else attempt.id,
                grace,
                kill_after,
                soon=soon,
            )
        self.given_back += gone
        return gone

    def look(self) -> list[Any]:
        with self.config.lock:
            return self.engine.look()

    def pump(self, timeout: float | None = 0.05) -> None:
        self._pumping = threading.get_ident()
        try:
            self.engine.pump(timeout)
        finally:
            self._pumping = None

    def close(self, within: float = 10.0) -> list[int]:
        self.closed = True
        self._pumping = threading.get_ident()
        try:
            return list(self.engine.close(within))
        finally:
            self._pumping = None

    # Waiting, and looking ------------------------------------------------------------------------

    def pump_until(self, done: Callable[[], bool], within: float = PATIENCE) -> None:
        bound = time.monotonic() + within
        while not done():
            assert time.monotonic() < bound, f"not within {within} s; posted: {self.log}"
            self.pump()

    def run(self, *attempts: Attempt) -> None:
        """Submit them as slots are free, until all have ended."""
        waiting = list(attempts)
        while waiting:
            batch, waiting = waiting[: self.caps.slots], waiting[self.caps.slots :]
            self.submit(*batch)
            self.finish(*batch)

    def run_span(self, attempt: Attempt) -> list[Any]:
        """Run all of its items; their reports. An engine may give some back that it has not begun,
        where others take long: those are another attempt's, as the machine would have it."""
        reports: list[Any] = []
        hi = attempt.hi
        while True:
            self.run(attempt)
            assert type(self.events[-1]) is ev.AttemptEnded
            told = self.reports(attempt)
            reports += told
            lo = told[-1].index + getattr(told[-1], "count", 1)
            if lo == hi:
                return reports
            self._ids += 1
            attempt = Attempt(self._ids, attempt.group, attempt.packed, lo, hi, attempt.fatal)

    def finish(self, *attempts: Attempt) -> None:
        """Pump until these have ended."""
        self.pump_until(lambda: all(self.ends(a) for a in attempts))

    def while_running(self, attempt: Attempt, running: Stage, action: Callable[[], None]) -> None:
        """Submit; do `action` while its task stands at the stage; pump until that is done."""
        done: list[bool] = []

        def act() -> None:
            action()
            done.append(True)

        if self.in_process:
            tasks.meanwhile[running.path] = act
        self.submit(attempt)
        if self.in_process:
            self.pump_until(lambda: bool(done))
        else:
            self.pump_until(lambda: bool(running.reached()))
            act()

    def reports(self, attempt: Attempt) -> list[Any]:
        """What was posted of its items, in order."""
        return [e for e in self.events if type(e) in REPORTS and e.attempt == attempt.id]

    def ends(self, attempt: Attempt) -> list[Any]:
        """What told that it is over: exactly one, in the end."""
        told = [e for e in self.events if type(e) in ENDS and e.attempt == attempt.id]
        return told + [ident for ident in self.given_back if ident == attempt.id]

    def check(self) -> None:
        """What holds of every engine at every time."""
        assert not self.outside_pump, "events are posted only from pump"
        over: set[int] = set(self.given_back)
        assert len(over) == len(self.given_back), "given back twice"
        next_item: dict[int, int] = {}
        for event in self.events:
            ident = getattr(event, "attempt", None)
            if type(event) in REPORTS:
                assert ident not in over, f"{event} of an attempt that is over"
                assert event.index == next_item.get(ident, event.index), f"{event}: out of order"
                next_item[ident] = event.index + getattr(event, "count", 1)
            elif type(event) in ENDS:
                assert ident not in over, f"{event}: it ended twice"
                over.add(ident)


class Maker:
    """How to make one of the engines."""

    def __init__(
        self, name: str, make: Callable[[], Engine], start_method: str = "forkserver", *,
        in_process: bool = False, kills: bool = True,
        system: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:  # fmt: skip
        self.name, self.make, self.start_method = name, make, start_method
        self.in_process, self.kills = in_process, kills
        self.system = system  # to be within while it is in use

    def rig(self, workers: int = 2) -> Rig:
        config = Config(workers, self.start_method)
        return Rig(self.make(), config, in_process=self.in_process)


def _inline() -> Engine:
    from andon._engines.inline import InlineEngine

    return InlineEngine()


def _local() -> Engine:
    from andon._engines.local.engine import LocalEngine

    return LocalEngine()


def makers() -> list[Maker]:
    """All engines that there are. One whose file exists must work: nothing is skipped."""
    found = [Maker("fake", PlayedEngine)]
    if importlib.util.find_spec("andon._engines.inline"):
        found.append(Maker("inline", _inline, in_process=True, kills=False))
    if importlib.util.find_spec("andon._engines.local.engine"):
        found += [Maker(f"local-{method}", _local, method) for method in START_METHODS]
        if LINUX:
            for kind in portable.KINDS:
                system = partial(portable.engine_of, kind)
                found.append(Maker(f"local-{kind}", _local, "spawn", system=system))
    return found


MAKERS = makers()
KILLERS = [maker for maker in MAKERS if maker.kills]
