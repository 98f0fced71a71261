"""A worker's end of its two private pipes (S27): whole frames in, whole frames out, blocking.

Answers are written by the loop alone; frames *beside* them (what user code logs) come from any
thread, from a finalizer or a signal handler that has interrupted a write. Only who holds
`_writing` writes; who comes beside never waits for it, but leaves the frame to the one that does.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any

from andon import _wire

_HEAD = _wire.HEADER.size
_CHUNK = 65536
_WHOLE: int = getattr(select, "PIPE_BUF", 512)  # bytes that are written at once or not at all
_MOST_PARTS = 512  # that one `writev` takes
_NEAR = 64  # descriptors behind the last of ours that are closed unseen
_KEEP = 64 << 20  # the largest buffer for bodies that is kept: pages once mapped are fast

Part = bytes | memoryview
Frame = tuple[int, int, int, Any, bytes | memoryview | None]


def read_copying(fd: int, into: memoryview) -> int:
    """`os.readv` where there is none."""
    chunk = os.read(fd, min(len(into), _CHUNK))
    into[: len(chunk)] = chunk
    return len(chunk)


def write_first(fd: int, parts: Sequence[bytes | memoryview]) -> int:
    """`os.writev` where there is none: the rest is for the next call."""
    return os.write(fd, parts[0])


_read_into: Callable[[int, memoryview], int] = read_copying
_write: Callable[[int, Sequence[bytes | memoryview]], int] = write_first
if sys.platform != "win32":

    def _read_uncopied(fd: int, into: memoryview) -> int:
        return os.readv(fd, (into,))

    _read_into, _write = _read_uncopied, os.writev


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


class Channel:
    """Reads requests, writes answers."""

    __slots__ = (
        "_ahead",
        "_answers",
        "_at",
        "_beside",
        "_looker",
        "_requests",
        "_scratch",
        "_writing",
        "on_large",
        "sent_beside",
    )

    def __init__(self, requests: int, answers: int) -> None:
        self._requests = requests
        self._answers = answers
        if sys.platform != "win32":
            self._looker = select.poll()
            self._looker.register(requests, select.POLLIN)
        self._ahead = b""
        self._at = 0
        self._scratch = bytearray()
        self._writing = allocate_lock()
        self._beside: deque[bytes] = deque()  # whole frames
        self.sent_beside = 0  # bytes of their bodies
        # Told of a large body before it is read: that may take long, or all the memory there is.
        self.on_large: Callable[[int, int, Any], None] | None = None

    def close_others(self) -> None:
        """Close whatever this process has open, but its standard streams and our own pipes. Raises
        OSError where the rest cannot be seen."""
        ours = sorted({0, 1, 2, self._requests, self._answers})
        # Most often that is all, and to list them takes three times as long; to try all numbers
        # that there may be takes longer still, on some systems.
        for low, high in pairwise([*ours, ours[-1] + _NEAR]):
            os.closerange(low + 1, high)
        # How many are open: Linux 6.2 says so, older ones 0.
        if os.stat("/proc/self/fd").st_size == sum(map(_is_open, ours)):
            return
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in ours:
                with suppress(OSError):
                    os.close(int(name))

    def read(self) -> Frame:
        """(kind, flags, attempt, meta, body) of the next request; EOFError when there are no more.

        The body is valid until the next call; None where there is no memory for it.
        """
        at = self._have(_HEAD)
        ahead, begin = self._ahead, self._at
        kind, flags, meta_len, attempt, body_len = _wire.unpack_header(ahead, at)
        end = begin + meta_len + body_len
        if end <= len(ahead):  # it has come as a whole, as most do; no large one has
            self._at = end
            body = ahead[begin + meta_len : end]
            return kind, flags, attempt, _wire.unpack_meta(ahead[begin : begin + meta_len]), body
        meta = _wire.unpack_meta(self._take(meta_len))
        if body_len > _CHUNK and self.on_large is not None:
            self.on_large(kind, attempt, meta)
        return kind, flags, attempt, meta, self._take_body(body_len) if body_len else b""

    def wait(self, timeout: float) -> bool:
        """Has a request come, at once or within `timeout` seconds?"""
        if self._at < len(self._ahead):
            return True
        if sys.platform == "win32":
            from andon._worker.windows import has_come

            deadline = time.monotonic() + timeout
            while not (come := has_come(self._requests)) and time.monotonic() < deadline:
                time.sleep(0.001)
            return come
        else:
            return bool(self._looker.poll(timeout * 1000))

    def _take(self, count: int) -> bytes:
        at = self._have(count)
        return self._ahead[at : at + count]

    def _have(self, count: int) -> int:
        """Where the next `count` bytes begin, in `_ahead`."""
        at = self._at
        while len(self._ahead) - at < count:
            chunk = os.read(self._requests, _CHUNK)
            if not chunk:
                raise EOFError
            self._ahead = self._ahead[at:] + chunk
            at = 0
        self._at = at + count
        return at

    def _take_body(self, count: int) -> bytes | memoryview | None:
        here = len(self._ahead) - self._at
        if count <= here or count <= _CHUNK:
            return self._take(count)
        if len(self._scratch) < count:
            try:
                self._scratch = bytearray(count)
            except MemoryError:
                self._skip(count)
                return None
        body = memoryview(self._scratch)[:count]
        if count > _KEEP:
            self._scratch = bytearray()
        body[:here] = self._ahead[self._at :]
        self._ahead, self._at = b"", 0
        while here < count:
            got = _read_into(self._requests, body[here:])
            if not got:
                raise EOFError
            here += got
        return body

    def _skip(self, count: int) -> None:
        while count:
            here = min(count, len(self._ahead) - self._at) or 1
            self._take(here)
            count -= here

    def write(
        self, kind: int, flags: int = 0, attempt: int = 0, meta: Any = (), body: bytes = b""
    ) -> None:
        """Send one answer whole; BrokenPipeError where the parent is gone."""
        head = _wire.pack(kind, flags, attempt, meta, len(body))
        self.write_parts([head, body] if body else [head])

    def write_parts(self, parts: Sequence[Part]) -> None:
        """Send whole answers that come in these parts."""
        with self._writing:
            if self._beside:
                self._send_beside()
            self._write_parts(parts)
        if self._beside:
            self._flush_beside()

    def write_beside(self, frame: bytes) -> None:
        """Send a frame that is no answer, from any thread. The gate must be closed."""
        self._beside.append(frame)
        self._flush_beside()

    def _flush_beside(self) -> None:
        # Whoever has come while we held the lock has left us its frame: so look again after it.
        while self._beside and self._writing.acquire(blocking=False):
            try:
                self._send_beside()
            finally:
                self._writing.release()

    def _send_beside(self) -> None:
        while self._beside:
            frame = self._beside.popleft()
            self.sent_beside += _wire.unpack_header(frame)[4]
            try:
                # A short write is whole or not at all; a longer one that a task's own
                # signal handler left half-way, by an error, would be fatal.
                if len(frame) <= _WHOLE:
                    os.write(self._answers, frame)
                else:
                    with _signals_held():
                        self._write_rest([memoryview(frame)], 0)
            except OSError:
                return  # the parent is gone: the loop finds out

    def _write_parts(self, parts: Sequence[Part]) -> None:
        total = sum(map(len, parts))
        sent = _write(self._answers, parts[:_MOST_PARTS])
        if sent < total:
            self._write_rest([memoryview(part) for part in parts], sent)

    def _write_rest(self, parts: list[memoryview], sent: int) -> None:
        while True:  # a signal cut the write short
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if not parts:
                return
            parts[0] = parts[0][sent:]
            sent = _write(self._answers, parts[:_MOST_PARTS])


@contextmanager
def _signals_held() -> Iterator[None]:
    if sys.platform == "win32":
        yield
    else:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
