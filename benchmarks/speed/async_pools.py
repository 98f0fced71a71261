"""The same for libraries of asynchronous programs: their loop runs in a thread of its own.

What is many calls is one visit to the loop, and single round trips are timed inside it, so that
the way to that thread is no part of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from benchmarks.speed.pools import Pool


class AsyncPool(Pool):
    def visit(self, function: Any, *args: Any) -> Any:
        """Run an async function in the loop; block for its result."""
        raise NotImplementedError

    async def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        """A call in a worker."""
        raise NotImplementedError

    async def run_all(self, fn: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        """A task for each call, in a nursery, as one usually does."""
        raise NotImplementedError

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.visit(self.run, fn, *args)

    def round_trips(self, fn: Callable[..., Any], count: int) -> list[int]:
        async def visit() -> list[int]:
            now, run, times = time.perf_counter_ns, self.run, []
            for _ in range(count):
                begun = now()
                await run(fn)
                times.append(now() - begun)
            return times

        found: list[int] = self.visit(visit)
        return found

    def submits(self, fn: Callable[..., Any], count: int) -> None:
        self.together(fn, [(number,) for number in range(count)])

    def together(self, fn: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
        found: list[Any] = self.visit(self.run_all, fn, calls)
        return found

    def map(self, fn: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        return self.together(fn, [(item,) for item in items])

    def stream(self, fn: Callable[..., Any], items: Iterable[Any], ordered: bool) -> Iterator[Any]:
        return iter(self.map(fn, items))  # no stream of its own: all results, then they are taken


class TrioParallel(AsyncPool):
    distribution, module = "trio-parallel", "trio_parallel"

    def open(self, initializer: Any = None, initargs: tuple[Any, ...] = ()) -> None:
        import threading

        self.is_open, self.error = threading.Event(), None
        self.thread = threading.Thread(target=self._loop)
        self.thread.start()
        self.is_open.wait()
        if self.error is not None:
            raise self.error

    def _loop(self) -> None:
        import trio

        try:
            trio.run(self._main)
        except BaseException as error:
            self.error = error
            self.is_open.set()

    async def _main(self) -> None:
        import trio
        from trio_parallel import WorkerType, open_worker_context

        self.token = trio.lowlevel.current_trio_token()
        self.limiter = trio.CapacityLimiter(self.workers)
        self.leave = trio.Event()
        async with open_worker_context(worker_type=WorkerType(self.method)) as self.pool:
            self.is_open.set()
            await self.leave.wait()

    def visit(self, function: Any, *args: Any) -> Any:
        import trio

        return trio.from_thread.run(function, *args, trio_token=self.token)

    async def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        return await self.pool.run_sync(fn, *args, limiter=self.limiter)

    async def run_all(self, fn: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        import trio

        results: dict[int, Any] = {}

        async def one(number: int, args: tuple[Any, ...]) -> None:
            results[number] = await self.run(fn, *args)

        async with trio.open_nursery() as nursery:
            for number, args in enumerate(calls):
                nursery.start_soon(one, number, args)
        return [results[number] for number in range(len(results))]

    def close(self) -> None:
        import trio

        trio.from_thread.run_sync(self.leave.set, trio_token=self.token)
        self.thread.join()
        if self.error is not None:
            raise self.error


class AnyIO(AsyncPool):
    distribution, module = "anyio", "anyio.to_process"
    start = "spawn"

    def open(self, initializer: Any = None, initargs: tuple[Any, ...] = ()) -> None:
        from anyio import CapacityLimiter
        from anyio.from_thread import start_blocking_portal

        self.portal_manager = start_blocking_portal()
        self.portal = self.portal_manager.__enter__()

        async def limiter() -> CapacityLimiter:
            return CapacityLimiter(self.workers)

        self.limiter = self.portal.call(limiter)

    def visit(self, function: Any, *args: Any) -> Any:
        return self.portal.call(function, *args)

    async def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        from anyio import to_process

        return await to_process.run_sync(fn, *args, limiter=self.limiter)

    async def run_all(self, fn: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        from anyio import create_task_group

        results: dict[int, Any] = {}

        async def one(number: int, args: tuple[Any, ...]) -> None:
            results[number] = await self.run(fn, *args)

        async with create_task_group() as group:
            for number, args in enumerate(calls):
                group.start_soon(one, number, args)
        return [results[number] for number in range(len(results))]

    def close(self) -> None:
        self.portal_manager.__exit__(None, None, None)
