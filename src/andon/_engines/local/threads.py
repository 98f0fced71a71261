"""Waiting by threads, where pipes cannot be polled: Windows. Portable; the tests run it on Linux.

    a worker's pipe ──▶ its thread reads ahead ──▶ chunks ──▶ `Poller.wait` calls the handler,
    which takes them; what is to be sent is queued, and a thread of its own writes it.

Invariants
 1. A thread has descriptors of its own (duplicates): no number is used that others may have closed.
 2. Reading ahead is bounded (AHEAD chunks); a worker that outpaces us waits in its pipe.
 3. Nobody waits for a thread but `drain`, bounded, when the worker is dead and the end is due.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable

from andon._engines.local import descriptors
from andon._engines.local.frames import CHUNK, Cutter, Frame
from andon._engines.local.timers import Handler
from andon._threads import start

AHEAD = 16
_REST = 1024  # chunks that may still come from one that is dead, or about to be
_DRAIN_WITHIN = 1.0


def _woken() -> None:
    """Who waits is told of something, so that nobody takes a wake for nothing."""


class _Source:
    """One descriptor, read to its end."""

    def __init__(self, fd: int, ready: Callable[[], None]) -> None:
        self.chunks: deque[bytes] = deque()
        self.ended = threading.Event()
        self._fd = os.dup(fd)
        self._room = threading.Semaphore(AHEAD)
        self._ready = ready
        start(threading.Thread(target=self._run, name="andon-reader", daemon=True))

    def _run(self) -> None:
        while chunk := _read(self._fd):
            self._room.acquire()
            self.chunks.append(chunk)
            self._ready()
        os.close(self._fd)
        self.ended.set()
        self._ready()

    def take(self) -> bytes:
        """The next chunk; empty: none now."""
        try:
            chunk = self.chunks.popleft()
        except IndexError:
            return b""
        self._room.release()
        return chunk

    def forget(self) -> None:
        """Nobody takes any more; its worker is dead, so the rest is short."""
        self._room.release(_REST)


class Poller:
    """Handlers are added and removed under the engine's lock; `wait` runs without."""

    def __init__(self) -> None:
        self._sources: dict[int, _Source] = {}
        self._handlers: dict[int, Handler] = {}
        # What is ready: a descriptor, or a function to call. Reentrant, and so safe in the handler
        # of Ctrl-C.
        self._ready: queue.SimpleQueue[int | Handler] = queue.SimpleQueue()

    def reader(self, fd: int) -> Reader:
        """Frames that come in there."""
        return Reader(self, fd)

    def writer(self, fd: int, reading_end: int) -> Writer:
        """Frames that go out there."""
        return Writer(fd, reading_end)

    def add(self, fd: int, handler: Handler, *, edge: bool = False) -> None:
        """Call `handler` when there is something to read, once for each chunk (always `edge`)."""
        self._handlers[fd] = handler
        if fd not in self._sources:
            self._sources[fd] = _Source(fd, lambda: self._ready.put(fd))

    def writable(self, fd: int, handler: Handler | None) -> None:
        """There is always room."""
        if handler is not None:
            self.soon(handler)

    def remove(self, fd: int) -> None:
        """Before the descriptor is closed."""
        self._handlers.pop(fd, None)
        source = self._sources.pop(fd, None)
        if source is not None:
            source.forget()

    def soon(self, handler: Handler) -> None:
        """Call it after the next `wait`, which comes back at once; from any thread."""
        self._ready.put(handler)

    def wait(self, timeout: float | None) -> list[Handler]:
        """What is to be called now. At most `timeout` seconds."""
        found: dict[Handler, None] = {}
        try:
            self._note(self._ready.get(timeout != 0, timeout), found)
            while True:
                self._note(self._ready.get_nowait(), found)
        except queue.Empty:
            pass
        return list(found)

    def _note(self, ready: int | Handler, found: dict[Handler, None]) -> None:
        handler = self._handlers.get(ready) if isinstance(ready, int) else ready
        if handler is not None:
            found[handler] = None

    def take(self, fd: int) -> bytes:
        """Some of what is there to read; empty: nothing now."""
        source = self._sources.get(fd)
        return b"" if source is None else source.take()

    def source(self, fd: int) -> _Source | None:
        """Who reads there."""
        return self._sources.get(fd)

    def wake(self) -> None:
        """End a `wait`, from any thread; never blocks."""
        self._ready.put(_woken)

    def close(self) -> None:
        """Let go of all."""
        for fd in list(self._sources):
            self.remove(fd)
        self._handlers.clear()


class Reader(Cutter):
    """Cuts what the poller's thread has read."""

    __slots__ = ("_poller", "closed", "fd")

    def __init__(self, poller: Poller, fd: int) -> None:
        super().__init__()
        self._poller = poller
        self.fd = fd
        self.closed = False

    def read(self) -> list[Frame]:
        """The frames that are whole by now; sets `closed` at the end."""
        frames: list[Frame] = []
        source = self._poller.source(self.fd)
        if source is None:
            return frames
        ended = source.ended.is_set()  # before the look: then there is nothing behind it
        while not self.broken and not self.closed and (chunk := source.take()):
            self._take(chunk, frames)
        self.closed = self.closed or self.broken or ended
        return frames

    def drain(self) -> list[Frame]:
        """All that is left of a dead worker. Its end was the last one of the pipe."""
        frames = self.read()
        deadline = time.monotonic() + _DRAIN_WITHIN
        source = self._poller.source(self.fd)
        while source is not None and not self.closed and time.monotonic() < deadline:
            source.ended.wait(0.001)
            frames += self.read()
        return frames

    def _take(self, chunk: bytes, frames: list[Frame]) -> None:
        if self._head is not None and not self._discard:
            here = min(len(chunk), len(self._body) - self._filled)
            self._body[self._filled : self._filled + here] = chunk[:here]
            self._filled += here
            self._body_done(frames)
            chunk = chunk[here:]
        if chunk:
            self._feed(chunk, frames)

    def close(self) -> None:
        """Read no more."""
        descriptors.close(self.fd)


class Writer:
    """Queues; its thread, started by the first frame, writes."""

    __slots__ = ("_frames", "_reading_end", "_started", "fd")

    def __init__(self, fd: int, reading_end: int) -> None:
        self.fd = fd
        self._reading_end = reading_end
        self._frames: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self._started = False

    def write(self, parts: list[bytes]) -> bool:
        """Send these, some time; true: nobody need call `flush`."""
        if not self._started:
            self._started = True
            args = (os.dup(self.fd), self._frames)
            start(threading.Thread(target=_write_on, args=args, name="andon-writer", daemon=True))
        self._frames.put(parts)
        return True

    def flush(self) -> bool:
        """Nothing is ever left to be sent by others."""
        return True

    def close(self) -> None:
        """Drop what is left: without a reading end, the thread fails and ends."""
        self._frames.put(None)
        descriptors.close(self.fd, self._reading_end)


def _write_on(fd: int, frames: queue.SimpleQueue[list[bytes] | None]) -> None:
    try:
        while (parts := frames.get()) is not None:
            for part in parts:
                left = memoryview(part)
                while left:
                    left = left[os.write(fd, left) :]
    except OSError:
        pass  # the worker is dead, which is seen elsewhere
    finally:
        os.close(fd)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, CHUNK)
    except OSError:
        return b""
