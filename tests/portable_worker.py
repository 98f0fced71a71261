"""The worker of `tests/portable.py`: mechanisms that only Linux has are put out of use first."""

from __future__ import annotations

import signal
import threading
from typing import NoReturn

from andon._worker import boot, channel, children, orders, posix

_interrupt_main = orders.interrupt_main


def interrupt_main(number: int) -> None:
    """It ends a `time.sleep` on Windows, and not on Linux: here a signal of its own does."""
    _interrupt_main(signal.Signals(number))
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def main() -> NoReturn:
    posix._arm = lambda fd: False
    children.living = set
    channel._read_into, channel._write = channel.read_copying, channel.write_first
    orders.interrupt_main = interrupt_main
    boot.main()
