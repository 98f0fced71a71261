"""The first acts of a worker on Windows (see `boot.py`). Untested.

Its group is the job object that its parent has put it into, which also ends it with the parent. Its
lifeline carries orders.
"""

from __future__ import annotations

import _winapi
import msvcrt
import os
import sys
from collections.abc import Sequence

from andon._worker import orders, signals

assert sys.platform == "win32"


def first_acts(given: Sequence[int], start_method: str) -> list[int]:
    """The descriptors, for the handles that it was given; orders, its signals."""
    fds = [_opened(handle) for handle in given]
    # The thread sees the parent's end, too, before the worker is in its job.
    orders.obey(fds[2], fds[3], _leave)
    signals.install()
    return fds


def _opened(handle: int) -> int:
    if handle == -1:
        return -1  # memory and bells have no descriptors here
    os.set_handle_inheritable(handle, False)
    return msvcrt.open_osfhandle(handle, os.O_BINARY | os.O_NOINHERIT)


def _leave() -> None:
    os._exit(0)


def has_come(fd: int) -> bool:
    """Is there something to read in this pipe, or is it at its end?"""
    try:
        return _winapi.PeekNamedPipe(msvcrt.get_osfhandle(fd))[-2] > 0
    except OSError:
        return True
