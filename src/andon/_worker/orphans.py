"""What dead workers leave behind: it comes to the template, a subreaper, is killed on sight, and
reaped. Only on Linux.
"""

from __future__ import annotations

import os
import select
import sys

from andon._worker import children

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:  # the template loads this, and as little as it can (see template.py)
    import _signal as signal

assert sys.platform == "linux"


class Orphans:
    """Every child of this process whose pid is not among `known`. `epoll` is told of their
    deaths. True while there are any."""

    def __init__(self, epoll: select.epoll, known: set[int]) -> None:
        self._epoll = epoll
        self._known = known
        self._strays: dict[int, int] = {}  # pid -> pidfd (-1: none)

    def __bool__(self) -> bool:
        return bool(self._strays)

    def pids(self) -> set[int]:
        """Of those that are not gone, as far as the last look told."""
        return set(self._strays)

    def pidfds(self) -> list[int]:
        """Of those that are watched."""
        return [pidfd for pidfd in self._strays.values() if pidfd >= 0]

    def unwatched(self) -> bool:
        """Is there one whose death nobody will tell of, for want of descriptors?"""
        return -1 in self._strays.values()

    def sweep(self) -> set[int]:
        """Kill and reap; the pids of those that are left."""
        found = self._find()
        fresh = set(found)
        while fresh:  # what a killed process leaves behind comes here in its turn
            for pid in fresh:
                self._kill(pid)
            found = self._find()
            fresh = found - self._strays.keys()
        for pid in [p for p in self._strays if p not in found]:
            pidfd = self._strays.pop(pid)
            if pidfd >= 0:
                self._epoll.unregister(pidfd)
                os.close(pidfd)
        return found

    def _find(self) -> set[int]:
        return children.own() - self._known

    def _kill(self, pid: int) -> None:
        if pid not in self._strays:
            try:
                self._strays[pid] = pidfd = os.pidfd_open(pid)
                self._epoll.register(pidfd, select.EPOLLIN)
            except OSError:
                self._strays.setdefault(pid, -1)
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)
        except OSError:
            pass


def kill_group(pid: int) -> None:
    """SIGKILL a child of ours that is not reaped yet, and its process group."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except OSError:
            pass
