"""What objects of `multiprocessing` need to travel as they do between its own processes.

Pipe ends and sockets go by its reducers (a thread of its own hands the descriptor over, once);
proxies of a manager only work where its secret key is the current process's key. Queues, barriers
and shared values may be handed to an initializer, and there to each worker, those that replace
others too: so their descriptors are lent.
"""

from __future__ import annotations

import os
import pickle
import stat
import sys
from contextlib import suppress
from typing import Any

_PROTOCOL = 5
_HANDED_OVER = ("multiprocessing.connection", "multiprocessing.heap", "socket")  # of the types
_SHARED_VALUES = "multiprocessing.sharedctypes"  # the module of their reducer
_CLOSED = (
    "a queue, a pipe or a shared value among the initializer's arguments was closed in the process "
    "that opened the pool: keep it open as long as the pool"
)
MARK = b"multiprocessing."
"""In every pickle that is concerned."""


def reduce(obj: Any) -> Any:
    """How `multiprocessing` would reduce it; NotImplemented where it has no way of its own."""
    reduction: Any = sys.modules.get("multiprocessing.reduction")
    if reduction is None:
        return NotImplemented
    reducer = reduction.ForkingPickler._extra_reducers.get(type(obj))
    if reducer is None:
        return NotImplemented
    spawning = sys.modules["multiprocessing.context"].get_spawning_popen() is not None
    if is_handed_over(obj) or (spawning and reducer.__module__ == _SHARED_VALUES):
        return reducer(obj)
    return NotImplemented


def is_handed_over(obj: Any) -> bool:
    """Does pickling it hand a descriptor over, to the one who unpickles it?"""
    return type(obj).__module__ in _HANDED_OVER


class Lender:
    """Stands for a process that is being started, whom `multiprocessing`'s reducers then ask how
    it gets at a descriptor."""

    @staticmethod
    def duplicate_for_child(fd: int) -> int:
        """It need not be another one."""
        return fd

    @staticmethod
    def DupFd(fd: int) -> Lent:
        """What is pickled in its place."""
        return Lent(fd)


class Lent:
    """A descriptor of a pipe or a file, which another process opens again through the one that
    lends it, as often as it likes, and as long as it is open there."""

    def __init__(self, fd: int) -> None:
        file = os.fstat(fd)
        self._parts = os.getpid(), fd, _mode(fd, file), (file.st_dev, file.st_ino)

    def detach(self) -> int:
        """Open it; the descriptor is the caller's."""
        pid, lent, mode, identity = self._parts
        try:
            fd = _open(f"/proc/{pid}/fd/{lent}", mode)
        except OSError as error:
            raise OSError(error.errno, f"{_CLOSED}: {error.strerror}") from None
        file = os.fstat(fd)
        if (file.st_dev, file.st_ino) != identity:  # its number is another one's now
            os.close(fd)
            raise ValueError(_CLOSED)
        return fd


def _mode(fd: int, file: os.stat_result) -> int:
    """How it is opened again. Linux only: elsewhere there is nothing to open."""
    if sys.platform == "linux" and not stat.S_ISSOCK(file.st_mode):
        import fcntl

        return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    raise TypeError(
        "sockets and duplex pipes (and, but on Linux, queues and shared values) of "
        "`multiprocessing` cannot be handed to workers that are replaced when they die; use "
        "multiprocessing.Pipe(duplex=False), start_method='fork', or a manager's queue or value"
    )


def _open(path: str, mode: int) -> int:
    if sys.platform != "win32":
        # Else it would wait for somebody to open a pipe's other end.
        fd = os.open(path, mode | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(fd, True)
        return fd
    raise NotImplementedError


def forked() -> None:
    """In a forked worker: what is inherited is made this process's own, as `multiprocessing` does
    it in its own children: a queue starts a thread of its own, a proxy opens a connection of its
    own."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._finalizer_registry.clear()
        util._run_after_forkers()


def leave() -> None:
    """In a worker that ends: what was put into a queue goes out. May block while nobody reads."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        with suppress(BaseException):  # the worker ends all the same
            util._run_finalizers()


def with_key(data: bytes) -> bytes:
    """The pickle, to be loaded where this process's key is known."""
    process: Any = sys.modules.get("multiprocessing.process")
    if process is None:
        return data
    return pickle.dumps(_Keyed(bytes(process.current_process().authkey), data), _PROTOCOL)


class _Keyed:
    def __init__(self, key: bytes, data: bytes) -> None:
        self._parts = key, data

    def __reduce__(self) -> tuple[Any, ...]:
        return take, self._parts


def take(key: bytes, data: bytes) -> Any:
    """Load a pickle of `with_key`."""
    from multiprocessing.process import current_process

    if current_process().authkey != key:
        current_process().authkey = key
    return pickle.loads(data)
