"""Bombs: picklable objects that go off at one named moment, for tests of what survives a crash.

Where it goes off is the class, how it goes off is its first argument:

    import andon
    from andon.testing import bombs

    def test_a_crash_costs_one_item():
        items = [1, 2, bombs.OnUnpickling("segfault"), 3]
        with andon.Pool(2) as pool:
            results = [pool.apply_async(work, (item,)) for item in items]
            with pytest.raises(andon.WorkerDiedError):
                results[2].get()
            assert results[3].get() == work(3)

    OnUnpickling  while it is unpickled: as an argument, before the task starts
    OnPickling    while it is pickled: as a task's result, or inside an exception that it raises
    OnCalling     when it is called: as the task itself, an initializer, a callback
    OnDel         when it is collected: after the task, when its arguments are dropped

`how` is one of `HOW`: "exit" (`os._exit(3)`), "abort", "segfault", "kill" (SIGKILL), "raise"
(`BombError`), "sys-exit" (`SystemExit(3)`), "hang" (sleeps for ever, stoppable like any sleep).

A bomb spares the process that made it, so that a test does not blow up itself. `spare` names
another pid to spare, or None: then it goes off wherever it is. A task that returns a bomb made it
itself, in the worker, so it says whom to spare: `make(OnPickling, "exit")` as the task does that.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Final

HOW: Final = ("exit", "abort", "segfault", "kill", "raise", "sys-exit", "hang")
EXIT_STATUS: Final = 3
_SIGKILL = 9  # Windows has no name for it, and makes it the exit status


class BombError(Exception):
    """What a bomb raises that goes off by "raise"."""


def go_off(how: str) -> None:
    """Go off, here and now. Returns for no `how`; "hang" blocks until it is interrupted."""
    if how in ("abort", "segfault"):
        _without_a_core()
    if how == "exit":
        os._exit(EXIT_STATUS)
    elif how == "abort":
        os.abort()
    elif how == "segfault":
        import ctypes

        ctypes.string_at(0)
    elif how == "kill":
        os.kill(os.getpid(), _SIGKILL)
    elif how == "raise":
        raise BombError("the bomb went off")
    elif how == "sys-exit":
        raise SystemExit(EXIT_STATUS)
    elif how == "hang":
        while True:
            time.sleep(3600)
    raise ValueError(f"a bomb goes off by one of {', '.join(HOW)}, not {how!r}")


def make(kind: type[_Bomb], how: str) -> Any:
    """As a task: make a bomb in the worker that spares nobody, and return it."""
    return kind(how, spare=None)


def throw(kind: type[_Bomb], how: str) -> Any:
    """As a task: raise a `BombError` that carries such a bomb."""
    raise BombError(kind(how, spare=None))


class _Bomb:
    """`how` it goes off, and the pid that it spares."""

    _HERE: Final = -1

    def __init__(self, how: str, *, spare: int | None = _HERE) -> None:
        if how not in HOW:
            raise ValueError(f"a bomb goes off by one of {', '.join(HOW)}, not {how!r}")
        self.how = how
        self.spare = os.getpid() if spare == self._HERE else spare

    def _go_off(self) -> None:
        if os.getpid() != self.spare:
            go_off(self.how)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.how!r})"


class OnUnpickling(_Bomb):
    """Goes off while it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self.how, self.spare)


class OnPickling(_Bomb):
    """Goes off while it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        self._go_off()
        return _rebuild, (OnPickling, self.how, self.spare)


class OnCalling(_Bomb):
    """Goes off when it is called, with whatever arguments; where it is spared it returns None."""

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self._go_off()


class OnDel(_Bomb):
    """Goes off when it is collected. An error in `__del__` is only reported, by "raise" too."""

    def __del__(self) -> None:
        if hasattr(self, "spare"):  # else its own making failed
            self._go_off()


def _unpickle(how: str, spare: int | None) -> OnUnpickling:
    bomb = OnUnpickling(how, spare=spare)
    bomb._go_off()
    return bomb


def _rebuild(kind: type[_Bomb], how: str, spare: int | None) -> _Bomb:
    return kind(how, spare=spare)


def _without_a_core() -> None:
    """No core file, and no stacks on stderr: this crash is meant."""
    import faulthandler

    faulthandler.disable()
    if sys.platform != "win32":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (0, limit))
