"""`map` by way of somebody's own `submit`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from itertools import islice
from typing import Any

from andon._runtime.callbacks import CallbackThread
from andon._runtime.wakeup import Wakeup


class SubmittedOneByOne:
    """A map whose calls go through somebody's own `submit`, one for each chunk.

    For executors whose `submit` has been replaced, in a subclass or on the object (tqdm's
    `process_map` moves its bar so): with the standard class it sees the calls of `map` too. The
    first failure stops the rest by cancelling their futures. A result is handed out once the
    callbacks that this `submit` has added have run: a bar has moved before its loop is over.
    """

    def __init__(
        self,
        submit: Callable[..., Future[Any]],
        fn: Callable[..., Any],
        items: Iterable[tuple[Any, ...]],
        *,
        chunksize: int,
        buffersize: int | None,
        end: float | None,
        callbacks: CallbackThread,
    ) -> None:
        self._submit = submit
        self._fn = fn
        self._items = iter(items)
        self._chunksize = chunksize
        self._end = end
        self._futures: deque[Future[Any]] = deque()
        self._over: set[Future[Any]] = set()  # of those, the ones whose callbacks have run
        self._failures: list[BaseException] = []
        self._callbacks = callbacks
        self._wakeup = Wakeup()
        try:
            self._read(None if buffersize is None else -(-buffersize // chunksize))
        except BaseException:
            self._cancel()
            raise

    def results(self) -> Iterator[Any]:
        """In order; leaving the loop over them cancels what is left."""
        try:
            while self._futures:
                future = self._futures[0]
                self._wait(future)
                if future.cancelled() and self._failures:
                    raise self._failures[0]
                values = future.result(0)
                self._futures.popleft()
                self._over.discard(future)
                self._read(1)
                yield from values if self._chunksize > 1 else (values,)
        finally:
            self._cancel()

    def _read(self, count: int | None) -> None:
        """Submit up to so many chunks (None: all)."""
        while (count is None or count > 0) and not self._failures:
            chunk = list(islice(self._items, self._chunksize))
            if not chunk:
                return
            if self._chunksize > 1:
                future = self._submit(_run_chunk, self._fn, chunk)
            else:
                future = self._submit(self._fn, *chunk[0])
            self._futures.append(future)
            future.add_done_callback(self._tell)
            count = None if count is None else count - 1

    def _wait(self, future: Future[Any]) -> None:
        left = None if self._end is None else max(0.0, self._end - time.monotonic())
        if self._callbacks.is_current():  # nobody else would run them
            wait([future], left)
        elif not self._wakeup.wait(lambda: future in self._over, left):
            raise TimeoutError("no result was ready in time")

    def _tell(self, future: Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._failures.append(error)
            self._cancel()
        self._over.add(future)
        self._wakeup.notify()

    def _cancel(self) -> None:
        for future in list(self._futures):
            future.cancel()


def _run_chunk(fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> list[Any]:
    return [fn(*arguments) for arguments in chunk]
