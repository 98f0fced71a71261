"""The descriptors of all local engines of this process: what a forked child must not keep.

A child of ours that is not made by us (the user's own `os.fork`, `multiprocessing` under `fork`)
would otherwise hold the write ends of our workers' lifelines, and they would outlive us (S20).

Invariants
 1. `guard` is held from before a descriptor exists until it is kept here, and by every fork.
 2. Whoever holds `guard` takes no other lock and runs no user code.
"""

from __future__ import annotations

import os
from typing import Protocol, TypeVar

from andon._buffers import memory
from andon._locks import make_lock


class Closable(Protocol):
    """A socket, or an epoll object."""

    def close(self) -> None: ...


T = TypeVar("T", bound="int | Closable")

guard = make_lock()
_kept: set[int | Closable] = set()


def keep(thing: T) -> T:
    """Close this in forked children."""
    _kept.add(thing)
    return thing


def close(*things: int | Closable | None) -> None:
    """Close what was kept, here and now."""
    with guard:
        for thing in things:
            if thing is not None:
                _kept.discard(thing)
                _close(thing)


def pipe() -> tuple[int, int]:
    """A pipe, both ends kept and closed on exec."""
    with guard:
        read, write = os.pipe()
        return keep(read), keep(write)


def shared_memory() -> int:
    """Of new memory (see `_buffers`), kept; -1 where the system has no such thing."""
    with guard:
        fd = memory.create()
        return fd if fd < 0 else keep(fd)


def count() -> int:
    """How many are kept; the tests' leak check."""
    return len(_kept)


def _close(thing: int | Closable) -> None:
    try:
        if isinstance(thing, int):
            os.close(thing)
        else:
            thing.close()
    except OSError:
        pass


def _after_fork_in_child() -> None:
    global guard
    for thing in _kept:
        _close(thing)
    _kept.clear()
    # Not released but new: whoever forked may have held it more than once, and never comes back.
    guard = make_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: guard.acquire(),
        after_in_parent=lambda: guard.release(),
        after_in_child=_after_fork_in_child,
    )
