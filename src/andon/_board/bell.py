"""The bell: how those who wait learn that some word or order on a board has changed.

On Linux it is an eventfd that is never read: each write is an edge for every epoll that watches
it edge-triggered, so any number of processes and threads wake by one write, and no one takes
another's wake-up away. A ring says only "look again". Where there is no eventfd, those who wait
look every `POLL_SECONDS`.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from andon._board.board import Board

POLL_SECONDS = 0.005
LONGEST = 86_400.0  # seconds of one wait: systems take no more than a few weeks


def make_bell() -> int:
    """A bell's descriptor; -1 where the system has none."""
    if sys.platform == "linux":
        return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    else:
        return -1


def ring(bell: int) -> None:
    """Wake everyone who waits; never blocks, and never fails: a lost bell is a slow one."""
    if sys.platform == "linux":
        if bell < 0:
            return
        try:
            os.eventfd_write(bell, 1)
        except BlockingIOError:
            # The counter is full after 2**64 rings; emptying it takes no one's edge away.
            with suppress(OSError):
                os.eventfd_read(bell)
            with suppress(OSError):
                os.eventfd_write(bell, 1)
        except OSError:
            pass  # a task has closed it: those who wait here look every POLL_SECONDS


def wait_any(
    boards: Iterable[Board], stopped: Callable[[], bool], timeout: float | None = None
) -> bool:
    """Wait until `stopped()`, asked again whenever one of the boards rings; False on timeout.

    An exception out of a signal handler may leave this function at any point; it holds nothing.
    """
    if stopped():
        return True
    deadline = None if timeout is None else time.monotonic() + timeout
    if sys.platform == "linux":
        try:
            poller = select.epoll()
            for board in boards:
                poller.register(board.bell_fd, select.EPOLLIN | select.EPOLLET)
        except (OSError, ValueError):
            pass  # no descriptors left, or a task has closed the bell, or there is none
        else:
            with poller:
                # Registered first, asked then: a ring between the two is not lost.
                while not stopped():
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        return False
                    poller.poll(left if left is None else min(left, LONGEST))
                return True
    while not stopped():
        left = POLL_SECONDS if deadline is None else deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(left, POLL_SECONDS))
    return True
