"""Objects and tasks that go off at one named moment, in the worker or in the parent.

Importable, so that they travel by reference. A bomb announces the pid of its process before it
goes off, so that the test knows who died.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
from typing import Any, NoReturn

from andon._worker.state import current
from tests.support import Stage

# How to go, and the exit code that is seen; None where it is an error, not a death.
DEATHS: dict[str, int] = {
    "exit": 3,
    "abort": -signal.SIGABRT,
    "segfault": -signal.SIGSEGV,
    "kill": -signal.SIGKILL,
}
ERRORS: dict[str, type[BaseException]] = {"error": RuntimeError, "sys-exit": SystemExit}


class Boom(Exception):
    """What a bomb raises; its `__init__` is as it should be."""


def go_off(kind: str, stage: Stage | None = None) -> NoReturn:
    """Die, or raise, in the way that `kind` says."""
    if stage is not None:
        stage.reach(os.getpid())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if kind == "exit":
        os._exit(3)
    elif kind == "abort":
        _silence()
        os.abort()
    elif kind == "segfault":
        _silence()
        ctypes.string_at(0)
    elif kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()
    elif kind == "sys-exit":
        sys.exit(4)
    elif kind == "interrupt":
        raise KeyboardInterrupt
    raise RuntimeError(f"bomb {kind}")


def _silence() -> None:
    """pytest has switched faulthandler on, and a forked worker inherits it."""
    import faulthandler

    faulthandler.disable()


def go_off_elsewhere(home: int, kind: str, stage: Stage | None) -> str:
    """What a bomb is rebuilt by: harmless at home."""
    if os.getpid() != home:
        go_off(kind, stage)
    return "defused"


def go_off_at_home(home: int, kind: str) -> str:
    """The other way round; a death at home would end the tests, so errors only."""
    assert kind in ERRORS or kind == "interrupt"
    if os.getpid() == home:
        go_off(kind)
    return "defused"


class WhenUnpickled:
    """Goes off while the worker unpickles it."""

    def __init__(self, kind: str, stage: Stage | None = None) -> None:
        self.call = (os.getpid(), kind, stage)

    def __reduce__(self) -> Any:
        return go_off_elsewhere, self.call


class WhenPickled:
    """Goes off while it is pickled, but not at home."""

    def __init__(self, home: int, kind: str, stage: Stage | None = None) -> None:
        self.call = (home, kind, stage)

    def __reduce__(self) -> Any:
        go_off_elsewhere(*self.call)
        return WhenPickled, self.call


class WhenUnpickledAtHome:
    """Goes off while the parent unpickles it."""

    def __init__(self, home: int, kind: str) -> None:
        self.call = (home, kind)

    def __reduce__(self) -> Any:
        return go_off_at_home, self.call


class WhenDropped:
    """Goes off in its `__del__`, but not at home."""

    def __init__(self, home: int, kind: str, stage: Stage | None = None) -> None:
        self.call = (home, kind, stage)

    def __del__(self) -> None:
        go_off_elsewhere(*self.call)


class ErrorWhenPickled(Exception):
    """An exception that goes off while the worker pickles it."""

    def __init__(self, home: int, kind: str, stage: Stage | None = None) -> None:
        super().__init__("its pickling is a bomb")
        self.call = (home, kind, stage)

    def __reduce__(self) -> Any:
        go_off_elsewhere(*self.call)
        return ErrorWhenPickled, self.call


class ErrorWhenUnpickledAtHome(Exception):
    """An exception that goes off while the parent unpickles it."""

    def __init__(self, home: int, kind: str) -> None:
        super().__init__("its unpickling is a bomb")
        self.call = (home, kind)

    def __reduce__(self) -> Any:
        return go_off_at_home, self.call


# Tasks -------------------------------------------------------------------------------------------


def double(x: Any) -> Any:
    return x * 2


def pid(_: Any = None) -> int:
    return os.getpid()


def take(_: Any) -> str:
    return "taken"


def bomb(kind: str, stage: Stage | None = None) -> None:
    go_off(kind, stage)


def return_it(cls: Any, *args: Any) -> Any:
    return cls(*args)


def raise_it(cls: Any, *args: Any) -> None:
    raise cls(*args)


def drop_it(_: Any) -> str:
    """Its argument is dropped when it is over."""
    return "dropped"


def once(marker: str, kind: str, stage: Stage | None = None) -> None:
    """An initializer that goes off the first time only."""
    try:
        fd = os.open(marker, os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return
    os.close(fd)
    go_off(kind, stage)


def die_when_idle(kind: str, go: Stage, announce: Stage) -> int:
    """Leaves a thread behind that goes off between two tasks."""

    def later() -> None:
        go.hold()
        try:
            go_off(kind, announce)
        except BaseException:
            pass  # an error in a thread of the task's own harms nobody

    threading.Thread(target=later, daemon=True).start()
    return os.getpid()


def big(size: int, sending: Stage) -> bytes:
    """A result that takes its time on the way; announces the pid when that has begun."""
    from andon._board import row

    cells = current.cells
    mine = current.attempt

    def watch() -> None:
        while cells[row.PHASE] != row.SENDING:
            assert cells[row.ATTEMPT] == mine
        sending.reach(os.getpid())

    threading.Thread(target=watch, daemon=True).start()
    return bytes(size)


def tell_when_sent(sent: Stage) -> int:
    """Its result is in the pipe, whole, when this announces the pid."""
    from andon._board import row

    cells = current.cells
    mine = current.attempt

    def watch() -> None:
        while cells[row.ATTEMPT] == mine and cells[row.PHASE] != row.IDLE:
            pass
        sent.reach(os.getpid())

    threading.Thread(target=watch, daemon=True).start()
    return os.getpid()


def limit_memory(more: int) -> None:
    """An initializer: this worker may use so much more, and only so much."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))


class HoldsTheParent:
    """Its unpickling at home waits: the parent's driver reads nothing meanwhile."""

    def __init__(self, home: int, reached: Stage, go: Stage) -> None:
        self.call = (home, reached, go)

    def __reduce__(self) -> Any:
        return _hold_at_home, self.call


def _hold_at_home(home: int, reached: Stage, go: Stage) -> str:
    if os.getpid() == home:
        reached.reach()
        go.hold()
    return "held"
