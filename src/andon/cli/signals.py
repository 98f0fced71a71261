"""Ctrl-C and SIGTERM during a run: the first stops the line, the second kills at once (S32).

The handler may run between any two bytecodes of the main thread, so it raises nothing, takes no
lock and leaves only a note with the pools, as andon's own bridge for Ctrl-C does. Nothing is torn
out of the loop that accounts for the items, and the account is complete.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from andon._runtime import registry

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Signals:
    """While entered, `first` is the first signal that came, and `count` how many came."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.count = 0
        self._before: dict[int, Any] = {}

    @property
    def name(self) -> str | None:
        """The first signal, in words; None where none came."""
        return None if self.first is None else _NAMES[signal.Signals(self.first)]

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in _NAMES:
                # A shell starts its background jobs deaf to SIGINT, and nohup does the like. Who
                # was told to ignore a signal goes on doing so.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def catch_up(self, cancel: Callable[[str], object]) -> None:
        """The group is open: stop it if a signal came before it was."""
        if self.first is not None:
            cancel(str(self.name))

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.first is None:
            self.first = number
        self.count += 1
        for runtime in registry.runtimes():
            runtime.interrupt(self.count)
