"""Programs that put pools into unusual places: run as `python -m tests.survival.places NAME …`.

A program says on its standard output what the test wants to know, and reads a line from its
standard input where it is to wait for the test.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from typing import Any

import andon
from tests.support import Stage
from tests.survival.parents import heard, pid, say


def square(number: int) -> int:
    return number * number


offset = 0


def shift(number: int) -> None:
    global offset
    offset = number


def shifted(number: int) -> int:
    return number + offset


def sleep(running: Stage) -> None:
    running.reach(os.getpid())
    time.sleep(60)


def everything(method: str) -> list[Any]:
    """Each kind of pool, once."""
    with andon.Pool(1, shift, (10,), start_method=method) as pool:
        found: list[Any] = [pool.map(shifted, range(4))]
    with andon.ProcessPoolExecutor(1, start_method=method) as executor:
        found.append(executor.submit(square, 3).result())
    with andon.TaskGroup(workers=1, start_method=method) as tg:
        future = tg.submit(square, 4)
    found.append(future.result())
    found.append(andon.map(square, range(3), workers=1, start_method=method))
    return found


# A daemonic process, which the standard pools refuse ---------------------------------------------


def daemonic(method: str, running: Stage) -> None:
    context = multiprocessing.get_context(method)
    process = context.Process(target=_inside, args=(method, running), daemon=True)
    process.start()
    running_there = heard()
    assert running_there == "end"  # by leaving, which terminates a daemonic process


def _inside(method: str, running: Stage) -> None:
    running.reach(f"{multiprocessing.current_process().daemon} {everything(method)}")
    with andon.Pool(2, start_method=method) as pool:
        for _ in range(2):
            pool.apply_async(sleep, (running,))
        time.sleep(60)


# Threads -----------------------------------------------------------------------------------------


def threads(method: str, running: Stage) -> None:
    """Every kind of pool, in threads, at the same time."""
    found: list[Any] = []
    started = [threading.Thread(target=lambda: found.append(everything(method))) for _ in range(2)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    for each in found:
        say(each)


# Pools in pools ----------------------------------------------------------------------------------


def three_levels(method: str, running: Stage, how: str) -> None:
    hard: dict[str, Any] = {"grace": 0, "kill_after": 0} if how == "kill" else {}
    with andon.TaskGroup(workers=1, start_method=method, policy=andon.collect_all(), **hard) as tg:
        future = tg.submit(nest, 3, method, running)
        say(heard())
        if how in ("cancel", "kill"):
            future.cancel()
        tg.submit(pid)
    say(tg.outcomes[0].state, type(tg.outcomes[0].error).__name__, tg.outcomes[1].ok)


def nest(depth: int, method: str, running: Stage) -> None:
    running.reach(os.getpid())
    if depth == 1:
        time.sleep(60)
    with andon.Pool(1, start_method=method) as pool:
        pool.apply(nest, (depth - 1, method, running))


# A web server that forks its children -----------------------------------------------------------


def prefork(method: str, running: Stage) -> None:
    """The master has andon imported, and a pool of its own; its children open theirs."""
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 on: a fork with threads
    mine = andon.Pool(2, start_method=method)
    workers = set(mine.map(pid, range(20), chunksize=1))
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            _serve(method, running)
        children.append(child)
    say(*children)
    heard()
    for child, number in zip(
        children, (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1), strict=True
    ):
        os.kill(child, number)
    say(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
    say(len(workers | set(mine.map(pid, range(20), chunksize=1))) <= 2, mine.apply(square, (5,)))
    mine.terminate()
    mine.join()
    heard()


def _serve(method: str, running: Stage) -> None:
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(7))  # an orderly end
    try:
        with andon.Pool(2, start_method=method) as pool:
            requests = [pool.apply_async(sleep, (running,)) for _ in range(2)]
            requests[0].get()
    except SystemExit as leaving:
        sys.stdout.flush()
        os._exit(int(leaving.code or 0))


if __name__ == "__main__":
    name, method, stage, *rest = sys.argv[1:]
    globals()[name](method, Stage(stage), *rest)
