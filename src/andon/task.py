"""What a task may call: all of it optional, all of it harmless elsewhere.

    check()           raise `Cancelled` if it is time to stop
    sleep(seconds)    sleep, but wake at once when it is; True says so
    shield(seconds)   hold the stop back for a critical section
    current_token()   the token that says so

In the body of a group, `check` and `sleep` are group operations: they raise the group's own
`Cancelled` once it is stopping (S14).
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from types import TracebackType

from andon._cancelled import raise_cancelled
from andon._gate import gate, passed_over
from andon._worker.checkpoint import check, set_look_closer
from andon._worker.signals import unwinding
from andon._worker.state import BY_TOKEN, NOTHING, current
from andon.token import (
    DONE,
    TASK,
    Token,
    body_token,
    check_seconds,
    own_token,
    wait_as_task,
)

_LONGEST = 1e9  # seconds that a shield holds; the row has 64 bits for the nanoseconds of its end

__all__ = ["check", "current_token", "set_body_hook", "shield", "sleep", "task_token"]


@passed_over
def _look_closer() -> None:
    state = current
    if state.body_hook is not None:
        body = body_token()
        if body is not None and body.is_set():
            raise_cancelled(body.reason or "", body)
    if state.attempt == NOTHING:
        return
    state.use()
    if not state.stopping():
        state.arm()  # unless it stops just now: then the next one looks again
    elif not state.shielded():
        raise state.cancelled(BY_TOKEN)


set_look_closer(_look_closer)


@passed_over
def sleep(seconds: float) -> bool:
    """Sleep for `seconds`; wake at once, and return True, when the running task should stop.

    In the body of a group it raises the group's `Cancelled` instead. Inside a `shield` it sleeps
    on. Outside of tasks and bodies it is `time.sleep`, and returns False.

        while not ready():
            if andon.sleep(0.5):
                return partial
    """
    check_seconds("seconds", seconds)
    state = current
    body = body_token()
    if state.attempt == NOTHING and body is None:
        time.sleep(seconds)
        return False
    if state.attempt != NOTHING:
        state.use()
    verdict = wait_as_task(_never, None, None if math.isinf(seconds) else seconds, by_task=True)
    if verdict == TASK and body is not None:
        raise state.cancelled(BY_TOKEN)  # the outer stop is on its way to this group
    return verdict in (TASK, DONE)


def _never() -> bool:
    return False


class shield:
    """`with shield(max_seconds):` holds the stop of the running task back for a critical section.

    Inside it `check` and `sleep` do not raise or wake, and no interrupt comes, until `max_seconds`
    are over. It never holds back the kill (S18). Leaving it is a checkpoint: it raises `Cancelled`
    if the task should stop, unless an error is on its way out already. A shield within a shield
    adds nothing. Outside of a task, and in a thread that the task has started, it does nothing.

        with andon.shield(2.0):
            commit()
    """

    __slots__ = ("_attempt", "_nanoseconds")

    def __init__(self, max_seconds: float) -> None:
        check_seconds("max_seconds", max_seconds)
        if math.isinf(max_seconds):
            raise ValueError(f"max_seconds must be finite, not {max_seconds!r}")
        self._nanoseconds = int(min(max_seconds, _LONGEST) * 1e9)
        self._attempt: int = NOTHING

    def __enter__(self) -> None:
        with gate:
            state = current
            if state.attempt == NOTHING or not gate.on_main():
                return
            self._attempt = state.attempt
            state.use()
            if state.shield_depth == 0:
                state.shield(time.monotonic_ns() + self._nanoseconds)
            state.shield_depth += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with gate:
            state = current
            if self._attempt == NOTHING or self._attempt != state.attempt:
                return
            state.shield_depth -= 1
            if state.shield_depth > 0:
                return
            state.shield(0)
            # A shield around clean-up, while the stop unwinds, must not cut the clean-up short.
            if kind is None and state.stopping() and not unwinding(sys.exception()):
                raise state.cancelled(BY_TOKEN)


def current_token() -> Token:
    """The token of the innermost group whose body runs here, or else of the running task.

    Asking for it counts as using it (S15): the task is trusted to look at it.

        andon.current_token().cancel("bad calibration")     # stop the line without an exception
    """
    token = body_token() or task_token()
    if token is None:
        raise RuntimeError(
            "current_token() works inside a task or the body of a TaskGroup; "
            "to make a token of your own, call andon.Event()"
        )
    return token


def task_token() -> Token | None:
    """The running task's own token, marked as used; None where no task runs."""
    if current.attempt == NOTHING:
        return None
    current.use()
    return own_token()


def set_body_hook(hook: Callable[[], Token | None] | None) -> None:
    """Tell how to find the innermost group whose body runs in this thread and context.

    Cheap: the runtime calls it with its hook whenever a group opens, since a worker starts
    without one even where it inherits the runtime, and with None when the last one is closed.
    While it is set, `check` takes its slower way.
    """
    current.body_hook = hook
    current.disarm()  # the next checkpoint finds out
