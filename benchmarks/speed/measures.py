"""How each row is measured: a function of an open pool and a size, to values by metric.

`seconds` is always among them where the size can be chosen: it tells how large it may be.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.programs import ROOT, module_command
from benchmarks.speed import system, work
from benchmarks.speed.ideal import Ideal
from benchmarks.speed.pools import Pool
from benchmarks.speed.system import MB

Values = dict[str, float]

ARRAY = 8_000_000  # bytes
_SLICES = 6  # maps, of which the median counts: so no one moment of the machine decides
_LENGTHS = [  # microseconds, how many: equal sums per worker, for two
    (1_000_000, 2),
    (100_000, 4),
    (10_000, 20),
    (1_000, 100),
    (100, 400),
    (10, 600),
    (1, 600),
]


def together(pool: Pool, function: Any, *args: Any) -> list[Any]:
    """As many calls as workers, which meet: so each worker has one."""
    with system.stamps_file() as path:
        calls = [(path, number, pool.workers, *args) for number in range(pool.workers)]
        return pool.together(function, calls)


def warm(pool: Pool) -> None:
    """All workers are there, and have done a task."""
    together(pool, work.meet)


# Small tasks --------------------------------------------------------------------------------------


def bulk_map(pool: Pool, size: int, unit: float) -> Values:
    begun = time.perf_counter()
    results = pool.map(work.noop, range(size))
    seconds = time.perf_counter() - begun
    assert len(results) == size and sum(results) == size * (size - 1) // 2
    return {"rate": size / seconds, "seconds": seconds}


def strings_map(pool: Pool, size: int, unit: float) -> Values:
    begun = time.perf_counter()
    results = pool.map(work.string, range(size))
    seconds = time.perf_counter() - begun
    assert len(results) == size and results[-1] == str(size - 1)
    return {"rate": size / seconds, "seconds": seconds}


def tuples_map(pool: Pool, size: int, unit: float) -> Values:
    begun = time.perf_counter()
    results = pool.map(work.pair, range(size))
    seconds = time.perf_counter() - begun
    assert len(results) == size and results[-1] == (size - 1, "short")
    return {"rate": size / seconds, "seconds": seconds}


def _stream(pool: Pool, size: int, ordered: bool) -> Values:
    peak = system.Peak()
    begun = time.perf_counter()
    total = 0
    for number in pool.stream(work.noop, (number for number in range(size)), ordered):
        total += number
    seconds = time.perf_counter() - begun
    assert total == size * (size - 1) // 2
    return {"rate": size / seconds, "seconds": seconds, "peak": peak.highest / MB}


def stream(pool: Pool, size: int, unit: float) -> Values:
    return _stream(pool, size, True)


def stream_unordered(pool: Pool, size: int, unit: float) -> Values:
    return _stream(pool, size, False)


def submits(pool: Pool, size: int, unit: float) -> Values:
    begun = time.perf_counter()
    pool.submits(work.noop, size)
    seconds = time.perf_counter() - begun
    return {"rate": size / seconds, "seconds": seconds}


def round_trip(pool: Pool, size: int, unit: float) -> Values:
    pool.round_trips(work.noop, size // 10 + 1)
    times = sorted(pool.round_trips(work.noop, size))
    return {"p50": statistics.median(times) / 1e3, "p99": times[int(size * 0.99)] / 1e3}


# Real work ----------------------------------------------------------------------------------------


def _beside_ideal(pool: Pool, lists: list[list[int]]) -> list[tuple[float, float]]:
    """For each list: seconds of the pool, and of the ideal right before it: a machine's speed may
    change within seconds, so they must be close together."""
    found = []
    ideal = Ideal(pool.workers)
    try:
        ideal.seconds(lists[0][:100])
        for items in lists:
            least = ideal.seconds(items)
            begun = time.perf_counter()
            results = pool.map(work.spin, items)
            found.append((time.perf_counter() - begun, least))
            assert len(results) == len(items)
    finally:
        ideal.close()
    return found


def _spin(pool: Pool, size: int, micros: float, unit: float) -> Values:
    items = [max(1, round(micros * unit))] * max(1, size // _SLICES)
    found = _beside_ideal(pool, [items] * _SLICES)
    return {
        "share": statistics.median(ideal / seconds for seconds, ideal in found),
        "seconds": sum(seconds for seconds, _ in found),
    }


def spin_50us(pool: Pool, size: int, unit: float) -> Values:
    return _spin(pool, size, 50, unit)


def spin_1ms(pool: Pool, size: int, unit: float) -> Values:
    return _spin(pool, size, 1000, unit)


def mixed(pool: Pool, size: int, unit: float) -> Values:
    """`size`: the longest item, in microseconds; the others in proportion."""
    scale = size / 1_000_000 * unit
    items = [max(1, round(micros * scale)) for micros, count in _LENGTHS for _ in range(count)]
    at_random = random.Random(4).sample(items, len(items))
    found = _beside_ideal(pool, [items[::-1], items, at_random])
    ratios = [seconds / ideal for seconds, ideal in found]
    return dict(zip(("last", "first", "random"), ratios, strict=True))


# Large arguments and results ----------------------------------------------------------------------


def has_numpy() -> bool:
    return importlib.util.find_spec("numpy") is not None


def distinct(count: int) -> list[Any]:
    """That many blocks, each an object of its own; as arrays, over little more memory than one."""
    if has_numpy():
        import numpy as np

        words = ARRAY // 8
        base = np.ones(words + count)
        return [base[n : n + words] for n in range(count)]
    return [bytes([1]) * (ARRAY - n) for n in range(count)]


def arrays_in(pool: Pool, size: int, unit: float) -> Values:
    arrays = distinct(size)
    work.touch(arrays[0])
    # Who unpickles an array imports numpy first, which takes as long as forty of these.
    pool.together(work.make_ready, [(_maker(), 8)] * pool.workers)
    peak = system.Peak()
    begun = time.perf_counter()
    total = sum(pool.stream(work.touch, arrays, True))
    seconds = time.perf_counter() - begun
    assert total >= size * (ARRAY - size)
    return {"rate": total / seconds / MB, "peak": peak.beyond_start / MB, "seconds": seconds}


def _maker() -> Any:
    """What makes a block; ready in this process, so that numpy is no part of the parent's peak."""
    make = work.make_array if has_numpy() else work.make_bytes
    make(8)
    return make


def arrays_out(pool: Pool, size: int, unit: float) -> Values:
    make = _maker()
    pool.together(work.make_ready, [(make, ARRAY)] * pool.workers)
    peak = system.Peak()
    begun = time.perf_counter()
    total = 0
    for block in pool.stream(make, [ARRAY] * size, True):
        total += work.touch(block)
    seconds = time.perf_counter() - begun
    assert total == size * ARRAY
    return {"rate": total / seconds / MB, "peak": peak.beyond_start / MB, "seconds": seconds}


def one_large_result(pool: Pool, size: int, unit: float) -> Values:
    make = _maker()
    pool.together(work.make_ready, [(make, size)] * pool.workers)
    peak = system.Peak()
    begun = time.perf_counter()
    block = pool.call(make, size)
    seconds = time.perf_counter() - begun
    assert work.touch(block) == size
    return {"rate": size / seconds / MB, "peak": peak.beyond_start / MB}


def killed(pool: Pool, size: int, unit: float) -> Values:
    """A parent that is killed among its arrays: how much is left in shared memory?"""
    before = system.in_shared_memory()
    name = next(name for name, kind in _catalogue().items() if type(pool) is kind)
    done = subprocess.run(
        module_command("speed.doomed", name, pool.method, size),
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        timeout=60,
        start_new_session=True,
    )
    if done.returncode != -signal.SIGKILL:
        raise RuntimeError(f"it was not killed, but ended with {done.returncode}")
    return {"left": float(len(system.left_in_shared_memory(before)))}


def _catalogue() -> dict[str, type[Pool]]:
    from benchmarks.speed.catalogue import ALL

    return ALL


# Start and end ------------------------------------------------------------------------------------


def cold(pool: Pool, size: int, unit: float) -> Values:
    """Its import is not a part of it: that has a row of its own."""
    importlib.import_module(pool.module)
    with system.stamps_file() as path:
        calls = [(path, number, pool.workers) for number in range(pool.workers)]
        begun = time.perf_counter()
        pool.open()
        pool.call(work.noop)
        first = time.perf_counter()
        pool.together(work.meet, calls)
        ready = time.perf_counter()
        pool.close()
        closed = time.perf_counter()
    return {
        "first": (first - begun) * 1e3,
        "ready": (ready - begun) * 1e3,
        "close": (closed - ready) * 1e3,
    }


def imports(pool: Pool, size: int, unit: float) -> Values:
    code = (
        "import sys, time; begun = time.perf_counter(); "
        f"import {pool.module}; print(time.perf_counter() - begun)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE).stdout)
        for _ in range(size)
    ]
    return {"import": statistics.median(times) * 1e3}


# Standing still -----------------------------------------------------------------------------------


def check(pool: Pool, size: int, unit: float) -> Values:
    """`size`: how many ask at once, in the second half."""
    values = {}
    cost = getattr(pool, "cost", work.cost_of_andon)
    for name, workers in (("alone", 1), ("many", size)):
        pool.workers = workers
        pool.open()
        try:
            values[name] = statistics.median(together(pool, cost))
        finally:
            pool.close()
    return values


def idle(pool: Pool, size: int, unit: float) -> Values:
    """`size`: milliseconds."""
    pids, me, thread = system.descendants(), os.getpid(), system.this_thread()

    def counts() -> tuple[int, int]:
        return system.switches(me, thread), sum(_each(pids))

    time.sleep(0.3)  # it may have something to put away
    before = counts()
    begun = time.perf_counter()
    time.sleep(size / 1000)
    after = counts()
    seconds = time.perf_counter() - begun
    return {
        "parent": (after[0] - before[0]) / seconds,
        "workers": (after[1] - before[1]) / seconds,
    }


def _each(pids: list[int]) -> Iterator[int]:
    for pid in pids:
        try:
            yield system.switches(pid)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it was no worker, but had something to do once
