"""What user code says beside its results, log records and warnings, sent home as it comes.

Each travels as a frame of its own beside the answers (see `channel.py`), at once: so a worker that
is killed, or crashes, loses at most the one under way, and a task's come before its outcome.

Invariants:
 1. Only the worker itself sends: a process that a task has forked has no way home.
 2. No more than `_AHEAD` bytes are under way that the parent has not dealt with: whoever says more
    waits, open to a stop as all user code is (S17), until slower handlers there have caught up, or
    for `_PATIENCE` a record where they never do.
 3. The frame itself is made and sent with the gate closed (S17).
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from andon import _wire
from andon._board.row import HEARD
from andon._gate import gate
from andon._worker import warned
from andon._worker.channel import Channel
from andon._worker.state import NOTHING, current

_AHEAD = 1 << 20  # bytes
_PATIENCE = 1.0  # seconds
_NAP = 0.002


class Relay:
    """A worker's way home for what is no answer."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        assert current.row is not None
        self._row = current.row
        self._cells = current.cells
        self._pid = current.pid

    def is_ours(self) -> bool:
        """Is this the worker itself, and no process that it has forked?"""
        return os.getpid() == self._pid

    def make_room(self) -> None:
        """Wait while the parent is far behind."""
        if not self._is_full():
            return
        until = time.monotonic() + _PATIENCE
        while self._is_full() and time.monotonic() < until:
            time.sleep(_NAP)  # nothing wakes us: the parent only counts, in our row

    def _is_full(self) -> bool:
        return self._channel.sent_beside - int(self._cells[HEARD]) > _AHEAD

    def send(self, kind: int, body: bytes) -> None:
        """Send one record or warning in the running task's name. The gate is closed."""
        attempt = current.attempt
        head = _wire.pack(
            kind, 0, 0 if attempt == NOTHING else attempt, (self._row.index,), len(body)
        )
        self._channel.write_beside(head + body)


def connect(channel: Channel, settings: dict[str, Any]) -> None:
    """In a new worker: send home what the parent wants to hear. Does not import `logging`; where
    user code does, the parent's levels are in force at once."""
    relay = Relay(channel)
    warned.install(relay, settings.get("warnings", ()))
    state: dict[str, Any] | None = settings.get("logging")
    if state is None:  # nothing is set up there: here it is as in any Python
        return
    if "logging" in sys.modules:
        _take_over(relay, state)
    else:
        sys.meta_path.insert(0, _Finder(relay, state))


def _take_over(relay: Relay, state: dict[str, Any]) -> None:
    with gate:
        from andon._worker import records  # imports `logging`

        records.install(relay, state)


class _Finder:
    """Finds `logging` as everybody else does, and takes over when it has been loaded."""

    def __init__(self, relay: Relay, state: dict[str, Any]) -> None:
        self._relay = relay
        self._state = state

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec: Any = finder.find_spec(name, path, target)
            if spec is not None:
                spec.loader = _Loader(spec.loader, self._relay, self._state)
                return spec
        return None


class _Loader:
    def __init__(self, loader: Any, relay: Relay, state: dict[str, Any]) -> None:
        self._loader = loader
        self._relay = relay
        self._state = state

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _take_over(self._relay, self._state)
