"""What the attempts of the contract suite do. Importable, so that it travels by reference."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from andon._engines.inline import running as inline_token
from andon.token import Token
from tests.support import Stage

# For engines that run tasks in the test's own process, in the pumping thread: what the test does
# while the task stands at a stage, by the stage's path.
meanwhile: dict[str, Callable[[], None]] = {}


def double(x: Any) -> Any:
    return x * 2


def boom(x: Any) -> None:
    raise ValueError(f"boom {x}")


def odd_ones_fail(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


def reach(stage: Stage) -> None:
    """Say that we are here, and let the test do what it does meanwhile."""
    stage.reach()
    action = meanwhile.pop(stage.path, None)
    if action is not None:
        action()


def hold(token: Token, running: Stage) -> None:
    """Run until stopped, asking the token."""
    own = inline_token.get() or token  # an engine without workers hands out its own (S35)
    own.check()  # before anybody stops it: from here on it is trusted (S15)
    reach(running)
    bound = time.monotonic() + 20.0
    while time.monotonic() < bound:
        own.check()
        time.sleep(0.001)
    raise TimeoutError("nobody stopped this task")


def hold_on(running: Stage) -> None:
    """Run until killed, whatever comes."""
    reach(running)
    bound = time.monotonic() + 20.0
    while time.monotonic() < bound:
        try:
            while time.monotonic() < bound:
                time.sleep(0.001)
        except BaseException:
            pass


def die(status: int) -> None:
    os._exit(status)
