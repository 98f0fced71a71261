"""Modules of ours as programs, and how those that serve a host talk with it. Imports little."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def module_command(module: str, *arguments: object, flags: tuple[str, ...] = ()) -> list[str]:
    """A module of ours as a program; to be run in `ROOT`."""
    return [sys.executable, *flags, "-m", f"benchmarks.{module}", *map(str, arguments)]


def serving(arguments: list[str]) -> tuple[Any, Any]:
    """In a host's process: an iterator over its requests, and a function that sends an answer."""
    fd_in, fd_out = map(int, arguments)
    for fd in (fd_in, fd_out):
        os.set_inheritable(fd, False)

    def answer(**what: object) -> None:
        os.write(fd_out, json.dumps(what).encode() + b"\n")

    return map(json.loads, os.fdopen(fd_in)), answer
