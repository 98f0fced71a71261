"""`AsyncResult`: what `Pool`'s `…_async` methods return."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from andon._runtime.collector import Collector
from andon._runtime.futures import Future
from andon._runtime.options import check_callback
from andon._runtime.wakeup import Wakeup

if TYPE_CHECKING:
    from andon.pool import Pool

T = TypeVar("T")


class AsyncResult(multiprocessing.pool.AsyncResult[T], Generic[T]):
    """The result of an `…_async` call, now or later: there once its callback has run."""

    def __init__(
        self,
        pool: Pool,
        callback: Callable[[T], Any] | None,
        error_callback: Callable[[BaseException], Any] | None,
    ) -> None:
        check_callback("callback", callback)
        check_callback("error_callback", error_callback)
        self._keeps = pool
        self._callbacks = callback or None, error_callback or None
        self._called = not (callback or error_callback)
        self._wakeup = Wakeup()
        self._source: Future[T] | Collector

    def ready(self) -> bool:
        """Is the call over, and has its callback run?"""
        return (self._called or self._keeps._runtime.callbacks.is_current()) and self._over()

    def successful(self) -> bool:
        """Did it end without an error? `ValueError` while it is not over."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        try:
            self._result()
        except BaseException:  # a cancelled call is no success either
            return False
        return True

    def wait(self, timeout: float | None = None) -> None:
        """Block up to `timeout` seconds (None: until the call is over)."""
        source = self._source
        runtime = self._keeps._runtime
        if not self._called and not runtime.callbacks.is_current():
            runtime.wait(self._wakeup, self.ready, timeout)
        elif isinstance(source, Collector):
            source.wait(timeout)
        else:
            source._wait(timeout)

    def get(self, timeout: float | None = None) -> T:
        """The result, or its error; `multiprocessing.TimeoutError` when the time is up."""
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError
        return self._result()

    def _over(self) -> bool:
        source = self._source
        return source.done if isinstance(source, Collector) else source.done()

    def _result(self) -> T:
        source = self._source
        if isinstance(source, Collector):
            return source.result()  # type: ignore[return-value]
        return source.result(0)

    def _tell(self) -> None:
        """Call back, once the call is over; then those who wait may know."""
        try:
            if not self._called:
                self._call_back()
        finally:
            self._called = True
            self._wakeup.notify()

    def _call_back(self) -> None:
        callback, error_callback = self._callbacks
        try:
            value = self._result()
        except BaseException as error:
            if error_callback is not None:
                error_callback(error)
        else:
            if callback is not None:
                callback(value)
