"""How the body of a group is left: the group ends, and what there is to raise is raised.

    leave ──▶ _end: judge the body's error, stop or finish, wait, close ──▶ conclude: raise
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from andon._cancelled import Cancelled
from andon._gate import gate, sheltered
from andon._runtime.endings import note_failures, raise_group
from andon._runtime.groups import Group
from andon._runtime.interrupts import bridge
from andon._runtime.runtime import Runtime
from andon._runtime.tasks import note_also
from andon._runtime.unread import warn_unread
from andon._threads import leave_to
from andon._words import describe
from andon.errors import TaskCancelledError
from andon.outcome import ReasonKind

Stop = tuple[ReasonKind, str, int | None]
"""Why a group is to stop: the kind, the message, and the number of the task that is the cause."""

Raise = Callable[[Group, BaseException | None, object, Sequence[BaseException]], None]

_BARE = (KeyboardInterrupt, SystemExit, GeneratorExit, Cancelled)


class Leaving:
    """The half of a scope that ends it."""

    runtime: Runtime
    group: Group
    _raise: Raise  # one of the three in endings.py
    _over: bool
    _own: bool  # the pool was opened for this scope

    def unbind(self) -> None:
        """The caller's context is the body no more."""
        raise NotImplementedError

    def close(self) -> bool:
        """Close what is ours. Was there a Ctrl-C?"""
        raise NotImplementedError

    @sheltered
    def leave(self, error: BaseException | None, owner: object) -> bool:
        """The body is over, with `error` or without. Blocks until the group is closed and every
        worker of it idle or reaped (S5); then raises what there is to raise. True where `error`
        was the group's own `Cancelled`, and is absorbed (S14)."""
        ended: tuple[bool, bool, list[BaseException]] | None = None
        try:
            with gate:
                if self.runtime.foreign or self._over:
                    return False  # a forked child: nothing here is ours to wait for (S38)
                if self.runtime.must_not_wait():
                    self._end_elsewhere(error)
                else:
                    ended = self._end(error)
        except BaseException as raised:
            if ended is None:
                raise
            late = ended[-1]
            late.append(raised)  # by a handler that was held back while all was closed
        if ended is None:
            if not isinstance(error, GeneratorExit):
                self.runtime.check_wait()  # says so
            return False
        absorbed, interrupted, late = ended
        outer = next((e for e in late if isinstance(e, Cancelled)), None)
        late = [e for e in late if not isinstance(e, Cancelled | GeneratorExit)]
        if not late:
            if outer is None:
                return self.conclude(error, owner, absorbed, interrupted)
            self.conclude(outer, owner, False, interrupted)
            raise outer
        # What came to an end here is in the `__context__` of what a signal handler raised.
        ours = absorbed or error is None or isinstance(error, GeneratorExit | Cancelled)
        errors = late if ours or error is None else [error, *late]
        bare = next((e for e in errors if isinstance(e, KeyboardInterrupt | SystemExit)), None)
        if bare is None:
            try:
                return self.conclude(errors[-1], owner, False, interrupted, errors[:-1])
            except KeyboardInterrupt as interrupt:
                note_also(interrupt, errors)
                raise
        note_also(bare, errors)
        self.conclude(bare, owner, False, interrupted)
        if bare is error:
            return False
        raise bare

    def conclude(
        self,
        error: BaseException | None,
        owner: object,
        absorbed: bool,
        interrupted: bool = False,
        more: Sequence[BaseException] = (),
        parents: bool = True,
    ) -> bool:
        """All is over: raise what there is to raise; True where the body's error is absorbed.
        `more`: errors of what the body has run beside itself. `parents`: where an outer scope has
        stopped this one, raise its `Cancelled`."""
        group = self.group
        bridge.raise_pending()
        if isinstance(error, _BARE) and not absorbed:
            note_failures(error, group, owner)
            if interrupted and isinstance(error, GeneratorExit):
                bridge.again()
            return False
        if interrupted:
            interrupt = KeyboardInterrupt()
            note_failures(interrupt, group, owner)
            raise interrupt from None
        body = None if absorbed else error
        if parents and group.reason is not None and group.reason.kind is ReasonKind.PARENT:
            self._raise_parents(body, owner, more)
        self._raise(group, body, owner, more)
        return True

    @sheltered
    def abandon(self, error: BaseException) -> None:
        """Leave, by an error that is no business of the group's; raises nothing of its own."""
        with gate:
            if self.runtime.foreign or self._over:
                return
            _, interrupted, late = self._end(error)
        if interrupted and not isinstance(error, KeyboardInterrupt):
            bridge.again()
        if late:  # it is nobody's business here but the program's
            raise late[0]

    @sheltered
    def let_go(self, leave: Callable[[], None]) -> None:
        """Nobody takes the results, and nobody waits for what was submitted. `leave` leaves the
        body, now or when it has submitted the rest."""
        with gate:
            if self.runtime.foreign or self._over:
                return
            leave()
            if self.close():
                bridge.again()

    def _end_elsewhere(self, error: BaseException | None) -> None:
        """The collector drops an iterator of ours where nobody may wait: stop it, and leave the
        rest to a thread."""
        self._tell(error)
        leave_to("andon-leaver", self._end, error)

    @sheltered
    def _end(self, error: BaseException | None) -> tuple[bool, bool, list[BaseException]]:
        """Stop or finish, wait, and close what is ours. Was the error absorbed? Was there a
        Ctrl-C meanwhile? And what have signal handlers of the program's own, and its filters of
        warnings, raised into it?"""
        late: list[BaseException] = []
        with gate:
            interrupted = False
            try:
                self.unbind()
                absorbed = False
                try:
                    absorbed = self._tell(error)
                except BaseException as worse:  # whatever it is, the group must not stay open
                    late.append(worse)
                    self._stop((ReasonKind.BODY, describe(worse), None))
                finally:
                    self.runtime.leave_body(self.group)
                self._wait_closed(late)
                flushed = self.wait_flushed()
            finally:
                interrupted = self.close()
        if not flushed:
            try:
                warn_unread()
            except BaseException as raised:
                late.append(raised)
        return absorbed, interrupted, late

    def wait_flushed(self) -> bool:
        """The group is over: where it has ended well, and the pool is ours, wait for what workers
        have put into queues. False where they were not through with that in time."""
        return not self._own or self.group.reason is not None or self.runtime.wait_flushed()

    def hurry(self) -> None:
        """Not, or not any longer. Any thread."""
        if self._own:
            self.runtime.hurry()

    def _wait_closed(self, late: list[BaseException]) -> None:
        """Wait for the end. What a signal handler of the program's own raises meanwhile is as if
        the body had raised it (S31). The first stops the group, a second kills; more end this."""
        stop: Stop | None = None
        for hard in (None, None, 0.0):
            try:
                if stop is not None:
                    self._stop(stop, hard)
                self.group.wait_closed()
                return
            except BaseException as error:
                crashed = self.runtime.crashed is not None
                if hard is not None or crashed or self.runtime.must_not_wait():
                    note_also(error, late)
                    raise
                absorbed, stop = self.judge(error)
                if not absorbed:
                    late.append(error)

    def _tell(self, error: BaseException | None) -> bool:
        absorbed, stop = self.judge(error)
        if stop is not None:
            self._stop(stop)
        return absorbed

    def _stop(self, stop: Stop, hard: float | None = None) -> None:
        kind, message, source = stop
        self.runtime.stop(self.group, kind, message, source=source, grace=hard, kill_after=hard)

    def judge(self, error: BaseException | None) -> tuple[bool, Stop | None]:
        """What an error that leaves the body means: is it the group's own, to be absorbed? And
        with what reason must the group stop?"""
        group = self.group
        if error is None:
            return True, None
        if isinstance(error, Cancelled):
            if error.token is group.token:
                return True, None
            return False, (ReasonKind.PARENT, str(error), None)
        if isinstance(error, TaskCancelledError) and error.reason is group.reason is not None:
            return True, None  # the body waited for a task that our own stop has ended
        if isinstance(error, KeyboardInterrupt):
            return False, (ReasonKind.INTERRUPT, "Ctrl-C", None)
        if isinstance(error, GeneratorExit):
            return False, (ReasonKind.CANCEL, "the loop over its results was left", None)
        source = next((o.index for o in list(group.failures) if o.error is error), None)
        if source is not None:
            # A task's own error leaves the body: it is that failure, not a second one (S31).
            return False, (ReasonKind.FAILURE, f"task {source} failed", source)
        return False, (ReasonKind.BODY, describe(error), None)

    def _raise_parents(
        self, body: BaseException | None, owner: object, more: Sequence[BaseException]
    ) -> None:
        parent = self.group.parent
        if parent is None:
            return
        try:
            parent.check()
        except Cancelled:
            # Our own failures are never dropped because an outer stop came first (S33).
            raise_group(self.group, body, owner, more)
            raise
