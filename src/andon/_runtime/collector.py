"""The results of a call whose items are all known at its start: `map_async` and its kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from andon._cancelled import Cancelled
from andon._engines.port import Call
from andon._runtime.endings import raise_first
from andon._runtime.groups import Group
from andon._runtime.sending import submit_items
from andon._runtime.tasks import Run, Task
from andon._runtime.wakeup import Wakeup
from andon._words import describe
from andon.outcome import Outcome, ReasonKind


class Collector:
    """`start` submits all items at once in spans of `chunksize`; `on_done` runs once, when all is
    over.

    The group is the call's own: it is over exactly when the call is.
    """

    def __init__(
        self,
        group: Group,
        fn: Callable[..., Any],
        items: Sequence[Any],
        *,
        star: bool,
        chunksize: int,
        timeout: float | None,
        on_done: Callable[[], None],
    ) -> None:
        self.group = group
        self._fn = fn
        self._items = items
        self._star = star
        self._chunksize = chunksize
        self._timeout = timeout
        self._values: list[Any] = [None] * len(items)
        self._on_done = on_done
        self._told = False
        self._wakeup = Wakeup()
        group.on_stopping.append(self._look)

    def start(self) -> None:
        """Submit everything; never waits. May call `on_done` before it returns."""
        group, items, size = self.group, self._items, self._chunksize
        self._items = ()
        try:
            for lo in range(0, len(items), size):
                if group.reason is not None:
                    break  # the first failure came before the last span was sent
                chunk = list(items[lo : lo + size])
                call = Call(self._fn, items=chunk, star=self._star, first=lo, gathered=True)
                submit_items(group, call, lambda task: self, timeout=self._timeout)
        except Cancelled:
            pass  # the failure came as we sent the next one
        except BaseException as error:
            group.runtime.stop(group, ReasonKind.BODY, describe(error))
            raise
        finally:
            group.runtime.leave_body(group)

    @property
    def done(self) -> bool:
        """Is the call over?"""
        return self.group.closed or self.group.runtime.crashed is not None

    def wait(self, timeout: float | None) -> bool:
        """Block up to `timeout` seconds for the end."""
        if not self.done:
            self.group.runtime.check_wait()
        return self._wakeup.wait(lambda: self.done, timeout)

    def result(self) -> list[Any]:
        """The values, in order, or the first failure; only once done."""
        self.group.runtime.check_crash()
        raise_first(self.group, None, None)
        return self._values

    def take(self, task: Task, outcome: Outcome) -> None:
        """A sink's method."""
        self._values[outcome.index] = outcome.error

    def take_run(self, task: Task, run: Run) -> None:
        """A sink's method."""
        self._values[run.index : run.index + len(run.values)] = run.values

    def over(self, task: Task) -> None:
        """A sink's method."""

    def split(self, task: Task, part: Task) -> None:
        """A sink's method."""

    def broken(self, error: BaseException) -> None:
        """A sink's method."""
        self._look()

    def _look(self) -> None:
        if self.done and not self._told:
            self._told = True
            self._wakeup.notify()
            self.group.runtime.callbacks.run(self._on_done)
