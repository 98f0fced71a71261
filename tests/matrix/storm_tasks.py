"""The tasks of the storm: each does one kind of thing for a while, then returns its own number.

They write into a diary when they begin and when they end, so that a test can tell what really
happened from what was said to have happened. Much of what they use is the worker's own and shared
by its later tasks (locks, queues, loggers, modules): if an interrupted worker were used again, one
of them would sooner or later wait for ever.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import andon

Step = Callable[[int], object]


def task(kind: str, number: int, diary: str, seconds: float) -> tuple[int, int]:
    """One kind of work, for so long; returns its number and the worker's pid."""
    write(diary, "begins", number)
    work(kind, number, seconds)
    write(diary, "ends", number)
    return number, os.getpid()


def bulky(kind: str, number: int, diary: str, seconds: float, load: bytes) -> tuple[int, bytes]:
    """As `task`, with much to pickle both ways."""
    write(diary, "begins", number)
    work(kind, number, seconds)
    write(diary, "ends", number)
    return number, load


def failing(number: int, diary: str, seconds: float) -> None:
    write(diary, "begins", number)
    time.sleep(seconds)
    write(diary, "ends", number)
    raise ValueError(f"failed {number}")


def item(arguments: tuple[str, int, str, float]) -> tuple[int, int]:
    """One of a map."""
    return task(*arguments)


def nested(number: int, diary: str, seconds: float, method: str) -> int:
    """A group of its own, all of whose results must be its own too."""
    write(diary, "begins", number)
    with andon.TaskGroup(workers=2, start_method=method) as inner:
        futures = [inner.submit(inner_task, number, i, seconds) for i in range(4)]
    assert [f.result() for f in futures] == [(number, i) for i in range(4)]
    write(diary, "ends", number)
    return number


def inner_task(number: int, i: int, seconds: float) -> tuple[int, int]:
    work(("compute", "sleep", "checks")[(number + i) % 3], number, seconds)
    return number, i


def write(diary: str, what: str, number: int) -> None:
    fd = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        # The kernel cuts the write of a process that is killed where a page ends: so no line may
        # lie across one.
        os.write(fd, f"{what} {number}".ljust(31).encode() + b"\n")
    finally:
        os.close(fd)


def work(kind: str, number: int, seconds: float) -> None:
    step = KINDS.get(kind) or _WITH_INITIALIZER[kind]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        step(number)


# What cannot be harmed: no state but its own ----------------------------------------------------


def compute(number: int) -> int:
    return sum(i * i for i in range(1000 + number % 100))


def sleep(number: int) -> None:
    time.sleep(0.005)


def long_sleep(number: int) -> None:
    time.sleep(0.1)


def checks(number: int) -> None:
    for _ in range(100):
        andon.check()


def andon_sleep(number: int) -> None:
    if andon.sleep(0.02):
        andon.check()


def shield(number: int) -> None:
    with andon.shield(0.01):
        time.sleep(0.002)


_DOCUMENT = {"a": [1, 2.5, None, True, "text" * 10], "b": {str(i): [i] for i in range(50)}}


def json_both_ways(number: int) -> None:
    document = {**_DOCUMENT, "number": number}
    assert json.loads(json.dumps(document, indent=1)) == document


_TEXT = "".join(f"key{i} = value{i}; " for i in range(100))
_PATTERN = re.compile(r"(\w+)\s*=\s*(\w+);")


def regular_expression(number: int) -> None:
    assert len(_PATTERN.findall(_TEXT)) == 100
    re.match(r"(a+)+$", "a" * 14 + "b")


def sorting(number: int) -> None:
    numbers = [(i * 7919 + number) % 1009 for i in range(2000)]
    assert sorted(numbers, key=lambda x: -x)[0] == max(numbers)


class Deleted:
    """Interrupts that land in here vanish (S16)."""

    def __del__(self) -> None:
        for _ in range(100):
            pass


def deleting(number: int) -> None:
    for _ in range(50):
        Deleted()


def raising(number: int) -> None:
    for _ in range(50):
        try:
            raise KeyError(number)
        except KeyError:
            pass


HARMLESS: dict[str, Step] = {
    "compute": compute,
    "sleep": sleep,
    "long sleep": long_sleep,
    "checks": checks,
    "andon.sleep": andon_sleep,
    "shield": shield,
    "json": json_both_ways,
    "regex": regular_expression,
    "sorting": sorting,
    "deleting": deleting,
    "raising": raising,
}

# What an interrupt can leave in disorder for good (S51) -----------------------------------------

_lock = threading.Lock()
_condition = threading.Condition()
_queue: queue.Queue[int] = queue.Queue()


def plain_lock(number: int) -> None:
    for _ in range(50):
        _lock.acquire()
        try:
            pass
        finally:
            _lock.release()


def with_lock(number: int) -> None:
    for _ in range(50):
        with _lock:
            pass


@contextmanager
def _held() -> Iterator[None]:
    _lock.acquire()
    try:
        yield
    finally:
        _lock.release()


def managed_lock(number: int) -> None:
    for _ in range(20):
        with _held():
            pass


def condition(number: int) -> None:
    for _ in range(20):
        with _condition:
            _condition.notify_all()
    with _condition:
        _condition.wait(0.001)


def queues(number: int) -> None:
    for _ in range(20):
        _queue.put(number)
    for _ in range(20):
        assert _queue.get() == number


def logs(number: int) -> None:
    log = logging.getLogger(f"andon.storm.{number % 10}")
    if not log.handlers:
        log.addHandler(logging.FileHandler(os.devnull))
        log.propagate = False
    for _ in range(10):
        log.warning("number %d", number)


_MODULES = ("colorsys", "csv", "sndhdr_", "fractions", "graphlib", "calendar", "plistlib", "shelve")


def imports(number: int) -> None:
    for name in _MODULES:
        sys.modules.pop(name, None)
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert name.endswith("_")


def processes(number: int) -> None:
    done = subprocess.run(["/bin/echo", str(number)], stdout=subprocess.PIPE, check=True)
    assert int(done.stdout) == number


def threads(number: int) -> None:
    said: list[int] = []
    thread = threading.Thread(target=said.append, args=(number,))
    thread.start()
    thread.join()
    assert said == [number]


def prints(number: int) -> None:
    with open(os.devnull, "w") as file:
        for _ in range(10):
            print(number, file=file)


HARMFUL: dict[str, Step] = {
    "lock": plain_lock,
    "with lock": with_lock,
    "managed lock": managed_lock,
    "condition": condition,
    "queues": queues,
    "logs": logs,
    "imports": imports,
    "processes": processes,
    "threads": threads,
    "prints": prints,
}

KINDS: dict[str, Step] = {**HARMLESS, **HARMFUL}

# Only where there is an initializer --------------------------------------------------------------

_initialised = 0


def initialise(value: int) -> None:
    global _initialised
    time.sleep(0.002)
    _initialised = value


def initialised(number: int) -> None:
    assert _initialised == 17
    time.sleep(0.001)


_WITH_INITIALIZER: dict[str, Step] = {"initialised": initialised}
