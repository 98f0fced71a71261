"""The items of a run: read lazily, in bounded memory, and never past the stop (S46).

Invariants:
1. No item is held here but the piece of input that is being cut.
2. While the input has nothing to give, `stopped()` is asked every `POLL` seconds, so that a
   stop ends a run that waits for a slow or silent pipe.
3. `rest()` never waits: it gives what a list or a regular file still holds, and nothing of a pipe.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager

from andon.cli.arguments import UsageError

POLL = 0.05
PIECE = 1 << 16


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

    def rest(self) -> Iterator[str]:
        """After a stop: the items that `read` has not given, as far as that takes no waiting."""
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

    def rest(self) -> Iterator[str]:
        return self._left


class FileItems(Items):
    """Items from a file, a pipe or a terminal, one a line or one up to each NUL."""

    def __init__(self, fd: int, *, null: bool, owned: bool) -> None:
        self._fd = fd
        self._owned = owned
        self._null = null
        self.ready = stat.S_ISREG(os.fstat(fd).st_mode)
        self._at_end = False
        self._stopped: Callable[[], bool] = _never
        self._left = self._cut()

    @property
    def unread(self) -> bool:
        return not self._at_end

    def read(self, stopped: Callable[[], bool]) -> Iterator[str]:
        self._stopped = stopped
        for item in self._left:
            yield item
            if stopped():
                return

    def rest(self) -> Iterator[str]:
        if self.ready:
            self._stopped = _never
            yield from self._left

    def __exit__(self, *exc: object) -> None:
        self._left.close()
        if self._owned:
            os.close(self._fd)

    def _cut(self) -> Generator[str, None, None]:
        end = b"\0" if self._null else b"\n"
        unfinished: list[bytes] = []  # the pieces of an item that is longer than one piece
        for piece in self._pieces():
            first, *others = piece.split(end)
            unfinished.append(first)
            for other in others:
                yield from self._item(b"".join(unfinished))
                unfinished = [other]
        last = b"".join(unfinished)
        if last and self._at_end:  # the last line may lack its end; a line cut by a stop is none
            yield from self._item(last)

    def _item(self, raw: bytes) -> Iterator[str]:
        # NUL-separated input is exact. In lines, a blank one is a slip of whoever wrote the list.
        if not self._null:
            raw = raw.removesuffix(b"\r")
            if not raw.strip():
                return
        yield os.fsdecode(raw)

    def _pieces(self) -> Iterator[bytes]:
        while self._ready():
            try:
                piece = os.read(self._fd, PIECE)
            except BlockingIOError:  # someone made our standard input non-blocking
                continue
            if not piece:
                self._at_end = True
                return
            yield piece

    def _ready(self) -> bool:
        if not self.ready and sys.platform != "win32":
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            while not poll.poll(POLL * 1000):
                if self._stopped():
                    return False
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


def _never() -> bool:
    return False
