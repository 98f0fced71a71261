"""Bytes into whole frames (S27), whatever they come by; nothing here waits or reads.

A frame counts when it is whole; a torn one, of a worker that died, is dropped.
"""

from __future__ import annotations

from typing import Any

from andon import _wire
from andon._buffers import memory

Frame = tuple[int, int, int, Any, Any]  # kind, flags, attempt, meta, body (None: did not fit)

CHUNK = 65536
_LARGE_BODY = 2 * CHUNK
_LONGEST_META = 1 << 28
_LONGEST_BODY = 1 << 44


class _Broken(Exception):
    """What came is no frame: a task has written into the worker's pipe."""


class Cutter:
    """Collects what has come into frames."""

    __slots__ = ("_body", "_buffer", "_discard", "_filled", "_head", "broken")

    def __init__(self) -> None:
        self.broken = False  # what came last was no frame; what came before it counts
        self._buffer = bytearray()
        self._head: tuple[int, int, int, Any] | None = None  # of a large body under way
        self._body = memoryview(b"")
        self._filled = 0
        self._discard = 0  # of a body for which there is no memory

    def cut(self, data: bytes) -> list[Frame]:
        """The frames of these bytes, which follow on nothing."""
        frames: list[Frame] = []
        try:
            self._cut(data, frames)
        except _Broken:
            self.broken = True
        return frames

    def _feed(self, chunk: bytes, frames: list[Frame]) -> None:
        if self._discard:
            drop = min(self._discard, len(chunk))
            self._discard -= drop
            chunk = chunk[drop:]
            if not self._discard and self._head is not None:
                frames.append((*self._head, None))
                self._head = None
        if not self._buffer:
            done = self._cut_safely(chunk, frames)
            if done < len(chunk):
                self._buffer += memoryview(chunk)[done:]
        else:  # what has come of a long frame stays where it is: it may come in a thousand chunks
            self._buffer += chunk
            del self._buffer[: self._cut_safely(self._buffer, frames)]

    def _cut_safely(self, data: bytes | bytearray, frames: list[Frame]) -> int:
        try:
            return self._cut(data, frames)
        except _Broken:
            self.broken = True
            return len(data)

    def _cut(self, data: bytes | bytearray, frames: list[Frame]) -> int:
        """Cut off what is whole; the number of bytes that are done with."""
        at, end, size = 0, len(data), _wire.HEADER.size
        view = data if type(data) is bytes else memoryview(data)
        while end - at >= size:
            kind, flags, meta_len, attempt, body_len = _wire.unpack_header(data, at)
            if kind not in _wire.ANSWERS or meta_len > _LONGEST_META or body_len > _LONGEST_BODY:
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
        self, head: tuple[int, int, int, Any], length: int, begun: bytes | memoryview
    ) -> None:
        self._head = head
        try:
            self._body = memoryview(memory.room(length))
        except MemoryError:
            self._discard = length - len(begun)
            return
        self._body[: len(begun)] = begun
        self._filled = len(begun)

    def _body_done(self, frames: list[Frame]) -> None:
        if self._head is not None and self._filled == len(self._body):
            frames.append((*self._head, self._body))
            self._head, self._body, self._filled = None, memoryview(b""), 0
