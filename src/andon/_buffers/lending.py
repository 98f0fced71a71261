"""Large arguments are read where they lie, in the parent's store: a worker maps them, privately.

Reading costs no copy, and writing one of each page that is written. That holds while the task
runs, since its arguments stay in the store until it is over. What is still in use then (a global,
a cache, a thread of the task's own) becomes the worker's own.

Invariants
 1. `settle` comes after each item and before the parent is told of it: from then on no mapping
    here depends on the store.
 2. A fork keeps what it inherits: all that is lent becomes our own before it.
"""

from __future__ import annotations

import mmap
import os
import sys
from contextlib import suppress

FROM = 1 << 20  # less is copied sooner than mapped
_POPULATE_READ, _POPULATE_WRITE = 22, 23  # of the kernel, from 5.14 on

lent: list[mmap.mmap] = []


def lend(fd: int, offset: int, length: int) -> memoryview | None:
    """Map these bytes; None where the system cannot, and they must be copied."""
    if sys.platform == "linux":
        with suppress(OSError):
            pages = mmap.mmap(fd, length, flags=mmap.MAP_PRIVATE, offset=offset)
            try:
                pages.madvise(_POPULATE_READ)
            except OSError:
                pages.close()
                raise
            lent.append(pages)
            return memoryview(pages)  # whoever keeps it is seen by `close`
    return None


def settle() -> None:
    """The item is over, and its block may be used again: what is still in use becomes our own."""
    while lent:
        pages = lent.pop()
        try:
            pages.close()
        except BufferError:
            _make_own(pages)


def keep() -> None:
    """Nobody will use these blocks again, as long as this worker lives."""
    lent.clear()


def _before_fork() -> None:
    for pages in lent:
        with suppress(ValueError):  # closed: by a task that has got hold of it
            _make_own(pages)


def _make_own(pages: mmap.mmap) -> None:
    if sys.platform == "linux":
        pages.madvise(_POPULATE_WRITE)  # copies what is not ours yet, and changes none of it


if sys.platform != "win32":
    os.register_at_fork(before=_before_fork, after_in_child=lent.clear)
