"""The items of a run: read lazily, in bounded memory, and never past the stop (S46).

Invariants:
1. No item is held here but the piece of input that is being cut, or one item of `LONGEST`.
2. `stopped()` is asked after each item, after each piece of input, and every `POLL` seconds while
   the input has nothing to give. So a stop ends a run that waits for a slow or silent pipe, and one
   whose input never pauses and holds no item.
3. `rest()` never waits: it gives what a list or a regular file still holds, and nothing of a pipe.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, suppress

from andon.cli.arguments import UsageError

POLL = 0.05
PIECE = 1 << 16

LONGEST = 1 << 26
"""Bytes in one item; what has more is no list of items (/dev/zero, a disk image)."""


class InputError(Exception):
    """The input cannot be cut into items; the run ends as by an error of reading."""


def _never() -> bool:
    return False


class Items(AbstractContextManager["Items"]):
    """The items in order. `total` is None where nobody can know it before the end."""

    total: int | None = None
    ready: bool = True
    """Whether the next item is always at hand; False for a pipe or a terminal."""

    @property
    def unread(self) -> bool:
        """Whether there may be items that neither `read` nor `rest` has given."""
        return False

    def read(self, stopped: Callable[[], bool]) -> Iterator[str]:
        """The items, until the input ends or `stopped()`."""
        raise NotImplementedError

    def rest(self, enough: Callable[[], bool] = _never) -> Iterator[str]:
        """After a stop: the items that `read` has not given, as far as that takes no waiting.

        Where there is much input and no item in it, only until `enough()`.
        """
        raise NotImplementedError

    def __exit__(self, *exc: object) -> None:
        """Close what was opened."""


class ListedItems(Items):
    """Items from the command line."""

    def __init__(self, items: Iterable[str]) -> None:
        items = tuple(items)
        self.total = len(items)
        self._left = iter(items)

    def read(self, stopped: Callable[[], bool]) -> Iterator[str]:
        for item in self._left:
            yield item
            if stopped():
                return

    def rest(self, enough: Callable[[], bool] = _never) -> Iterator[str]:
        return self._left


class FileItems(Items):
    """Items from a file, a pipe or a terminal, one a line or one up to each NUL."""

    def __init__(self, fd: int, *, null: bool, owned: bool) -> None:
        self._fd = fd
        self._owned = owned
        self._null = null
        self.ready = stat.S_ISREG(os.fstat(fd).st_mode)
        self._at_end = False
        self._left = self._cut()

    @property
    def unread(self) -> bool:
        return not self._at_end

    def read(self, stopped: Callable[[], bool]) -> Iterator[str]:
        for item in self._left:
            if item is not None:
                yield item
            if stopped():
                return

    def rest(self, enough: Callable[[], bool] = _never) -> Iterator[str]:
        if not self.ready:
            return
        for item in self._left:
            if item is not None:
                yield item
            elif enough():
                return

    def __exit__(self, *exc: object) -> None:
        self._left.close()
        if self._owned:
            os.close(self._fd)

    def _cut(self) -> Generator[str | None, None, None]:
        """The items; None where a piece of input is used up, or none came: time to look around."""
        end = b"\0" if self._null else b"\n"
        unfinished: list[bytes] = []  # the pieces of an item that is longer than one piece
        length = 0
        for piece in self._pieces():
            if not piece:
                yield None
                continue
            first, *others = piece.split(end)
            unfinished.append(first)
            length += len(first)
            for other in others:
                item = self._item(b"".join(unfinished))
                if item is not None:
                    yield item
                unfinished, length = [other], len(other)
            if length > LONGEST:
                what = "NUL character" if self._null else "end of a line"
                raise InputError(f"no {what} in {length} bytes of the input")
            yield None
        last = b"".join(unfinished)
        if last:  # the last line may lack its end
            yield self._item(last)

    def _item(self, raw: bytes) -> str | None:
        # NUL-separated input is exact. In lines, a blank one is a slip of whoever wrote the list.
        if not self._null:
            raw = raw.removesuffix(b"\r")
            if not raw.strip():
                return None
        return os.fsdecode(raw)

    def _pieces(self) -> Iterator[bytes]:
        """The input as it comes, up to its end; an empty piece where nothing came in `POLL`."""
        while True:
            piece = b""
            if self._comes():
                with suppress(BlockingIOError):  # someone made our standard input non-blocking
                    piece = os.read(self._fd, PIECE)
                    if not piece:
                        self._at_end = True
                        return
            yield piece

    def _comes(self) -> bool:
        """Whether a read will not block; asked for `POLL` seconds at most."""
        if not self.ready and sys.platform != "win32":
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            return bool(poll.poll(POLL * 1000))
        return True


def open_items(listed: tuple[str, ...] | None, source: str | None, null: bool) -> Items:
    """The items of a run; `UsageError` where the source cannot be read."""
    if listed is not None:
        return ListedItems(listed)
    if source is None:
        raise UsageError("no items")
    if source == "-":
        try:
            return FileItems(sys.stdin.fileno(), null=null, owned=False)
        except (AttributeError, OSError, ValueError):
            raise UsageError("--from -: there is no standard input") from None
    try:
        fd = os.open(source, os.O_RDONLY)
    except (OSError, ValueError) as error:
        raise UsageError(f"--from {source}: {_why(error)}") from None
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError(f"--from {source}: is a directory")
    return FileItems(fd, null=null, owned=True)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
