"""The body of a group: how it is entered, and who is in it; how it is left stands in leaving.py.

`TaskGroup`, `map`, `imap` and the maps of the pools all open and leave their groups here.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextvars import ContextVar
from contextvars import Token as Reset
from typing import Any

from andon._engines.inline import running
from andon._gate import gate
from andon._locks import make_lock
from andon._runtime.endings import raise_first, raise_first_quietly, raise_group
from andon._runtime.groups import Group
from andon._runtime.interrupts import bridge
from andon._runtime.leaving import Leaving
from andon._runtime.options import GRACE, KILL_AFTER, make_policy, seconds, seconds_or
from andon._runtime.runtime import Runtime
from andon._runtime.surroundings import Variables
from andon._worker.state import current
from andon.task import set_body_hook, task_token
from andon.token import Token

_body: ContextVar[Group | None] = ContextVar("andon_body", default=None)


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


class Scope(Leaving):
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
        self.timed = deadline is not None
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
            try:
                _body.reset(self._reset)
            except ValueError:  # left in another context than it was entered in
                pass
            self._reset = None

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
    if policy is not None:
        make_policy(policy)
    if token is not None and not isinstance(token, Token):
        raise TypeError(f"token must be an andon.Event, not {token!r}")
    return (
        seconds("deadline", deadline),
        seconds_or("grace", grace, GRACE),
        seconds_or("kill_after", kill_after, KILL_AFTER),
        seconds("timeout", timeout, zero=False),
    )
