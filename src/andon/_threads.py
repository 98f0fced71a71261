"""Threads of ours: how every one of them is started."""

from __future__ import annotations

import sys
import threading


def start(thread: threading.Thread) -> None:
    """Start it. Raises RuntimeError where there can be no more threads, and where the interpreter
    is finalizing: up to 3.11 Python would wait there for ever, for a thread that never gets the
    GIL. Finalizers come here as late as that."""
    if sys.is_finalizing():
        raise RuntimeError("can't start a thread while the interpreter is finalizing")
    thread.start()
