"""How a scope in an event loop waits, and how it is stopped (see scope.py).

    a failure, a cancellation, Ctrl-C ── _order ──▶ the runtime ── _on_change ──▶ Mailbox
                                                                                    │
    the body, siblings, awaiting tasks ◀── _abort, when their step has come ────────┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from andon._cancelled import raise_cancelled
from andon._gate import gate
from andon._grouping import Grouping
from andon._runtime.leaving import Stop
from andon._runtime.tasks import Task
from andon.aio.kept import Keeper
from andon.aio.lane import Lane
from andon.aio.mailbox import Mailbox
from andon.aio.members import Members, interrupted
from andon.outcome import ReasonKind


class Stopping(Grouping):
    """The half of a loop's scope that does not know how it is entered and left."""

    _loop: asyncio.AbstractEventLoop
    _mailbox: Mailbox
    _members: Members
    _lane: Lane  # orders to the runtime
    _kept: Keeper
    _outer: Stopping | None  # the scope of this asyncio task, or of the one that made it

    def _prepare(self, outer: Stopping | None) -> None:
        self._outer = outer
        self._stopping_for: str | None = None  # a stop that is on its way to the machine
        self._aborting = self._aborted = False
        self._after_abort: list[Callable[[], None]] = []
        self._was_interrupted = interrupted()
        self._flushed = True  # nobody has lost what its tasks have put into queues
        self._over = False  # it was left
        self._gone = False  # nobody in the loop sees to the end any more

    # Waiting -------------------------------------------------------------------------------------

    async def _until(self, ready: Callable[[], bool]) -> asyncio.CancelledError | None:
        """Wait for `ready()`, whatever is cancelled meanwhile; the first such CancelledError."""
        cancelled: asyncio.CancelledError | None = None
        while not ready():
            change = self._kept().change = self._loop.create_future()
            try:
                await change
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
                self._take_cancel(error)
        return cancelled

    async def _do(
        self, job: Callable[[], object], *, at_once: bool = False
    ) -> asyncio.CancelledError | None:
        """Have the lane do it after all that it was given, and wait for that; or do it here, where
        nothing is before it and it is quick."""
        if at_once and not self._lane.busy:
            job()
            return None
        done: list[bool] = []

        def do() -> None:
            try:
                job()
            finally:
                done.append(True)
                self._mailbox.post(self._wake)

        self._lane.post(do)
        return await self._until(lambda: bool(done))

    async def _read(self) -> None:
        """Have the loop take all that the pool has told it."""
        read: list[bool] = []

        def note() -> None:
            read.append(True)
            self._wake()

        self._mailbox.post(note)
        await self._until(lambda: bool(read))

    def _wake(self) -> None:
        change = self._kept().change
        if change is not None and not change.done():
            change.set_result(None)

    def _take_cancel(self, error: asyncio.CancelledError) -> None:
        members = self._members
        again = members.cancelled is not None
        if not members.felt(error) or self._scope is None:
            return
        if not self._take_interrupt(again):
            self._order((ReasonKind.PARENT, "its asyncio task was cancelled", None))

    def _take_interrupt(self, again: bool) -> bool:
        """Does a cancellation come of a Ctrl-C? The first stops, the second kills (S32)."""
        if self._was_interrupted or not interrupted():
            return False
        self._order((ReasonKind.INTERRUPT, "Ctrl-C", None), 0.0 if again else None)
        return True

    # Stopping ------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Of the body's operations (S14)."""
        group = self._entered().group
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if not here:
            raise RuntimeError(f"{self!r} belongs to an event loop: use it in that loop's thread")
        group.check()
        if self._stopping_for is not None:
            raise_cancelled(self._stopping_for, group.token)

    def _order(self, stop: Stop, hard: float | None = None) -> None:
        """Stop the group; never blocks. Any thread."""
        scope = self._entered()
        kind, message, source = stop
        if self._stopping_for is None:
            self._stopping_for = message
        runtime, group = scope.runtime, scope.group
        scope.hurry()  # the lane itself may be waiting

        def order() -> None:
            runtime.stop(group, kind, message, source=source, grace=hard, kill_after=hard)
            if group.over:  # it tells nothing any more, but siblings may have been made since
                self._mailbox.post(self._stopped)

        self._quickly(order)

    def stop_task(self, task: Task) -> None:
        """For a future: stop its task alone. Where the group is stopping, that is seen to."""
        group = task.group
        if group.reason is None or not group.token.is_set():
            self._quickly(task.cancel)

    def cancelled_again(self) -> None:
        """For a future: who awaits it was cancelled again."""
        self._take_interrupt(True)

    def _quickly(self, job: Callable[[], object]) -> None:
        with gate:
            if self._lane.busy or not self._entered().runtime.is_quick():
                self._lane.post(job)
            else:
                job()

    def _on_change(self) -> None:
        """The group is stopping, has been told why, or is over. Any thread."""
        scope = self._entered()
        group = scope.group
        # A group that drains has not pulled its word: what runs goes on to its end.
        if (group.reason is not None and group.told and group.token.is_set()) or (
            scope.runtime.crashed is not None
        ):
            self._mailbox.post(self._stopped)
        self._mailbox.post(self._wake)

    def _stopped(self) -> None:
        if not self._aborting:
            self._aborting = True
            self._loop.call_soon(self._abort)

    def _abort(self) -> None:
        with gate:
            self._cancel_all()

    def _cancel_all(self) -> None:
        if self._over:  # left before its step came: there is nothing of its own to cancel
            self._abort_inner()
            return
        outer = self._outer
        by_outer = self._is_stopped_by_outer()
        if by_outer and outer is not None and not outer._aborted:
            outer._after_abort.append(self._abort)  # first it cancels its own
            return
        for results in self._kept().maps:
            results.close()  # what has ended can still be taken
        self._members.cancel_siblings()
        if self._gone:
            pass  # its body is nobody's: the task that ran it has gone on to something else
        elif by_outer:
            self._members.cancel_for_good()
        else:
            self._members.cancel_body()
        self._abort_inner()
        self._wake()

    def _abort_inner(self) -> None:
        """The turn of the scopes within, whose letters came before ours."""
        self._aborted = True
        waiting, self._after_abort = self._after_abort, []
        for abort in waiting:
            abort()

    def _is_stopped_by_outer(self) -> bool:
        """Is this group stopping because of a scope of the same loop around it?"""
        group, outer = self._entered().group, self._outer
        return (
            outer is not None
            and not outer._gone
            and outer._loop is self._loop
            and outer._entered().group.token is group.parent
            and group.reason is not None
            and group.reason.kind is ReasonKind.PARENT
            and group.parent.is_set()
        )
