"""Programs that run out of something while a worker is replaced: `-m tests.survival.starved`."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from typing import Any

import psutil

import andon


def pid(_: Any = None) -> int:
    return os.getpid()


def double(x: int) -> int:
    return 2 * x


def die() -> None:
    os._exit(9)


def _two(executor: andon.ProcessPoolExecutor) -> set[int]:
    """Its workers, once both are there: one alone may do all that there is meanwhile."""
    found: set[int] = set()
    while len(found) < 2:
        found.update(executor.map(pid, range(20)))
    return found


def of_descriptors(method: str) -> None:
    """None are left in the parent when its workers die; later there are some again."""
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    with andon.ProcessPoolExecutor(2, start_method=method) as executor:
        before = _two(executor)
        _none_left()
        deaths = [executor.submit(die) for _ in range(2)]
        errors = [d.exception(20) for d in deaths]
        assert all(type(error) is andon.WorkerDiedError for error in errors), errors
        waiting = [executor.submit(double, i) for i in range(10)]
        time.sleep(0.3)  # it tries, and fails, a few times
        print("while starved", sum(f.done() for f in waiting))
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
        print("fed", [f.result(20) for f in waiting] == [2 * i for i in range(10)])
        print("new workers", before.isdisjoint(executor.map(pid, range(20))))


def _none_left() -> None:
    """No number below the limit is free, nor will be; what is open stays open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))


def of_descriptors_for_long(method: str) -> None:
    """They never come back: a clear error for every call, and an end."""
    executor = andon.ProcessPoolExecutor(1, start_method=method)
    executor.submit(pid).result()
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    _none_left()
    assert type(executor.submit(die).exception(20)) is andon.WorkerDiedError
    error = executor.submit(double, 1).exception(60)
    print("error", type(error).__name__, "Too many open files" in str(error))
    executor.shutdown()
    resource.setrlimit(resource.RLIMIT_NOFILE, old)
    print("closed")


def of_descriptors_for_one(method: str) -> None:
    """One worker cannot be replaced, however often it is tried: the other goes on by itself."""
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    with andon.ProcessPoolExecutor(2, start_method=method) as executor:
        before = _two(executor)
        _none_left()
        assert type(executor.submit(die).exception(20)) is andon.WorkerDiedError
        began = time.monotonic()
        while time.monotonic() < began + 3.5:  # more tries than a pool would survive
            executor.submit(time.sleep, 0.1).result(20)
            executor.submit(time.sleep, 0.1).result(20)
        print("the other", before.issuperset(executor.map(pid, range(20))))
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
        print("new worker", len(_two(executor) - before) == 1)


def of_descriptors_at_once(method: str) -> None:
    """None are there to begin with: an error where the pool is opened, and nothing is left."""
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    _none_left()
    try:
        with andon.Pool(2, start_method=method) as pool:
            pool.map(double, range(4))
    except BaseException as error:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
        print("error", type(error).__name__, isinstance(error, OSError | andon.AndonError))
    else:
        print("no error")
    with andon.Pool(2, start_method=method) as pool:
        print("later", pool.map(double, range(4)))


def of_processes(method: str) -> None:
    """The template can fork no more when the workers die; later it can again."""
    with andon.ProcessPoolExecutor(2, start_method=method) as executor:
        before = _two(executor)
        template = _template()
        old = resource.prlimit(template, resource.RLIMIT_NPROC)
        resource.prlimit(template, resource.RLIMIT_NPROC, (1, old[1]))
        deaths = [executor.submit(die) for _ in range(2)]
        errors = [d.exception(20) for d in deaths]
        assert all(type(error) is andon.WorkerDiedError for error in errors), errors
        waiting = [executor.submit(double, i) for i in range(10)]
        time.sleep(0.3)
        print("while starved", sum(f.done() for f in waiting))
        resource.prlimit(template, resource.RLIMIT_NPROC, old)
        print("fed", [f.result(20) for f in waiting] == [2 * i for i in range(10)])
        print("new workers", before.isdisjoint(executor.map(pid, range(20))))


def of_processes_for_long(method: str) -> None:
    executor = andon.ProcessPoolExecutor(1, start_method=method)
    executor.submit(pid).result()
    template = _template()
    resource.prlimit(
        template,
        resource.RLIMIT_NPROC,
        (1, resource.prlimit(template, resource.RLIMIT_NPROC)[1]),
    )
    assert type(executor.submit(die).exception(20)) is andon.WorkerDiedError
    error = executor.submit(double, 1).exception(60)
    print("error", type(error).__name__, "temporarily unavailable" in str(error))
    executor.shutdown()
    print("closed")


def _template() -> int:
    (template,) = psutil.Process().children()
    return template.pid


def become_bound() -> None:
    """RLIMIT_NPROC counts the processes of a user, and does not bind root: be another user, who
    may read the same files still (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)."""
    if os.getuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    user = 54_321 + os.getpid()
    caps = 1 << 1 | 1 << 2
    keep = libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(caps, caps, caps, 0, 0, 0)
    failed = keep or libc.capset(header, data)
    for capability in (1, 2):
        failed = failed or libc.prctl(47, 2, capability, 0, 0)  # PR_CAP_AMBIENT_RAISE: for exec
    if failed:
        sys.exit(77)


if __name__ == "__main__":
    if "processes" in sys.argv[1]:
        become_bound()
    globals()[sys.argv[1]](sys.argv[2])
