"""Tasks of the facade tests: importable, so that they travel by reference."""

from __future__ import annotations

import os
import time
from typing import Any

import andon
from tests.support import Stage


def square(x: int) -> int:
    return x * x


def fail_at(bad: int, x: int) -> int:
    if x == bad:
        raise ValueError(f"bad item {x}")
    return x


def fail(text: str = "bad") -> None:
    raise ValueError(text)


def pid() -> int:
    return os.getpid()


def hold(running: Stage, go: Stage) -> str:
    running.reach(os.getpid())
    go.hold()
    return "released"


def sleep_long(running: Stage | None = None) -> None:
    if running is not None:
        running.reach(os.getpid())
    time.sleep(60)


def token_loop(running: Stage) -> None:
    andon.check()  # from here on it is trusted (S15)
    running.reach(os.getpid())
    while True:
        andon.check()


def nap(running: Stage) -> bool:
    andon.check()
    running.reach(os.getpid())
    return andon.sleep(60)


def fail_when(go: Stage, text: str = "bad") -> None:
    go.hold()
    raise ValueError(text)


def pull(reason: str) -> None:
    andon.current_token().cancel(reason)


def pull_when(go: Stage, reason: str) -> str:
    go.hold()
    andon.current_token().cancel(reason)
    return "pulled"


def wait_for(event: andon.Token, running: Stage) -> bool:
    running.reach()
    return event.wait(30)


def set_event(box: dict[str, Any]) -> None:
    box["event"].set()


def fail_when_stopped(running: Stage) -> None:
    try:
        sleep_long(running)
    except andon.Cancelled:
        pass
    raise ValueError("a real failure")  # not out of the unwinding (S52)


def sleep_on(running: Stage) -> None:
    """Trusted, for it has used its token, and lets nobody stop it."""
    andon.check()
    running.reach()
    while True:
        time.sleep(1)


def inner_group(running: Stage) -> None:
    with andon.TaskGroup(workers=1) as inner:
        inner.submit(sleep_long, running)


def drained_group(running: Stage, draining: Stage) -> None:
    with andon.TaskGroup(workers=2, policy=andon.fail_fast("soon")) as inner:
        inner.submit(sleep_long, running)
        inner.submit(fail, "the inner one")
        while inner.reason is None:
            time.sleep(0.005)
        draining.reach()


class Custom(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")
        self.a, self.b = a, b


def raise_custom() -> None:
    raise Custom(1, 2)
