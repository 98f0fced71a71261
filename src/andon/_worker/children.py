"""The children of this process, orphans of theirs included (a worker is a subreaper).

Only on Linux: elsewhere nothing is seen of them here.
"""

from __future__ import annotations

import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:  # the template loads this, and as little as it can (see template.py)
    import _signal as signal

_PR_SET_CHILD_SUBREAPER = 36  # of the kernel's prctl.h


_blind = sys.platform != "linux"  # some of them may be nobody's here


def become_subreaper() -> None:
    """Adopt the orphans among our descendants, so that they can be found (S20). Raises OSError,
    ImportError or AttributeError."""
    global _blind
    if sys.platform == "linux":
        _blind = True
        order = _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0
        try:
            import _ctypes

            prctl = _ctypes.dlsym(_ctypes.dlopen("", os.RTLD_NOW), "prctl")
            _ctypes.call_function(prctl, order)
        except (ImportError, AttributeError):
            import ctypes  # public, but 3 ms

            ctypes.CDLL(None).prctl(*order)
        _blind = False


def living() -> set[int]:
    """The pids of its children that are no zombies. Costs one system call where there are none."""
    pids: set[int] = set()
    if sys.platform == "linux" and not surely_none():
        pids.update(pid for pid in _listed() if not _dead(pid))
    return pids


def surely_none() -> bool:
    """Has it none at all? Where they cannot be seen, nobody knows. One system call."""
    if sys.platform == "linux":
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        except OSError:
            pass
    return False


def threads() -> int:
    """Of this process, those of native code included; 0: cannot be seen."""
    try:
        return os.stat("/proc/self/task").st_nlink - 2
    except OSError:
        return 0


def end_all(within: float) -> bool:
    """SIGKILL them, and whoever comes to us when they die, and reap them. Is none left, after so
    many seconds at most? Where they cannot be seen, nobody knows, and nothing is done. For a
    process of one thread."""
    if sys.platform == "linux":
        deadline = time.monotonic() + within
        while not surely_none():
            for pid in own():
                _end(pid, deadline)
            if time.monotonic() > deadline:
                break
    return surely_none() and not _blind


def _end(pid: int, deadline: float) -> None:
    if sys.platform == "linux":
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
            os.waitpid(pid, os.WNOHANG)
        except OSError:
            pass
        finally:
            os.close(pidfd)


def wants_core(pid: int) -> bool:
    """Does it compute, or wait for a core to do so? What was killed needs one to die."""
    return _stat(pid)[:1] == [b"R"]


def own() -> set[int]:
    """The pids of the children of a process of one thread, zombies included."""
    try:
        return _of_thread(os.getpid())
    except OSError:
        return _scanned()


def _listed() -> set[int]:
    try:
        return set().union(*map(_of_thread, os.listdir("/proc/self/task")))
    except OSError:
        return _scanned()


def _of_thread(ident: int | str) -> set[int]:
    # Not `open`: somebody waits for what comes of this, and it takes half as long.
    fd = os.open(f"/proc/self/task/{ident}/children", os.O_RDONLY)
    try:
        data = b""
        while piece := os.read(fd, 65536):
            data += piece
    finally:
        os.close(fd)
    return set(map(int, data.split()))


def _scanned() -> set[int]:
    """A kernel without lists of children: by every process's parent."""
    pids: set[int] = set()
    parent = os.getpid()
    try:
        names = os.listdir("/proc")
    except OSError:
        return pids
    for name in names:
        if name.isdecimal():
            fields = _stat(int(name))
            if len(fields) > 1 and int(fields[1]) == parent:
                pids.add(int(name))
    return pids


def _dead(pid: int) -> bool:
    fields = _stat(pid)
    return not fields or fields[0] in (b"Z", b"X")


def _stat(pid: int) -> list[bytes]:
    """State, parent, … of /proc/<pid>/stat; the name before them may hold anything."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []
