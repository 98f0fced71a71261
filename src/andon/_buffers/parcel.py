"""An object as a small pickle and its large buffers, and back.

    object ─▶ pieces of its pickle, buffers out of band ─▶ shared memory, and a ticket in the frame
                                                       └─▶ or, homeward, one after the other, bare

A ticket is itself a small pickle: loading it loads the object that it stands for. So nobody on the
way need know of it, in a list of items either; whatever goes wrong goes wrong in unpickling, and
fails that item alone (S28).

Invariants
 1. Nothing large is copied on the way out but into its place: buffers as they lie in the user's
    objects, and `bytes` within the pickle by reference (`_pieces`).
 2. A ticket leaves only after what it stands for is in its place, whole (S27).
 3. What comes out is writable where the original was, and later changes on either side are not
    seen on the other: it is memory of its own, or becomes so in time (see lending.py).
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from andon import _pickling
from andon._buffers import lending, memory

LARGE = 1 << 16  # from here on it pays; and one buffer alone
_FRAME = 1 << 17  # opcodes come in smaller pieces than this; what is larger is data
_BARE = b"\0"  # begins no pickle
_COUNT = struct.Struct("<cxxxI")  # _BARE, and the number of buffers
_SIZE = struct.Struct("<Q")
_ALIGNED = 64

Bare = list[Any]
"""A body in parts, as it goes through the pipe."""


class Parcel:
    """A pickle in pieces and the buffers that go beside it."""

    __slots__ = ("buffers", "pieces", "size", "stream")

    def __init__(self, pieces: list[Any], buffers: Sequence[pickle.PickleBuffer]) -> None:
        self.pieces = pieces
        self.buffers = [buffer.raw() for buffer in buffers]
        self.stream = sum(map(len, pieces))
        self.size = _places(self.sizes())[-1]

    def sizes(self) -> tuple[int, ...]:
        """Of the stream and the buffers, for `load`."""
        return (self.stream, *map(len, self.buffers))

    def parts(self) -> list[Any]:
        """All of it, each buffer at its place."""
        parts = list(self.pieces)
        end = self.stream
        for place, buffer in zip(_places(self.sizes())[1:], self.buffers, strict=False):
            parts += (bytes(place - end), buffer)
            end = place + len(buffer)
        return parts

    def release(self) -> None:
        """It lies elsewhere now; the user's objects are needed no more."""
        self.pieces.clear()
        self.buffers.clear()

    def bare(self) -> Bare:
        """A body for `loads`: just the pickle, or sizes, pickle, and each buffer where it is
        aligned."""
        if not self.buffers:
            return list(self.pieces)
        sizes = self.sizes()
        head = b"".join([_COUNT.pack(_BARE, len(self.buffers)), *map(_SIZE.pack, sizes)])
        parts: Bare = [head, *self.pieces]
        at = len(head) + self.stream
        for buffer in self.buffers:
            parts += (bytes(-at % _ALIGNED), buffer)
            at += -at % _ALIGNED + len(buffer)
        return parts


def _places(sizes: tuple[int, ...]) -> list[int]:
    """Where each begins, and where the last one ends: what can be lent begins with a page."""
    places = []
    at = 0
    for size in sizes:
        if size >= lending.FROM:
            at += -at % memory.PAGE
        places.append(at)
        at += size
    return [*places, at]


class _Apart(list[pickle.PickleBuffer]):
    """Collects the large buffers; a pickler calls it."""

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        with memoryview(buffer) as view:
            if view.nbytes < LARGE or not view.contiguous:
                return True  # in band
        self.append(buffer)
        return False


class _Pieces(list[bytes]):
    """A file for a pickler that keeps what is written as it is: large `bytes` by reference."""

    write = list.append


class Pickling:
    """How one side pickles: `dumps` is for whatever may be large. Safe in any thread."""

    __slots__ = ("_by_pieces", "_homeward", "_main")

    def __init__(self, main: Mapping[str, Any] | None = None, *, homeward: bool = False) -> None:
        self._main = main
        self._homeward = homeward
        # Costs two microseconds more, and saves a copy of what is large: done where the last one
        # was. What the guess decides is speed alone.
        self._by_pieces = False

    def dumps(self, obj: Any, *, plainly: bool = True) -> bytes | Parcel:
        """The pickle, or a parcel where it is large; raises as `_pickling.dumps` does."""
        apart = _Apart()
        pieces: list[Any] | None = None
        if plainly and self._by_pieces:
            pieces = _pieces(obj, apart)
        elif plainly:
            data = _pickling.plain_dumps(obj, apart)
            if data is not None:
                if not apart and len(data) < LARGE:
                    return data
                pieces = [data]
        if pieces is None:
            apart.clear()
            main, homeward = self._main, self._homeward
            data = _pickling.dumps(obj, main, homeward=homeward, plainly=False, apart=apart)
            pieces = [data]
        parcel = Parcel(pieces, apart)
        self._by_pieces = parcel.stream >= LARGE
        return parcel if parcel.size >= LARGE else b"".join(pieces)

    def whole(self, obj: Any, parcel: Parcel, *, plainly: bool = True) -> bytes:
        """One pickle after all, of the object that this parcel was made of."""
        if not parcel.buffers:
            return b"".join(parcel.pieces)
        return _pickling.dumps(obj, self._main, homeward=self._homeward, plainly=plainly)


def _pieces(obj: Any, apart: _Apart) -> list[bytes] | None:
    """None where the pickle must be made otherwise, or cannot be."""
    pieces = _Pieces()
    try:
        pickle.Pickler(pieces, _pickling.PROTOCOL, buffer_callback=apart).dump(obj)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    if any(len(piece) < _FRAME and _pickling.is_special(piece) for piece in pieces):
        return None
    return pieces


# Back --------------------------------------------------------------------------------------------


def loads(body: bytes | bytearray | memoryview) -> Any:
    """The object of a body: a pickle, a ticket, or bare. The bare one's buffers stay where they
    are, and the object has them: the body must be nobody else's. (One that is not writable, as
    small frames are that come with others, is copied.)"""
    if body[:1] != _BARE:
        return pickle.loads(body)
    view = memoryview(body)
    if view.readonly:
        view = memoryview(bytearray(body))
    at = _COUNT.size
    count = _COUNT.unpack_from(view)[1]
    stream, *sizes = (_SIZE.unpack_from(view, at + i * _SIZE.size)[0] for i in range(count + 1))
    at += (count + 1) * _SIZE.size
    pickled = view[at : at + stream]
    at += stream
    buffers = []
    for size in sizes:
        at += -at % _ALIGNED
        buffers.append(view[at : at + size])
        at += size
    return pickle.loads(pickled, buffers=buffers)


def load(there: memory.Mapped, offset: int, sizes: tuple[int, ...], *, lend: bool = False) -> Any:
    """The object whose stream and buffers lie there. `lend`: they may be read there, until
    `lending.settle`."""
    stream, *rest = sizes
    buffers: list[memory.Room] = []
    for size, place in zip(rest, _places(sizes)[1:], strict=False):
        room: memory.Room | None = None
        if lend and size >= lending.FROM:
            room = lending.lend(there.fd, offset + place, size)
        if room is None:
            room = memory.room(size)
            there.read(offset + place, [room])
        buffers.append(room)
    if stream >= _FRAME:
        return pickle.Unpickler(_File(there, offset), buffers=buffers).load()
    pickled = bytearray(stream)
    there.read(offset, [pickled])
    return pickle.loads(pickled, buffers=buffers)


class _File(io.RawIOBase):
    """A pickle to be read where it lies: large `bytes` go from there right to their place."""

    def __init__(self, there: memory.Mapped, offset: int) -> None:
        self._there = there
        self._at = offset

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        self._there.read(self._at, [memoryview(into)])
        self._at += len(into)
        return len(into)

    def read(self, count: int = -1) -> bytes:
        data = bytearray(count)
        self.readinto(data)
        return bytes(data)

    def readline(self, limit: int | None = -1) -> bytes:
        raise pickle.UnpicklingError("no pickle of ours is read by lines")


# Tickets -----------------------------------------------------------------------------------------

_arguments = memory.Mapped(-1)  # in a worker: its parent's store
_results: dict[int, Callable[[int, int, tuple[int, ...]], Any]] = {}  # in a parent: by worker


class _Call:
    def __init__(self, fn: Callable[..., Any], *args: Any) -> None:
        self._parts = fn, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self._parts


def argument_ticket(offset: int, sizes: tuple[int, ...]) -> bytes:
    """For arguments that lie in the parent's store."""
    return pickle.dumps(_Call(fetch_argument, offset, sizes), _pickling.PROTOCOL)


def result_ticket(serial: int, number: int, offset: int, sizes: tuple[int, ...]) -> bytes:
    """For a result that lies in a worker's ring; `number`: the how manyth of that worker."""
    return pickle.dumps(_Call(fetch_result, serial, number, offset, sizes), _pickling.PROTOCOL)


def arguments_from(fd: int) -> None:
    """In a worker: there lie the arguments."""
    global _arguments
    _arguments = memory.Mapped(fd)
    _results.clear()


def results_by(serial: int, take: Callable[[int, int, tuple[int, ...]], Any] | None) -> None:
    """In a parent: who loads a worker's results; None: nobody any more."""
    if take is None:
        _results.pop(serial, None)
    else:
        _results[serial] = take


def fetch_argument(offset: int, sizes: tuple[int, ...]) -> Any:
    """What loading a ticket calls, in a worker."""
    if _arguments.fd < 0:
        raise pickle.UnpicklingError("these arguments lie in the memory of another process")
    return load(_arguments, offset, sizes, lend=True)


def fetch_result(serial: int, number: int, offset: int, sizes: tuple[int, ...]) -> Any:
    """What loading a ticket calls, in a parent."""
    take = _results.get(serial)
    if take is None:
        raise pickle.UnpicklingError("this result lies in the memory of another process")
    return take(number, offset, sizes)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_results.clear)
