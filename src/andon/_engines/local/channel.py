"""The parent's ends of a worker's two pipes: whole frames in and out, never blocking (S27).

Invariants
 1. Neither end ever blocks: what does not fit is kept until there is room.
 2. A frame counts when it is whole; a torn one, of a worker that died, is dropped.
 3. The parent holds the reading end of its own request pipe too. So a write to a dead worker is
    no SIGPIPE, which would kill a program that has that signal at its default; death is seen
    through the pidfd.
"""

from __future__ import annotations

import fcntl
import os
from collections import deque
from contextlib import suppress
from typing import Any

from andon import _wire
from andon._engines.local import descriptors

Frame = tuple[int, int, int, Any, Any]  # kind, flags, attempt, meta, body (None: did not fit)

LARGE_PIPE = 1 << 20
_CHUNK = 65536
_LARGE_BODY = 2 * _CHUNK
_LONGEST_META = 1 << 28
_LONGEST_BODY = 1 << 44
_F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)


class _Broken(Exception):
    """What came is no frame: a task has written into the worker's pipe."""


def enlarge(fd: int) -> None:
    """Four times the throughput for large bodies; only for those, since such pages are scarce."""
    with suppress(OSError):
        fcntl.fcntl(fd, _F_SETPIPE_SZ, LARGE_PIPE)


class Reader:
    """Collects what has come into frames."""

    __slots__ = ("_body", "_buffer", "_discard", "_filled", "_head", "broken", "closed", "fd")

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.closed = False
        self.broken = False  # what came last was no frame
        self._buffer = bytearray()
        self._head: tuple[int, int, int, Any] | None = None  # of a large body under way
        self._body = memoryview(b"")
        self._filled = 0
        self._discard = 0  # of a body for which there is no memory

    def read(self, limit: int = LARGE_PIPE) -> list[Frame]:
        """The frames that are whole by now, of about `limit` bytes; sets `closed` at the end."""
        frames: list[Frame] = []
        while limit > 0 and not self.closed:
            try:
                if self._head is not None and not self._discard:
                    got = os.readv(self.fd, [self._body[self._filled :]])
                    self._filled += got
                    self._body_done(frames)
                else:
                    chunk = os.read(self.fd, _CHUNK)
                    got = len(chunk)
                    self._feed(chunk, frames)
            except (BlockingIOError, InterruptedError):
                break
            except _Broken:  # what came before it counts (S27)
                self.broken = True
                got = 0
            except OSError:
                got = 0
            if not got:
                self.closed = True
                break
            limit -= got
            if got < _CHUNK and self._head is None:
                break  # the next one would most likely find nothing
        return frames

    def drain(self) -> list[Frame]:
        """All that is left of a dead worker: a pipe's content is bounded."""
        frames: list[Frame] = []
        for _ in range(3 * LARGE_PIPE // _CHUNK):
            before = self._filled, len(self._buffer), len(frames)
            frames += self.read(_CHUNK)
            if self.closed or before == (self._filled, len(self._buffer), len(frames)):
                break
        return frames

    def _feed(self, chunk: bytes, frames: list[Frame]) -> None:
        if self._discard:
            drop = min(self._discard, len(chunk))
            self._discard -= drop
            chunk = chunk[drop:]
            if not self._discard and self._head is not None:
                frames.append((*self._head, None))
                self._head = None
        data: bytes | bytearray = chunk
        if self._buffer:
            self._buffer += chunk
            data = self._buffer
        at = self._cut(data, frames)
        self._buffer = bytearray(data[at:]) if at < len(data) else bytearray()

    def _cut(self, data: bytes | bytearray, frames: list[Frame]) -> int:
        """Cut off what is whole; the number of bytes that are done with."""
        at, end, size = 0, len(data), _wire.HEADER.size
        view = memoryview(data)
        while end - at >= size:
            kind, flags, meta_len, attempt, body_len = _wire.unpack_header(view[at : at + size])
            if kind < _wire.READY or kind > _wire.DONE or (
                meta_len > _LONGEST_META or body_len > _LONGEST_BODY
            ):
                raise _Broken(f"a frame of kind {kind}, {meta_len} + {body_len} bytes")
            start = at + size + meta_len
            if start > end:
                break
            if start + body_len > end and body_len < _LARGE_BODY:
                break
            try:
                meta = _wire.unpack_meta(view[at + size : start]) if meta_len else ()
            except (ValueError, EOFError, TypeError) as exc:
                raise _Broken(f"a frame of kind {kind} with a broken meta") from exc
            if start + body_len <= end:
                frames.append((kind, flags, attempt, meta, bytes(view[start : start + body_len])))
                at = start + body_len
                continue
            self._large_body((kind, flags, attempt, meta), body_len, view[start:end])
            return end
        return at

    def _large_body(
        self, head: tuple[int, int, int, Any], length: int, begun: memoryview
    ) -> None:
        enlarge(self.fd)
        self._head = head
        try:
            self._body = memoryview(bytearray(length))
        except MemoryError:
            self._discard = length - len(begun)
            return
        self._body[: len(begun)] = begun
        self._filled = len(begun)

    def _body_done(self, frames: list[Frame]) -> None:
        if self._head is not None and self._filled == len(self._body):
            frames.append((*self._head, self._body))
            self._head, self._body, self._filled = None, memoryview(b""), 0


class Writer:
    """Sends frames, now or when there is room."""

    __slots__ = ("_left", "_reading_end", "fd")

    def __init__(self, fd: int, reading_end: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._reading_end = reading_end
        self._left: deque[memoryview] = deque()

    def write(self, parts: list[bytes]) -> bool:
        """Send these; False where some is left for `flush`."""
        if not self._left:
            total = sum(map(len, parts))
            sent = self._try(parts[:512])
            if sent == total:
                return True
            for part in parts:
                if sent >= len(part):
                    sent -= len(part)
                else:
                    self._left.append(memoryview(part)[sent:])
                    sent = 0
            enlarge(self.fd)
            return self.flush()
        self._left.extend(memoryview(part) for part in parts if part)
        return False

    def flush(self) -> bool:
        """Send what is left and fits; True when nothing is left."""
        left = self._left
        while left:
            batch = [left[i] for i in range(min(len(left), 256))]
            sent = self._try(batch)
            if not sent:
                return False
            while left and sent >= len(left[0]):
                sent -= len(left.popleft())
            if sent:
                left[0] = left[0][sent:]
        return True

    def _try(self, parts: list[Any]) -> int:
        try:
            return os.writev(self.fd, parts)
        except (BlockingIOError, InterruptedError):
            return 0

    def close(self) -> None:
        """Drop what is left."""
        self._left.clear()
        descriptors.close(self.fd, self._reading_end)
