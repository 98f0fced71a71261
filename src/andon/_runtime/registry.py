"""The open pools of this process: what forks, exits and Ctrl-C must reach."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from andon._gate import uninterrupted
from andon._locks import make_lock
from andon._runtime.unread import warn_unread

if TYPE_CHECKING:
    from andon._runtime.runtime import Runtime

_AT_EXIT = 2.0  # seconds for the workers of pools that nobody closed

_open: dict[int, Runtime] = {}
_lock = make_lock()
_paused: list[Runtime] = []
_quiet: list[Runtime] = []


def runtimes() -> list[Runtime]:
    """The open ones."""
    return list(_open.values())


def add(runtime: Runtime) -> None:
    """A pool opened."""
    _open[id(runtime)] = runtime


def remove(runtime: Runtime) -> None:
    """A pool closed."""
    _open.pop(id(runtime), None)


@contextmanager
def opening() -> Iterator[None]:
    """One pool opens at a time, so that no fork sees another one half open."""
    with _lock:
        yield


def pause_drivers() -> None:
    """Before a fork of ours: no thread of ours runs in the child's memory."""
    for runtime in runtimes():
        if runtime._driver.pause():
            _paused.append(runtime)
        if runtime.listener.pause():
            _quiet.append(runtime)


def resume_drivers() -> None:
    """After it, in the parent."""
    while _quiet:
        _quiet.pop().listener.resume()
    while _paused:
        runtime = _paused.pop()
        if runtime.closing:
            continue
        try:
            runtime._driver.start()
        except RuntimeError as error:  # no thread can be had: nobody may wait for that pool
            runtime.crash(error)


def shut_down(runtime: Runtime) -> None:
    """End a pool that nobody closed: kill what is left of it, after its work where it finishes."""
    if runtime.foreign or runtime.closing:
        return
    flushed = True
    if runtime.finishes:
        runtime.wait_idle(callbacks=True)
        flushed = runtime.wait_flushed()
    try:
        if not flushed:
            warn_unread()  # first: the program may be over as soon as the pool is
    finally:
        _kill(runtime)


def _kill(runtime: Runtime) -> None:
    if not runtime.foreign:
        runtime.close(_AT_EXIT)  # where another thread is at it, this waits for that


def _at_exit() -> None:
    flushed = True
    try:
        for runtime in runtimes():
            if runtime.finishes:  # an executor, which waits here; a Ctrl-C ends the wait
                runtime.wait_idle(callbacks=True)
                flushed = runtime.wait_flushed() and flushed
    finally:
        with uninterrupted, ExitStack() as all_of_them:
            for runtime in runtimes():
                all_of_them.callback(_kill, runtime)  # each, whatever the others raise
    if not flushed:
        warn_unread()


def _after_fork_in_child() -> None:
    global _lock
    for runtime in runtimes():
        runtime.foreign = True
    _open.clear()
    _paused.clear()
    _quiet.clear()
    _lock = make_lock()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
