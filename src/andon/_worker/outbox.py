"""A worker's answers on their way: those that can wait a moment lie in the tray (S45), and go with
the next that cannot.

Invariants
 1. Answers leave in the order in which they are given.
 2. What waits here waits no longer than `patience_ns` before the next item begins.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from andon import _wire
from andon._board import TrayView
from andon._board.tray import FRAMES
from andon._worker.channel import Channel, Part

PATIENCE_NS: Final = 10_000_000
# Each wakes the parent, which takes a core of the workers' for a while. Where nobody waits for a
# value before the last, they come as often as somebody who watches would like.
GATHERED_NS: Final = 100_000_000


class Outbox:
    """Stands before the channel."""

    def __init__(self, channel: Channel, tray: TrayView) -> None:
        self._channel = channel
        self._tray = tray
        self._waiting: list[bytes] = []
        self._since = 0
        self.patience_ns = PATIENCE_NS

    def lay(self, attempt: int, meta: Any, body: bytes) -> None:
        """A value that may wait; BrokenPipeError where the parent is gone."""
        head = _wire.pack(_wire.VALUE, 0, attempt, meta, len(body))
        now = time.monotonic_ns()
        if not self._waiting:
            self._since = now
            self._tray.begin(FRAMES, attempt, meta[0])
        if now - self._since < self.patience_ns and self._tray.put((head, body)):
            self._waiting += (head, body)
            return
        self._channel.write_parts([*self._waiting, head, body])
        self._sent()

    def send(
        self, kind: int, flags: int = 0, attempt: int = 0, meta: Any = (), body: bytes = b""
    ) -> None:
        """An answer that may not wait, behind those that did."""
        head = _wire.pack(kind, flags, attempt, meta, len(body))
        self._channel.write_parts([*self._waiting, head, body] if body else [*self._waiting, head])
        self._sent()

    def send_parts(
        self, kind: int, flags: int, attempt: int, meta: Any, body: Sequence[Part]
    ) -> None:
        """The same for a body that is large, and in parts."""
        head = _wire.pack(kind, flags, attempt, meta, sum(map(len, body)))
        self._channel.write_parts([*self._waiting, head, *body])
        self._sent()

    def flush(self) -> None:
        """Send what waits."""
        if self._waiting:
            self._channel.write_parts(self._waiting)
            self._sent()

    def _sent(self) -> None:
        self._waiting = []
