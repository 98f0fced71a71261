"""Threads of ours: how every one of them is started."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def start(thread: threading.Thread) -> None:
    """Start it. Raises RuntimeError where there can be no more threads, and where the interpreter
    is finalizing: up to 3.11 Python would wait there for ever, for a thread that never gets the
    GIL. Finalizers come here as late as that."""
    if sys.is_finalizing():
        raise RuntimeError("can't start a thread while the interpreter is finalizing")
    thread.start()


def leave_to(name: str, target: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    """Have a thread of this name end what belongs to a pool. Where none can be had, nothing
    happens here: the interpreter's exit sees to all pools that are open."""
    with suppress(RuntimeError):
        start(threading.Thread(target=target, args=args, kwargs=kwargs, name=name, daemon=True))
