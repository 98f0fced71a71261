"""A program that is interrupted: `python interrupted.py SCENARIO METHOD LOG GRACE KILL_AFTER`.

What happens is written to LOG, each line whole, with the time: when tasks start, when an interrupt
has left the scope, when the program has come to its end.
"""

from __future__ import annotations

import os
import sys
import time

LOG = os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND)


def log(what: str) -> None:
    os.write(LOG, f"{what} {time.monotonic():.6f} {os.getpid()}\n".encode())


log("begin")

import itertools  # noqa: E402
from typing import Any  # noqa: E402

import andon  # noqa: E402

METHOD = sys.argv[2]
OPTIONS: dict[str, Any] = {
    "workers": 2,
    "start_method": METHOD,
    "grace": float(sys.argv[4]),
    "kill_after": float(sys.argv[5]),
}
ITEMS = 40
PATH = sys.argv[3]


def work(i: int) -> int:
    """One of many kinds of tasks: quick, asleep, computing, looking at the token, cleaning up."""
    fd = os.open(PATH, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    os.write(fd, f"start {time.monotonic():.6f} {os.getpid()}\n".encode())
    os.close(fd)
    kind = i % 5
    if kind == 1:
        time.sleep(0.01)
    elif kind == 2:
        sum(range(100_000))
    elif kind == 3:
        andon.sleep(0.01)
    elif kind == 4:
        try:
            time.sleep(0.01)
        finally:
            andon.check()
    return i


def stubborn(i: int) -> int:
    """Nothing but a kill ends it."""
    work(0)
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def by_map() -> None:
    assert andon.map(work, range(ITEMS), **OPTIONS) == list(range(ITEMS))


def by_imap() -> None:
    for result in andon.imap(work, itertools.count(), **OPTIONS):
        if result == ITEMS:
            break


def in_the_body() -> None:
    with andon.TaskGroup(**OPTIONS) as tg:
        for i in range(ITEMS):
            future = tg.submit(work, i)
            if i % 4 == 0:
                assert future.result() == i
        for result in tg.map(work, range(ITEMS)):
            sum(range(1000 + result))


def at_the_join() -> None:
    with andon.TaskGroup(**OPTIONS) as tg:
        for i in range(2 * ITEMS):
            tg.submit(work, i)


def on_a_pool() -> None:
    with andon.Pool(**OPTIONS) as pool:
        assert pool.map(work, range(ITEMS)) == list(range(ITEMS))
        for _ in pool.imap_unordered(work, iter(range(ITEMS))):
            pass
        pool.map_async(work, range(5)).get()
        pool.apply(work, (1,))


def on_an_executor() -> None:
    with andon.ProcessPoolExecutor(**OPTIONS) as executor:
        futures = [executor.submit(work, i) for i in range(ITEMS)]
        assert [f.result() for f in futures] == list(range(ITEMS))
        list(executor.map(work, range(ITEMS)))


def one_by_one() -> None:
    """The main thread drives the pool itself, for most of the time."""
    with andon.ProcessPoolExecutor(**OPTIONS) as executor:
        for i in range(20 * ITEMS):
            assert executor.submit(work if i % 20 == 0 else abs, i).result() == i


def nested() -> None:
    with andon.TaskGroup(**OPTIONS) as tg:
        for _ in range(3):
            tg.submit(inner)


def inner() -> None:
    with andon.TaskGroup(**OPTIONS) as tg:
        for i in range(8):
            tg.submit(work, i)


def with_stubborn_tasks() -> None:
    with andon.TaskGroup(workers=2, start_method=METHOD, grace=20, kill_after=20) as tg:
        for i in range(5):
            tg.submit(stubborn, i)


def with_stubborn_calls() -> None:
    with andon.ProcessPoolExecutor(2, start_method=METHOD, grace=20, kill_after=20) as executor:
        futures = [executor.submit(stubborn, i) for i in range(5)]
        futures[0].result()


def main(scenario: str) -> None:
    try:
        globals()[scenario]()
    except KeyboardInterrupt:
        log("caught")
        raise
    finally:
        log("left")


if __name__ == "__main__":
    main(sys.argv[1])
    log("end")
