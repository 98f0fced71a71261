"""Starts workers from this very process, where there is no template: macOS and Windows.

Only `spawn`: a fresh interpreter each. How one is started, seen to end and killed is the
platform's (`Child`). The spawner answers with the template's messages ("born", "failed",
"exit"), so that the crew need not know who starts its workers.

Invariants
 1. A worker's tree is killed before the worker is reaped, so no number is ever stale.
 2. "exit" is told when nothing of the tree is left that we can see (S22), or a second later with
    the numbers of those that would not die (S21).
 3. A start takes the calling thread what the system takes to make a process, some milliseconds;
    nothing else here waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import psutil

from andon._engines.local import descriptors
from andon._engines.local.timers import Handler, Timers

ORPHAN_WAIT = 1.0
_LOOK_AGAIN = 0.005


class Poller(Protocol):
    """What a spawner needs of the engine's."""

    def soon(self, handler: Handler) -> None: ...


class Child(Protocol):
    """One worker's process, and our hold of it."""

    pid: int
    exitcode: int | None

    def started(self, poller: Any, ended: Handler) -> None:
        """Call `ended` from the poller when the process has ended; it is not reaped before."""

    def dead(self) -> None:
        """It has ended: kill what is left of its tree, and tell who watches."""

    def reap(self) -> bool:
        """Take its exit status, if it is there already."""

    def left(self) -> set[int]:
        """The processes of its tree that are still there, as far as they can be seen."""

    def kill(self) -> None:
        """It and its tree."""

    def close(self) -> None:
        """Let go of it; once more does no harm."""


_NONE_LEFT = (OSError, RuntimeError)  # no process, no descriptor, no thread

Start = Callable[[int, list[int]], Child]
"""Starts a worker: its serial and descriptors (-1 for one that there is not); raises OSError."""


class Spawner:
    """One engine's. Not thread-safe: called under the engine's lock."""

    lost = False  # only a template can be

    def __init__(self, start: Start) -> None:
        self._start = start
        self._children: dict[int, Child] = {}
        self._messages: list[tuple[tuple[Any, ...], Any]] = []
        self._poller: Any = None
        self._timers: Timers
        self._news: Handler

    def attach(self, poller: Poller, timers: Timers, news: Handler) -> None:
        """Call `news` when there is something to `receive`."""
        self._poller, self._timers, self._news = poller, timers, news

    def launch(self, serial: int, fds: list[int], close: list[int]) -> None:
        """Start a worker with these descriptors; then close those in `close`."""
        try:
            child = self._start(serial, fds)
            self._children[serial] = child
            try:
                child.started(self._poller, partial(self._ended, serial))
                self._tell(("born", serial, child.pid), child)
            except BaseException as exc:
                self._tell_failed(serial, exc)  # before its end is told
                child.kill()
                self._settle(serial, time.monotonic() + ORPHAN_WAIT)
                if not isinstance(exc, _NONE_LEFT):
                    raise
        except _NONE_LEFT as exc:
            self._tell_failed(serial, exc)
        finally:
            descriptors.close(*close)

    def _tell_failed(self, serial: int, exc: BaseException) -> None:
        self._tell(("failed", serial, getattr(exc, "errno", None) or 0, str(exc)))

    def receive(self) -> list[tuple[tuple[Any, ...], Any]]:
        """The messages that have come, each with a hold of the process if it is of a birth."""
        messages, self._messages = self._messages, []
        return messages

    def _tell(self, message: tuple[Any, ...], hold: Child | None = None) -> None:
        self._messages.append((message, hold))
        self._poller.soon(self._news)

    def hold(self, pid: int) -> Any:
        """Every birth is told with a hold."""
        raise ProcessLookupError(f"no worker of ours has the number {pid}")

    def finish(self) -> None:
        """Nothing more will be launched: nothing here waits for that."""

    def overdue(self, serial: int) -> None:
        """Its start is not told in time: it shall not go on."""
        self.kill(serial)

    def starves(self) -> bool:
        """It is no process of its own."""
        return False

    def bury(self, pids: list[int]) -> None:
        """The end of all that was started here."""
        for serial, child in list(self._children.items()):
            if child.pid in pids:
                self.kill(serial)

    def kill(self, serial: int) -> None:
        """Kill a worker and its tree."""
        if serial in self._children:
            self._children[serial].kill()

    def drop(self, serial: int) -> bool:
        """A launch is never late enough to be taken back."""
        return False

    def _ended(self, serial: int) -> None:
        child = self._children.get(serial)
        if child is not None:
            child.dead()
            self._settle(serial, time.monotonic() + ORPHAN_WAIT)

    def _settle(self, serial: int, deadline: float) -> None:
        child = self._children.get(serial)
        if child is None:
            return
        now = time.monotonic()
        reaped = child.reap()
        left = child.left() if reaped else {child.pid}
        if left and now < deadline:
            self._timers.at(now + _LOOK_AGAIN, partial(self._settle, serial, deadline))
            return
        del self._children[serial]
        child.close()
        self._tell(("exit", serial, child.exitcode, tuple(sorted(left))))

    def close(self) -> None:
        """Kill what is still there."""
        for child in self._children.values():
            child.kill()

    def end(self, within: float) -> list[int]:
        """The same for good. Waits for those whose end nobody waits for; the pids that stay."""
        self.close()
        deadline = time.monotonic() + within
        while self._children:
            for serial, child in list(self._children.items()):
                if child.reap():
                    child.close()
                    del self._children[serial]
            if not self._children or time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_AGAIN)
        return [child.pid for child in self._children.values()]


def connect(
    start: Start,
    method: str,
    inherit: Mapping[int, Any] | None = None,
    before_fork: Callable[[], None] | None = None,
) -> Spawner:
    """Only `spawn` is there; nothing is forked, and so nothing inherited."""
    if method != "spawn":
        raise ValueError(f"start_method must be 'spawn' on this system, not {method!r}")
    return Spawner(start)


def exists(pid: int) -> bool:
    """Is there a process of that number (a zombie too)?"""
    return psutil.pid_exists(pid)
