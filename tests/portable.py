"""The engine of another platform, as far as it runs on Linux.

    poll      macOS's: its poller, its launcher and its kills; workers whose lifeline is a thread's.
              Only kqueue, which tells of a worker's end, has a pidfd in its place.
    threads   Windows's: its poller, its launcher, and orders through a pipe instead of signals.
              Only the job object has a process group in its place.

In both there is no bell, nothing forks, and workers see none of their children.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from andon import _wire
from andon._board import joined, own_board
from andon._engines.local import interpreter, spawner, system, threads
from andon._engines.local.orders import Orders
from andon._engines.local.platform import macos
from andon._runtime import options
from andon._worker import children

KINDS = ("poll", "threads")


@contextmanager
def engine_of(kind: str) -> Iterator[None]:
    """Every engine that is opened within is of this kind."""
    own_board()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "WORKER", "tests.portable_worker")
        patch.setattr(options, "_METHODS", ("spawn",))
        patch.setattr(system, "exists", spawner.exists)
        patch.setattr(children, "wants_core", lambda pid: False)  # nothing tells of it there
        for board in joined():
            patch.setattr(board, "bell_fd", -1)
        if kind == "poll":
            patch.setattr(macos, "end_of", lambda pid: open(os.pidfd_open(pid)))  # noqa: SIM115
            patch.setattr(system, "Poller", macos.Poller)
            patch.setattr(system, "connect", partial(spawner.connect, macos.Hold))
        else:
            patch.setattr(macos, "end_of", lambda pid: None)
            patch.setattr(system, "Poller", threads.Poller)
            patch.setattr(system, "connect", lambda *_: spawner.Spawner(OrderedHold))
        yield


class OrderedHold(macos.Hold):
    """As on Windows: a thread waits for the worker's end, and orders go through its lifeline."""

    def __init__(self, serial: int, fds: list[int]) -> None:
        self._orders = Orders()
        try:
            super().__init__(serial, [*fds[:2], self._orders.reading_end, *fds[3:]])
        except BaseException:
            self._orders.close()
            raise
        finally:
            self._orders.handed_over()

    def started(self, poller: Any, ended: Any) -> None:
        def wait() -> None:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            poller.soon(ended)

        threading.Thread(target=wait, name="waiter", daemon=True).start()

    def interrupt(self) -> None:
        self._look()
        self._orders.give(_wire.INTERRUPT)

    def ask_for_stack(self) -> None:
        self._orders.give(_wire.DUMP_STACKS)

    def close(self) -> None:
        super().close()
        self._orders.close()
