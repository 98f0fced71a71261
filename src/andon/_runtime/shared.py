"""What `Pool` and `ProcessPoolExecutor` share: a warm runtime, and a group for lone calls."""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from typing import Any

from andon._runtime import registry
from andon._runtime.groups import Group
from andon._runtime.options import GRACE, KILL_AFTER, open_runtime
from andon._runtime.runtime import Runtime
from andon._runtime.scope import Scope, check_common
from andon.outcome import ReasonKind
from andon.policy import collect_all
from andon.token import Token

_END = 10.0  # seconds that closing waits for workers that have nothing left to do


class SharedPool:
    """A runtime that outlives its groups. Dropped unclosed: a warning, then a kill (S38)."""

    def __init__(
        self,
        *,
        deadline: Any,
        grace: Any,
        kill_after: Any,
        timeout: Any,
        token: Any,
        policy: Any,
        **options: Any,
    ) -> None:
        self._times = check_common(deadline, grace, kill_after, timeout, policy, token)
        self._policy = policy
        self._runtime = open_runtime(drop_in=True, **options)
        self._links: tuple[Token, ...] = () if token is None else (token,)
        # Lone calls stand alone: one failure cancels nothing.
        self._loose = self._runtime.open_group(
            collect_all(),
            deadline=None,
            grace=GRACE if self._times[1] is None else self._times[1],
            kill_after=KILL_AFTER if self._times[2] is None else self._times[2],
            links=self._links,
            keep_outcomes=False,
        )
        self._finalizer = weakref.finalize(self, _abandon, self._runtime, repr(type(self).__name__))
        self._finalizer.atexit = False  # the registry sees to it

    def _open_scope(self, *, keep_outcomes: bool = False) -> Scope:
        return Scope(
            self._runtime,
            own=False,
            policy=self._policy,
            deadline=self._times[0],
            grace=self._times[1],
            kill_after=self._times[2],
            links=self._links,
            keep_outcomes=keep_outcomes,
            bare=True,
            lexical=False,
        )

    def _open_group(self, policy: Any) -> Group:
        """A group without a body in this thread, for calls that return before they are over."""
        deadline, grace, kill_after, _ = self._times
        return self._runtime.open_group(
            policy,
            deadline=None if deadline is None else time.monotonic() + deadline,
            grace=GRACE if grace is None else grace,
            kill_after=KILL_AFTER if kill_after is None else kill_after,
            links=self._links,
            keep_outcomes=False,
        )

    def _wait_idle(self) -> None:
        """Block until every task of every group is over."""
        runtime = self._runtime
        runtime.idle.wait(lambda: not runtime.busy() or runtime.crashed is not None)

    def _shut_down(self, *, kill: bool) -> None:
        """Stop or finish everything, then end the workers. Idempotent."""
        runtime = self._runtime
        if runtime.foreign:
            return
        self._finalizer.detach()
        if kill:
            runtime.stop_all(ReasonKind.SHUTDOWN, "the pool was shut down", kill=True)
        runtime.leave_body(self._loose)
        self._wait_idle()
        runtime.close(_END)


def _abandon(runtime: Runtime, kind: str) -> None:
    if runtime.foreign or runtime.closing:
        return
    warnings.warn(
        f"an andon {kind} was dropped without being closed; its workers are killed. "
        "Use it in a `with`, or call its closing method",
        ResourceWarning,
        stacklevel=2,
    )
    # The collector runs in any thread, perhaps in the driver, perhaps under the lock.
    threading.Thread(
        target=registry.shut_down, args=(runtime,), name="andon-abandoned", daemon=True
    ).start()
