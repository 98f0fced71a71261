"""Handing calls over to the runtime, from the loop's thread, a few in each of its turns; or from
another thread, where nobody knows how long their pickling takes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

from andon._engines.port import Call
from andon._gate import gate
from andon._runtime.groups import Group
from andon.aio.futures import Future
from andon.aio.lane import Lane
from andon.aio.sizes import is_small

_AT_A_TIME = 50  # calls that are handed over before the loop has its turn


class Sender:
    """One scope's. Calls are pickled in the context of whoever made them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, group: Group, name: str) -> None:
        self.packing = Lane(f"{name}-packer")
        self._loop = loop
        self._group = group
        self._sent = 0  # in this turn of the loop
        self._waiting: deque[Callable[[], None]] = deque()

    def send(self, future: Future[Any], call: Call, limit: float | None) -> None:
        """Pickle and hand over, here and now; raises what that raises."""
        if future._claim():
            try:
                self._group.runtime.submit(self._group, call, future._bind, timeout=limit)
            except BaseException:
                future._orders.forget(future)
                raise
            future._sent()

    def send_soon(self, future: Future[Any], call: Call, limit: float | None) -> None:
        """As `send`, but without holding up the loop: not by a call that is large, and not by
        thousands of small ones. Most often it is done on return."""
        if not is_small(call):
            self._group.runtime.capabilities.foresee(call.fn)
            context = copy_context()
            self.packing.post(partial(context.run, self._pack_and_send, future, call, limit))
        elif not self._waiting and self._sent < _AT_A_TIME:
            if not self._sent:
                self._loop.call_soon(self._next_turn)
            self._sent += 1
            self.send(future, call, limit)
        else:
            context = copy_context()
            self._waiting.append(partial(context.run, self._send_or_tell, future, call, limit))

    def _next_turn(self) -> None:
        with gate:
            self._sent = min(_AT_A_TIME, len(self._waiting))
            for _ in range(self._sent):
                self._waiting.popleft()()
            if self._sent:
                self._loop.call_soon(self._next_turn)

    def _send_or_tell(self, future: Future[Any], call: Call, limit: float | None) -> None:
        try:
            self.send(future, call, limit)
        except BaseException as error:  # whoever awaits it is told
            future.sink.broken(error)

    def _pack_and_send(self, future: Future[Any], call: Call, limit: float | None) -> None:
        group = self._group
        try:
            packed = group.runtime.pack(group, call)
            if future._claim():
                group.runtime.submit(group, call, future._bind, timeout=limit, packed=packed)
                future._sent()
        except BaseException as error:  # whoever awaits it is told
            future.sink.broken(error)
