"""Where large arguments lie, in shared memory, from their submission until their task is over.

They are written by the thread that submits (S28), once, and read by whichever worker gets the
task, as often as it is tried. All workers of the pool read here, and only the parent writes.

Invariants
 1. A block's room is not used again while its `Block` lives: that is what a packed call holds.
 2. Of the room that nobody uses, at most `KEEP` bytes stay with us; the rest goes back to the
    system at once.
 3. Giving back never waits: a `Block` may die anywhere, also in a collection within `put`.
"""

from __future__ import annotations

import os
from bisect import insort
from collections import deque
from contextlib import suppress

from andon._buffers import memory
from andon._buffers.parcel import Parcel, argument_ticket
from andon._engines.local import descriptors
from andon._locks import make_lock

KEEP = 64 << 20


class Block:
    """Some room in a store, until it is dropped."""

    __slots__ = ("_extent", "_store")

    def __init__(self, store: Store, extent: tuple[int, int]) -> None:
        self._store = store
        self._extent: tuple[int, int] | None = extent

    def __del__(self) -> None:
        if self._extent is not None:
            self._store._dropped(self._extent)

    def spoiled(self) -> None:
        """Not all of its pages could be written: nobody gets it again."""
        self._extent = None


class Store:
    """One pool's. Raises OSError where no descriptor is left; `fd` is -1 where the system has no
    such memory."""

    def __init__(self) -> None:
        self.fd = descriptors.shared_memory()
        self._mapped = memory.Mapped(self.fd)
        self._pid = os.getpid()
        self._lock = make_lock()
        self._end = 0  # the memory is endless; pages that were given back are as good as none
        self._free: list[tuple[int, int]] = []  # offset and length, in order, apart from each other
        self._kept = 0  # bytes in `_free`
        self._writers = 0
        self._back: deque[tuple[int, int]] = deque()  # dropped, not yet seen to

    def put(self, parcel: Parcel) -> tuple[bytes, Block] | None:
        """A ticket, and what keeps it good; None where there is no memory for it, and where we are
        called by a finalizer in the middle of ourselves."""
        if self._lock._is_owned():
            return None
        length = parcel.size + -parcel.size % memory.PAGE
        with self._lock:
            if self.fd < 0:
                return None
            self._sort_out()
            try:
                offset, again = self._allot(length)
            except OSError:  # the limit of a file's size
                return None
            block = Block(self, (offset, length))
            self._writers += 1
        try:
            self._mapped.write(offset, parcel.parts(), again=again)
        except OSError:
            block.spoiled()
            with suppress(OSError):
                memory.give_back(self.fd, offset, length)
            return None
        finally:
            with self._lock:
                self._writers -= 1
            self._settle()
        return argument_ticket(offset, parcel.sizes()), block

    def _allot(self, length: int) -> tuple[int, bool]:
        """Where; and whether all its pages are in use already."""
        for i, (offset, there) in enumerate(self._free):
            if there >= length:
                self._kept -= length
                if there == length:
                    del self._free[i]
                else:
                    self._free[i] = (offset + length, there - length)
                return offset, True
        # Whole pages: only those can be given back.
        memory.grow(self.fd, self._end + length)
        offset = self._end
        self._end += length
        return offset, False

    def _dropped(self, extent: tuple[int, int]) -> None:
        self._back.append(extent)
        self._settle()

    def _settle(self) -> None:
        while self._back and not self._lock._is_owned() and self._lock.acquire(blocking=False):
            try:
                self._sort_out()
            finally:
                self._lock.release()

    def _sort_out(self) -> None:
        while self._back:
            offset, length = self._back.popleft()
            if self.fd < 0 or self._pid != os.getpid():
                continue
            if self._kept + length > KEEP:
                try:
                    memory.give_back(self.fd, offset, length)
                    continue
                except OSError:
                    pass
            self._kept += length
            self._insert(offset, length)

    def _insert(self, offset: int, length: int) -> None:
        insort(self._free, (offset, length))
        at = self._free.index((offset, length))
        for i in (at, at - 1):  # join it with its neighbours
            if 0 <= i < len(self._free) - 1:
                (one, there), (other, more) = self._free[i : i + 2]
                if one + there == other:
                    self._free[i : i + 2] = [(one, there + more)]

    def close(self) -> None:
        """All of it goes back."""
        with self._lock:
            fd, self.fd = self.fd, -1
            self._free.clear()
            self._kept = 0
            self._mapped.close()
        if fd >= 0:
            # Children that others have forked may have it mapped. While somebody writes there,
            # pages must not go: a mapping would make new ones.
            if self._end and not self._writers:
                with suppress(OSError, ValueError):
                    memory.give_back(fd, 0, self._end)
            descriptors.close(fd)
