"""The body of a group: entering it, what may be done in it, and how it is left.

`TaskGroup`, `map`, `imap` and the maps of the pools all open and leave their groups here.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from contextvars import Token as Reset
from typing import Any

from andon._cancelled import Cancelled
from andon._engines.inline import running
from andon._gate import gate
from andon._locks import make_lock
from andon._runtime.endings import (
    note_failures,
    raise_first,
    raise_first_quietly,
    raise_group,
)
from andon._runtime.groups import Group
from andon._runtime.interrupts import bridge, sheltered
from andon._runtime.options import GRACE, KILL_AFTER, make_policy, seconds, seconds_or
from andon._runtime.runtime import Runtime
from andon._runtime.surroundings import Variables
from andon._threads import start
from andon._worker.state import current
from andon.errors import TaskCancelledError
from andon.outcome import ReasonKind
from andon.task import set_body_hook, task_token
from andon.token import Token

Stop = tuple[ReasonKind, str, int | None]
"""Why a group is to stop: the kind, the message, and the number of the task that is the cause."""

_body: ContextVar[Group | None] = ContextVar("andon_body", default=None)
_BARE = (KeyboardInterrupt, SystemExit, GeneratorExit, Cancelled)


def _body_token() -> Token | None:
    """The token of the innermost body, or of the inline task, that runs in this context."""
    group = _body.get()
    if group is None or group.closed or group.runtime.foreign:  # inherited by a forked worker
        return running.get()
    return group.token


# One for each that is open in this process; while there are none, `check` need not look for a body.
_scopes: list[None] = []


def _inner_ladder(grace: float, kill_after: float) -> tuple[float, float]:
    """How fast a group goes when what it stands in is stopped: in half of its own times and in
    half of the outer ones, so that its tree is gone before the outer ladder's kill (S37)."""
    group = _body.get()
    if group is not None and not group.closed and not group.runtime.foreign:
        outer = group.ref.grace, group.ref.kill_after
    elif current.row is not None:
        outer = current.row.ladder
    else:
        outer = math.inf, math.inf
    return min(grace, outer[0]) / 2, min(kill_after, outer[1]) / 2


_counting = make_lock()


def _enter() -> None:
    with _counting:
        _scopes.append(None)
        set_body_hook(_body_token)


def _leave() -> None:
    with _counting:
        if _scopes:
            _scopes.pop()
        if not _scopes:
            set_body_hook(None)


def _after_fork_in_child() -> None:
    global _counting
    _scopes.clear()
    _counting = make_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def open_scope(runtime: Runtime | Callable[[], Runtime], **options: Any) -> Scope:
    """Open a group, on a runtime of its own where `runtime` is what opens one.

    In the main thread a Ctrl-C waits until all is open; then all is closed, and it is raised.
    """
    scope: Scope | None = None
    try:
        with gate:
            held = bridge.hold()
            try:
                if isinstance(runtime, Runtime):
                    scope = Scope(runtime, own=False, **options)
                else:
                    scope = Scope(runtime(), own=True, **options)
            finally:
                if held:
                    bridge.release()
    except BaseException as error:
        if scope is not None:
            scope.abandon(error)
        raise
    return scope


class Scope:
    """One group's body. `own`: the runtime is the scope's own and is closed with it."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        own: bool,
        policy: Any = None,
        deadline: float | None,
        grace: float,
        kill_after: float,
        token: Token | None = None,
        links: tuple[Token, ...] = (),
        keep_outcomes: bool = True,
        bare: bool = False,
        lexical: bool = True,
        bridged: bool = True,
        variables: Variables = (),
    ) -> None:
        self.runtime = runtime
        self._own = own
        self._raise = raise_group if not bare else raise_first_quietly if lexical else raise_first
        self._over = False
        self._reset: Reset[Group | None] | None = None
        self._bridged = bridged and bridge.enter()
        _enter()
        parent = _body_token() or task_token()
        try:
            self.group = runtime.open_group(
                make_policy(policy),
                deadline=None if deadline is None else time.monotonic() + deadline,
                grace=grace,
                kill_after=kill_after,
                links=links if token is None else (*links, token),
                parent=parent,
                inner_ladder=_inner_ladder(grace, kill_after),
                keep_outcomes=keep_outcomes,
                variables=variables,
            )
        except BaseException:
            self.close()
            raise
        self.group.in_main = self._bridged
        if lexical:
            self.bind()

    def bind(self) -> None:
        """From here on the caller's context is the body."""
        self._reset = _body.set(self.group)

    def unbind(self) -> None:
        """It is so no more."""
        if self._reset is not None:
            with suppress(ValueError):  # left in another context than it was entered in
                _body.reset(self._reset)
            self._reset = None

    @sheltered
    def leave(self, error: BaseException | None, owner: object) -> bool:
        """The body is over, with `error` or without. Blocks until the group is closed and every
        worker of it idle or reaped (S5); then raises what there is to raise. True where `error`
        was the group's own `Cancelled`, and is absorbed (S14)."""
        if self.runtime.foreign or self._over:
            return False  # a forked child: nothing here is ours to wait for (S38)
        if self.runtime.must_not_wait():
            self._end_elsewhere(error)
            if not isinstance(error, GeneratorExit):
                self.runtime.check_wait()  # says so
            return False
        absorbed, interrupted = self._end(error)
        return self.conclude(error, owner, absorbed, interrupted)

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
        if self.runtime.foreign or self._over:
            return
        if self._end(error)[1] and not isinstance(error, KeyboardInterrupt):
            bridge.again()

    @sheltered
    def let_go(self, leave: Callable[[], None]) -> None:
        """Nobody takes the results, and nobody waits for what was submitted. `leave` leaves the
        body, now or when it has submitted the rest."""
        if self.runtime.foreign or self._over:
            return
        with gate:
            leave()
            if self.close():
                bridge.again()

    def _end_elsewhere(self, error: BaseException | None) -> None:
        """The collector drops an iterator of ours where nobody may wait: stop it, and leave the
        rest to a thread."""
        self._tell(error)
        with suppress(RuntimeError):  # no thread can be had: the interpreter's exit sees to it
            start(
                threading.Thread(
                    target=self._end, args=(error,), name="andon-leaver", daemon=True
                )
            )

    @sheltered
    def _end(self, error: BaseException | None) -> tuple[bool, bool]:
        """Stop or finish, wait, and close what is ours. Was the error absorbed? Was there a
        Ctrl-C meanwhile?"""
        with gate:
            interrupted = False
            try:
                self.unbind()
                absorbed = self._tell(error)
                self.runtime.leave_body(self.group)
                self._wait_closed()
            finally:
                interrupted = self.close()
        return absorbed, interrupted

    def _wait_closed(self) -> None:
        try:
            self.group.wait_closed()
        except BaseException as error:
            # Out of a signal handler of the program's own: as if the body had raised it (S31).
            if self.runtime.crashed is None and not self.runtime.must_not_wait():
                self._tell(error)
                self.group.wait_closed()  # a second one ends it by the close
            raise

    def _tell(self, error: BaseException | None) -> bool:
        absorbed, stop = self.judge(error)
        if stop is not None:
            kind, message, source = stop
            self.runtime.stop(self.group, kind, message, source=source)
        return absorbed

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
        if group.owns_failure(error):
            # A task's own error leaves the body: it is that failure, not a second one (S31).
            source = next(o.index for o in group.failures if o.error is error)
            return False, (ReasonKind.FAILURE, f"task {source} failed", source)
        return False, (ReasonKind.BODY, f"{type(error).__name__}: {error}", None)

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

    def close(self) -> bool:
        """Close what is ours; also where opening or waiting failed. Was there a Ctrl-C?"""
        self._over = True
        _leave()
        try:
            if self._own:
                self.runtime.close()
        finally:
            interrupted = self._bridged and bridge.leave()
        return interrupted


Times = tuple[float | None, float, float, float | None]
"""Deadline, grace, kill_after and timeout, in seconds."""


def check_common(
    deadline: Any, grace: Any, kill_after: Any, timeout: Any, policy: Any, token: Any
) -> Times:
    """What every surface takes, checked before anything is opened; gives the four times."""
    make_policy(policy)
    if token is not None and not isinstance(token, Token):
        raise TypeError(f"token must be an andon.Event, not {token!r}")
    return (
        seconds("deadline", deadline),
        seconds_or("grace", grace, GRACE),
        seconds_or("kill_after", kill_after, KILL_AFTER),
        seconds("timeout", timeout, zero=False),
    )
