"""Where a worker puts its large results, and how the parent gives the room back.

The first page holds one number, written by the parent: how many results it has taken. The rest is
used round and round. Where there is no room the result goes through the pipe, which waits for the
parent to read: so nobody here waits, and the memory has a bound.

Invariants
 1. Results are taken in the order in which they were put; one that is taken, or passed over, frees
    all before it.
 2. Each side writes only its own part: the worker the results, the parent the number. No lock.
"""

from __future__ import annotations

import struct
from collections import deque
from contextlib import suppress
from typing import Any

from andon._buffers import memory
from andon._buffers.parcel import Parcel, load, result_ticket

_NUMBER = struct.Struct("<Q")
_SIZE = 64 << 20  # pages are only used as far as need be: in most cases for two results
_BIGGEST = _SIZE // 2  # the rest goes through the pipe, while the parent does other things too


class Ring:
    """The worker's end."""

    __slots__ = ("_mapped", "_put", "_serial", "_there", "_used")

    def __init__(self, fd: int, serial: int) -> None:
        self._mapped = memory.Mapped(fd)
        self._used = 0  # up to here all pages are in use
        self._serial = serial
        self._put = 0
        self._there: deque[tuple[int, int, int]] = deque()  # number, where it begins and ends

    def put(self, parcel: Parcel) -> bytes | None:
        """A ticket; None where there is no room, or no memory."""
        if parcel.size > _BIGGEST:
            return None
        self._see_taken()
        at = self._place(parcel.size)
        if at is None:
            return None
        end = at + parcel.size
        try:
            memory.grow(self._mapped.fd, end)
            self._mapped.write(at, parcel.parts(), again=end <= self._used)
        except OSError:
            return None
        self._used = max(self._used, end)
        self._put += 1
        self._there.append((self._put, at, end + -end % memory.PAGE))
        return result_ticket(self._serial, self._put, at, parcel.sizes())

    def _see_taken(self) -> None:
        number = bytearray(_NUMBER.size)
        with suppress(EOFError):  # nothing was ever taken
            memory.read(self._mapped.fd, 0, [number])
        taken = _NUMBER.unpack(number)[0]
        while self._there and self._there[0][0] <= taken:
            self._there.popleft()

    def _place(self, size: int) -> int | None:
        if not self._there:
            return memory.PAGE
        tail, head = self._there[0][1], self._there[-1][2]
        end = memory.PAGE + _SIZE
        if head > tail:  # what is there does not go around the end
            if head + size <= end:
                return head
            head, end = memory.PAGE, tail
        else:
            end = tail
        return head if head + size <= end else None


class Taker:
    """The parent's end."""

    __slots__ = ("_mapped",)

    def __init__(self, fd: int) -> None:
        self._mapped = memory.Mapped(fd)

    def take(self, number: int, offset: int, sizes: tuple[int, ...]) -> Any:
        """Load a result; its room is free, whether that succeeds or not."""
        try:
            return load(self._mapped, offset, sizes)
        finally:
            with suppress(OSError):  # not told, the room is not used again: the pipe is there
                memory.write(self._mapped.fd, 0, [_NUMBER.pack(number)])
