"""The asyncio side of a scope: the task that runs its body, and the body's sibling tasks."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any
from weakref import ref

from andon._cancelled import Cancelled

_BARE = (KeyboardInterrupt, SystemExit, Cancelled)  # a Cancelled of a scope around this one


class Members:
    """Who is cancelled when the scope stops, and which cancellations are whose.

    asyncio counts the requests to cancel a task (`cancelling`). The one that the scope itself
    makes, to get the body out of whatever it awaits, is taken back when the scope is left
    (`uncancel`); those of others stay, and their CancelledError leaves the scope.
    """

    # Invariants:
    #  1. All of it happens in the loop's thread.
    #  2. `errors` are in the order in which they came; `bare` is the first that leaves alone.
    #  3. The body's task is cancelled by us once at most, and never after the body was left.
    #  4. That task may be over before the body is (a fixture's): then there is nothing to cancel,
    #     until the body is left in another one (`left_in`).

    def __init__(self, loop: asyncio.AbstractEventLoop, body: asyncio.Task[Any]) -> None:
        self.loop = loop
        self._body = ref(body)  # what it waits for holds it; see `Kept`
        self.errors: list[BaseException] = []
        self.bare: BaseException | None = None
        self.left = False  # the body is over: what is cancelled now is the wait for the rest
        self.cancelled: asyncio.CancelledError | None = None  # by somebody outside
        self._siblings: set[asyncio.Task[Any]] = set()
        self._asked = False  # we have cancelled the body
        self._before = body.cancelling()

    @property
    def siblings(self) -> int:
        """How many tasks besides the body are there?"""
        return len(self._siblings)

    @property
    def was_cancelled(self) -> bool:
        """Has somebody else than us asked that the body's task end?"""
        return self._from_outside()

    def create(
        self,
        coro: Coroutine[Any, Any, Any],
        name: str | None,
        context: Context | None,
        on_done: Callable[[asyncio.Task[Any]], None],
    ) -> asyncio.Task[Any]:
        """Start a sibling; `on_done` is told when it is over."""
        if context is None:
            task = self.loop.create_task(coro, name=name)
        else:
            task = self.loop.create_task(coro, name=name, context=context)

        def over(task: asyncio.Task[Any]) -> None:
            self._siblings.discard(task)
            on_done(task)

        if task.done():  # an eager one
            over(task)
        else:
            self._siblings.add(task)
            task.add_done_callback(over)
        return task

    def left_in(self, task: asyncio.Task[Any] | None) -> None:
        """The body is over; `task` waits for the rest."""
        self.left = True
        if task is not None and task is not self._body():
            self._take_back()
            self._body = ref(task)
            self._before = task.cancelling()

    def fail(self, error: BaseException) -> None:
        """Note an error of the body or a sibling."""
        if isinstance(error, _BARE):
            self.bare = self.bare or error
        elif not any(error is each for each in self.errors):
            self.errors.append(error)

    def cancel_siblings(self) -> None:
        """Cancel them all."""
        for task in list(self._siblings):
            task.cancel()

    def cancel_body(self) -> None:
        """Get the body out of what it awaits; taken back by `finish`."""
        if not (self.left or self._asked):
            body = self._body()
            if body is not None:
                self._asked = body.cancel()

    def cancel_for_good(self) -> None:
        """The scope around this one is stopping: the body's task is to end, if that did not see
        to it itself."""
        body = self._body()
        if body is not None and not self._from_outside():
            body.cancel()

    def felt(self, error: asyncio.CancelledError) -> bool:
        """A CancelledError came: is it somebody else's than ours?"""
        if self._asked and not self._from_outside():
            return False
        if self.cancelled is None:
            self.cancelled = error
        return True

    def finish(self) -> asyncio.CancelledError | None:
        """All is over: take our cancel back. What is left to raise of those from outside."""
        if self._take_back():
            self.cancelled = None
        return self.cancelled

    def cancel_again(self) -> None:
        """An error leaves in the place of a cancellation that came as well: where a count that
        falls to zero takes it back (3.13), the next await still tells."""
        body = self._body()
        if sys.version_info >= (3, 13) and body is not None and body.cancelling() > self._before:
            body.uncancel()
            body.cancel()

    def _take_back(self) -> bool:
        """Take our cancel back, if there is one. Is none of others left?"""
        body, asked = self._body(), self._asked
        self._asked = False
        return asked and body is not None and body.uncancel() <= self._before

    def _from_outside(self) -> bool:
        body = self._body()
        return body is not None and body.cancelling() - self._asked > self._before


def interrupted() -> bool:
    """Is a KeyboardInterrupt on its way out of the program while the loop runs for the last time,
    to see its tasks end? So `asyncio.run` does."""
    frame_error = sys.exception()
    seen: set[int] = set()
    while frame_error is not None and id(frame_error) not in seen:
        if isinstance(frame_error, KeyboardInterrupt):
            return True
        seen.add(id(frame_error))
        frame_error = frame_error.__context__
    return False
