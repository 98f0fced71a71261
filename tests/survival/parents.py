"""Programs whose end is the subject: run as `python -m tests.survival.parents NAME METHOD STAGE…`.

A program says on its standard output what the test wants to know, and reads a line from its
standard input where it is to wait for the test.
"""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import andon
from tests.support import Stage, alive

BUSY = ("python", "sleep", "c")


def busy(kind: str, running: Stage) -> None:
    """Announces its own pid, a child's, and that of a child that has left its group."""
    children = [
        subprocess.Popen(["sleep", "60"], start_new_session=escaped) for escaped in (False, True)
    ]
    running.reach(" ".join(str(p) for p in (os.getpid(), *(c.pid for c in children))))
    if kind == "python":
        while True:
            pass
    if kind == "sleep":
        time.sleep(60)
    ctypes.PyDLL(None).sleep(60)  # in C, holding the GIL


def hold(running: Stage, go: Stage) -> int:
    running.reach(os.getpid())
    go.hold()
    return os.getpid()


def pid(_: Any = None) -> int:
    return os.getpid()


def say(*words: object) -> None:
    print(*words, flush=True)


def heard() -> str:
    return sys.stdin.readline().strip()


# Ends of a parent with busy workers and work pending ---------------------------------------------


def waits_to_be_killed(method: str, running: Stage) -> None:
    pool = _start(method, running)
    heard()
    raise AssertionError(f"nobody killed us and {pool}")


def forks_and_waits_to_be_killed(method: str, running: Stage) -> None:
    """A child of the program's own outlives it; workers must not."""
    pool = _start(method, running)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    say(child)
    heard()
    raise AssertionError(f"nobody killed us and {pool}")


def falls_off_its_end(method: str, running: Stage) -> None:
    global _kept
    _kept = _start(method, running)
    heard()


_kept: Any = None


def leaves_by_sys_exit(method: str, running: Stage) -> NoReturn:
    pool = _start(method, running)
    heard()
    assert pool
    sys.exit(5)


def leaves_by_os_exit(method: str, running: Stage) -> NoReturn:
    pool = _start(method, running)
    heard()
    assert pool
    os._exit(6)


def fails(method: str, running: Stage) -> NoReturn:
    pool = _start(method, running)
    heard()
    raise RuntimeError(f"the program failed with {pool} open")


def fails_in_a_group(method: str, running: Stage) -> NoReturn:
    with andon.TaskGroup(workers=3, start_method=method, grace=0.1, kill_after=0.1) as tg:
        for kind in BUSY:
            tg.submit(busy, kind, running)
        for _ in range(5):
            tg.submit(pid)
        heard()
        sys.exit(7)


def drops_its_pool(method: str, running: Stage) -> None:
    pool = _start(method, running)
    heard()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()
    say(" ".join(w.category.__name__ for w in caught))
    heard()  # goes on living: its workers do not


def _start(method: str, running: Stage) -> andon.Pool:
    pool = andon.Pool(len(BUSY), start_method=method)
    for kind in BUSY:
        pool.apply_async(busy, (kind, running))
    for _ in range(5):
        pool.apply_async(pid)
    return pool


# Executors, which finish what they have accepted, as the standard ones do -------------------------


def leaves_an_executor(method: str, running: Stage, how: str) -> None:
    global _kept
    executor = andon.ProcessPoolExecutor(1, start_method=method)
    _kept = [executor.submit(nap_and_say, running, n) for n in range(3)]
    if how == "open":
        _kept.append(executor)
    elif how == "shut down":
        executor.shutdown(wait=False)
    elif how == "dropped":
        del executor
        gc.collect()
    print("end of main", flush=True)


def nap_and_say(running: Stage, number: int) -> None:
    running.reach(os.getpid())
    time.sleep(0.1)
    print("ran", number, flush=True)


def leaves_an_executor_that_never_ends(method: str, running: Stage) -> None:
    global _kept
    _kept = andon.ProcessPoolExecutor(1, start_method=method)
    _kept.submit(busy, "c", running)


# Forks (S38) -------------------------------------------------------------------------------------


def forks(method: str, running: Stage, go: Stage, ending: str) -> None:
    """A child tries everything, then ends in its own way; the parent goes on as if nothing was."""
    warnings.simplefilter("ignore")  # 3.12 on: a fork with threads; that is the point
    pool = andon.Pool(2, start_method=method)
    executor = andon.ProcessPoolExecutor(1, start_method=method)
    workers = set(pool.map(pid, range(20), chunksize=1))
    with andon.TaskGroup(pool=pool) as tg:
        held = tg.submit(hold, running, go)
        stream = tg.map(pid, range(3))
        worker = int(running.word())
        child = os.fork()
        if child == 0:
            trials: dict[str, Callable[[], Any]] = {
                "pool.apply": lambda: pool.apply(pid),
                "pool.apply_async": lambda: pool.apply_async(pid),
                "pool.map": lambda: pool.map(pid, [1]),
                "pool.map_async": lambda: pool.map_async(pid, [1]),
                "pool.imap": lambda: list(pool.imap(pid, [1])),
                "executor.submit": lambda: executor.submit(pid),
                "executor.map": lambda: list(executor.map(pid, [1])),
                "tg.submit": lambda: tg.submit(pid),
                "tg.map": lambda: tg.map(pid, [1]),
                "tg.cancel": lambda: tg.cancel("from the child"),
                "next(stream)": lambda: next(stream),
                "future.result": held.result,
                "group on the pool": lambda: andon.TaskGroup(pool=pool).__enter__(),
            }
            for name, trial in trials.items():
                try:
                    value = trial()
                except andon.WrongProcessError:
                    continue
                except BaseException as error:
                    say("child:", name, "raised", repr(error))
                else:
                    say("child:", name, "gave", repr(value))
            with andon.TaskGroup(workers=1, start_method=method) as own:
                mine = own.submit(pid)
            say("child: own group", own.verdict, mine.result() != os.getpid())
            if ending == "os._exit":
                os._exit(0)
            if ending == "sys.exit":
                sys.exit(0)
            if ending == "gc":
                del held, stream, trials, trial, tg, pool, executor
                gc.collect()
                sys.exit(0)
            if ending == "close":
                pool.terminate()
                pool.join()
                executor.shutdown()
                os._exit(0)
            assert ending == "leave"
        else:
            say("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            go.release()
            say("parent: held", held.result() == worker)
    if child == 0:
        say("child: left the group")
        return
    say("parent: group", tg.verdict, len(list(tg.outcomes)))
    say("parent: same workers", all(alive(worker) for worker in workers))
    pool.map(pid, range(20), chunksize=1)
    executor.submit(pid).result()
    executor.shutdown()
    pool.close()
    pool.join()
    say("parent: done")


if __name__ == "__main__":
    name, method, *rest = sys.argv[1:]
    stages = [Stage(a) if os.sep in a else a for a in rest]
    if name == "forks":
        # The test holds the writing ends; this end of `running` is ours.
        stages[0]._said = os.open(stages[0].path + ".said", os.O_RDWR | os.O_NONBLOCK)
        stages[1]._go = os.open(stages[1].path + ".go", os.O_RDWR | os.O_NONBLOCK)
    globals()[name](method, *stages)
