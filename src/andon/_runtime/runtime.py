"""The runtime: one pool's machine, engine and driver, and the one lock around them.

    submitting thread ──pack──▶ lock ─ Submitted ─▶ machine ─ Send ─▶ engine ─▶ a worker's pipe
    driver thread  pump ──▶ frames, deaths, bells ─▶ lock ─ events ─▶ machine ─ actions ─▶ engine
                                                                          └─ notices ─▶ (no lock)
                                                                             futures, streams

Whoever has an event takes the lock, lets the machine decide, performs the actions on the engine,
releases the lock, and then delivers the notices (all that is in `performing`). So a task is sent by
the thread that submits it, without a hop; and no user code ever runs under the lock.
"""

from __future__ import annotations

import math
import threading
import time
from _thread import get_ident
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from andon._core import events as ev
from andon._engines.port import Capabilities, Config, Engine
from andon._gate import gate
from andon._locks import inside
from andon._runtime import registry
from andon._runtime.driver import Driver
from andon._runtime.groups import Group
from andon._runtime.handlers import handlers
from andon._runtime.hearing import check_links
from andon._runtime.room import TO_OPEN, TO_STOP, check_room
from andon._runtime.surroundings import Variables
from andon._runtime.tasks import Task
from andon._runtime.waits import Waits
from andon._runtime.wakeup import Wakeup
from andon.errors import (
    CleanupError,
)
from andon.outcome import ReasonKind, TraceEvent
from andon.policy import Policy
from andon.token import Token

_HARDEST = 0.0
_FEW = 100  # tasks
_FEW_GROUPS = 8  # more of them are not looked at one by one
_AT_ONCE = 2.0  # seconds to end workers that have done nothing yet


class Runtime(Waits):
    """One pool at work. Every method is safe from any thread, and none but the `wait…` and
    `close` ones blocks for longer than the lock is held."""

    def __init__(
        self,
        engine: Engine,
        config: Config,
        name: str,
        trace: Callable[[TraceEvent], object] | None = None,
    ) -> None:
        super().__init__(engine, config, name, trace)
        self.name = name
        self.config = config
        self.finishes = False  # accepted work goes on when nobody closes it, also at exit
        self._ended = threading.Event()  # `close` is through
        self._unreaped: Sequence[int] = ()
        self._closes_within = 0.0  # seconds that they had
        # Left by the signal handler: a Ctrl-C's count, and the newest group that it can mean. A
        # queue, since a number that two threads write could lose the second one, which kills.
        self._interrupts: deque[tuple[int, int]] = deque()
        handlers.find()
        gate.shelter = handlers
        with registry.opening():
            with self._lock:
                self._caps = engine.open(self._post, config)
                self._machine.handle(ev.SlotsChanged(self._caps.slots), time.monotonic())
            self._driver = Driver(self, f"{name}-driver")
            registry.add(self)
            try:
                self._driver.start()
            except BaseException:
                registry.remove(self)
                engine.close(_AT_ONCE)
                raise

    # What facades call ---------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What the engine declares."""
        return self._caps

    def open_group(
        self,
        policy: Policy,
        *,
        deadline: float | None,
        grace: float,
        kill_after: float,
        links: tuple[Token, ...] = (),
        parent: Token | None = None,
        inner_ladder: tuple[float, float] = (math.inf, math.inf),
        keep_outcomes: bool = True,
        keep_failures: bool = True,
        variables: Variables = (),
    ) -> Group:
        """Open a group; `deadline` is absolute. A set link stops it at once."""
        self._check_usable()
        check_room(TO_OPEN)
        token = Token()
        with gate, self._lock:
            self._ids += 1
            ident = self._ids
            opened = ev.GroupOpened(ident, policy, deadline, grace, kill_after)
            group = Group(
                self,
                ident,
                policy,
                opened.stats,
                token,
                grace=grace,
                kill_after=kill_after,
                keep_outcomes=keep_outcomes,
                keep_failures=keep_failures,
            )
            group.parent = parent
            group.variables = variables
            group.inner_ladder = inner_ladder
            group.links = [(t, False) for t in links]
            if parent is not None:
                group.links.append((parent, True))
            self._groups[ident] = group
            self._take(opened)
            token._on_cancel = lambda message: self.stop(group, ReasonKind.CANCEL, message)
            check_links(group, self._take)
        self._deliver()
        return group

    def stop(
        self,
        group: Group,
        kind: ReasonKind,
        message: str,
        *,
        source: int | None = None,
        soon: bool = False,
        grace: float | None = None,
        kill_after: float | None = None,
    ) -> None:
        """Stop a group; idempotent, and only ever hardens."""
        self._check_own()
        check_room(TO_STOP)
        with gate:
            if self._must_leave(
                self.stop,
                group,
                kind,
                message,
                source=source,
                soon=soon,
                grace=grace,
                kill_after=kill_after,
            ):
                return
            with self._lock:
                self._take(ev.StopAsked(group.id, kind, message, source, soon, grace, kill_after))
            self._deliver()

    def stop_all(
        self,
        kind: ReasonKind,
        message: str,
        *,
        kill: bool = False,
        soon: bool = False,
        grace: float | None = None,
    ) -> None:
        """Stop every group of this pool; unless `soon`, nobody waits for what workers still put
        out, either."""
        if not soon:
            self.hurry()
        hard = _HARDEST if kill else None
        for group in list(self._groups.values()):
            within = hard if grace is None else grace
            self.stop(group, kind, message, grace=within, kill_after=hard, soon=soon)

    def heed_interrupts(self) -> None:
        """The main thread waits for every group of this pool: Ctrl-C stops them all."""
        for group in list(self._groups.values()):
            group.in_main = True

    def is_running(self, task: Task, item: int) -> bool:
        """Does the board show this item of a task in user code? A finalizer that would have to wait
        for that is told that it does not."""
        self._check_own()
        if not self._lock.acquire(blocking=not inside()):
            return False
        try:
            task = task.part(item)
            return any(
                row.attempt == task.attempt is not None
                and row.index == item
                and row.phase == "running"
                for row in self._engine.look()
            )
        finally:
            self._lock.release()

    def look(self) -> list[Any]:
        """The workers' rows."""
        self._check_own()
        with self._lock:
            return self._engine.look()

    def is_quick(self) -> bool:
        """May a stop be asked for without anybody noticing the time? To stop thousands of tasks
        takes a moment, and so does waiting for somebody who is at it."""
        with gate:
            many = len(self._tasks) + sum(len(group.calls) for group in list(self._groups.values()))
            if many > _FEW or not self._lock.acquire(blocking=False):
                return False
            self._lock.release()
            return True

    def is_alone(self, group: Group) -> bool:
        """Has no other group anything under way, as far as a quick look tells?"""
        groups = list(self._groups.values())
        return len(groups) <= _FEW_GROUPS and all(
            other is group or other.stats.done == other.stats.submitted for other in groups
        )

    def is_busy(self, beside: int = 0) -> bool:
        """Is any task under way, or due to be, beside so many? Safe without the lock."""
        return len(self._tasks) > beside

    def wait(self, wakeup: Wakeup, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Block until `ready()`, as `wakeup.wait`, and drive the pool meanwhile if need be. Raises
        where it could never end."""
        self.check_wait()
        return self._driver.wait(wakeup, ready, timeout)

    # Waiting and closing -------------------------------------------------------------------------

    def must_not_wait(self) -> bool:
        """Would blocking in this thread hold up what it waits for? The collector may run a
        finalizer in the driver, in who delivers, or in a thread that holds the lock."""
        return (
            self._driver.is_current()
            or self.listener.is_current()
            or self._deliverer == get_ident()
            or bool(self._lock._is_owned())
        )

    def check_wait(self) -> None:
        """Raise where blocking could never end."""
        self.check_crash()
        self._check_own()
        if self.must_not_wait():
            raise RuntimeError(
                "this thread drives the pool, or runs its log handlers or trace function; it "
                "cannot wait for one of its tasks"
            )

    def close(self, within: float = 10.0) -> None:
        """End all workers; bounded. Raises `CleanupError` naming those that would not die (S21)."""
        if self.foreign:
            return
        check_room(TO_OPEN)
        with gate:
            with self._lock:
                first, self.closing = not self.closing, True
            self.idle.notify()
            if not first:
                # Another thread is at it; unless that waits for us, we wait for it.
                if not (self.callbacks.is_current() or self._driver.is_current()):
                    if not self._ended.wait(within):
                        self._check_gone(within)
                    self._check_reaped()
                return
            self._closes_within = within
            try:
                for group in list(self._groups.values()):
                    if group.has_finished():  # it ends well, whatever its body is still at
                        group.pool_closed = True
                        self.leave_body(group)
                # Whatever came between the caller's last look and `closing`.
                self.stop_all(ReasonKind.SHUTDOWN, "the pool was shut down", kill=True)
                self.dismiss()
                self._driver.stop(within)
                self._make_calls_left()
                self._unreaped = self._engine.close(within)
                self._deliver()
                self.listener.close(within)
                self.callbacks.close(within)
            finally:
                registry.remove(self)
                # Queues and the like that only the workers needed go as soon as these have gone.
                self.config.initializer, self.config.initargs = None, ()
                self._ended.set()
        self._check_reaped()

    def _check_gone(self, within: float) -> None:
        """Another thread is not through with closing: has it yet to end any worker?"""
        pids = tuple(row.pid for row in self.look() if row.pid is not None)
        if pids:
            raise CleanupError(
                f"another thread closes this pool, and after {within:g} s these processes were "
                f"still there: {', '.join(map(str, pids))}",
                pids=pids,
            )

    def _check_reaped(self) -> None:
        if self._unreaped:
            pids = ", ".join(map(str, self._unreaped))
            raise CleanupError(
                f"these processes could not be reaped within {self._closes_within:g} s: {pids}; "
                "they may be in uninterruptible sleep (state D in `ps`), or get no core",
                pids=tuple(self._unreaped),
            )

    # The driver's turn ---------------------------------------------------------------------------

    def turn(self, within: float | None = None) -> None:
        """Wait for the next thing to happen, at most so many seconds, and see it through. Called
        by who drives."""
        with self._lock:
            at = self._machine.wake_at()
            until = math.inf if at is None else at
            if self._held:
                until = min(until, self._held[0][0])
            self._sleeps_until = until
        if until != math.inf:
            left = max(0.0, until - time.monotonic())
            within = left if within is None else min(left, within)
        self._engine.pump(within)
        if self._left:
            self._make_calls_left()
        with self._lock:
            self._sleeps_until = -math.inf
            at = self._machine.wake_at()
            if at is not None and at <= time.monotonic():
                self._take(ev.Ticked())
            if self._held:
                self._look_at_held(time.monotonic())
            if self._interrupts:
                self._take_interrupts()
        self._deliver()
        if self._prepares:
            self.idle.notify()

    def interrupt(self, count: int) -> None:
        """Ctrl-C, for the `count`th time, and for the groups that there are by now; the signal
        handler calls it, so it only leaves a note."""
        self._interrupts.append((count, self._ids))
        self.wake()

    def _take_interrupts(self) -> None:
        while self._interrupts:
            count, newest = self._interrupts.popleft()
            hard = _HARDEST if count > 1 else None
            for group in list(self._groups.values()):
                if group.in_main and group.id <= newest:
                    self._take(
                        ev.StopAsked(
                            group.id, ReasonKind.INTERRUPT, "Ctrl-C", grace=hard, kill_after=hard
                        )
                    )
