"""What a pool that is to end waits for: tasks, callbacks, initializers, bodies of groups."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

from andon._engines.port import Config, Engine
from andon._gate import gate
from andon._runtime.callbacks import CallbackThread
from andon._runtime.groups import Group
from andon._runtime.interrupts import bridge
from andon._runtime.submitting import Submitter
from andon._runtime.unread import FLUSH_WITHIN
from andon.outcome import TraceEvent
from andon.token import body_token

_LOOK_AGAIN = 1.0  # seconds


def _lives(thread: threading.Thread | None) -> bool:
    """One that `threading` has not started (`_DummyThread`) says so for ever."""
    return (
        thread is not None
        and thread.is_alive()
        and (thread.ident is None or thread.ident in sys._current_frames())
    )


class Waits(Submitter):
    """The storey of a runtime above `Submitter`. Each of the waits ends when another thread closes
    the pool, or andon itself fails."""

    def __init__(
        self,
        engine: Engine,
        config: Config,
        name: str,
        trace: Callable[[TraceEvent], object] | None,
    ) -> None:
        super().__init__(engine, config, name, trace)
        self._prepares = False  # somebody waits for initializers, or for workers that leave
        self._hurries = False
        self._waiting: list[threading.Thread] = []  # in `wait_left`
        self.callbacks = CallbackThread(f"{name}-callbacks")

    def wait_idle(self, *, callbacks: bool) -> None:
        """Block until every task of every group is over; with `callbacks`, until those have run
        that were to be called then, and what they have submitted is over as well (S47): a Ctrl-C
        that was noted, or a close by somebody else, ends that. The program's own signal handlers
        run meanwhile, and may raise; not so without `callbacks`, where all has been stopped."""
        if not callbacks:
            self.idle.wait(self._is_idle)
            return
        while True:
            gate.wait(partial(self.idle.wait, self._is_idle))
            if self.callbacks.is_current() or not self._wait_called() or self._is_idle():
                return

    def _is_idle(self) -> bool:
        return not self._tasks or self.crashed is not None

    def _is_given_up(self) -> bool:
        interrupted = gate.on_main() and bridge.pending
        return self.closing or self.crashed is not None or interrupted

    def _wait_called(self) -> bool:
        called: list[bool] = []

        def note() -> None:
            called.append(True)
            self.idle.notify()

        def over() -> bool:
            return bool(called) or self._is_given_up()

        with gate:
            with self._lock:  # behind the notices of tasks that are over, and then their callbacks
                self._notices.append(partial(self.callbacks.then, note))
            self._deliver()
        gate.wait(partial(self.idle.wait, over))
        return bool(called)

    def wait_left(self, loose: Group) -> None:
        """Block until each open group but `loose` is over, or nothing more can come of it but from
        the body that we stand in, or from one that waits here as well. Ends and is interrupted as
        `wait_idle` with `callbacks`."""
        around = set(self._groups_around())
        here = threading.current_thread()

        def left() -> bool:
            return self._is_given_up() or not any(
                _lives(opener := group.opener()) and opener not in self._waiting
                for group in list(self._groups.values())
                if not (group.body_left or group is loose or group in around)
            )

        self._waiting.append(here)
        try:
            self.idle.notify()
            # Nobody is told when a thread ends, and leaves its group open.
            while not gate.wait(partial(self.idle.wait, left, _LOOK_AGAIN)):
                pass
        finally:
            self._waiting.remove(here)

    def dismiss(self) -> None:
        """No more work is expected: let idle workers leave. Does not block; should some come all
        the same, it gets other workers."""
        with gate:
            if self._must_leave(self.dismiss):
                return
            with self._lock:
                if not self._tasks:
                    self._caps.dismiss()

    def wait_flushed(self, within: float | None = FLUSH_WITHIN) -> bool:
        """Nothing is left to do: block until the workers have left, at most so many seconds; False
        where that was too short. What they have put into a queue waits for whoever reads it, which
        nobody may. A stop of all ends that, and what else ends `wait_idle` with `callbacks`."""
        self._prepares = True
        self.dismiss()

        def flushed() -> bool:
            return self._hurries or self._is_given_up() or not self._caps.leaving()

        return gate.wait(partial(self.idle.wait, flushed, within))

    def hurry(self) -> None:
        """Nobody waits, from now on, for what workers still put out."""
        self._hurries = True
        self.idle.notify()

    def _groups_around(self) -> Iterator[Group]:
        """Those whose bodies this thread is in, or whose bodies wait for it."""
        groups = list(self._groups.values())
        yield from (group for group in groups if group.opener() is threading.current_thread())
        token = body_token()
        while token is not None:
            group = next((g for g in groups if g.token is token), None)
            token = None if group is None else group.parent
            if group is not None:
                yield group

    def wait_prepared(self, group: Group) -> None:
        """Block until every worker that was started has run the initializer, or the group stops."""
        if self._caps.preparing():
            self._prepares = True

            def prepared() -> bool:
                over = group.reason is not None or group.over or self.closing
                return over or self.crashed is not None or not self._caps.preparing()

            gate.wait(partial(self.idle.wait, prepared))
