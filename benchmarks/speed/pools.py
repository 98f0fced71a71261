"""One small adapter per library: how one usually opens it, submits, maps and streams.

Chunks, batches and buffers are each library's default, so that its users' figures are shown.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any


class Unsupported(Exception):
    """The library has no such thing."""


class Pool:
    """A library's pool under one start method; `open`, then anything, then `close`."""

    distribution: str | None = None  # None: of the standard library
    module = ""
    start = ""  # its own start method, whatever was asked for; it is like the one named here

    def __init__(self, workers: int, method: str) -> None:
        self.workers = workers
        self.method = method
        self.context = multiprocessing.get_context(method)

    @classmethod
    def installed(cls) -> bool:
        return importlib.util.find_spec(cls.module.partition(".")[0]) is not None

    @classmethod
    def version(cls) -> str:
        return "" if cls.distribution is None else importlib.metadata.version(cls.distribution)

    def open(self, initializer: Any = None, initargs: tuple[Any, ...] = ()) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """As one leaves it when all is well."""
        raise NotImplementedError

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        """A future; `result` waits for it."""
        raise Unsupported

    def result(self, future: Any) -> Any:
        return future.result()

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.result(self.submit(fn, *args))

    def round_trips(self, fn: Callable[..., Any], count: int) -> list[int]:
        """Nanoseconds of each call and its result, one after the other."""
        now, call, times = time.perf_counter_ns, self.call, []
        for _ in range(count):
            begun = now()
            call(fn)
            times.append(now() - begun)
        return times

    def submits(self, fn: Callable[..., Any], count: int) -> None:
        """That many single calls, all futures kept, then all results."""
        submit, result = self.submit, self.result
        for future in [submit(fn, number) for number in range(count)]:
            result(future)

    def together(self, fn: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
        """All of these calls at once."""
        return [self.result(f) for f in [self.submit(fn, *args) for args in calls]]

    def map(self, fn: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        """With default chunks."""
        raise NotImplementedError

    def stream(self, fn: Callable[..., Any], items: Iterable[Any], ordered: bool) -> Iterator[Any]:
        """Results one by one."""
        raise Unsupported


class Andon(Pool):
    # `import andon` alone loads nothing: a name's modules are loaded when it is first used. The
    # others' pools have theirs after their import, so these are loaded, and their time told, there.
    distribution, module = "andon", "andon.pool"

    def open(self, initializer: Any = None, initargs: tuple[Any, ...] = ()) -> None:
        import andon

        self.pool = andon.Pool(self.workers, initializer, initargs, start_method=self.method)
        self.group = andon.TaskGroup(pool=self.pool)
        self.submits_to = None

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        if self.submits_to is None:
            self.submits_to = self.group.__enter__()
        return self.submits_to.submit(fn, *args)

    def map(self, fn: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        return self.pool.map(fn, items)

    def stream(self, fn: Callable[..., Any], items: Iterable[Any], ordered: bool) -> Iterator[Any]:
        return self.pool.imap(fn, items) if ordered else self.pool.imap_unordered(fn, items)

    def close(self) -> None:
        if self.submits_to is not None:
            self.group.__exit__(None, None, None)
        self.pool.close()
        self.pool.join()


class MultiprocessingPool(Pool):
    module = "multiprocessing.pool"

    def open(self, initializer: Any = None, initargs: tuple[Any, ...] = ()) -> None:
        self.pool = self.context.Pool(self.workers, initializer, initargs)

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.pool.apply_async(fn, args)

    def result(self, future: Any) -> Any:
        return future.get()

    def map(self, fn: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        return self.pool.map(fn, items)

    def stream(self, fn: Callable[..., Any], items: Iterable[Any], ordered: bool) -> Iterator[Any]:
        return self.pool.imap(fn, items) if ordered else self.pool.imap_unordered(fn, items)

    def close(self) -> None:
        self.pool.close()
        self.pool.join()


class Executor(Pool):
    """What has `concurrent.futures`' surface; its `map` reads all of the input first."""

    def open(self, initializer: Any = None, initargs: tuple[Any, ...] = ()) -> None:
        self.pool = self.make(initializer, initargs)

    def make(self, initializer: Any, initargs: tuple[Any, ...]) -> Any:
        raise NotImplementedError

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.pool.submit(fn, *args)

    def map(self, fn: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        return list(self.pool.map(fn, items))

    def stream(self, fn: Callable[..., Any], items: Iterable[Any], ordered: bool) -> Iterator[Any]:
        if not ordered:
            raise Unsupported
        found: Iterator[Any] = self.pool.map(fn, items)
        return found

    def close(self) -> None:
        self.pool.shutdown()


class StandardExecutor(Executor):
    module = "concurrent.futures"

    def make(self, initializer: Any, initargs: tuple[Any, ...]) -> Any:
        from concurrent.futures import ProcessPoolExecutor

        return ProcessPoolExecutor(self.workers, self.context, initializer, initargs)


class Pebble(Executor):
    distribution, module = "pebble", "pebble"

    def make(self, initializer: Any, initargs: tuple[Any, ...]) -> Any:
        from pebble import ProcessPool

        return ProcessPool(
            self.workers, initializer=initializer, initargs=initargs, context=self.context
        )

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.pool.schedule(fn, args)

    def map(self, fn: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        return list(self.pool.map(fn, items).result())

    def stream(self, fn: Callable[..., Any], items: Iterable[Any], ordered: bool) -> Iterator[Any]:
        if not ordered:
            raise Unsupported
        return iter(self.pool.map(fn, items).result())

    def close(self) -> None:
        self.pool.close()
        self.pool.join()


class Loky(Executor):
    distribution, module = "loky", "loky"
    start = "spawn"

    def make(self, initializer: Any, initargs: tuple[Any, ...]) -> Any:
        from loky import ProcessPoolExecutor

        return ProcessPoolExecutor(self.workers, initializer=initializer, initargs=initargs)


class Deadpool(Executor):
    distribution, module = "deadpool-executor", "deadpool"

    def make(self, initializer: Any, initargs: tuple[Any, ...]) -> Any:
        from deadpool import Deadpool

        return Deadpool(
            self.workers, mp_context=self.context, initializer=initializer, initargs=initargs
        )


class Joblib(Pool):
    distribution, module = "joblib", "joblib"
    start = "spawn"

    def open(self, initializer: Any = None, initargs: tuple[Any, ...] = ()) -> None:
        import joblib

        self.delayed = joblib.delayed
        self.kinds = {
            kind: joblib.Parallel(self.workers, return_as=kind)
            for kind in ("list", "generator", "generator_unordered")
        }

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        # As a batch of its own: joblib has no other single call.
        return self.kinds["list"]([self.delayed(fn)(*args)])[0]

    def together(self, fn: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
        import joblib

        found: list[Any] = joblib.Parallel(self.workers, batch_size=1, pre_dispatch="all")(
            self.delayed(fn)(*args) for args in calls
        )
        return found

    def map(self, fn: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        found: list[Any] = self.kinds["list"](self.delayed(fn)(item) for item in items)
        return found

    def stream(self, fn: Callable[..., Any], items: Iterable[Any], ordered: bool) -> Iterator[Any]:
        kind = "generator" if ordered else "generator_unordered"
        found: Iterator[Any] = self.kinds[kind](self.delayed(fn)(item) for item in items)
        return found

    def close(self) -> None:
        from joblib.externals.loky import reusable_executor

        if reusable_executor._executor is not None:
            reusable_executor._executor.shutdown()


class Mpire(Pool):
    distribution, module = "mpire", "mpire"

    def open(self, initializer: Any = None, initargs: tuple[Any, ...] = ()) -> None:
        from mpire import WorkerPool

        self.pool = WorkerPool(self.workers, start_method=self.method, keep_alive=True)

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.pool.apply_async(fn, args)

    def result(self, future: Any) -> Any:
        return future.get()

    def map(self, fn: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        found: list[Any] = self.pool.map(fn, items)
        return found

    def stream(self, fn: Callable[..., Any], items: Iterable[Any], ordered: bool) -> Iterator[Any]:
        return self.pool.imap(fn, items) if ordered else self.pool.imap_unordered(fn, items)

    def close(self) -> None:
        self.pool.stop_and_join()
