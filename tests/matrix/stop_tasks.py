"""The tasks of the stop matrix: each gets into its row's state, says so, and stays there.

A task announces itself on `here` once it is in the state, as one line of JSON: its own pid, and
those of what it has started. What it cleans up says so on `cleaned`.

Where a row ends by a kill, nothing between the announcement and the state may be interruptible,
or a slow moment there makes it an interrupt. So those announce themselves from within C code
(`announcement` is a call that C code can make), or with the guard in place already.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import json
import multiprocessing
import operator
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import andon
from tests.support import Stage

LONG = 60.0  # seconds; nobody waits for it


def fail_when(go: Stage) -> NoReturn:
    go.hold()
    raise ValueError("the bad one")


def note(started: Stage) -> None:
    """A task that must never start."""
    started.reach(os.getpid())


def meet(here: Stage, go: Stage) -> int:
    """All workers at once: each is in here until all are."""
    here.reach(os.getpid())
    go.hold()
    return os.getpid()


def announce(here: Stage, *others: int) -> None:
    here.reach(_words(others))


def announce_trusted(here: Stage, *others: int) -> None:
    """Having used its token: there is a grace from here on, before the first checkpoint too."""
    andon.check()
    announce(here, *others)


def announcement(here: Stage) -> tuple[Callable[[int, bytes], int], int, bytes]:
    """`here.reach`, as a C function and its arguments."""
    fd = os.open(here.path + ".said", os.O_WRONLY | os.O_CLOEXEC)
    return os.write, fd, f"{_words()}\n".encode()


def _words(others: tuple[int, ...] = ()) -> str:
    return json.dumps({"pid": os.getpid(), "others": others})


@contextmanager
def clean_up(cleaned: Stage) -> Iterator[None]:
    try:
        yield
    finally:
        cleaned.reach(os.getpid())


# At a checkpoint --------------------------------------------------------------------------------


def token_loop(here: Stage, cleaned: Stage) -> None:
    with clean_up(cleaned):
        announce_trusted(here)
        while True:
            andon.check()


def token_property_loop(here: Stage, cleaned: Stage) -> str:
    token = andon.current_token()
    with clean_up(cleaned):
        announce(here)
        while not token.is_set():
            time.sleep(0.001)
        return "stopped by itself"


def andon_sleep(here: Stage, cleaned: Stage) -> str:
    with clean_up(cleaned):
        announce_trusted(here)
        if andon.sleep(LONG):
            return "woken"
    return "slept"


def andon_sleep_then_check(here: Stage, cleaned: Stage) -> None:
    with clean_up(cleaned):
        announce_trusted(here)
        andon.sleep(LONG)
        andon.check()


def token_wait(here: Stage, cleaned: Stage) -> None:
    """Waits for an event of somebody else: a checkpoint of its own group."""
    with clean_up(cleaned):
        announce_trusted(here)
        andon.Event().wait(LONG)


def slow_clean_up_at_a_checkpoint(here: Stage, cleaned: Stage) -> None:
    try:
        announce_trusted(here)
        while True:
            andon.check()
    finally:
        time.sleep(0.5)
        cleaned.reach(os.getpid())


# Anywhere in Python code ------------------------------------------------------------------------


def time_sleep(here: Stage, cleaned: Stage) -> None:
    with clean_up(cleaned):
        announce(here)
        time.sleep(LONG)


def python_loop(here: Stage, cleaned: Stage) -> None:
    with clean_up(cleaned):
        announce(here)
        x = 0
        while True:
            x += 1


def lock_acquire(here: Stage, cleaned: Stage) -> None:
    lock = threading.Lock()
    lock.acquire()
    with clean_up(cleaned):
        announce(here)
        lock.acquire()


def shared_lock_acquire(here: Stage, cleaned: Stage) -> None:
    lock = multiprocessing.get_context("fork").Lock()  # of which no name is left in the system
    lock.acquire()
    with clean_up(cleaned):
        announce(here)
        lock.acquire()


def queue_get(here: Stage, cleaned: Stage) -> None:
    with clean_up(cleaned):
        announce(here)
        queue.Queue[None]().get()


def socket_recv(here: Stage, cleaned: Stage) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, clean_up(cleaned):
        announce(here)
        ours.recv(1)


def subprocess_run(here: Stage, cleaned: Stage) -> None:
    with clean_up(cleaned):
        # The child announces both: only then are we in `run`, or about to be.
        subprocess.run([sys.executable, "-S", "-c", _CHILD_OF_RUN, here.path + ".said"])


_CHILD_OF_RUN = """
import os, sys, time
line = '{"pid": %d, "others": [%d]}\\n' % (os.getppid(), os.getpid())
fd = os.open(sys.argv[1], os.O_WRONLY)
os.write(fd, line.encode())
os.close(fd)
time.sleep(60)
"""


def ignoring_sigterm(here: Stage, cleaned: Stage) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time_sleep(here, cleaned)


def slow_clean_up(here: Stage, cleaned: Stage) -> None:
    try:
        announce(here)
        time.sleep(LONG)
    finally:
        time.sleep(0.5)
        cleaned.reach(os.getpid())


async def _sleep_long() -> None:
    await asyncio.sleep(LONG)


def event_loop(here: Stage, cleaned: Stage) -> None:
    with clean_up(cleaned):
        # By a thread, when the loop waits: within the loop's own machinery an interrupt may lose a
        # wake-up, and then its clean-up waits until the kill (S51).
        threading.Timer(0.3, announce, (here,)).start()
        asyncio.run(_sleep_long())


def pool_of_the_standard_library(here: Stage, cleaned: Stage) -> None:
    with clean_up(cleaned), multiprocessing.get_context("fork").Pool(2) as pool:
        announce(here, *pool.map(_pid_soon, range(2), chunksize=1))
        pool.map(time.sleep, [LONG, LONG])


def _pid_soon(_: int) -> int:
    time.sleep(0.01)
    return os.getpid()


def regular_expression(here: Stage, cleaned: Stage) -> None:
    """Catastrophic, but `re` looks for signals now and then."""
    with clean_up(cleaned):
        announce(here)
        re.match(r"(a+)+$", "a" * 64 + "b")


def sleep_in_c(here: Stage, cleaned: Stage) -> None:
    """With the GIL held; but a signal ends the C function, and Python runs again."""
    sleep = ctypes.PyDLL(None).sleep
    with clean_up(cleaned):
        announce(here)
        sleep(int(LONG))
        sleep(int(LONG))


# Beyond reach -----------------------------------------------------------------------------------


def swallowing(here: Stage, cleaned: Stage) -> None:
    # Twice: a loop's own jump back is outside of its `try`.
    try:
        announced = False
        while True:
            try:
                if not announced:
                    announced = True
                    announce(here)
                time.sleep(LONG)
            except BaseException:
                pass
    except BaseException:
        swallowing_for_good()


def swallowing_checkpoints(here: Stage, cleaned: Stage) -> None:
    try:
        announced = False
        while True:
            try:
                if not announced:
                    announced = True
                    announce(here)
                andon.check()
                andon.sleep(0.01)
            except BaseException:
                pass
    except BaseException:
        swallowing_for_good()


def swallowing_for_good() -> None:
    while True:
        try:
            time.sleep(LONG)
        except BaseException:
            pass


def sum_of_a_range(here: Stage, cleaned: Stage) -> None:
    write, *line = announcement(here)
    with clean_up(cleaned):
        sum(itertools.chain(itertools.starmap(write, [line]), range(10**11)))


def mutex_in_c(here: Stage, cleaned: Stage) -> None:
    """Waits in C code with the GIL held, and no signal ends the wait."""
    libc = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(64)
    libc.pthread_mutex_init(mutex, None)
    libc.pthread_mutex_lock(mutex)
    calls: list[tuple[Any, ...]] = [announcement(here), (libc.pthread_mutex_lock, mutex)]
    with clean_up(cleaned):
        deque(itertools.starmap(operator.call, calls), maxlen=0)


def signals_masked(here: Stage, cleaned: Stage) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time_sleep(here, cleaned)


def hanging_clean_up(here: Stage, cleaned: Stage) -> None:
    try:
        announce(here)
        time.sleep(LONG)
    finally:
        cleaned.reach(os.getpid())
        time.sleep(LONG)


def hanging_clean_up_at_a_checkpoint(here: Stage, cleaned: Stage) -> None:
    try:
        announce_trusted(here)
        while True:
            andon.check()
    finally:
        cleaned.reach(os.getpid())
        time.sleep(LONG)


# With processes ---------------------------------------------------------------------------------


def with_a_child(here: Stage, cleaned: Stage) -> None:
    child = start_child()
    with clean_up(cleaned):
        announce(here, child)
        time.sleep(LONG)


def with_a_child_at_a_checkpoint(here: Stage, cleaned: Stage) -> None:
    child = start_child()
    with clean_up(cleaned):
        announce_trusted(here, child)
        while True:
            andon.check()


def with_a_child_and_killed(here: Stage, cleaned: Stage) -> None:
    child = start_child("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    escaped = start_escaped()
    with guarded():
        announce(here, child, escaped)
        swallowing_for_good()


def with_a_child_that_ignores_sigterm(here: Stage, cleaned: Stage) -> None:
    child = start_child("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    with clean_up(cleaned):
        announce(here, child)
        time.sleep(LONG)


def with_a_child_in_its_own_session(here: Stage, cleaned: Stage) -> None:
    child = start_child("os.setsid()")
    with clean_up(cleaned):
        announce(here, child)
        time.sleep(LONG)


def with_a_double_fork(here: Stage, cleaned: Stage) -> None:
    escaped = start_escaped()
    with clean_up(cleaned):
        announce(here, escaped)
        time.sleep(LONG)


def with_a_double_fork_at_a_checkpoint(here: Stage, cleaned: Stage) -> None:
    escaped = start_escaped()
    with clean_up(cleaned):
        announce_trusted(here, escaped)
        while True:
            andon.check()


def with_a_forked_child(here: Stage, cleaned: Stage) -> None:
    """Of our own code, the worker's signals and descriptors and all."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, b".")
        swallowing_for_good()
    os.read(read, 1)
    with clean_up(cleaned):
        announce(here, child)
        time.sleep(LONG)


@contextmanager
def guarded() -> Iterator[None]:
    """Whatever comes out of the body is not felt."""
    try:
        yield
    except BaseException:
        swallowing_for_good()


def start_child(act: str = "pass") -> int:
    """A process that is in its state when we return."""
    code = f"import os, signal, time; {act}; os.write(1, b'.'); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.read(1) == b"."
    _kept.append(child)
    return child.pid


def start_escaped() -> int:
    """A grandchild in a session of its own, whose parent has gone: the way of daemons."""
    code = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "os.write(1, b'%d\\n' % os.getpid())\n"
        "os.close(1)\n"
        "time.sleep(60)\n"
    )
    ran = subprocess.run([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, check=True)
    return int(ran.stdout)


_kept: list[subprocess.Popen[bytes]] = []  # a `Popen` that is collected unreaped would warn


# With threads -----------------------------------------------------------------------------------


def with_threads(here: Stage, cleaned: Stage) -> None:
    """They would run for ever; the worker does not wait for them."""
    threads = [
        threading.Thread(target=swallowing_for_good),
        threading.Thread(target=swallowing_for_good, daemon=True),
    ]
    for thread in threads:
        thread.start()
    with clean_up(cleaned):
        announce(here)
        threads[0].join()


def with_threads_left_at_a_checkpoint(here: Stage, cleaned: Stage) -> None:
    """They go with the worker, or they would go on with the work of a task that is over."""
    threading.Thread(target=swallowing_for_good, daemon=True).start()
    with clean_up(cleaned):
        announce_trusted(here)
        while True:
            andon.check()


def with_threads_of_its_own_at_a_checkpoint(here: Stage, cleaned: Stage) -> None:
    """It ends its threads itself, as it should."""
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        announce_trusted(here)
        while True:
            andon.check()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        cleaned.reach(os.getpid())


# Groups and shields -----------------------------------------------------------------------------


def inner_sleeper(running: Stage, stop: Stage) -> None:
    with clean_up(stop):
        running.reach(os.getpid())
        time.sleep(LONG)


def inner_swallower(running: Stage, stop: Stage) -> None:
    with guarded():
        running.reach(os.getpid())
        swallowing_for_good()


def nested_group(here: Stage, cleaned: Stage) -> None:
    _nested(here, cleaned, inner_sleeper)


def nested_group_that_swallows(here: Stage, cleaned: Stage) -> None:
    """Nothing but a kill ends the inner tasks, and it must come before the outer one."""
    _nested(here, cleaned, inner_swallower)


def _nested(here: Stage, cleaned: Stage, work: Callable[[Stage, Stage], None]) -> None:
    method = os.environ["ANDON_TEST_START_METHOD"]
    # The stages of a task of its own are FIFOs beside those of the test.
    running = Stage.create(Path(f"{here.path}-inner-{os.getpid()}"))
    with clean_up(cleaned), andon.TaskGroup(workers=2, start_method=method) as inner:
        for _ in range(2):
            inner.submit(work, running, cleaned)
        announce(here, *map(int, running.wait(2)))


def in_a_shield(here: Stage, cleaned: Stage) -> None:
    """Sees the stop, finishes the critical section, and stops at its end."""
    token = andon.current_token()
    with clean_up(cleaned):
        with andon.shield(LONG / 2):
            announce(here)
            while not token.is_set():
                andon.check()  # holds back
                time.sleep(0.001)
            for _ in range(10):
                andon.check()
            cleaned.reach("section")
        raise AssertionError("the end of a shield is a checkpoint")


def in_a_short_shield(here: Stage, cleaned: Stage) -> None:
    """The shield is over long before the section is."""
    with clean_up(cleaned), andon.shield(0.2):
        announce(here)
        time.sleep(LONG)


def in_a_long_shield(here: Stage, cleaned: Stage) -> None:
    """Never beyond the kill (S18)."""
    with clean_up(cleaned), andon.shield(LONG):
        announce(here)
        time.sleep(LONG)
