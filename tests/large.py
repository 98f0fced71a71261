"""Large arguments and results: what they are made of, and tasks that take and give them.

Importable, so that they travel by reference. No array library is needed: `Blob` puts its bytes
beside its pickle as arrays do.
"""

from __future__ import annotations

import os
import pickle
import signal
from typing import Any

from andon._buffers import lending, memory
from tests.support import Stage


class Blob:
    """Bytes as an array has them: writable, and out of band where the pickler wants them so."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Blob, (pickle.PickleBuffer(self.buffer),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and bytes(self.buffer) == bytes(other.buffer)

    def __len__(self) -> int:
        return len(self.buffer)


def blob(size: int, byte: int = 7) -> Blob:
    return Blob(bytearray([byte]) * size)


def same(value: Any) -> Any:
    return value


def writes(value: Blob) -> tuple[int, int]:
    """Its first and last byte, before it changes them."""
    view = memoryview(value.buffer)
    before = view[0], view[-1]
    view[0] = view[-1] = 99
    return before


def first_when(value: Blob, reached: Stage, go: Stage) -> int:
    reached.reach()
    go.hold()
    return memoryview(value.buffer)[-1]


_kept: list[Blob] = []


def keeps(value: Blob) -> int:
    """Beyond the end of its task."""
    _kept.append(value)
    return len(value)


def kept() -> list[tuple[int, int, bool]]:
    found = [(len(v), v.buffer[0], len(set(bytes(v.buffer))) == 1) for v in _kept]
    return found


def forks_with(value: Blob, go: Stage, told: Stage) -> int:
    """A child that outlives the task says what it then sees in the argument."""
    child = os.fork()
    if not child:
        go.hold()
        told.reach(set(bytes(value.buffer)))
        os._exit(0)
    return child


def is_lent(value: Blob) -> bool:
    return any(pages is value.buffer.obj for pages in lending.lent)


# Deaths in the middle of a transfer -------------------------------------------------------------


def dies_writing(size: int) -> Blob:
    """Half of its result is in shared memory when its worker is killed."""
    write = memory.write

    def half(fd: int, offset: int, parts: Any) -> None:
        whole = b"".join(parts)
        write(fd, offset, [whole[: len(whole) // 2]])
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()

    memory.write = half
    return blob(size)


def breaks_reading() -> int:
    """The next one that reads its arguments here dies of it."""

    def dies(*args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()

    memory.read = lending.lend = dies
    return os.getpid()


def no_room(size: int) -> Any:
    """Give a result; the worker has no shared memory left for it."""

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    memory.write = full
    return blob(size, 3)
