"""What `Pool` and `ProcessPoolExecutor` share: a warm runtime, and a group for lone calls."""

from __future__ import annotations

import os
import time
import warnings
import weakref
from types import TracebackType
from typing import Any

from andon._gate import gate, sheltered
from andon._runtime import registry
from andon._runtime.groups import Group
from andon._runtime.interrupts import bridge
from andon._runtime.options import open_runtime
from andon._runtime.runtime import Runtime
from andon._runtime.scope import Scope, check_common, open_scope
from andon._runtime.surroundings import check_variables
from andon._runtime.tasks import note_also
from andon._threads import leave_to
from andon.errors import PoolClosedError
from andon.outcome import ReasonKind
from andon.policy import Policy, collect_all
from andon.token import Token

_END = 10.0  # seconds that closing waits for workers that have nothing left to do


class SharedPool:
    """A runtime that outlives its groups. Dropped unclosed: a warning, then a kill (S38); an
    executor finishes its work first, as the standard one does, and that is worth no warning."""

    _held = False  # the bridge, for Ctrl-C
    _closing = False  # it takes no more work
    _refusal: str  # what it then says
    _exit_kills: bool  # what leaving the `with`, or being dropped, does to accepted work

    def __init__(
        self,
        *,
        deadline: Any,
        grace: Any,
        kill_after: Any,
        timeout: Any,
        token: Any,
        policy: Any,
        contextvars: Any,
        lone: Policy | None = None,
        **options: Any,
    ) -> None:
        self._times = check_common(deadline, grace, kill_after, timeout, policy, token)
        self._policy = policy
        self._variables = check_variables(contextvars)
        self._links: tuple[Token, ...] = () if token is None else (token,)
        runtime: Runtime | None = None
        try:
            with gate:
                # For as long as it is open: lone calls have no scope that would do it.
                self._held = bridge.hold()
                self._runtime = runtime = open_runtime(drop_in=True, **options)
                runtime.finishes = not self._exit_kills
                # Lone calls stand alone: one failure cancels nothing, and nobody asks for it but
                # its future, for as long as the pool is open; unless they have a policy.
                self._loose = self._open_group(
                    lone or collect_all(), deadline=None, keep_failures=lone is not None
                )
                name = repr(type(self).__name__)
                # The list of finalizers would keep the runtime, and what it leads to of the
                # program's, as long as the process; the registry does so until it is closed.
                ref = weakref.ref(runtime)
                self._finalizer = weakref.finalize(
                    self, _abandon, ref, name, self._held, os.getpid()
                )
                self._finalizer.atexit = False  # the registry sees to it
        except BaseException:
            if runtime is not None:
                registry.shut_down(runtime)
            self._release()
            raise

    def _check_running(self) -> None:
        if self._closing:
            raise PoolClosedError(self._refusal)

    @sheltered
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close; after a Ctrl-C, what runs is stopped and what waits never starts."""
        self._closing = True
        self._shut_down(kill=self._exit_kills, interrupted=isinstance(error, KeyboardInterrupt))

    def _release(self) -> None:
        if self._held:
            self._held = False
            bridge.release()

    def _open_scope(self, *, keep_outcomes: bool = False) -> Scope:
        return open_scope(
            self._runtime,
            policy=self._policy,
            deadline=self._times[0],
            grace=self._times[1],
            kill_after=self._times[2],
            links=self._links,
            keep_outcomes=keep_outcomes,
            bare=True,
            lexical=False,
            variables=self._variables,
        )

    def _open_group(
        self, policy: Any, deadline: float | None, *, keep_failures: bool = True
    ) -> Group:
        """A group without a body in this thread, for calls that return before they are over."""
        _, grace, kill_after, _ = self._times
        return self._runtime.open_group(
            policy,
            deadline=None if deadline is None else time.monotonic() + deadline,
            grace=grace,
            kill_after=kill_after,
            links=self._links,
            keep_outcomes=False,
            keep_failures=keep_failures,
            variables=self._variables,
        )

    def _finish(self) -> None:
        """Block for what is still to come, before the last tasks and the workers are waited for."""

    @sheltered
    def _shut_down(self, *, kill: bool, interrupted: bool = False) -> None:
        """Stop or finish everything, then end the workers. Idempotent. `interrupted`: because of
        a Ctrl-C that has been raised already; one that comes meanwhile is raised at the end.

        While accepted work is waited for, a signal handler of the program's own may raise: then the
        pool is as it was, but takes no more work, and may be shut down again."""
        runtime = self._runtime
        error: BaseException | None = None
        with gate:
            if runtime.foreign:
                return
            if runtime.must_not_wait():  # a finalizer, most likely
                self._shut_down_elsewhere(kill=kill)
                return
            bridged = bridge.enter(int(interrupted))
            try:
                if bridged:
                    runtime.heed_interrupts()
                if kill:
                    runtime.stop_all(ReasonKind.SHUTDOWN, "the pool was shut down", kill=True)
                elif interrupted:
                    runtime.stop(self._loose, ReasonKind.INTERRUPT, "Ctrl-C")
                else:
                    self._finish()
                runtime.leave_body(self._loose)
                runtime.wait_idle(callbacks=not (kill or interrupted))
                if not interrupted:
                    runtime.wait_flushed(None)
                self._finalizer.detach()
                try:
                    runtime.close(_END)
                finally:
                    self._release()
            except BaseException as failed:
                error = failed
                raise
            finally:
                if bridged and bridge.leave() and not interrupted:
                    interrupt = KeyboardInterrupt()
                    note_also(interrupt, () if error is None else (error,))
                    raise interrupt from None

    def _shut_down_elsewhere(self, *, kill: bool) -> None:
        leave_to("andon-shutdown", self._shut_down, kill=kill)


def _abandon(ref: weakref.ref[Runtime], kind: str, held: bool, owner: int) -> None:
    if os.getpid() != owner:  # S38
        return
    if held:
        bridge.release()
    runtime = ref()
    if runtime is None or runtime.closing:
        return
    # The collector runs in any thread, perhaps in the driver, perhaps under the lock.
    leave_to("andon-abandoned", registry.shut_down, runtime)
    if not runtime.finishes:  # last: it may be made to raise
        warnings.warn(
            f"an andon {kind} was dropped without being closed; its workers are killed. "
            "Use it in a `with`, or call its closing method",
            ResourceWarning,
            stacklevel=2,
        )
