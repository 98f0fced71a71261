"""Performing: what the machine decides is done on the engine, and told to futures and streams.

Invariants:
 1. Events are taken, and actions performed, under the runtime's lock, one after the other, also
    where the thread that is at it is interrupted by one that posts; no user code runs there.
 2. Notices are delivered without it, in order and one thread at a time: a task's outcome, then
    that it is over; a group's end after the outcomes of all its tasks.
 3. A bug in the machine halts it: it is never fed again, and everybody who waits is told.
"""

from __future__ import annotations

import math
import threading
import time
from _thread import get_ident
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from andon._board import own_board
from andon._complaint import complain
from andon._core import actions as ac
from andon._core import events as ev
from andon._core.machine import Machine
from andon._engines.payloads import Rang, Told
from andon._engines.port import Attempt, Capabilities, Config, Engine
from andon._runtime.groups import Group
from andon._runtime.hearing import KINDS, hear
from andon._runtime.listener import Listener
from andon._runtime.tasks import Run, Task, outcomes_of
from andon._runtime.wakeup import Wakeup
from andon._words import describe
from andon.errors import InternalError, anew
from andon.outcome import Reason, TaskState, TraceEvent
from andon.token import Token

_OF_TASKS = (ev.Succeeded, ev.Failed, ev.Stopped)
# A result that takes its time is late as well (S29).
_UNDER_WAY = ("running", "pickling", "sending")


class Performer:
    """The machine of one pool with its engine, and what is open on them."""

    def __init__(
        self,
        engine: Engine,
        config: Config,
        name: str,
        trace: Callable[[TraceEvent], object] | None,
    ) -> None:
        self.crashed: InternalError | None = None
        self.idle = Wakeup()  # told whenever no task is left
        self._caps: Capabilities  # since the engine is open
        self._lock = config.lock
        self._engine = engine
        self._trace = trace
        self._machine = Machine(tracing=trace is not None)
        config.wanted = self._machine.is_wanted
        self._halted = False
        self._groups: dict[int, Group] = {}
        self._tasks: dict[int, Task] = {}
        self._by_attempt: dict[int, Task] = {}
        self._events: deque[ev.Event] = deque()  # not yet taken
        self._taking = False
        self._notices: deque[Callable[[], None]] = deque()
        self._delivery = threading.Lock()
        self._deliverer = 0  # the thread that holds it
        self.listener = Listener(name, self._deliver)
        self._sleeps_until = -math.inf  # of the driver: -inf while it is awake

    def wake(self) -> None:
        """End the driver's wait; safe in a signal handler."""
        self._caps.wake()

    def crash(self, error: BaseException) -> None:
        """A bug: nothing may hang on it. Every waiter is told; closing the pool ends the rest."""
        if self.crashed is None:
            story = error.story if isinstance(error, InternalError) else ()
            self.crashed = InternalError(f"andon itself failed: {error!r}", story=story)
            self.crashed.__cause__ = error
        with self._lock:
            self._halted = True
            tasks, self._tasks = list(self._tasks.values()), {}
            groups = list(self._groups.values())
            waiting = [f for group in groups for run in group.calls.all() for f in run]
        for task in tasks:
            task.sink.broken(self.crashed)
        for future in waiting:
            future.broken(self.crashed)
        for group in groups:
            group.ended.notify()
            self._notify(group)
        self.idle.notify()
        self.wake()

    def check_crash(self) -> None:
        """Raise the internal error that ended this runtime, if one did."""
        if self.crashed is not None:
            raise InternalError(str(self.crashed), story=self.crashed.story) from self.crashed

    # Under the lock ------------------------------------------------------------------------------

    def _post(self, events: list[Any]) -> None:
        """What an engine hands up."""
        for event in events:  # without the lock: `describe` runs the error's own `__str__`
            if type(event) is ev.Failed:
                event.message = describe(event.payload.error)
            elif type(event) is ev.Died:
                event.message = event.payload.text
        with self._lock:
            for event in events:
                if type(event) is Rang:
                    hear(list(self._groups.values()), self._take, self._who_pulled)
                elif type(event) is Told:
                    source = self._by_attempt.get(event.attempt)
                    self._notices.append(partial(self.listener.take, event, source))
                else:
                    if type(event) in _OF_TASKS:
                        self._hear_unrung(event.attempt)
                    self._take(event)
        self._deliver()

    def _hear_unrung(self, attempt: int) -> None:
        """Who pulls a word rings the bell behind that, and may lose its core in between, or its
        life. What others tell by then may be the word's effect; and some may sleep still."""
        task = self._by_attempt.get(attempt)
        if task is None or task.group.stopped or not task.group.token.is_set():
            return
        hear([task.group], self._take, self._who_pulled, wait=True)
        own_board().ring()

    def _take(self, event: ev.Event) -> None:
        if self._taking:  # a signal handler, or a finalizer, of the very thread that is at it
            self._events.append(event)
            return
        self._taking = True
        try:
            self._take_one(event)
            while self._events:
                self._take_one(self._events.popleft())
        finally:
            self._taking = False

    def _take_one(self, event: ev.Event) -> None:
        if self._halted:
            return  # a bug left the machine between two states: it is never fed again
        try:
            self._perform(self._machine.handle(event, time.monotonic()))
        except BaseException as error:
            self._halted = True
            self._notices.append(partial(self.crash, error))
            if not isinstance(error, Exception):  # out of a signal handler of the program's own
                self._caps.wake()
                raise
            return
        at = self._machine.wake_at()
        if at is not None and at < self._sleeps_until:
            self._sleeps_until = at
            self._caps.wake()

    def _perform(self, actions: list[ac.Action]) -> None:
        given_back: list[int] = []
        for action in actions:
            match action:
                case ac.Resolve():
                    task = self._tasks[action.task]
                    self._notices.append(partial(self._resolve, task, action))
                    if action.over:
                        del self._tasks[action.task]
                        self._call_back(task)
                        if task.attempt is not None:
                            self._by_attempt.pop(task.attempt, None)
                case ac.Send():
                    self._send(action)
                case ac.Split():
                    whole = self._tasks[action.task]
                    self._tasks[action.part] = whole.rest(action.part, action.lo)
                case ac.PullWord():
                    group = self._groups[action.group]
                    group.stopped = True
                    self._pull_word(group.token, action.reason)
                    if group.reason is not None:  # it was draining, and is stopped now
                        self._notices.append(partial(self._notify, group))
                case ac.StopGroup():
                    given_back += self._engine.stop(
                        action.group, None, action.grace, action.kill_after, soon=action.soon
                    )
                case ac.StopAttempt():
                    given_back += self._engine.stop(
                        None, action.attempt, action.grace, action.kill_after, soon=action.soon
                    )
                case ac.Look():
                    self._look(action.attempt)
                case ac.PolicyFailed():
                    group = self._groups[action.group]
                    group.mistake, group.mistaken = action.error, action.decides
                case ac.GroupStopping():
                    group = self._groups[action.group]
                    group.verdict = action.verdict
                    if action.payload is not None:
                        group.broken = anew(action.payload)
                    group.ahead = action.ahead
                    group.reason = action.reason
                    self._notices.append(partial(self._notify, group))
                    self._give_up_calls(group)
                case ac.GroupClosed():
                    group = self._groups.pop(action.group)
                    group.verdict = action.verdict
                    self._notices.append(partial(self._closed, group))
                case ac.Trace():
                    self._notices.append(partial(self._tell_trace, action))
        for attempt in given_back:
            self._take(ev.AttemptEnded(attempt))

    def _pull_word(self, token: Token, reason: Reason) -> None:
        # A worker may have pulled it already (S11): then only the official reason is new.
        token._pull(KINDS.index(reason.kind) + 1, reason.message)

    def _send(self, action: ac.Send) -> None:
        task = self._tasks[action.task]
        if task.attempt is not None:
            self._by_attempt.pop(task.attempt, None)
        task.attempt = action.attempt
        self._by_attempt[action.attempt] = task
        self._engine.submit(
            Attempt(action.attempt, task.group.ref, task.packed, action.lo, action.hi, action.fatal)
        )
        self._call_sent(task)

    def _call_sent(self, task: Task) -> None:
        """It waits no more: if it was ahead of single calls, the next go to the machine."""
        raise NotImplementedError

    def _call_back(self, task: Task) -> None:
        """It is over: if single calls wait for that, the next go to the machine."""
        raise NotImplementedError

    def _give_up_calls(self, group: Group) -> None:
        """The group stops: its single calls that wait go to the machine, and to their end."""
        raise NotImplementedError

    def _look(self, attempt: int) -> None:
        for row in self._engine.look():
            if row.attempt == attempt and row.started_at is not None and row.phase in _UNDER_WAY:
                task = self._by_attempt[attempt]
                self._take(ev.Started(attempt, row.index if task.size > 1 else 0, row.started_at))
                return

    def _who_pulled(self, row_number: int) -> tuple[int | None, int | None]:
        at = self._engine.at(row_number)
        if at is None:
            return None, None
        attempt, item = at
        task = self._by_attempt.get(attempt)
        return attempt, item if task is not None and task.size > 1 else 0

    # Without the lock ----------------------------------------------------------------------------

    def _deliver(self) -> None:
        # One thread at a time, so that notices keep their order; whoever finds it taken leaves its
        # notices to that thread, which looks again after it has let go.
        # A thread that takes events delivers afterwards: this may be that one, interrupted.
        notices = self._notices
        if notices and self._lock._is_owned():  # a finalizer: nobody is told under the lock
            self._caps.wake()
            return
        # While the listener deals with a record, what comes after it waits for that.
        while notices and not self._taking and not self.listener.busy:
            if not self._delivery.acquire(blocking=False):
                return
            try:
                self._deliverer = get_ident()
                while notices and not self.listener.busy:
                    notice = notices.popleft()
                    try:
                        notice()
                    except BaseException as error:  # a bug of ours: nobody may be left waiting
                        self.crash(error)
            finally:
                self._deliverer = 0
                self._delivery.release()

    def _tell_trace(self, t: ac.Trace) -> None:
        assert self._trace is not None
        try:
            self._trace(TraceEvent(t.at, t.group, t.index, t.attempt, t.before, t.after, t.cause))
        except BaseException:  # a reader of the trace never touches what it reads about
            complain("a trace function raised")

    def _resolve(self, task: Task, resolve: ac.Resolve) -> None:
        group = task.group
        if resolve.state is TaskState.SUCCEEDED:
            run = Run(task, resolve)
            group.record_run(run)
            task.sink.take_run(task, run)
        else:
            for outcome in outcomes_of(task, resolve, group.reason):
                group.record(outcome)
                task.sink.take(task, outcome)
        if group.ahead and (resolve.decides or resolve.state is TaskState.FAILED):
            group.ahead = False
            self._notify(group)
        if resolve.over:
            self._over(task)

    def _over(self, task: Task) -> None:
        # References to arguments go as soon as they can.
        task.call = task.calls = task.packed = None
        task.sink.over(task)
        if not self._tasks:
            self.idle.notify()

    def _notify(self, group: Group) -> None:
        for callback in group.on_stopping:
            callback()

    def _closed(self, group: Group) -> None:
        group.token._on_cancel = None
        group.closed = True
        group.ended.notify()
        self._notify(group)
        group.on_stopping.clear()  # what listens to a group most often refers to it
        group.streams.clear()
        self.idle.notify()
