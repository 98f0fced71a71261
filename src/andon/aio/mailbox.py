"""From any thread into the loop's: calls are collected, and the loop is woken once for all."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from andon._gate import gate

_SLICE = 0.002  # seconds of a loop's turn that the letters of one group may take


class Mailbox:
    """What the driver of a pool has to tell to one event loop.

    However many letters come at once, the loop is woken once; and however many there are, it has
    its turn after every few milliseconds of them. `lost` is called, once, by whoever finds the loop
    closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: Callable[[], None]) -> None:
        self._loop = loop
        self._lost: Callable[[], None] | None = lost
        self._letters: deque[Callable[[], None]] = deque()
        self._woken = False

    def post(self, letter: Callable[[], None]) -> None:
        """Have the loop call it, after all that was posted before. Any thread; never blocks."""
        self._letters.append(letter)
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._empty)
            except RuntimeError:  # it is closed
                lost, self._lost = self._lost, None
                if lost is not None:
                    lost()

    def _empty(self) -> None:
        with gate:  # a letter that is lost would be waited for in vain
            # First: a letter that comes from here on, and is not seen below, wakes the loop again.
            self._woken = False
            letters = self._letters
            enough = time.monotonic() + _SLICE
            try:
                while letters:
                    letters.popleft()()
                    if time.monotonic() > enough:
                        break
            finally:
                if letters and not self._woken:
                    self._woken = True
                    self._loop.call_soon(self._empty)


def weakly(method: Callable[[], object]) -> Callable[[], None]:
    """A call of this method that does not keep its object alive.

    A pool refers to what it has to tell of: were those references strong, they would lead to the
    asyncio task that runs the body, and keep it when its loop is long gone.
    """
    reference: WeakMethod[Any] = WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call
