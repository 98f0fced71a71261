"""Shared memory that has no name, reached by reads and writes at an offset.

Whoever dies leaves nothing behind: the kernel drops it with the last descriptor (S20). New pages
are never written by way of a mapping, because a write that finds no memory is an error of that one
call (S28), where a mapping would end the process by SIGBUS. Pages that are in use already are: they
are copied to, and from, two to three times as fast so (`Mapped`). So room is used again.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress

PAGE = mmap.ALLOCATIONGRANULARITY
_MOST_PARTS = 512  # of one call; the kernel takes 1024
_HUGE_FROM = 4 << 20
_MAPPED_FROM = 256 << 10
_PIECE = 1 << 20
_GROWN = 64 << 20  # at a time
_RECENT_BYTES = 32 << 20  # of rooms that are looked at again, and so may stay longer than needed

Bytes = bytes | bytearray | memoryview
Room = bytearray | memoryview

_recent: deque[mmap.mmap] = deque()


def create() -> int:
    """The descriptor of new, empty memory, as large as need be; -1 where the system has no such
    thing, and all goes through the pipes. Raises OSError where no descriptor is left."""
    if sys.platform == "linux" and hasattr(mmap, "MADV_REMOVE"):
        return os.memfd_create("andon-buffers", os.MFD_CLOEXEC)
    return -1


def write(fd: int, offset: int, parts: Sequence[Bytes]) -> None:
    """One after the other; raises OSError where the system has no memory left for them."""
    if sys.platform == "linux":
        left = [memoryview(part).cast("B") for part in parts if len(part)]
        left.reverse()
        while left:
            sent = os.pwritev(fd, left[: -_MOST_PARTS - 1 : -1], offset)
            offset += sent
            while left and sent >= len(left[-1]):
                sent -= len(left.pop())
            if sent:
                left[-1] = left[-1][sent:]


def grow(fd: int, length: int) -> None:
    """To at least this length, without using any memory yet; raises OSError."""
    if sys.platform == "linux" and os.fstat(fd).st_size < length:
        try:
            os.ftruncate(fd, -(-length // _GROWN) * _GROWN)
        except OSError:  # more than the limit of a file's size
            os.ftruncate(fd, length)


def read(fd: int, offset: int, into: Sequence[Room]) -> None:
    """Fill these, one after the other; EOFError where there is less."""
    if sys.platform == "linux":
        left = [memoryview(each) for each in into if len(each)]
        left.reverse()
        while left:
            got = os.preadv(fd, left[: -_MOST_PARTS - 1 : -1], offset)
            if not got:
                raise EOFError("the shared memory ends before the object does")
            offset += got
            while left and got >= len(left[-1]):
                got -= len(left.pop())
            if got:
                left[-1] = left[-1][got:]


class Mapped:
    """The memory of this descriptor, mapped where that pays. Copies as `read` and `write` do."""

    __slots__ = ("_maps", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # The last one reaches furthest. None goes before `close`: before Python 3.13 each has a
        # descriptor, which a task may have closed, and opened a file of its own in its place.
        self._maps: list[mmap.mmap] = []

    def write(self, offset: int, parts: Sequence[Bytes], *, again: bool) -> None:
        """`again`: all of these pages were written before, and never given back."""
        left = [memoryview(part).cast("B") for part in parts if len(part)]
        there = self._view(offset, sum(map(len, left))) if again else None
        if there is None:
            write(self.fd, offset, left)
            return
        for place, part in _laid(there, left):
            _copy(place, part)

    def read(self, offset: int, into: Sequence[Room]) -> None:
        """What lies there must have been written."""
        left = [memoryview(each) for each in into]
        there = self._view(offset, sum(map(len, left)))
        if there is None:
            read(self.fd, offset, into)
            return
        for place, each in _laid(there, left):
            _copy(each, place)

    def close(self) -> None:
        """Not mapped any more, and not to be used."""
        self.fd, self._maps = -1, []

    def _view(self, offset: int, length: int) -> memoryview | None:
        """None where a call of the system will do, or must."""
        maps = self._maps
        if length < _MAPPED_FROM:
            return None
        if not maps or len(maps[-1]) < offset + length:
            size = os.fstat(self.fd).st_size
            if size < offset + length:
                return None
            try:
                maps.append(_map(self.fd, size))
            except (OSError, ValueError):
                return None
        return memoryview(maps[-1])[offset : offset + length]


def _map(fd: int, length: int) -> mmap.mmap:
    if sys.platform == "win32":
        raise OSError("there is no such memory here")
    elif sys.version_info >= (3, 13):
        return mmap.mmap(fd, length, trackfd=False)  # else it has a descriptor of its own
    else:
        return mmap.mmap(fd, length)


def _laid(
    there: memoryview, parts: Sequence[memoryview]
) -> Iterator[tuple[memoryview, memoryview]]:
    """Each of these, which lie there one after the other, behind its place."""
    at = 0
    for part in parts:
        yield there[at : at + len(part)], part
        at += len(part)


def _copy(into: memoryview, of: memoryview) -> None:
    for at in range(0, len(of), _PIECE):  # others may take the interpreter in between
        into[at : at + _PIECE] = of[at : at + _PIECE]


def give_back(fd: int, offset: int, length: int) -> None:
    """To the system: whole pages, which must be in use by nobody. May raise OSError."""
    if sys.platform == "linux":
        with mmap.mmap(fd, length, offset=offset) as pages:
            pages.madvise(mmap.MADV_REMOVE)


def room(length: int) -> Room:
    """Private memory, writable, to copy into; its content is to be overwritten. Raises MemoryError.

    What is large comes in huge pages where the system has them, four times as fast as page by
    page; or is the room of one before, of that length, that nobody has any more.
    """
    if sys.platform == "linux" and length >= _HUGE_FROM:
        pages = _unused(length)
        if pages is None:
            try:
                pages = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            except OSError as error:
                raise MemoryError(f"no memory for {length} bytes") from error
            with suppress(OSError):  # a kernel without them
                pages.madvise(mmap.MADV_HUGEPAGE)
        _recent.append(pages)
        while sum(map(len, list(_recent))) > _RECENT_BYTES:
            with suppress(IndexError):  # another thread was quicker
                _recent.popleft()
        return memoryview(pages)
    return bytearray(length)


def _references_of_ours() -> int:
    """What is counted for one that nobody else has; as `_unused` counts, whatever the version."""
    rooms = deque([object()])
    pages = rooms.popleft()
    return sys.getrefcount(pages)


_OURS = _references_of_ours()


def _unused(length: int) -> mmap.mmap | None:
    for _ in range(len(_recent)):
        try:
            pages = _recent.popleft()  # so that no other thread finds it
        except IndexError:
            return None
        if len(pages) == length and sys.getrefcount(pages) == _OURS:
            return pages
        _recent.append(pages)
    return None
