"""Tasks that log and warn."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from typing import Any, ClassVar

import andon
from tests.support import Stage

log = logging.getLogger("talkers")
noisy = logging.getLogger("talkers.noisy")


class Unpicklable:
    def __repr__(self) -> str:
        return "<Unpicklable>"

    def __reduce__(self) -> Any:
        raise TypeError("no")


def talk(item: int) -> int:
    log.debug("never %d", item)
    noisy.info("nor this")
    log.info("item %d", item, extra={"tenant": "t1", "odd": Unpicklable(), "pair": (1, 2)})
    return os.getpid()


def complain(item: int) -> None:
    try:
        raise ValueError(f"bad {item}")
    except ValueError:
        log.exception("it went wrong")


def talk_and_die(item: int) -> None:
    log.info("last words %d", item)
    os.kill(os.getpid(), signal.SIGKILL)


def chatter(running: Stage, size: int) -> None:
    text = size * "x"
    log.info("begun")
    running.reach()
    while True:
        log.info(text)


def talk_in_threads(count: int) -> int:
    def run() -> None:
        for i in range(count):
            log.info("%d %s", i, "y" * (i % 7 * 1000))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count


def talk_in_a_child(item: int) -> int:
    pid = os.fork()
    if not pid:
        try:
            log.info("from the child")
            warnings.warn("from the child", stacklevel=1)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    log.info("from the worker")
    return item


def talk_in_a_pool(start_method: str) -> int:
    return andon.map(talk, [7], workers=1, start_method=start_method)[0]


def warn(item: int) -> int:
    warnings.warn("take care", UserWarning, stacklevel=1)
    warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    return os.getpid()


def has_loaded(module: str) -> bool:
    return module in sys.modules


class Coded(UserWarning):
    """Made of more than its text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class Spoken(UserWarning):
    """Says what it has not got when it is made of its text."""

    subclasses: ClassVar[list[type]] = []

    def __init_subclass__(cls) -> None:
        cls.subclasses.append(cls)

    def __init__(self, code: int, text: str) -> None:
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


class Prefixed(UserWarning):
    def __init__(self, text: str) -> None:
        super().__init__(f"prefixed: {text}")


def warn_of_its_own(item: int) -> None:
    for warning in (Coded(7, "careful"), Spoken(8, "careful"), Prefixed("careful")):
        warnings.warn(warning, stacklevel=1)


def warn_of_no_module(item: int) -> None:
    compile("1 is 1", "given.py", "exec")
    warnings.warn_explicit("explicit", UserWarning, "template.html", 3)
    warnings.warn("too deep", UserWarning, stacklevel=99)
