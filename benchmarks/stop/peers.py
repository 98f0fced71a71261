"""One small adapter per library: how it runs tasks, how one usually stops all of them when one
fails, and how one is usually ready again afterwards.

Event rows (`token-loop`, `token-sleep`): the failing task sets an event that its siblings look at
or wait for. All other rows: the library's own means, or else a kill. Where a library hands no
event down to its workers (joblib, trio-parallel) it is a manager's, as one finds it in answers.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import multiprocessing
import time
from typing import Any

from benchmarks.stamps import AFTER, BEFORE, EXCEPTION, FIRST, Stamps
from benchmarks.stop.states import Failure, Job, hand_down, meet, noop, station


class Library:
    """A library under one start method. `measure` once per measurement, then `close`."""

    distribution: str | None = None  # None: of the standard library
    module = ""
    recipe = ""
    own_start_method = False  # it has but one, or its own

    def __init__(self, workers: int, method: str, kill_after: float) -> None:
        self.workers = workers
        self.method = method
        self.kill_after = kill_after
        self.context = multiprocessing.get_context(method)
        self.event: Any = None

    @classmethod
    def installed(cls) -> bool:
        return importlib.util.find_spec(cls.module) is not None

    @classmethod
    def version(cls) -> str:
        if cls.distribution is None:
            return ""
        try:
            return importlib.metadata.version(cls.distribution)
        except importlib.metadata.PackageNotFoundError:
            return "(not installed, but on the path)"

    def measure(self, job: Job, stamps: Stamps) -> None:
        """Be warm, have the line stopped, be ready again; the caller's stamps are written here."""
        cells, now = stamps.cells, time.monotonic_ns
        self.open(job)
        self.meet(job, BEFORE)
        try:
            self.fail(job)
        except BaseException as error:
            cells[EXCEPTION] = now()
            check(error)
        else:
            raise AssertionError("nothing was raised")
        self.ready(job)
        self.one()
        cells[FIRST] = now()
        self.meet(job, AFTER)

    def open(self, job: Job) -> None:
        """Make the pool."""
        raise NotImplementedError

    def meet(self, job: Job, when: int) -> None:
        """Have all workers at work at once."""
        raise NotImplementedError

    def fail(self, job: Job) -> None:
        """Run the tasks; when one fails, have the others stopped; raise its error."""
        raise NotImplementedError

    def ready(self, job: Job) -> None:
        """What must be done before the next group."""

    def one(self) -> None:
        """The next group's first result."""
        raise NotImplementedError

    def close(self) -> None:
        """The pool is not needed any more; not measured."""
        raise NotImplementedError


def check(error: BaseException) -> None:
    """Is it the failing task's?"""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, Failure):
        raise error


def meetings(job: Job, when: int) -> list[tuple[Any, ...]]:
    return [(job.path, when, index, job.workers) for index in range(job.workers)]


class Andon(Library):
    distribution, module = "andon", "andon"
    recipe = "a TaskGroup on a warm Pool; nothing else"

    def open(self, job: Job) -> None:
        import andon

        self.andon = andon
        self.pool = andon.Pool(self.workers, start_method=self.method, kill_after=self.kill_after)

    def meet(self, job: Job, when: int) -> None:
        with self.andon.TaskGroup(pool=self.pool) as tg:
            for args in meetings(job, when):
                tg.submit(meet, *args)

    def fail(self, job: Job) -> None:
        with self.andon.TaskGroup(pool=self.pool, kill_after=self.kill_after) as tg:
            for index in range(job.workers):
                tg.submit(station, job, index)

    def one(self) -> None:
        with self.andon.TaskGroup(pool=self.pool) as tg:
            tg.submit(noop).result()

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join()


def call_station(args: tuple[Job, int]) -> None:
    station(*args)


def call_meet(args: tuple[Any, ...]) -> None:
    meet(*args)


class MultiprocessingPool(Library):
    module = "multiprocessing"
    recipe = "event, or `with Pool()`: terminate(), and a new Pool"

    def open(self, job: Job) -> None:
        self.event = self.context.Event()
        self.pool = self.context.Pool(self.workers, hand_down, (self.event,))

    def meet(self, job: Job, when: int) -> None:
        for _ in self.pool.imap_unordered(call_meet, meetings(job, when)):
            pass

    def fail(self, job: Job) -> None:
        jobs = [(job, index) for index in range(job.workers)]
        self.results = self.pool.imap_unordered(call_station, jobs)
        if job.cooperative:
            for _ in self.results:
                pass
        else:
            with self.pool:
                for _ in self.results:
                    pass

    def ready(self, job: Job) -> None:
        if job.cooperative:
            for _ in self.results:  # the others are over, too
                pass
            self.event.clear()
        else:
            self.open(job)

    def one(self) -> None:
        self.pool.apply(noop)

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join()


class Futures(Library):
    """What those libraries share that have `submit` and futures."""

    executor: Any

    def submit(self, function: Any, *args: Any) -> Any:
        return self.executor.submit(function, *args)

    def stop(self, futures: list[Any]) -> None:
        raise NotImplementedError

    def meet(self, job: Job, when: int) -> None:
        for future in [self.submit(meet, *args) for args in meetings(job, when)]:
            future.result()

    def fail(self, job: Job) -> None:
        from concurrent.futures import FIRST_EXCEPTION, wait

        self.futures = [self.submit(station, job, index) for index in range(job.workers)]
        done, _ = wait(self.futures, return_when=FIRST_EXCEPTION)
        error = next(e for f in done if (e := f.exception()) is not None)
        if not job.cooperative:
            self.stop(self.futures)
        raise error

    def ready(self, job: Job) -> None:
        if job.cooperative:
            from concurrent.futures import wait

            wait(self.futures)
            self.event.clear()
        else:
            self.reopen(job)

    def reopen(self, job: Job) -> None:
        self.open(job)

    def one(self) -> None:
        self.submit(noop).result()


class StandardExecutor(Futures):
    module = "concurrent.futures"
    recipe = "event, or kill its processes, shutdown(), and a new executor"

    def open(self, job: Job) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self.event = self.context.Event()
        self.executor = ProcessPoolExecutor(
            self.workers, self.context, initializer=hand_down, initargs=(self.event,)
        )

    def stop(self, futures: list[Any]) -> None:
        for process in list(self.executor._processes.values()):
            process.kill()
        self.executor.shutdown(cancel_futures=True)

    def close(self) -> None:
        self.executor.shutdown(cancel_futures=True)


class Pebble(Futures):
    distribution, module = "pebble", "pebble"
    recipe = "event, or cancel() of the other futures; the same pool"

    def open(self, job: Job) -> None:
        from pebble import ProcessPool

        self.event = self.context.Event()
        self.executor = ProcessPool(
            self.workers, initializer=hand_down, initargs=(self.event,), context=self.context
        )

    def submit(self, function: Any, *args: Any) -> Any:
        return self.executor.schedule(function, args)

    def stop(self, futures: list[Any]) -> None:
        for future in futures:
            future.cancel()

    def reopen(self, job: Job) -> None:
        pass

    def close(self) -> None:
        self.executor.stop()
        self.executor.join()


class Loky(Futures):
    distribution, module = "loky", "loky"
    recipe = "event, or shutdown(kill_workers=True), and get_reusable_executor() again"
    own_start_method = True

    def open(self, job: Job) -> None:
        import loky
        from loky.backend import get_context

        self.event = get_context("loky").Event()
        self.executor = loky.get_reusable_executor(
            self.workers, initializer=hand_down, initargs=(self.event,)
        )

    def stop(self, futures: list[Any]) -> None:
        self.executor.shutdown(kill_workers=True)

    def close(self) -> None:
        self.executor.shutdown(kill_workers=True)


class ManagersEvent(Library):
    """Those that hand no event down to their workers."""

    def event_for(self, job: Job) -> Any:
        """Kept for all measurements, as its process is no part of the pool."""
        if not job.cooperative:
            return None
        if self.event is None:
            self.manager = multiprocessing.Manager()
            self.event = self.manager.Event()
        self.event.clear()
        return self.event


class Joblib(ManagersEvent):
    distribution, module = "joblib", "joblib"
    recipe = "Parallel's own abort (and a manager's event); Parallel again"
    own_start_method = True

    def open(self, job: Job) -> None:
        import joblib

        self.delayed = joblib.delayed
        self.parallel = joblib.Parallel(self.workers, batch_size=1, pre_dispatch="all")
        self.event_for(job)

    def meet(self, job: Job, when: int) -> None:
        self.parallel(self.delayed(meet)(*args) for args in meetings(job, when))

    def fail(self, job: Job) -> None:
        event = self.event_for(job)
        self.parallel(self.delayed(station)(job, i, event) for i in range(job.workers))

    def one(self) -> None:
        self.parallel([self.delayed(noop)()])

    def close(self) -> None:
        from joblib.externals.loky import reusable_executor

        if reusable_executor._executor is not None:
            reusable_executor._executor.shutdown(kill_workers=True)


def shared_station(event: Any, job: Job, index: int) -> None:
    station(Job(*job), index, event)


def shared_meet(event: Any, *args: Any) -> None:
    meet(*args)


def shared_noop(event: Any) -> int:
    return noop()


class Mpire(Library):
    distribution, module = "mpire", "mpire"
    recipe = "map's own abort (and an event); the same WorkerPool"

    def open(self, job: Job) -> None:
        from mpire import WorkerPool

        self.event = self.context.Event()
        self.pool = WorkerPool(
            self.workers, start_method=self.method, shared_objects=self.event, keep_alive=True
        )

    def meet(self, job: Job, when: int) -> None:
        self.pool.map_unordered(shared_meet, meetings(job, when), chunk_size=1)

    def fail(self, job: Job) -> None:
        jobs = [(job, index) for index in range(job.workers)]
        self.pool.map_unordered(shared_station, jobs, chunk_size=1)

    def ready(self, job: Job) -> None:
        self.event.clear()

    def one(self) -> None:
        self.pool.apply(shared_noop)

    def close(self) -> None:
        self.pool.terminate()


class TrioParallel(ManagersEvent):
    distribution, module = "trio-parallel", "trio_parallel"
    recipe = "a nursery's cancel: run_sync(cancellable=True) (and a manager's event)"

    def open(self, job: Job) -> None:
        self.event_for(job)

    def measure(self, job: Job, stamps: Stamps) -> None:
        import trio

        self.open(job)
        trio.run(self._measure, job, stamps)

    async def _measure(self, job: Job, stamps: Stamps) -> None:
        from functools import partial

        import trio
        from trio_parallel import WorkerType, open_worker_context

        cells, now = stamps.cells, time.monotonic_ns
        event = self.event_for(job)
        limiter = trio.CapacityLimiter(self.workers)
        async with open_worker_context(worker_type=WorkerType(self.method)) as context:
            run = partial(context.run_sync, cancellable=True, limiter=limiter)

            async def together(function: Any, calls: list[tuple[Any, ...]]) -> None:
                async with trio.open_nursery() as nursery:
                    for args in calls:
                        nursery.start_soon(run, function, *args)

            await together(meet, meetings(job, BEFORE))
            try:
                await together(station, [(job, i, event) for i in range(job.workers)])
            except BaseException as error:
                cells[EXCEPTION] = now()
                check(error)
            else:
                raise AssertionError("nothing was raised")
            await run(noop)
            cells[FIRST] = now()
            await together(meet, meetings(job, AFTER))

    def close(self) -> None:
        pass


LIBRARIES: dict[str, type[Library]] = {
    "andon": Andon,
    "multiprocessing.Pool": MultiprocessingPool,
    "ProcessPoolExecutor": StandardExecutor,
    "pebble": Pebble,
    "loky": Loky,
    "joblib": Joblib,
    "mpire": Mpire,
    "trio-parallel": TrioParallel,
}
