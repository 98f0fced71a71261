"""The parent's ends of a worker's two pipes: whole frames in and out, never blocking (S27). On
Windows, where a pipe cannot be polled, threads do the same (see threads.py).

Invariants
 1. Neither end ever blocks: what does not fit is kept until there is room.
 2. The parent holds the reading end of its own request pipe too. So a write to a dead worker is
    no SIGPIPE, which would kill a program that has that signal at its default; death is seen
    through the pidfd.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections import deque
from contextlib import suppress
from typing import Any

from andon._engines.local import descriptors
from andon._engines.local.frames import CHUNK, Cutter, Frame

assert sys.platform != "win32"

LARGE_PIPE = 1 << 20
_F_SETPIPE_SZ = 1031  # of the kernel


def take(fd: int) -> bytes:
    """Some of what is there to read; empty: nothing now, or ever."""
    os.set_blocking(fd, False)
    try:
        return os.read(fd, CHUNK)
    except OSError:
        return b""


def enlarge(fd: int) -> None:
    """Four times the throughput for large bodies; only for those, since such pages are scarce."""
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.fcntl(fd, _F_SETPIPE_SZ, LARGE_PIPE)


class Reader(Cutter):
    """Reads the frames that have come."""

    __slots__ = ("closed", "fd")

    def __init__(self, fd: int) -> None:
        super().__init__()
        os.set_blocking(fd, False)
        self.fd = fd
        self.closed = False

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
                    chunk = os.read(self.fd, CHUNK)
                    got = len(chunk)
                    self._feed(chunk, frames)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                got = 0
            if not got or self.broken:
                self.closed = True
                break
            limit -= got
            if got < CHUNK and self._head is None:
                break  # the next one would most likely find nothing
        return frames

    def drain(self) -> list[Frame]:
        """All that is left of a dead worker: a pipe's content is bounded."""
        frames: list[Frame] = []
        for _ in range(3 * LARGE_PIPE // CHUNK):
            before = self._progress(frames)
            frames += self.read(CHUNK)
            if self.closed or before == self._progress(frames):
                break
        return frames

    def _progress(self, frames: list[Frame]) -> tuple[int, ...]:
        return self._filled, self._discard, len(self._buffer), len(frames)

    def _large_body(
        self, head: tuple[int, int, int, Any], length: int, begun: bytes | memoryview
    ) -> None:
        enlarge(self.fd)
        super()._large_body(head, length, begun)

    def close(self) -> None:
        """Read no more."""
        descriptors.close(self.fd)


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
