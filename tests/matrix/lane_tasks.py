"""What the lanes' storm runs: short items with values of every kind, some of which set a bomb."""

from __future__ import annotations

import os
import signal
import time
from fractions import Fraction
from typing import Any

_fds: dict[str, int] = {}


def value_of(number: int) -> Any:
    """Runs of one type, some longer than others, and now and then one that fits into no run."""
    if number % 97 == 13:
        return ("odd", number)
    kind = number // 23 % 7
    if kind in (0, 1):
        return number - 300
    if kind == 2:
        return None
    if kind == 3:
        return number / 7
    if kind == 4:
        return str(number) * (number % 40)
    if kind == 5:
        return number << 60  # some of more than 64 bits
    return [number, None, number / 4, (number,)][number % 4]


def any_value_of(number: int) -> Any:
    """Small values of any type, most of them strings; and now and then a large one."""
    if number % 97 == 13:
        return str(number) * 5000
    if number % 151 == 13:
        return b"%04d" % number * 20_000
    kind = number // 37 % 4
    if kind in (0, 1):
        return str(number) * (number % 40)
    if kind == 2:
        return [(number, "two"), {"n": number}, b"%d" % number, number, None][number % 5]
    return [Fraction(number, 7), [(number,)], str(number), bytearray(number)][number % 4]


def mark(path: str, number: int) -> None:
    """Note that the item's body runs, whatever becomes of the worker. (The kernel cuts the write of
    a process that is killed where a page ends: so no mark may lie across one.)"""
    fd = _fds.get(path)
    if fd is None:
        fd = _fds[path] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"%7d\n" % number)


def item(path: str, number: int, fuse: float, seconds: float) -> Any:
    """`fuse`: the kernel kills this worker so many seconds later, whatever it is at; 0: not."""
    _do(path, number, fuse, seconds)
    return value_of(number)


def any_item(path: str, number: int, fuse: float, seconds: float) -> Any:
    """The same with values of any type."""
    _do(path, number, fuse, seconds)
    return any_value_of(number)


def unpickled_item(path: str, numbers: list[int], fuse: float, seconds: float) -> Any:
    """The same, called with what does not travel as a plain value."""
    _do(path, *numbers, fuse, seconds)
    return any_value_of(*numbers)


def _do(path: str, number: int, fuse: float, seconds: float) -> None:
    mark(path, number)
    if fuse:
        signal.setitimer(signal.ITIMER_REAL, fuse)
    if seconds:
        time.sleep(seconds)
