"""The first acts of a worker on Linux and macOS (see `boot.py`). macOS is untested."""

from __future__ import annotations

import faulthandler
import fcntl
import os
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

from andon._worker import children, signals

assert sys.platform != "win32"

_HIGH = (300, 100, 40)  # tasks close low descriptors; as high as the limit lets us


def first_acts(given: Sequence[int], start_method: str) -> list[int]:
    """Its own process group, the lifeline, its signals; the descriptors, in their new places."""
    prepared = start_method == "spawn" and os.getpgrp() == os.getpid()  # before the exec
    if sys.platform == "linux" and start_method == "spawn" and not prepared:
        _undo_shell(given)
    _own_group()
    fds = [_move_high(fd) for fd in given]
    requests, answers, lifeline, stack = fds[:4]
    _hold_lifeline(lifeline, stack)
    signals.install()
    if sys.platform == "linux" and not prepared:
        with suppress(ImportError, OSError, AttributeError):
            children.become_subreaper()
    _dump_stacks_to(stack)
    for fd in (requests, answers):
        os.set_blocking(fd, True)
    return fds


def _undo_shell(given: Sequence[int]) -> None:
    """We were started beside the template: whatever else was inherited goes, and what a shell has
    its background processes ignore is not."""
    bounds = [2, *sorted(given), 1 << 20]
    for low, high in pairwise(bounds):
        os.closerange(low + 1, high)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def _own_group() -> None:
    with suppress(OSError):  # a session's leader has its own already
        os.setpgid(0, 0)


def _move_high(fd: int) -> int:
    if fd < 0:
        return fd  # a bell, where there are none
    for base in _HIGH:
        try:
            moved: int = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, base)
        except OSError:
            continue
        os.close(fd)
        return moved
    os.set_inheritable(fd, False)
    return fd


def _hold_lifeline(fd: int, stack: int) -> None:
    """Die when the parent does (S20)."""
    if not _arm(fd):
        from andon._worker import orders

        orders.obey(fd, stack, _die)


def _arm(fd: int) -> bool:
    """Let the kernel see to it, busy in C code or not; False where it cannot.

    Nobody ever writes into this pipe. When its only writer dies, the kernel signals the group.
    """
    if sys.platform != "linux":
        return False
    else:
        try:
            own_group = os.getpgrp() == os.getpid()
            fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpid() if own_group else os.getpid())
            fcntl.fcntl(fd, fcntl.F_SETSIG, int(signal.SIGKILL))
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
        except OSError:
            return False
        # The writer may have gone before the pipe was armed.
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        if poller.poll(0):
            os._exit(0)
        return True


def _die() -> None:
    with suppress(OSError):
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


def _dump_stacks_to(fd: int) -> None:
    """On STACK_SIGNAL, all threads' stacks go there from C, without the GIL (S19)."""
    os.set_blocking(fd, False)
    faulthandler.register(signals.STACK_SIGNAL, file=fd, all_threads=True, chain=False)
