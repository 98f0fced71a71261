"""The rows: what is measured, with how much, and what andon is to reach in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.speed import measures
from benchmarks.speed.catalogue import EVENTS, LIBRARIES

BEST = "the best peer"
POOL, EXECUTOR = "multiprocessing.Pool", "ProcessPoolExecutor"


class Metric(NamedTuple):
    """`more`: more of it is better."""

    name: str
    title: str
    unit: str
    more: bool = False


class Target(NamedTuple):
    """For andon's median of a metric: `bound` in its unit; or, `against` another, for the ratio
    to that one's; or, where `less`, for the difference."""

    metric: str
    bound: float
    against: str | None = None
    less: bool = False


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    metrics: tuple[Metric, ...]
    measure: Callable[..., measures.Values]
    size: int
    quick: int  # the size for `--quick`
    targets: tuple[Target, ...] = ()
    budget: float | None = None  # seconds; how long a slow library may take: its size is smaller
    whole: tuple[str, ...] = ("andon",)  # who has to take the full size all the same
    participants: tuple[str, ...] = tuple(LIBRARIES)
    opened: bool = True  # the measure gets an open pool with warm workers
    fresh: bool = False  # in a new process each time
    workers: int | None = None
    method: str | None = None  # None: whatever was asked for
    rounds: int | None = None  # at most
    within: float = 60.0  # seconds, then it is given up


RATE = Metric("rate", "rate", "items/s", more=True)
PEAK = Metric("peak", "parent's peak memory", "MB")
BEYOND = Metric("peak", "parent's peak beyond the start", "MB")
THROUGHPUT = Metric("rate", "throughput", "MB/s", more=True)
LEFT = Metric("left", "left in /dev/shm", "files")
SHARE = Metric("share", "share of the ideal", "", more=True)
STREAM = (RATE, PEAK)
IN_FLIGHT = 2 * 3 * measures.ARRAY / 1e6  # per worker: one at work, one that waits, one on its way


def _spin(name: str, title: str, measure: Callable[..., measures.Values], size: int, share: float):
    return Row(
        name,
        title,
        (SHARE,),
        measure,
        size,
        size // 10,
        (Target("share", share), Target("share", 1.0, BEST)),
        budget=1.0,
    )


def _cold(method: str, workers: int) -> Row:
    metrics = (
        Metric("first", "first result", "ms"),
        Metric("ready", "all workers ready", "ms"),
        Metric("close", "close", "ms"),
    )
    return Row(
        f"cold-{method}-{workers}",
        f"Cold start, {method}, {workers} workers",
        metrics,
        measures.cold,
        1,
        1,
        tuple(Target(metric.name, 0.8, BEST) for metric in metrics),
        opened=False,
        fresh=True,
        workers=workers,
        method=method,
    )


_ROWS = [
    Row(
        "bulk-map",
        "`map` of 1 M no-ops, default chunks",
        (RATE,),
        measures.bulk_map,
        1_000_000,
        20_000,
        (Target("rate", 1.2, POOL),),
        budget=1.0,
    ),
    Row(
        "strings-map",
        "`map` of 300 k items that return a short string",
        (RATE,),
        measures.strings_map,
        300_000,
        20_000,
        (Target("rate", 1.0, POOL),),
        budget=1.0,
    ),
    Row(
        "tuples-map",
        "`map` of 300 k items that return a tuple",
        (RATE,),
        measures.tuples_map,
        300_000,
        20_000,
        (Target("rate", 1.0, POOL),),
        budget=1.0,
    ),
    Row(
        "stream",
        "`imap` of 1 M no-ops from a generator",
        STREAM,
        measures.stream,
        1_000_000,
        20_000,
        (Target("rate", 4.0, BEST),),
        budget=1.0,
    ),
    Row(
        "stream-unordered",
        "`imap_unordered` of 1 M no-ops from a generator",
        STREAM,
        measures.stream_unordered,
        1_000_000,
        20_000,
        (Target("rate", 4.0, BEST),),
        budget=1.0,
    ),
    Row(
        "stream-memory",
        "`imap` of 10 M no-ops from a generator, once",
        STREAM,
        measures.stream,
        10_000_000,
        50_000,
        (Target("peak", 100.0),),
        budget=3.0,
        fresh=True,
        rounds=1,
        within=300.0,
    ),
    Row(
        "submits",
        "100 k single submits, all futures kept",
        (RATE,),
        measures.submits,
        100_000,
        2_000,
        (Target("rate", 8.0, EXECUTOR),),
        budget=2.0,
    ),
    Row(
        "round-trip",
        "One `submit().result()` at a time",
        (Metric("p50", "p50", "µs"), Metric("p99", "p99", "µs")),
        measures.round_trip,
        2_000,
        200,
        (
            Target("p50", 80.0),
            Target("p99", 200.0),
            Target("p50", 0.3, EXECUTOR),
            Target("p99", 0.3, EXECUTOR),
        ),
    ),
    _spin("spin-50us", "Items of 50 µs of work", measures.spin_50us, 30_000, 0.93),
    _spin("spin-1ms", "Items of 1 ms of work", measures.spin_1ms, 1_800, 0.98),
    Row(
        "mixed",
        "Items of 1 µs to 1 s of work, time over the ideal",
        tuple(
            Metric(name, f"{words}", "×")
            for name, words in (
                ("last", "long ones last"),
                ("first", "long ones first"),
                ("random", "at random"),
            )
        ),
        measures.mixed,
        1_000_000,
        50_000,
        tuple(Target(name, 1.10) for name in ("last", "first", "random")),
        # The others send items one by one, as the executor does.
        participants=("andon", POOL, EXECUTOR, "joblib", "mpire"),
        rounds=2,
    ),
    Row(
        "arrays-in",
        "100 arrays of 8 MB as arguments",
        (THROUGHPUT, BEYOND, LEFT),
        measures.arrays_in,
        100,
        8,
        (
            Target("rate", 1500.0),
            Target("rate", 3.0, BEST),
            Target("peak", IN_FLIGHT + 50),
            Target("left", 0.0),
        ),
        fresh=True,
        rounds=3,
    ),
    Row(
        "arrays-out",
        "100 arrays of 8 MB as results",
        (THROUGHPUT, BEYOND, LEFT),
        measures.arrays_out,
        100,
        8,
        (
            Target("rate", 1500.0),
            Target("rate", 3.0, BEST),
            Target("peak", IN_FLIGHT + 50),
            Target("left", 0.0),
        ),
        fresh=True,
        rounds=3,
    ),
    Row(
        "arrays-killed",
        "The parent is killed among its arrays",
        (LEFT,),
        measures.killed,
        40,
        8,
        (Target("left", 0.0),),
        opened=False,
        rounds=2,
    ),
    Row(
        "one-large-result",
        "One result of 1 GB",
        (THROUGHPUT, BEYOND),
        measures.one_large_result,
        1_000_000_000,
        20_000_000,
        (Target("peak", 2_050.0),),
        fresh=True,
        rounds=2,
    ),
    *(_cold(method, workers) for method in ("fork", "forkserver", "spawn") for workers in (2, 8)),
    Row(
        "import",
        "Import in a fresh interpreter",
        (Metric("import", "time", "ms"),),
        measures.imports,
        5,
        1,
        (Target("import", 60.0, POOL, less=True),),
        opened=False,
    ),
    Row(
        "check",
        "One look at the token, nothing set",
        (Metric("alone", "alone", "ns"), Metric("many", "four workers ask", "ns")),
        measures.check,
        4,
        4,
        (Target("alone", 100.0), Target("many", 100.0)),
        participants=("andon", *EVENTS),
        opened=False,
    ),
    Row(
        "idle",
        "An open pool without work",
        (
            Metric("parent", "parent's wake-ups", "/s"),
            Metric("workers", "workers' wake-ups, all together", "/s"),
        ),
        measures.idle,
        3_000,
        500,
        (Target("parent", 0.0), Target("workers", 0.0)),
        rounds=2,
    ),
]
ROWS = {row.name: row for row in _ROWS}
