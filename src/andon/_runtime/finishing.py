"""The maps of a pool that finishes what it has accepted, whether or not anyone takes the results.

`multiprocessing.Pool.imap` reads all of its input; here it is read as results are taken, until the
pool closes, or the iterator is dropped before anyone has asked it. From then on it is read to its
end, by a thread, and then the group is left: its results stay there for whoever asks for them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from andon._gate import gate
from andon._runtime.groups import Group
from andon._runtime.pacing import MOST_WAITING
from andon._runtime.streams import Stream


class _Input:
    """An input that ends where it fails."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self.error: BaseException | None = None

    def __iter__(self) -> _Input:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._items)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
        raise StopIteration


class FinishingStream(Stream):
    """A `Stream` that can go on without its consumer. An error of the input comes after the
    results of what was read before it, less the chunk of a given size that it broke off."""

    _finishing = False
    _input: _Input | None = None

    def __init__(
        self, group: Group, fn: Callable[..., Any], items: Iterable[Any], **options: Any
    ) -> None:
        self._filling = threading.Lock()  # a container: read by the consumer, or by our thread
        super().__init__(group, fn, items, **options)

    def finish(self) -> None:
        """Read the input to its end, however many results wait; then leave the group. Does not
        block, and may be called by a finalizer."""
        self._finishing = True
        if self._exhausted:
            super().let_go()
        elif self._nobody_asks():
            self._wakeup.notify()  # whoever waits for it to be read
        elif self._thread is None:
            try:
                self._start_reader()
            except RuntimeError as error:  # no thread can be had: the rest is never read
                self._error = error
                self._wakeup.notify()
                super().let_go()
        else:
            self._room.notify()

    let_go = finish

    def wait_read(self) -> None:
        """Block until the input was read to its end, or nobody wants it any more."""
        gate.wait(partial(self._wakeup.wait, self._is_read))

    def _is_read(self) -> bool:
        return self._exhausted or self._error is not None or self._nobody_asks()

    def _bring(self, into: deque[Any] | list[Any] | None = None) -> bool:
        if super()._bring(into):
            return True
        if self._input is not None and self._input.error is not None:
            raise self._input.error
        return False

    def _begin(self) -> None:
        if self._in_thread:
            self._items = self._input = _Input(self._items)
        super()._begin()

    def _room_for(self) -> int:
        if self._finishing:
            return 0 if self._exhausted or self._nobody_asks() else MOST_WAITING
        return super()._room_for()

    def _hungry(self) -> bool:
        # While a thread of ours reads a container, nobody else sends what it has read.
        return (self._in_thread or not self._finishing) and super()._hungry()

    def _fill(self) -> None:
        with self._filling:
            super()._fill()

    def _has_read(self, ended: bool) -> None:
        failed = self._input is not None and self._input.error is not None
        if failed and self._pacing.fixed:
            self._inbox.clear()
        super()._has_read(ended)

    def _read_all(self) -> None:
        if self._in_thread:
            super()._read_all()
        else:
            try:
                self._fill()
            except BaseException as error:
                if self._group.reason is None:  # else the consumer is told by the group itself
                    self._error = error
            self._wakeup.notify()
        if self._finishing and not self._nobody_asks():
            super().let_go()
