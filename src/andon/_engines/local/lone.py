"""A call that has the pool to itself: nothing else runs or waits.

Its caller most often waits for it, and its worker for the next: both linger (`_worker/linger.py`).
"""

from __future__ import annotations

from functools import partial

from andon import _wire
from andon._engines.local.system import Poller
from andon._engines.local.timers import Handler
from andon._engines.port import Attempt
from andon._worker import linger


class Lone:
    """What one engine has under way, as long as it is one call."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._worth = True  # the last one was short
        self._awaited = False  # by who pumps next

    def given(self, attempt: Attempt, *, alone: bool) -> int:
        """A worker is being given this: the flags for it."""
        if not alone or attempt.packed.items is not None:
            self._since = None
            return 0
        self._since = linger.clock()
        return _wire.LONE

    def over(self) -> None:
        """An attempt has ended."""
        if self._since is not None:
            self._worth = linger.clock() - self._since < linger.WORTH
            self._since = None

    def linger(self) -> None:
        """Who pumps next waits for it."""
        self._awaited = True

    def wait(self, poller: Poller, timeout: float | None) -> list[Handler]:
        """As the poller's; but its caller lingers before he sleeps, and may be late by that."""
        if self._awaited and timeout != 0:
            self._awaited = False
            if self._worth and self._since is not None:
                handlers = linger.linger(partial(poller.wait, 0.0))
                if handlers:
                    return handlers
        return poller.wait(timeout)
